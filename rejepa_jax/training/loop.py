"""Training from the first step, or from the last checkpoint, to the end."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any

import grain
import jax
from absl import logging

from rejepa_jax import artifacts
from rejepa_jax.config import Config
from rejepa_jax.data import pipeline
from rejepa_jax.data.inputs import make_preprocess
from rejepa_jax.methods.build import build_method, encoder_spec
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.models.vit import Encoder
from rejepa_jax.retrieval.weights.adaptation import load_initial
from rejepa_jax.training import sharding
from rejepa_jax.training.checkpoint import Checkpoints
from rejepa_jax.training.compute import Compute, measure_compute
from rejepa_jax.training.health import Health, collapsed
from rejepa_jax.training.monitor import LOG, Monitor, read_log
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import init_state
from rejepa_jax.training.step import Update, train_step
from rejepa_jax.types import Batch


def make_update(config: Config, records: pipeline.RecordSet) -> Update:
    """Gathers what a training step depends on, from the settings and the records' statistics."""
    preprocess = make_preprocess(records, config.data)
    method = build_method(config, len(preprocess.inputs[config.data.sensor].bands))
    schedules = Schedules(config.optim, config.ema, config.train.steps)
    optimizer = make_optimizer(schedules)
    return Update(method, optimizer, schedules, preprocess, config.augment, config.seed)


def given_encoder(config: Config, records: pipeline.RecordSet) -> Encoder | None:
    """Returns the encoder that `model.weights` names, made to fit the run; None without one."""
    if not config.model.weights:
        return None
    bands = config.data.bands or records.schema.sensors[config.data.sensor].bands
    directory = pathlib.Path(config.model.weights)
    return load_initial(directory, encoder_spec(config, len(bands)), bands)


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
    if config.vicreg.stats == "per_device":
        sharding.check_batch_size(mesh, batch_size // 2, "train.batch_size / 2")
    update = make_update(config, records)
    start_from = given_encoder(config, records)
    state = init_state(update.method, update.optimizer, config.seed, mesh, start_from)
    batch_place = sharding.batch_sharding(mesh)
    batches, feed = open_batches(config, records, tuple(update.preprocess.inputs), batch_place)
    checkpoints = Checkpoints(directory, config.train.keep, settings)
    state = checkpoints.restore(state, batches) or state
    start, compute = int(state.step), measure_compute(update.method)
    health = Health(config, records, update, mesh)
    monitor = Monitor(directory, config, start, records, health, compute)
    places = jax.tree.map(lambda array: array.sharding, state)
    step_fn = compile_step(update, places, batch_place)
    announce(config, count_parameters(state.params), compute)

    # Whatever ends the loop, what is begun is written.
    with contextlib.closing(checkpoints), contextlib.closing(monitor):
        if start == 0 and health.is_due(0):
            monitor.log(0, state)
        for step in range(start + 1, steps + 1):
            batch = feed(next(batches))
            state, metrics = step_fn(state, batch)
            monitor.keep(step, batch, metrics)
            is_saved = step % config.train.save_every == 0 or step == steps
            if is_saved or monitor.is_due(step):
                monitor.log(step, state)  # first, so that a state gone wrong is never saved
            if is_saved:
                checkpoints.save(state, batches)
    log = read_log(directory / LOG)  # also when all that was left to do is to say so
    info = {"final": log[-1], "collapsed": sorted(collapsed(log))}
    return artifacts.Built({"steps": steps, "images": steps * batch_size, **info})


def open_batches(
    config: Config,
    records: pipeline.RecordSet,
    sensors: tuple[str, ...],
    place: jax.sharding.NamedSharding,
) -> tuple[grain.DatasetIterator, Callable[[pipeline.LocalBatch], Batch]]:
    """Returns the batches of this process, and what brings one onto the devices."""
    split, size = config.data.train_split, config.train.batch_size
    if config.data.resident:
        feed = pipeline.resident_feed(records, split, sensors, place)
        return pipeline.train_batches(records, split, (), size, config.data.seed), feed
    batches = pipeline.train_batches(records, split, sensors, size, config.data.seed)
    return batches, partial(pipeline.to_device, sharding=place)


def announce(config: Config, parameters: int, compute: Compute) -> None:
    """Says what begins, and against what its speed will be held."""
    logging.info(
        "training %s: %d trained parameters, %d steps of %d images on %d device(s)",
        config.method,
        parameters,
        config.train.steps,
        config.train.batch_size,
        jax.device_count(),
    )
    logging.info(
        "an image costs %.4g GFLOP a step; MFU is the share of %.4g TFLOP/s a device (%s)",
        compute.flops_per_image / 1e9,
        compute.peak / 1e12,
        compute.peak_source,
    )


def describe(config: Config) -> dict[str, Any]:
    """Returns the settings that the result depends on, as they are written into its artefact.

    How often something is logged or saved, how devices share the work, and what is kept for the
    backward pass are not among them, and may change between resumptions.
    """
    groups = ("augment", "mask", "target", "loss", "vicreg", "mae", "ema", "optim")
    data = ("sensor", "bands", "image_size", "statistics", "normalise", "train_split", "seed")
    lengths = {"steps": config.train.steps, "batch_size": config.train.batch_size}
    if config.train.accumulate > 1:  # the features' statistics are then those of a part
        lengths["accumulate"] = config.train.accumulate
    model = dataclasses.asdict(config.model)
    del model["remat"]
    return {
        "method": config.method,
        "seed": config.seed,
        "data": {name: getattr(config.data, name) for name in data},
        "train": lengths,
        "model": model,
        **{group: dataclasses.asdict(getattr(config, group)) for group in groups},
    }
