"""What was written comes back, whole or in pieces; what is damaged or mixed up is refused."""

import dataclasses
import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_parts import FOOTER, full_part, full_part_from, plain_part, unit_rows, write

from rejepa_jax.retrieval.embeddings import reading, schema, writing
from rejepa_jax.types import ConfigError, DataError


def test_what_is_written_is_read(tmp_path):
    part = full_part()
    got = reading.read(write(tmp_path, part))
    np.testing.assert_array_equal(got.vectors, part.vectors)
    assert got.vectors.dtype == np.float32
    assert got.ids == part.ids
    assert got.labels == [[], ["water"], ["water", "crops"]]
    assert got.split == ["train", "", "test"]
    assert got.sensor == ["s2"] * 3
    assert got.fingerprint == FOOTER["fingerprint"]
    assert got.footer == FOOTER | {
        "schema": "rejepa-embeddings/1",
        "dimension": 8,
        "dtype": "float32",
        "normalized": True,
        "metric": "cosine",
        "quantization": None,
        "rows": 3,
    }
    columns = got.table.to_pydict()
    assert "embedding" not in columns
    assert columns["geometry"] == [part.geometry[0], None, part.geometry[2]]
    assert columns["proj_code"] == ["EPSG:32634", None, "EPSG:32630"]
    assert columns["proj_transform"] == [
        list(part.proj_transform[0]),
        None,
        [10, 0, 7e5, 0, -10, 6e6],
    ]
    assert columns["proj_shape"] == [[120, 120], None, [120, 60]]
    assert columns["source_uri"] == ["a/b.tif", None, "c.tif"]
    assert columns["valid_fraction"] == [1, None, 0]
    utc = datetime.UTC
    assert columns["datetime"] == [
        datetime.datetime(2017, 6, 13, 10, 10, 31, tzinfo=utc),
        None,
        datetime.datetime(2018, 1, 2, 3, 4, 5, 250000, tzinfo=utc),
    ]


def test_parts_are_joined_in_row_order(tmp_path):
    parts = plain_part(5), plain_part(0, first=5), full_part_from(5), plain_part(4, first=8)
    got = reading.read(write(tmp_path, *parts))
    np.testing.assert_array_equal(got.vectors, np.concatenate([part.vectors for part in parts]))
    assert got.ids == [name for part in parts for name in part.ids]
    assert got.footer["rows"] == 12
    assert got.table["geometry"].null_count == 10  # only one of the parts knows footprints
    listed = reading.read(sorted(tmp_path.iterdir(), reverse=True))
    assert listed.ids == got.ids


def test_only_columns_asked_for_are_read(tmp_path):
    write(tmp_path, full_part())
    got = reading.read(tmp_path, columns=["datetime"])
    assert set(got.table.column_names) == {"id", "row", "labels", "split", "sensor", "datetime"}
    with pytest.raises(ConfigError, match=r"columns \['cloud'\], expected some of \['id'"):
        reading.read(tmp_path, columns=["cloud"])


def test_a_flipped_bit_is_refused(tmp_path):
    path = write(tmp_path, full_part_from(0)) / "part-00000-of-00001.parquet"
    whole, group = path.read_bytes(), pq.read_metadata(path).row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    for chunk in chunks:
        # The last byte of a chunk is page data, whatever the length of the page's header.
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        at = start + chunk.total_compressed_size - 1
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataError, match=r"part-00000-of-00001\.parquet: got a damaged file"):
            reading.read(tmp_path)
    path.write_bytes(whole)
    assert len(reading.read(tmp_path).ids) == 3


@pytest.mark.parametrize("keep", [0, 10, 700, -1])
def test_a_cut_file_is_refused(tmp_path, keep):
    path = write(tmp_path, plain_part()) / "part-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged file"):
        reading.read(tmp_path)


def test_incomplete_sets_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no part, expected part-00000-of-00001"):
        reading.read(tmp_path)
    write(tmp_path, plain_part(2), plain_part(2, first=2), plain_part(2, first=4))
    (tmp_path / "part-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match=r"missing parts \['part-00001-of-00003.parquet'\]"):
        reading.read(tmp_path)
    write(tmp_path, plain_part(2))
    with pytest.raises(DataError, match=r"unexpected files \['part-00000-of-00003.parquet'"):
        reading.read(tmp_path)


def refused_sets():
    other = FOOTER | {"fingerprint": "cd" * 32}
    first, second = plain_part(3), plain_part(3, first=3)
    repeated = dataclasses.replace(second, ids=["x", "patch_1", "y"])
    wide = dataclasses.replace(second, vectors=unit_rows(3, dim=9))
    return [
        ((first, second), (FOOTER, other), "00001-of-00002.parquet: got fingerprint cdcd.* abab"),
        ((first, wide), None, "00001-of-00002.parquet: got dimension 9, expected 8"),
        ((first, repeated), None, "00001-of-00002.parquet: got id 'patch_1' twice"),
        (
            (first, plain_part(3, first=4)),
            None,
            "00001-of-00002.parquet: got rows .* expected 3 to 5",
        ),
        ((plain_part(2, ids=["a", "a"]),), None, "00000-of-00001.parquet: got id 'a' twice"),
        ((second,), None, "00000-of-00001.parquet: got rows .* expected 0 to 2"),
    ]


@pytest.mark.parametrize(("parts", "footers", "message"), refused_sets())
def test_parts_that_do_not_belong_together_are_refused(tmp_path, parts, footers, message):
    write(tmp_path, *parts, footers=footers)
    with pytest.raises(DataError, match=message):
        reading.read(tmp_path)


def mixed_parts():
    """A part with footprints between two without: the export holds the columns of all."""
    return plain_part(5), full_part_from(5), plain_part(17_000, first=8)


def test_columns_alone_are_what_a_whole_reading_gives_beside_the_vectors(tmp_path, monkeypatch):
    write(tmp_path, *mixed_parts())
    whole = reading.read(tmp_path)
    monkeypatch.setattr(reading.stored, "decode", None)  # no vector may be touched
    table, footer = reading.read_columns(tmp_path)
    assert table.equals(whole.table)
    assert "embedding" not in table.column_names
    assert footer == whole.footer
    assert footer["rows"] == 17_008
    some, _ = reading.read_columns(tmp_path, columns=["proj_code"])
    assert set(some.column_names) == {"id", "row", "labels", "split", "sensor", "proj_code"}


@pytest.mark.parametrize("rows", [4_000, 100_000])
def test_pieces_have_one_schema_and_make_up_the_whole(tmp_path, rows):
    write(tmp_path, *mixed_parts())
    whole = reading.read(tmp_path)
    pieces = list(reading.iterate(tmp_path, rows=rows))
    assert max(map(len, pieces)) <= rows
    table = pa.Table.from_batches(pieces)  # refuses schemas that differ
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 8)
    np.testing.assert_array_equal(vectors, whole.vectors)
    assert table["geometry"].to_pylist() == whole.table["geometry"].to_pylist()
    assert table["id"].to_pylist() == whole.ids
    (first, *_) = reading.iterate(tmp_path, columns=["place"], rows=rows)
    assert set(first.schema.names) == {
        *reading.read(tmp_path, ["place"]).table.column_names,
        "embedding",
    }


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "bits"])
def test_vectors_alone_are_those_of_a_whole_reading_in_memory_and_in_a_file(
    tmp_path, monkeypatch, dtype
):
    folder = tmp_path / "export"
    folder.mkdir()
    for part, rows in enumerate((5, 0, 9)):
        path = folder / schema.part_name(part, 3)
        writing.write_part(path, plain_part(rows, first=(0, 5, 5)[part]), FOOTER, dtype)
    whole = reading.read(folder)
    monkeypatch.setattr(reading, "ROWS", 2)
    np.testing.assert_array_equal(reading.read_vectors(folder), whole.vectors)
    assert reading.copy_vectors(folder, tmp_path / "vectors.npy") == whole.footer
    copied = np.load(tmp_path / "vectors.npy", mmap_mode="r", allow_pickle=False)
    np.testing.assert_array_equal(copied, whole.vectors)
    assert copied.dtype == np.float32
    np.save(tmp_path / "again.npy", whole.vectors)
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "vectors.npy").read_bytes()


def test_pieces_of_an_altered_part_are_refused_when_they_are_reached(tmp_path):
    write(tmp_path, plain_part(3), plain_part(3, first=4))
    pieces = reading.iterate(tmp_path)
    assert len(next(pieces)) == 3
    with pytest.raises(DataError, match=r"00001-of-00002.parquet: got rows .* expected 3 to 5"):
        next(pieces)


def test_the_second_of_two_equal_ids_is_named_by_its_part(tmp_path):
    parts = plain_part(3), plain_part(3, first=3), plain_part(3, first=6, ids=["x", "patch_4", "y"])
    with pytest.raises(DataError, match=r"00002-of-00003.parquet: got id 'patch_4' twice"):
        reading.read_columns(write(tmp_path, *parts))


def test_parts_that_are_stored_in_different_forms_are_refused(tmp_path):
    for part in range(2):
        path = tmp_path / schema.part_name(part, 2)
        writing.write_part(path, plain_part(2, first=2 * part), FOOTER, ("float32", "int8")[part])
    with pytest.raises(DataError, match="got dtype int8, expected float32 as in part-00000"):
        reading.read(tmp_path)
