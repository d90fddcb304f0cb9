"""Encoders and predictors on a mesh: each device runs its own images, weights come when needed.

Left to itself the partitioner gathers a batch's activations rather than split weights, and sums the
gradient of every layer inside the loop over layers. Encoders and predictors treat each image by
itself, so that their calls are mapped over `data` and `fsdp` by hand:

- what `fsdp` splits is gathered where it is used, a layer at a time, in the activations' dtype; the
  sum of its gradient over those devices leaves each its own part, in float32;
- all else that devices sum of a gradient is summed once, after the loop.

What looks at the whole batch (VICReg, the expander's batch norms, means) stays with the partitioner
and is exact on any mesh. So does `tensor`, inside and outside.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.models.predictor import Predictor
from rejepa_jax.models.transformer import Block, Visible
from rejepa_jax.models.vit import Encoder
from rejepa_jax.training.sharding import BATCH_AXES, is_stacked, partition


def spread(params: Any) -> Any:
    """Returns parameters whose encoders and predictors run on each device's own images.

    The devices are those of the mesh around the call; without one nothing changes.
    """
    axes = batch_axes()
    if not axes:
        return params
    return jax.tree.map(
        lambda node: Spread(node, axes) if _is_imagewise(node) else node,
        params,
        is_leaf=_is_imagewise,
    )


def batch_axes() -> tuple[str, ...]:
    """Returns the axes of the mesh around the call that do split a batch."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return tuple(axis for axis in BATCH_AXES if sizes.get(axis, 1) > 1)


def _is_imagewise(node: Any) -> bool:
    return isinstance(node, (Encoder, Predictor))


@dataclasses.dataclass(frozen=True)
class Spread:
    """An encoder or a predictor, with the calls that methods make; batches are split in and out."""

    module: Any
    axes: tuple[str, ...]

    def __call__(self, *inputs: Any) -> Array:
        return self._map("__call__", inputs)

    def encode(self, *inputs: Any) -> Array:
        """Runs an encoder that shows its class token too."""
        return self._map("encode", inputs)

    def _map(self, call: str, inputs: tuple[Any, ...]) -> Array:
        parts, batch = _parts(self.module), PartitionSpec(self.axes)

        def run(module: Any, inputs: tuple[Any, ...]) -> Array:
            return getattr(_gathering(module, parts, self.axes), call)(*inputs)

        mapped = jax.shard_map(
            run, in_specs=(parts, batch), out_specs=batch, axis_names=set(self.axes)
        )
        return mapped(self.module, inputs)


class Layers(Block):
    """Stacked blocks, or one of them inside the loop, whose weights are gathered when called."""

    def __init__(self, split: Block, parts: tuple[PartitionSpec, ...]):
        self.split, self.parts = split, parts

    def __call__(
        self, tokens: Float[Array, "b k d"], visible: Visible | None = None
    ) -> Float[Array, "b k d"]:
        leaves, structure = jax.tree.flatten(self.split)
        dtype = self.split.mlp.up.dtype
        whole = [
            _gather(leaf, PartitionSpec(*part[1:]), dtype)
            for leaf, part in zip(leaves, self.parts, strict=True)
        ]
        return jax.tree.unflatten(structure, whole)(tokens, visible)


def _parts(module: Any) -> Any:
    """Returns along which axis `fsdp` splits each array of a module."""
    mesh = jax.sharding.get_abstract_mesh()
    cuts = [partition(name, leaf.shape, mesh) for name, leaf in named_arrays(module).items()]
    parts = [PartitionSpec(*(over if over == "fsdp" else None for over in cut)) for cut in cuts]
    return jax.tree.unflatten(jax.tree.structure(module), parts)


def _gathering(module: Any, parts: Any, axes: tuple[str, ...]) -> Any:
    """Returns a module made of a device's parts that is whole wherever it runs."""
    dtype = module.blocks.mlp.up.dtype

    def ready(name: str, leaf: Array, part: PartitionSpec) -> Array:
        # A copy of each device's own, so that its gradient is summed here and nowhere before.
        leaf = lax.pcast(leaf, tuple(axis for axis in axes if axis not in part), to="varying")
        return leaf if is_stacked(name) else _gather(leaf, part, dtype)

    named = named_arrays(parts)
    leaves = map(ready, named, jax.tree.leaves(module), named.values())
    whole = jax.tree.unflatten(jax.tree.structure(module), list(leaves))
    whole.blocks = Layers(whole.blocks, tuple(jax.tree.leaves(parts.blocks)))
    return whole


def _gather(leaf: Array, part: PartitionSpec, dtype: Any) -> Array:
    return _all_gather(leaf, part.index("fsdp"), jnp.dtype(dtype)) if "fsdp" in part else leaf


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _all_gather(part: Array, axis: int, dtype: Any) -> Array:
    return lax.all_gather(part.astype(dtype), "fsdp", axis=axis, tiled=True)


def _forward(part: Array, axis: int, dtype: Any) -> tuple[Array, None]:
    return _all_gather(part, axis, dtype), None


def _backward(axis: int, _dtype: Any, _: None, gradient: Array) -> tuple[Array]:
    wide = gradient.astype(jnp.float32)
    return (lax.psum_scatter(wide, "fsdp", scatter_dimension=axis, tiled=True),)


_all_gather.defvjp(_forward, _backward)
