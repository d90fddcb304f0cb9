"""What a step costs, what the devices could do, and what a score has cost to reach."""

import dataclasses
import itertools
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from rejepa_jax.config import Config
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.methods.build import build_method
from rejepa_jax.methods.contract import Method
from rejepa_jax.training import sharding
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import new_state
from rejepa_jax.training.step import Update, train_step

# Dense bfloat16 (T4: float16) FLOP/s of one device as JAX counts them, by a part of its kind.
# NVIDIA: datasheets, halved where they assume sparsity. TPU: the pages of Google Cloud, a chip; a
# device of v2 and v3 is one of a chip's two cores.
PEAKS = {
    "T4": 65e12,
    "L4": 121e12,
    "A100": 312e12,
    "H100": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H200": 989e12,
    "H200 NVL": 835e12,
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5": 459e12,  # v5p
    "TPU v5p": 459e12,
    "TPU v5 lite": 197e12,  # v5e
    "TPU v5e": 197e12,
    "TPU v6 lite": 918e12,  # v6e
    "TPU v6e": 918e12,
}
SIDE, REPEATS = 1024, 5  # of the matrix products that measure an unknown device


@dataclasses.dataclass(frozen=True)
class Compute:
    """Cost of an image in one training step, and the most that one device could do a second."""

    flops_per_image: float
    peak: float  # FLOP/s
    peak_source: str


def measure_compute(method: Method) -> Compute:
    """Adds up the method's parts; the peak is looked up or, for a CPU or unknown device, tried."""
    kind = jax.devices()[0].device_kind
    peak, source = datasheet_peak(kind), f"datasheet: {kind}, dense bfloat16"
    if peak is None:
        peak, source = measured_peak(), f"measured: float32 matmul on {kind}"
    return Compute(sum(method.flops.values()), peak, source)


def datasheet_peak(device_kind: str) -> float | None:
    """Returns FLOP/s by the longest name in a kind, such as `NVIDIA H100 PCIe`; None if unknown.

    A slice (MIG) of a device and its smaller sister (lite) are other devices.
    """
    found = [name for name in PEAKS if re.search(rf"\b{name}\b(?!.* (MIG|lite))", device_kind)]
    return PEAKS[max(found, key=len)] if found else None


def measured_peak() -> float:
    """Returns FLOP/s of a device while all of them multiply large matrices, the best of a few.

    CPU devices share their cores, so all must be busy at once.
    """
    mesh = sharding.make_mesh()
    rows = jax.jit(
        partial(jnp.ones, (SIDE * mesh.size, SIDE)), out_shardings=sharding.batch_sharding(mesh)
    )()
    square = jax.jit(partial(jnp.ones, (SIDE, SIDE)), out_shardings=sharding.replicated(mesh))()
    product = jax.jit(jnp.matmul).lower(rows, square).compile()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        product(rows, square).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(seconds)


def mfu(images_per_second: float, compute: Compute, devices: int) -> float:
    """Returns the share of the peak of `devices` that the model's own FLOPs make up."""
    return images_per_second * compute.flops_per_image / (compute.peak * devices)


def xla_step_flops(config: Config, bands: int) -> float:
    """Counts a training step an image as XLA does, from its lowered form; nothing is compiled.

    A multiply-add is two operations, any other but exponentials and their like is one: norms,
    losses, augmentation, optimiser and average are in. XLA counts the body of a loop once, so the
    blocks are laid out one after the other and nothing is computed twice, whatever the config says.
    """
    config = _straight(config)
    size, batch_size = config.data.image_size, config.train.batch_size
    schedules = Schedules(config.optim, config.ema, config.train.steps)
    given = SensorInput(tuple(range(bands)), (0.0,) * bands, (1.0,) * bands, None)
    update = Update(
        build_method(config, bands),
        make_optimizer(schedules),
        schedules,
        Preprocess(size, {config.data.sensor: given}),
        config.augment,
        config.seed,
    )
    image = jax.ShapeDtypeStruct((batch_size, size, size, bands), jnp.uint8)
    ids = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    valid = jax.ShapeDtypeStruct((batch_size,), jnp.bool)
    batch = {"image": {config.data.sensor: image}, "id": ids, "valid": valid}
    state = jax.eval_shape(partial(new_state, update.method, update.optimizer, config.seed))
    return _xla_flops(partial(train_step, update=update), state, batch) / batch_size


def xla_embedding_flops(config: Config, bands: int) -> float:
    """Counts the embedding of one image as XLA does."""
    config = _straight(config)
    method = build_method(config, bands)
    params = jax.eval_shape(method.init, jax.random.key(0))
    encoder = next(iter(method.encoders(params, method.averaged(params)).values()))
    size = config.data.image_size
    image = jax.ShapeDtypeStruct((1, size, size, bands), jnp.float32)
    return _xla_flops(lambda encoder, image: encoder(image), encoder, image)


def _straight(config: Config) -> Config:
    model = dataclasses.replace(config.model, unroll=True, remat="none")
    return dataclasses.replace(config, model=model)


def _xla_flops(function: Callable[..., Any], *arguments: Any) -> float:
    costs: Any = jax.jit(function).lower(*arguments).cost_analysis()
    return costs["flops"]


def compute_to_reach(
    log_lines: Sequence[dict[str, Any]], metric: str, goal: float, flops_per_step: float
) -> float | None:
    """Returns the FLOPs after which a metric first reached a goal, or None if it never did.

    Between two measurements the metric is taken to change evenly with the steps; lines without it
    are skipped.
    """
    measured = [(line["step"], line[metric]) for line in log_lines if metric in line]
    if measured and measured[0][1] >= goal:
        return measured[0][0] * flops_per_step
    for (step, value), (later, reached) in itertools.pairwise(measured):
        if reached >= goal:
            share = (goal - value) / (reached - value)
            return (step + share * (later - step)) * flops_per_step
    return None
