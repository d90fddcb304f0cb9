import csv
import io
import pickle
import tarfile

import layout_road
import numpy as np
import pytest
import rasterio
from PIL import Image
from real_pixels import BANDS, geotiff, sentinel, write

from rejepa_jax.data.archives.fmow.sentinel import open_archive
from rejepa_jax.data.archives.fmow.tables import CATEGORIES
from rejepa_jax.data.examples import Sensor, decode, encode
from rejepa_jax.types import ConfigError, DataError

COLUMNS = ("", "category", "location_id", "image_id", "timestamp", "polygon")
ROWS = {  # split -> category, location, image, timestamp
    "train": [
        ("airport", 0, 0, "2016-02-04T12:29:21Z"),
        ("airport", 0, 104, "2018-07-01T00:00:00Z"),
        ("zoo", 12, 3, "2017-01-02 03:04:05"),
    ],
    "val": [("airport", 0, 1, "2016-05-06T10:11:12Z")],
    "test_gt": [("multi-unit_residential", 5, 0, "not a time")],
}
SIZES = (96, 120, 61, 40, 96)  # pixels a side; the files are of many sizes


def table(rows):
    text = io.StringIO()
    polygon = "POLYGON ((1 2, 3 4, 5 6, 1 2))"
    csv.writer(text).writerows([COLUMNS, *((n, *row, polygon) for n, row in enumerate(rows))])
    return text.getvalue()


def tables(rows=None):
    return {f"{split}.csv": table(part) for split, part in (rows or ROWS).items()}


def name(split, category, location, image):
    place = f"{category}_{location}"
    return f"fmow-sentinel/{split}/{category}/{place}/{place}_{image}.tif"


def images():
    """The files by name, cut out of real patches, and their arrays."""
    keys = [(split, *row[:3]) for split, rows in ROWS.items() for row in rows]
    files, arrays = {}, {}
    for key, size, (patch, crs, transform) in zip(keys, SIZES, sentinel(5), strict=True):
        arrays[name(*key)] = patch[:size, :size]
        files[name(*key)] = geotiff(patch[:size, :size], crs, transform)
    return files, arrays


def many():
    """Places at two dates each: eight images to train on, two queries, a gallery of four."""
    files, rows = {}, {"train": [], "val": [], "test_gt": []}
    for number, split in enumerate(["train"] * 8 + ["val"] * 2 + ["test_gt"] * 4):
        patch, crs, transform = sentinel(5)[number % 5]
        row = (("zoo", "dam")[number // 2 % 2], number // 2, number % 2, "2017-01-02T03:04:05Z")
        rows[split].append(row)
        files[name(split, *row[:3])] = geotiff(patch[: 50 + number, :60], crs, transform)
    return files | tables(rows)


def read(archive, number=0):
    example = archive.read(archive.files, archive.items[number], archive.schema)
    assert decode(encode(example, archive.schema), archive.schema).id == example.id
    return example


@pytest.mark.parametrize("form", ["beside", "inside", "packed"])
def test_images_of_the_tables_are_read_where_they_lie(tmp_path, form):
    files, arrays = images()
    inside = {key.removeprefix("fmow-sentinel/"): data for key, data in files.items()}
    root = write(tmp_path / "data", {"beside": files, "inside": inside, "packed": files}[form])
    split_file = ""
    if form == "packed":  # as published: the tables are files of their own
        split_file = write(tmp_path / "tables", tables()) / "val.csv"
        with tarfile.open(tmp_path / "fmow-sentinel.tar", "w") as tar:
            tar.add(root, "")
        root = tmp_path / "fmow-sentinel.tar"
    else:
        write(root, tables())
    archive = pickle.loads(pickle.dumps(open_archive(root, split_file)))
    assert archive.schema.classes == CATEGORIES
    assert archive.schema.sensors == {"s2_l1c": Sensor(BANDS, "uint16", 96, 96)}
    found = {i.id: (i.split, archive.schema.classes[i.labels[0]], i.place) for i in archive.items}
    assert found == {
        "test_gt/multi-unit_residential_5_0": (
            "test_gt",
            "multi-unit_residential",
            "test_gt/multi-unit_residential_5",
        ),
        "train/airport_0_0": ("train", "airport", "train/airport_0"),
        "train/airport_0_104": ("train", "airport", "train/airport_0"),
        "train/zoo_12_3": ("train", "zoo", "train/zoo_12"),
        "val/airport_0_1": ("val", "airport", "val/airport_0"),
    }
    example = read(archive, 1)  # 96 pixels already
    key = name("train", "airport", 0, 0)
    with rasterio.MemoryFile(files[key]) as file, file.open() as dataset:
        np.testing.assert_array_equal(example.images["s2_l1c"], np.moveaxis(dataset.read(), 0, -1))
        assert example.crs == dataset.crs.to_string()
        assert example.transform == tuple(dataset.transform)[:6]
    assert len(example.geometry) == 93
    assert example.place == "train/airport_0"
    assert [read(archive, n).datetime for n in range(5)] == [
        "",
        "2016-02-04T12:29:21Z",
        "2018-07-01T00:00:00Z",
        "2017-01-02T03:04:05Z",
        "2016-05-06T10:11:12Z",
    ]
    assert archive.items[1].facts["centre"] == (3, 4)  # of the table's polygon
    small = read(archive, 4)  # of 40 pixels
    band = arrays[name("val", "airport", 0, 1)][..., 3]
    ours = Image.fromarray(band.astype(np.float32)).resize((96, 96), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(small.images["s2_l1c"][..., 3], np.clip(np.rint(ours), 0, None))


# What a file says of its bands -> what each band's constant then stands for.
PUBLISHED = [*BANDS]
GOOGLE = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"]
B8A_LAST = [band for band in BANDS if band != "B8A"] + ["B8A"]


@pytest.mark.parametrize(
    ("said", "file_bands", "expected"),
    [
        ((), (), PUBLISHED),
        (GOOGLE, (), PUBLISHED),
        (B8A_LAST, (), B8A_LAST),
        (GOOGLE[::-1], (), PUBLISHED[::-1]),
        ((), B8A_LAST, B8A_LAST),
        (["layer"] * 13, B8A_LAST, B8A_LAST),
    ],
)
def test_bands_are_brought_into_the_records_order_by_name(tmp_path, said, file_bands, expected):
    rows = {"train": ROWS["train"][:1]}
    constants = np.broadcast_to(np.arange(1, 14, dtype=np.uint16), (96, 96, 13))
    content = {name("train", "airport", 0, 0): geotiff(constants, descriptions=said)}
    archive = open_archive(write(tmp_path, content | tables(rows)), file_bands=file_bands)
    image = read(archive).images["s2_l1c"]
    for place, band in enumerate(archive.schema.sensors["s2_l1c"].bands):
        assert (image[..., place] == 1 + list(expected).index(band)).all()


def test_whole_numbers_of_other_types_lose_nothing(tmp_path):
    rows = {"train": ROWS["train"][:1]}
    patch = sentinel(1)[0][0][:96, :96]
    key = name("train", "airport", 0, 0)
    for dtype in ("float32", "float64", "int32"):
        content = {key: geotiff(patch.astype(dtype))} | tables(rows)
        archive = open_archive(write(tmp_path / dtype, content))
        np.testing.assert_array_equal(read(archive).images["s2_l1c"], patch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: geotiff(a.astype("float32") + 0.5), "float32 with 119808 values of 119808"),
        (lambda a: geotiff(np.where(a == a[0, 0, 0], np.nan, a).astype("float32")), "float32 with"),
        (lambda a: geotiff(a.astype("int16") - 32000), "int16 with .* from 0 to 65535"),
        (lambda a: geotiff(a[..., :12]), "got 12 bands, named B01"),
        (lambda a: geotiff(a, descriptions=["B01"] * 13), "bands named B01, B01"),
        (lambda a: geotiff(a)[:2000], "that do not decode"),
        (lambda _: b"", "got 0 bytes"),
    ],
)
def test_files_that_cannot_be_right_are_refused_by_name(tmp_path, change, message):
    files, arrays = images()
    key = name("train", "airport", 0, 0)
    files[key] = change(arrays[key])
    archive = open_archive(write(tmp_path, files | tables()))
    with pytest.raises(DataError, match=f"image {key}: .*{message}"):
        read(archive, 1)
    (tmp_path / key).unlink()
    with pytest.raises(DataError, match=f"file {key}: got .*No such file"):
        read(archive, 1)
    read(archive, 2)


def test_tables_that_do_not_fit_are_refused(tmp_path):
    files, _ = images()
    root = write(tmp_path / "data", files)
    with pytest.raises(DataError, match=r"got 0 images in \[\], expected .* train.csv, val.csv"):
        open_archive(root)
    for text, message in (
        (table([("bus_stop", 0, 0, "")]), "train.csv: got 'bus_stop', '0', '0' in row 2"),
        ("image,label\n1,2\n", "train.csv: got '', '', '' in row 2"),
        (table([("zoo", 1, 1, "")]), "none of its first 1 images .* move the table away"),
        (table([ROWS["train"][0]] * 2), "got 2 images .* each once"),
        (b"\xff\xfe", "train.csv: got UnicodeDecodeError"),
    ):
        with pytest.raises(DataError, match=message):
            open_archive(write(root, {"train.csv": text}))
    for split_file in ("gone/train.csv", "other.csv"):
        with pytest.raises(DataError, match=r"other\.csv|gone/train\.csv: got no such file"):
            open_archive(root, tmp_path / split_file)
    with pytest.raises(ConfigError, match=r"data\.file_bands: got B8A, B01, expected all of B01"):
        open_archive(root, file_bands=("B8A", "B01"))


COUNTS = {"train": 8, "val": 2, "test_gt": 4}


def test_config_shows_the_model_what_satmae_shows(tmp_path):
    archive = write(tmp_path / "data", many())
    records, seen, config = layout_road.prepared(tmp_path / "run", "fmow_sentinel", archive)
    assert {split: len(rows) for split, rows in records.splits.items()} == COUNTS
    assert (config.eval.query_split, config.eval.gallery_split) == ("val", "test_gt")
    given = seen.inputs["s2_l1c"]
    kept = [BANDS[place] for place in given.bands]
    assert kept == ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
    assert (given.mean[0], given.std[-1], given.clip) == (1184.38, 1087.60, 2.0)
    assert given.nodata == 0


@pytest.mark.slow
def test_configs_road_runs_to_its_end(tmp_path):
    archive = write(tmp_path / "data", many())
    found = layout_road.walked(tmp_path / "run", "fmow_sentinel", archive)
    assert found == (COUNTS, 10, ("val", "test_gt"))
