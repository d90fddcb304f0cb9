import collections
import pickle
import tarfile
import warnings
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import rasterio
from PIL import Image

from rejepa_jax.data.archives import bigearthnet
from rejepa_jax.data.archives.bigearthnet import open_archive, read_example, read_patch
from rejepa_jax.data.examples import decode, encode
from rejepa_jax.types import ConfigError, DataError

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
SIZES = dict.fromkeys(S2, 60) | dict.fromkeys(("B02", "B03", "B04", "B08"), 120)
SIZES |= dict.fromkeys(("B01", "B09"), 20) | dict.fromkeys(("VV", "VH"), 120)


def row(number, date="20170613", **changes):
    return {
        "patch_id": f"S2A_MSIL2A_{date}T101031_N9999_R022_T34TCR_{number:02}_07",
        "labels": ["Urban fabric", "Arable land"],
        "split": "train",
        "country": "Serbia",
        "s1_name": f"S1B_IW_GRDH_1SDV_{date}T165809_34TCR_{number}_7",
        "s2v1_name": "not used",
    } | changes


def band(seed, name):
    """A band's own random pixels."""
    rng = np.random.default_rng([seed, [*S2, "VV", "VH"].index(name)])
    shape = (SIZES[name], SIZES[name])
    if name in ("VV", "VH"):
        return rng.normal(-15, 3, shape).astype(np.float32)
    return rng.integers(0, 10000, shape).astype(np.uint16)


def write_band(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = 1200 / len(array)
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=array.shape[0],
            width=array.shape[1],
            count=1,
            dtype=array.dtype,
            crs="EPSG:32634",
            transform=rasterio.Affine(scale, 0, 500000, 0, -scale, 1200),
        ) as dataset,
    ):
        dataset.write(array, 1)


def folders(root, patch):
    """The two folders of a patch, as the data set's description gives them."""
    s1, s2 = patch["s1_name"], patch["patch_id"]
    return {
        "s1": root / "BigEarthNet-S1" / "_".join(s1.split("_")[:-3]) / s1,
        "s2": root / "BigEarthNet-S2" / "_".join(s2.split("_")[:-2]) / s2,
    }


def write_patch(root, patch, seed):
    where = folders(root, patch)
    for name in (*S2, "VV", "VH"):
        folder = where["s2" if name in S2 else "s1"]
        write_band(folder / f"{folder.name}_{name}.tif", band(seed, name))


def write_tables(root, rows, flagged=None):
    root.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), root / bigearthnet.METADATA)
    table = pyarrow.Table.from_pylist(flagged or [row(99, country="Finland")])
    pyarrow.parquet.write_table(table, root / bigearthnet.FLAGGED)
    return root


@pytest.fixture
def root(tmp_path):
    root = write_tables(tmp_path / "deep" / "down", [row(1), row(2, split="validation")])
    write_patch(root, row(1), 1)
    write_patch(root, row(2), 2)
    # Would make the metadata ambiguous if the folders of images were listed.
    (root / "BigEarthNet-S2" / "metadata.parquet").write_bytes(b"decoy")
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
        for index, name in enumerate(("VV", "VH")):
            np.testing.assert_array_equal(example.images["s1"][..., index], band(1, name))
        for index, name in enumerate(S2):
            image = Image.fromarray(band(1, name).astype(np.float32))
            expected = np.asarray(image.resize((120, 120), Image.Resampling.BICUBIC))
            got = example.images["s2"][..., index]
            np.testing.assert_array_equal(got, np.clip(np.rint(expected), 0, 65535))
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
    points = np.frombuffer(example.geometry, "<f8", offset=13).reshape(5, 2)
    np.testing.assert_allclose(points[1], [21, 0], atol=1e-9)  # the lower left corner
    folder = folders(root, row(1))["s2"].relative_to(root)
    assert example.source == folder.as_posix()
    again = decode(encode(example, archive.schema), archive.schema)
    np.testing.assert_array_equal(again.images["s2"], example.images["s2"])


def test_classes_are_the_nineteen_in_alphabetical_order():
    assert len(bigearthnet.CLASSES) == 19
    assert list(bigearthnet.CLASSES) == sorted(bigearthnet.CLASSES)
    assert bigearthnet.CLASSES[0] == "Agro-forestry areas"


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


def test_selections(tmp_path):
    rows = [
        row(1, "20170531"),
        row(2, "20170601"),
        row(3, "20180831", split="validation"),
        row(4, "20170901"),
        row(5, "20170715", country="Austria"),
    ]
    path = write_tables(tmp_path, rows, flagged=[row(6, "20170701"), row(7, "20171201")])

    def numbers(selection):
        return sorted(int(item.id[-5:-3]) for item in open_archive(path, selection).items)

    assert numbers("clean") == [1, 2, 3, 4, 5]
    assert numbers("all") == [1, 2, 3, 4, 5, 6, 7]
    assert numbers("ben14k") == [2, 3]
    with pytest.raises(ConfigError, match="got 'summer', expected clean, all, ben14k"):
        open_archive(path, "summer")


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
        ({"labels": ["Urban fabric", "Jungle"]}, r"_02_07: .*unknown labels \['Jungle'\]"),
        ({"split": "val"}, "_02_07: got split 'val'.*'validation'"),
        ({"s1_name": "../../secret"}, r"s1_name '\.\./\.\./secret'"),
        ({"s1_name": None}, "_02_07: .*s1_name None"),
        ({"patch_id": "../secret_1_2"}, r"metadata of \.\./secret_1_2"),
        ({"patch_id": None}, "metadata of None"),
    ],
)
def test_metadata_that_cannot_be_used_name_the_row(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        open_archive(write_tables(tmp_path, [row(1), row(2, **changes)]))


def test_metadata_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"got 0 files metadata\.parquet, expected one"):
        open_archive(tmp_path)
    (tmp_path / bigearthnet.METADATA).write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"file metadata\.parquet: got .*expected a Parquet table"):
        open_archive(tmp_path)
    table = pyarrow.table({"patch_id": ["x"], "labels": [["y"]]})
    pyarrow.parquet.write_table(table, tmp_path / bigearthnet.METADATA)
    with pytest.raises(DataError, match="expected a Parquet table with patch_id, labels, split"):
        open_archive(tmp_path)
    with pytest.raises(DataError, match="got 2 files"):
        open_archive(write_tables(tmp_path / "second", [row(1)]).parent)


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
    folder = folders(root, row(1))["s2" if name in S2 else "s1"]
    path = folder / f"{folder.name}_{name}.tif"
    path.unlink()
    if array is not None:
        write_band(path, array)
    archive = open_archive(root)  # the archive opens: what cannot be read is found when it is read
    with pytest.raises(DataError, match=f"{path.relative_to(root)}: got {got}"):
        read_first(archive)
    assert read_example(archive.files, archive.items[1], archive.schema) is not None


def test_a_query_patch_is_read_as_in_the_archive(root):
    images = read_first(open_archive(root)).images
    where = folders(root, row(1))
    for sensor in ("s1", "s2"):
        patch = read_patch(where[sensor])
        assert list(patch) == [sensor]
        np.testing.assert_array_equal(patch[sensor], images[sensor])


def test_a_query_folder_may_hold_both_sensors_and_other_files(root, tmp_path):
    for folder in folders(root, row(1)).values():
        for path in folder.iterdir():
            path.rename(tmp_path / path.name)
    (tmp_path / "x_labels_metadata.json").write_text("{}")
    (tmp_path / "x_reference_map.tif").write_bytes(b"not read")
    assert {sensor: image.shape for sensor, image in read_patch(tmp_path / ".").items()} == {
        "s1": (120, 120, 2),
        "s2": (120, 120, 12),
    }


def test_an_incomplete_query_patch_is_refused(root, tmp_path):
    folder = folders(root, row(1))["s1"]
    (folder / f"{folder.name}_VH.tif").unlink()
    with pytest.raises(DataError, match=r"got files for \['VV'\], expected .*\['VV', 'VH'\]"):
        read_patch(folder)
    write_band(folder / "other_VV.tif", band(2, "VV"))
    with pytest.raises(DataError, match=r"\['VV', 'VV'\]"):
        read_patch(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"got files for \[\], expected .*B8A"):
        read_patch(tmp_path / "empty")
    with pytest.raises(DataError, match=r"missing: got files for .*give the folder of one whole"):
        read_patch(tmp_path / "missing")


def test_the_real_patches(shared_data):
    path = shared_data / "bigearthnet" / "bigearthnet-v2-reencoded.tar"
    archive = open_archive(path, "all")
    assert len(archive.items) == 24
    assert len(open_archive(path).items) == 18
    splits = collections.Counter(item.split for item in archive.items)
    assert splits == {"train": 8, "validation": 8, "test": 8}
    with pytest.raises(DataError, match="got 0 of 18 patches"):
        open_archive(path, "ben14k")
    for item in archive.items[::10]:
        example = archive.read(archive.files, item, archive.schema)
        assert encode(example, archive.schema)
        for sensor, bands in {
            "s1": {"VV": 0, "VH": 1},
            "s2": {"B02": 1, "B04": 3, "B08": 7},
        }.items():
            for name, index in bands.items():
                member = f"/vsitar/{path}/{item.files[sensor]}_{name}.tif"
                with warnings.catch_warnings(action="ignore"), rasterio.open(member) as dataset:
                    expected = dataset.read(1)
                np.testing.assert_array_equal(example.images[sensor][..., index], expected)
