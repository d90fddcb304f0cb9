"""Adds to, deletes from and merges what is searched, while it is in use.

Each makes a new version beside the old one, then points to it (`versions`). Readers keep what they
have opened.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from absl import logging
from jaxtyping import Bool

from rejepa_jax import artifacts
from rejepa_jax.retrieval.collection.catalogue import Catalogue
from rejepa_jax.retrieval.collection.opening import (
    DELETED,
    EMBEDDINGS,
    INDEX,
    check_base,
    check_fingerprint,
    read_catalogue,
)
from rejepa_jax.retrieval.collection.parts import (
    PART_ROWS,
    Rows,
    read_parts,
    refuse_repeated,
    write_parts,
)
from rejepa_jax.retrieval.collection.versions import Version, publish, step_of, writing
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.index import building
from rejepa_jax.retrieval.index.stored import VECTORS, read_info
from rejepa_jax.types import ConfigError, DataError

MANY = 50  # steps, each of which is a few files to open

Build = Callable[[Path], artifacts.Built]


def add(
    run: Path,
    parts: Iterable[Rows],
    footer: dict[str, Any],
    is_replacing: bool = False,
    ids: Sequence[str] | None = None,
) -> Version:
    """Adds images; returns the new version.

    An id that was deleted may come again. `footer` says what made the vectors. Where `ids` says
    what all parts hold, these have PART_ROWS rows but for the last, and are made one at a time,
    once it is known that the images may be added.

    Raises:
      ConfigError: there is nothing to add, or an id is there already and not to be replaced.
      DataError: the vectors are of another encoder, or an id comes twice.
    """
    if ids is None:
        parts = list(parts)
        ids, count = [name for rows in parts for name in rows.part.ids], len(parts)
    else:
        count = -(-len(ids) // PART_ROWS)
    with writing(run) as current:
        catalogue, known = read_catalogue(run, current)
        check_fingerprint("what is to be added", footer["fingerprint"], known["fingerprint"])
        live = catalogue.live.copy()
        live[_replaced(catalogue, ids, is_replacing)] = False

        def build(partial: Path) -> artifacts.Built:
            write_parts(partial / EMBEDDINGS, _promised(parts, ids), count, footer)
            return _write_deleted(partial, live, {"added": len(ids)})

        return _make(run, current, build)


def _promised(parts: Iterable[Rows], ids: Sequence[str]) -> Iterator[Rows]:
    """Yields parts made late, and refuses other images than were looked at before."""
    first = 0
    for rows in parts:
        last = first + len(rows.part.ids)
        if list(rows.part.ids) != list(ids[first:last]):
            break
        first = last
        yield rows
    if first < len(ids):
        raise DataError(
            f"what is to be added has changed after image {first}, expected the same {len(ids)} "
            "images from beginning to end; add them again"
        )


def _replaced(catalogue: Catalogue, ids: Sequence[str], is_replacing: bool) -> list[int]:
    """Returns the rows that give way to what is added."""
    if not ids:
        raise ConfigError("got nothing to add, expected at least one image; name some")
    try:
        refuse_repeated("what is to be added", pa.array(ids, pa.string()))
    except UnicodeEncodeError as error:
        raise DataError(
            f"got the id {error.object!r}, expected Unicode; rename the image"
        ) from error
    there = catalogue.known(ids)
    if there and not is_replacing:
        raise ConfigError(
            f"got {len(there)} ids that are there already, such as {next(iter(there))!r}, expected "
            "new ones; rename the images, or replace those that are there with --replace"
        )
    return list(there.values())


def delete(run: Path, ids: Sequence[str]) -> Version:
    """Deletes images from what is searched; returns the new version. Their files stay.

    Raises:
      DataError: an id is not there; then none is deleted.
    """
    with writing(run) as current:
        catalogue, _ = read_catalogue(run, current)
        live = catalogue.live.copy()
        live[catalogue.find(ids)] = False
        facts = {"deleted": len(set(ids))}
        return _make(run, current, lambda partial: _write_deleted(partial, live, facts))


def merge(run: Path) -> Version | None:
    """Makes a new base of all that is live, with an index of the same kind; returns the version.

    Without a change since the base it does nothing and returns None. What the stages made stays as
    it is.

    Raises:
      DataError: nothing is left to search.
    """
    with writing(run) as current:
        if not current.steps:
            return None
        catalogue, footer = read_catalogue(run, current)
        if not catalogue.live.any():
            raise DataError(f"{run}: all images were deleted; add some before merging")
        exports = check_base(run, current)
        kind = read_info(current.base_of(run) / INDEX)["kind"]

        def build(partial: Path) -> artifacts.Built:
            count = -(-int(catalogue.live.sum()) // PART_ROWS)
            parts = read_parts(exports, catalogue.live)
            write_parts(partial / EMBEDDINGS, parts, count, footer, footer["dtype"])
            (partial / INDEX).mkdir()
            reading.copy_vectors(partial / EMBEDDINGS, partial / INDEX / VECTORS)
            info = building.build(None, partial / INDEX, kind, footer["fingerprint"])
            return artifacts.Built({"rows": info["rows"], "index": info})

        return _make(run, current, build, is_base=True)


def _write_deleted(
    partial: Path, live: Bool[np.ndarray, " r"], facts: dict[str, Any]
) -> artifacts.Built:
    np.save(partial / DELETED, np.flatnonzero(~live), allow_pickle=False)
    return artifacts.Built(facts)


def _make(run: Path, current: Version, build: Build, is_base: bool = False) -> Version:
    """Builds the version after the current one and points to it."""
    number = current.version + 1
    inputs = {"stages": current.stages, "version": current.version}
    manifest = artifacts.run_stage(step_of(run, number), {}, inputs, build)
    taken = (number, ()) if is_base else (current.base, (*current.steps, number))
    version = Version(current.stages, number, *taken, manifest["fingerprint"])
    publish(run, version)
    if len(version.steps) > MANY:
        logging.warning("%s: %d changes since the last base; merge it", run, len(version.steps))
    return version
