"""Vectors in a column, in each of the forms: the numbers worked out here, and back."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_parts import FOOTER, plain_part, unit_rows

from rejepa_jax.retrieval.embeddings import reading, schema, stored, writing
from rejepa_jax.types import ConfigError

VECTORS = np.array([[0.6, -0.8, 0.0], [0.0, 0.0, 1.0]], np.float32)


def test_float16_is_the_nearest_half_number_and_has_length_one_again():
    column = stored.to_columns(VECTORS, "float16")["embedding"]
    # In half precision 0.6 is 1229 / 2048 and 0.8 is 1638 / 2048.
    assert column.to_pylist() == [[1229 / 2048, -1638 / 2048, 0], [0, 0, 1]]
    expected = np.array([1229, -1638, 0]) / np.hypot(1229, 1638)
    np.testing.assert_allclose(stored.decode(column, "float16", 3)[0], expected, rtol=1e-6)


def test_int8_is_in_steps_of_the_largest_number_and_the_scale_gives_length_one():
    columns = stored.to_columns(VECTORS, "int8")
    assert columns["embedding"].to_pylist() == [[95, -127, 0], [0, 0, 127]]  # 95.25 is rounded
    length = np.hypot(95, 127)
    np.testing.assert_allclose(columns["scale"].to_numpy(), [1 / length, 1 / 127], rtol=1e-6)
    expected = [[95 / length, -127 / length, 0], [0, 0, 1]]
    np.testing.assert_allclose(stored.decode(columns["embedding"], "int8", 3), expected, rtol=1e-6)


def test_bits_are_signs_the_first_in_the_highest_bit():
    vectors = np.full((1, 10), 0.1**0.5, np.float32) * ([[1, -1] * 4 + [-1, 1]])
    column = stored.to_columns(vectors.astype(np.float32), "bits")["embedding"]
    assert column.to_pylist() == [[0b10101010, 0b01000000]]
    np.testing.assert_allclose(stored.decode(column, "bits", 10), vectors, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "kind", "width", "similar", "quantized"),
    [
        ("float32", pa.float32(), 50, 1 - 1e-6, None),
        ("float16", pa.float16(), 50, 1 - 1e-6, "float16"),
        ("int8", pa.int8(), 50, 0.9999, "int8"),
        ("bits", pa.uint8(), 7, 0.5, "uint8"),
    ],
)
def test_each_form_is_written_told_in_the_footer_and_read_as_unit_float32(
    tmp_path, dtype, kind, width, similar, quantized
):
    part = plain_part(7, vectors=unit_rows(7, 50))
    path = tmp_path / schema.part_name(0, 1)
    writing.write_part(path, part, FOOTER, dtype)
    field = pq.read_schema(path).field("embedding")
    assert (field.type.value_type, field.type.list_size, field.nullable) == (kind, width, False)
    got = reading.read(tmp_path)
    assert got.footer["dtype"] == dtype
    assert got.footer["dimension"] == 50
    assert (got.footer["quantization"] or {}).get("quantized_dtype") == quantized
    assert got.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(got.vectors, axis=1), 1, atol=1e-6)
    assert (np.sum(got.vectors * part.vectors, axis=1) > similar).all()
    (batch,) = reading.iterate(tmp_path)
    assert batch["embedding"].type == stored.column_type("float32", 50)
    np.testing.assert_array_equal(
        batch["embedding"].flatten().to_numpy().reshape(7, 50), got.vectors
    )


def test_a_slice_of_a_column_is_decoded_from_its_own_rows():
    column = stored.to_columns(VECTORS, "int8")["embedding"].slice(1)
    np.testing.assert_array_equal(stored.decode(column, "int8", 3), [[0, 0, 1]])


def test_an_unknown_form_is_refused():
    with pytest.raises(ConfigError, match=r"'int4', expected float32 \| float16 \| int8 \| bits"):
        stored.check_dtype("int4")
