import dataclasses
import hashlib
import json
import os

import fake_archive
import numpy as np
import pytest

from rejepa_jax.config import Prepare
from rejepa_jax.data import examples, tfrecord
from rejepa_jax.data.prepare import QUARANTINE, SCHEMA, prepare
from rejepa_jax.data.shard_tasks import deal_shards
from rejepa_jax.data.summary import SUMMARY
from rejepa_jax.types import DataError

ONE = Prepare(workers=1, shard_records=4, max_bad_fraction=0.2)
COUNTS = {"train": 10, "test": 3}
SHARDS = {
    "toy-test.tfrecord-00000-of-00001": range(3),
    "toy-train.tfrecord-00000-of-00003": range(3, 7),
    "toy-train.tfrecord-00001-of-00003": range(7, 11),
    "toy-train.tfrecord-00002-of-00003": range(11, 13),
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return fake_archive.write_archive(tmp_path_factory.mktemp("archive"), COUNTS, size=6)


@pytest.fixture(scope="module")
def reference(archive, tmp_path_factory):
    """What one process writes without interruption: its directory and what it reports."""
    directory = tmp_path_factory.mktemp("reference")
    return directory, prepare(archive, directory, ONE)


def contents(directory):
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def damaged(tmp_path, *numbers):
    """The archive once more, in which these places have lost the end of a file."""
    copy = fake_archive.write_archive(tmp_path / "damaged", COUNTS, size=6)
    for number in numbers:
        path = copy.files.path / f"{number:03d}.s2"
        path.write_bytes(path.read_bytes()[:-2])
    return copy


def output(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


# --- shards


def test_items_are_dealt_in_order_into_shards_named_as_tfds_does(reference):
    directory, built = reference
    schema = fake_archive.toy_schema(6)
    for name, numbers in SHARDS.items():
        records = list(tfrecord.scan(directory / name))
        places = [examples.decode(record, schema) for record in records]
        assert [place.id for place in places] == [f"place{n:03d}" for n in numbers]
    shards = built.info["splits"]["train"]["shards"]
    assert [(s["file"][-14:], s["records"]) for s in shards] == [
        ("00000-of-00003", 4),
        ("00001-of-00003", 4),
        ("00002-of-00003", 2),
    ]


def test_pixels_and_labels_are_those_of_the_archive(reference):
    schema = fake_archive.toy_schema(6)
    records = tfrecord.scan(reference[0] / "toy-train.tfrecord-00000-of-00003")
    for number, record in zip(range(3, 7), records, strict=True):
        place = examples.decode(record, schema)
        assert place.labels == (number % 3,)
        for sensor, image in fake_archive.pixels(number, schema).items():
            np.testing.assert_array_equal(place.images[sensor], image)


def test_what_is_left_is_shards_indices_and_metadata(reference):
    names = contents(reference[0]).keys()
    shards = {name + suffix for name in SHARDS for suffix in ("", ".index.npy")}
    notes = {f"shards/{name}.json" for name in SHARDS}
    metadata = {SCHEMA, QUARANTINE, SUMMARY, "dataset_info.json", "features.json"}
    assert names == shards | notes | metadata | {"labels.labels.txt"}


def test_schema_is_written(reference):
    value = json.loads((reference[0] / SCHEMA).read_text())
    assert examples.Schema.from_json(value) == fake_archive.toy_schema(6)


def test_counts_sizes_and_hashes_are_reported(reference):
    directory, built = reference
    splits = built.info["splits"]
    assert {split: entry["records"] for split, entry in splits.items()} == COUNTS
    assert built.info["quarantined"] == 0
    for split, entry in splits.items():
        sizes = [len(contents(directory)[n]) for n in SHARDS if f"-{split}." in n]
        assert entry["bytes"] == sum(sizes)
    for name in SHARDS:
        assert built.sha256[name] == hashlib.sha256(contents(directory)[name]).hexdigest()


@pytest.mark.parametrize("split", ["train", "test"])
def test_statistics_are_those_of_all_known_pixels(reference, split):
    numbers = range(3) if split == "test" else range(3, 13)
    images = [fake_archive.pixels(n, fake_archive.toy_schema(6)) for n in numbers]
    statistics = reference[1].info["splits"][split]["statistics"]
    for sensor in ("s1", "s2"):
        pixels = np.stack([image[sensor] for image in images]).astype(np.float64)
        known = np.ma.masked_array(pixels, (pixels == 0) & (sensor == "s2"))
        assert known.mask.any() == (sensor == "s2")
        for name in ("mean", "std", "min", "max"):
            expected = getattr(known, name)(axis=(0, 1, 2))
            np.testing.assert_allclose(statistics[sensor][name], expected, rtol=1e-9)


# --- the same bytes, however they come about


def test_number_of_workers_changes_no_byte(archive, reference, tmp_path):
    directory = output(tmp_path)
    built = prepare(archive, directory, dataclasses.replace(ONE, workers=3))
    assert contents(directory) == contents(reference[0])
    assert built == reference[1]


class Stopped(BaseException):
    """The process has come to its end."""


def stop_after(count):
    """A reader that reads so many items."""
    seen = []

    def read(files, item, schema):
        if len(seen) == count:
            raise Stopped
        seen.append(item)
        return fake_archive.read(files, item, schema)

    return read, seen


def test_interruption_changes_no_byte_and_repeats_no_finished_shard(archive, reference, tmp_path):
    directory = output(tmp_path)
    read, _ = stop_after(9)  # test and the first of train are whole, the second is not
    with pytest.raises(Stopped):
        prepare(dataclasses.replace(archive, read=read), directory, ONE)
    finished = {p.name: p.stat().st_ino for p in directory.iterdir() if p.name in SHARDS}
    assert finished.keys() == set(list(SHARDS)[:2])

    read, seen = stop_after(None)
    built = prepare(dataclasses.replace(archive, read=read), directory, ONE)
    assert [item.id for item in seen] == [f"place{n:03d}" for n in range(7, 13)]
    assert {name: (directory / name).stat().st_ino for name in finished} == finished
    assert contents(directory) == contents(reference[0])
    assert built == reference[1]


def test_lost_notes_and_rubbish_change_no_byte(archive, reference, tmp_path):
    directory = output(tmp_path)
    read, _ = stop_after(11)
    with pytest.raises(Stopped):
        prepare(dataclasses.replace(archive, read=read), directory, ONE)
    notes = sorted((directory / "shards").iterdir())
    assert len(notes) == 3
    notes[1].unlink()
    (directory / "unfinished" / "tmpabc").mkdir()
    (directory / "unfinished" / "tmpabc" / "toy-train.tfrecord-00002-of-00003.tmp").touch()
    (directory / "toy-test.tfrecord-00000-of-00001").write_bytes(b"cut")
    prepare(archive, directory, ONE)
    assert contents(directory) == contents(reference[0])


# --- items that cannot be used


def test_unusable_item_is_left_out_and_listed_with_its_reason(tmp_path):
    directory = output(tmp_path)
    built = prepare(damaged(tmp_path, 8), directory, ONE)
    (line,) = (directory / QUARANTINE).read_text().splitlines()
    entry = json.loads(line)
    assert (entry["id"], entry["split"]) == ("place008", "train")
    assert "008.s2: got 107 values" in entry["reason"]
    assert built.info["quarantined"] == 1
    assert built.info["splits"]["train"]["records"] == 9
    schema = fake_archive.toy_schema(6)
    ids = [
        examples.decode(record, schema).id
        for record in tfrecord.scan(directory / "toy-train.tfrecord-00001-of-00003")
    ]
    assert ids == ["place007", "place009", "place010"]


def test_statistics_leave_unusable_items_out(tmp_path):
    built = prepare(damaged(tmp_path, 1), output(tmp_path), ONE)
    schema = fake_archive.toy_schema(6)
    pixels = np.stack([fake_archive.pixels(n, schema)["s1"] for n in (0, 2)]).astype(np.float64)
    mean = built.info["splits"]["test"]["statistics"]["s1"]["mean"]
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-9)


def test_missing_file_and_wrong_pixels_are_unusable_too(tmp_path):
    def read(files, item, schema):
        place = fake_archive.read(files, item, schema)
        if item.id == "place004":
            image = np.full_like(place.images["s1"], np.nan)
            return dataclasses.replace(place, images=place.images | {"s1": image})
        return place

    copy = damaged(tmp_path)
    (copy.files.path / "002.s1").unlink()
    directory = output(tmp_path)
    prepare(dataclasses.replace(copy, read=read), directory, ONE)
    entries = [json.loads(line) for line in (directory / QUARANTINE).read_text().splitlines()]
    assert [entry["id"] for entry in entries] == ["place002", "place004"]
    assert "002.s1" in entries[0]["reason"]
    assert "NaN or infinite for sensor 's1'" in entries[1]["reason"]


def test_too_many_unusable_items_stop_the_stage_and_finished_shards_stay(reference, tmp_path):
    directory, copy = output(tmp_path), damaged(tmp_path, 4, 8, 9)
    message = r"3 of 13 images cannot be used, more than prepare\.max_bad_fraction.*place004.*"
    with pytest.raises(DataError, match=message + QUARANTINE):
        prepare(copy, directory, ONE)  # 2.6 are allowed
    entries = [json.loads(line) for line in (directory / QUARANTINE).read_text().splitlines()]
    assert [entry["id"] for entry in entries] == ["place004", "place008", "place009"]
    assert (directory / "toy-test.tfrecord-00000-of-00001").exists()

    whole = {path: path.stat().st_mtime_ns for path in copy.files.path.iterdir()}
    fake_archive.write_archive(copy.files.path, COUNTS, size=6)  # mended
    for path, time in whole.items():
        if path.name[:3] not in ("004", "008", "009"):
            os.utime(path, ns=(time, time))  # as if it had not been touched
    read, seen = stop_after(None)
    built = prepare(dataclasses.replace(copy, read=read), directory, ONE)
    assert "place000" not in {item.id for item in seen}  # its shard was whole
    assert contents(directory) == contents(reference[0])
    assert built == reference[1]


def test_what_changed_since_an_interruption_is_read_again_and_nothing_else(tmp_path):
    directory = output(tmp_path)
    copy = damaged(tmp_path)
    read, seen = stop_after(9)
    with pytest.raises(Stopped):
        prepare(dataclasses.replace(copy, read=read), directory, ONE)
    first = deal_shards(copy, directory, ONE.shard_records)[0].items
    path = copy.files.path / f"{first[0].id.removeprefix('place')}.s2"
    path.write_bytes(path.read_bytes()[::-1])  # as large as before
    os.utime(path, ns=(1, 1))
    read, seen = stop_after(None)
    prepare(dataclasses.replace(copy, read=read), directory, ONE)
    again = {item.id for item in seen}
    assert {item.id for item in first} <= again
    assert len(again) < len(copy.items)
    name = next((directory / "shards").glob("*.json"))
    assert "stamp" not in json.loads(name.read_text())  # no part of what the records are


def test_as_many_as_allowed_do_not_stop_it(tmp_path):
    settings = dataclasses.replace(ONE, max_bad_fraction=2 / 13)
    built = prepare(damaged(tmp_path, 4, 8), output(tmp_path), settings)
    assert built.info["quarantined"] == 2


def test_shard_without_a_usable_item_is_empty(tmp_path):
    directory = output(tmp_path)
    built = prepare(damaged(tmp_path, 11, 12), directory, ONE)
    assert built.info["splits"]["train"]["shards"][2]["records"] == 0
    assert (directory / "toy-train.tfrecord-00002-of-00003").read_bytes() == b""


def test_empty_archive_is_refused(archive, tmp_path):
    with pytest.raises(DataError, match=r"the archive has no image; .*data\.archive"):
        prepare(dataclasses.replace(archive, items=()), output(tmp_path), ONE)


def test_finished_shard_with_an_unusable_item_is_written_again_only_once_that_is_mended(tmp_path):
    directory, copy = output(tmp_path), damaged(tmp_path, 8)
    prepare(copy, directory, ONE)
    shard = directory / "toy-train.tfrecord-00001-of-00003"
    inode = shard.stat().st_ino
    read, seen = stop_after(None)
    copy = dataclasses.replace(copy, read=read)
    prepare(copy, directory, ONE)
    assert [item.id for item in seen] == ["place008"]
    assert shard.stat().st_ino == inode
    fake_archive.write_archive(copy.files.path, COUNTS, size=6)  # mended
    built = prepare(copy, directory, ONE)
    assert [item.id for item in seen[1:]] == ["place008", *(f"place{n:03d}" for n in range(7, 11))]
    assert built.info["quarantined"] == 0


@pytest.mark.parametrize("lost", [(0,), (3,), (3, 4, 5, 6)])
def test_items_that_were_taken_out_between_two_attempts_leave_no_stale_shard(
    archive, tmp_path, lost
):
    directory = output(tmp_path)
    prepare(archive, directory, ONE)  # finished, but never published
    kept = tuple(item for n, item in enumerate(archive.items) if n not in lost)
    smaller = dataclasses.replace(archive, items=kept)
    built = prepare(smaller, directory, ONE)
    (tmp_path / "fresh").mkdir()
    prepare(smaller, tmp_path / "fresh", ONE)
    assert contents(directory) == contents(tmp_path / "fresh")
    found = [
        examples.decode(record, archive.schema).id
        for split in ("test", "train")
        for shard in built.info["splits"][split]["shards"]
        for record in tfrecord.scan(directory / shard["file"])
    ]
    assert found == [item.id for item in kept]
