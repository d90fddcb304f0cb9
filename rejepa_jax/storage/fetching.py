"""What a bucket has and its mirror has not is brought here: verified, and only if it is whole."""

import json
import pathlib
import shutil

from absl import logging

from rejepa_jax.storage import files
from rejepa_jax.storage.mirror import LISTING, MANIFEST, Files, address, find, is_passing
from rejepa_jax.storage.readers import join
from rejepa_jax.types import DataError

Path = pathlib.Path


def others(directory: Path) -> list[Path]:
    """Returns the complete artefacts in the mirror that a directory lies in, but for itself."""
    if find(directory) is None:
        return []
    found = [path.parent for path in directory.parent.glob(f"*/{MANIFEST}")]
    return [path for path in found if path != directory and not is_passing(path.name)]


def complete(directory: Path, wanted: Files, is_fetched: bool = True) -> dict[str, int]:
    """Brings files of a complete artefact here; returns what they measure in the bucket.

    What is left in the bucket, or has another size there, is not brought.

    Raises:
        DataError: a file is not the one that the manifest knows.
    """
    mirror = find(directory)
    if mirror is None:
        return {}
    there = files.sizes(address(directory))
    whole = {
        name: entry
        for name, entry in wanted.items()
        if there.get(name) == entry["bytes"] and not mirror.leaves(directory / name)
    }
    if is_fetched:
        fetch(directory, whole)
    return {name: there[name] for name in wanted if name in there}


def fetch(directory: Path, wanted: Files) -> None:
    """Brings files of a directory here.

    Raises:
        DataError: one has not the size or the sha256 that was expected, or lies elsewhere.
    """
    url = address(directory)
    for name in wanted:
        if name.startswith("/") or ".." in name.split("/"):
            raise DataError(f"{url}: got a file named {name!r}, expected one in it; do not use it")
    if wanted:
        volume = sum(entry["bytes"] for entry in wanted.values())
        logging.info("fetching %d files, %.1f MB, from %s", len(wanted), volume / 1e6, url)

    def bring(name: str) -> None:
        entry = wanted[name]
        where = join(url, name)
        files.download(where, directory / name, entry["bytes"], entry["sha256"])

    files.each(bring, wanted)


def away(directory: Path) -> dict[str, int]:
    """Returns the sizes of the files of a directory that are in the bucket only, by name."""
    if find(directory) is None:
        return {}
    there = files.sizes(address(directory))
    return {name: count for name, count in there.items() if not (directory / name).exists()}


def resume(partial: Path, begun: str) -> None:
    """Brings here what is kept of an unfinished artefact and is missing, or longer, there.

    If its file `begun` is not the same there (another machine began anew, or the artefact is
    finished or was removed), what is here goes first.
    """
    found = find(partial)
    if found is None:
        return
    url = address(partial)
    whole = _whole(url)
    if begun not in whole:
        whole = {}
    if partial.exists() and not _is_same(partial / begun, url, begun in whole):
        logging.warning("%s: the bucket has another state of it; using that", partial)
        shutil.rmtree(partial)
    wanted = {
        name: entry
        for name, entry in whole.items()
        if not found.leaves(partial / name) and _size_here(partial / name) < entry["bytes"]
    }
    fetch(partial, wanted)


def _is_same(path: Path, url: str, is_there: bool) -> bool:
    there = files.read_bytes(join(url, path.name)) if is_there else None
    return path.exists() and path.read_bytes() == there


def _size_here(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _whole(url: str) -> Files:
    """Returns the files in the bucket that were kept singly, or in a folder that arrived whole."""
    there = files.sizes(url)
    names = [name for name in there if name.rpartition("/")[2] == LISTING]
    texts = files.each(lambda name: files.read_bytes(join(url, name)).decode(), names)
    folders = {
        name.removesuffix(LISTING): json.loads(text)
        for name, text in zip(names, texts, strict=True)
    }
    whole = {
        name: {"bytes": size, "sha256": ""}
        for name, size in there.items()
        if not name.startswith(tuple(folders))
    }
    for folder, listing in folders.items():
        entries = {folder + name: entry for name, entry in listing.items()}
        if all(there.get(name) == entry["bytes"] for name, entry in entries.items()):
            whole |= entries
    return whole
