"""Whatever bytes come in: the right value or a DataError (ConfigError for a schema's settings).

python tests/data/test_fuzz.py --examples 200000    runs every property longer, and at random
"""

import argparse
import contextlib
import functools
import json
import pathlib
import struct
import tempfile
import time

import hypothesis
import numpy as np
import pytest
from awscrt.checksums import crc32c
from hypothesis import strategies as st

from rejepa_jax.data import examples, in_words, pipeline, tf_example, tfrecord
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.records import Records
from rejepa_jax.types import ConfigError, DataError

SCHEMA = Schema(
    "toy",
    {"s2": Sensor(("B02", "B03"), "uint16", 2, 3), "s1": Sensor(("VV",), "float32", 1, 2)},
    ("forest", "water", "urban"),
)


def example(number):
    rng = np.random.default_rng(number)
    images = {
        "s2": rng.integers(0, 9999, (2, 3, 2)).astype(np.uint16),
        "s1": rng.normal(size=(1, 2, 1)).astype(np.float32),
    }
    grid = (10.0, 0.0, 399960.0, 0.0, -10.0, 5300040.0)
    return Example(f"é{number}", images, (0, 2), "a/b.tif", "EPSG:32634", grid, b"\1\3", "", "")


ENCODED = [examples.encode(example(number), SCHEMA) for number in range(3)]


@functools.cache
def folder():
    """Gives the path of a folder with a shard, its index and schema; and what is in these two."""
    made = tempfile.TemporaryDirectory(prefix="rejepa-fuzz-")
    path = pathlib.Path(made.name)
    find_images = functools.partial(examples.find_images, schema=SCHEMA)
    tfrecord.write_shard(path / "shard.tfrecord", ENCODED, find_images)
    (path / "schema.json").write_text(json.dumps(SCHEMA.to_json()))
    folder.made = made  # removed with the process
    return path, (path / "shard.tfrecord").read_bytes(), _index(path).read_bytes()


def _index(path):
    return path / f"shard.tfrecord{tfrecord.INDEX_SUFFIX}"


def head(length):
    """A frame's first bytes, for any length, under a checksum that holds."""
    crc = crc32c(length)
    return length + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


FRAMED = head(bytes(8)) + head(bytes(0)) + head(b"\2" + bytes(7)) + b"ab"


# --- what is done to bytes


def flip(data, place, _):
    data[place] ^= 1 << place % 8


def overwrite(data, place, new):
    data[place : place + len(new)] = new


def insert(data, place, new):
    data[place:place] = new


def delete(data, place, new):
    del data[place : place + len(new)]


def cut(data, place, _):
    del data[place:]


def claim(data, place, new):
    """A length that was never written."""
    overwrite(data, place, head(new.ljust(8, b"\0")[:8]))


CHANGES = st.lists(
    st.tuples(
        st.sampled_from([flip, overwrite, insert, delete, cut, claim]),
        st.integers(0, 2**20),
        st.one_of(st.binary(min_size=1, max_size=12), st.sampled_from([b"\0" * 8, b"\xff" * 8])),
    ),
    min_size=1,
    max_size=3,
)


def changed(content, changes):
    data = bytearray(content)
    for change, place, new in changes:
        if data:
            change(data, place % len(data), new)
    return bytes(data)


# --- properties: name -> what is drawn, what has to hold


def a_shard_of_any_bytes_scans_to_records_or_an_error(content):
    path, *_ = folder()
    (path / "any").write_bytes(content)
    rebuilt = b""
    try:
        for record in tfrecord.scan(path / "any"):
            tfrecord.write_shard(path / "one", [record])
            rebuilt += (path / "one").read_bytes()
    except DataError:
        return
    assert rebuilt == content  # what was accepted is what the writer would have written


def a_changed_shard_gives_the_records_that_were_written_or_an_error(changes):
    path, shard, index = folder()
    (path / "shard.tfrecord").write_bytes(changed(shard, changes))
    _index(path).write_bytes(index)
    with contextlib.suppress(DataError):
        for record, expected in zip(tfrecord.scan(path / "shard.tfrecord"), ENCODED, strict=False):
            assert record == expected
    _read_all(path)


def a_changed_index_gives_the_records_that_were_written_or_an_error(changes):
    path, shard, index = folder()
    (path / "shard.tfrecord").write_bytes(shard)
    _index(path).write_bytes(changed(index, changes))
    _read_all(path)


def _read_all(path):
    for check in ("every", "first"):
        shards = Records([(path / "shard.tfrecord", len(ENCODED))], check)
        records = pipeline.RecordSet(SCHEMA, {"train": range(len(ENCODED))}, {}, shards)
        for number, expected in enumerate(ENCODED):
            with contextlib.suppress(DataError):
                assert shards[number] == expected
            with contextlib.suppress(DataError):
                found = records.read([number], list(SCHEMA.sensors))["image"]
                for name, image in example(number).images.items():
                    np.testing.assert_array_equal(found[name][0], image)
    with contextlib.suppress(DataError):
        in_words.describe_shard(path / "shard.tfrecord")


def a_record_of_any_bytes_decodes_to_a_sound_example_or_an_error(record):
    try:
        found = examples.decode(record, SCHEMA)
    except DataError:
        return
    again = examples.decode(examples.encode(found, SCHEMA), SCHEMA)  # refuses what is not sound
    for name, image in found.images.items():
        np.testing.assert_array_equal(image, again.images[name])


def a_schema_of_any_json_is_sound_or_an_error(value):
    try:
        schema = Schema.from_json(value)
    except (DataError, ConfigError):
        return
    assert Schema.from_json(schema.to_json()) == schema
    assert all(isinstance(name, str) for name in schema.classes)
    for sensor in schema.sensors.values():
        assert all(type(size) is int and size > 0 for size in sensor.shape)
        assert all(isinstance(band, str) for band in sensor.bands)


VALUES = st.one_of(
    st.tuples(st.just("bytes_list"), st.lists(st.binary(max_size=48), max_size=2)),
    st.tuples(st.just("bytes_list"), st.sampled_from([[b""], [b"a"], [bytes(24)], [bytes(8)]])),
    st.tuples(st.just("int64_list"), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)),
    st.tuples(st.just("int64_list"), st.lists(st.integers(-1, 3), max_size=3)),
    st.tuples(st.just("float_list"), st.lists(st.floats(width=32), max_size=2)),
)
NAMES = ("id", "source", "crs", "datetime", "place", "geometry", "transform", "labels", "s1", "s2")


def message(base, features):
    record = tf_example.Message.FromString(base)
    for name, (kind, values) in features.items():
        record.features.feature[name].Clear()
        getattr(record.features.feature[name], kind).value.extend(values)
    return record.SerializeToString()


RECORDS = st.one_of(
    st.binary(max_size=64),
    st.builds(changed, st.sampled_from(ENCODED), CHANGES),
    st.builds(
        message,
        st.sampled_from([*ENCODED, b""]),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=4)), VALUES, max_size=4),
    ),
)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 5),
    st.sampled_from([10**12, -(10**400), float("nan"), 1.5, "", "uint8", "float32", "b1"]),
    st.text(max_size=3),
)
KEYS = ("version", "name", "sensors", "classes", "bands", "dtype", "height", "width", "s1", "id")
JSON = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)


def with_value(path, value):
    """A whole schema in which one value is another, or is gone."""
    whole = json.loads(json.dumps(SCHEMA.to_json()))
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    if value == "gone":
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return whole


PATHS = [(key,) for key in ("version", "name", "sensors", "classes")]
PATHS += [("sensors", "s2")]
PATHS += [("sensors", "s2", key) for key in ("bands", "dtype", "height", "width")]

PROPERTIES = {
    a_shard_of_any_bytes_scans_to_records_or_an_error: st.one_of(
        st.binary(max_size=80), st.builds(changed, st.just(FRAMED), CHANGES)
    ),
    a_changed_shard_gives_the_records_that_were_written_or_an_error: CHANGES,
    a_changed_index_gives_the_records_that_were_written_or_an_error: CHANGES,
    a_record_of_any_bytes_decodes_to_a_sound_example_or_an_error: RECORDS,
    a_schema_of_any_json_is_sound_or_an_error: st.one_of(
        st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5),
        st.builds(with_value, st.sampled_from(PATHS), st.one_of(st.just("gone"), JSON)),
    ),
}


def run(check, count, **options):
    settings = hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        **options,
    )
    settings(hypothesis.given(PROPERTIES[check])(check))()


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
def test_fuzz(check):
    run(check, 150, derandomize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=200_000, help="for each property")
    count = parser.parse_args().examples
    for check in PROPERTIES:
        start = time.process_time()
        run(check, count)
        print(check.__name__, count, f"{time.process_time() - start:.0f} s of CPU")  # noqa: T201


if __name__ == "__main__":
    main()
