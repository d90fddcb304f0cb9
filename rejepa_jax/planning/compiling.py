"""The real training step, compiled for devices that may not be there; and how much it needs."""

import dataclasses
import math
import re
import time
from typing import Any

import jax

from rejepa_jax.config import Config
from rejepa_jax.planning import hlo
from rejepa_jax.planning.imagined import abstract_batch, for_platform, imagined_records
from rejepa_jax.planning.topologies import Topology
from rejepa_jax.training import sharding
from rejepa_jax.training.compiling import compile_step
from rejepa_jax.training.loop import make_update
from rejepa_jax.training.state import abstract_state

UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = r"([\d.]+)([KMGTB]?)"
REFUSALS = (
    re.compile(rf"Used {SIZE} of {SIZE} hbm"),
    re.compile(rf"\({SIZE}\) exceeds available HBM \({SIZE}\)"),
)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on each device, by kind."""

    parameters: int
    moments: int  # of the optimiser, with its counters
    average: int
    batch: int
    padding: int  # that the device's layouts add to all of these
    temporaries: int  # activations, gradients and what else is gone after the step
    results: int  # that do not take the place of an argument
    code: int

    @property
    def total(self) -> int:
        """Bytes of the step; batches that wait beside it are not among them."""
        return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A step that fits."""

    memory: Memory
    program: hlo.Program
    xla_flops: float  # a step and device; the body of a loop counts once
    seconds: float  # that compiling took


@dataclasses.dataclass(frozen=True)
class Refused:
    """A step that the compiler found no room for; its own figures."""

    needed: float | None  # bytes at least; None if it does not say
    available: float | None
    message: str


def ways(topology: Topology, config: Config) -> int:
    """Returns over how many devices a batch is split.

    Raises:
        ConfigError: the mesh of the config does not fit the devices.
    """
    mesh = sharding.make_mesh(config.mesh, topology.devices)
    return math.prod(mesh.shape[axis] for axis in sharding.BATCH_AXES)


def compile_for(topology: Topology, config: Config, batch_size: int) -> Compiled | Refused:
    """Compiles the step for a global batch of this size; takes minutes for a large model.

    Raises:
        ConfigError: mesh or batch do not divide over the devices.
    """
    config = for_platform(config, topology.platform)
    mesh = sharding.make_mesh(config.mesh, topology.devices)
    parts = config.train.accumulate
    key = "train.batch_size" + (" / train.accumulate" if parts > 1 else "")
    sharding.check_batch_size(mesh, batch_size // parts, key)
    update = make_update(config, imagined_records(config))
    state = abstract_state(update.method, update.optimizer, config.seed, mesh)
    batch = abstract_batch(config, batch_size, mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = compile_step(update, places, sharding.batch_sharding(mesh))
    start = time.monotonic()
    try:
        compiled = step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if refused := read_refusal(str(error)):
            return refused
        raise
    seconds = time.monotonic() - start
    memory = measure(compiled.memory_analysis(), state, batch)
    flops = compiled.cost_analysis().get("flops", 0.0)
    return Compiled(memory, hlo.parse(compiled.as_text()), flops, seconds)


def measure(analysis: Any, state: Any, batch: Any) -> Memory:
    """Splits the compiler's account by the kinds of a step's arguments."""
    kinds = [bytes_on_device(t) for t in (state.params, state.opt_state, state.average, batch)]
    known = sum(kinds) + bytes_on_device(state.step)
    laid_out = analysis.argument_size_in_bytes - known
    return Memory(
        *kinds,
        padding=max(laid_out, 0),  # less where arguments that nobody reads are left out
        temporaries=analysis.temp_size_in_bytes,
        results=analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
        code=analysis.generated_code_size_in_bytes,
    )


def bytes_on_device(tree: Any) -> int:
    """Adds up what one device holds of placed arrays, without the padding of its layouts."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def read_refusal(message: str) -> Refused | None:
    """Reads what a compiler says that has no room; None if that is not what it says."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    first = message.splitlines()[0]
    for form in REFUSALS:
        if found := form.search(message):
            needed, available = (float(found[place]) * UNITS[found[place + 1]] for place in (1, 3))
            return Refused(needed, available, first)
    return Refused(None, None, first)
