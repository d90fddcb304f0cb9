"""The matrix products of a compiled program: their operations, and which are not in bfloat16.

On a TPU a product is written as a convolution, its batch as a dilated window; the operations of
both forms are counted from their shapes.
"""

import dataclasses
import functools
import math
import re

import numpy as np

from rejepa_jax.planning.hlo import Computation, Instruction, Program, Shape
from rejepa_jax.planning.sources import source

PASSES = {"default": 1, "high": 3, "highest": 6}  # of a TPU's bfloat16 units over a float32 product


@dataclasses.dataclass(frozen=True)
class Matmul:
    """Products that one line of source leads to and whose operands have the same types."""

    source: str
    operands: tuple[str, ...]  # dtypes
    result: str
    precision: str  # default | high | highest
    count: int  # a step
    flops: float  # a step and device

    @property
    def is_float32(self) -> bool:
        """Whether an operand is wider than the units that multiply."""
        return any(dtype in ("f32", "f64") for dtype in self.operands)


def matmuls(program: Program) -> list[Matmul]:
    """Lists the products, the most costly first."""
    found: dict[tuple[str, tuple[str, ...], str, str], list[tuple[int, float]]] = {}
    for instruction, computation, times in program.instructions():
        shapes = _operands(instruction, computation)
        flops = _flops(instruction, shapes)
        if flops:
            dtypes = tuple(shape.dtype for shape in shapes[:2])
            line = source(instruction.attributes, program.frames) or instruction.name
            key = (line, dtypes, instruction.results[0].dtype)
            found.setdefault((*key, _precision(instruction)), []).append((times, flops))
    made = [
        Matmul(*key, sum(n for n, _ in parts), sum(n * flops for n, flops in parts))
        for key, parts in found.items()
    ]
    return sorted(made, key=lambda matmul: -matmul.flops)


def _operands(instruction: Instruction, computation: Computation) -> list[Shape]:
    known = [computation[name] for name in instruction.operands if name in computation]
    return [operand.results[0] for operand in known if operand.results]


def _precision(instruction: Instruction) -> str:
    named = instruction.attribute("operand_precision").split(",")
    return max(
        (name for name in named if name in PASSES), key=PASSES.__getitem__, default="default"
    )


def _flops(instruction: Instruction, operands: list[Shape]) -> float:
    if len(operands) < 2:
        return 0.0
    result = instruction.results[0]
    if instruction.opcode == "dot":
        contracted = _numbers(instruction.attribute("lhs_contracting_dims"))
        return 2.0 * math.prod(result.dims) * math.prod(operands[0].dims[i] for i in contracted)
    if instruction.opcode == "convolution":
        return _convolution_flops(instruction, operands[0], operands[1], result)
    if re.search("gemm|matmul", instruction.attribute("custom_call_target")):  # cuBLAS
        contracted = re.search(r'"lhs_contracting_dimensions":\["(\d+)"\]', instruction.attributes)
        depth = operands[0].dims[int(contracted[1])] if contracted else operands[0].dims[-1]
        return 2.0 * math.prod(result.dims) * depth
    return 0.0


def _convolution_flops(
    instruction: Instruction, given: Shape, kernel: Shape, result: Shape
) -> float:
    """Counts the products of true values: neither padding nor the holes of a dilation."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if labels is None:
        return 0.0
    left, right, out = labels.groups()
    size = {f"out {letter}": n for letter, n in zip(out, result.dims, strict=True)}
    size |= {f"left {letter}": n for letter, n in zip(left, given.dims, strict=True)}
    size |= {f"right {letter}": n for letter, n in zip(right, kernel.dims, strict=True)}
    count = 2.0 * size["out b"] * size["out f"] * size["right i"]
    window = dict(
        re.findall(r"(\w+)=([\d_x\-]+)", instruction.attribute("window").replace(" ", ","))
    )
    for letter in sorted(letter for letter in out if letter.isdigit()):
        place = int(letter)
        count *= _pairs(
            size[f"left {letter}"],
            size[f"right {letter}"],
            size[f"out {letter}"],
            _part(window, "stride", place, "1"),
            _part(window, "pad", place, "0_0"),
            _part(window, "lhs_dilate", place, "1"),
            _part(window, "rhs_dilate", place, "1"),
        )
    return count / int(instruction.attribute("batch_group_count") or 1)


def _part(window: dict[str, str], name: str, place: int, default: str) -> int:
    """Returns a window's number for one dimension; of a padding the low one."""
    parts = window.get(name, "").split("x")
    return int((parts[place] if parts != [""] else default).split("_")[0])


@functools.cache
def _pairs(
    given: int, kernel: int, out: int, stride: int, pad: int, dilation: int, spread: int
) -> int:
    """Counts the places of an output and a kernel that meet a value of the input."""
    places = np.arange(out)[:, None] * stride + np.arange(kernel)[None] * spread - pad
    inside = (places >= 0) & (places <= (given - 1) * dilation)
    return int((inside & (places % dilation == 0)).sum())


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]
