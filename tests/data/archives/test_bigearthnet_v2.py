import pickle
import tarfile
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from ben_writer import (
    METADATA,
    S1,
    S2,
    SIZES,
    band,
    on_the_grid,
    row,
    v2_folders,
    write_bands,
    write_list,
    write_tables,
    write_tiff,
    write_v2,
)

from rejepa_jax.data.archives.bigearthnet.archive import open_archive
from rejepa_jax.data.archives.bigearthnet.patches import read_patch
from rejepa_jax.data.examples import decode, encode
from rejepa_jax.types import ConfigError, DataError


@pytest.fixture
def root(tmp_path):
    root = write_v2(tmp_path / "deep" / "down", [row(1), row(2, split="validation")])
    # Would make the metadata ambiguous if the folders of images were listed.
    (root / "BigEarthNet-S2" / METADATA).write_bytes(b"decoy")
    (root / "Reference_Maps").mkdir()
    (root / "Reference_Maps" / METADATA).write_bytes(b"decoy")
    return root


def read_first(archive):
    return archive.read(archive.files, archive.items[0], archive.schema)


def test_a_patch_is_read_band_by_band_from_any_form(root, tmp_path):
    top = tmp_path / "deep"
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(top, arcname="deep")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in top.rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path))
    for path in (root, top, tmp_path / "x.tar", tmp_path / "x.zip"):
        example = read_first(pickle.loads(pickle.dumps(open_archive(path))))
        assert example.id == row(1)["patch_id"]
        assert (example.images["s1"].dtype, example.images["s2"].dtype) == (np.float32, np.uint16)
        for index, name in enumerate(S1):
            np.testing.assert_array_equal(example.images["s1"][..., index], band(1, name))
        for index, name in enumerate(S2):
            got = example.images["s2"][..., index]
            np.testing.assert_array_equal(got, on_the_grid(band(1, name)))
            if SIZES[name] == 120:
                np.testing.assert_array_equal(got, band(1, name))


def test_an_example_knows_its_place_its_time_and_its_labels(root):
    archive = open_archive(root)
    example = read_first(archive)
    assert example.datetime == "2017-06-13T10:10:31Z"
    assert [archive.schema.classes[i] for i in example.labels] == ["Arable land", "Urban fabric"]
    assert example.labels == (1, 18)
    assert example.crs == "EPSG:32634"
    assert example.transform == (10, 0, 500000, 0, -10, 1200)
    assert example.place == archive.items[0].place == "34TCR_1_7"
    points = np.frombuffer(example.geometry, "<f8", offset=13).reshape(5, 2)
    np.testing.assert_allclose(points[1], [21, 0], atol=1e-9)  # the lower left corner
    assert example.source == v2_folders(root, row(1))["s2"].relative_to(root).as_posix()
    again = decode(encode(example, archive.schema), archive.schema)
    np.testing.assert_array_equal(again.images["s2"], example.images["s2"])


def test_items_are_ordered_by_split_and_id(tmp_path):
    splits = {3: "train", 2: "validation", 1: "train", 4: "test"}
    rows = [row(number, split=split) for number, split in splits.items()]
    items = open_archive(write_tables(tmp_path, rows)).items
    assert [(item.split, int(item.id[-5:-3])) for item in items] == [
        ("test", 4),
        ("train", 1),
        ("train", 3),
        ("validation", 2),
    ]


def numbers(items):
    return sorted(int(item.id[-5:-3]) for item in items)


def test_selections(tmp_path):
    rows = [
        row(1, "20170531"),
        row(2, "20170601"),
        row(3, "20180831", split="validation"),
        row(4, "20170901"),
        row(5, "20170715", country="Austria"),
    ]
    path = write_tables(tmp_path, rows, flagged=[row(6, "20170701"), row(7, "20171201")])
    assert numbers(open_archive(path, "clean").items) == [1, 2, 3, 4, 5]
    assert numbers(open_archive(path, "all").items) == [1, 2, 3, 4, 5, 6, 7]
    assert numbers(open_archive(path, "ben14k").items) == [2, 3]
    with pytest.raises(ConfigError, match="got 'summer', expected clean, all, ben14k"):
        open_archive(path, "summer")


def test_lists_deal_the_patches_anew_and_what_is_gone_is_counted(tmp_path, caplog):
    rows = [row(1, "20170613"), row(2, "20170613", split="test"), row(3, "20170613")]
    path = write_tables(tmp_path / "v2", rows, flagged=[row(6, "20170701")])
    lists = tmp_path / "lists"
    names = [row(n, "20170613")["s2v1_name"] for n in (1, 2, 3, 8)]
    write_list(lists, "val.csv", [names[0], row(6, "20170701")["s2v1_name"]])
    write_list(lists, "train.csv", [row(2, "20170613")["patch_id"], names[3]])
    for selection, expected in {
        "clean": [("train", 2), ("validation", 1)],
        "all": [("train", 2), ("validation", 1), ("validation", 6)],
        "ben14k": [("train", 2), ("validation", 1), ("validation", 6)],
    }.items():
        caplog.clear()
        items = open_archive(path, selection, lists).items
        assert [(item.split, int(item.id[-5:-3])) for item in items] == expected
        gone = 4 - len(expected)
        assert f"left out {gone} of 4 listed patches, which the metadata do not have" in caplog.text


def test_an_empty_selection_says_what_there_was(tmp_path):
    path = write_tables(tmp_path, [row(1, country="Austria"), row(2, "20171201")])
    with pytest.raises(DataError, match=r"got 0 of 2 patches .*'ben14k'.* clean, all, ben14k"):
        open_archive(path, "ben14k")


def test_a_patch_listed_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected at least one and each once"):
        open_archive(write_tables(tmp_path, [row(1), row(1)]))


def test_patches_without_a_label_are_kept(tmp_path):
    items = open_archive(write_tables(tmp_path, [row(1, labels=[]), row(2)])).items
    assert [item.labels for item in items] == [(), (1, 18)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["Urban fabric", "Jungle"]}, "_02_07: got Jungle, expected some of .* 19"),
        ({"split": "val"}, "_02_07: got split 'val'.*'validation'"),
        ({"s1_name": "../../secret"}, r"s1_name '\.\./\.\./secret'"),
        ({"s1_name": None}, "_02_07: .*s1_name ''"),
        ({"patch_id": "../secret_1_2"}, r"metadata of \.\./secret_1_2"),
        ({"patch_id": None}, "metadata of : got split"),
    ],
)
def test_metadata_that_cannot_be_used_name_the_row(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        open_archive(write_tables(tmp_path, [row(1), row(2, **changes)]))


def test_metadata_that_cannot_be_read_are_refused(tmp_path):
    path = tmp_path / METADATA
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"file metadata\.parquet: got .*expected a Parquet table"):
        open_archive(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"patch_id": ["x"], "labels": [["y"]]}), path)
    with pytest.raises(DataError, match="expected a Parquet table with patch_id, labels, split"):
        open_archive(tmp_path)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row(1)]), path)
    assert len(open_archive(tmp_path).items) == 1
    with pytest.raises(DataError, match=r"got no metadata_for_patches_with_snow.* download it too"):
        open_archive(tmp_path, "all")


@pytest.mark.parametrize(
    ("name", "array", "got"),
    [
        ("B02", band(1, "B02")[:60, :60], r"uint16 \(60, 60, 1\).*expected uint16 \(120, 120, 1\)"),
        ("B05", band(1, "B02"), r"uint16 \(120, 120, 1\).*expected uint16 \(60, 60, 1\)"),
        ("B09", band(1, "B09").astype(np.float32), "float32.*expected uint16"),
        ("VH", band(1, "VH").astype(np.float64), "float64.*expected float32"),
        (
            "VV",
            np.where(band(1, "VV") < -15, np.nan, band(1, "VV")),
            "float32.*[0-9]+ values not finite",
        ),
        ("VV", None, "FileNotFoundError.*expected a readable file"),
    ],
)
def test_a_bad_band_is_named(root, name, array, got):
    folder = v2_folders(root, row(1))["s2" if name in S2 else "s1"]
    path = folder / f"{folder.name}_{name}.tif"
    path.unlink()
    if array is not None:
        write_tiff(path, [array])
    archive = open_archive(root)  # the archive opens: what cannot be read is found when it is read
    with pytest.raises(DataError, match=f"{path.relative_to(root)}: got {got}"):
        read_first(archive)
    assert archive.read(archive.files, archive.items[1], archive.schema) is not None


@pytest.mark.parametrize("place", [{"crs": "EPSG:32633"}, {"corner": (500010, 1200)}])
def test_bands_of_other_ground_are_refused(root, place):
    folder = v2_folders(root, row(1))["s2"]
    path = folder / f"{folder.name}_B11.tif"
    write_tiff(path, [band(1, "B11")], **place)
    with pytest.raises(DataError, match=r"_B11\.tif: got the ground .*that of .*_B01\.tif"):
        read_first(open_archive(root))
    write_tiff(path, [band(1, "B11")], crs="")  # one that does not say where it is stays usable
    assert read_first(open_archive(root)).crs == "EPSG:32634"


def test_unknown_pixels_of_a_coarse_band_do_not_smear(root):
    folder = v2_folders(root, row(1))["s2"]
    for name, edge in (("B05", 30), ("B01", 10)):
        array = np.full((2 * edge, 2 * edge), 1000, np.uint16)
        array[:, :edge] = 0
        write_tiff(folder / f"{folder.name}_{name}.tif", [array])
    image = read_first(open_archive(root)).images["s2"]
    for name in ("B05", "B01"):
        assert (image[:, :60, S2.index(name)] == 0).all()
        assert (image[:, 60:, S2.index(name)] == 1000).all()


def test_a_query_patch_is_read_as_in_the_archive(root):
    images = read_first(open_archive(root)).images
    where = v2_folders(root, row(1))
    for sensor in ("s1", "s2"):
        patch = read_patch(where[sensor])
        assert list(patch) == [sensor]
        np.testing.assert_array_equal(patch[sensor], images[sensor])


def test_a_query_folder_may_hold_both_sensors_and_other_files(root, tmp_path):
    for folder in v2_folders(root, row(1)).values():
        for path in folder.iterdir():
            path.rename(tmp_path / path.name)
    (tmp_path / "x_labels_metadata.json").write_text("{}")
    (tmp_path / "x_reference_map.tif").write_bytes(b"not read")
    assert {sensor: image.shape for sensor, image in read_patch(tmp_path / ".").items()} == {
        "s1": (120, 120, 2),
        "s2": (120, 120, 12),
    }


def test_an_incomplete_query_patch_is_refused(tmp_path):
    folder = tmp_path / "patch"
    write_bands(folder, 1, ["VV"])
    with pytest.raises(DataError, match=r"got files for \['VV'\], expected .*\['VV', 'VH'\]"):
        read_patch(folder)
    write_tiff(folder / "other_VV.tif", [band(2, "VV")])
    with pytest.raises(DataError, match=r"\['VV', 'VV'\]"):
        read_patch(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"got files for \[\], expected .*B8A"):
        read_patch(tmp_path / "empty")
    with pytest.raises(DataError, match=r"missing: got files for .*give the folder of one whole"):
        read_patch(tmp_path / "missing")
