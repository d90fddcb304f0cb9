"""What is counted of records, by hand."""

import functools
import json
import struct

import numpy as np
import pytest

from rejepa_jax import artifacts
from rejepa_jax.data import bounds
from rejepa_jax.data.archives.files import Item
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.summary import Summary, to_text

SCHEMA = Schema(
    "toy",
    {"s2": Sensor(("B02", "B03"), "uint16", 1, 2), "s1": Sensor(("VV",), "float32", 1, 2)},
    ("forest", "water", "urban"),
)


def polygon(west, south, east, north):
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return struct.pack("<BIII10d", 1, 3, 1, 5, *(x for corner in corners for x in corner))


def example(name, s2=((1, 2), (3, 4)), s1=(-12.5, -7.5), **fields):
    images = {
        "s2": np.array([s2], np.uint16),
        "s1": np.array(s1, np.float32).reshape(1, 2, 1),
    }
    return Example(name, images, fields.pop("labels", ()), source=name, **fields)


EXAMPLES = (
    example(
        "a",
        labels=(0, 2),
        crs="EPSG:32634",
        geometry=polygon(20, 40, 20.5, 41),
        datetime="2018-07-01T00:00:00Z",
    ),
    example("b", s2=((0, 7), (5, 7)), labels=(2,), datetime="2017-06-13T10:10:31Z"),
    example("c", s2=((0, 0), (0, 0)), crs="EPSG:32634", geometry=polygon(-1, 39, 0, 40)),
)


def counted(*examples):
    summary = Summary()
    for one in examples:
        summary.add(one)
    return summary


@pytest.fixture
def found():
    return counted(*EXAMPLES).describe(SCHEMA)


def test_classes_places_and_times(found):
    assert found["records"] == 3
    assert found["labels"] == {"forest": 1, "water": 0, "urban": 2}
    assert found["unlabelled"] == 1
    assert found["crs"] == {"unknown": 1, "EPSG:32634": 2}
    assert found["bounding_box"] == [-1, 39, 20.5, 41]
    assert found["without_footprint"] == 1
    assert (found["first"], found["last"]) == ("2017-06-13T10:10:31Z", "2018-07-01T00:00:00Z")
    assert found["undated"] == 1


def test_bands(found):
    s1, s2 = found["sensors"]["s1"], found["sensors"]["s2"]
    assert s2["bands"] == ["B02", "B03"]
    # Known of B02 are 1, 3, 5; of B03 2, 4, 7, 7. Six pixels each.
    assert (s2["min"], s2["max"], s2["mean"]) == ([1, 2], [5, 7], [3, 5])
    np.testing.assert_allclose(s2["std"], [(8 / 3) ** 0.5, 4.5**0.5])
    np.testing.assert_allclose(s2["missing"], [3 / 6, 2 / 6])
    assert s2["constant"] == [1, 2]  # both of c; B03 of b
    assert s2["constant_ids"] == ["b", "c"]
    assert (s1["mean"], s1["std"], s1["missing"]) == ([-10], [2.5], [0])
    assert s1["constant_ids"] == []


def test_parts_add_up_to_the_whole_and_survive_json():
    parts = [counted(EXAMPLES[0]), Summary(), counted(*EXAMPLES[1:])]
    parts[1].add_bad(Item("x", "train", (), {}), "lost")
    written = [json.loads(json.dumps(artifacts.plain(part.to_json()))) for part in parts]
    whole = functools.reduce(Summary.plus, map(Summary.from_json, written))
    expected = counted(*EXAMPLES)
    expected.quarantined["lost"] = 1
    assert whole.describe(SCHEMA) == expected.describe(SCHEMA)


def test_empty_and_first_and_last_only():
    nothing = Summary().describe(SCHEMA)
    assert (nothing["records"], nothing["bounding_box"], nothing["first"]) == (0, None, "")
    many = counted(*(example(str(n), s1=(1, 1)) for n in range(9))).describe(SCHEMA)
    assert many["sensors"]["s1"]["constant"] == [9]
    assert many["sensors"]["s1"]["constant_ids"] == list("01234")


def test_reasons_are_counted_by_kind_whatever_the_names_and_numbers():
    summary = Summary()
    for number in (7, 12):
        item = Item(f"patch_{number}", "train", (), {"s2": f"S2/patch_{number}/patch_{number}"})
        name = f"S2/patch_{number}/patch_{number}_B02.tif"
        summary.add_bad(item, f"image {name}: got {number * 100} bytes, expected a whole GeoTIFF")
    summary.add_bad(item, "archive lost")
    assert summary.describe(SCHEMA)["quarantined"] == {
        "archive lost": 1,
        "image *_B#.tif: got # bytes, expected a whole GeoTIFF": 2,
    }


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(20, 40, 21, 41)], [20, 40, 21, 41]),
        ([(-1, 0, 1, 2)], [-1, 0, 1, 2]),
        ([(179.5, 0, 180.5, 1)], [179.5, 0, -179.5, 1]),  # beyond 180
        ([(179, 0, 180, 1), (-180, 0, -179, 2)], [179, 0, -179, 2]),  # a part on each side
        ([(-180.25, -2, -179, 1)], [179.75, -2, -179, 1]),
        ([(-170, 0, -160, 1), (-20, 0, 150, 1)], [-20, 0, -160, 1]),  # the longer way is empty
        ([(-120, -80, -60, 0), (100, 0, 110, 80)], [100, -80, -60, 80]),
    ],
)
def test_the_box_around_footprints_is_the_narrow_one(boxes, expected):
    whole = functools.reduce(bounds.joined, (bounds.box(polygon(*box)) for box in boxes))
    assert bounds.bounding_box(whole) == expected


def test_a_footprint_of_two_parts_has_one_box():
    parts = polygon(179, 0, 180, 1) + polygon(-180, 0, -179, 1)
    whole = bounds.box(struct.pack("<BII", 1, 6, 2) + parts)
    assert bounds.bounding_box(whole) == [179, 0, -179, 1]


def test_tables_name_splits_classes_bands_and_what_is_odd():
    summary = counted(*EXAMPLES)
    summary.bytes = 2_500_000
    summary.add_bad(Item("long name", "train", (), {}), "image long name: got nothing")
    other = counted(EXAMPLES[0])
    content = {
        "all": other.plus(summary).describe(SCHEMA),
        "splits": {"test": other.describe(SCHEMA), "train": summary.describe(SCHEMA)},
    }
    rows = [line.split() for line in to_text(content).splitlines()]
    assert [
        "train",
        "3",
        "2.5",
        "1",
        "1",
        "1",
        "1",
        EXAMPLES[1].datetime,
        EXAMPLES[0].datetime,
    ] in rows
    assert ["urban", "1", "2", "3"] in rows
    assert ["s2", "B02", "1", "2.6", "5", "1.49666", "0.375", "1"] in rows
    text = to_text(content)
    assert "footprints within -1.0000 39.0000 20.5000 41.0000 (W S E N)" in text
    assert "CRS: EPSG:32634 (3), unknown (1)" in text
    assert "s2: a band of one value, or none, in b, c" in text
    assert text.endswith("1 left out: image *: got nothing")
