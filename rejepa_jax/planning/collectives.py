"""What the devices send one another in a step, by kind, from the compiled program."""

import dataclasses
import re

from rejepa_jax.planning.hlo import Computation, Instruction, Program

KINDS = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"),
    *("ragged-all-to-all", "collective-broadcast"),
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind over groups of one size."""

    kind: str
    group: int  # devices that take part in one
    count: int  # a step; those in a loop over layers once a layer
    dtypes: tuple[str, ...]
    payload: int  # bytes a step of the whole arrays that are reduced, gathered, ...
    sent: float  # bytes a step that each device sends, if they go round in a ring


def collectives(program: Program, devices: int) -> list[Collective]:
    """Adds up the collectives, those that cost most first.

    On a TPU one may go on through several fusions, in each of which it is written down: those of
    the same channel are one.
    """
    found: dict[tuple[str, int], list[tuple[int, Instruction, Computation]]] = {}
    channels: set[str] = set()
    for name, computation in program.computations.items():
        times = program.times.get(name, 0)
        for instruction in computation.values() if times else ():
            kind = instruction.opcode.removesuffix("-start")
            group = group_size(instruction, devices) if kind in KINDS else 1
            channel = instruction.attribute("channel_id") if name in program.fused else ""
            if group > 1 and channel not in channels:
                found.setdefault((kind, group), []).append((times, instruction, computation))
                channels |= {channel} - {""}
    parts = [_add_up(kind, group, members) for (kind, group), members in found.items()]
    return sorted(parts, key=lambda part: -part.sent)


def _add_up(
    kind: str, group: int, members: list[tuple[int, Instruction, Computation]]
) -> Collective:
    given = 0
    dtypes: set[str] = set()
    for times, instruction, computation in members:
        shapes = [
            s for n in instruction.operands if n in computation for s in computation[n].results
        ]
        given += times * sum(shape.bytes for shape in shapes)
        dtypes |= {shape.dtype for shape in shapes if shape.bytes}
    count = sum(times for times, _, _ in members)
    payload = given * group if kind == "all-gather" else given
    return Collective(
        kind, group, count, tuple(sorted(dtypes)), payload, _sent(kind, group, payload)
    )


def _sent(kind: str, group: int, payload: int) -> float:
    if kind in ("collective-permute", "collective-broadcast"):
        return float(payload)
    rounds = 2 if kind == "all-reduce" else 1  # a reduce-scatter, then an all-gather
    return rounds * (group - 1) / group * payload


def group_size(instruction: Instruction, devices: int) -> int:
    """Returns how many devices take part in one collective, in any of the ways HLO says it."""
    text = instruction.attributes
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", text):
        sizes = dict(re.findall(r"'?([\w]+)'?=(\d+)", named[1]))
        size = 1
        for axis in re.findall(r"'?(\w+)'?", named[2]):
            size *= int(sizes.get(axis, 1))
        return size
    if counted := re.search(r"replica_groups=\[(\d+),(\d+)\]", text):
        return int(counted[2])
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return len(listed[1].split(","))
    return devices  # no groups: all; and a permutation names pairs
