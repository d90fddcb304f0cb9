"""The code of docs/embeddings.md, run as it stands; values compared with what was written."""

import dataclasses
import io
import pathlib
import re

import numpy as np
import pytest
from export_parts import FOOTER, plain_part, polygon, unit_rows
from PIL import Image

from rejepa_jax.retrieval.embeddings import schema, stored, thumbnails, writing

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "embeddings.md"
BLOCKS = dict(
    re.findall(r"\*\*(\w+)\*\*[^\n]*\n(?:[^\n]+\n)*\n```python\n(.*?)```", PAGE.read_text(), re.S)
)
ROWS = 40
pytestmark = pytest.mark.interop


def export(folder, dtype):
    """Two parts; image n lies at 2 + n/10 degrees east, and every third is water."""
    for number in range(2):
        rows = range(number * ROWS, (number + 1) * ROWS)
        pictures = folder / thumbnails.zip_name(number, 2)
        with thumbnails.drawing(pictures, ("red", "green", "blue"), 8) as draw:
            uris = list(draw(np.array(rows), np.full((ROWS, 8, 8, 3), 200, np.uint8)))
        part = dataclasses.replace(
            plain_part(ROWS, first=rows[0], vectors=unit_rows(ROWS, 16, seed=number)),
            labels=[["water", "Ä'\"ö"] if row % 3 == 0 else [] for row in rows],
            split=["test" if row % 2 else "train" for row in rows],
            place=[f"place {row // 2}" for row in rows],
            geometry=[polygon(2 + row / 10, 40, 2.05 + row / 10, 41) for row in rows],
            datetime=["2017-06-13T10:10:31Z"] * ROWS,
            thumbnail_uri=uris,
        )
        writing.write_part(folder / schema.part_name(number, 2), part, FOOTER, dtype)


VECTORS = np.concatenate([unit_rows(ROWS, 16, seed=number) for number in range(2)])


def best(allowed, query=1):
    """The five best of the rows allowed, by an independent product."""
    scores = np.where(allowed, VECTORS.astype(float) @ VECTORS[query], -np.inf)
    order = np.argsort(-scores, kind="stable")[:5]
    return [f"patch_{row}" for row in order], scores[order]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a block of the page beside an export; returns its variables."""
    (tmp_path / "embeddings").mkdir()
    monkeypatch.chdir(tmp_path)

    def run_block(name, dtype="float32"):
        export(tmp_path / "embeddings", dtype)
        found = {}
        exec(compile(BLOCKS[name], name, "exec"), found)
        return found

    return run_block


def test_the_page_has_every_reader():
    assert set(BLOCKS) == {"Here", "PyArrow", "DuckDB", "GeoPandas", "LanceDB"}


def test_here(run):
    found = run("Here")
    np.testing.assert_array_equal(found["everything"].vectors, VECTORS)
    assert found["columns"]["place"].to_pylist() == [f"place {row // 2}" for row in range(80)]
    assert found["footer"]["rows"] == 80
    assert len(found["vectors"]) == 40  # of the last batch: none spans two parts
    assert Image.open(io.BytesIO(found["picture"])).size == (8, 8)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "bits"])
def test_pyarrow_reads_the_vectors_without_a_copy(run, dtype):
    found = run("PyArrow", dtype)
    stored_as = stored.to_columns(VECTORS[:40], dtype)["embedding"]
    np.testing.assert_array_equal(found["flat"], stored_as.flatten().to_numpy())
    assert not found["flat"].flags.owndata


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float16", 1e-3), ("int8", 1e-2)]
)
def test_duckdb_ranks_filters_and_reads_footprints(run, dtype, tolerance):
    found = run("DuckDB", dtype)
    ids, scores = best(np.arange(80) % 3 == 0)
    assert [name for name, _ in found["nearest"]] == ids
    np.testing.assert_allclose([score for _, score in found["nearest"]], scores, atol=tolerance)
    (text,) = (row[0] for row in found["footprint"])
    assert text == "POLYGON ((2.2 40, 2.25 40, 2.25 41, 2.2 41, 2.2 40))"


def test_duckdb_reads_every_column_as_it_was_written(run):
    import duckdb

    run("DuckDB")
    got = duckdb.sql(
        "SELECT id, labels, split, place, epoch(datetime), thumbnail_uri, cloud_fraction, "
        "embedding FROM 'embeddings/part-*.parquet' WHERE row = 45"
    ).fetchall()
    ((name, labels, split, place, time, uri, clouds, vector),) = got
    assert (name, split, place, clouds) == ("patch_45", "test", "place 22", None)
    assert labels == ["water", "Ä'\"ö"]
    assert time == 1497348631
    assert uri == "thumbnails-00001-of-00002.zip/0000045.webp"
    np.testing.assert_array_equal(np.float32(vector), VECTORS[45])


def test_geopandas_reads_crs_footprints_vectors_and_the_part_inside_a_box(run):
    found = run("GeoPandas")
    part = found["part"]
    assert part.crs == "OGC:CRS84"
    np.testing.assert_array_equal(np.stack(part["embedding"]), VECTORS[:40])
    np.testing.assert_allclose(part.geometry.bounds.iloc[7], [2.7, 40, 2.75, 41])
    assert found["inside"]["row"].tolist() == list(range(1, 23))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_lancedb_filters_and_ranks(run, dtype):
    found = run("LanceDB", dtype)
    ids, scores = best(np.arange(80) % 2 == 1)
    assert [hit["id"] for hit in found["hits"]] == ids
    np.testing.assert_allclose([1 - hit["_distance"] for hit in found["hits"]], scores, atol=1e-3)
