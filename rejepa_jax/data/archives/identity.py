"""What tells an archive from another, or from itself before a change, without reading all of it."""

import hashlib
import os
import pathlib
from collections.abc import Iterator

BLOCKS, BLOCK = 256, 64 << 10  # of a file: 16 MiB, evenly spaced
DEPTH, FOLDERS, FILES = 4, 1000, 20_000  # of a folder: what is looked into


def identity(path: pathlib.Path) -> dict[str, str | int]:
    """Identifies a file by name, size and samples of its bytes, a folder by what lies in it.

    A file's time is left out: copying changes it, and preparing 600,000 patches takes a night. In a
    folder names, sizes and times of files count, four folders deep. Of a folder with more than
    1,000 folders, or 20,000 files, only how many there are and its own time: that a file far down
    in it was overwritten in place goes unseen there, as does a byte between the samples of a file.
    """
    name = path.absolute().name
    if not path.is_dir():
        return {"name": name, "bytes": path.stat().st_size, "sample": sample(path)}
    digest = hashlib.sha256()
    for line in _outline(path, DEPTH):
        digest.update(line.encode(errors="surrogateescape") + b"\n")
    return {"name": name, "listing": digest.hexdigest()}


def sample(path: pathlib.Path) -> str:
    """Returns the sha256 of evenly spaced blocks of a file; of all of it up to 16 MiB."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        if size <= BLOCKS * BLOCK:
            return hashlib.file_digest(file, "sha256").hexdigest()
        for number in range(BLOCKS):
            file.seek(number * (size - BLOCK) // (BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _outline(folder: pathlib.Path, depth: int, name: str = "") -> Iterator[str]:
    """Yields a line for each file, or for a folder that is too large to be looked into."""
    with os.scandir(folder) as entries:
        found = sorted((e for e in entries if not is_junk(e.name)), key=lambda entry: entry.name)
    folders = [entry for entry in found if entry.is_dir(follow_symlinks=False)]
    files = [entry for entry in found if not entry.is_dir(follow_symlinks=False)]
    if len(folders) > FOLDERS or len(files) > FILES or (folders and not depth):
        yield f"{name}: {len(folders)} {len(files)} {folder.stat().st_mtime_ns}"
    if len(files) <= FILES:
        for entry in files:
            status = entry.stat(follow_symlinks=False)
            yield f"{name}{entry.name} {status.st_size} {status.st_mtime_ns}"
    if len(folders) <= FOLDERS and depth:
        for entry in folders:
            yield f"{name}{entry.name}/"
            yield from _outline(folder / entry.name, depth - 1, f"{name}{entry.name}/")


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or one that macOS adds."""
    return name.startswith(".") or name == "__MACOSX"
