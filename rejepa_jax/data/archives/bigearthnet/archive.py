"""Layout: BigEarthNet in any of its forms: v1, v2, or the copy of v2 with one file a patch.

Which one it is shows in what lies there; the forms are described in `v1.py`,
`v2.py` and `stacked.py`. Only one sensor's folder may be there.
"""

import collections
import os
import pathlib
from collections.abc import Iterable, Sequence

from absl import logging

from rejepa_jax.data.archives.bigearthnet import stacked, v1, v2
from rejepa_jax.data.archives.bigearthnet.labels import CLASSES
from rejepa_jax.data.archives.bigearthnet.patches import read_patch
from rejepa_jax.data.archives.bigearthnet.splits import SPLITS
from rejepa_jax.data.archives.bigearthnet.v1 import LABELS
from rejepa_jax.data.archives.bigearthnet.v2 import FLAGGED, METADATA
from rejepa_jax.data.archives.files import Archive, ArchiveFiles
from rejepa_jax.types import ConfigError, DataError

__all__ = ["CLASSES", "FLAGGED", "METADATA", "open_archive", "read_patch"]

_V1, _V2 = v1.FOLDERS, v2.FOLDERS
_CLOSED = {*_V1.values(), *_V2.values(), "Reference_Maps"}  # folders of folders: never walked
_MARKS = {*_CLOSED, METADATA, FLAGGED, LABELS}


def open_archive(
    path: str | os.PathLike[str],
    selection: str = "clean",
    split_file: str | os.PathLike[str] = "",
    file_bands: Sequence[str] = (),
    sensors: Sequence[str] = (),
) -> Archive:
    """Lists the patches of a folder, a .tar or a .zip, in which they may lie at any depth.

    Args:
        path: The archive.
        selection: `clean`, `ben14k`, or on v2 `all`: what they are, each form's file says.
        split_file: Lists of patches and their splits, as `splits.py` reads them; v1 needs
            them, v2 has its own.
        file_bands: For files with several bands that do not name them: their order.
        sensors: s1, s2 or both; () = those whose folders are there.

    Raises:
        ConfigError: A setting is not one that this archive has.
        DataError: The archive is not as any of the forms, or nothing is selected.
    """
    files = ArchiveFiles(path)
    found = _find(files)
    tables, is_v1 = found[METADATA], any(found[folder] for folder in _V1.values())
    if len(tables) + is_v1 != 1:
        raise DataError(
            f"archive {files.path}: got {len(tables)} files {METADATA} and "
            f"{'a' if is_v1 else 'no'} folder of BigEarthNet v1, expected one beside "
            f"{' and '.join(_V2.values())} (v2), or {' and '.join(_V1.values())} (v1); set "
            "--config.data.archive=PATH"
        )
    root = "" if is_v1 else os.path.dirname(tables[0])
    folders = _choose(files, found, _V1 if is_v1 else _V2, root, sensors)
    beside = {root, *map(os.path.dirname, folders.values())}
    tables += [p for p in found[LABELS if is_v1 else FLAGGED] if os.path.dirname(p) in beside]
    settings = (files, folders, tables, selection, split_file)
    if is_v1:
        return v1.open_files(*settings)
    if _is_stacked(files, folders):
        return stacked.open_files(*settings, file_bands)
    return v2.open_files(*settings)


def _find(files: ArchiveFiles) -> dict[str, list[str]]:
    """Finds the folders and files that tell the forms apart; gives their paths in the archive."""
    found = collections.defaultdict(list)
    for path in sorted(_marks_in_folder(files) if files.path.is_dir() else _marks(files.names())):
        found[os.path.basename(path)].append(path)
    return found


def _marks(names: Iterable[str]) -> set[str]:
    paths = set()
    for name in names:
        parts = name.split("/")
        at = next((at for at, part in enumerate(parts) if part in _CLOSED), len(parts) - 1)
        if parts[at] in _MARKS:
            paths.add("/".join(parts[: at + 1]))
    return paths


def _marks_in_folder(files: ArchiveFiles) -> set[str]:
    def refuse(error: OSError) -> None:
        raise DataError(f"archive: got {error!r}, expected a folder; correct it") from error

    paths = set()
    for folder, subfolders, names in os.walk(files.path, onerror=refuse):
        relative = pathlib.Path(folder).relative_to(files.path)
        paths |= {(relative / name).as_posix() for name in (*subfolders, *names) if name in _MARKS}
        subfolders[:] = [n for n in subfolders if n not in _CLOSED and not n.startswith(".")]
    return paths


def _choose(
    files: ArchiveFiles,
    found: dict[str, list[str]],
    names: dict[str, str],
    root: str,
    sensors: Sequence[str],
) -> dict[str, str]:
    """Gives the folders of the sensors that are asked for, or are there; of both if none is."""
    there = {key: found[name] for key, name in names.items() if found[name]}
    if not there:  # an archive without pixels can still be listed
        there = {key: [os.path.join(root, name)] for key, name in names.items()}
    if twice := [paths for paths in there.values() if len(paths) > 1]:
        raise DataError(
            f"archive {files.path}: got the folders {' and '.join(twice[0])}, expected one of "
            "that name; set --config.data.archive=PATH to one of them"
        )
    if missing := [key for key in sensors if key not in there]:
        raise ConfigError(
            f"archive {files.path}: got the sensors {', '.join(sensors)} to read, expected some "
            f"of {', '.join(there)}, whose folders are there; {', '.join(missing)} is not"
        )
    if len(there) < len(names) and not sensors:
        logging.warning(
            "archive %s: of %s only %s is there: the records hold that sensor alone",
            *(files.path, " and ".join(names.values()), next(iter(there.values()))[0]),
        )
    return {key: there[key][0] for key in (sensors or there)}


def _is_stacked(files: ArchiveFiles, folders: dict[str, str]) -> bool:
    """Says whether the patches lie in folders of splits, not of scenes."""
    splits = tuple(f"{folder}/{split}/" for folder in folders.values() for split in SPLITS)
    if files.path.is_dir():
        return any((files.path / split).is_dir() for split in splits)
    return any(name.startswith(splits) for name in files.names())
