"""TPU generations: how their slices are called, cut into hosts, and what to start them with.

Names and sizes are those of cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e} and docs.cloud.google.com/
tpu/docs/tpu7x; runtime versions of cloud.google.com/tpu/docs/runtimes; machine types of
cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus.
"""

import dataclasses
import math
import re

from cloud.commands import LaunchError


@dataclasses.dataclass(frozen=True)
class Generation:
    """What all slices of a kind have in common.

    `cores` is by how much the number in an accelerator type counts a chip (v5p-128 has 64 chips).
    """

    name: str
    cores: int
    dimensions: int
    runtime_version: str  # of the Cloud TPU API; "" where it does not offer the generation
    image_family: str  # of Compute Engine; "" where managed instance groups do not take it
    machine_family: str
    gke_accelerator: str
    single_host_chips: tuple[int, ...]  # sizes that are one host; larger ones have 4 chips a host


# Of the project ubuntu-os-accelerator-images (docs.cloud.google.com/tpu/docs/tpu-os-images).
IMAGE = "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e"
IMAGE_7X = "ubuntu-accel-2404-amd64-tpu-tpu7x"
GENERATIONS = {
    "v4": Generation(
        "v4", 2, 3, "tpu-ubuntu2204-base", "", "ct4p-hightpu", "tpu-v4-podslice", (4,)
    ),
    "v5litepod": Generation(
        "v5e", 1, 2, "v2-alpha-tpuv5-lite", "", "ct5lp-hightpu", "tpu-v5-lite-podslice", (1, 4, 8)
    ),
    "v5p": Generation("v5p", 2, 3, "v2-alpha-tpuv5", IMAGE, "ct5p-hightpu", "tpu-v5p-slice", (4,)),
    "v6e": Generation(
        "v6e", 1, 2, "v2-alpha-tpuv6e", IMAGE, "ct6e-standard", "tpu-v6e-slice", (1, 4, 8)
    ),
    "tpu7x": Generation("tpu7x", 1, 3, "", IMAGE_7X, "tpu7x-standard", "tpu7x", (1, 4)),
}
FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}


@dataclasses.dataclass(frozen=True)
class Slice:
    """One slice: chips wired together, on one host or more."""

    generation: Generation
    topology: str
    chips: int

    @property
    def usual_topology(self) -> str:
        """What the Cloud TPU API makes of the accelerator type alone."""
        return _usual(self.generation, self.chips)

    @property
    def chips_per_host(self) -> int:
        return self.chips if self.chips in self.generation.single_host_chips else 4

    @property
    def hosts(self) -> int:
        return self.chips // self.chips_per_host

    @property
    def machine_type(self) -> str:
        return f"{self.generation.machine_family}-{self.chips_per_host}t"


def slice_of(accelerator_type: str, topology: str = "") -> Slice:
    """Reads an accelerator type such as v5litepod-256, v6e-64 or v5p-128.

    Raises:
        LaunchError: there is no such type, or its number of chips is not the topology's.
    """
    kind, _, size = accelerator_type.rpartition("-")
    if kind not in GENERATIONS or not re.fullmatch("[1-9][0-9]{0,4}", size):
        known = ", ".join(f"{name}-N" for name in GENERATIONS)
        raise LaunchError(f"accelerator_type: got {accelerator_type!r}, expected one of {known}", 2)
    generation = GENERATIONS[kind]
    chips, rest = divmod(int(size), generation.cores)
    topology = topology or _usual(generation, chips)
    form = "x".join(["[0-9]+"] * generation.dimensions)
    if rest or not re.fullmatch(form, topology) or _volume(topology) != chips:
        raise LaunchError(
            f"accelerator_type {accelerator_type} and topology {topology!r} do not fit: expected"
            f" {int(size) / generation.cores:g} chips in {generation.dimensions} dimensions"
            + (f" (the number in {kind}-N counts cores, 2 a chip)" if generation.cores > 1 else ""),
            2,
        )
    return Slice(generation, topology, chips)


def _usual(generation: Generation, chips: int) -> str:
    return FLAT.get(chips, "?") if generation.dimensions == 2 else _cube(chips)


def _cube(chips: int) -> str:
    """The most cubic box whose sides are 1, 2 or multiples of 4: 64 -> 4x4x4, 128 -> 4x4x8."""
    if chips == 1:
        return "1x1x1"
    sides = [side for side in range(1, chips + 1) if side <= 2 or side % 4 == 0]
    boxes = [
        (a, b, chips // (a * b))
        for a in sides
        for b in sides
        if a <= b and chips % (a * b) == 0 and b <= chips // (a * b) in sides
    ]
    boxes = [(2, 2, 1)] if chips == 4 else boxes
    return "x".join(map(str, min(boxes, key=sum))) if boxes else "?"


def _volume(topology: str) -> int:
    return math.prod(map(int, topology.split("x")))
