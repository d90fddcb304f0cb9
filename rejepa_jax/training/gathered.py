"""A state that lies on many hosts, brought to the main process and back: they share no disk then.

Orbax lets each process write its part into one directory, which hosts that keep a run in a bucket
do not have: each has a mirror of its own.
"""

import pathlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from rejepa_jax import processes
from rejepa_jax.storage import mirror


def is_needed(directory: pathlib.Path) -> bool:
    """Whether processes of this run have each a directory of their own."""
    return processes.count() > 1 and mirror.find(directory) is not None


def to_main(state: Any) -> Any:
    """Returns the state's arrays whole, in the host's memory, of use to the main one."""
    return jax.tree.map(lambda array: multihost_utils.process_allgather(array, tiled=True), state)


def unfilled(like: Any) -> Any:
    """Returns arrays in the host's memory that have the shapes and dtypes of `like`."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)


def from_main(arrays: Any, like: Any) -> Any:
    """Returns the main process's arrays, each part where `like` has it."""

    def place(array: np.ndarray, leaf: Any) -> jax.Array:
        whole = np.asarray(multihost_utils.broadcast_one_to_all(array))
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, whole.__getitem__)

    return jax.tree.map(place, arrays, like)
