"""The files of an archive, read where they lie: in a folder, an uncompressed .tar or a .zip.

Nothing is ever extracted. A .tar or .zip is listed once; a file in it is then read by its place,
through a handle of its own, so that threads, forks and pickled copies share no position.
"""

import dataclasses
import functools
import os
import pathlib
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from rejepa_jax.data.archives.identity import is_junk, sample
from rejepa_jax.data.examples import Example, Schema
from rejepa_jax.types import DataError

# How a compressed file begins, and what undoes the compression.
_COMPRESSED = {
    b"\x1f\x8b": "gzip -d",
    b"BZh": "bzip2 -d",
    b"\xfd7zXZ": "xz -d",
    b"\x28\xb5\x2f\xfd": "zstd -d",
}


class ArchiveFiles:
    """Random access to the files of an archive; can be pickled and shared between threads."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Lists a .tar or .zip; a folder is only listed when `names` asks.

        Raises:
            DataError: If nothing is there, or it is compressed, damaged or no archive.
        """
        self.path = pathlib.Path(path)
        if not os.fspath(path) or not self.path.exists():
            raise DataError(
                f"archive {os.fspath(path)!r}: got nothing, expected a folder, a .tar or a .zip; "
                "set --config.data.archive=PATH"
            )
        self._members = None if self.path.is_dir() else _list_members(self.path)

    def names(self, skip_folders: Iterable[str] = ()) -> tuple[str, ...]:
        """Lists the files, sorted, without hidden ones and those that macOS adds.

        Folders with a name in `skip_folders` are not entered; links to folders never are.
        """
        skip = frozenset(skip_folders)
        if self._members is None:
            return tuple(sorted(_walk(self.path, skip)))
        return tuple(sorted(n for n in self._members if skip.isdisjoint(n.split("/"))))

    def read(self, name: str) -> bytes:
        """Reads one file; raises a DataError with its name if it is missing or damaged."""
        try:
            if self._members is not None:
                return self._members[name].read(self.path, name)
            if pathlib.PurePath(name).is_absolute() or ".." in name.split("/"):
                raise KeyError(name)
            return (self.path / name).read_bytes()
        except (KeyError, OSError) as error:
            raise _refusal(self.path, name, repr(error), "a readable file", "restore it") from error

    def stamp(self, name: str) -> str:
        """Tells whether a file is still the one that was read, without reading it; "" = not known.

        In a .zip each file has a checksum; if a .tar has changed, so has every file in it.
        """
        if self._members is None:
            try:
                status = (self.path / name).stat()
            except (OSError, ValueError):
                return ""
            return f"{status.st_size} {status.st_mtime_ns}"
        member = self._members.get(name)
        return f"{member.crc}" if isinstance(member, _ZipMember) else self._sample

    @functools.cached_property
    def _sample(self) -> str:
        return sample(self.path)


@dataclasses.dataclass(frozen=True)
class Item:
    """One place of an archive: cheap to pickle and send to a worker."""

    id: str
    split: str
    labels: tuple[int, ...]
    files: dict[str, str]  # what it is -> its name in the archive
    place: str = ""  # the same for all images of one ground, at any date; "" = unknown
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)  # what else `read` needs; JSON


@dataclasses.dataclass(frozen=True)
class Archive:
    """What a layout finds in an archive; can be pickled."""

    schema: Schema
    items: tuple[Item, ...]  # by split and id: the order of the records
    files: ArchiveFiles
    read: Callable[[ArchiveFiles, Item, Schema], Example]  # a function of the layout's module
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the listing; for people


class _TarMember(NamedTuple):
    offset: int
    size: int

    def read(self, path: pathlib.Path, name: str) -> bytes:
        with path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise _refusal(path, name, f"{len(content)} bytes", f"{self.size}: it is cut off")
        return content


class _ZipMember(NamedTuple):
    offset: int  # of the member's own header
    packed_size: int
    size: int
    method: int  # of compression
    crc: int

    def read(self, path: pathlib.Path, name: str) -> bytes:
        with path.open("rb") as file:
            file.seek(self.offset)
            header = file.read(30).ljust(30, b"\0")
            file.seek(sum(struct.unpack_from("<HH", header, 26)), os.SEEK_CUR)  # name, extra field
            content = file.read(self.packed_size)
        if self.method == zipfile.ZIP_DEFLATED:
            try:  # one byte more than promised is enough to see that the promise is broken
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, self.size + 1)
            except zlib.error as error:
                raise _refusal(path, name, str(error), "deflated data") from error
        if len(content) != self.size or zlib.crc32(content) != self.crc:
            raise _refusal(path, name, "other bytes", "those of its checksum")
        return content


def _walk(root: pathlib.Path, skip: frozenset[str]) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root, onerror=_raise):
        subfolders[:] = [name for name in subfolders if name not in skip and not is_junk(name)]
        relative = pathlib.Path(folder).relative_to(root)
        yield from ((relative / name).as_posix() for name in files if not is_junk(name))


def _raise(error: OSError) -> None:
    raise DataError(f"archive: got {error!r}, expected a readable folder; correct it") from error


def _list_members(path: pathlib.Path) -> dict[str, _TarMember | _ZipMember]:
    with path.open("rb") as file:
        head = file.read(512)
    is_tar = head[257:262] == b"ustar"
    commands = [command for magic, command in _COMPRESSED.items() if head.startswith(magic)]
    if commands and not is_tar:
        do = f"decompress it first (`{commands[0]}`)"
        raise _refusal(path, "", "a compressed file", "one that can be read at random", do)
    is_zip = head.startswith(b"PK") and not is_tar
    members = {}
    try:
        for name, member in (_list_zip if is_zip else _list_tar)(path):
            parts = [part for part in name.split("/") if part not in ("", ".")]
            if ".." in parts or name.startswith("/"):
                raise _refusal(path, name, "a name that leaves the archive", "one inside it")
            if (name := "/".join(parts)) in members:
                raise _refusal(path, name, "two files of that name", "one")
            if not any(map(is_junk, parts)):
                members[name] = member
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise _refusal(path, "", repr(error), "a folder, or a whole .tar or .zip") from error
    return members


def _list_tar(path: pathlib.Path) -> Iterator[tuple[str, _TarMember]]:
    with tarfile.open(path, "r:") as tar:
        while (member := tar.next()) is not None:
            # It keeps a kilobyte for each, and there can be eight million.
            tar.members.clear()  # pyrefly: ignore[missing-attribute]
            if member.issparse():
                raise _refusal(path, member.name, "a sparse file", "a plain one")
            if member.isreg():
                yield member.name, _TarMember(member.offset_data, member.size)
        end = tar.offset
    # tarfile takes a header that is cut off or damaged for the end; the true one is zeros.
    if _TarMember(end, tarfile.BLOCKSIZE).read(path, "") != bytes(tarfile.BLOCKSIZE):
        raise _refusal(path, "", f"a broken header at byte {end}", "a member or the end")


def _list_zip(path: pathlib.Path) -> Iterator[tuple[str, _ZipMember]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
                continue
            if info.flag_bits & 1 or info.compress_type not in (0, zipfile.ZIP_DEFLATED):
                raise _refusal(path, info.filename, "encryption or a rare compression", "deflate")
            place = info.header_offset, info.compress_size, info.file_size
            yield info.filename, _ZipMember(*place, info.compress_type, info.CRC)


def _refusal(path: pathlib.Path, name: str, got: str, expected: str, do: str = "") -> DataError:
    place = f"archive {path}, file {name}" if name else f"archive {path}"
    return DataError(f"{place}: got {got}, expected {expected}; {do or 'build it again'}")
