"""Records through an encoder: their images in batches, and the embeddings of some rows."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import grain
import jax
import numpy as np
from jaxtyping import Float

from rejepa_jax.console import Progress
from rejepa_jax.data.buffers import BufferPool
from rejepa_jax.data.examples import Example
from rejepa_jax.data.pipeline import READ, RecordSet
from rejepa_jax.retrieval.encoder import Embedder

# While an accelerator embeds one batch, others are read and brought to it; one is enough for the
# cores of a CPU. The results are the same.
AT_ONCE = 3
T = TypeVar("T")


def example_batches(
    records: RecordSet, rows: np.ndarray, sensor: str, batch_size: int
) -> Iterator[tuple[list[Example], np.ndarray]]:
    """Yields rows in order: the examples, and one sensor's images padded to the batch size."""
    return _in_parts(rows, batch_size, lambda part: _read(records, part, sensor, batch_size), READ)


def embedded_batches(
    embedder: Embedder, records: RecordSet, rows: np.ndarray, batch_size: int
) -> Iterator[tuple[list[Example], np.ndarray, Float[np.ndarray, "b d"]]]:
    """Yields the same with the images' embeddings; a few batches are on their way at once."""
    sensor = embedder.bundle.sensor

    def embed(part: np.ndarray) -> tuple[list[Example], np.ndarray, np.ndarray]:
        examples, images = _read(records, part, sensor, batch_size)
        return examples, images, embedder({sensor: images})

    return _in_parts(rows, batch_size, embed, _side_by_side())


def embed_rows(
    embedder: Embedder, records: RecordSet, rows: np.ndarray, batch_size: int
) -> Float[np.ndarray, "r d"]:
    """Returns the embeddings of the given rows, in their order; of the records, only pixels."""
    progress = Progress(f"embed ({embedder.bundle.name})", len(rows), "images")
    pool, sensors = BufferPool(), (embedder.bundle.sensor,)

    def embed(part: np.ndarray) -> np.ndarray:
        padded = np.pad(part, (0, batch_size - len(part)), mode="edge")
        images = records.read(padded, sensors, pool.take)["image"]
        return embedder(images)[: len(part)]

    vectors = []
    for part in _in_parts(rows, batch_size, embed, _side_by_side()):
        vectors.append(part)
        progress.advance(len(part))
    return np.concatenate(vectors)


def _side_by_side() -> grain.ReadOptions:
    count = 1 if jax.default_backend() == "cpu" else AT_ONCE
    return grain.ReadOptions(num_threads=count, prefetch_buffer_size=count)


def _in_parts(
    rows: np.ndarray, size: int, make: Callable[[np.ndarray], T], options: grain.ReadOptions
) -> Iterator[T]:
    """Yields what `make` makes of each `size` rows, in order; it is called in threads."""
    numbers = grain.MapDataset.range(-(-len(rows) // size))
    parts = numbers.map(lambda number: make(rows[number * size : (number + 1) * size]))
    return iter(parts.to_iter_dataset(options))


def _read(
    records: RecordSet, rows: np.ndarray, sensor: str, batch_size: int
) -> tuple[list[Example], np.ndarray]:
    examples = records.read_examples(rows)
    padded = examples + [examples[-1]] * (batch_size - len(examples))
    return examples, np.stack([example.images[sensor] for example in padded])
