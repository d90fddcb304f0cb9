"""A config on a topology: what the compiled step needs, sends and costs, and how fast it can be."""

import dataclasses
from typing import Any

from absl import logging

from rejepa_jax.config import Config
from rejepa_jax.methods.build import build_method
from rejepa_jax.planning.collectives import Collective, collectives
from rejepa_jax.planning.compiling import Compiled, Memory, Refused, compile_for, ways
from rejepa_jax.planning.imagined import for_platform, record_form
from rejepa_jax.planning.largest import find_largest
from rejepa_jax.planning.matmuls import Matmul, matmuls
from rejepa_jax.planning.roofline import Roofline, find_roofline
from rejepa_jax.planning.topologies import Topology
from rejepa_jax.planning.traffic import memory_traffic


@dataclasses.dataclass(frozen=True)
class Program:
    """What the compiled step does on one device."""

    memory: Memory
    collectives: list[Collective]
    matmuls: list[Matmul]
    traffic: int  # bytes of main memory a step
    xla_flops: float  # a step; loops count once
    seconds: float  # that compiling took
    roofline: Roofline | None  # None where the device's figures are not known

    @property
    def flops(self) -> float:
        """Operations of all matrix products a step, what is computed twice included."""
        return sum(matmul.flops for matmul in self.matmuls)


@dataclasses.dataclass(frozen=True)
class Plan:
    """One config on one topology."""

    topology: str
    kind: str
    devices: int
    platform: str
    method: str
    mesh: dict[str, int]
    remat: str
    accumulate: int
    dtype: str
    batch_size: int
    images_per_chip: int
    record: str
    record_bytes: int
    model_flops: float  # of an image and step, as the method counts them
    waiting: int  # bytes on each device of the batches that wait for their step
    available: float | None  # bytes of a device
    peak: float | None
    program: Program | None  # None if the compiler refused it
    refused: Refused | None
    largest: int | None  # images a chip; None if nobody asked

    @property
    def is_fitting(self) -> bool:
        """Whether the step and the batches that wait have room."""
        return self.program is not None and (self.left is None or self.left >= 0)

    @property
    def left(self) -> float | None:
        """Bytes that are left on each device, negative if they are missing; None if unknown."""
        available, needed = self.available, None
        if self.program:
            needed = self.program.memory.total + self.waiting
        elif self.refused:
            available, needed = self.refused.available, self.refused.needed
        return None if needed is None or available is None else available - needed

    def to_json(self) -> dict[str, Any]:
        """Returns all of it, and what follows from it, in JSON's own types."""
        found = dataclasses.asdict(self)
        found |= {"fits": self.is_fitting, "left": self.left}
        if self.program:
            found["program"] |= {"flops": self.program.flops}
            found["program"]["memory"]["total"] = self.program.memory.total
        return found


def make_plan(
    topology: Topology, config: Config, images_per_chip: int | None, *, is_largest: bool = False
) -> Plan:
    """Compiles the step of a config, and with `is_largest` some more to find the largest batch.

    Args:
        topology: what to compile for.
        config: a resolved one.
        images_per_chip: of each batch; None takes the config's batch size.
        is_largest: whether to look for the largest batch.

    Raises:
        ConfigError: batch or mesh do not divide over the devices.
    """
    split = ways(topology, config)
    batch_size = images_per_chip * split if images_per_chip else config.train.batch_size
    step = compile_for(topology, config, batch_size)
    plan = _plan(topology, config, batch_size, split, step)
    if not is_largest:
        return plan
    return dataclasses.replace(plan, largest=_largest(topology, config, split, plan))


def _plan(
    topology: Topology, config: Config, batch_size: int, split: int, step: Compiled | Refused
) -> Plan:
    config, sensor = for_platform(config, topology.platform), record_form(config)
    rows, columns, bands = sensor.shape
    method = build_method(config, len(config.data.bands or sensor.bands))
    images, mesh = batch_size // split, dataclasses.asdict(config.mesh)
    return Plan(
        topology=topology.name,
        kind=topology.kind,
        devices=len(topology.devices),
        platform=topology.platform,
        method=config.method,
        mesh=mesh | {"data": split // config.mesh.fsdp},
        remat=config.model.remat,
        accumulate=config.train.accumulate,
        dtype=config.model.dtype,
        batch_size=batch_size,
        images_per_chip=images,
        record=f"{sensor.dtype} {rows} x {columns} x {bands}",
        record_bytes=sensor.num_bytes,
        model_flops=sum(method.flops.values()),
        waiting=config.data.prefetch * images * sensor.num_bytes,
        available=topology.chip.memory if topology.chip else None,
        peak=topology.peak,
        program=_program(topology, step) if isinstance(step, Compiled) else None,
        refused=step if isinstance(step, Refused) else None,
        largest=None,
    )


def _program(topology: Topology, step: Compiled) -> Program:
    sent, products = collectives(step.program, len(topology.devices)), matmuls(step.program)
    traffic = memory_traffic(step.program)
    roofline = find_roofline(topology, products, sent, traffic)
    return Program(step.memory, sent, products, traffic, step.xla_flops, step.seconds, roofline)


def _largest(topology: Topology, config: Config, split: int, first: Plan) -> int:
    """Compiles for several batch sizes; says what each of them needed."""
    available = first.available
    if available is None and first.refused:
        available = first.refused.available
    if available is None:
        logging.warning("no largest batch: what a %s can hold is not known here", topology.kind)
        return 0

    def needs(images: int) -> float:
        plan = first
        if images != first.images_per_chip:
            step = compile_for(topology, config, images * split)
            plan = _plan(topology, config, images * split, split, step)
        needed = float("inf") if plan.left is None else available - plan.left
        took = f"compiled in {plan.program.seconds:.0f} s" if plan.program else "refused"
        logging.info("%d images a chip need %.2f GiB (%s)", images, needed / 2**30, took)
        return needed

    logging.info("looking for the largest batch: each guess is a compilation")
    return find_largest(needs, first.images_per_chip // 8 * 8, available)
