"""Where arrays live: one named mesh, and a sharding for batches and state before either exists.

The batch is split over `data` and `fsdp` together. A matrix of the state, be it a parameter, a
moment of the optimiser or an average, is split by its name and shape alone, so that all that belong
to one parameter lie alike:

- `tensor` cuts the blocks of a transformer as Megatron does (Shoeybi et al. 2019): what widens
  (`qkv`, `up`) by its outputs, biases too, what narrows again (`project`, `down`) by its inputs;
- `fsdp` cuts the largest axis that is left and that it divides;
- the layer axis of stacked blocks is never cut, for each device runs every layer;
- other vectors (biases, norms, tokens), a thousandth of the numbers, are whole everywhere.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from rejepa_jax import config
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.types import ConfigError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
ALL_DATA = config.Mesh()
TENSOR_AXIS = {"qkv": -1, "up": -1, "project": -2, "down": -2}  # of the kernels in such a block


def make_mesh(shape: config.Mesh = ALL_DATA, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Lays devices out along data, fsdp and tensor, neighbours along the last of them.

    Raises:
        ConfigError: the axes do not make up the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    split = shape.fsdp * shape.tensor
    data = len(devices) // split if shape.data == -1 else shape.data
    if data * split != len(devices):
        raise ConfigError(
            f"config.mesh: data = {shape.data}, fsdp = {shape.fsdp}, tensor = {shape.tensor} do "
            f"not make up the {len(devices)} devices; choose fsdp * tensor that divides them, and "
            "data = -1"
        )
    return Mesh(_grid((data, shape.fsdp, shape.tensor), devices), AXES)


def _grid(sizes: tuple[int, int, int], devices: Sequence[jax.Device]) -> Any:
    """Orders devices so that those of an axis are near each other, and slices are along `data`."""
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    data, fsdp, tensor = sizes
    if data % slices:
        raise ConfigError(
            f"config.mesh: data = {data} must be a multiple of the {slices} slices, between which "
            "nothing but gradients is to be sent; choose a smaller fsdp or tensor"
        )
    within = (data // slices, fsdp, tensor)
    return mesh_utils.create_hybrid_device_mesh(
        within, (slices, 1, 1), devices, allow_split_physical_axes=True
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Splits the leading axis over data and fsdp together."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, shapes: Any) -> Any:
    """Gives each array of a state, described by its shapes, its place."""
    places = [
        NamedSharding(mesh, partition(name, leaf.shape, mesh))
        for name, leaf in named_arrays(shapes).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(shapes), places)


def partition(name: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """Returns which mesh axis splits which axis of an array, by the rule above."""
    *path, _ = name.split("/")
    free = list(range(is_stacked(name), len(shape)))  # not the layers
    cuts: list[str | None] = [None] * len(shape)
    if is_stacked(name) and path[-1] in TENSOR_AXIS:
        wanted = len(shape) + TENSOR_AXIS[path[-1]]
        _cut(cuts, [axis for axis in free if axis == wanted], shape, "tensor", mesh)
    if len(free) > 1:
        _cut(cuts, [axis for axis in free if cuts[axis] is None], shape, "fsdp", mesh)
    return PartitionSpec(*cuts)


def is_stacked(name: str) -> bool:
    """Says whether an array has a leading layer axis."""
    return "blocks" in name.split("/")


def _cut(
    cuts: list[str | None],
    axes: list[int],
    shape: tuple[int, ...],
    over: str,
    mesh: Mesh | AbstractMesh,
) -> None:
    """Marks the largest of some axes that a mesh axis divides."""
    ways = mesh.shape[over]
    fitting = [axis for axis in axes if shape[axis] % ways == 0]
    if ways > 1 and fitting:
        cuts[max(fitting, key=lambda axis: shape[axis])] = over


def check_batch_size(mesh: Mesh, batch_size: int, key: str) -> None:
    """Refuses a batch that does not divide over the devices that split it.

    Raises:
        ConfigError: naming the key to change.
    """
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % ways:
        raise ConfigError(
            f"config.{key} = {batch_size} must be a multiple of the {ways} devices that split it; "
            f"try {-(-batch_size // ways) * ways}"
        )
