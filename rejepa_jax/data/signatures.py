"""Thumbnails by which images can be told apart or recognised, and a search for those alike.

A signature is a thumbnail of square cells: the mean of each cell's known pixels, each band brought
to mean 0 and length 1, so that brightness and contrast do not count; then the whole to length 1.
The product of two is the mean correlation of their bands.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt32

from rejepa_jax.console import Progress

TABLES, BITS = 32, 32  # hash tables, and signs in the code of an image in each of them
MOST_BITS = 24  # of these that have to be equal, at most
WINDOW = 64  # images of one code that an image is compared with, at most
CHUNK = 1 << 16  # pairs compared at once
SEED = 0
FLAT = 1e-5  # a band whose cells differ by less, as a share of their mean, has no contrast

Signatures = Float[np.ndarray, "r d"]
Codes = UInt32[np.ndarray, "t r"]
Pairs = Int[np.ndarray, "_ 2"]  # rows


def describe(
    images: Shaped[np.ndarray, "b h w c"], cells: int, nodata: float | None
) -> Float[np.ndarray, "b d"]:
    """Computes signatures; zeros of an image without contrast in any band."""
    b, height, width, c = images.shape
    rows, columns = (_starts(side, cells) for side in (height, width))

    def add(values: Shaped[np.ndarray, "b h w c"]) -> Float[np.ndarray, "b k c"]:
        sums = np.add.reduceat(np.add.reduceat(values, rows, axis=1), columns, axis=2)
        return sums.reshape(b, -1, c)

    known = np.ones(images.shape, np.float32) if nodata is None else images != nodata
    counts = add(known.astype(np.float32))
    sums = add(images.astype(np.float32) * known)
    means = sums.sum(axis=1, keepdims=True) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # A cell without a known pixel is like the mean.
    values = np.where(counts > 0, sums / np.maximum(counts, 1) - means, 0)
    values -= values.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(values).sum(axis=1, keepdims=True))
    has_contrast = length > FLAT * np.abs(means) * np.sqrt(values.shape[1])
    values = np.where(has_contrast, values / np.where(has_contrast, length, 1), 0)
    bands = np.maximum(has_contrast.sum(axis=2, keepdims=True), 1)
    return (values / np.sqrt(bands)).reshape(b, -1)


def _starts(side: int, cells: int) -> Int[np.ndarray, " _"]:
    """Cuts a side into cells of two pixels at least, so that there is noise to average away."""
    count = max(1, min(cells, side // 2))
    return np.arange(count) * side // count


def directions(dimension: int) -> Float[np.ndarray, "d tk"]:
    """Draws the random directions of all tables."""
    drawn = np.random.default_rng(SEED).standard_normal((dimension, TABLES * BITS))
    return drawn.astype(np.float32)


def encode(
    signatures: Float[np.ndarray, "b d"], towards: Float[np.ndarray, "d tk"]
) -> UInt32[np.ndarray, "t b"]:
    """Gives each signature one code a table: the signs along its directions (Charikar 2002)."""
    signs = (signatures.astype(np.float32) @ towards > 0).reshape(-1, TABLES, BITS)
    return np.packbits(signs, axis=2).view(">u4")[..., 0].astype(np.uint32).T


def alike(
    signatures: Signatures,
    codes: Codes,
    group: Int[np.ndarray, " r"],
    least: float,
) -> Pairs:
    """Finds pairs of rows of different groups whose signatures correlate by `least` or more.

    Two signatures meet if they have the same first signs in one of the tables: at a correlation of
    0.97 with a probability above 0.99 (0.92 is the chance that one sign is equal, and as many are
    asked for as two rows of all have in common by accident). Where more than `WINDOW` rows have
    the same, each meets those that are next to it by the other signs.
    """
    total = len(signatures)
    bits = min(max(int(np.log2(max(total, 2))), 4), MOST_BITS)
    found, progress = [np.zeros(0, np.int64)], Progress("compare", TABLES, "tables")
    has_contrast = np.flatnonzero(signatures.any(axis=1))
    for code in codes:
        order = has_contrast[np.argsort(code[has_contrast], kind="stable")]
        for one, other in _neighbours(order, code[order] >> np.uint32(BITS - bits)):
            differ = group[one] != group[other]
            found.append(_verified(signatures, one[differ], other[differ], least))
        found = [np.unique(np.concatenate(found))]
        progress.advance(1)
    return np.stack(np.divmod(found[0], total), axis=1)


def _neighbours(
    order: Int[np.ndarray, " n"], keys: UInt32[np.ndarray, " n"]
) -> Iterator[tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]]:
    """Yields rows with the same key, by their distance in the order."""
    for distance in range(1, WINDOW + 1):
        same = keys[distance:] == keys[:-distance]
        if not same.any():
            return
        yield order[:-distance][same], order[distance:][same]


def _verified(
    signatures: Signatures, one: Int[np.ndarray, " p"], other: Int[np.ndarray, " p"], least: float
) -> Int[np.ndarray, " q"]:
    """Returns the pairs that correlate enough, as smaller row x number of rows + larger row."""
    kept: list[Bool[np.ndarray, " p"]] = []
    for start in range(0, len(one), CHUNK):
        pair = [signatures[rows[start : start + CHUNK]].astype(np.float32) for rows in (one, other)]
        kept.append(np.einsum("pd,pd->p", *pair) >= least)
    where = np.concatenate(kept) if kept else np.zeros(0, bool)
    low, high = np.minimum(one, other)[where], np.maximum(one, other)[where]
    return low.astype(np.int64) * len(signatures) + high
