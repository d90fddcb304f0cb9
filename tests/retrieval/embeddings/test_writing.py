"""What is written: its schema as a plain reader sees it, boxes, refusals, equal bytes."""

import json
import struct
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_parts import FOOTER, full_part, multipolygon, plain_part, polygon, unit_rows, write

from rejepa_jax.retrieval.embeddings import schema, writing
from rejepa_jax.types import ConfigError, DataError


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
    table = pq.read_table(write(tmp_path, part) / "part-00000-of-00001.parquet")
    assert table["bbox"].to_pylist() == [{"xmin": -180, "ymin": -17, "xmax": 180, "ymax": -16}]
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["columns"]["geometry"]["geometry_types"] == ["MultiPolygon"]


def test_without_footprints_it_is_ordinary_parquet(tmp_path):
    table = pq.read_table(write(tmp_path, plain_part()) / "part-00000-of-00001.parquet")
    assert b"geo" not in table.schema.metadata
    assert not {"geometry", "bbox"} & set(table.column_names)


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
        ({"sensor": [*"abcd", ""]}, DataError, "row 4: got an empty sensor, expected a name"),
        ({"ids": ["", *"bcde"]}, DataError, "row 0: got an empty id, expected a name"),
        ({"split": ["train"]}, ConfigError, "1 values of split for 5 vectors"),
    ]


@pytest.mark.parametrize(("changes", "error", "message"), bad_parts())
def test_bad_columns_are_refused_and_nothing_is_left(tmp_path, changes, error, message):
    path = tmp_path / "part-00000-of-00001.parquet"
    with pytest.raises(error, match=message):
        writing.write_part(path, plain_part(**changes), FOOTER)
    assert not list(tmp_path.iterdir())


def test_a_part_without_a_fingerprint_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no fingerprint"):
        writing.write_part(tmp_path / "part-00000-of-00001.parquet", plain_part(), {})


def test_the_same_rows_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, full_part())
    first, second = ((tmp_path / name / schema.part_name(0, 1)).read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("a/b?.tif", "a/b?.tif"),
        ("https://user:secret@host.org/a.tif", "https://host.org/a.tif"),
        ("https://host.org/a.tif?sig=abc%3D&se=2026#x", "https://host.org/a.tif"),
        ("https://host.org/a@b.tif", "https://host.org/a@b.tif"),
        ("s3://KEY:SECRET@bucket/a.tif", "s3://bucket/a.tif"),
        ("/vsicurl/https://user@host.org/a.tif?token=1", "/vsicurl/https://host.org/a.tif"),
        ("/vsicurl?url=https%3A%2F%2Fhost.org%2Fa%3Fsig%3D1", "/vsicurl"),
        ("2017?/Übersicht am See.tif", "2017?/Übersicht am See.tif"),
    ],
)
def test_credentials_and_signatures_are_not_exported(tmp_path, given, written):
    part = plain_part(1, source_uri=[given])
    path = write(tmp_path, part) / "part-00000-of-00001.parquet"
    assert pq.read_table(path)["source_uri"].to_pylist() == [written]
    assert b"secret" not in path.read_bytes().lower()


def test_text_that_is_not_unicode_is_refused_and_nothing_is_left(tmp_path):
    path = tmp_path / "part-00000-of-00001.parquet"
    with pytest.raises(DataError, match=r"got the text 'a.udcff', expected Unicode; rename"):
        writing.write_part(path, plain_part(1, ids=["a\udcff"]), FOOTER)
    assert not list(tmp_path.iterdir())
