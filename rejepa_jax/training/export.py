"""From a finished training run to encoder bundles that need no training code."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp

from rejepa_jax import artifacts, processes
from rejepa_jax.config import Config
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.models.vit import Encoder
from rejepa_jax.retrieval.encoder import Bundle, save_bundle
from rejepa_jax.training import sharding
from rejepa_jax.training.checkpoint import restore_state
from rejepa_jax.training.loop import given_encoder, make_update
from rejepa_jax.training.state import abstract_state, initial_params
from rejepa_jax.training.step import Update

UNTRAINED = "untrained"


def export(
    config: Config, records: RecordSet, checkpoints: pathlib.Path, directory: pathlib.Path
) -> artifacts.Built:
    """Writes a bundle for each encoder of the method, and one for the encoder before training.

    Every process brings what it holds of the encoders; the main one writes.
    """
    update = make_update(config, records)
    mesh = sharding.make_mesh(config.mesh)
    like = abstract_state(update.method, update.optimizer, config.seed, mesh)
    state = restore_state(checkpoints, like)
    step, everywhere = int(state.step), sharding.replicated(mesh)
    gather = jax.jit(lambda encoder: encoder, out_shardings=everywhere)
    trained = update.method.encoders(state.params, state.average)
    encoders: dict[str, tuple[Encoder, int]] = {
        name: (gather(encoder), step) for name, encoder in trained.items()
    }
    if processes.is_main():
        encoders[UNTRAINED] = (_untrained(config, records, update), 0)
        for name, (encoder, of_step) in encoders.items():
            bundle = _bundle(config, records, update, name, encoder, of_step)
            save_bundle(bundle, directory / name)
    return artifacts.Built({"encoders": list(encoders), "step": step})


def _untrained(config: Config, records: RecordSet, update: Update) -> Encoder:
    given = given_encoder(config, records)
    fresh = jax.jit(partial(initial_params, update.method, config.seed))(given)
    return next(iter(update.method.encoders(fresh, update.method.averaged(fresh)).values()))


def _bundle(
    config: Config, records: RecordSet, update: Update, name: str, encoder: Encoder, step: int
) -> Bundle:
    return Bundle(
        name=name,
        encoder=jax.tree.map(jnp.asarray, encoder),
        preprocess=update.preprocess,
        sensor=config.data.sensor,
        record=records.schema.sensors[config.data.sensor],
        pool=config.eval.pool,
        step=step,
    )
