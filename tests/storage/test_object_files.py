"""Files by range and whole, wherever they are."""

import concurrent.futures
import os
import pickle

import numpy as np
import pytest
from fake_store import DATA, ClientError, FakeStore

from rejepa_jax.storage import files, readers
from rejepa_jax.storage.readers import open_reader
from rejepa_jax.types import DataError


@pytest.fixture(params=["local", "file", "memory", "fake"])
def where(request, tmp_path):
    """The same bytes as a local file and as an object."""
    if request.param == "local":
        (tmp_path / "data").write_bytes(DATA)
        return str(tmp_path / "data")
    bucket = tmp_path / "bucket" if request.param == "file" else "bucket"
    files.write_bytes(f"{request.param}://{bucket}/data", DATA)
    return f"{request.param}://{bucket}/data"


def test_ranges_come_in_order_whatever_they_are(where):
    rng = np.random.default_rng(1)
    offsets, lengths = rng.integers(0, len(DATA) + 9, 60), rng.integers(0, 5000, 60)
    ranges = [(int(a), int(b)) for a, b in zip(offsets, lengths, strict=True)]
    ranges += [(0, len(DATA)), (len(DATA) - 3, 9), (len(DATA), 4), (len(DATA) + 500_000, 4)]
    expected = [DATA[offset : offset + length] for offset, length in ranges]
    reader = open_reader(where)
    assert reader.size == len(DATA)
    assert reader.read_many(ranges) == expected
    assert pickle.loads(pickle.dumps(reader)).read_many(ranges) == expected
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda part: reader.read(*part), ranges)) == expected
    assert files.read_bytes(where) == DATA
    assert files.exists(where)
    assert not files.exists(readers.join(where, "more"))


def test_local_reader_closes_itself(tmp_path):
    (tmp_path / "data").write_bytes(DATA)
    before = len(os.listdir("/proc/self/fd"))
    reader = open_reader(tmp_path / "data")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del reader
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("clock")
def test_near_ranges_are_one_request_and_only_those_that_failed_are_read_again():
    for name in "ab":
        FakeStore.objects[f"bucket/{name}"] = DATA
    near = [("fake://bucket/a", offset, 100) for offset in (0, 5000, 100)]
    far = [("fake://bucket/a", 200_000, 100), ("fake://bucket/b", 0, 100)]
    FakeStore.faults += [None, ClientError(503), None]
    read = readers.read_ranges(near + far)
    assert read == [DATA[offset : offset + length] for _, offset, length in near + far]
    paths = [path for _, path in FakeStore.requests]
    assert paths == ["bucket/a", "bucket/a", "bucket/b", "bucket/a"]
    with pytest.raises(FileNotFoundError, match=r"fake://bucket/\*: .*; fake://bucket/gone"):
        readers.read_ranges([*far, ("fake://bucket/gone", 0, 1)])


def test_object_that_is_not_what_was_sent_or_expected_is_told(tmp_path, monkeypatch):
    path = tmp_path / "data"
    path.write_bytes(DATA)

    async def cut(self, path, value, **_):
        self.objects[path] = value[:-1]

    files.upload_checked(path, "fake://bucket/data")
    with pytest.raises(DataError, match=f"bucket/data: got {len(DATA)} bytes, expected 7; remove"):
        files.download("fake://bucket/data", tmp_path / "new", 7)
    with pytest.raises(DataError, match=r"bucket/data: got sha256 \w{64}, expected abc"):
        files.download("fake://bucket/data", tmp_path / "new", len(DATA), "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    monkeypatch.setattr(FakeStore, "_pipe_file", cut)
    with pytest.raises(DataError, match=f"got {len(DATA) - 1} bytes there, expected the 300000"):
        files.upload_checked(path, "fake://bucket/data")
