"""The directory of a ZIP of pictures as arrays: `zipfile` makes an object of every member, slowly.

Only what `thumbnails.writing` makes is read: members that are not compressed, named after rows, no
comments, nothing before or behind. After PKWARE's APPNOTE.TXT, 4.3.12 to 4.3.16 and 4.5.3.
"""

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

MAX_BYTES = 1 << 20  # of a picture; a file that says more is not ours
FORMS = 8  # of members that follow each other: more digits, or places beyond 2 GiB
_END = struct.Struct("<4s8xLLH")  # signature, the directory's size and start, a comment's length
_END_64 = struct.Struct("<4s36xQQ")  # signature, the directory's size and start
_LOCATOR = struct.Struct("<4s16x")
_SUFFIX = np.frombuffer(b".webp", np.uint8)
_FAR = np.frombuffer(b"\x01\x00\x08\x00", np.uint8)  # before a place that needs 8 bytes
_ENTRY = np.dtype(
    {
        "names": ("signature", "flags", "method", "crc", "size", "lengths", "start"),
        "formats": ("<u4", "<u2", "<u2", "<u4", "<u4", ("<u2", 3), "<u4"),
        "offsets": (0, 8, 10, 16, 24, 28, 42),
        "itemsize": 46,
    }
)


class Members(NamedTuple):
    """The pictures of one file, by row."""

    rows: Int64[np.ndarray, " n"]  # ascending
    starts: Int64[np.ndarray, " n"]  # of a member's head
    sizes: Int64[np.ndarray, " n"]
    checksums: Int64[np.ndarray, " n"]


def read_members(descriptor: int) -> Members:
    """Reads where the pictures of an opened file are.

    Raises:
      ValueError: it is cut off, or not one of ours; says what was found.
    """
    directory = _read_directory(descriptor)
    parts = [_members(*form) for form in _forms(directory)]
    nothing = np.zeros((4, 0), np.int64)
    columns = np.concatenate([nothing, *parts], axis=1)
    return Members(*columns[:, np.argsort(columns[0], kind="stable")])


def _read_directory(descriptor: int) -> bytes:
    end = os.fstat(descriptor).st_size - _END.size
    signature, size, start, comment = _unpack(_END, descriptor, end)
    if signature != b"PK\x05\x06" or comment:
        raise ValueError("no end of a ZIP")
    before = end - _LOCATOR.size - _END_64.size
    if before >= 0 and _unpack(_LOCATOR, descriptor, end - _LOCATOR.size)[0] == b"PK\x06\x07":
        end = before
        signature, size, start = _unpack(_END_64, descriptor, end)
    if signature not in (b"PK\x05\x06", b"PK\x06\x06") or start + size != end:
        raise ValueError(f"a directory of {size} bytes from {start} that does not end at {end}")
    return os.pread(descriptor, size, start)


def _unpack(form: struct.Struct, descriptor: int, start: int) -> tuple:
    found = os.pread(descriptor, form.size, start) if start >= 0 else b""
    if len(found) < form.size:
        raise ValueError("a file that is cut off")
    return form.unpack(found)


def _forms(
    directory: bytes,
) -> Iterator[tuple[Shaped[np.ndarray, " n"], UInt8[np.ndarray, "n _bytes"]]]:
    """Yields members one after another that are equally long: their heads, and what follows each.

    Nearly always that is all of them.
    """
    rest = np.frombuffer(directory, np.uint8)
    for _ in range(FORMS):
        if not len(rest):
            return
        head = rest[: _ENTRY.itemsize].tobytes().ljust(_ENTRY.itemsize, b"\0")
        lengths = np.frombuffer(head, _ENTRY)["lengths"][0]
        length = _ENTRY.itemsize + int(lengths.sum())
        table = rest[: len(rest) // length * length].reshape(-1, length)
        heads = np.ascontiguousarray(table[:, : _ENTRY.itemsize]).view(_ENTRY)[:, 0]
        is_same = (heads["signature"] == 0x02014B50) & (heads["lengths"] == lengths).all(axis=1)
        count = len(is_same) if is_same.all() else int(is_same.argmin())
        if not count:
            raise ValueError("a directory that is no list of members")
        yield heads[:count], table[:count, _ENTRY.itemsize :]
        rest = rest[count * length :]
    if len(rest):
        raise ValueError(f"members of more than {FORMS} forms")


def _members(
    heads: Shaped[np.ndarray, " n"], tails: UInt8[np.ndarray, "n _bytes"]
) -> Int64[np.ndarray, "4 n"]:
    name, extra, comment = map(int, heads["lengths"][0])
    digits = tails[:, : max(0, name - len(_SUFFIX))] - np.uint8(ord("0"))
    starts = heads["start"].astype(np.int64)
    is_ours = _are_plain(heads) & (digits <= 9).all(axis=1) & (7 <= digits.shape[1] <= 18)
    is_ours &= (tails[:, digits.shape[1] : name] == _SUFFIX[:name]).all(axis=1)
    if extra == len(_FAR) + 8:
        is_ours &= (tails[:, name : name + len(_FAR)] == _FAR).all(axis=1)
        starts = np.ascontiguousarray(tails[:, name + len(_FAR) : name + extra]).view("<i8")[:, 0]
        is_ours &= starts >= 0
    is_ours &= comment == 0 and extra in (0, len(_FAR) + 8)
    if not is_ours.all():
        bad = int(is_ours.argmin())
        text = tails[bad, :name].tobytes().decode("utf-8", "replace")
        raise ValueError(f"a member {text!r} of {heads['size'][bad]} bytes")
    powers = 10 ** np.arange(digits.shape[1], dtype=np.int64)[::-1]
    return np.stack([digits @ powers, starts, heads["size"], heads["crc"]]).astype(np.int64)


def _are_plain(heads: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which members are neither compressed nor encrypted nor large."""
    is_plain = (heads["method"] == 0) & (heads["flags"] & 1 == 0)
    return is_plain & (heads["size"] <= MAX_BYTES)
