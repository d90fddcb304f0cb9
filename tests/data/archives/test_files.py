import concurrent.futures
import gzip
import io
import os
import pickle
import random
import shutil
import tarfile
import zipfile

import pytest

from rejepa_jax.data.archives.files import ArchiveFiles
from rejepa_jax.types import DataError

CONTENT = {
    "a.txt": b"first",
    "one/b.bin": bytes(range(256)) * 5,
    "one/empty": b"",
    "one/two/c.jpg": random.Random(0).randbytes(3000),
    "z" * 120 + "/long name.tif": b"more than a plain header holds",
}
JUNK = (".DS_Store", "__MACOSX/one/b.bin", "one/._b.bin", ".git/config")


def write_tar(path, content, prefix=""):
    with tarfile.open(path, "w") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_zip(path, content, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(params=["folder", "tar", "tar of .", "zip", "stored zip"])
def archive(request, tmp_path):
    content = CONTENT | dict.fromkeys(JUNK, b"junk")
    if request.param == "folder":
        for name, data in content.items():
            (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "root" / name).write_bytes(data)
        return tmp_path / "root"
    if "tar" in request.param:
        return write_tar(tmp_path / "x.tar", content, "./" if request.param.endswith(".") else "")
    stored = request.param == "stored zip"
    return write_zip(tmp_path / "x.zip", content, 0 if stored else zipfile.ZIP_DEFLATED)


def test_every_form_holds_the_same_files(archive):
    files = ArchiveFiles(archive)
    assert files.names() == tuple(sorted(CONTENT))
    assert {name: files.read(name) for name in files.names()} == CONTENT


def test_folders_can_be_skipped(archive):
    assert ArchiveFiles(archive).names(["two", "z" * 120]) == ("a.txt", "one/b.bin", "one/empty")
    assert ArchiveFiles(str(archive)).names(iter(["one"])) == (
        "a.txt",
        "z" * 120 + "/long name.tif",
    )


def test_a_pickled_copy_reads_in_many_threads(archive):
    files = pickle.loads(pickle.dumps(ArchiveFiles(archive)))
    names = list(CONTENT) * 40
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(files.read, names)) == [CONTENT[name] for name in names]


def test_a_file_that_is_missing_is_named(archive):
    for name in ("one/missing.tif", "one", "../x.tar", "one/../../root/a.txt", "/etc/hostname"):
        with pytest.raises(DataError, match=f"{name}.*expected a readable file; restore it"):
            ArchiveFiles(archive).read(name)


def test_nothing_there(tmp_path):
    for path in (tmp_path / "missing.tar", ""):
        with pytest.raises(DataError, match=r"set --config\.data\.archive=PATH"):
            ArchiveFiles(path)


def test_compressed_tars_are_refused_with_the_command(tmp_path):
    tar = write_tar(tmp_path / "x.tar", CONTENT).read_bytes()
    path = tmp_path / "misleading.tar"
    path.write_bytes(gzip.compress(tar))
    with pytest.raises(DataError, match=r"misleading\.tar.*compressed.*gzip -d"):
        ArchiveFiles(path)
    path.write_bytes(b"\x28\xb5\x2f\xfd" + tar)
    with pytest.raises(DataError, match="zstd -d"):
        ArchiveFiles(path)


def test_a_tar_cut_off_anywhere_is_refused(tmp_path):
    whole = write_tar(tmp_path / "whole.tar", {"a": b"1" * 700, "b": b"2" * 512}).read_bytes()
    path = tmp_path / "cut.tar"
    # header, 2 blocks of content; header, 1 block; then zeros, of which one block has to be there
    for size in [0, 1, 511, *range(512, 6 * 512, 100), 3 * 512, 5 * 512, 6 * 512 - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.tar"):
            ArchiveFiles(path)
    path.write_bytes(whole[: 6 * 512])
    assert ArchiveFiles(path).names() == ("a", "b")


def test_a_tar_with_a_broken_header_is_refused_not_shortened(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"a": b"1", "b": b"2", "c": b"3"})
    damaged = bytearray(path.read_bytes())
    damaged[2 * 512 + 100] ^= 1  # in the header of b
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="broken header at byte 1024"):
        ArchiveFiles(path)


def test_a_tar_that_shrinks_after_it_was_listed_is_noticed(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"a": b"1" * 5000})
    files = ArchiveFiles(path)
    os.truncate(path, 2000)
    with pytest.raises(DataError, match="file a: got 1488 bytes, expected 5000"):
        files.read("a")


def test_a_damaged_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a": b"1" * 5000, "b": bytes(range(200))}, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(DataError, match=r"x\.zip.*whole"):
        ArchiveFiles(path)
    path.write_bytes(whole.replace(b"1111", b"1211", 1))
    with pytest.raises(DataError, match="file a: got other bytes"):
        ArchiveFiles(path).read("a")
    assert ArchiveFiles(path).read("b") == bytes(range(200))


def test_a_zip_member_larger_than_it_says_is_not_inflated(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"bomb": bytes(10_000_000)})
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match="file bomb"):
        ArchiveFiles(path).read("bomb")


def test_a_zip_with_a_rare_compression_is_refused(tmp_path):
    with pytest.raises(DataError, match="file a: got encryption or a rare compression"):
        ArchiveFiles(write_zip(tmp_path / "x.zip", {"a": b"1"}, zipfile.ZIP_BZIP2))


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "notes.tar"
    path.write_text("no archive at all " * 100)
    with pytest.raises(
        DataError, match=r"notes\.tar.*expected a folder, or a whole \.tar or \.zip"
    ):
        ArchiveFiles(path)


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("name", ["../outside.txt", "one/../../outside.txt", "/etc/passwd"])
def test_names_that_leave_the_archive_are_refused(tmp_path, write, name):
    with pytest.raises(DataError, match="a name that leaves the archive"):
        ArchiveFiles(write(tmp_path / "x", {"a": b"1", name: b"2"}))


def test_two_files_of_one_name_are_refused(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"a": b"1", "./a": b"2"})
    with pytest.raises(DataError, match="file a: got two files of that name"):
        ArchiveFiles(path)


def test_links_in_a_tar_are_no_files(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_bytes(b"1")
    (tmp_path / "root" / "link").symlink_to("/etc/passwd")
    path = shutil.make_archive(str(tmp_path / "x"), "tar", tmp_path, "root")
    assert ArchiveFiles(path).names() == ("root/a",)


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    inner = write_zip(tmp_path / "inner.zip", {"inner": b"1"}).read_bytes()
    path = write_tar(tmp_path / "x.tar", {"PK": b"1", "inner.zip": inner})
    assert ArchiveFiles(path).names() == ("PK", "inner.zip")
