"""Sizes at which a test takes seconds, and parameters without a compiled initialisation."""

import jax
import jax.numpy as jnp
import numpy as np

from rejepa_jax.config import base_config
from rejepa_jax.models.arrays import named_arrays, with_arrays
from rejepa_jax.resolve import resolve

SETTINGS = {
    "data": {"sensor": "s2", "image_size": 16},
    "model": {
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "predictor_dim": 8,
        "predictor_depth": 1,
        "dtype": "float32",
    },
    "mask": {"target_ratio": 0.5},
    "train": {"batch_size": 8, "steps": 6},
    "optim": {"warmup_steps": 2},
}


def toy_config(preset="rejepa", **changes):
    """A resolved config of 16-pixel images, 4 tokens, 16 features; any group may be changed."""
    config = base_config(preset)
    for groups in (SETTINGS, changes):
        for name, value in groups.items():
            if isinstance(value, dict):
                config[name].update(value)
            else:
                config[name] = value
    return resolve(config)


# Compiles in a third of the time, to slower code.
QUICK = {"xla_cpu_use_fusion_emitters": False}


# A run of six steps whose compiled step fits any records: the statistics are published ones.
RUN = {
    "data": {"statistics": "published"},
    "train": {"log_every": 1, "save_every": 2, "keep": 1},
    "augment": {"offset": 0.1},
}


def filled(make, seed=0):
    """What `make` returns, with random numbers in every array: biases and norms too."""
    like = jax.eval_shape(make)
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, leaf in named_arrays(like).items():
        values = rng.normal(float(name.endswith("scale")), 0.3, leaf.shape)
        arrays[name] = jnp.asarray(values.astype(leaf.dtype))
    return with_arrays(like, arrays, "toy")
