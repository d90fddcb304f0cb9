"""Exports: every record with all that is known of it; interrupted or shared out, the same bytes."""

import json
import zipfile

import export_runs
import fake_archive
import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from export_parts import polygon

from rejepa_jax import artifacts
from rejepa_jax.config import Export
from rejepa_jax.data.preprocess import SensorInput
from rejepa_jax.retrieval.embeddings import exporting, reading, schema, writing
from rejepa_jax.retrieval.embeddings import footer as made
from rejepa_jax.retrieval.embeddings.making import valid_fraction
from rejepa_jax.retrieval.encoder import save_bundle
from rejepa_jax.types import ConfigError

EXPORT = Export(thumbnails=8, part_rows=4)
PARTS = [schema.part_name(number, 3) for number in range(3)]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    records = export_runs.make_records(tmp_path_factory.mktemp("records"))
    return export_runs.Placed(**vars(records))


@pytest.fixture(scope="module")
def embedder(records):
    return export_runs.Quick(export_runs.make_bundle(records))


@pytest.fixture
def unbroken(embedder, records, tmp_path):
    """The sha256 of every file of an export that nothing interrupted."""
    folder = tmp_path / "unbroken"
    folder.mkdir()
    exporting.write_embeddings(embedder, records, folder, 3, EXPORT)
    return export_runs.digests(folder)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "export").mkdir()
    return tmp_path / "export"


def test_every_record_is_written_in_row_order_with_all_that_is_known(embedder, records, folder):
    built = exporting.write_embeddings(embedder, records, folder, 3, EXPORT)
    assert built.info == {"rows": 10, "fingerprint": "mark" * 10, "dtype": "float32"}
    got = reading.read(folder)
    images = np.stack([fake_archive.pixels(n, records.schema)["s2"] for n in range(10)])
    np.testing.assert_array_equal(got.vectors, export_runs.quick_vectors(images))
    assert got.ids == [f"place{n:03d}" for n in range(10)]
    assert got.split == ["test"] * 3 + ["train"] * 7
    assert got.labels == [[fake_archive.CLASSES[n % 3]] for n in range(10)]
    table = got.table.to_pydict()
    assert table["place"] == [f"place {n // 2}" for n in range(10)]
    assert table["geometry"] == [polygon(n, 40, n + 0.5, 41) for n in range(10)]
    assert table["proj_shape"] == [[16, 16]] * 10
    assert [time.day for time in table["datetime"]] == list(range(1, 11))
    assert table["source_uri"] == [f"https://host/place{n:03d}.tif" for n in range(10)]
    unknown = ((images[..., 0] == 0) | (images[..., 2] == 0)).mean(axis=(1, 2))
    np.testing.assert_allclose(table["valid_fraction"], 1 - unknown, rtol=1e-6)
    assert table["cloud_fraction"] == table["source_checksum"] == [None] * 10
    for row, uri in enumerate(table["thumbnail_uri"]):
        name, _, member = uri.partition("/")
        assert (name, member) == (
            f"thumbnails-0000{row // 4}-of-00003.zip",
            f"{row:07d}.webp",
        )
        with zipfile.ZipFile(folder / name) as file:
            assert file.read(member)[8:12] == b"WEBP"


def test_the_footer_says_what_made_the_vectors(embedder, records, folder):
    exporting.write_embeddings(embedder, records, folder, 3, EXPORT)
    footer = json.loads(pq.read_schema(folder / PARTS[2]).metadata[b"emb"])
    save_bundle(embedder.bundle, folder / "bundle")
    weights = artifacts.sha256_file(folder / "bundle" / "weights.safetensors")
    assert footer["model"]["params_sha256"] == weights
    assert len(footer["model"]["config_sha256"]) == 64
    assert (footer["model"]["name"], footer["model"]["step"]) == ("target", 5)
    assert footer["fingerprint"] == "mark" * 10
    assert footer["preprocessing"] == {
        "sensor": "s2",
        "record_size": [16, 16],
        "image_size": 16,
        "bands": ["B02", "B04"],
        "mean": [1500.0, 1500.0],
        "std": [800.0, 800.0],
        "nodata": 0.0,
        "clip": None,
    }
    assert (footer["bands"], footer["pool"]) == (["B02", "B04"], "mean")
    assert footer["source"] == {
        "collection": "toy",
        "records_fingerprint": records.manifest["fingerprint"],
    }
    assert (footer["licence"], footer["rows"], footer["dimension"]) == ("", 2, 16)
    assert made.footer(embedder.bundle, records, "CC-BY-4.0")["licence"] == "CC-BY-4.0"
    assert footer["versions"]["jax"] == jax.__version__


def test_no_data_is_looked_for_in_the_bands_that_are_embedded_and_not_without_its_value():
    images = np.ones((1, 2, 2, 3), np.uint16)
    images[0, 0, 0] = 0, 0, 0
    images[0, 0, 1, 2] = 0
    images[0, 1, 1, 1] = 0  # not embedded
    given = SensorInput((0, 2), (1.0, 1.0), (1.0, 1.0), 0.0)
    assert valid_fraction(images, given).tolist() == [0.5]
    assert np.isnan(valid_fraction(images, SensorInput((0, 2), (), (), None))).all()


class Ended(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("moment", range(6))
def test_an_export_that_ends_at_any_moment_goes_on_to_the_same_bytes(
    embedder, records, folder, unbroken, monkeypatch, moment
):
    real, calls = writing.os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) > moment:
            raise Ended  # the unfinished file stays under its temporary name
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(writing.os, "replace", replace)
        with pytest.raises(Ended):
            exporting.write_embeddings(embedder, records, folder, 3, EXPORT)
    finished = {path: path.stat().st_ino for path in folder.glob("part-*.parquet")}
    assert len(finished) == moment // 2  # the pictures of a part come before it
    exporting.write_embeddings(embedder, records, folder, 3, EXPORT)
    assert export_runs.digests(folder) == unbroken
    assert all(path.stat().st_ino == inode for path, inode in finished.items())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shares_of_several_hosts_make_the_same_export(embedder, records, folder, unbroken, order):
    for index in order:
        exporting.write_share(embedder, records, folder, 3, EXPORT, index=index, count=3)
        assert (folder / PARTS[index]).exists()
    exporting.write_embeddings(embedder, records, folder, 3, EXPORT)
    assert export_runs.digests(folder) == unbroken


def spoil_footer(path):
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"emb": "{}"}), path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / PARTS[1]).write_bytes(b"PAR1"),
        lambda folder: (folder / PARTS[1]).write_bytes((folder / PARTS[1]).read_bytes()[:-9]),
        lambda folder: spoil_footer(folder / PARTS[1]),
        lambda folder: (folder / "thumbnails-00001-of-00003.zip").unlink(),
    ],
)
def test_a_part_that_is_not_whole_when_the_export_goes_on_is_made_again(
    embedder, records, folder, unbroken, spoil
):
    exporting.write_embeddings(embedder, records, folder, 3, EXPORT)
    others = [(folder / name).stat().st_ino for name in (PARTS[0], PARTS[2])]
    spoil(folder)
    exporting.write_embeddings(embedder, records, folder, 3, EXPORT)
    assert export_runs.digests(folder) == unbroken
    assert [(folder / name).stat().st_ino for name in (PARTS[0], PARTS[2])] == others


@pytest.mark.parametrize(
    ("export", "message"),
    [
        (Export(dtype="int4"), "export.dtype = 'int4', expected float32"),
        (Export(processes=2), "export.processes = 2 on tpu, expected 1"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_done(
    embedder, records, folder, monkeypatch, export, message
):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with pytest.raises(ConfigError, match=message):
        exporting.write_embeddings(embedder, records, folder, 3, export)
    assert not list(folder.iterdir())
