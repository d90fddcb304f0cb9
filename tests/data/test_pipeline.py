import collections
import functools
import itertools
import threading

import fake_archive
import jax
import numpy as np
import pytest

from rejepa_jax.data import examples, pipeline, placing, tfrecord
from rejepa_jax.data.records import Records
from rejepa_jax.training import sharding
from rejepa_jax.types import ConfigError, DataError


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Places 0 to 2 are the test split, 3 to 12 the training split."""
    root = tmp_path_factory.mktemp("pipeline")
    fake_archive.prepared(root, {"train": 10, "test": 3}, size=6)
    return root / "records"


@pytest.fixture(scope="module")
def records(directory):
    return pipeline.open_records(directory)


def batches_of(records, count, size=4, seed=0, split="train"):
    iterator = pipeline.train_batches(records, split, ("s2",), size, seed)
    return [next(iterator) for _ in range(count)]


def ids_of(batches):
    return np.concatenate([batch["id"] for batch in batches])


# --- rows


def test_rows_are_numbered_over_the_splits_in_name_order(records):
    assert records.splits == {"test": range(3), "train": range(3, 13)}
    np.testing.assert_array_equal(records.rows("train"), np.arange(3, 13))


@pytest.mark.parametrize("split", ["validation", ""])
def test_unknown_split_is_refused_with_those_there_are(records, split):
    with pytest.raises(ConfigError, match=r"has no records; there are \{'test': 3, 'train': 10\}"):
        records.rows(split)


def test_rows_are_read_in_the_order_asked_for(records):
    batch = records.read([7, 0, 7, 12], ("s1", "s2"))
    np.testing.assert_array_equal(batch["id"], [7, 0, 7, 12])
    for place, row in enumerate((7, 0, 7, 12)):
        expected = fake_archive.pixels(row, records.schema)
        for sensor in ("s1", "s2"):
            np.testing.assert_array_equal(batch["image"][sensor][place], expected[sensor])


def test_batch_keeps_the_archives_dtypes_and_only_the_asked_sensors(records):
    image = records.read([1], ("s2",))["image"]
    assert {sensor: array.dtype for sensor, array in image.items()} == {"s2": np.dtype("uint16")}
    assert records.read([1], ("s1",))["image"]["s1"].dtype == np.float32


def test_whole_examples_are_read_in_order(records):
    places = records.read_examples([12, 3])
    assert [place.id for place in places] == ["place012", "place003"]
    assert [place.labels for place in places] == [(0,), (0,)]
    np.testing.assert_array_equal(
        places[0].images["s1"], fake_archive.pixels(12, records.schema)["s1"]
    )


def test_statistics_are_those_of_the_split(records):
    pixels = np.stack([fake_archive.pixels(n, records.schema)["s1"] for n in range(3)])
    statistics = records.statistics("test", "s1")
    np.testing.assert_allclose(statistics["mean"], pixels.mean((0, 1, 2), np.float64), rtol=1e-9)


# --- opening


def test_unfinished_records_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.json"):
        pipeline.open_records(tmp_path)


def test_cut_shard_is_named_when_the_records_are_opened(tmp_path):
    fake_archive.prepared(tmp_path, {"train": 2}, size=6)
    shard = tmp_path / "records" / "toy-train.tfrecord-00000-of-00001"
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DataError, match=rf"{shard.name}: got {size - 10} bytes, expected {size}"):
        pipeline.open_records(tmp_path / "records")


def test_flipped_byte_is_found_when_its_record_is_read(tmp_path):
    records = fake_archive.prepared(tmp_path, {"train": 2}, size=6)
    shard = tmp_path / "records" / "toy-train.tfrecord-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[-100] ^= 1
    shard.write_bytes(content)
    records.read([0], ("s2",))
    with pytest.raises(DataError, match=rf"{shard.name}, record 1: got checksum"):
        records.read([1], ("s2",))


# --- order


def test_same_seed_same_order_and_other_seed_other_order(records):
    first = ids_of(batches_of(records, 5))
    np.testing.assert_array_equal(ids_of(batches_of(records, 5)), first)
    assert not np.array_equal(ids_of(batches_of(records, 5, seed=1)), first)


def test_each_epoch_is_a_permutation_of_its_own(records):
    ids = ids_of(batches_of(records, 10))  # four epochs of ten in batches of four
    epochs = ids.reshape(4, 10)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(3, 13))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_images_belong_to_their_ids(records):
    for batch in batches_of(records, 3):
        for row, image in zip(batch["id"], batch["image"]["s2"], strict=True):
            expected = fake_archive.pixels(int(row), records.schema)["s2"]
            np.testing.assert_array_equal(image, expected)


def test_split_smaller_than_the_batch_is_seen_several_times_within_one(records, caplog):
    ids = ids_of(batches_of(records, 3, size=8, split="test"))
    # Epoch follows epoch without a gap: 24 images are eight epochs of three.
    for epoch in ids.reshape(8, 3):
        assert sorted(epoch) == [0, 1, 2]
    assert collections.Counter(ids[:8].tolist()).most_common(1)[0][1] == 3
    assert "split test has 3 records, fewer than train.batch_size = 8" in caplog.text


# --- on the devices


PLACE = sharding.batch_sharding(sharding.make_mesh())
PREFETCH = pytest.mark.parametrize("prefetch", [0, 1, 3])


@pytest.fixture
def placed(request):
    """Opens batches of eight on the devices, and closes them after the test."""

    def placed(records, prefetch=2, resident=False):
        iterator = pipeline.placed_batches(
            records, "train", ("s2",), 8, 0, PLACE, prefetch=prefetch, resident=resident
        )
        request.addfinalizer(iterator.close)
        return iterator

    return placed


def assert_same(batch, expected):
    np.testing.assert_array_equal(batch["id"], expected["id"])
    np.testing.assert_array_equal(batch["image"]["s2"], expected["image"]["s2"])


@pytest.mark.parametrize("resident", [False, True])
@PREFETCH
def test_batches_on_the_devices_are_those_in_memory(records, placed, prefetch, resident):
    batches = list(itertools.islice(placed(records, prefetch, resident), 5))
    for batch, expected in zip(batches, batches_of(records, 5, size=8), strict=True):
        assert_same(batch, expected)
        assert batch["image"]["s2"].dtype == np.uint16
        assert np.asarray(batch["valid"]).all()
        for array in jax.tree.leaves(batch):
            assert array.sharding == PLACE
            assert {len(shard.data) for shard in array.addressable_shards} == {1}


@pytest.mark.parametrize("taken", [0, 1, 3])
@PREFETCH
def test_position_is_that_after_the_last_batch_handed_out(records, placed, prefetch, taken):
    iterator = placed(records, prefetch)
    for _ in range(taken):
        next(iterator)
    state = iterator.get_state()
    expected = list(itertools.islice(iterator, 4))
    assert state == {"next_index": taken}  # however many are on their way

    other = placed(records, 3 - prefetch)  # any number of them may go on from there
    next(other)
    other.set_state(state)
    for batch in expected:
        assert_same(next(other), batch)


@PREFETCH
def test_damaged_record_is_named_where_its_batch_is_taken(tmp_path, placed, prefetch):
    records = fake_archive.prepared(tmp_path, {"train": 40}, size=6)
    third = pipeline.Order(records.rows("train"), 8, 0)[2]
    shard, record = divmod(int(third[0]), 4)
    path = tmp_path / "records" / f"toy-train.tfrecord-{shard:05d}-of-00010"
    content = bytearray(path.read_bytes())
    content[(2 * record + 1) * len(content) // 8] ^= 1  # four records of one size
    path.write_bytes(content)
    iterator = placed(records, prefetch)
    for expected in batches_of(records, 2, size=8):
        assert_same(next(iterator), expected)
    with pytest.raises(DataError, match=rf"{path.name}, record {record}: got checksum"):
        next(iterator)


def test_closing_ends_the_threads(records, placed):
    before = set(threading.enumerate())
    iterator = placed(records)
    next(iterator)
    begun = set(threading.enumerate()) - before
    assert begun
    iterator.close()
    for thread in begun:
        thread.join(10)
    assert not begun & set(threading.enumerate())


def test_no_batch_is_overwritten_while_it_is_on_the_devices(records, placed):
    # On CPU JAX takes memory over without a copy where it can, and the pool gives memory again.
    kept = list(itertools.islice(placed(records, prefetch=3), 40))
    for batch, expected in zip(kept, batches_of(records, 40, size=8), strict=True):
        assert_same(batch, expected)


@pytest.mark.parametrize(
    "owners",  # of the eighths of a batch: the numbers of the processes
    [[(0,)] * 8, [(0,)] * 4 + [(1,)] * 4, [(0,), (1,)] * 4, [(0, 1)] * 4 + [(2, 3)] * 4],
)
def test_parts_of_all_processes_together_are_the_global_batch(records, monkeypatch, owners):
    # Processes own what lies on their devices, neighbours or not; those of one tensor group, alike.
    (whole,) = batches_of(records, 1, size=8)
    found = {}
    for process in {number for numbers in owners for number in numbers}:
        slices = {i: (slice(i, i + 1),) for i in range(8) if process in owners[i]}
        monkeypatch.setattr(
            jax.sharding.NamedSharding,
            "addressable_devices_indices_map",
            lambda *_, slices=slices: slices,
        )
        places = placing.own_places(PLACE, 8)
        local = pipeline._local_batches(records, "train", ("s2",), 8, 0, places)
        batch = next(iter(local))
        found |= dict(zip(places.tolist(), batch["id"], strict=True))
        np.testing.assert_array_equal(batch["image"]["s2"], whole["image"]["s2"][places])
    np.testing.assert_array_equal([found[place] for place in range(8)], whole["id"])


def test_padding_stays_marked(records):
    batch = records.read(np.arange(8), ("s2",)) | {"valid": np.arange(8) < 5}
    placed = placing.to_device(batch, PLACE)
    np.testing.assert_array_equal(placed["valid"], [True] * 5 + [False] * 3)


# --- records that were not made by `prepare`


def test_records_of_plain_shards_are_read(tmp_path):
    schema = fake_archive.toy_schema(4)
    places = [
        examples.Example(f"p{n}", fake_archive.pixels(n, schema), (), source="here")
        for n in range(3)
    ]
    encoded = [examples.encode(place, schema) for place in places]
    find = functools.partial(examples.find_images, schema=schema)
    tfrecord.write_shard(tmp_path / "a", encoded[:2], find)
    tfrecord.write_shard(tmp_path / "b", encoded[2:], find)
    files = Records([(tmp_path / "a", 2), (tmp_path / "b", 1)])
    records = pipeline.RecordSet(schema, {"train": range(3)}, {}, files)
    batch = records.read([2, 0], ("s2",))
    np.testing.assert_array_equal(batch["image"]["s2"][0], places[2].images["s2"])
    np.testing.assert_array_equal(batch["image"]["s2"][1], places[0].images["s2"])
