"""A change of the archive shows; a copy of a file, and rubbish in a folder, do not."""

import hashlib
import os

import pytest

from rejepa_jax.data.archives import identity as module
from rejepa_jax.data.archives.identity import identity


def test_a_file_is_its_name_size_and_bytes_whenever_it_was_copied(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"some bytes")
    digest = hashlib.sha256(b"some bytes").hexdigest()
    assert identity(path) == {"name": "x.tar", "bytes": 10, "sample": digest}
    before = identity(path)
    os.utime(path, ns=(0, 123456789))
    assert identity(path) == before
    path.write_bytes(b"same bytes")
    assert identity(path) != before


def test_a_large_file_is_sampled_from_its_first_byte_to_its_last(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCKS", 4)
    monkeypatch.setattr(module, "BLOCK", 10)
    path = tmp_path / "x.tar"
    path.write_bytes(bytes(100))
    before = identity(path)
    seen = []
    for place in range(100):
        path.write_bytes(bytes(place) + b"1" + bytes(99 - place))
        if identity(path) != before:
            seen.append(place)
    assert seen == [*range(10), *range(30, 40), *range(60, 70), *range(90, 100)]


@pytest.fixture
def folder(tmp_path):
    for name in ("a/b/1.tif", "a/2.tif", "c/3.tif", "table.csv"):
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12")
    return tmp_path / "archive"


@pytest.mark.parametrize("name", ["a/b/1.tif", "a/b/4.tif", "table.csv", "d/5.tif"])
def test_what_is_changed_or_added_anywhere_shows(folder, name):
    before = identity(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"34")
    os.utime(folder / name, ns=(1, 1))  # also where the clock is coarse
    assert identity(folder) != before


def test_hidden_files_do_not_show(folder):
    before = identity(folder)
    for name in (".DS_Store", "a/._2.tif", "__MACOSX/x"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"rubbish")
    assert identity(folder) == before


def test_a_folder_of_too_many_is_its_number_and_time(folder, monkeypatch):
    monkeypatch.setattr(module, "FILES", 0)
    before = identity(folder)
    os.utime(folder / "a/b/1.tif", ns=(1, 1))
    assert identity(folder) == before
    (folder / "a/b/4.tif").write_bytes(b"12")
    assert identity(folder) != before
