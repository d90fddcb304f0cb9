"""Parquet files of others, and footers that say anything."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_parts import plain_part, write
from hypothesis import given, settings
from hypothesis import strategies as st

from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.types import DataError


def test_other_parquet_files_are_refused(tmp_path):
    path = tmp_path / "part-00000-of-00001.parquet"
    table = pa.table({"id": ["a"], "embedding": [[1.0]]})
    for emb, message in (
        (None, "expected rejepa-embeddings/1"),
        ("no json", "expected rejepa-embeddings/1"),
        ("[1]", "expected rejepa-embeddings/1"),
        ('{"schema": "rejepa-embeddings/2"}', "embeddings/2.*, expected rejepa-embeddings/1"),
        (
            '{"schema": "rejepa-embeddings/1", "fingerprint": "f", "rows": 1, "dimension": 1}',
            "got column row of type none, expected int64",
        ),
    ):
        pq.write_table(table.replace_schema_metadata({"emb": emb} if emb else None), path)
        with pytest.raises(DataError, match=message):
            reading.read(tmp_path)


def test_a_footer_that_miscounts_is_refused(tmp_path):
    path = write(tmp_path, plain_part(4)) / "part-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 3), path)
    with pytest.raises(DataError, match="got 3 rows, expected 4; export it again"):
        reading.read(tmp_path)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A part, its table, its footer, and what is read of it."""
    folder = write(tmp_path_factory.mktemp("export"), plain_part(4))
    path = folder / "part-00000-of-00001.parquet"
    table = pq.read_table(path)
    return path, table, json.loads(table.schema.metadata[b"emb"]), reading.read(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)
KEYS = ("schema", "fingerprint", "rows", "dimension", "dtype", "quantization", "model", "metric")


def refused_or_the_same(path, footer, expected):
    table = pq.read_table(path).replace_schema_metadata({"emb": footer})
    pq.write_table(table, path)
    try:
        got = reading.read(path.parent)
    except DataError:
        return
    assert got.ids == expected.ids
    assert got.labels == expected.labels
    np.testing.assert_array_equal(got.vectors, expected.vectors)


@settings(max_examples=60, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1),
    gone=st.sets(st.sampled_from(KEYS)),
)
def test_a_footer_that_says_anything_is_refused_or_changes_nothing(export, changes, gone):
    path, _, footer, expected = export
    changed = {key: value for key, value in (footer | changes).items() if key not in gone}
    refused_or_the_same(path, json.dumps(changed), expected)


@settings(max_examples=40, deadline=None)
@given(text=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_footer_of_any_bytes_is_refused(export, text):
    refused_or_the_same(export[0], text, export[3])


@pytest.mark.parametrize(
    "changes",
    [
        {"dimension": 10**30},
        {"dimension": 1 << 40},
        {"dimension": -1},
        {"dimension": 8.0},
        {"dimension": True},
        {"rows": "4"},
        {"fingerprint": ["f"]},
        {"fingerprint": ""},
        {"dtype": "int8"},
        {"dtype": ["float32"]},
        {"quantization": {"method": "another"}},
        {"schema": "rejepa-embeddings/2"},
    ],
)
def test_numbers_and_names_that_cannot_be_are_refused(export, changes):
    path, table, footer, _ = export
    pq.write_table(table.replace_schema_metadata({"emb": json.dumps(footer | changes)}), path)
    with pytest.raises(DataError, match="expected"):
        reading.read(path.parent)


def test_json_nested_without_end_is_refused(export):
    pq.write_table(export[1].replace_schema_metadata({"emb": "[" * 100_000}), export[0])
    with pytest.raises(DataError, match="expected rejepa-embeddings/1"):
        reading.read(export[0].parent)


def change(table, name, column):
    return table.set_column(table.schema.get_field_index(name), name, column)


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("id", pa.array([1, 2, 3, 4]), "column id of type int64, expected string"),
        ("labels", pa.array(["a"] * 4), "column labels of type string, expected list"),
        ("row", pa.array(["0", "1", "2", "3"]), "column row of type string, expected int64"),
        ("row", pa.array([0, 1, 3, 2]), r"got rows \[0\] to \[2\] or out of order"),
        ("row", pa.array([0, 1, None, 3]), "or out of order"),
        ("embedding", pa.array([[1.0]] * 4), "column embedding of type list"),
    ],
)
def test_columns_of_other_types_and_orders_are_refused(export, name, column, message):
    path, table, _, _ = export
    pq.write_table(change(table, name, column), path)
    with pytest.raises(DataError, match=message):
        reading.read(path.parent)


def test_vectors_that_are_missing_or_of_no_length_are_refused(export):
    path, table, _, _ = export
    kind = table.schema.field("embedding").type
    for bad, message in (
        ([np.nan] + [0] * 7, "not finite"),
        ([0] * 8, "a length other than 1"),
        ([2] + [0] * 7, "a length other than 1"),
    ):
        vectors = np.array([[1.0] + [0] * 7] * 3 + [bad], np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=kind)
        pq.write_table(change(table, "embedding", column), path)
        for read in (reading.read, lambda folder: list(reading.iterate(folder))):
            with pytest.raises(DataError, match=f"1 of 4 vectors with .*{message}.* rows \\[3\\]"):
                read(path.parent)


def test_text_that_is_not_utf8_is_refused(export):
    path, table, _, _ = export
    raw = pa.array([b"a", b"\xff\xfe", b"c", b"d"], pa.binary())
    pq.write_table(change(table, "id", raw.view(pa.string())), path)
    with pytest.raises(DataError, match=r"damaged file.*UTF8"):
        reading.read(path.parent)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=20, deadline=None)
@given(ids=st.lists(TEXT, min_size=1, max_size=5, unique=True), labels=st.lists(TEXT, max_size=4))
def test_ids_and_labels_of_any_letters_come_back(tmp_path_factory, ids, labels):
    folder = tmp_path_factory.mktemp("letters")
    rows = len(ids)
    part = plain_part(rows, ids=ids, labels=[labels] * rows, split=ids, sensor=ids, place=ids)
    got = reading.read(write(folder, part))
    assert (got.ids, got.sensor, got.split) == (ids, ids, ids)
    assert got.labels == [labels] * rows
    assert got.table["place"].to_pylist() == [name or None for name in ids]
    assert len(set(got.table["uuid"].to_pylist())) == rows
