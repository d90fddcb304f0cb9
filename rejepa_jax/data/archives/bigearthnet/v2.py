"""Layout: BigEarthNet v2 (reBEN), pairs of Sentinel-1 and Sentinel-2 patches.

    metadata.parquet, metadata_for_patches_with_snow_cloud_or_shadow.parquet
    BigEarthNet-S2/<patch_id less its last 2 parts>/<patch_id>/<patch_id>_<band>.tif
    BigEarthNet-S1/<s1_name less its last 3 parts>/<s1_name>/<s1_name>_<VV|VH>.tif

Names of files are worked out from the metadata: a folder of eight million files is never listed.
"""

import collections
import dataclasses
import io
import os
from collections.abc import Sequence

import pyarrow.parquet
from absl import logging

from rejepa_jax.data.archives.bigearthnet import splits
from rejepa_jax.data.archives.bigearthnet.labels import indices
from rejepa_jax.data.archives.bigearthnet.names import S1_NAME, S2_NAME, ground, is_ben14k
from rejepa_jax.data.archives.bigearthnet.patches import read_example, schema
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.types import ConfigError, DataError

FOLDERS = {"s1": "BigEarthNet-S1", "s2": "BigEarthNet-S2"}
METADATA = "metadata.parquet"
FLAGGED = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
SELECTIONS = ("clean", "all", "ben14k")
_COLUMNS = ("patch_id", "labels", "split", "country", "s1_name", "s2v1_name")


@dataclasses.dataclass(frozen=True)
class Row:
    """What the metadata say of a patch."""

    s2: str
    s1: str
    s2_in_v1: str
    split: str
    labels: tuple[int, ...]
    country: str


def open_files(
    files: ArchiveFiles,
    folders: dict[str, str],
    tables: Sequence[str],
    selection: str = "clean",
    split_file: str | os.PathLike[str] = "",
) -> Archive:
    """Lists the patches that the metadata, or else split lists, name.

    Args:
        files: The archive.
        folders: Where the chosen sensors' patches lie.
        tables: The metadata, then, if it is there, the table of flagged patches.
        selection: As `select` takes it.
        split_file: As `select` takes it.

    Raises:
        DataError: If the metadata are missing or damaged, or nothing is selected.
    """
    items = []
    for row, split in select(files, tables, selection, split_file):
        stems = {  # how the names of the band files begin
            "s1": f"{row.s1.rsplit('_', 3)[0]}/{row.s1}/{row.s1}",
            "s2": f"{row.s2.rsplit('_', 2)[0]}/{row.s2}/{row.s2}",
        }
        names = {key: f"{folder}/{stems[key]}" for key, folder in folders.items()}
        items.append(Item(row.s2, split, row.labels, names, ground(row.s2)))
    items.sort(key=lambda item: (item.split, item.id))
    return Archive(schema(folders), tuple(items), files, read_example)


def select(
    files: ArchiveFiles,
    tables: Sequence[str],
    selection: str,
    split_file: str | os.PathLike[str],
) -> list[tuple[Row, str]]:
    """Chooses rows of the metadata, each with its split.

    Args:
        files: The archive.
        tables: The metadata, then, if it is there, the table of flagged patches.
        selection: `clean`: the patches without seasonal snow, cloud or shadow. `all`: those with
            them too. `ben14k`: the clean ones from Serbia taken in June, July or August; where
            lists are given, what they say of BEN-14K, clean or not in version 2.
        split_file: Lists that name patches and their splits, by the names of either version. What
            the metadata do not have is left out, and counted in the log.

    Raises:
        ConfigError: The selection is unknown.
        DataError: The metadata or the lists cannot be used, or nothing is selected.
    """
    if selection not in SELECTIONS:
        expected = ", ".join(SELECTIONS)
        raise ConfigError(f"data.selection: got {selection!r}, expected {expected}; choose one")
    if selection == "all" and len(tables) < 2:
        raise DataError(f"archive {files.path}: got no {FLAGGED}, expected it; download it too")
    used = tables[:1] if selection == "clean" or not (split_file or selection == "all") else tables
    rows = [row for table in used for row in _read_table(files, table)]
    if split_file:
        chosen = _listed(rows, splits.read_lists(split_file, selection), files)
    elif selection == "ben14k":
        chosen = [(row, row.split) for row in rows if is_ben14k(row.s2, row.country)]
    else:
        chosen = [(row, row.split) for row in rows]
    if not chosen or len({row.s2 for row, _ in chosen}) < len(chosen):
        raise DataError(
            f"archive {files.path}: got {len(chosen)} of {len(rows)} patches with the selection "
            f"{selection!r}, expected at least one and each once; the selections are "
            f"{', '.join(SELECTIONS)}: set --config.data.selection"
        )
    return chosen


def _listed(
    rows: list[Row], lists: list[splits.Listed], files: ArchiveFiles
) -> list[tuple[Row, str]]:
    by_name = {name: row for row in rows for name in (row.s2, row.s2_in_v1)}
    chosen = [(by_name[p.s2], p.split) for p in lists if p.s2 in by_name]
    if len(chosen) < len(lists):
        counts = collections.Counter(p.split for p in lists if p.s2 not in by_name)
        logging.warning(
            "archive %s: left out %d of %d listed patches, which the metadata do not have: %s",
            *(files.path, len(lists) - len(chosen), len(lists), dict(sorted(counts.items()))),
        )
    return chosen


def _read_table(files: ArchiveFiles, path: str) -> list[Row]:
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(files.read(path)))
        columns = [table.column(name).to_pylist() for name in _COLUMNS]
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise DataError(
            f"archive {files.path}, file {path}: got {error!r}, expected a Parquet table with "
            f"{', '.join(_COLUMNS)}; download it again"
        ) from error
    return [_to_row(*values) for values in zip(*columns, strict=True)]


def _to_row(
    s2: str | None, labels: list[str], split: str, country: str, s1: str | None, v1: str
) -> Row:
    s2, s1 = s2 or "", s1 or ""
    named = S2_NAME.fullmatch(s2) and S1_NAME.fullmatch(s1)
    if split not in splits.SPLITS.values() or not named:
        raise DataError(
            f"metadata of {s2}: got split {split!r}, s1_name {s1!r}, expected "
            f"{tuple(splits.PUBLISHED)} and names as published; download the metadata again"
        )
    return Row(s2, s1, v1, split, indices(labels or (), s2), country)  # a few have no labels
