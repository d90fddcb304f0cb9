"""Batches on their way from memory to the devices: which part is whose, and global arrays of it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Int, Shaped

from rejepa_jax.types import Batch

LocalBatch = dict[str, Any]  # a Batch of numpy arrays: this process's part


def own_places(place: NamedSharding, batch_size: int) -> Int[np.ndarray, " _"]:
    """Returns the places within a global batch that lie on devices of this process, in order.

    Processes whose devices hold the same part of it (`mesh.tensor`) have the same.
    """
    parts = place.addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[part] for part in parts]))


def to_device(batch: LocalBatch, place: NamedSharding) -> Batch:
    """Makes global arrays of every process's part; a batch without `valid` is all valid.

    Processes do not speak with one another here, so a thread may do it.
    """
    put = functools.partial(jax.make_array_from_process_local_data, place)
    return Batch(
        image={sensor: put(image) for sensor, image in batch["image"].items()},
        id=put(batch["id"]),
        valid=put(batch.get("valid", np.ones(len(batch["id"]), bool))),
    )


def resident_images(
    images: Mapping[str, Shaped[np.ndarray, "r h w c"]], first: int, place: NamedSharding
) -> Callable[[Batch], Batch]:
    """Puts images onto every device; returns what gives batches of row numbers their images.

    For small archives: nothing but row numbers, of which the smallest is `first`, then moves from
    host to device in a step.
    """
    everywhere = NamedSharding(place.mesh, PartitionSpec())
    held = jax.make_array_from_process_local_data(everywhere, dict(images))

    @functools.partial(jax.jit, out_shardings=place)
    def gather(held: dict[str, jax.Array], ids: jax.Array) -> dict[str, jax.Array]:
        return {sensor: image[ids - first] for sensor, image in held.items()}

    return lambda batch: Batch(
        image=gather(held, batch["id"]), id=batch["id"], valid=batch["valid"]
    )
