"""A query in, the images of a run most like it out; what is searched may change meanwhile."""

import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from rejepa_jax import artifacts
from rejepa_jax.retrieval.asking import ask, elsewhere
from rejepa_jax.retrieval.collection.collection import Collection
from rejepa_jax.retrieval.collection.filters import Filter
from rejepa_jax.retrieval.collection.opening import current_version, open_collection
from rejepa_jax.retrieval.collection.pixels import Pixels
from rejepa_jax.retrieval.encoder import Bundle, Embedder, load_bundle
from rejepa_jax.retrieval.hits import Answer, Hit, hits_of
from rejepa_jax.retrieval.queries import Query
from rejepa_jax.types import ConfigError, DataError

EVERYTHING = Filter()


class _Opened(NamedTuple):
    """What belongs together and is replaced together."""

    collection: Collection
    bundle: Bundle
    embedder: Embedder


class Searcher:
    """A run's encoder and what it has embedded, opened once for many queries, by any thread."""

    def __init__(self, run: Path, records: Path | None = None):
        """Opens what is current and refuses parts that do not belong together.

        `records` is where the run's records are, if not in it; only a crop of one of their images
        needs them.

        Raises:
            FileNotFoundError: a stage has not finished.
            DataError: a file is damaged, or encoder, embeddings and index have different
                fingerprints.
        """
        self._run = run
        self._pixels = Pixels(run, records or run / "records")
        self._opened = _open(run, None)
        self._lock = threading.Lock()
        self.refused = ""  # why what is current is not what is searched; "" where it is

    @property
    def collection(self) -> Collection:
        """What is searched now."""
        return self._opened.collection

    @collection.setter
    def collection(self, collection: Collection) -> None:
        """Searches by one that answers alike, such as one that puts several searches together."""
        self._opened = self._opened._replace(collection=collection)

    @property
    def bundle(self) -> Bundle:
        """The encoder of queries."""
        return self._opened.bundle

    def reload(self) -> bool:
        """Takes what is current, if that is another version; whether it did.

        Searches that are under way end on the old one. Where the new one cannot be opened, the old
        one stays and the reason is logged.
        """
        with self._lock:
            try:
                version = current_version(self._run)
                if version == self.collection.version:
                    return False
                self._opened = _open(self._run, self._opened)
            except (ConfigError, DataError, OSError) as error:
                if str(error) != self.refused:
                    logging.error("%s stays in use: %s", self.collection.version, error)
                self.refused = str(error)
                return False
            self.refused = ""
            logging.info("version %s, %d images", self.collection.version, self.collection.rows)
            return True

    def search(
        self, query: Query, k: int, where: Filter = EVERYTHING, exclude_queries: bool = True
    ) -> list[Hit]:
        """Returns the k images most like what is asked for, best first; fewer if fewer fit."""
        return self.answer(query, k, where, exclude_queries).hits

    def answer(
        self,
        query: Query,
        k: int,
        where: Filter = EVERYTHING,
        exclude_queries: bool = True,
        exclude_same_place: bool = False,
    ) -> Answer:
        """Returns the same with what was searched and how the query was taken.

        Args:
            query: What is asked for.
            k: How many hits, 1 to the number of images searched.
            where: What hits have in common.
            exclude_queries: Whether images that the query names by id or point are no hits.
            exclude_same_place: Whether neither are images of the same places as those.

        Raises:
            ConfigError: the query, k or a filter cannot be used.
            DataError: an id is not there, an image or a vector cannot be used.
        """
        opened = self._opened  # one version from here on, whatever `reload` does
        collection, catalogue = opened.collection, opened.collection.catalogue
        asked = ask(query, collection, opened.embedder, self._pixels)
        if exclude_same_place:
            where = elsewhere(where, catalogue.describe(asked.rows))
        mask = where.mask(catalogue)
        allowed = catalogue.live if mask is None else catalogue.live & mask
        count = int(allowed.sum())
        if exclude_queries and asked.rows:
            allowed = allowed.copy()
            allowed[asked.rows] = False
        is_all = allowed is catalogue.live
        scores, rows = collection.search(asked.vector[None], k, None if is_all else allowed)
        hits = hits_of(collection, rows[0][rows[0] >= 0], scores[0])
        notes = asked.notes
        if mask is not None and len(hits) < k:
            notes += (f"{count} of {collection.rows} images fit the filters",)
        return Answer(hits, collection.version, collection.rows, count, notes)


def _open(run: Path, before: _Opened | None) -> _Opened:
    """Opens what is current; what is compiled for an encoder that stays is kept."""
    collection = open_collection(run)
    if before is None or before.bundle.fingerprint != collection.fingerprint:
        bundle = load_encoder(run)
        if bundle.fingerprint != collection.fingerprint:
            raise DataError(
                f"{run / 'embeddings'} has the fingerprint {collection.fingerprint[:12]}, the "
                f"encoder {bundle.fingerprint[:12]}: they come from different encoders. Remove "
                f"{run / 'embeddings'} and {run / 'index'} and run main again"
            )
        before = _Opened(collection, bundle, Embedder(bundle))
    if collection.rows:  # it answers, or is not taken
        first = np.flatnonzero(collection.catalogue.live)[:1]
        collection.search(collection.vectors(first), 1)
    return before._replace(collection=collection)


def load_encoder(run: Path) -> Bundle:
    """Loads the encoder that made a run's embeddings.

    Raises:
        FileNotFoundError: a stage has not finished.
        DataError: a file is damaged.
    """
    artifacts.load(run / "encoders")
    name = artifacts.load(run / "embeddings")["settings"]["encoder"]
    return load_bundle(run / "encoders" / name)
