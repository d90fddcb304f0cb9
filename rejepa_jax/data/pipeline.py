"""Records to batches: the rows of a batch follow from its number, and one call reads them.

Python for each record inside a pipeline caps it at a few thousand records a second, so what flows
through grain are the numbers of batches: it prefetches, and saves and restores the position.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import grain
import jax
import numpy as np
from absl import logging
from grain.experimental import ThreadPrefetchIterDataset
from jaxtyping import Int

from rejepa_jax import artifacts
from rejepa_jax.data import examples, placing
from rejepa_jax.data.buffers import BufferPool
from rejepa_jax.data.prepare import SCHEMA
from rejepa_jax.data.records import Records
from rejepa_jax.storage import mirror
from rejepa_jax.types import ConfigError, DataError

# By measurement a second thread costs a fifth more CPU time a record; one reads 25,000 a second.
READ = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
ENDLESS = 1 << 40  # batches


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """A complete records directory, its rows numbered over all splits in name order."""

    schema: examples.Schema
    splits: dict[str, range]  # split -> its rows
    manifest: dict[str, Any]
    records: Records

    def rows(self, split: str) -> np.ndarray:
        """Returns a split's row numbers.

        Raises:
            ConfigError: there is no such split, or it is empty.
        """
        if not self.splits.get(split):
            sizes = {name: len(rows) for name, rows in self.splits.items()}
            raise ConfigError(
                f"split {split!r} has no records; there are {sizes}: change the split"
            )
        return np.asarray(self.splits[split])

    def statistics(self, split: str, sensor: str) -> dict[str, list[float]]:
        """Returns the per-band mean, std, min and max over a split, from the manifest."""
        self.rows(split)
        return self.manifest["info"]["splits"][split]["statistics"][sensor]

    def read(
        self,
        rows: Sequence[int] | np.ndarray,
        sensors: Sequence[str],
        empty: Callable[[tuple[int, ...], np.dtype], np.ndarray] = np.empty,
    ) -> placing.LocalBatch:
        """Reads these rows' images, in order, as one array a sensor; of no sensor, only numbers.

        Every byte of each record is read, checked and, if it is a pixel asked for, put into place;
        `empty(shape, dtype)` gives the arrays.
        """
        known = {name: self.schema.sensors[name] for name in sorted(sensors)}
        images = {
            name: empty((len(rows), *sensor.shape), np.dtype(sensor.dtype))
            for name, sensor in known.items()
        }
        parts = [examples.image_part(self.schema, name) for name in known]
        flat = [image.reshape(len(rows), -1).view(np.uint8) for image in images.values()]
        if sensors:
            self.records.read_into(rows, parts, flat)
        return {"image": images, "id": np.asarray(rows, np.int32)}

    def read_examples(self, rows: Sequence[int] | np.ndarray) -> list[examples.Example]:
        """Reads these rows whole, in order."""
        return [examples.decode(record, self.schema) for record in self.records.read(rows)]


def open_records(directory: pathlib.Path, check: str = "every") -> RecordSet:
    """Opens a complete records directory; `check` is that of `Records`.

    Raises:
        FileNotFoundError, DataError: it is not complete, or a file is missing or of another size.
    """
    manifest = artifacts.load(directory)
    schema = examples.Schema.from_json(artifacts.read_json(directory / SCHEMA))
    splits, shards, start = {}, [], 0
    for name, entry in sorted(manifest["info"]["splits"].items()):
        splits[name] = range(start, start + entry["records"])
        start += entry["records"]
        shards += [
            (mirror.location(directory / shard["file"]), shard["records"])
            for shard in entry["shards"]
        ]
    if start == 0:
        raise DataError(
            f"{directory} holds no record; remove it and run prepare on another archive"
        )
    return RecordSet(schema, splits, manifest, Records(shards, check))


def placed_batches(
    records: RecordSet,
    split: str,
    sensors: Sequence[str],
    batch_size: int,
    seed: int,
    place: jax.sharding.NamedSharding,
    *,
    prefetch: int,
    resident: bool,
) -> grain.DatasetIterator:
    """Yields global batches on the devices, for ever; its position is that after the last yielded.

    `prefetch` of them are brought there in a thread while a step runs, which `close` ends. With
    `resident` they are taken out of a whole split that is on every device.
    """
    own = placing.own_places(place, batch_size)
    read = () if resident else sensors
    batches = _local_batches(records, split, read, batch_size, seed, own)
    batches = batches.map(functools.partial(placing.to_device, place=place))
    if prefetch:
        batches = ThreadPrefetchIterDataset(batches, prefetch_buffer_size=prefetch)
    if resident:
        rows = records.rows(split)
        held = records.read(rows, sensors)["image"]
        # A computation, which all processes must launch in the same order: not in the thread.
        batches = batches.map(placing.resident_images(held, int(rows[0]), place))
    return iter(batches)


def train_batches(
    records: RecordSet, split: str, sensors: Sequence[str], batch_size: int, seed: int
) -> grain.DatasetIterator:
    """Yields whole batches in memory, as one process alone trains on; their position can be saved.

    Each epoch is shuffled anew over the whole split and the epochs follow one another without a
    gap, so that a batch may span two of them, and a split smaller than the batch is seen several
    times within one. The order depends on the seed and the batch size, not on the processes.
    """
    every = np.arange(batch_size)
    return iter(_local_batches(records, split, sensors, batch_size, seed, every))


def _local_batches(
    records: RecordSet,
    split: str,
    sensors: Sequence[str],
    batch_size: int,
    seed: int,
    own: Int[np.ndarray, " _"],
) -> grain.IterDataset:
    rows = records.rows(split)
    if len(rows) < batch_size:
        logging.warning(
            "split %s has %d records, fewer than train.batch_size = %d: each batch repeats images",
            split,
            len(rows),
            batch_size,
        )
    order, pool = Order(rows, batch_size, seed), BufferPool()
    batches = grain.MapDataset.range(ENDLESS).map(
        lambda number: records.read(order[number][own], sensors, pool.take)
    )
    return batches.to_iter_dataset(READ)


class Order:
    """The rows of every global batch: one permutation of all rows after another, cut into batches.

    An epoch's permutation is drawn from seed and epoch alone, and a batch depends on its number
    alone, so that any batch can be had at any time, in any process.
    """

    def __init__(self, rows: Int[np.ndarray, " _"], batch_size: int, seed: int) -> None:
        self._rows, self._batch_size, self._seed = rows, batch_size, seed
        self._epoch = functools.lru_cache(maxsize=3)(self._permute)

    def __getitem__(self, batch: int) -> Int[np.ndarray, " b"]:
        places = np.arange(batch * self._batch_size, (batch + 1) * self._batch_size)
        epochs, within = np.divmod(places, len(self._rows))
        taken = [
            self._epoch(epoch)[within[epochs == epoch]] for epoch in sorted(set(epochs.tolist()))
        ]
        return np.concatenate(taken)

    def _permute(self, epoch: int) -> Int[np.ndarray, " _"]:
        return np.random.default_rng((self._seed, epoch)).permutation(self._rows)
