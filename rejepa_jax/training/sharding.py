"""Where arrays live: one named mesh, and a sharding for batches and state before either exists."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rejepa_jax.types import ConfigError


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, `data`."""
    return Mesh(np.asarray(jax.devices()), ("data",))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Splits the leading axis over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, shapes: Any) -> Any:
    """Gives each array of a state, described by its shapes, its place: so far, on every device."""
    return jax.tree.map(lambda _: replicated(mesh), shapes)


def check_batch_size(mesh: Mesh, batch_size: int, key: str) -> None:
    """Refuses a batch that does not divide over the devices.

    Raises:
        ConfigError: naming the key to change.
    """
    if batch_size % mesh.size:
        raise ConfigError(
            f"config.{key} = {batch_size} must be a multiple of the {mesh.size} devices; try "
            f"{-(-batch_size // mesh.size) * mesh.size}"
        )
