"""What lies in every index folder: `index.json`, the exact vectors, and the kind's own files.

`index.json` holds the sha256 of every other file, and the manifest of a published folder holds
that of `index.json`. Both are checked when an index is opened, because the libraries behind the
kinds answer from altered files without a word.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rejepa_jax import artifacts
from rejepa_jax.types import DataError

SCHEMA = "rejepa-index/2"
INFO = "index.json"
VECTORS = "vectors.npy"
NOT_OURS = (INFO, artifacts.MANIFEST, artifacts.BEGUN)

# What was read once is not read again while this process lives and the file is the same.
_digests: dict[tuple[int, int, int, int], str] = {}


def write_info(directory: Path, info: dict[str, Any]) -> None:
    """Writes `index.json`, with size and sha256 of every other file of the folder."""
    paths = sorted(path for path in directory.iterdir() if path.name not in NOT_OURS)
    info["files"] = {
        path.name: {"bytes": path.stat().st_size, "sha256": digest(path)} for path in paths
    }
    (directory / INFO).write_text(json.dumps(info, indent=2, sort_keys=True) + "\n")


def read_info(directory: Path) -> dict[str, Any]:
    """Reads `index.json` and holds every file against it, and itself against the manifest.

    Raises:
      FileNotFoundError: it is not there.
      DataError: it is no JSON or of another schema, or a file is not the one that was written.
    """
    path = directory / INFO
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there, expected an index; run the index stage")
    info = artifacts.read_json(path)
    found = info.get("schema") if isinstance(info, dict) else type(info).__name__
    if found != SCHEMA:
        raise DataError(f"{path}: got schema {found}, expected {SCHEMA}; index again")
    if (directory / artifacts.MANIFEST).is_file():
        manifest = artifacts.read_json(directory / artifacts.MANIFEST)
        _check(path, manifest["files"][INFO]["sha256"])
    for name, entry in info["files"].items():
        _check(directory / name, entry["sha256"])
    return info


def digest(path: Path) -> str:
    """Returns a file's sha256: read once."""
    status = path.stat()
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _digests:
        _digests[key] = artifacts.sha256_file(path)
    return _digests[key]


def write_vectors(directory: Path, vectors: Float[np.ndarray, "r d"]) -> None:
    """Writes the exact vectors, float32."""
    np.save(directory / VECTORS, np.ascontiguousarray(vectors, np.float32), allow_pickle=False)


def open_vectors(directory: Path) -> Float[np.ndarray, "r d"]:
    """Opens the exact vectors of a folder that an index is being built in, without reading them."""
    return np.load(directory / VECTORS, mmap_mode="r", allow_pickle=False)


def open_array(path: Path, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Opens a numpy file without reading it, held against what `index.json` says.

    Raises:
      DataError: it cannot be read, or holds something else.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: got no readable array ({error}); index again") from error
    if (array.shape, array.dtype) != (shape, dtype):
        raise DataError(
            f"{path}: got {array.shape} of {array.dtype}, expected {shape} of {np.dtype(dtype)}; "
            "files of two indexes are mixed: index again"
        )
    return array


def _check(path: Path, sha256: str) -> None:
    got = digest(path) if path.is_file() else "no file"
    if got != sha256:
        raise DataError(
            f"{path}: got sha256 {got[:12]}, expected {sha256[:12]}: the file is damaged, or of "
            f"another index; remove {path.parent} and index again"
        )
