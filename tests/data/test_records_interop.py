"""TensorFlow and tfds read our records, and we read theirs."""

import dataclasses

import numpy as np
import pytest

from rejepa_jax.data import examples, tfds_metadata, tfrecord
from rejepa_jax.data.examples import Example, Schema, Sensor

pytestmark = pytest.mark.interop

SCHEMA = Schema(
    "places",
    {
        "s1": Sensor(("VV", "VH"), "float32", 4, 5),
        "s2": Sensor(("B02", "B03", "B04"), "uint16", 6, 3),
        "rgb": Sensor(("R", "G", "B"), "uint8", 2, 2),
    },
    ("forest", "water, inland", "città"),
)
LABELS = ((), (0,), (0, 2), (1,), (0, 1, 2))
BYTES = ("id", "source", "crs", "datetime", "place", "geometry", "transform", *SCHEMA.sensors)


def place(number):
    rng = np.random.default_rng(number)
    known = {
        "crs": "EPSG:32634",
        "transform": (10.0, 0.0, 399960.1, 0.0, -10.0, 5300040.123456789),
        "geometry": b"\x01\x03\x00\x00\x00\xff",
        "datetime": "2017-06-13T10:10:31Z",
    }
    return Example(
        id=f"Zürich {number}",
        images={
            "s1": rng.normal(-12, 4, (4, 5, 2)).astype(np.float32),
            "s2": rng.integers(0, 2**16, (6, 3, 3), np.uint16),
            "rgb": rng.integers(0, 256, (2, 2, 3), np.uint8),
        },
        labels=LABELS[number],
        source=f"archive/{number}.tif",
        **(known if number % 2 else {}),
    )


PLACES = [place(number) for number in range(5)]


@pytest.fixture
def tf():
    """TensorFlow, imported only if one of these tests runs."""
    return pytest.importorskip("tensorflow")


@pytest.fixture
def shards(tmp_path):
    """Three shards; the last is empty, as when every place of it could not be used."""
    paths = [tmp_path / examples.shard_name("places", "train", n, 3) for n in range(3)]
    for path, part in zip(paths, (PLACES[:3], PLACES[3:], []), strict=True):
        tfrecord.write_shard(path, [examples.encode(place, SCHEMA) for place in part])
    return paths


def test_tensorflow_parses_the_records(tf, shards):
    spec = {name: tf.io.FixedLenFeature((), tf.string) for name in BYTES}
    spec["labels"] = tf.io.VarLenFeature(tf.int64)
    records = list(tf.data.TFRecordDataset([str(path) for path in shards]))
    for record, expected in zip(records, PLACES, strict=True):
        parsed = tf.io.parse_single_example(record, spec)
        for name, sensor in SCHEMA.sensors.items():
            pixels = tf.io.decode_raw(parsed[name], tf.as_dtype(sensor.dtype))
            image = tf.reshape(pixels, sensor.shape).numpy()
            np.testing.assert_array_equal(image, expected.images[name])
        assert tuple(parsed["labels"].values.numpy()) == expected.labels
        assert parsed["id"].numpy().decode() == expected.id
        transform = tf.io.decode_raw(parsed["transform"], tf.float64).numpy()
        assert tuple(transform) == expected.transform


def test_tensorflow_writes_the_same_shard(tf, shards, tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in tfrecord.scan(shards[0]):
            message = tf.train.Example.FromString(record)
            writer.write(message.SerializeToString(deterministic=True))
    assert (tmp_path / "theirs").read_bytes() == shards[0].read_bytes()


def test_records_that_tensorflow_made_are_read(tf, tmp_path):
    raw = dict.fromkeys(BYTES, b"") | {"id": b"theirs", "source": b"x"}
    image = np.arange(54, dtype=np.uint16).reshape(6, 3, 3)
    raw |= {"s1": bytes(160), "s2": image.tobytes(), "rgb": bytes(12)}
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in raw.items()
    }
    features["labels"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2]))
    message = tf.train.Example(features=tf.train.Features(feature=features))
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        writer.write(message.SerializeToString())
    (record,) = tfrecord.scan(tmp_path / "theirs")
    decoded = examples.decode(record, SCHEMA)
    assert (decoded.id, decoded.labels, decoded.transform) == ("theirs", (1, 2), ())
    np.testing.assert_array_equal(decoded.images["s2"], image)


@pytest.mark.usefixtures("tf")
def test_tfds_gives_the_same_examples(shards, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    size = sum(path.stat().st_size for path in shards)
    tfds_metadata.write_tfds_metadata(tmp_path, SCHEMA, {"train": [3, 2, 0]}, {"train": size})
    builder = tfds.builder_from_directory(tmp_path)
    found = {item["id"].decode(): item for item in tfds.as_numpy(builder.as_dataset("train"))}
    assert found.keys() == {place.id for place in PLACES}
    for expected in PLACES:
        item = found[expected.id]
        for name, image in expected.images.items():
            assert item[name].dtype == image.dtype
            np.testing.assert_array_equal(item[name], image)
        got = Example(
            id=item["id"].decode(),
            images=expected.images,
            labels=tuple(item["labels"].tolist()),
            source=item["source"].decode(),
            crs=item["crs"].decode(),
            transform=tuple(item["transform"].tolist()),
            geometry=item["geometry"],
            datetime=item["datetime"].decode(),
            place=item["place"].decode(),
        )
        assert dataclasses.replace(got, images={}) == dataclasses.replace(expected, images={})
