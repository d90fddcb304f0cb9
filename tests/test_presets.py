"""What each preset changes, written down from the papers, and that each of them trains."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import QUICK, filled, toy_config

from rejepa_jax.config import base_config
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.methods.build import build_method
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.presets import PRESETS
from rejepa_jax.resolve import resolve
from rejepa_jax.rules import ENCODERS
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import new_state
from rejepa_jax.training.step import Update, train_step
from rejepa_jax.types import ConfigError

# As published; the settings that a preset shares with the defaults are not named.
BLOCKS = {
    "mask.strategy": "multiblock",
    "mask.block_law": "faithful",
    "mask.num_target_groups": 4,
    "mask.context_ratio": 0.3,
    "model.predictor_mode": "per_group",
    "loss.type": "smooth_l1",
    "augment.crop_scale": (0.3, 1.0),
    "augment.flip": False,
}
CHANGES = {
    "rejepa": {},
    # The paper as written: only target patches, raw targets, sums, eq. 10's views, [25, 25, 1].
    "rejepa_paper_literal": {
        "target.input": "target_patches",
        "target.norm": "none",
        "loss.reduction": "sum_dim",
        "vicreg.invariance": "two_view",
        "vicreg.covariance_weight": 25.0,
        "vicreg.invariance_weight": 1.0,
        "vicreg.weight": 1.0,
    },
    "rejepa_light": {"mask.context_ratio": 0.25, "target.input": "target_patches"},
    "ijepa_b16": BLOCKS | {"vicreg.weight": 0.0, "vicreg.invariance": "none"},
    "cjepa_b16": BLOCKS,
    "vjepa_l1": {
        "vicreg.weight": 0.0,
        "vicreg.invariance": "none",
        "mask.strategy": "multimask",
        "loss.type": "l1",
        "augment.crop_scale": (0.3, 1.0),
        "ema.start": 0.998,
    },
    "mae": {
        "method": "mae",
        "model.class_token": True,
        "augment.crop_scale": (0.2, 1.0),
        "optim.peak_lr": 1.5e-4 * 128 / 256,
        "optim.start_lr": 0.0,
        "optim.end_lr": 0.0,
        "optim.weight_decay_start": 0.05,
        "optim.weight_decay_end": 0.05,
        "optim.beta2": 0.95,
    },
}
OWN = ("rejepa_retrieval",)  # of ours, not published: it may change with what is found


ALL = [pytest.param(name, marks=() if name == "mae" else pytest.mark.slow) for name in PRESETS]


def flat(preset):
    """Every setting by its path."""
    values = base_config(preset).to_dict()
    groups = {name: value for name, value in values.items() if isinstance(value, dict)}
    return {k: v for k, v in values.items() if k not in groups} | {
        f"{name}.{key}": value for name, group in groups.items() for key, value in group.items()
    }


def test_every_preset_is_known_here():
    assert PRESETS.keys() == CHANGES.keys() | set(OWN)


@pytest.mark.parametrize("preset", CHANGES)
def test_a_preset_changes_what_its_paper_says_and_nothing_else(preset):
    before, after = flat("rejepa"), flat(preset)
    assert before.keys() == after.keys()
    assert {key: value for key, value in after.items() if value != before[key]} == CHANGES[preset]


def test_defaults_that_the_presets_share():
    config = resolve(base_config("mae"))
    assert (config.mae.mask_ratio, config.mae.norm_pix) == (0.75, True)
    assert (config.mae.decoder_dim, config.mae.decoder_depth, config.mae.decoder_heads) == (
        512,
        8,
        16,
    )
    config = resolve(base_config("cjepa_b16"))
    assert (config.vicreg.weight, config.vicreg.invariance) == (0.001, "pred_target")
    weights = config.vicreg
    assert weights.variance_weight == weights.invariance_weight == 25 * weights.covariance_weight
    assert (config.mask.target_scale, config.mask.target_aspect) == ((0.15, 0.2), (0.75, 1.5))
    assert config.mask.context_scale == (0.85, 1.0)
    assert (config.model.predictor_dim, config.model.predictor_heads) == (384, 12)
    assert resolve(base_config("vjepa_l1")).mask.multimask == ((8, 0.15), (2, 0.7))
    assert resolve(base_config("rejepa_paper_literal")).vicreg.variance_weight == 25


def test_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"preset 'ijepa': choose one of \[.*'ijepa_b16'"):
        base_config("ijepa")


@pytest.mark.parametrize("preset", ALL)
def test_parameters_at_12_bands(preset):
    method = build_method(resolve(base_config(preset)), bands=12)
    params = jax.eval_shape(lambda: method.init(jax.random.key(0)))
    if preset == "mae":  # and a class token; 9 bands more of 256 pixels go in and come out
        expected = 111_655_680 + 9 * 256 * 768 + 9 * 256 * (512 + 1)
    else:  # two encoders and the predictor, with three tables of fixed positions
        assert count_parameters(method.averaged(params)) + 196 * 768 == 87_566_592
        expected = 197_094_144 - 87_566_592 - 196 * 768 - 196 * 384
    assert count_parameters(params) == expected


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_that_settings_may_name_are_those_of_the_method(name):
    method = build_method(toy_config(method=name), bands=3)
    params = jax.eval_shape(lambda: method.init(jax.random.key(0)))
    assert tuple(method.encoders(params, method.averaged(params))) == ENCODERS[name]


# --- a step of each, with its own augmentation, at 32 pixels: sixteen patches

SMALL = {
    "data": {"image_size": 32},
    "mae": {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2},
    "mask": {"min_context": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_is_finite_moves_every_part_and_compiles_once(preset):
    config = toy_config(preset, **SMALL)
    method = build_method(config, bands=2)
    schedules = Schedules(config.optim, config.ema, config.train.steps)
    inputs = {"s2": SensorInput((0, 1), (1000.0, 1500.0), (500.0, 400.0), None)}
    preprocess = Preprocess(32, inputs)
    update = Update(method, make_optimizer(schedules), schedules, preprocess, config.augment, 0)
    state = filled(lambda: new_state(method, update.optimizer, 0), seed=3)
    zeros = jax.tree.map(jnp.zeros_like, (state.step, state.opt_state))
    state = type(state)(zeros[0], state.params, state.average, zeros[1])
    image = np.random.default_rng(0).integers(0, 3000, (4, 32, 32, 2)).astype(np.uint16)
    batch = {"image": {"s2": image}, "id": np.arange(4), "valid": np.ones(4, bool)}

    step, start = jax.jit(partial(train_step, update=update), compiler_options=QUICK), state
    for _ in range(2):
        state, metrics = step(state, batch)
        assert all(np.isfinite(value) for value in metrics.values()), metrics
    assert step._cache_size() == 1
    assert float(metrics["gradient_norm"]) > 0
    pairs = zip(*(jax.tree.leaves(s.params) for s in (start, state)), strict=True)
    assert all((before != after).any() for before, after in pairs)
    assert ("ema_momentum" in metrics) == (preset != "mae")
