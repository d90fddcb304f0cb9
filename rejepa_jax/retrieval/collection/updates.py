"""Adds to, deletes from and merges what is searched, while it is in use.

Each makes a new version beside the old one, then points to it (`versions`). Readers keep what they
have opened.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
from rejepa_jax.retrieval.collection.parts import PART_ROWS, Rows, read_parts, write_parts
from rejepa_jax.retrieval.collection.versions import Version, publish, step_of, writing
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.index import building
from rejepa_jax.retrieval.index.stored import read_info
from rejepa_jax.types import ConfigError, DataError

MANY = 50  # steps, each of which is a few files to open

Build = Callable[[Path], artifacts.Built]


def add(
    run: Path, parts: Sequence[Rows], footer: dict[str, Any], is_replacing: bool = False
) -> Version:
    """Adds images; returns the new version.

    An id that was deleted may come again. `footer` says what made the vectors.

    Raises:
      ConfigError: there is nothing to add, or an id is there already and not to be replaced.
      DataError: the vectors are of another encoder, or an id comes twice.
    """
    with writing(run) as current:
        catalogue, known = read_catalogue(run, current)
        check_fingerprint("what is to be added", footer["fingerprint"], known["fingerprint"])
        ids = [name for rows in parts for name in rows.part.ids]
        live = catalogue.live.copy()
        live[_replaced(catalogue, ids, is_replacing)] = False

        def build(partial: Path) -> artifacts.Built:
            write_parts(partial / EMBEDDINGS, parts, len(parts), footer)
            return _write_deleted(partial, live, {"added": len(ids)})

        return _make(run, current, build)


def _replaced(catalogue: Catalogue, ids: list[str], is_replacing: bool) -> list[int]:
    """Returns the rows that give way to what is added."""
    if not ids:
        raise ConfigError("got nothing to add, expected at least one image; name some")
    if len(set(ids)) < len(ids):
        twice = next(name for number, name in enumerate(ids) if name in ids[:number])
        raise DataError(f"got the id {twice!r} twice in what is to be added; rename one of them")
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


def merge(run: Path) -> Version:
    """Makes a new base of all that is live, with an index of the same kind; returns the version.

    Without a change since the base it does nothing. What the stages made stays as it is.

    Raises:
      DataError: nothing is left to search.
    """
    with writing(run) as current:
        if not current.steps:
            logging.info("%s: nothing was added or deleted; there is nothing to merge", run)
            return current
        catalogue, footer = read_catalogue(run, current)
        if not catalogue.live.any():
            raise DataError(f"{run}: all images were deleted; add some before merging")
        exports = check_base(run, current)
        kind = read_info(current.base_of(run) / INDEX)["kind"]

        def build(partial: Path) -> artifacts.Built:
            count = -(-int(catalogue.live.sum()) // PART_ROWS)
            parts = read_parts(exports, catalogue.live)
            write_parts(partial / EMBEDDINGS, parts, count, footer, footer["dtype"])
            vectors = reading.read(partial / EMBEDDINGS, columns=()).vectors
            (partial / INDEX).mkdir()
            info = building.build(vectors, partial / INDEX, kind, footer["fingerprint"])
            return artifacts.Built({"rows": len(vectors), "index": info})

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
