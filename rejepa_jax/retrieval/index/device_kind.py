"""The kind `device`: the gallery lies spread over the memory of all accelerators of a mesh.

Each device searches its own rows; only k candidates of each travel. So the gallery may be as large
as the memory of all devices together, and no process or device ever holds it whole.
"""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Int64, Shaped

from rejepa_jax.retrieval.brute import traced
from rejepa_jax.retrieval.brute.on_device import padded, power_of_two
from rejepa_jax.retrieval.brute.products import refuse_infinite
from rejepa_jax.retrieval.index.interface import Answer, Kind, Nearest, Recipe
from rejepa_jax.types import ConfigError

AXIS = "gallery"
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(jnp.bfloat16)}
QUERIES = 1024  # at a time
LAST_INT32 = 2**31 - 1


def make_mesh() -> Mesh:
    """Returns one axis over every device of this process, which indexes alone."""
    devices = jax.local_devices()
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def spread(
    array: Shaped[np.ndarray, "r ..."], mesh: Mesh, dtype: np.dtype
) -> Shaped[Array, "_ ..."]:
    """Puts rows on the mesh in equal shares, the last filled up; each share is read on its own."""
    rows = len(array)
    share = math.ceil(rows / mesh.size)
    shape = (share * mesh.size, *array.shape[1:])

    def read(index: tuple[slice, ...] | None) -> np.ndarray:
        start, stop, _ = (index or (slice(None),))[0].indices(shape[0])
        part = np.zeros((stop - start, *shape[1:]), dtype)
        part[: max(0, min(stop, rows) - start)] = array[start:stop]
        return part

    return jax.make_array_from_callback(shape, NamedSharding(mesh, PartitionSpec(AXIS)), read)


@functools.partial(jax.jit, static_argnames=("k", "recall_target", "mesh"))
def search(
    queries: Float[Array | np.ndarray, "q d"],
    vectors: Shaped[Array, "r d"],
    allowed: Bool[Array, " r"],
    k: int,
    recall_target: float,
    mesh: Mesh,
) -> tuple[Array, Array, Array, Array]:
    """Returns scores, row on its device, that device's place, and whether all was finite."""
    share = len(vectors) // mesh.size
    block = traced.block_rows(len(queries), share, min(k, share))
    pick = functools.partial(traced.select_about, recall_target=recall_target)
    pick = traced.select if recall_target == 1 else pick

    def one(queries: Array, vectors: Array, allowed: Array) -> tuple[Array, Array, Array, Array]:
        gallery = traced.Gallery(vectors, None, allowed)
        best = traced.nothing(len(queries), min(k, share))
        best = traced.search(queries, gallery, best, jnp.int32(0), block, pick)
        # Side by side in the order of the devices, which is row order: equal scores stay by row.
        scores, rows = jax.lax.all_gather((best.scores, best.rows), AXIS, axis=1, tiled=True)
        scores, places = jax.lax.top_k(scores, k)
        owner = places // best.scores.shape[1]
        is_finite = jax.lax.pmin(best.is_finite.astype(jnp.int32), AXIS) == 1
        return scores, jnp.take_along_axis(rows, places, axis=1), owner, is_finite

    split = PartitionSpec(AXIS)
    whole = PartitionSpec()
    run = jax.shard_map(
        one, mesh=mesh, in_specs=(whole, split, split), out_specs=whole, check_vma=False
    )
    return run(jnp.asarray(queries), vectors, allowed)


def _open(_: Path, recipe: Recipe, stored: Float[np.ndarray, "r d"]) -> Nearest:
    mesh, rows = make_mesh(), len(stored)
    vectors = spread(stored, mesh, DTYPES[recipe["dtype"]])
    everything = spread(np.broadcast_to(np.True_, (rows,)), mesh, np.dtype(bool))
    share, target = len(vectors) // mesh.size, recipe["recall_target"]

    def nearest(queries: np.ndarray, k: int, allowed: Bool[np.ndarray, " r"] | None) -> Answer:
        mask = everything if allowed is None else spread(allowed, mesh, np.dtype(bool))
        scores = np.empty((len(queries), k), np.float32)
        found = np.empty((len(queries), k), np.int32 if rows <= LAST_INT32 else np.int64)
        for start in range(0, len(queries), QUERIES):
            part = queries[start : start + QUERIES]
            best = search(padded(part), vectors, mask, min(power_of_two(k), rows), target, mesh)
            refuse_infinite(best[3])
            leaves = (np.asarray(leaf)[: len(part), :k] for leaf in best[:3])
            window = slice(start, start + len(part))
            scores[window], local, owner = leaves
            found[window] = global_rows(local, owner, share)
        is_missing = np.isneginf(scores)
        scores[is_missing], found[is_missing] = np.nan, -1
        return scores, found

    return nearest


def global_rows(
    local: Int[np.ndarray, "q k"], owner: Int[np.ndarray, "q k"], share: int
) -> Int64[np.ndarray, "q k"]:
    """Numbers rows through: a device counts its own in int32, all of them together may not fit."""
    return owner.astype(np.int64) * share + local


def _recipe(_: int) -> Recipe:
    return {"dtype": "float32", "recall_target": 1.0}


def _write(_: Path, recipe: Recipe) -> None:
    """Writes nothing but the vectors that are there: they are spread when the index is opened.

    Raises:
      ConfigError: a dtype or recall target that there is not.
    """
    if recipe["dtype"] not in DTYPES or not 0 < recipe["recall_target"] <= 1:
        raise ConfigError(
            f"got {recipe}, expected dtype as one of {sorted(DTYPES)} and recall_target (of "
            "approx_max_k; 1 is exact) above 0, up to 1; change the index settings"
        )


DEVICE = Kind(write=_write, open=_open, recipe=_recipe)
