"""Compact codes of unit vectors: int8 numbers and single bits.

A unit vector needs no scale of its own to be read back: whatever number its codes were multiplied
with, dividing them by their length undoes it. So codes alone are stored, and any engine that ranks
int8 columns by cosine ranks them as we do.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int8, UInt8, UInt32

from rejepa_jax.types import DataError

LARGEST = 127
BYTE = 8  # bits
WORD = 4  # bytes


class Int8Codes(NamedTuple):
    """Codes, and the factor that makes each row of them a unit vector: `1 / length`, derived."""

    codes: Int8[np.ndarray, "r d"]
    scale: Float32[np.ndarray, " r"]


def int8_codes(vectors: Float[np.ndarray, "r d"]) -> Int8Codes:
    """Rounds each vector to 255 steps, the outermost at its own largest number.

    Raises:
      DataError: a vector is zero or not finite: it has no direction to keep.
    """
    largest = np.abs(vectors).max(axis=1, initial=0)
    _refuse(~((largest > 0) & np.isfinite(largest)), "vectors")
    factor = (LARGEST / largest).astype(np.float32)
    codes = np.rint(vectors * factor[:, None]).astype(np.int8)
    return Int8Codes(codes, int8_scale(codes))


def int8_scale(codes: Int8[np.ndarray, "r d"]) -> Float32[np.ndarray, " r"]:
    """Returns what each row of codes is multiplied with to have length 1.

    Raises:
      DataError: a row is zero, which no vector's codes are.
    """
    squares = np.einsum("rd,rd->r", codes, codes, dtype=np.float32)
    _refuse(squares == 0, "int8 codes")
    return (1 / np.sqrt(squares)).astype(np.float32)


def decode_int8(codes: Int8[np.ndarray, "r d"]) -> Float32[np.ndarray, "r d"]:
    """Returns unit vectors; each number is off by at most half a step before normalisation.

    Raises:
      DataError: a row is zero, which no vector's codes are.
    """
    return codes * int8_scale(codes)[:, None]


def bit_codes(vectors: Float[np.ndarray, "r d"]) -> UInt8[np.ndarray, "r _bytes"]:
    """Keeps whether each number is above zero: the first in the highest bit, the last byte padded.

    Raises:
      DataError: a vector is not finite.
    """
    _refuse(~np.isfinite(np.einsum("rd,rd->r", vectors, vectors)), "vectors")
    return np.packbits(vectors > 0, axis=1)


def decode_bits(codes: UInt8[np.ndarray, "r _bytes"], d: int) -> Float32[np.ndarray, "r d"]:
    """Returns unit vectors of which every number is 1 / sqrt(d), above or below zero.

    Raises:
      DataError: the codes are not of `d` numbers.
    """
    if codes.shape[1] != -(-d // BYTE):
        raise DataError(
            f"bit codes: got {codes.shape[1]} bytes a vector, expected {-(-d // BYTE)} for {d} "
            "numbers; codes and width come from different encoders"
        )
    ones = np.unpackbits(codes, axis=1, count=d).astype(np.float32)
    return (2 * ones - 1) / np.float32(np.sqrt(d))


def words(codes: UInt8[np.ndarray, "r _bytes"]) -> UInt32[np.ndarray, "r _words"]:
    """Views bit codes as whole words, the last one padded, as `exact.top_k` compares them."""
    padding = -codes.shape[1] % WORD
    return np.ascontiguousarray(np.pad(codes, ((0, 0), (0, padding)))).view(np.uint32)


def _refuse(bad: np.ndarray, source: str) -> None:
    if bad.any():
        raise DataError(
            f"{source}: got {bad.sum()} of {len(bad)} that are zero or not finite, first in rows "
            f"{np.flatnonzero(bad)[:5].tolist()}, expected directions; look at these images"
        )
