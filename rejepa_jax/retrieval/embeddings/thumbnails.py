"""Small pictures of an export's images: beside each part a ZIP, whose members are not compressed.

    thumbnails-00000-of-00002.zip   beside part-00000-of-00002.parquet
        0000123.webp                the picture of row 123

Any program reads them, and a server finds a picture's bytes without unpacking anything.
"""

import contextlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from rejepa_jax.data import sensors
from rejepa_jax.data.workers import count_cores
from rejepa_jax.retrieval.embeddings.writing import whole
from rejepa_jax.retrieval.embeddings.zip_directory import Members, read_members
from rejepa_jax.types import DataError

QUALITY, METHOD = 80, 2  # of WebP: a method above 2 takes twice the time for no fewer bytes
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # equal pictures make equal files
_HEAD = struct.Struct("<4s22xHH")  # of a member: signature, lengths of name and extra field


def zip_name(part: int, parts: int) -> str:
    """Names the pictures of part `part` of `parts`."""
    return f"thumbnails-{part:05d}-of-{parts:05d}.zip"


def webp(image: Shaped[np.ndarray, "h w c"], bands: Sequence[str], longest: int) -> bytes:
    """Renders an image for people, its longer side at most `longest` pixels; enlarges none."""
    picture = Image.fromarray(sensors.picture(image, bands))
    picture.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=None)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    return buffer.getvalue()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Callable[[int, bytes], str]]:
    """Yields what adds the picture of a row and returns its URI; the file is whole or not there."""
    with whole(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as file:

        def add(row: int, picture: bytes) -> str:
            member = zipfile.ZipInfo(f"{row:07d}.webp", LONG_AGO)
            file.writestr(member, picture)
            return f"{path.name}/{member.filename}"

        yield add


@contextlib.contextmanager
def drawing(
    path: Path, bands: Sequence[str], longest: int
) -> Iterator[Callable[[np.ndarray, np.ndarray], Iterable[str]]]:
    """Yields what draws images of rows in threads; the URIs it returns are there when they are.

    Without a size it draws nothing, and there is no file.
    """
    if not longest:
        yield lambda rows, _: [""] * len(rows)
        return
    with ThreadPoolExecutor(count_cores()) as pool, writing(path) as add:

        def draw(rows: np.ndarray, images: np.ndarray) -> Iterable[str]:
            pictures = pool.map(lambda image: webp(image, bands, longest), images)  # begins now
            return (add(int(row), picture) for row, picture in zip(rows, pictures, strict=True))

        yield draw


class _Place(NamedTuple):
    """Where the pictures of one file are."""

    path: Path
    descriptor: int
    members: Members


class Thumbnails:
    """The pictures of an export: opened once, 32 bytes of memory each, read by any thread."""

    def __init__(self, directory: Path):
        """Reads where the pictures are.

        Raises:
          DataError: a file is damaged or not one of ours.
        """
        self._places = [_open(path) for path in sorted(directory.glob("thumbnails-*.zip"))]

    def read(self, row: int) -> bytes | None:
        """Returns the WebP bytes of a row's picture; None where there is none.

        Raises:
          DataError: the picture is damaged.
        """
        for place in self._places:
            rows = place.members.rows
            at = int(np.searchsorted(rows, row))
            if at < len(rows) and rows[at] == row:
                return _read(place, at)
        return None

    def close(self) -> None:
        """Closes the files; nothing can be read any more."""
        for place in self._places:
            os.close(place.descriptor)
        self._places = []


def _open(path: Path) -> _Place:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return _Place(path, descriptor, read_members(descriptor))
    except ValueError as error:
        os.close(descriptor)
        raise _damaged(path, str(error)) from error


def _read(place: _Place, at: int) -> bytes:
    row, start, size, checksum = (int(column[at]) for column in place.members)
    head = os.pread(place.descriptor, _HEAD.size, start)
    if len(head) < _HEAD.size:
        raise _damaged(place.path, f"picture of row {row} cut off")
    signature, *lengths = _HEAD.unpack(head)
    picture = os.pread(place.descriptor, size, start + _HEAD.size + sum(lengths))
    if signature != b"PK\x03\x04" or zlib.crc32(picture) != checksum:
        raise _damaged(place.path, f"picture of row {row} with another checksum")
    return picture


def _damaged(path: Path, got: str) -> DataError:
    return DataError(f"{path}: got {got}, expected the thumbnails of a part; export it again")
