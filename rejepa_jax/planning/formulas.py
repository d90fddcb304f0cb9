"""Memory and communication of a device as functions of model, batch and mesh: docs/scaling.md.

They are counted from the shapes alone, and there to be held against what a compiler says.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax

from rejepa_jax.config import Config
from rejepa_jax.methods.build import build_method
from rejepa_jax.methods.masking import mask_sizes
from rejepa_jax.methods.rejepa import Rejepa
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.planning.imagined import for_platform, record_form
from rejepa_jax.types import ConfigError

FLOAT32 = 4
Arrays = dict[str, jax.ShapeDtypeStruct]
KEPT = {"none": 10, "dots": 9, "block": 1}  # arrays of k d, by re-computation
WIDTHS = {"float32": 4, "bfloat16": 2}  # bytes of an activation


@dataclasses.dataclass(frozen=True)
class Counts:
    """Numbers of a method's parameters; whole are those that `fsdp` leaves on every device."""

    fsdp: int
    trained: int
    averaged: int
    trained_whole: int
    averaged_whole: int
    layers: int  # matrices of stacked blocks, of the trained

    @property
    def state_bytes(self) -> float:
        """Parameters, two moments and the average of one device, in float32."""
        whole = 3 * self.trained_whole + self.averaged_whole
        return FLOAT32 * ((3 * self.trained + self.averaged - whole) / self.fsdp + whole)

    @property
    def gradient_bytes(self) -> float:
        """The gradient of one device, which lives as long as a step."""
        split = self.trained - self.trained_whole
        return FLOAT32 * (split / self.fsdp + self.trained_whole)


def count(config: Config) -> Counts:
    """Counts the parameters of a config's method."""
    method = build_method(config, _bands(config))
    params = jax.eval_shape(method.init, jax.random.key(0))
    trained, averaged = named_arrays(params), named_arrays(method.averaged(params))
    fsdp = config.mesh.fsdp

    def add(arrays: Arrays, *, whole: bool | None = None, stacked: bool = False) -> int:
        return sum(
            math.prod(leaf.shape)
            for name, leaf in arrays.items()
            if whole in (None, _is_whole(name, leaf, fsdp)) and (_is_stacked(name) or not stacked)
        )

    return Counts(
        fsdp,
        add(trained),
        add(averaged),
        add(trained, whole=True),
        add(averaged, whole=True),
        add(trained, whole=False, stacked=True),
    )


def activation_bytes(config: Config, platform: str) -> float:
    """Returns what an image keeps of its forward pass for the backward one, all layers together.

    Of a block with `k` tokens of width `d`, `a` heads and activations of `s` bytes:

    - `none`: input, query, key, value, what is mixed, the MLP's input and wide layer: 10 k d s;
    - `dots`: input, query, key, value, projection, wide layer: 9 k d s;
    - `block`: its input alone: k d s.

    In the backward pass the rest of one block at a time is computed again: norms in float32, the
    wide layer on its way through GELU, attention's weights in float32 and as they are multiplied:
    k d (24 + 22 s) + a k² (4 + s) of the largest block.

    Raises:
        ConfigError: the method is another than rejepa.
    """
    method = build_method(for_platform(config, platform), _bands(config))
    if not isinstance(method, Rejepa):
        raise ConfigError(f"config.method = {config.method!r}: formulas are those of rejepa alone")
    encoder, width = method.encoder, WIDTHS[method.encoder.dtype]
    total = 0.0
    for context, groups, targets in mask_sizes(encoder.grid_size, method.mask):
        stacks = (
            (encoder.depth, context, encoder.embed_dim, encoder.num_heads),
            (
                method.predictor.depth,
                context + groups * targets,
                method.predictor.dim,
                method.predictor.num_heads,
            ),
        )
        total += _kept(config.model.remat, stacks, width)
    return method.views * total


def _kept(remat: str, stacks: Sequence[tuple[int, int, int, int]], width: int) -> float:
    """Adds up stacks of (depth, k, d, a), and the largest block on its way back."""
    kept = sum(depth * KEPT[remat] * k * d * width for depth, k, d, _ in stacks)
    again = (k * d * (24 + 22 * width) + a * k**2 * (FLOAT32 + width) for _, k, d, a in stacks)
    return float(kept + max(again))


def batch_bytes(config: Config, images: int) -> int:
    """Returns a device's part of a batch: pixels as the records have them, number, validity."""
    return images * (record_form(config).num_bytes + 4 + 1)


def traffic_bytes(config: Config, counts: Counts, devices: int, platform: str) -> dict[str, float]:
    """Returns the whole arrays, in bytes, that a step reduces, gathers and scatters by kind.

    Without `fsdp` the gradient is reduced once. With it matrices are gathered as they are used, in
    the activations' dtype, those of trained layers again for the backward pass; their gradient is
    scattered in float32, and each part reduced over `data`.
    """
    width = WIDTHS[for_platform(config, platform).model.dtype]
    if counts.fsdp == 1:
        return {"all-reduce": counts.gradient_bytes}
    split = counts.trained - counts.trained_whole
    read = split + counts.averaged - counts.averaged_whole + counts.layers
    scattered = split / counts.fsdp if devices > counts.fsdp else 0.0
    return {
        "all-gather": float(width * read),
        "reduce-scatter": float(FLOAT32 * split),
        "all-reduce": FLOAT32 * (scattered + counts.trained_whole),
    }


def _is_stacked(name: str) -> bool:
    return "blocks" in name.split("/")


def _is_whole(name: str, leaf: jax.ShapeDtypeStruct, fsdp: int) -> bool:
    """Whether an array is a vector, of each layer too, or has no side that divides."""
    sides = leaf.shape[_is_stacked(name) :]
    return len(sides) < 2 or all(side % fsdp for side in sides)


def _bands(config: Config) -> int:
    return len(config.data.bands or record_form(config).bands)
