"""The framing by hand, every way a shard can be damaged, and many readers at once."""

import concurrent.futures
import hashlib
import os
import pickle
import re
import struct

import numpy as np
import pytest

from rejepa_jax.data import tfrecord
from rejepa_jax.data.records import Records
from rejepa_jax.data.shard import Part
from rejepa_jax.types import DataError

DATA = (b"two", b"", b"stork")
# What tf.io.TFRecordWriter of TensorFlow 2.20 writes for DATA.
TENSORFLOW = (
    "0300000000000000b099490e74776f8990c909"
    "000000000000000029039807d8ea82a2"
    "0500000000000000eab2043e73746f726bf07fb33e"
)


def crc32c(data):
    """Bit by bit, as the polynomial 0x1EDC6F41 (reflected) says."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | (crc & 0x7FFF) << 17) + 0xA282EAD8) % 2**32)


def frame(data):
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def refused(path, record):
    return pytest.raises(DataError, match=re.escape(f"{path}, record {record}: got "))


@pytest.fixture
def shard(tmp_path):
    """A shard of DATA: frames begin at bytes 0, 19 and 35, and it ends at 56."""
    path = tmp_path / "birds-train.tfrecord-00000-of-00001"
    tfrecord.write_shard(path, DATA)
    return path


def test_the_crc_of_this_test_has_the_published_check_value():
    assert crc32c(b"123456789") == 0xE3069283


def test_a_shard_is_frames_and_nothing_else(shard):
    assert shard.read_bytes() == b"".join(map(frame, DATA))
    assert shard.read_bytes().hex() == TENSORFLOW


def test_index_holds_offsets_and_lengths(shard):
    index = np.load(f"{shard}.index.npy", allow_pickle=False)
    assert index.dtype == np.int64
    assert index.tolist() == [[12, 3], [31, 0], [47, 5]]


def test_info_describes_the_file_and_nothing_else_is_left(shard):
    info = tfrecord.write_shard(shard, iter(DATA))
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    assert info == tfrecord.ShardInfo(records=3, bytes=56, sha256=digest)
    assert sorted(os.listdir(shard.parent)) == [shard.name, f"{shard.name}.index.npy"]


def test_scan_gives_the_records_in_order(shard):
    assert tuple(tfrecord.scan(shard)) == DATA


def test_writing_twice_gives_the_same_bytes(shard):
    before = shard.read_bytes(), shard.with_name(f"{shard.name}.index.npy").read_bytes()
    tfrecord.write_shard(shard, DATA)
    assert before == (shard.read_bytes(), shard.with_name(f"{shard.name}.index.npy").read_bytes())


def test_a_write_that_stops_leaves_the_old_shard(shard):
    def stopping():
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tfrecord.write_shard(shard, stopping())
    assert Records([(shard, 3)]).read(range(3)) == list(DATA)


def many_shards(directory, sizes=(4, 0, 7, 1, 5)):
    rng = np.random.default_rng(0)
    records = [rng.bytes(int(rng.integers(0, 300))) for _ in range(sum(sizes))]
    shards, start = [], 0
    for number, size in enumerate(sizes):
        path = directory / f"shard-{number}"
        tfrecord.write_shard(path, records[start : start + size])
        shards.append((path, size))
        start += size
    return shards, records


def test_records_run_through_the_shards_in_order(tmp_path):
    shards, expected = many_shards(tmp_path)
    records = Records(shards)
    assert len(records) == 17
    assert list(records) == expected
    indices = np.random.default_rng(1).integers(0, 17, 100)
    assert records.read(indices) == [expected[index] for index in indices]


def test_a_shard_without_records_reads_as_none(tmp_path):
    tfrecord.write_shard(tmp_path / "empty", [])
    assert list(tfrecord.scan(tmp_path / "empty")) == []
    assert len(Records([(tmp_path / "empty", 0)])) == 0
    assert len(Records([])) == 0


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_is_refused(shard, index):
    with pytest.raises(IndexError, match=f"got record {index}, expected one of the 3"):
        Records([(shard, 3)])[index]


def test_a_pickled_copy_reads_on(tmp_path):
    shards, expected = many_shards(tmp_path)
    records = Records(shards)
    records.read(range(17))
    assert list(pickle.loads(pickle.dumps(records))) == expected


def test_threads_share_one_object_also_while_shards_close(tmp_path, monkeypatch):
    monkeypatch.setattr("rejepa_jax.data.records.MAX_OPEN", 2)
    shards, expected = many_shards(tmp_path)
    records = Records(shards)

    def read(seed):
        order = np.random.default_rng(seed).permutation(np.repeat(np.arange(17), 20))
        return records.read(order) == [expected[index] for index in order]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(16)))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs a list of open files")
def test_open_files_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("rejepa_jax.data.records.MAX_OPEN", 2)
    shards, expected = many_shards(tmp_path, sizes=(1,) * 20)
    before = len(os.listdir("/proc/self/fd"))
    records = Records(shards)
    assert list(records) == expected
    assert len(os.listdir("/proc/self/fd")) <= before + 4
    del records
    assert len(os.listdir("/proc/self/fd")) == before


def test_every_flipped_byte_is_refused_by_file_and_record(shard):
    # Length, its checksum, data and the data's checksum of all three records.
    whole = shard.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        shard.write_bytes(damaged)
        bad = 0 if position < 19 else 1 if position < 35 else 2
        records = Records([(shard, 3)])
        for record in range(3):
            if record != bad:
                assert records[record] == DATA[record]
        with refused(shard, bad):
            records[bad]
        with refused(shard, bad):
            list(tfrecord.scan(shard))


@pytest.mark.parametrize(
    ("position", "what"),
    [(19, "of the length"), (27, "of the length"), (14, "of the data"), (15, "of the data")],
)
def test_a_flip_says_which_checksum_fails(shard, position, what):
    damaged = bytearray(shard.read_bytes())
    damaged[position] ^= 128
    shard.write_bytes(damaged)
    with pytest.raises(DataError, match=rf"got checksum 0x\w+ {what}, expected 0x\w+; remove"):
        Records([(shard, 3)]).read(range(3))


def test_every_cut_is_refused_by_file_and_record(shard):
    whole = shard.read_bytes()
    for size in range(len(whole)):
        shard.write_bytes(whole[:size])
        cut = 0 if size < 19 else 1 if size < 35 else 2
        with refused(shard, cut) as error:
            Records([(shard, 3)])[0]
        assert f"got {size} bytes in the file, expected 56" in str(error.value)
        if size in (0, 19, 35):  # only an index can tell
            assert tuple(tfrecord.scan(shard)) == DATA[:cut]
        else:
            with refused(shard, cut):
                list(tfrecord.scan(shard))


def test_bytes_after_the_last_record_are_refused(shard):
    shard.write_bytes(shard.read_bytes() + frame(b"one more"))
    with refused(shard, 3):
        Records([(shard, 3)])[0]


def test_fewer_records_than_the_manifest_promises_are_refused(shard):
    # Shard and index agree: both lost the same record, or are from another run.
    tfrecord.write_shard(shard, DATA[:2])
    with pytest.raises(DataError, match=r"index\.npy: got 160 bytes that are no index of 3"):
        Records([(shard, 3)])[0]


def test_another_shards_index_of_the_same_size_is_refused(shard):
    other = shard.with_name("other")
    tfrecord.write_shard(other, [b"two", b"s", b"tork"])
    os.replace(f"{other}.index.npy", f"{shard}.index.npy")
    records = Records([(shard, 3)])
    assert records[0] == b"two"
    with refused(shard, 1) as error:
        records[1]
    assert "got length 0, expected 1 (index)" in str(error.value)


def test_every_flipped_number_of_the_index_is_refused(shard):
    index = shard.with_name(f"{shard.name}.index.npy")
    whole = index.read_bytes()
    for position in range(len(whole) - 48, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        index.write_bytes(damaged)
        with pytest.raises(DataError, match=re.escape(str(shard))):
            Records([(shard, 3)])[0]


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_cut_index_is_refused(shard, size):
    index = shard.with_name(f"{shard.name}.index.npy")
    index.write_bytes(index.read_bytes()[:size])
    with pytest.raises(DataError, match=rf"{re.escape(str(index))}: got \d+ bytes that are no"):
        Records([(shard, 3)])[0]


def test_an_index_that_holds_pickled_objects_is_refused(shard):
    np.save(f"{shard}.index.npy", np.array([[object(), 3]] * 3), allow_pickle=True)
    with pytest.raises(DataError, match=r"bytes that are no index of 3"):
        Records([(shard, 3)])[0]


def test_what_is_missing_is_named_only_when_it_is_read(shard):
    missing = shard.with_name("missing")
    records = Records([(missing, 2), (shard, 3)])
    assert records.read([2, 3, 4]) == list(DATA)
    with pytest.raises(DataError, match=re.escape(f"{missing}: got no such shard")):
        records[1]
    with pytest.raises(DataError, match=re.escape(f"{missing}: got no such shard")):
        list(tfrecord.scan(missing))
    os.remove(f"{shard}.index.npy")
    with pytest.raises(DataError, match=r"index\.npy: got no .* run prepare again"):
        Records([(shard, 3)])[0]


# --- parts that are read into place

HEAD, PIXELS = b"head:", b"pixels!"
PART = Part(0, HEAD)
TAIL = Part(1, b"")


@pytest.fixture
def parted(tmp_path):
    """Records of `<n letters>head:pixels!tail`, with the places of the pixels and of the tail."""
    path = tmp_path / "parted"
    records = [b"x" * n + HEAD + PIXELS + b"tail" for n in range(4)]
    tfrecord.write_shard(path, records, lambda data: (len(data) - 11, len(data) - 4))
    return path


def into(*sizes, rows=1):
    return [np.zeros((rows, size), np.uint8) for size in sizes]


def test_parts_are_read_into_place(parted):
    records = Records([(parted, 4)])
    pixels, tail = into(7, 4, rows=3)
    records.read_into([3, 0, 2], [PART, TAIL], [pixels, tail])
    assert (pixels.tobytes(), tail.tobytes()) == (3 * PIXELS, 3 * b"tail")
    (tail,) = into(4)
    records.read_into([1], [TAIL], [tail])
    assert tail.tobytes() == b"tail"


@pytest.mark.parametrize("check", ["every", "first"])
def test_every_flipped_byte_is_refused_when_parts_are_read(parted, check):
    whole = parted.read_bytes()
    for position in range(12 + 16 + 4):  # the first record's frame
        parted.write_bytes(bytes(b ^ (i == position) for i, b in enumerate(whole)))
        with refused(parted, 0):
            Records([(parted, 4)], check).read_into([0], [PART], into(7))
    parted.write_bytes(whole)


def test_a_record_is_checked_again_only_where_that_is_asked_for(parted):
    every, first = (Records([(parted, 4)], check) for check in ("every", "first"))
    for records in (every, first):
        records.read_into([2], [PART], into(7))
    whole = bytearray(parted.read_bytes())
    whole[whole.rindex(PIXELS, 0, len(whole) - 35)] ^= 1  # in the third record
    parted.write_bytes(whole)
    with refused(parted, 2):
        every.read_into([2], [PART], into(7))
    (pixels,) = into(7)
    first.read_into([2], [PART], [pixels])  # known as whole, and read as it is now
    assert pixels.tobytes() != PIXELS
    with refused(parted, 2):
        pickle.loads(pickle.dumps(first)).read_into([2], [PART], into(7))


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        (2, 1, "got other bytes before a part"),
        (2, -1, "got other bytes before a part"),
        (2, -3, "got other bytes before a part"),
        (2, 50, r"got \[55, 12\] as places"),
        (2, -60, r"got \[-55, 12\] as places"),
    ],
)
def test_a_part_that_the_index_has_elsewhere_is_refused(parted, column, change, message):
    index = parted.with_name("parted.index.npy")
    table = np.load(index)
    table[0, column] += change
    np.save(index, table)
    with pytest.raises(DataError, match=f"parted.index.npy, record 0: {message}, expected"):
        Records([(parted, 4)]).read_into([0], [PART], into(7))


def test_a_shard_without_parts_cannot_give_one(shard):
    with pytest.raises(DataError, match=r"record 2: got \[\] as places, expected"):
        Records([(shard, 3)]).read_into([2], [PART], into(7))
