"""The exported file: what goes in comes out, plain Parquet readers open it, damage is refused."""

import dataclasses
import datetime
import json
import struct
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rejepa_jax.retrieval import embeddings
from rejepa_jax.types import ConfigError, DataError

FOOTER = {"fingerprint": "ab" * 32, "model": {"name": "target", "step": 7}, "licence": "CC0"}


def unit_rows(rows, dim=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ring(west, south, east, north, order="<"):
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return struct.pack(f"{order}I", 5) + b"".join(struct.pack(f"{order}dd", *c) for c in corners)


def polygon(*box, order="<"):
    return struct.pack(f"{order}BII", order == "<", 3, 1) + ring(*box, order=order)


def multipolygon(*boxes):
    return struct.pack("<BII", 1, 6, len(boxes)) + b"".join(polygon(*box) for box in boxes)


def plain_part(rows=5, first=0, **changes):
    part = embeddings.EmbeddingPart(
        first_row=first,
        ids=[f"patch_{first + i}" for i in range(rows)],
        vectors=unit_rows(rows, seed=first),
        sensor=["s2"] * rows,
        labels=[["water", "crops"][: i % 3] for i in range(rows)],
    )
    return dataclasses.replace(part, **changes)


def full_part():
    return plain_part(
        3,
        collection=["ben"] * 3,
        split=["train", "", "test"],
        geometry=[polygon(20.1, 44.2, 20.3, 44.4), b"", polygon(-1.7, 50, -1.6, 50.3, order=">")],
        proj_code=["EPSG:32634", "", "EPSG:32630"],
        proj_transform=[(10.0, 0.0, 3e5, 0.0, -10.0, 5e6), (), (10.0, 0.0, 7e5, 0.0, -10.0, 6e6)],
        proj_shape=[(120, 120), (), (120, 60)],
        datetime=["2017-06-13T10:10:31Z", "", "2018-01-02T03:04:05.250000Z"],
        source_uri=["a/b.tif", "", "c.tif"],
        valid_fraction=np.array([1, np.nan, 0], np.float32),
    )


def write(folder, *parts, footers=None):
    for i, part in enumerate(parts):
        path = folder / embeddings.part_name(i, len(parts))
        embeddings.write_part(path, part, footers[i] if footers else FOOTER)
    return folder


def test_what_is_written_is_read(tmp_path):
    part = full_part()
    got = embeddings.read(write(tmp_path, part))
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
    got = embeddings.read(write(tmp_path, *parts))
    np.testing.assert_array_equal(got.vectors, np.concatenate([part.vectors for part in parts]))
    assert got.ids == [name for part in parts for name in part.ids]
    assert got.footer["rows"] == 12
    assert got.table["geometry"].null_count == 10  # only one of the parts knows footprints
    listed = embeddings.read(sorted(tmp_path.iterdir(), reverse=True))
    assert listed.ids == got.ids


def full_part_from(first):
    return dataclasses.replace(full_part(), first_row=first, ids=[f"full_{i}" for i in range(3)])


def test_a_plain_reader_sees_the_schema(tmp_path):
    table = pq.read_table(write(tmp_path, full_part()) / "part-00000-of-00001.parquet")
    names = pa.dictionary(pa.int32(), pa.string())
    types = {field.name: (field.type, field.nullable) for field in table.schema}
    element = pa.field("element", pa.float32(), nullable=False)
    assert types["embedding"] == (pa.list_(element, 8), False)
    assert types["id"] == types["uuid"] == (pa.string(), False)
    assert types["row"] == (pa.int64(), False)
    assert types["sensor"] == (names, False)
    assert types["split"] == types["collection"] == (names, True)
    assert types["labels"] == (pa.list_(pa.string()), True)
    assert types["datetime"] == (pa.timestamp("us", tz="UTC"), True)
    assert types["valid_fraction"] == (pa.float32(), True)
    assert types["geometry"] == (pa.binary(), True)
    text = f"{FOOTER['fingerprint']}/ben/patch_1"
    assert table["uuid"][1].as_py() == str(uuid.uuid5(uuid.NAMESPACE_URL, text))
    assert len(set(table["uuid"].to_pylist())) == 3


def test_storage_is_as_documented(tmp_path):
    write(tmp_path, plain_part(20_000))
    metadata = pq.read_metadata(tmp_path / "part-00000-of-00001.parquet")
    assert [metadata.row_group(i).num_rows for i in range(2)] == [16384, 3616]
    group = metadata.row_group(0)
    columns = {c.path_in_schema: c for c in map(group.column, range(group.num_columns))}
    assert {c.compression for c in columns.values()} == {"ZSTD"}
    assert not columns["embedding.list.element"].has_dictionary_page
    assert columns["sensor"].has_dictionary_page
    assert columns["row"].has_offset_index


def test_geoparquet_metadata_and_covering(tmp_path):
    table = pq.read_table(write(tmp_path, full_part()) / "part-00000-of-00001.parquet")
    assert json.loads(table.schema.metadata[b"geo"]) == {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": ["Polygon"],
                "bbox": [-1.7, 44.2, 20.3, 50.3],
                "covering": {
                    "bbox": {edge: ["bbox", edge] for edge in ("xmin", "ymin", "xmax", "ymax")}
                },
            }
        },
    }
    first, unknown, last = table["bbox"].to_pylist()
    assert unknown is None
    for box, (west, south, east, north) in (
        (first, (20.1, 44.2, 20.3, 44.4)),
        (last, (-1.7, 50, -1.6, 50.3)),
    ):
        # Outward, and by less than one step of float32.
        for edge, exact, sign in (
            ("xmin", west, -1),
            ("ymin", south, -1),
            ("xmax", east, 1),
            ("ymax", north, 1),
        ):
            excess = (box[edge] - exact) * sign
            assert 0 <= excess < np.spacing(np.float32(abs(exact)))
    assert last["ymin"] == 50  # exact in float32: not moved


def test_a_footprint_split_at_the_antimeridian_covers_both_halves(tmp_path):
    halves = multipolygon((179.5, -17, 180, -16), (-180, -17, -179.5, -16))
    part = plain_part(1, geometry=[halves])
    table = embeddings.read(write(tmp_path, part)).table
    assert table["bbox"].to_pylist() == [{"xmin": -180, "ymin": -17, "xmax": 180, "ymax": -16}]
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["columns"]["geometry"]["geometry_types"] == ["MultiPolygon"]


def test_without_footprints_it_is_ordinary_parquet(tmp_path):
    table = pq.read_table(write(tmp_path, plain_part()) / "part-00000-of-00001.parquet")
    assert b"geo" not in table.schema.metadata
    assert not {"geometry", "bbox"} & set(table.column_names)


def test_only_columns_asked_for_are_read(tmp_path):
    write(tmp_path, full_part())
    got = embeddings.read(tmp_path, columns=["datetime"])
    assert set(got.table.column_names) == {"id", "row", "labels", "split", "sensor", "datetime"}
    with pytest.raises(ConfigError, match=r"columns \['cloud'\], expected some of \['id'"):
        embeddings.read(tmp_path, columns=["cloud"])


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
            embeddings.read(tmp_path)
    path.write_bytes(whole)
    assert len(embeddings.read(tmp_path).ids) == 3


@pytest.mark.parametrize("keep", [0, 10, 700, -1])
def test_a_cut_file_is_refused(tmp_path, keep):
    path = write(tmp_path, plain_part()) / "part-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged file"):
        embeddings.read(tmp_path)


def test_incomplete_sets_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no part, expected part-00000-of-00001"):
        embeddings.read(tmp_path)
    write(tmp_path, plain_part(2), plain_part(2, first=2), plain_part(2, first=4))
    (tmp_path / "part-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match=r"missing parts \['part-00001-of-00003.parquet'\]"):
        embeddings.read(tmp_path)
    write(tmp_path, plain_part(2))
    with pytest.raises(DataError, match=r"unexpected files \['part-00000-of-00003.parquet'"):
        embeddings.read(tmp_path)


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
        embeddings.read(tmp_path)


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
            r"no columns \['labels', 'row', 'sensor', 'split'\]",
        ),
    ):
        pq.write_table(table.replace_schema_metadata({"emb": emb} if emb else None), path)
        with pytest.raises(DataError, match=message):
            embeddings.read(tmp_path)


def test_a_footer_that_miscounts_is_refused(tmp_path):
    path = write(tmp_path, plain_part(4)) / "part-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 3), path)
    with pytest.raises(DataError, match=r"\(rows, type\) \(3, .* expected \(4, "):
        embeddings.read(tmp_path)


def bad_parts():
    nan = unit_rows(5)
    nan[[1, 4], 2] = np.nan
    ids = [f"patch_{i}" for i in range(5)]
    footprints = {
        "metres": polygon(300000, 4e6, 301200, 4001200),
        "cut": polygon(1, 2, 3, 4)[:-3],
        "point": struct.pack("<BIdd", 1, 1, 2.0, 3.0),
        "empty": struct.pack("<BII", 1, 3, 0),
        "text": b"POLYGON",
    }
    geometry = [({"geometry": [b"", wkb, b"", b"", b""]}, DataError) for wkb in footprints.values()]
    messages = ["patch_1: got a footprint over .* expected degrees"] + ["patch_1: .* no WKB"] * 4
    return [
        *[(*case, message) for case, message in zip(geometry, messages, strict=True)],
        ({"vectors": nan}, DataError, r"of-00001.parquet: got 2 of 5 .* not finite.* \[1, 4\]"),
        ({"vectors": 2 * unit_rows(5)}, DataError, "length other than 1"),
        ({"datetime": ["", "", "13/06/2017", "", ""]}, DataError, "patch_2: got datetime '13/06"),
        ({"ids": ids[:4]}, ConfigError, "4 values of ids for 5 vectors"),
        ({"sensor": []}, ConfigError, "0 values of sensor for 5 vectors"),
        ({"split": ["train"]}, ConfigError, "1 values of split for 5 vectors"),
    ]


@pytest.mark.parametrize(("changes", "error", "message"), bad_parts())
def test_bad_columns_are_refused_and_nothing_is_left(tmp_path, changes, error, message):
    path = tmp_path / "part-00000-of-00001.parquet"
    with pytest.raises(error, match=message):
        embeddings.write_part(path, plain_part(**changes), FOOTER)
    assert not list(tmp_path.iterdir())


def test_a_part_without_a_fingerprint_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no fingerprint"):
        embeddings.write_part(tmp_path / "part-00000-of-00001.parquet", plain_part(), {})


def test_the_same_rows_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, full_part())
    first, second = ((tmp_path / name / embeddings.part_name(0, 1)).read_bytes() for name in "ab")
    assert first == second
