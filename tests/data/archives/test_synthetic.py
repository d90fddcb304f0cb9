"""The invented archive is BigEarthNet v2 to its readers, and its bytes are repeatable."""

import hashlib
import itertools
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio

from rejepa_jax.data.archives import synthetic
from rejepa_jax.data.archives.bigearthnet import archive as bigearthnet
from rejepa_jax.types import ConfigError

COUNTS = {"train": 3, "validation": 2, "test": 1}
SIDES = {"B02 B03 B04 B08": 120, "B05 B06 B07 B8A B11 B12": 60, "B01 B09": 20}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    directory = tmp_path_factory.mktemp("synthetic") / "archive"
    return directory, synthetic.write_archive(directory, seed=5, counts=COUNTS, workers=1)


def digests(directory):
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_files_lie_where_bigearthnet_puts_them(archive):
    directory, _ = archive
    expected = {
        "metadata.parquet",
        "metadata_for_patches_with_snow_cloud_or_shadow.parquet",
        "generator.json",
    }
    for row in pq.read_table(directory / "metadata.parquet").to_pylist():
        patch, s1 = row["patch_id"], row["s1_name"]
        s2_folder, s1_folder = patch.rsplit("_", 2)[0], s1.rsplit("_", 3)[0]
        for band in " ".join(SIDES).split():
            expected.add(f"BigEarthNet-S2/{s2_folder}/{patch}/{patch}_{band}.tif")
        for band in ("VV", "VH"):
            expected.add(f"BigEarthNet-S1/{s1_folder}/{s1}/{s1}_{band}.tif")
    assert set(digests(directory)) == expected


def test_bands_have_the_published_types_sizes_and_grid(archive):
    directory, _ = archive
    sides = {band: side for bands, side in SIDES.items() for band in bands.split()}
    for row in pq.read_table(directory / "metadata.parquet").to_pylist():
        tile, column, row_number = row["patch_id"].rsplit("_", 3)[1:]
        patch = directory / "BigEarthNet-S2" / row["patch_id"].rsplit("_", 2)[0] / row["patch_id"]
        s1 = directory / "BigEarthNet-S1" / row["s1_name"].rsplit("_", 3)[0] / row["s1_name"]
        for path in itertools.chain(patch.iterdir(), s1.iterdir()):
            band = path.stem.rsplit("_", 1)[1]
            side = sides.get(band, 120)
            with rasterio.open(path) as dataset:
                pixels = dataset.read()
                assert pixels.shape == (1, side, side)
                assert pixels.dtype == ("float32" if band in ("VV", "VH") else "uint16")
                assert dataset.crs.to_epsg() == 32600 + int(tile[1:3])
                assert dataset.res == (1200 / side, 1200 / side)
                left, top = dataset.bounds.left, dataset.bounds.top
            assert np.isfinite(pixels).all()
            assert pixels.std() > 0
            if tile == "T33UUP":  # which begins 300 km east, 5,400 km north
                assert left == 300_000 + 1200 * int(column)
                assert top == 5_400_000 - 1200 * int(row_number)


def test_metadata_has_the_published_columns(archive):
    directory, summary = archive
    table = pq.read_table(directory / "metadata.parquet")
    empty = pq.read_table(directory / "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
    assert table.column_names == [
        "patch_id", "labels", "split", "country", "s1_name", "s2v1_name",
        "contains_seasonal_snow", "contains_cloud_or_shadow",
    ]  # fmt: skip
    assert empty.schema == table.schema
    assert empty.num_rows == 0
    rows = table.to_pylist()
    assert [row["split"] for row in rows] == ["train"] * 3 + ["validation"] * 2 + ["test"]
    for row in rows:
        assert re.fullmatch(
            r"S2A_MSIL2A_20\d{6}T\d{6}_N9999_R\d{3}_T\d\d[A-Z]{3}_\d\d_\d\d", row["patch_id"]
        )
        assert re.fullmatch(r"S1A_IW_GRDH_1SDV_20\d{6}T\d{6}_\d\d[A-Z]{3}_\d+_\d+", row["s1_name"])
        assert set(row["labels"]) <= set(bigearthnet.CLASSES)
        assert row["labels"] == sorted(row["labels"])
    for name, count in summary["labels"].items():
        assert count == sum(name in row["labels"] for row in rows)
    assert json.loads((directory / "generator.json").read_text()) == {
        "name": "synthetic",
        "version": synthetic.GENERATOR_VERSION,
        "seed": 5,
        "counts": COUNTS,
    }


def test_the_reader_of_the_real_archive_reads_it(archive):
    directory, _ = archive
    opened = bigearthnet.open_archive(directory)
    assert len(opened.items) == 6
    example = opened.read(opened.files, opened.items[0], opened.schema)
    assert example.images["s2"].shape == (120, 120, 12)
    assert example.images["s1"].dtype == np.float32
    assert example.labels


def test_same_seed_same_bytes_for_any_number_of_workers(archive, tmp_path):
    directory, summary = archive
    again = synthetic.write_archive(tmp_path / "again", seed=5, counts=COUNTS, workers=2)
    assert again == summary
    assert digests(tmp_path / "again") == digests(directory)


def test_another_seed_draws_other_pixels(archive, tmp_path):
    synthetic.write_archive(tmp_path / "other", seed=6, counts={"train": 1}, workers=1)
    tables = {"metadata_for_patches_with_snow_cloud_or_shadow.parquet"}
    shared = set(digests(tmp_path / "other").values()) & set(digests(archive[0]).values())
    assert shared == {digests(archive[0])[name] for name in tables}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"counts": {"val": 3}}, "got 3 patches for split 'val'"),
        ({"counts": {"train": -1}}, "got -1 patches"),
        ({"counts": {"test": 10**6}}, "got 1000000 patches for split 'test'"),
        ({"counts": {}}, "expected at least one patch"),
        ({"workers": 0}, "0 workers"),
        ({"seed": -1}, "got seed -1"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, change, match):
    arguments = {"seed": 0, "counts": {"train": 1}, "workers": 1} | change
    with pytest.raises(ConfigError, match=match):
        synthetic.write_archive(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_an_interrupted_archive_is_written_over_to_the_same_bytes(archive):
    directory = archive[0]
    before = {path: path.read_bytes() for path in directory.rglob("*.tif")}
    next(iter(before)).unlink()
    (directory / "metadata.parquet").unlink()
    synthetic.write_archive(directory, seed=5, counts=COUNTS, workers=1)
    assert {path: path.read_bytes() for path in directory.rglob("*.tif")} == before
