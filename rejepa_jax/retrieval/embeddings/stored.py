"""Vectors in a column: as they are, in half precision, in int8, or one bit a number.

Whatever they were multiplied with to be stored, dividing by their length brings them back.
"""

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32

from rejepa_jax.retrieval import codes
from rejepa_jax.types import ConfigError

METHODS = {  # dtype of an export -> how its vectors were quantised, in the words of STAC's `emb:`
    "float32": "",
    "float16": "half_precision",
    "int8": "int8_by_largest",
    "bits": "sign_bits",
}
_NUMBERS = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8(), "bits": pa.uint8()}
MAX_DIMENSION = 1 << 16


def check_dtype(dtype: str) -> None:
    """Refuses a dtype that no vectors are stored in."""
    if dtype not in METHODS:
        raise ConfigError(
            f"config.export.dtype = {dtype!r}, expected {' | '.join(METHODS)}; choose one of them"
        )


def column_type(dtype: str, dimension: int) -> pa.DataType:
    """Returns the type of the column `embedding`."""
    width = -(-dimension // codes.BYTE) if dtype == "bits" else dimension
    return pa.list_(pa.field("element", _NUMBERS[dtype], nullable=False), width)


def quantization(dtype: str) -> dict[str, str] | None:
    """Says how vectors were quantised; None where they were not."""
    if not METHODS[dtype]:
        return None
    stored = np.dtype(_NUMBERS[dtype].to_pandas_dtype()).name
    return {"method": METHODS[dtype], "original_dtype": "float32", "quantized_dtype": stored}


def to_columns(vectors: Float[np.ndarray, "r d"], dtype: str) -> dict[str, pa.Array]:
    """Returns `embedding`, and for int8 `scale`, with which its rows have length 1."""
    if dtype == "int8":
        stored, scale = codes.int8_codes(vectors)
        return {"embedding": _column(stored, dtype, stored.shape[1]), "scale": pa.array(scale)}
    stored = codes.bit_codes(vectors) if dtype == "bits" else vectors.astype(dtype)
    return {"embedding": _column(stored, dtype, vectors.shape[1])}


def decode(column: pa.FixedSizeListArray, dtype: str, dimension: int) -> Float32[np.ndarray, "r d"]:
    """Returns the vectors, of length 1; those stored as float32 without a copy."""
    stored = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    if dtype == "int8":
        return codes.decode_int8(stored)
    if dtype == "bits":
        return codes.decode_bits(stored, dimension)
    if dtype == "float16":
        vectors = stored.astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return stored


def to_float32(vectors: Float32[np.ndarray, "r d"]) -> pa.FixedSizeListArray:
    """Returns decoded vectors as a column."""
    return _column(vectors, "float32", vectors.shape[1])


def _column(stored: np.ndarray, dtype: str, dimension: int) -> pa.FixedSizeListArray:
    numbers = pa.array(np.ascontiguousarray(stored).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(numbers, type=column_type(dtype, dimension))
