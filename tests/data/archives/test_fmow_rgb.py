import csv
import io
import json
import pickle
import tarfile

import layout_road
import numpy as np
import pytest
from PIL import Image
from real_pixels import jpeg, pictures, write

from rejepa_jax.config import Data
from rejepa_jax.data import splits
from rejepa_jax.data.archives.fmow.boxes import square_around
from rejepa_jax.data.archives.fmow.rgb import open_archive, read_example
from rejepa_jax.data.archives.fmow.tables import CATEGORIES
from rejepa_jax.data.examples import Sensor, decode, encode
from rejepa_jax.types import ConfigError, DataError

# The box of the first view, by hand: 20 of 150 columns are 0.133 and grow by 1, so by 10 at each
# end; 45 of 150 rows are 0.3 and grow by 0.3, so by 6 at each end: 40 columns of 57 rows, and the
# square of 57 about column 60, row 72.5.
BOX, SQUARE = [50, 50, 20, 45], (44, 31, 57)
# Corners of the box: one hundredth of a degree is two columns, or four and a half rows.
LOCATION = "POLYGON ((-58.10 -34.50, -58.00 -34.50, -58.00 -34.60, -58.10 -34.60, -58.10 -34.50))"
TINY = {"ID": 4, "box": [1, 1, 2, 9], "category": "zoo"}
EMPTY = {"ID": 3, "box": [0, 0, 0, 0], "category": "false_detection"}


def note(boxes, **changes):
    """A JSON as it comes with a picture, without the fields on viewing angles."""
    return json.dumps(
        {
            "gsd": 0.5,
            "img_width": 150,
            "img_height": 150,
            "utm": "21H",
            "country_code": "ARG",
            "cloud_cover": 3,
            "timestamp": "2016-02-04T12:29:21Z",
            "scan_direction": "Forward",
            "bounding_boxes": boxes,
        }
        | changes
    )


def view(path, picture, boxes, **changes):
    """A picture, its JSON, and the same from the other product, which nobody reads."""
    split, category, rest = path.split("/", 2)
    stem = f"{split}/{category}/{category}_{rest.split('_')[0]}/{category}_{rest}"
    text = note(boxes, **changes)
    files = {f"{stem}_rgb.jpg": picture, f"{stem}_rgb.json": text}
    return files | {f"{stem}_msrgb.jpg": b"not read", f"{stem}_msrgb.json": "not read"}


def box(category, sides=BOX, **changes):
    return {"ID": -1, "box": sides, "category": category} | changes


def published():
    """Places at two dates, in two splits, whose numbers are the same and whose ground is not."""
    one, two, three, four = pictures(4)
    wide = jpeg(np.concatenate([np.asarray(Image.open(io.BytesIO(p))) for p in (one, two)], axis=1))
    return {
        **view("train/airport/0_0", one, [box("airport", raw_location=LOCATION)]),
        **view("train/airport/0_1", two, box("airport"), timestamp="2015-01-02T03:04:05.5+01:00"),
        **view("train/multi-unit_residential/7_0", three, [box("multi-unit_residential")] * 2),
        **view("train/zoo/3_0", wide, [box("zoo", [10, 0, 280, 150]), EMPTY, TINY]),
        **view("val/airport/0_0", four, [box("airport", raw_location=LOCATION)]),
        "test/0000000/0000000_0_rgb.jpg": b"no category",
        "test/0000000/0000000_0_rgb.json": note([{"ID": 1, "box": BOX}]),
    }


def many():
    """Eight pictures of four places to train on and two of another to query with."""
    content = {}
    for number, picture in enumerate(pictures(10)):
        split, category = ("val", "zoo") if number > 7 else ("train", ("zoo", "dam")[number % 2])
        path = f"{split}/{category}/{number // 4}_{number}"
        content |= view(path, picture, [box(category)])
    return content


def read(archive, name):
    (item,) = [item for item in archive.items if item.id == name]
    example = archive.read(archive.files, item, archive.schema)
    assert decode(encode(example, archive.schema), archive.schema).id == name
    return example


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(
    ("given", "size", "expected"),
    [
        ([500, 500, 50, 50], (1000, 1000), (450, 450, 150)),  # 0.05: grows by 2
        ([40, 30, 100, 100], (1000, 1000), (0, 0, 190)),  # 0.1: by 1, cut off at two edges
        ([300, 300, 200, 200], (1000, 1000), (250, 250, 300)),  # 0.2: by 0.5
        ([300, 300, 300, 300], (1000, 1000), (255, 255, 390)),  # 0.3: by 0.3
        ([300, 300, 400, 400], (1000, 1000), (260, 260, 480)),  # 0.4: by 0.2
        ([200, 200, 500, 500], (1000, 1000), (163, 163, 574)),  # 0.5: by 0.15, so 37 and 37
        ([100, 400, 600, 60], (800, 1000), (85, 55, 690)),  # 55 to 745 and 340 to 520
        ([0, 0, 900, 200], (300, 1000), (0, 333, 300)),  # no square is larger than the picture
        (BOX, (150, 150), SQUARE),
    ],
)
def test_square_grows_as_the_rule_says(given, size, expected):
    assert square_around(given, *size) == expected


@pytest.mark.parametrize("packed", [False, True])
def test_every_box_of_every_picture_is_a_record(tmp_path, packed):
    write(tmp_path / "fmow-rgb", published())
    path = tmp_path
    if packed:
        path = tmp_path / "fmow.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(tmp_path / "fmow-rgb", "fmow-rgb")
    archive = pickle.loads(pickle.dumps(open_archive(path, record_size=57)))
    assert archive.schema.classes == CATEGORIES
    assert archive.schema.sensors == {"rgb": Sensor(("red", "green", "blue"), "uint8", 57, 57)}
    assert archive.read is read_example
    found = {i.id: (i.split, archive.schema.classes[i.labels[0]], i.place) for i in archive.items}
    home = ("train", "multi-unit_residential", "train/multi-unit_residential_7")
    assert found == {
        "train/airport_0_0": ("train", "airport", "train/airport_0"),
        "train/airport_0_1": ("train", "airport", "train/airport_0"),
        "train/multi-unit_residential_7_0#0": home,
        "train/multi-unit_residential_7_0#1": home,
        "train/zoo_3_0#0": ("train", "zoo", "train/zoo_3"),
        "val/airport_0_0": ("val", "airport", "val/airport_0"),
    }
    assert [(i.split, i.id) for i in archive.items] == sorted(
        (i.split, i.id) for i in archive.items
    )
    example = read(archive, "train/airport_0_0")
    top, left, side = SQUARE
    whole = pixels(pictures(4)[0])
    np.testing.assert_array_equal(
        example.images["rgb"], whole[top : top + side, left : left + side]
    )
    assert example.datetime == "2016-02-04T12:29:21Z"
    assert read(archive, "train/airport_0_1").datetime == "2015-01-02T02:04:05Z"
    assert example.place == "train/airport_0"
    assert example.labels == (CATEGORIES.index("airport"),)
    assert example.source.endswith("train/airport/airport_0/airport_0_0_rgb.jpg")


def test_records_lie_where_the_box_does(tmp_path):
    archive = open_archive(write(tmp_path, published()), record_size=114)  # twice as fine
    example = read(archive, "train/airport_0_0")
    assert example.crs == "EPSG:4326"
    # 20 columns are 0.1 degrees, 45 rows too; the square begins 19 columns and 6 rows before them.
    expected = (0.0025, 0, -58.1 - 19 * 0.005, 0, -0.1 / 90, -34.5 + 6 * 0.1 / 45)
    np.testing.assert_allclose(example.transform, expected, rtol=1e-12)
    ring = np.frombuffer(example.geometry, "<f8", offset=13).reshape(5, 2)
    np.testing.assert_allclose(ring.min(0), (-58.195, -34.5 - 51 * 0.1 / 45), rtol=1e-9)
    np.testing.assert_allclose(ring.max(0), (-58.195 + 57 * 0.005, expected[5]), rtol=1e-9)
    assert read(archive, "train/airport_0_1").geometry == b""
    centres = {item.id: item.facts["centre"] for item in archive.items}
    assert centres["train/airport_0_0"] == pytest.approx((-58.05, -34.55))
    assert centres["train/airport_0_1"] == ()


def test_whole_pictures_are_the_middle_square(tmp_path):
    content = published()
    del content["train/airport/airport_0/airport_0_1_rgb.json"]  # a download without JSON
    archive = open_archive(write(tmp_path, content), "full", record_size=150)
    assert [item.id for item in archive.items] == [
        "train/airport_0_0",
        "train/airport_0_1",
        "train/multi-unit_residential_7_0",
        "train/zoo_3_0",
        "val/airport_0_0",
    ]
    example = read(archive, "train/airport_0_0")
    np.testing.assert_array_equal(example.images["rgb"], pixels(pictures(4)[0]))
    expected = (0.005, 0, -58.1 - 50 * 0.005, 0, -0.1 / 45, -34.5 + 50 * 0.1 / 45)
    np.testing.assert_allclose(example.transform, expected, rtol=1e-12)
    assert read(archive, "train/airport_0_1").datetime == ""
    wide = pixels(content["train/zoo/zoo_3/zoo_3_0_rgb.jpg"])
    np.testing.assert_array_equal(read(archive, "train/zoo_3_0").images["rgb"], wide[:, 75:225])


def test_what_is_left_out_is_counted(tmp_path, caplog):
    with caplog.at_level("INFO"):
        open_archive(write(tmp_path, published()))
    assert "6 records of 5 pictures" in caplog.text
    assert "{'false detections': 1, 'boxes of 2 pixels or less': 1}" in caplog.text


def test_coordinates_published_later_are_used(tmp_path):
    content = published()
    truth = "groundtruth/train/airport/airport_0/airport_0_1_rgb.json"
    content[truth] = note([box("airport", raw_location=LOCATION)])
    archive = open_archive(write(tmp_path, content))
    assert len(archive.items) == 6
    assert read(archive, "train/airport_0_1").crs == "EPSG:4326"


@pytest.mark.parametrize(
    ("stem", "data", "message"),
    [
        ("0_1_rgb.json", b'{"bounding_boxes": [{"box": [1, 2', "JSONDecodeError.*0_1_rgb.json"),
        ("0_1_rgb.json", b"{}", "KeyError.*bounding_boxes.*selection=full"),
        ("0_1_rgb.json", note([{"box": [1, 2, 3]}]), "not enough values"),
        ("0_1_rgb.json", note([box("bus_stop")]), "0_1_rgb.jpg: got ValueError"),
        ("0_1_rgb.json", note([box("airport", [150, 0, 9, 9])]), r"\[150, 0, 9, 9\] in 150x150"),
        ("0_1_rgb.json", None, "0_1_rgb.jpg: got .* for its JSON ''"),
        ("0_1_rgb.jpg", b"\xff\xd8 cut off", "0_1_rgb.jpg: got 10 bytes that do not decode"),
        ("0_1_rgb.jpg", None, "0_1_rgb.jpg: got .*No such file"),
    ],
)
def test_one_bad_view_is_refused_by_name_and_the_others_are_not(tmp_path, stem, data, message):
    root = write(tmp_path, published())
    name = f"train/airport/airport_0/airport_{stem}"
    (root / name).unlink() if data is None else write(root, {name: data})
    archive = open_archive(root)
    assert len(archive.items) == 6
    with pytest.raises(DataError, match=message):
        read(archive, "train/airport_0_1")
    read(archive, "train/airport_0_0")


def test_archives_of_other_things_are_refused(tmp_path):
    content = published()
    with pytest.raises(DataError, match=r"got 0 records.*airport_0_0_rgb\.jpg"):
        open_archive(write(tmp_path / "empty", {"notes.txt": "nothing"}))
    bus = view("train/bus_stop/0_0", b"", [box("bus_stop")])
    with pytest.raises(DataError, match="the category 'bus_stop' of train/bus_stop"):
        open_archive(write(tmp_path / "bus", content | bus))
    with pytest.raises(DataError, match=r"airport_0_0_rgb\.jpg and copy/train/.*each picture once"):
        twice = {f"copy/{name}": data for name, data in content.items()}
        open_archive(write(tmp_path / "twice", content | twice))
    with pytest.raises(
        ConfigError, match=r"data\.selection: got 'all', expected one of crops, full"
    ):
        open_archive(tmp_path / "empty", "all")


def satmae(**columns):
    """SatMAE's tables; the head is not read, and the numbers of the classes are its own."""
    one, two, three, _ = pictures(4)
    images = {
        "fmow/train/airport/airport_0/airport_0_0_rgb.jpg": one,
        "fmow/train/airport/airport_0/airport_0_1_rgb.jpg": two,
        "fmow/val/zoo/zoo_0/zoo_-1/zoo_0_0_rgb.jpg": three,
    }
    tables = {"train": [], "val": []}
    for name in images:
        row = {"label": 1 if "airport" in name else 62, "path": name} | columns
        tables[name.split("/")[1]].append([row["label"], row["path"], "2014-05-06T07:08:09Z"])
    content = {}
    for split, rows in tables.items():
        text = io.StringIO()
        csv.writer(text).writerows([["category", "image_path", "timestamp"], *rows])
        content[f"{split}_62classes.csv"] = text.getvalue()
    return images, content


@pytest.mark.parametrize("beside", [False, True])
def test_satmae_tables_list_cropped_pictures(tmp_path, beside):
    images, tables = satmae()
    root = write(tmp_path / "data", images)
    write(tmp_path if beside else root, tables)
    archive = open_archive(
        root, split_file=tmp_path / "val_62classes.csv" if beside else "", record_size=150
    )
    found = {i.id: (i.split, archive.schema.classes[i.labels[0]], i.place) for i in archive.items}
    assert found == {
        "train/airport_0/airport_0_0_rgb": ("train", "airport", "train/airport_0"),
        "train/airport_0/airport_0_1_rgb": ("train", "airport", "train/airport_0"),
        "val/zoo_0/zoo_-1/zoo_0_0_rgb": ("val", "zoo", "val/zoo_0"),
    }
    example = read(archive, "val/zoo_0/zoo_-1/zoo_0_0_rgb")
    np.testing.assert_array_equal(example.images["rgb"], pixels(pictures(4)[2]))
    assert example.datetime == "2014-05-06T07:08:09Z"


def test_satmae_tables_that_disagree_are_refused(tmp_path):
    for name, columns, message in (
        ("labels", {"label": 5}, "the label '5' for 'fmow/val/zoo.*the label of airport"),
        ("paths", {"path": "/home/x/1.jpg"}, "train_62classes.csv.*'/home/x/1.jpg' in row 2"),
        ("away", {"path": "gone/airport/airport_1/x.jpg"}, "gone/airport/airport_1/x.jpg"),
    ):
        images, tables = satmae(**columns)
        with pytest.raises(DataError, match=message):
            open_archive(write(tmp_path / name, images | tables))
    with pytest.raises(ConfigError, match="got 'crops' and a split file"):
        open_archive(tmp_path / "away", "crops", tmp_path / "away" / "train_62classes.csv")
    with pytest.raises(DataError, match="no row in SatMAE's tables"):
        open_archive(write(tmp_path / "raw", published()), "satmae")


def test_places_of_one_split_can_be_dealt_out(tmp_path):
    content = {name: data for name, data in many().items() if name.startswith("train/")}
    whole = open_archive(write(tmp_path, content))
    dealt = splits.assign(whole, Data(split_by="location", split_shares=(0.5, 0.25, 0.25)))
    held = {split: {i.place for i in dealt.items if i.split == split} for split in splits.SPLITS}
    assert [len(places) for places in held.values()] == [2, 1, 1]
    assert len(set.union(*held.values())) == 4
    assert len(dealt.items) == len(whole.items) == 8


def test_config_makes_records_of_which_val_queries_train(tmp_path):
    archive = write(tmp_path / "fmow-rgb", many())
    records, seen, config = layout_road.prepared(tmp_path / "run", "fmow_rgb", archive)
    assert {split: len(rows) for split, rows in records.splits.items()} == {"train": 8, "val": 2}
    assert (config.eval.query_split, config.eval.gallery_split) == ("val", "train")
    places = {
        split: {e.place for e in records.read_examples(records.rows(split))}
        for split in records.splits
    }
    assert not places["train"] & places["val"]
    assert records.schema.sensors["rgb"].shape == (224, 224, 3)
    assert seen.inputs["rgb"].mean == pytest.approx((106.641, 107.4825, 101.7705))  # of 255


@pytest.mark.slow
def test_configs_road_runs_to_its_end(tmp_path):
    archive = write(tmp_path / "fmow-rgb", many())
    found = layout_road.walked(tmp_path / "run", "fmow_rgb", archive)
    assert found == ({"train": 8, "val": 2}, 3, ("val", "train"))
