"""Pictures beside the parts: any ZIP program reads them, and ours finds a row without unpacking."""

import concurrent.futures
import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from rejepa_jax.retrieval.embeddings import thumbnails
from rejepa_jax.types import DataError


def pictures(folder, rows, part=0, parts=1):
    path = folder / thumbnails.zip_name(part, parts)
    with thumbnails.writing(path) as add:
        uris = [add(row, b"picture %d" % row * 3) for row in rows]
    return path, uris


def test_rows_are_found_in_all_files_by_many_threads(tmp_path):
    rows = [*range(40), 12_345_678]
    _, uris = pictures(tmp_path, rows[:30], 0, 2)
    path, more = pictures(tmp_path, rows[30:], 1, 2)
    assert uris[7] == "thumbnails-00000-of-00002.zip/0000007.webp"
    assert more[-1] == "thumbnails-00001-of-00002.zip/12345678.webp"
    with zipfile.ZipFile(path) as file:
        assert {member.compress_type for member in file.infolist()} == {zipfile.ZIP_STORED}
        assert file.read("0000031.webp") == b"picture 31picture 31picture 31"
    shown = thumbnails.Thumbnails(tmp_path)
    asked = rows * 20
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(shown.read, asked))
    assert got == [b"picture %d" % row * 3 for row in asked]
    assert shown.read(40) is shown.read(-1) is shown.read(10**9) is None
    shown.close()


def test_files_of_many_pictures_and_many_gigabytes_are_read_as_any_zip_program_does(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)  # of ZIP's first form: 65,535
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 200)  # bytes: 2 GiB
    rows = [8, 9, 3, *range(9_999_990, 10_000_010)]
    path, _ = pictures(tmp_path, rows)
    with zipfile.ZipFile(path) as file:
        extra = [len(member.extra) for member in file.infolist()]
        assert extra[:2] == [0, 0]
        assert set(extra[4:]) == {12}
        expected = {int(name[:-5]): file.read(name) for name in file.namelist()}
    shown = thumbnails.Thumbnails(tmp_path)
    assert {row: shown.read(row) for row in rows} == expected
    assert shown.read(10) is None
    whole = path.read_bytes()
    at = whole.rindex(b"\x01\x00\x08\x00") + 4
    for content, what in (
        (whole[:at] + b"\xff" * 8 + whole[at + 8 :], "a member '10000009.webp'"),
        (whole + b"behind", "no end of a ZIP"),
        (b"before" + whole, "a directory of .* that does not end at"),
        (whole.replace(b"PK\x01\x02", b"PK\x01\x03"), "no list of members"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=what):
            thumbnails.Thumbnails(tmp_path)


def test_pictures_that_were_opened_are_there_while_an_update_removes_the_files(tmp_path):
    path, _ = pictures(tmp_path, range(3))
    shown = thumbnails.Thumbnails(tmp_path)
    path.unlink()
    assert shown.read(2) == b"picture 2" * 3


def test_without_pictures_there_are_none(tmp_path):
    assert thumbnails.Thumbnails(tmp_path).read(0) is None
    with thumbnails.drawing(tmp_path / "none.zip", ("B1",), 0) as draw:
        assert draw(np.arange(2), np.zeros((2, 4, 4, 1), np.uint8)) == ["", ""]
    assert not list(tmp_path.iterdir())


def test_equal_pictures_make_equal_files_and_a_cut_short_one_leaves_none(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        pictures(tmp_path / name, range(3))
    first, second = (next((tmp_path / name).iterdir()).read_bytes() for name in "ab")
    assert first == second
    path = tmp_path / thumbnails.zip_name(0, 1)
    with pytest.raises(KeyError), thumbnails.writing(path) as add:
        add(0, b"x")
        raise KeyError
    assert not path.exists()


@pytest.mark.parametrize(
    ("shape", "size"),
    [((120, 60, 3), (48, 96)), ((20, 10, 3), (10, 20)), ((200, 300, 3), (96, 64))],
)
def test_images_are_drawn_small_in_their_own_proportions(shape, size):
    image = np.zeros(shape, np.uint8)
    image[:, shape[1] // 2 :] = (250, 20, 20)  # the right half is red
    picture = Image.open(io.BytesIO(thumbnails.webp(image, ("red", "green", "blue"), 96)))
    assert picture.format == "WEBP"
    assert picture.size == size
    left, right = (picture.convert("RGB").getpixel((x, size[1] // 2)) for x in (1, size[0] - 2))
    assert max(left) < 40
    assert right[0] > 200 > 60 > right[1]


def test_an_altered_picture_and_files_that_are_not_ours_are_refused(tmp_path):
    path, _ = pictures(tmp_path, range(5))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"picture 2picture 2", b"picture 2picture X"))
    shown = thumbnails.Thumbnails(tmp_path)
    assert shown.read(1) == b"picture 1" * 3
    with pytest.raises(DataError, match="picture of row 2 with another checksum"):
        shown.read(2)
    for damaged in (whole[:-30], b"", b"no zip at all"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"00001\.zip: got .*expected the thumbnails of a part"):
            thumbnails.Thumbnails(tmp_path)
    for name, kind in (
        ("../../0000001.webp", zipfile.ZIP_STORED),
        ("/etc/passwd", zipfile.ZIP_STORED),
        ("0000001.webp", zipfile.ZIP_DEFLATED),
    ):
        with zipfile.ZipFile(path, "w", kind) as file:
            file.writestr(name, b"x" * 99)
        with pytest.raises(DataError, match="got a member"):
            thumbnails.Thumbnails(tmp_path)


def test_a_directory_that_lies_about_places_and_sizes_reads_nothing_else(tmp_path):
    path, _ = pictures(tmp_path, range(3))
    whole = path.read_bytes()
    at = whole.index(b"PK\x01\x02")  # the directory's first entry: sizes at 20, place at 42
    for offset, value in ((42, 5), (42, 10**6), (24, 12)):
        entry = bytearray(whole)
        entry[at + offset : at + offset + 4] = struct.pack("<I", value)
        path.write_bytes(bytes(entry))
        with pytest.raises(DataError, match="picture of row 0"):
            thumbnails.Thumbnails(tmp_path).read(0)
