"""The records of many shards as one sequence: which shard, which record of it, read together."""

import bisect
import functools
import itertools
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import SupportsIndex

import numpy as np
from jaxtyping import UInt8

from rejepa_jax.data.shard import Part, Shard, load_index
from rejepa_jax.storage.files import each
from rejepa_jax.storage.readers import is_remote, read_ranges

MAX_OPEN = 768  # shards, each of them one file descriptor; 1024 is a common limit
Place = tuple[tuple[str, int], int]  # path of a shard and its number of records; record


class Records:
    """The records of several shards, each checked when it is read.

    Takes the shards, paths or URLs, in order, each with the number of records its manifest
    promises. A shard is opened when first read; a DataError then says if it or its index is
    missing, cut or damaged. With `check="first"` a record's checksums are verified only the first
    time that this object reads it into place. Threads may share one object; a pickled copy opens
    the shards anew.
    """

    def __init__(
        self, shards: Sequence[tuple[str | os.PathLike[str], int]], check: str = "every"
    ) -> None:
        self._shards = [(os.fspath(path), records) for path, records in shards]
        self._ends = list(itertools.accumulate(records for _, records in self._shards))
        self._is_remote = any(is_remote(path) for path, _ in self._shards)
        self._check = check
        self._known = np.zeros(len(self) if check == "first" else 0, bool)
        load = functools.cache(load_index)  # kept for all shards: 16 bytes a record and more

        @functools.lru_cache(MAX_OPEN)
        def open_shard(path: str, records: int) -> Shard:
            return Shard(path, records, load)

        self._open = open_shard

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: SupportsIndex) -> bytes:
        return self.read([index])[0]

    def read(self, indices: Iterable[SupportsIndex]) -> list[bytes]:
        """Reads some records, in the order asked for."""
        return [shard.read(record, frame) for shard, record, frame in self._fetch(indices)]

    def read_into(
        self,
        indices: Sequence[int] | np.ndarray,
        parts: Sequence[Part],
        targets: Sequence[UInt8[np.ndarray, "b _"]],
    ) -> None:
        """Reads some parts of records, in the parts' order; verifies all of each record.

        Args:
            indices: of the records.
            parts: what to read.
            targets: for each part an array with a row a record, as long as the part.

        Raises:
            DataError: a record is damaged, or a part is not where the index has it.
        """
        rows = zip(*map(_rows_of, targets), strict=True)
        chosen = np.asarray(indices)
        known = self._known[chosen].tolist() if self._check == "first" else [False] * len(chosen)
        work = zip(self._fetch(indices), rows, known, strict=True)
        for (shard, record, frame), row, is_known in work:
            shard.read_into(record, parts, row, frame, is_known)
        if self._check == "first":
            self._known[chosen] = True

    def _fetch(self, indices: Iterable[SupportsIndex]) -> Iterator[tuple[Shard, int, bytes | None]]:
        """Yields shard and record, and what a store holds of it: all of that read at once."""
        places = self._places(indices)
        frames: Sequence[bytes | None] = [None] * len(places)
        if self._is_remote:
            each(lambda shard: self._open(*shard), {shard for shard, _ in places})
            frames = read_ranges([self._open(*shard).span(record) for shard, record in places])
        for (shard, record), frame in zip(places, frames, strict=True):
            yield self._open(*shard), record, frame

    def _places(self, indices: Iterable[SupportsIndex]) -> list[Place]:
        places, total = [], len(self)
        for index in map(operator.index, indices):
            if not 0 <= index < total:
                raise IndexError(f"got record {index}, expected one of the {total} from 0")
            shard = bisect.bisect_right(self._ends, index)
            known = self._shards[shard]
            places.append((known, index - self._ends[shard] + known[1]))
        return places

    def __reduce__(self) -> tuple:
        return Records, (self._shards, self._check)


def _rows_of(target: UInt8[np.ndarray, "b n"]) -> Iterator[memoryview]:
    rows, size = target.shape
    flat = target.reshape(-1).data
    return (flat[start : start + size] for start in range(0, rows * size, size))
