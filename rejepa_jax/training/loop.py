"""Training from the first step, or from the last checkpoint, to the end."""

import contextlib
import dataclasses
import pathlib
from functools import partial
from typing import Any

import jax
from absl import logging

from rejepa_jax import artifacts
from rejepa_jax.config import Config
from rejepa_jax.data import pipeline
from rejepa_jax.data.inputs import make_preprocess
from rejepa_jax.methods.build import build_method
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.training import sharding
from rejepa_jax.training.checkpoint import Checkpoints
from rejepa_jax.training.monitor import LOG, Monitor, read_log
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import init_state
from rejepa_jax.training.step import Update, train_step


def make_update(config: Config, records: pipeline.RecordSet) -> Update:
    """Gathers what a training step depends on, from the settings and the records' statistics."""
    preprocess = make_preprocess(records, config.data)
    method = build_method(config, len(preprocess.inputs[config.data.sensor].bands))
    schedules = Schedules(config.optim, config.ema, config.train.steps)
    optimizer = make_optimizer(schedules)
    return Update(method, optimizer, schedules, preprocess, config.augment, config.seed)


def compile_step(update: Update, places: Any, batch_place: jax.sharding.Sharding) -> Any:
    """Returns the jitted step: the state is donated and stays where it is."""
    return jax.jit(
        partial(train_step, update=update),
        in_shardings=(places, batch_place),
        out_shardings=(places, None),
        donate_argnums=0,
    )


def train(
    config: Config, records: pipeline.RecordSet, directory: pathlib.Path, settings: dict[str, Any]
) -> artifacts.Built:
    """Trains into `directory`, where a run that was interrupted goes on from its last checkpoint.

    The order within a step matters: the checkpoint is written after the step and before the next
    batch is fetched, so state and data position always belong together.
    """
    mesh = sharding.make_mesh()
    batch_size, steps = config.train.batch_size, config.train.steps
    sharding.check_batch_size(mesh, batch_size, "train.batch_size")
    update = make_update(config, records)
    state = init_state(update.method, update.optimizer, config.seed, mesh)
    batches = pipeline.train_batches(
        records,
        config.data.train_split,
        tuple(update.preprocess.inputs),
        batch_size,
        config.data.seed,
    )
    checkpoints = Checkpoints(directory, config.train.keep, settings)
    state = checkpoints.restore(state, batches) or state
    monitor = Monitor(directory, steps, int(state.step), batch_size)
    places = jax.tree.map(lambda array: array.sharding, state)
    batch_place = sharding.batch_sharding(mesh)
    step_fn = compile_step(update, places, batch_place)
    logging.info(
        "training %s: %d trained parameters, %d steps of %d images on %d device(s)",
        config.method,
        count_parameters(state.params),
        steps,
        batch_size,
        mesh.size,
    )

    with contextlib.closing(checkpoints):  # whatever ends the loop, what is begun is written
        for step in range(int(state.step) + 1, steps + 1):
            state, metrics = step_fn(state, pipeline.to_device(next(batches), batch_place))
            is_saved = step % config.train.save_every == 0 or step == steps
            if is_saved or step % config.train.log_every == 0:
                monitor.log(step, metrics)  # first, so that a state gone wrong is never saved
            if is_saved:
                checkpoints.save(state, batches)
    final = read_log(directory / LOG)[-1]  # also when all that was left to do is to say so
    return artifacts.Built({"steps": steps, "images": steps * batch_size, "final": final})


def describe(config: Config) -> dict[str, Any]:
    """Returns the settings that the result depends on, as they are written into its artefact.

    How often something is logged or saved is not among them, and may change between resumptions.
    """
    groups = ("augment", "model", "mask", "vicreg", "ema", "optim")
    data = ("sensor", "bands", "image_size", "statistics", "train_split", "seed")
    return {
        "method": config.method,
        "seed": config.seed,
        "data": {name: getattr(config.data, name) for name in data},
        "train": {"steps": config.train.steps, "batch_size": config.train.batch_size},
        **{group: dataclasses.asdict(getattr(config, group)) for group in groups},
    }
