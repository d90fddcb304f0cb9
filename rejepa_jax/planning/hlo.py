"""A compiled program, read from its text: instructions, and how often each is run.

XLA's own cost analysis counts the body of a loop once. Here each instruction is weighted with the
trip counts of the loops around it, so that a `lax.scan` over layers costs what it costs.
"""

import dataclasses
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator

from rejepa_jax.planning.sources import Frames, read_frames

BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "u1": 8}  # of types not named by them

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*-> .*\{$")
_SHAPE = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|\w*computations?)=(\{[^}]*\}|%?[\w.\-]+)")
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count"?:\s*\{"n":\s*"(\d+)"')
CALLERS = {"fusion", "call", "while", "conditional", "async-start", "custom-call"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array's type; `space` 0 is the device's main memory, any other is on the chip itself."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def bytes(self) -> int:
        """Its size without the padding of a layout."""
        digits = re.match(r"[a-z]+(\d+)", self.dtype)
        bits = BITS.get(self.dtype, int(digits[1]) if digits else 0)
        return math.prod(self.dims) * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    results: tuple[Shape, ...]  # a tuple's parts, in order
    operands: tuple[str, ...]  # names of instructions of the same computation
    attributes: str  # all that follows the opcode
    is_root: bool

    def attribute(self, name: str) -> str:
        """Returns what follows `name=`, without braces; "" without one."""
        found = re.search(rf"\b{name}=(?:\{{([^}}]*)\}}|([^,\s]+))", self.attributes)
        return next(filter(None, found.groups()), "") if found else ""

    def called(self) -> dict[str, list[str]]:
        """Returns the computations it calls, by how: `calls`, `body`, `condition`, ..."""
        return {how: re.findall(r"[\w.\-]+", who) for how, who in _CALLED.findall(self.attributes)}


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Program:
    """All computations of a compiled program, and how often a run of it goes through each."""

    computations: dict[str, Computation]
    times: dict[str, int]
    frames: Frames
    fused: frozenset[str]  # computations that are inside fusions

    def instructions(self) -> Iterator[tuple[Instruction, Computation, int]]:
        """Yields what is run, with the computation that it is in, and how often."""
        for name, computation in self.computations.items():
            if times := self.times.get(name, 0):
                for instruction in computation.values():
                    yield instruction, computation, times


def parse(text: str) -> Program:
    """Reads the text of a compiled program."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if current is not None and (found := _INSTRUCTION.match(line)):
            current[found[1]] = _instruction(found, line)
        elif line.startswith("}"):
            current = None
        elif head := _COMPUTATION.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
    times = _count(computations, entry)
    return Program(computations, times, read_frames(text), _fused(computations))


def _instruction(found: re.Match[str], line: str) -> Instruction:
    name, kind, opcode, rest = found.groups()
    inside, _, attributes = _split_operands(rest)
    # Literals and numbers of parameters are no operands, but are looked for in the same place.
    attributes = f"{inside if opcode in ('constant', 'parameter') else ''} {attributes}"
    shapes = tuple(map(_shape, _SHAPE.finditer(kind)))
    is_root = line.lstrip().startswith("ROOT ")
    return Instruction(name, opcode, shapes, tuple(_NAME.findall(inside)), attributes, is_root)


def _split_operands(rest: str) -> tuple[str, str, str]:
    """Splits at the parenthesis that closes the operands."""
    depth = 1
    for place, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return rest[:place], ")", rest[place + 1 :]
    return rest, "", ""


def _shape(found: re.Match[str]) -> Shape:
    dtype, dims, layout = found.groups()
    space = re.search(r"S\((\d+)\)", layout or "")
    sizes = tuple(int(size.lstrip("<=")) for size in dims.split(",") if size)
    return Shape(dtype, sizes, int(space[1]) if space else 0)


def _count(computations: dict[str, Computation], entry: str) -> dict[str, int]:
    """Counts the passes through each computation; of a branch all arms are taken to be run."""
    times: dict[str, int] = defaultdict(int)

    def visit(name: str, passes: int) -> None:
        times[name] += passes
        for instruction in computations.get(name, {}).values():
            if instruction.opcode not in CALLERS:  # others apply a scalar function to each element
                continue
            called = instruction.called()
            trips = trip_count(instruction, computations) if instruction.opcode == "while" else 1
            for names in called.values():
                for inner in names:
                    visit(inner, passes * trips)

    visit(entry, 1)
    return dict(times)


def trip_count(loop: Instruction, computations: dict[str, Computation]) -> int:
    """Returns how often a loop is run: XLA's own note, or what its counter from 0 is held against.

    A loop whose end is not known before it runs counts once.
    """
    if known := _TRIPS.search(loop.attributes):
        return int(known[1])
    condition = computations.get("".join(loop.called().get("condition", [])), {})
    for instruction in condition.values():
        if instruction.is_root and "direction=LT" in instruction.attributes:
            limits = (condition.get(name) for name in instruction.operands)
            for limit in limits:
                if limit and limit.opcode == "constant":
                    return int(limit.attributes.split()[0])
    return 1


def _fused(computations: dict[str, Computation]) -> frozenset[str]:
    found: set[str] = set()
    every = [each for computation in computations.values() for each in computation.values()]
    left = [name for each in every if each.opcode == "fusion" for name in each.called()["calls"]]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            for each in computations.get(name, {}).values():
                if each.opcode in CALLERS:
                    left += itertools.chain(*each.called().values())
    return frozenset(found)
