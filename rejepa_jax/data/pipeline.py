"""Records to batches: grain orders, shuffles and shares out row numbers; one call reads a batch.

Per-record Python inside a pipeline caps it at a few thousand records a second, so what flows
through grain are index batches, and each is read and decoded at once into one array a sensor.
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

from rejepa_jax import artifacts
from rejepa_jax.data import examples, tfrecord
from rejepa_jax.data.prepare import SCHEMA
from rejepa_jax.types import Batch, ConfigError, DataError

LocalBatch = dict[str, Any]  # a Batch of numpy arrays: this process's slice
READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """A complete records directory, its rows numbered over all splits in name order."""

    schema: examples.Schema
    splits: dict[str, range]  # split -> its rows
    manifest: dict[str, Any]
    records: tfrecord.Records

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

    def read(self, rows: Sequence[int] | np.ndarray, sensors: Sequence[str]) -> LocalBatch:
        """Reads these rows' images, in order, as one array a sensor; of no sensor, only numbers."""
        images = {}
        for sensor in sensors:
            known = self.schema.sensors[sensor]
            images[sensor] = np.empty((len(rows), *known.shape), known.dtype)
        for place, record in enumerate(self.records.read(rows) if sensors else ()):
            for sensor, image in examples.decode_images(record, self.schema, sensors).items():
                images[sensor][place] = image
        return {"image": images, "id": np.asarray(rows, np.int32)}

    def read_examples(self, rows: Sequence[int] | np.ndarray) -> list[examples.Example]:
        """Reads these rows whole, in order."""
        return [examples.decode(record, self.schema) for record in self.records.read(rows)]


def open_records(directory: pathlib.Path) -> RecordSet:
    """Opens a complete records directory.

    Raises:
        FileNotFoundError, DataError: it is not complete, or a file is missing or of another size.
    """
    manifest = artifacts.load(directory)
    schema = examples.Schema.from_json(artifacts.read_json(directory / SCHEMA))
    splits, shards, start = {}, [], 0
    for name, entry in sorted(manifest["info"]["splits"].items()):
        splits[name] = range(start, start + entry["records"])
        start += entry["records"]
        shards += [(directory / shard["file"], shard["records"]) for shard in entry["shards"]]
    if start == 0:
        raise DataError(
            f"{directory} holds no record; remove it and run prepare on another archive"
        )
    return RecordSet(schema, splits, manifest, tfrecord.Records(shards))


def train_batches(
    records: RecordSet, split: str, sensors: Sequence[str], batch_size: int, seed: int
) -> grain.DatasetIterator:
    """Yields this process's slice of every global batch, for ever; its position can be saved.

    Each epoch is shuffled anew over the whole split and the epochs follow one another without a
    gap, so that a batch may span two of them, and a split smaller than the batch is seen several
    times within one. The order depends on the seed and the batch size, not on the processes.
    """
    rows = records.rows(split)
    if len(rows) < batch_size:
        logging.warning(
            "split %s has %d records, fewer than train.batch_size = %d: each batch repeats images",
            split,
            len(rows),
            batch_size,
        )
    share = batch_size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    order = grain.MapDataset.range(rows[0], rows[-1] + 1).seed(seed).shuffle().repeat(None)
    batches = order.batch(batch_size).map(lambda rows: records.read(rows[mine], sensors))
    return iter(batches.to_iter_dataset(READ))


def resident_feed(
    records: RecordSet, split: str, sensors: Sequence[str], sharding: jax.sharding.NamedSharding
) -> Callable[[LocalBatch], Batch]:
    """Puts a whole split onto every device; returns what turns batches of row numbers into images.

    For small archives: nothing but row numbers then moves from host to device in a step.
    """
    rows = records.rows(split)
    held = records.read(rows, sensors)["image"]
    everywhere = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    images = jax.device_put(held, everywhere)

    @functools.partial(jax.jit, out_shardings=sharding)
    def gather(images: dict[str, jax.Array], ids: jax.Array) -> dict[str, jax.Array]:
        return {sensor: image[ids - int(rows[0])] for sensor, image in images.items()}

    def feed(batch: LocalBatch) -> Batch:
        placed = to_device(batch, sharding)
        return Batch(image=gather(images, placed["id"]), id=placed["id"], valid=placed["valid"])

    return feed


def to_device(batch: LocalBatch, sharding: jax.sharding.Sharding) -> Batch:
    """Makes one global array of every process's slice; a batch without `valid` is all valid."""

    def place(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, array)

    return Batch(
        image={sensor: place(image) for sensor, image in batch["image"].items()},
        id=place(batch["id"]),
        valid=place(batch.get("valid", np.ones(len(batch["id"]), bool))),
    )
