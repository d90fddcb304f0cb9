"""Opens what is current of a run, whole, while the stages or an update may replace it."""

import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from rejepa_jax import artifacts
from rejepa_jax.retrieval.collection.catalogue import COLUMNS, Catalogue
from rejepa_jax.retrieval.collection.collection import Collection
from rejepa_jax.retrieval.collection.versions import Version, name_of, read_version, step_of
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.embeddings.parts import open_parts
from rejepa_jax.retrieval.embeddings.thumbnails import Thumbnails
from rejepa_jax.retrieval.index import loading
from rejepa_jax.types import DataError

T = TypeVar("T")
EMBEDDINGS, INDEX, DELETED = "embeddings", "index", "deleted.npy"
PATIENCE = 2.0  # seconds that a change of the files may take
ATTEMPTS = 5  # that other versions may spoil, and more within `PATIENCE`
PAUSE = 0.02


def current_version(run: Path) -> str:
    """Names what is current, reading no more than manifests; any other content has another name.

    Raises:
      FileNotFoundError: the stages have not finished.
      DataError: what was added or deleted does not belong to what the stages made.
    """
    return _steady(run, lambda _, name: name)


def open_collection(run: Path) -> Collection:
    """Opens what is current: the index and the columns, and of vectors only those added since.

    Raises:
      FileNotFoundError: a stage has not finished.
      DataError: a file is damaged, or files do not belong together.
    """
    collection = _steady(run, lambda version, name: _open(run, version, name))
    pa.default_memory_pool().release_unused()  # what reading took goes back to the system
    return collection


def _steady(run: Path, act: Callable[[Version, str], T]) -> T:
    """Returns what is done with one version of the files; done again where that changed meanwhile.

    Between the two renames with which an artefact is published, it is not there for a moment.
    """
    end, attempts = time.monotonic() + PATIENCE, 0
    while attempts < ATTEMPTS or time.monotonic() < end:
        attempts += 1
        name = None
        try:
            version = read_version(run)
            name = name_of(run, version)
            result = act(version, name)
            if name_of(run, read_version(run)) == name:
                return result
        except (FileNotFoundError, DataError):
            if not (_is_another(run, name) or _is_renamed(run)):
                raise
        time.sleep(PAUSE)
    raise DataError(
        f"{run}: got another version each of {attempts} times that it was opened, expected one "
        "that stays so long; open it again, or stop what writes"
    )


def _is_renamed(run: Path) -> bool:
    """Waits for the end of a replacement; whether there was one and it has ended."""
    before = [run / f"{name}.old" for name in (EMBEDDINGS, INDEX)]
    if not any(path.exists() for path in before):
        return False
    end = time.monotonic() + PATIENCE
    while any(path.exists() for path in before) and time.monotonic() < end:
        time.sleep(PAUSE)
    return not any(path.exists() for path in before)


def _is_another(run: Path, before: str | None) -> bool:
    """Whether there is a version now, and not the one of that name."""
    try:
        return name_of(run, read_version(run)) != before
    except (FileNotFoundError, DataError):
        return False


def _open(run: Path, version: Version, name: str) -> Collection:
    exports = check_base(run, version)
    index = loading.load(version.base_of(run) / INDEX)
    tables, footer = _read_columns(exports)
    if index.rows != len(tables[0]) or index.fingerprint != footer["fingerprint"]:
        raise DataError(
            f"{version.base_of(run) / INDEX}: got {index.rows} rows of the encoder "
            f"{index.fingerprint[:12]}, expected {len(tables[0])} of {footer['fingerprint'][:12]} "
            f"as in {exports[0]}; they come from different encoders or records. Remove both and "
            "run main again"
        )
    added = [reading.read_vectors(directory) for directory in exports[1:]]
    firsts = np.cumsum([0, *map(len, tables)]).tolist()
    pictures = [Thumbnails(directory) for directory in exports]
    catalogue = Catalogue(
        pa.concat_tables(tables, promote_options="default"), read_live(run, version, firsts[-1])
    )
    for each in pictures:  # once nobody searches this version any more
        weakref.finalize(catalogue, each.close)
    return Collection(
        name=run.resolve().name,
        version=name,
        fingerprint=footer["fingerprint"],
        catalogue=catalogue,
        index=index,
        added=np.concatenate([np.zeros((0, index.dim), np.float32), *added]),
        thumbnails=tuple(zip(firsts[:-1], pictures, strict=True)),
    )


def read_catalogue(run: Path, version: Version) -> tuple[Catalogue, dict[str, Any]]:
    """Reads the columns alone, and what made the vectors."""
    tables, footer = _read_columns(check_base(run, version))
    return Catalogue(
        pa.concat_tables(tables, promote_options="default"),
        read_live(run, version, sum(map(len, tables))),
    ), footer


def _read_columns(exports: list[Path]) -> tuple[list[pa.Table], dict[str, Any]]:
    """Reads the columns of every export that are shown or asked, and the footer of the first."""
    tables, footers = [], []
    for directory in exports:
        there = open_parts(directory).schema.names
        wanted = [name for name in COLUMNS if name in there]
        table, footer = reading.read_columns(directory, wanted)
        tables.append(table.select(wanted))
        footers.append(footer)
        check_fingerprint(directory, footer["fingerprint"], footers[0]["fingerprint"])
    return tables, footers[0]


def check_base(run: Path, version: Version) -> list[Path]:
    """Returns the exports of base and steps, which are whole; in a mirror, brings them here.

    Raises:
      DataError: they are not, or the index was made from other embeddings.
    """
    for number in sorted(version.needed - {0}):
        mark = artifacts.load(step_of(run, number))["fingerprint"]
        if number == version.version and mark != version.mark:
            raise DataError(
                f"{step_of(run, number)}: got {mark[:12]}, expected {version.mark[:12]} as CURRENT "
                "says; files of two versions are mixed: restore them, or remove updates/"
            )
    if version.base == 0:
        made = artifacts.load(run / INDEX)["inputs"].get(EMBEDDINGS)
        there = artifacts.load(run / EMBEDDINGS)["fingerprint"]
        if made != there:
            raise DataError(
                f"{run / INDEX} was made from the embeddings {str(made)[:12]}, expected "
                f"{there[:12]}, which are there; run the index stage again"
            )
    return [version.base_of(run) / EMBEDDINGS, *steps(run, version)]


def steps(run: Path, version: Version) -> list[Path]:
    """Returns the exports added since the base, in order."""
    exports = [step_of(run, number) / EMBEDDINGS for number in version.steps]
    return [path for path in exports if path.exists()]


def read_live(run: Path, version: Version, rows: int) -> np.ndarray:
    """Returns which of the rows were not deleted."""
    live = np.ones(rows, bool)
    if version.steps:
        path = step_of(run, version.steps[-1]) / DELETED
        try:
            live[np.load(path, allow_pickle=False)] = False
        except (OSError, ValueError, EOFError, IndexError) as error:
            raise DataError(f"{path}: got {error}, expected numbers of {rows} rows") from error
    return live


def check_fingerprint(what: Path | str, got: str, expected: str) -> None:
    """Refuses vectors of another encoder; a DataError."""
    if got != expected:
        raise DataError(
            f"{what}: got vectors of the encoder {got[:12]}, expected {expected[:12]} of what is "
            "searched; vectors of different encoders do not compare: embed the images again"
        )
