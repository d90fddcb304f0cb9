"""Every real patch beside the checkout, against rasterio and the archives' own metadata."""

import collections
import csv
import io
import json
import tarfile
import warnings

import numpy as np
import pyarrow.parquet
import pytest
import rasterio
from ben_writer import FLAGGED, METADATA, S1, S2, on_the_grid, write_list

from rejepa_jax.data.archives.bigearthnet.archive import open_archive
from rejepa_jax.data.archives.bigearthnet.labels import CLASSES, FROM_43
from rejepa_jax.data.examples import decode, encode
from rejepa_jax.types import DataError


class Members:
    """The files of a .tar by name, read with Python's and GDAL's own readers."""

    def __init__(self, path):
        with tarfile.open(path) as tar:
            self.files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}

    def band(self, stem, name):
        """One band's pixels; its coordinate system and transform, where it has them."""
        with (
            warnings.catch_warnings(action="ignore"),
            rasterio.MemoryFile(self.files[f"{stem}_{name}.tif"]) as file,
            file.open() as dataset,
        ):
            transform = tuple(dataset.transform)[:6]
            place = (dataset.crs.to_string(), transform) if dataset.crs else ("", ())
            return dataset.read(1), place

    def facts(self, stem):
        return json.loads(self.files[f"{stem}_labels_metadata.json"])


@pytest.fixture
def real(shared_data):
    return lambda name: shared_data / "bigearthnet" / f"bigearthnet-{name}.tar"


def check_pixels(archive, members):
    """Reads every item of an archive, and returns the examples by id."""
    examples = {}
    for item in archive.items:
        example = archive.read(archive.files, item, archive.schema)
        example = decode(encode(example, archive.schema), archive.schema)
        assert list(example.images) == list(item.files)
        for key, stem in item.files.items():
            names = {"s1": S1, "s2": S2}[key]
            assert archive.schema.sensors[key].bands == names
            for index, name in enumerate(names):
                expected, _ = members.band(stem, name)
                got = example.images[key][..., index]
                assert got.dtype == expected.dtype
                np.testing.assert_array_equal(got, on_the_grid(expected))
                if expected.shape == (120, 120):
                    np.testing.assert_array_equal(got, expected)
        examples[item.id] = example
    return examples


def names_of(example):
    return {CLASSES[label] for label in example.labels}


def in_19(labels):
    return {FROM_43[label] for label in labels} - {""}


def test_all_24_pairs_of_v2(real):
    archive, members = open_archive(real("v2-reencoded"), "all"), Members(real("v2-reencoded"))
    examples = check_pixels(archive, members)
    tables = [pyarrow.parquet.read_table(io.BytesIO(members.files[t])) for t in (METADATA, FLAGGED)]
    rows = [row for table in tables for row in table.to_pylist()]
    assert len(rows) == len(examples) == 24
    splits = {item.id: item.split for item in archive.items}
    assert collections.Counter(splits.values()) == {"train": 8, "validation": 8, "test": 8}
    for row in rows:
        assert names_of(examples[row["patch_id"]]) == set(row["labels"])
        assert splits[row["patch_id"]] == row["split"]
    assert {item.files["s1"].rsplit("/")[-1] for item in archive.items} == {
        row["s1_name"] for row in rows
    }
    assert len(open_archive(real("v2-reencoded")).items) == tables[0].num_rows == 18
    with pytest.raises(DataError, match="got 0 of 18 patches"):
        open_archive(real("v2-reencoded"), "ben14k")


def test_v2_in_splits_of_v1(real, tmp_path, caplog):
    table = pyarrow.parquet.read_table(io.BytesIO(Members(real("v2-reencoded")).files[METADATA]))
    names = table.column("s2v1_name").to_pylist()
    lists = write_list(tmp_path, "train.csv", [*names[:5], "S2A_MSIL2A_20170613T101031_0_0"])
    archive = open_archive(real("v2-reencoded"), split_file=lists)
    expected = sorted(table.column("patch_id").to_pylist()[:5])
    assert [(item.split, item.id) for item in archive.items] == [("train", i) for i in expected]
    assert "left out 1 of 6 listed patches" in caplog.text


def test_all_30_pairs_of_v1_reencoded(real):
    archive, members = open_archive(real("v1-reencoded")), Members(real("v1-reencoded"))
    examples = check_pixels(archive, members)
    rows = list(csv.DictReader(io.StringIO(members.files["labels.csv"].decode())))
    assert len(rows) == len(examples) == 30
    items = {item.id: item for item in archive.items}
    for row in rows:
        item, example = items[row["s2_name"]], examples[row["s2_name"]]
        assert names_of(example) == set(row["labels_19"].split("|"))
        assert names_of(example) == in_19(members.facts(item.files["s2"])["labels"])
        assert item.split == row["official_split"].replace("val", "validation")
        assert item.files["s1"].rsplit("/")[-1] == row["s1_name"]
        assert (example.crs, example.geometry) == ("", b"")  # the copy has lost them
        assert item.place.split("_")[1:] == row["s2_name"].split("_")[-2:]


@pytest.mark.parametrize(("sensors", "count"), [((), 6), (("s1",), 9), (("s2",), 14)])
def test_all_patches_of_v1_original(real, tmp_path, caplog, sensors, count):
    path, members = real("v1-original"), Members(real("v1-original"))
    stems = sorted({name.rsplit("_", 2)[0] for name in members.files if name.endswith(".json")})
    s2 = {stem.rsplit("/")[-1]: stem for stem in stems if "/S2" in stem}
    s1 = {members.facts(stem)["corresponding_s2_patch"]: stem for stem in stems if "/S1" in stem}
    lists = write_list(tmp_path, "train.csv", s2 if sensors != ("s1",) else s1)
    archive = open_archive(path, split_file=lists, sensors=sensors)
    examples = check_pixels(archive, members)
    assert len(examples) == count
    assert ("left out 8 of 14 listed patches, which have no partner" in caplog.text) == (
        not sensors
    )
    for name, example in examples.items():
        stem = s1[name] if sensors == ("s1",) else s2[name]
        facts = members.facts(stem)
        assert names_of(example) == in_19(facts["labels"])
        corner = facts["coordinates"]["ulx"], facts["coordinates"]["uly"]
        assert example.transform == (10, 0, corner[0], 0, -10, corner[1])
        assert rasterio.CRS.from_string(example.crs) == rasterio.CRS.from_wkt(facts["projection"])
        band = "VV" if sensors == ("s1",) else "B02"
        assert (example.crs, example.transform) == members.band(stem, band)[1]
    with pytest.raises(DataError, match="got BigEarthNet v1 without splits"):
        open_archive(path)
