"""What a stage has made is kept in the bucket of its run: while it works, and when it is done.

While a stage works in `NAME.partial/`, what it finishes is kept under the same name in the bucket;
when all is done, that and the rest become `NAME/`, the manifest last. For a directory that is no
mirror nothing here does anything.
"""

import json
import pathlib
from typing import Any

from absl import logging

from rejepa_jax.storage import files
from rejepa_jax.storage.mirror import LISTING, MANIFEST, Files, address, find
from rejepa_jax.storage.readers import join
from rejepa_jax.types import DataError

_EMPTY = b"{}"
_COPIED = 1 << 20  # bytes from which a kept file is copied within the bucket, not sent once more

Path = pathlib.Path


def keep(path: Path) -> None:
    """Sends a finished file, or a folder of which nothing is of use but all of it.

    A file that is to be left in the bucket goes here once it is there. Keep again what changes.
    """
    found = find(path)
    if found is None:
        return
    if path.is_dir():
        _keep_folder(path, address(path))
        return
    files.upload_checked(path, address(path))
    if found.leaves(path):
        path.unlink()


def _keep_folder(folder: Path, url: str) -> None:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    hashes = files.each(lambda name: files.sha256(folder / name), names)
    listing = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": digest}
        for name, digest in zip(names, hashes, strict=True)
    }
    _write_listing(url, {})
    files.each(lambda name: files.upload(folder / name, join(url, name)), names)
    _check(url, listing)
    _write_listing(url, listing)


def _check(url: str, expected: Files) -> dict[str, int]:
    """Returns the sizes of what is there after seeing that all that was expected is whole."""
    there = files.sizes(url)
    for name, entry in expected.items():
        if there.get(name) != entry["bytes"]:
            raise DataError(
                f"{join(url, name)}: got {there.get(name, 'no')} bytes there, expected "
                f"{entry['bytes']}; does another machine write there? Run again, on one"
            )
    return there


def _write_listing(url: str, listing: dict[str, Any]) -> None:
    files.write_bytes(join(url, LISTING), json.dumps(listing).encode())


def kept_folders(directory: Path) -> dict[str, bool]:
    """Returns the names of the folders that are kept in a directory; True for one that is whole."""
    if find(directory) is None:
        return {}
    there = files.sizes(address(directory))
    listings = {name: size for name, size in there.items() if name.count("/") == 1}
    return {
        name.partition("/")[0]: size > len(_EMPTY)
        for name, size in listings.items()
        if name.endswith("/" + LISTING)
    }


def forget(path: Path) -> None:
    """Removes a file or directory from the bucket; what is here stays."""
    if find(path) is None:
        return
    url = address(path)
    names = files.sizes(url)
    listings = {name for name in names if name.rpartition("/")[2] == LISTING}
    for name in listings:  # else a folder that is gone in part might pass for files kept singly
        _write_listing(join(url, name).removesuffix(LISTING), {})
    files.remove(url, names.keys() - listings)
    files.remove(url, listings)
    if not names:
        files.remove(address(path.parent), [path.name])


def publish(partial: Path, directory: Path, manifest: Files) -> None:
    """Makes a complete artefact in the bucket, its manifest last; one that is there goes first.

    `manifest` has the artefact's files. What is large and kept already, or left in the bucket, is
    copied there.

    Raises:
        DataError: a file has another size in the bucket.
    """
    if find(partial) is None:
        return
    source, target = address(partial), address(directory)
    files.remove(target, [MANIFEST])
    kept = files.sizes(source)
    copied = {
        name
        for name, entry in manifest.items()
        if not (partial / name).exists() or kept.get(name) == entry["bytes"] >= _COPIED
    }

    def send(name: str) -> None:
        if name in copied:
            files.copy(join(source, name), join(target, name))
        else:
            files.upload(partial / name, join(target, name))

    files.each(send, manifest)
    files.remove(target, _check(target, manifest).keys() - manifest.keys())
    files.upload_checked(partial / MANIFEST, join(target, MANIFEST))
    sent = sum(entry["bytes"] for name, entry in manifest.items() if name not in copied)
    logging.info(
        "%s: complete: %d files, %.1f MB of them sent now", target, len(manifest), sent / 1e6
    )
