import pickle

import numpy as np
import pytest
from ben_writer import band, on_the_grid, row, write_list, write_stacked, write_tiff

from rejepa_jax.data.archives.bigearthnet.archive import open_archive
from rejepa_jax.data.examples import encode
from rejepa_jax.types import ConfigError, DataError

TEN = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CSMAE = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B11", "B12", "B8A")
ROWS = [row(1), row(2, split="validation", labels=[]), row(3, split="test")]


def read(archive, number):
    return archive.read(archive.files, archive.items[number], archive.schema)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("s2_bands", [TEN, CSMAE])
def test_bands_are_brought_into_order_by_name(tmp_path, s2_bands, named):
    root = write_stacked(tmp_path / "BEN_14k", ROWS, s2_bands, ("VH", "VV"), named)
    archive = open_archive(tmp_path, file_bands=() if named else (*s2_bands, "VH", "VV"))
    archive = pickle.loads(pickle.dumps(archive))
    assert archive.schema.sensors["s2"].bands == TEN
    assert archive.schema.sensors["s1"].bands == ("VV", "VH")
    assert [(item.split, item.id) for item in archive.items] == [
        ("test", ROWS[2]["patch_id"]),
        ("train", ROWS[0]["patch_id"]),
        ("validation", ROWS[1]["patch_id"]),
    ]
    for number, seed in enumerate((3, 1, 2)):
        example = read(archive, number)
        assert encode(example, archive.schema)
        for index, name in enumerate(TEN):
            expected = on_the_grid(band(seed, name))
            np.testing.assert_array_equal(example.images["s2"][..., index], expected)
        for index, name in enumerate(("VV", "VH")):
            np.testing.assert_array_equal(example.images["s1"][..., index], band(seed, name))
    example = read(archive, 1)
    assert (example.labels, example.datetime) == ((1, 18), "2017-06-13T10:10:31Z")
    assert (example.crs, example.transform) == ("EPSG:32634", (10, 0, 500000, 0, -10, 1200))
    assert (example.place, len(example.geometry)) == ("34TCR_1_7", 93)
    assert example.source == f"BEN_14k/BigEarthNet-S2/train/{ROWS[0]['patch_id']}.tif"
    assert read(archive, 2).labels == ()
    assert root.is_dir()


@pytest.mark.parametrize(
    ("file_bands", "message"),
    [
        ((), r"name themselves \('', ''\), and \(\) .*one order of 2 of VV, VH.*data\.file_bands"),
        (("VV", "VH"), r"_07\.tif: got bands that name themselves"),
        (TEN, r"_1_7\.tif: got bands that name themselves \('', ''\)"),
        ((*TEN[1:], "VV", "VH"), r"_07\.tif: got 10 bands, named B03, B04"),
    ],
)
def test_an_order_that_is_not_known_is_demanded(tmp_path, file_bands, message):
    root = write_stacked(tmp_path, ROWS[:1], TEN, named=False)
    with pytest.raises(DataError, match=message):
        read(open_archive(root, file_bands=file_bands), 0)


def test_names_of_bands_are_checked(tmp_path):
    root = write_stacked(tmp_path, ROWS[:1], TEN, named=False)
    with pytest.raises(ConfigError, match=r"file_bands: got B02,VV, expected .*\('B02', 'VV'\)"):
        open_archive(root, file_bands=["B02,VV"])  # the flag without quotes and brackets


def test_files_that_differ_are_refused(tmp_path):
    root = write_stacked(tmp_path, ROWS, TEN)
    with pytest.raises(DataError, match=r"themselves \('B02'.*, and \('B12'.* from data.file_band"):
        open_archive(root, file_bands=(*TEN[::-1], "VV", "VH"))
    archive = open_archive(root)
    path = root / archive.items[1].files["s2"]
    for bands, message in ((TEN[:9], r"got 9 bands, named B02.*expected .*B12"), (TEN, None)):
        write_tiff(path, [on_the_grid(band(9, name)) for name in bands], bands)
        if message:
            with pytest.raises(DataError, match=message):
                read(archive, 1)
    np.testing.assert_array_equal(read(archive, 1).images["s2"][..., 0], band(9, "B02"))
    path.unlink()
    with pytest.raises(DataError, match="FileNotFoundError"):
        read(open_archive(root), 1)  # a patch that lacks one of its files is not left out


def test_the_metadata_may_be_of_more_patches_and_the_files_too(tmp_path, caplog):
    root = write_stacked(tmp_path, ROWS, TEN)
    write_tiff(root / "BigEarthNet-S2" / "train" / "other.tif", [band(1, "B02")])
    for name in ("S1", "S2"):
        for path in (root / f"BigEarthNet-{name}" / "validation").iterdir():
            path.unlink()
    archive = open_archive(root)
    assert [item.id for item in archive.items] == [ROWS[2]["patch_id"], ROWS[0]["patch_id"]]
    assert "left out 1 files of no selected patch" in caplog.text
    lists = write_list(tmp_path / "lists", "val.csv", [ROWS[0]["s2v1_name"], ROWS[1]["patch_id"]])
    items = open_archive(root, split_file=lists).items
    assert [(item.split, item.id) for item in items] == [("validation", ROWS[0]["patch_id"])]
    assert "/train/" in items[0].files["s2"]  # the folder is that of version 2's own split
    write_list(tmp_path / "lists", "val.csv", [ROWS[1]["patch_id"]])
    with pytest.raises(DataError, match="got no file of a selected patch, expected BigEarth"):
        open_archive(root, split_file=lists)
