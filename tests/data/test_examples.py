"""Records by hand, both ways, and every example that must not become one."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import rejepa_jax
from rejepa_jax.data import examples, tf_example, tfds_metadata
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.types import ConfigError, DataError

SCHEMA = Schema(
    "places",
    {
        "s1": Sensor(("VV", "VH"), "float32", 2, 3),
        "s2": Sensor(("B02", "B03", "B04"), "uint16", 3, 2),
        "rgb": Sensor(("R", "G", "B"), "uint8", 2, 2),
    },
    ("forest", "water, inland", "città"),
)


def example(**changes):
    rng = np.random.default_rng(0)
    images = {
        "s1": rng.normal(-12, 4, (2, 3, 2)).astype(np.float32),
        "s2": rng.integers(0, 2**16, (3, 2, 3), np.uint16),
        "rgb": rng.integers(0, 256, (2, 2, 3), np.uint8),
    }
    place = Example(
        id="S2A_MSIL2A_20170613T101031_0_45",
        images=images,
        labels=(0, 2),
        source="BigEarthNet-S2/tile/patch",
        crs="EPSG:32634",
        transform=(10.0, 0.0, 399960.1, 0.0, -10.0, 5300040.123456789),
        geometry=b"\x01\x03\x00\x00\x00",
        datetime="2017-06-13T10:10:31Z",
        place="harbour_7",
    )
    return dataclasses.replace(place, **changes)


def assert_same(got, expected):
    for field in dataclasses.fields(Example):
        if field.name != "images":
            assert getattr(got, field.name) == getattr(expected, field.name)
    assert got.images.keys() == expected.images.keys()
    for name, image in expected.images.items():
        assert got.images[name].dtype == image.dtype
        np.testing.assert_array_equal(got.images[name], image)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"id": "Zürich/東京 🛰 1", "source": "ä/ö.tif"},
        {"labels": ()},
        {"crs": "", "transform": (), "geometry": b"", "datetime": ""},
    ],
)
def test_every_field_comes_back(changes):
    place = example(**changes)
    assert_same(examples.decode(examples.encode(place, SCHEMA), SCHEMA), place)


def delimited(tag, data):
    """A protobuf field of wire type 2; lengths below 2**14."""
    size = len(data)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([tag << 3 | 2]) + length + data


def test_the_bytes_are_a_tf_train_example():
    place = example()
    raw = {
        "id": place.id.encode(),
        "source": place.source.encode(),
        "crs": b"EPSG:32634",
        "datetime": b"2017-06-13T10:10:31Z",
        "geometry": place.geometry,
        "place": place.place.encode(),
        "transform": np.array(place.transform, "<f8").tobytes(),
        "s1": place.images["s1"].astype("<f4").tobytes(),
        "s2": place.images["s2"].astype("<u2").tobytes(),
        "rgb": place.images["rgb"].tobytes(),
    }
    features = {name: delimited(1, delimited(1, value)) for name, value in raw.items()}
    features["labels"] = delimited(3, delimited(1, bytes([0, 2])))  # packed varints
    entries = b"".join(
        delimited(1, delimited(1, name.encode()) + delimited(2, feature))
        for name, feature in sorted(features.items())
    )
    assert examples.encode(place, SCHEMA) == delimited(1, entries)


def test_the_order_of_the_sensors_does_not_show():
    place = example()
    turned = example(images=dict(reversed(place.images.items())))
    assert examples.encode(turned, SCHEMA) == examples.encode(place, SCHEMA)


def test_a_view_is_written_in_row_order():
    place = example()
    view = np.ascontiguousarray(place.images["s2"].transpose(2, 0, 1)).transpose(1, 2, 0)
    assert not view.flags.c_contiguous
    other = example(images={**place.images, "s2": view})
    assert examples.encode(other, SCHEMA) == examples.encode(place, SCHEMA)


def test_images_are_found_where_their_bytes_are():
    place = example()
    record = examples.encode(place, SCHEMA)
    starts = dict(zip(sorted(SCHEMA.sensors), examples.find_images(record, SCHEMA), strict=True))
    for name, start in starts.items():
        image, part = place.images[name], examples.image_part(SCHEMA, name)
        assert record[start : start + image.nbytes] == image.tobytes()
        assert record[start - len(part.head) : start] == part.head
        assert name.encode() in part.head
        assert sorted(starts)[part.column] == name


@pytest.mark.parametrize("size", [1, 100, 127, 128, 16_383, 16_384, 345_600])
def test_the_head_of_a_part_is_the_wire_formats(size):
    def field(content):  # number 1, of bytes: tag, length in groups of seven bits, content
        length, n = b"", len(content)
        while True:
            n, low = n >> 7, n & 0x7F
            length += bytes([low | (0x80 if n else 0)])
            if not n:
                return b"\x0a" + length + content

    feature = field(field(bytes(size)))  # a bytes list of one value
    entry = field(field(b"s2") + b"\x12" + field(feature)[1:])  # key, and the feature as number 2
    assert tf_example.entry_head("s2", size) == entry[: len(entry) - size]


def with_value(sensor, value):
    image = example().images[sensor].copy()
    image[1, 1] = value
    return {"images": {**example().images, sensor: image}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "from 'BigEarthNet-S2/tile/patch': got an empty id"),
        ({"source": "caf\udce9.tif"}, "got text that is not Unicode"),
        ({"images": {}}, r"got sensors \[\], expected \['rgb', 's1', 's2'\]"),
        (
            {"images": {**example().images, "s3": np.zeros((1, 1, 1))}},
            r"got sensors \['rgb', 's1', 's2', 's3'\]",
        ),
        (
            {"images": {**example().images, "rgb": np.zeros((2, 2, 3), np.uint16)}},
            r"got uint16 \(2, 2, 3\) for sensor 'rgb', expected uint8 \(2, 2, 3\)",
        ),
        (
            {"images": {**example().images, "s2": np.zeros((3, 2, 3), ">u2")}},
            r"got >u2 \(3, 2, 3\) for sensor 's2', expected uint16",
        ),
        (
            {"images": {**example().images, "s2": np.zeros((2, 3, 3), np.uint16)}},
            r"got uint16 \(2, 3, 3\) for sensor 's2', expected uint16 \(3, 2, 3\)",
        ),
        (
            with_value("s1", [np.nan, -np.inf]),
            "example 'S2A_MSIL2A_20170613T101031_0_45' .* got 2 values of 12 NaN or infinite for "
            "sensor 's1'",
        ),
        (with_value("s1", [np.inf, 0]), "got 1 values of 12"),
        ({"labels": (0, 3)}, r"got labels \(0, 3\), expected ascending indices below 3"),
        ({"labels": (-1,)}, r"got labels \(-1,\)"),
        ({"labels": (2, 0)}, r"got labels \(2, 0\)"),
        ({"labels": (1, 1)}, r"got labels \(1, 1\)"),
        ({"transform": (1.0,) * 5}, "expected 6 finite numbers or none"),
        ({"transform": (1.0,) * 5 + (float("nan"),)}, "expected 6 finite numbers or none"),
    ],
)
def test_what_is_not_as_the_schema_says_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        examples.encode(example(**changes), SCHEMA)


def test_a_record_of_another_schema_is_refused():
    record = examples.encode(example(), SCHEMA)
    larger = dataclasses.replace(SCHEMA, sensors={"s2": Sensor(("B02",), "uint16", 4, 4)})
    with pytest.raises(DataError, match=r"0_45': got values of \[36\] bytes for 's2', .* of 32"):
        examples.decode(record, larger)
    other = dataclasses.replace(SCHEMA, sensors={"s3": Sensor(("B02",), "uint16", 4, 4)})
    with pytest.raises(DataError, match=r"got values of \[\] bytes for 's3'"):
        examples.decode(record, other)


def test_bytes_that_are_no_example_are_refused():
    with pytest.raises(DataError, match=r"got 3 bytes that are no tf\.train\.Example"):
        examples.decode(b"\xff\xff\xff", SCHEMA)


def test_schema_survives_json():
    text = json.dumps(SCHEMA.to_json())
    assert json.loads(text) == SCHEMA.to_json()
    assert SCHEMA.to_json()["version"] == "2.0.0"
    schema = Schema.from_json(json.loads(text))
    assert schema == SCHEMA
    assert list(schema.sensors) == ["s1", "s2", "rgb"]
    assert schema.sensors["s2"].shape == (3, 2, 3)


@pytest.mark.parametrize("version", ["1.0.0", None])
def test_schema_of_another_major_version_is_refused(version):
    with pytest.raises(DataError, match=f"got version {version}, expected 2.0.0"):
        Schema.from_json({**SCHEMA.to_json(), "version": version})


@pytest.mark.parametrize(
    ("name", "sensor", "dtype", "message"),
    [
        ("Places", "s2", "uint8", "got the name 'Places'"),
        ("places", "s-2", "uint8", "got the name 's-2'"),
        ("places", "labels", "uint8", "got the name 'labels'"),
        ("places", "s2", "float64", r"sensor 's2': got float64 \(1, 1, 1\), expected uint8, "),
    ],
)
def test_schema_refuses_names_and_dtypes(name, sensor, dtype, message):
    with pytest.raises(ConfigError, match=message):
        Schema(name, {sensor: Sensor(("B1",), dtype, 1, 1)}, ())


def test_shard_names_are_those_of_tfds():
    assert examples.shard_name("aid", "train", 3, 12) == "aid-train.tfrecord-00003-of-00012"


def test_tfds_sees_the_records(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    for split, count in (("train", 2), ("test", 1)):
        for shard in range(count):
            (tmp_path / examples.shard_name("places", split, shard, count)).touch()
    splits, num_bytes = {"train": [3, 0], "test": [2]}, {"train": 300, "test": 200}
    tfds_metadata.write_tfds_metadata(tmp_path, SCHEMA, splits, num_bytes)
    info = tfds.builder_from_directory(tmp_path).info
    assert (info.name, str(info.version)) == ("places", "2.0.0")
    assert {name: split.shard_lengths for name, split in info.splits.items()} == splits
    assert {name: split.num_bytes for name, split in info.splits.items()} == num_bytes
    assert tuple(info.features["labels"].feature.names) == SCHEMA.classes
    assert info.features["transform"].np_dtype == np.float64
    for name, sensor in SCHEMA.sensors.items():
        assert info.features[name].shape == sensor.shape
        assert info.features[name].np_dtype == np.dtype(sensor.dtype)


def test_tfds_takes_a_set_without_classes(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    (tmp_path / examples.shard_name("places", "train", 0, 1)).touch()
    schema = dataclasses.replace(SCHEMA, classes=())
    tfds_metadata.write_tfds_metadata(tmp_path, schema, {"train": [1]}, {"train": 1})
    info = tfds.builder_from_directory(tmp_path).info
    assert info.features["labels"].feature.num_classes == 0


USE = """
import sys
import numpy as np
from rejepa_jax.data import examples, tfds_metadata, tfrecord
from rejepa_jax.data.records import Records
schema = examples.Schema("a", {"s": examples.Sensor(("x",), "uint8", 1, 1)}, ("c",))
place = examples.Example("i", {"s": np.zeros((1, 1, 1), np.uint8)}, (0,), "")
path = sys.argv[1] + "/" + examples.shard_name("a", "train", 0, 1)
info = tfrecord.write_shard(path, [examples.encode(place, schema)])
(record,) = Records([(path, 1)])
examples.decode(record, schema)
assert "tensorflow_datasets" not in sys.modules
if sys.argv[2] == "tfds":
    tfds_metadata.write_tfds_metadata(sys.argv[1], schema, {"train": [1]}, {"train": info.bytes})
assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "torch")]
"""


@pytest.mark.parametrize("partner", ["none", "tfds"])
def test_tensorflow_is_never_imported(tmp_path, partner):
    if partner == "tfds":
        pytest.importorskip("tensorflow_datasets")
    root = pathlib.Path(rejepa_jax.__file__).parents[1]
    command = [sys.executable, "-c", USE, str(tmp_path), partner]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
