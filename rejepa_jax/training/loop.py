"""Training from the first step, or from the last checkpoint, to the end."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import grain
import jax
from absl import logging

from rejepa_jax import artifacts, processes
from rejepa_jax.config import Config
from rejepa_jax.data import pipeline
from rejepa_jax.data.inputs import make_preprocess
from rejepa_jax.methods.build import build_method, encoder_spec
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.models.vit import Encoder
from rejepa_jax.retrieval.weights.adaptation import load_initial
from rejepa_jax.training import sharding
from rejepa_jax.training.checkpoint import Checkpoints
from rejepa_jax.training.compiling import compile_step
from rejepa_jax.training.compute import Compute, measure_compute
from rejepa_jax.training.health import Health, collapsed
from rejepa_jax.training.monitor import LOG, Monitor, read_log
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import TrainState, abstract_state, init_state
from rejepa_jax.training.step import Update
from rejepa_jax.training.stopping import Stopping
from rejepa_jax.training.watchdog import Watchdog
from rejepa_jax.types import Batch, Interrupted, Metrics


def make_update(config: Config, records: pipeline.RecordSet) -> Update:
    """Gathers what a training step depends on, from the settings and the records' statistics."""
    preprocess = make_preprocess(records, config.data)
    method = build_method(config, len(preprocess.inputs[config.data.sensor].bands))
    schedules = Schedules(config.optim, config.ema, config.train.steps)
    optimizer = make_optimizer(schedules)
    draws, accumulate = (config.augment, config.seed), config.train.accumulate
    return Update(method, optimizer, schedules, preprocess, *draws, accumulate=accumulate)


def given_encoder(config: Config, records: pipeline.RecordSet) -> Encoder | None:
    """Returns the encoder that `model.weights` names, made to fit the run; None without one."""
    if not config.model.weights:
        return None
    bands = config.data.bands or records.schema.sensors[config.data.sensor].bands
    directory = pathlib.Path(config.model.weights)
    return load_initial(directory, encoder_spec(config, len(bands)), bands)


def train(
    config: Config, records: pipeline.RecordSet, directory: pathlib.Path, settings: dict[str, Any]
) -> artifacts.Built:
    """Trains into `directory`, where a run that was interrupted goes on from its last checkpoint.

    Raises:
        Interrupted: asked to stop, and the last step is saved.
    """
    mesh = open_mesh(config)
    update = make_update(config, records)
    parts = (update.method, update.optimizer, config.seed, mesh)
    place = sharding.batch_sharding(mesh)
    batches = open_batches(config, records, tuple(update.preprocess.inputs), place)
    kept = config.train
    checkpoints = Checkpoints(
        directory, kept.keep, settings, keep_every=kept.keep_every, strict=kept.strict_restore
    )
    # Whatever ends the loop, what is begun is written.
    with contextlib.closing(batches), contextlib.closing(checkpoints):
        state = checkpoints.restore(abstract_state(*parts), batches)
        if state is None:
            state = init_state(*parts, given_encoder(config, records))
        compute = measure_compute(update.method)
        health = Health(config, records, update, mesh)
        monitor = Monitor(directory, config, int(state.step), records, health, compute)
        places = jax.tree.map(lambda array: array.sharding, state)
        step_fn = compile_step(update, places, place)
        announce(config, count_parameters(state.params), compute)
        with contextlib.closing(monitor):
            if int(state.step) == 0 and health.is_due(0):
                monitor.log(0, state)
            take_steps(config, state, batches, step_fn, monitor, checkpoints)
    return report(config, directory)


def report(config: Config, directory: pathlib.Path) -> artifacts.Built:
    """Returns what is to be known of a run that is done, to the process that publishes it."""
    if not processes.is_main():
        return artifacts.Built({})
    log = read_log(directory / LOG)
    images = config.train.steps * config.train.batch_size
    info = {"final": log[-1], "collapsed": sorted(collapsed(log))}
    return artifacts.Built({"steps": config.train.steps, "images": images, **info})


def take_steps(
    config: Config,
    state: TrainState,
    batches: grain.DatasetIterator,
    step_fn: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    monitor: Monitor,
    checkpoints: Checkpoints,
) -> None:
    """Trains to the last step, or to the one after which all processes are to stop.

    The order within a step matters: the checkpoint is written after the step and before the next
    batch is fetched, so state and data position always belong together.
    """
    start, steps = int(state.step), config.train.steps
    with Stopping() as stopping, Watchdog(config.train.hang_timeout) as watchdog:
        for step in range(start + 1, steps + 1):
            with monitor.waiting():
                batch = next(batches)
            state, metrics = step_fn(state, batch)
            monitor.keep(step, batch, metrics)
            watchdog.alive()
            is_stopped = stopping.reached(step)
            is_saved = is_stopped or step % config.train.save_every == 0 or step == steps
            if is_saved or monitor.is_due(step):
                monitor.log(step, state)  # first, so that a state gone wrong is never saved
            checkpoints.check()
            if is_saved:
                checkpoints.save(state, batches)
            if is_stopped:
                checkpoints.wait()
                raise Interrupted(
                    f"asked to stop: step {step} of {steps} is saved; run the same command again "
                    "to go on"
                )
        checkpoints.wait()


def open_mesh(config: Config) -> jax.sharding.Mesh:
    """Lays out the devices; raises a ConfigError if the batch does not divide over them."""
    mesh = sharding.make_mesh(config.mesh)
    parts, size = config.train.accumulate, config.train.batch_size
    key = "train.batch_size" + (" / train.accumulate" if parts > 1 else "")
    sharding.check_batch_size(mesh, size // parts, key)
    if config.vicreg.stats == "per_device":
        sharding.check_batch_size(mesh, size // parts // 2, f"{key} / 2")
    return mesh


def open_batches(
    config: Config,
    records: pipeline.RecordSet,
    sensors: tuple[str, ...],
    place: jax.sharding.NamedSharding,
) -> grain.DatasetIterator:
    """Returns the global batches, on the devices."""
    data, order = config.data, (config.train.batch_size, config.data.seed)
    how = {"prefetch": data.prefetch, "resident": data.resident}
    return pipeline.placed_batches(records, data.train_split, sensors, *order, place, **how)


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
    model = {k: v for k, v in dataclasses.asdict(config.model).items() if k != "remat"}
    return {
        "method": config.method,
        "seed": config.seed,
        "data": {name: getattr(config.data, name) for name in data},
        "train": lengths,
        "model": model,
        **{group: dataclasses.asdict(getattr(config, group)) for group in groups},
    }
