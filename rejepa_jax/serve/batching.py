"""Queries that arrive while others are searched are then searched together.

Going through all vectors costs about the same for one query as for a few dozen: what counts is
reading them. So whoever's turn it is searches for everyone who waits. What each is allowed to find
may differ by some rows, such as the image that it asks with: then the search is for what any of
them may find, that many rows longer, and each drops what is not for it.
"""

import dataclasses
import os
import threading
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from rejepa_jax.retrieval.collection.collection import Collection
from rejepa_jax.retrieval.index.interface import Answer
from rejepa_jax.retrieval.search import Searcher
from rejepa_jax.types import ConfigError, DataError

MOST_TOGETHER = 64
MOST_APART = 128  # rows by which two may differ and still be searched together
ONE_CORE = ("scann", "hnsw", "faiss")  # kinds whose search keeps one core busy
Mask = Bool[np.ndarray, " r"] | None


class BatchedSearcher(Searcher):
    """A searcher for many threads at once; its answers are those of any other."""

    def __init__(self, run: Path, records: Path | None = None):
        super().__init__(run, records)
        self._together()

    def reload(self) -> bool:
        is_new = super().reload()
        if is_new:
            self._together()
        return is_new

    def _together(self) -> None:
        self._opened = self._opened._replace(collection=batched(self.collection))


def batched(collection: Collection) -> Collection:
    """Returns the same collection, whose index searches for several threads at once."""
    nearest = Together(collection)
    return dataclasses.replace(
        collection, index=dataclasses.replace(collection.index, nearest=nearest)
    )


@dataclasses.dataclass(eq=False)
class _Waiting:
    """One search, and what was found once somebody has done it."""

    queries: Float[np.ndarray, "q d"]
    k: int
    allowed: Mask
    is_alone: bool = False  # a search together with others failed
    found: Answer | None = None
    told: threading.Event = dataclasses.field(default_factory=threading.Event)  # found, or a turn


class Together:
    """An index's engine, `nearest`, that takes turns.

    A turn ends by giving it to who has waited longest, so that no thread can keep it by asking
    again at once. Those that were searched for go without one.
    """

    def __init__(self, collection: Collection):
        self._collection = collection  # kept: its files are closed when nobody has it any more
        self._nearest, self._rows = collection.index.nearest, collection.index.rows
        self._turns = (os.cpu_count() or 1) if collection.index.kind in ONE_CORE else 1
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []

    def __call__(self, queries: Float[np.ndarray, "q d"], k: int, allowed: Mask) -> Answer:
        """Waits until somebody has searched for us, or until it is our turn to, for others too."""
        mine = _Waiting(queries, k, allowed)
        with self._lock:
            self._waiting.append(mine)
            self._give_turns()
        mine.told.wait()
        if mine.found is None:
            try:
                self._search_with(mine, *self._company(mine))
            finally:
                with self._lock:
                    self._turns += 1
                    self._give_turns()
        assert mine.found is not None
        return mine.found

    def _give_turns(self) -> None:
        while self._turns and self._waiting:
            self._turns -= 1
            self._waiting.pop(0).told.set()

    def _search_with(self, mine: _Waiting, company: list[_Waiting], union: Mask) -> None:
        """Searches for all; if that fails each for itself, as one query may be to blame."""
        try:
            self._search(company, union)
        except (ConfigError, DataError):
            if len(company) == 1:
                raise
            self._search([mine], mine.allowed)
        finally:
            self._tell(company[1:])

    def _tell(self, company: list[_Waiting]) -> None:
        """Lets those go for whom something was found; the others have to wait for a turn."""
        failed = [each for each in company if each.found is None]
        for each in failed:
            each.is_alone = True
        with self._lock:
            self._waiting[:0] = failed
        for each in company:
            if each.found is not None:
                each.told.set()

    def _company(self, mine: _Waiting) -> tuple[list[_Waiting], Mask]:
        """Takes those out of the queue that are searched with `mine`, and what any may find."""
        company, union = [mine], mine.allowed
        if mine.is_alone:
            return company, union
        with self._lock:
            for other in self._waiting:
                if len(company) == MOST_TOGETHER:
                    break
                if not other.is_alone and apart(union, other.allowed) <= MOST_APART:
                    company.append(other)
                    union = either(union, other.allowed)
            self._waiting = [each for each in self._waiting if each not in company]
        return company, union

    def _search(self, company: list[_Waiting], union: Mask) -> None:
        reach = max(each.k + apart(union, each.allowed) for each in company)
        queries = np.concatenate([each.queries for each in company])
        scores, rows = self._nearest(queries, min(reach, self._rows), union)
        start = 0
        for each in company:
            part = slice(start, start + len(each.queries))
            each.found = only(scores[part], rows[part], each)
            start += len(each.queries)


def apart(one: Mask, other: Mask) -> int:
    """Counts the rows that only one of two masks has; None has all."""
    if one is other:
        return 0
    if one is None or other is None:
        mask = other if one is None else one
        assert mask is not None
        return mask.size - int(np.count_nonzero(mask))
    return int(np.count_nonzero(one != other))


def either(one: Mask, other: Mask) -> Mask:
    """Returns the rows of either mask."""
    return None if one is None or other is None else one | other


def only(scores: np.ndarray, rows: np.ndarray, wanted: _Waiting) -> Answer:
    """Returns the k best of what one of them may find."""
    is_good = rows >= 0
    if wanted.allowed is not None:
        is_good &= wanted.allowed[rows]
    kept = np.argsort(~is_good, axis=1, kind="stable")[:, : wanted.k]
    scores, rows, is_good = (np.take_along_axis(x, kept, axis=1) for x in (scores, rows, is_good))
    return np.where(is_good, scores, np.float32(np.nan)), np.where(is_good, rows, np.int32(-1))
