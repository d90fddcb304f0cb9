import tarfile

import pytest
from ben_writer import row, v1_names, v2_folders, write_list, write_stacked, write_tables, write_v1

from rejepa_jax.data.archives.bigearthnet import stacked as bigearthnet_stacked
from rejepa_jax.data.archives.bigearthnet import v1 as bigearthnet_v1
from rejepa_jax.data.archives.bigearthnet.archive import open_archive
from rejepa_jax.data.archives.bigearthnet.labels import CLASSES, FROM_43, indices
from rejepa_jax.types import ConfigError, DataError


def packed(folder, name):
    with tarfile.open(folder.parent / name, "w") as tar:
        tar.add(folder, arcname="deep/down")
    return folder.parent / name


def test_the_form_shows_in_what_lies_there(tmp_path):
    v1 = write_v1(tmp_path / "v1", 1, bands=False)
    v2 = write_tables(tmp_path / "v2", [row(1)])
    stacked = write_stacked(tmp_path / "stacked", [row(1)], ["B02", "B11"])
    lists = write_list(tmp_path / "lists", "train.csv", [",".join(v1_names(1))])
    for path in (v1, tmp_path / "v1" / ".." / "v1", packed(v1, "v1.tar")):
        archive = open_archive(path, split_file=lists)
        assert archive.read is bigearthnet_v1.read_example
        assert archive.items[0].id == v1_names(1)[0]
    for path in (v2, packed(v2, "v2.tar")):
        archive = open_archive(path)
        stem = v2_folders(v2, row(1))["s2"].relative_to(v2) / row(1)["patch_id"]
        assert archive.items[0].files["s2"].endswith(stem.as_posix())
    for path in (stacked, packed(stacked, "stacked.tar")):
        assert open_archive(path).read.func is bigearthnet_stacked.read_example


def test_what_is_no_form_or_two_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"got 0 files metadata\.parquet and no folder .*\(v2\)"):
        open_archive(tmp_path)
    write_tables(tmp_path / "v2", [row(1)])
    write_tables(tmp_path / "second", [row(1)])
    with pytest.raises(DataError, match=r"got 2 files metadata\.parquet"):
        open_archive(tmp_path)
    (tmp_path / "second" / "BigEarthNet-v1.0").mkdir()
    with pytest.raises(DataError, match=r"got 1 files .* and a folder of BigEarthNet v1"):
        open_archive(tmp_path / "second")
    for name in ("a", "b"):
        (tmp_path / "v2" / name / "BigEarthNet-S2").mkdir(parents=True)
    with pytest.raises(DataError, match="got the folders a/BigEarthNet-S2 and b/BigEarthNet-S2"):
        open_archive(tmp_path / "v2")


def test_only_the_sensors_that_are_there_or_asked_for_are_read(tmp_path, caplog):
    root = write_tables(tmp_path, [row(1)])
    assert list(open_archive(root).schema.sensors) == ["s1", "s2"]  # listed without pixels
    (root / "elsewhere" / "BigEarthNet-S2").mkdir(parents=True)
    caplog.clear()
    archive = open_archive(root)
    assert list(archive.schema.sensors) == ["s2"]
    assert archive.items[0].files["s2"].startswith("elsewhere/BigEarthNet-S2/S2A_MSIL2A_20170613")
    assert "of BigEarthNet-S1 and BigEarthNet-S2 only elsewhere/BigEarthNet-S2" in caplog.text
    with pytest.raises(ConfigError, match="got the sensors s1 to read, expected some of s2"):
        open_archive(root, sensors=["s1"])
    (root / "BigEarthNet-S1").mkdir()
    assert list(open_archive(root).schema.sensors) == ["s1", "s2"]
    archive = open_archive(root, sensors=["s1"])
    assert (list(archive.schema.sensors), list(archive.items[0].files)) == (["s1"], ["s1"])


def test_classes_are_the_nineteen_in_alphabetical_order():
    assert len(CLASSES) == 19
    assert list(CLASSES) == sorted(CLASSES)
    assert CLASSES[0] == "Agro-forestry areas"
    assert len(FROM_43) == 43
    assert sum(new == "" for new in FROM_43.values()) == 11
    assert set(FROM_43.values()) == {*CLASSES, ""}


def test_labels_of_version_1_by_hand():
    labels = ["Sea and ocean", "Salines", "Airports", "Salt marshes", "Pastures"]
    # 4 Coastal wetlands, twice; 11 Marine waters; 15 Pastures; airports have no successor.
    assert indices(labels, "x", FROM_43) == (4, 11, 15)
    assert indices(["Bare rock"], "x", FROM_43) == ()
    with pytest.raises(DataError, match=r"labels of x: got Jungle, expected some of .* 43 classes"):
        indices(["Jungle", "Pastures"], "x", FROM_43)
    with pytest.raises(DataError, match="got Salines, expected some of BigEarthNet's 19 classes"):
        indices(["Salines"], "x")
