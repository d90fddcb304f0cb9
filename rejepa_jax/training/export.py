"""From a finished training run to encoder bundles that need no training code."""

import pathlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from rejepa_jax import artifacts
from rejepa_jax.config import Config
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.models.vit import Encoder
from rejepa_jax.retrieval.encoder import Bundle, save_bundle
from rejepa_jax.training import sharding
from rejepa_jax.training.checkpoint import restore_state
from rejepa_jax.training.loop import given_encoder, make_update
from rejepa_jax.training.state import abstract_state, initial_params

UNTRAINED = "untrained"


def export(
    config: Config, records: RecordSet, checkpoints: pathlib.Path, directory: pathlib.Path
) -> artifacts.Built:
    """Writes a bundle for each encoder of the method, and one for the encoder before training."""
    update = make_update(config, records)
    mesh = sharding.make_mesh()
    like = abstract_state(update.method, update.optimizer, config.seed, mesh)
    state = restore_state(checkpoints, like)
    trained = update.method.encoders(state.params, state.average)

    given = given_encoder(config, records)
    fresh = jax.jit(partial(initial_params, update.method, config.seed))(given)
    untrained = update.method.encoders(fresh, update.method.averaged(fresh))
    bundles = {name: (encoder, int(state.step)) for name, encoder in trained.items()}
    bundles[UNTRAINED] = (next(iter(untrained.values())), 0)
    for name, (encoder, step) in bundles.items():
        save_bundle(
            _bundle(config, records, update.preprocess, name, encoder, step), directory / name
        )
    return artifacts.Built({"encoders": list(bundles), "step": int(state.step)})


def _bundle(
    config: Config, records: RecordSet, preprocess: Any, name: str, encoder: Encoder, step: int
) -> Bundle:
    return Bundle(
        name=name,
        encoder=jax.tree.map(jnp.asarray, encoder),
        preprocess=preprocess,
        sensor=config.data.sensor,
        record=records.schema.sensors[config.data.sensor],
        pool=config.eval.pool,
        step=step,
    )
