"""Records through an encoder: their images in batches, and the embeddings of some rows."""

from collections.abc import Iterator

import grain
import numpy as np
from jaxtyping import Float

from rejepa_jax.console import Progress
from rejepa_jax.data.examples import Example
from rejepa_jax.data.pipeline import READ, RecordSet
from rejepa_jax.retrieval.encoder import Embedder


def example_batches(
    records: RecordSet, rows: np.ndarray, sensor: str, batch_size: int
) -> Iterator[tuple[list[Example], np.ndarray]]:
    """Yields rows in order: the examples, and one sensor's images padded to the batch size."""

    def read(number: int) -> tuple[list[Example], np.ndarray]:
        part = rows[number * batch_size : (number + 1) * batch_size]
        examples = records.read_examples(part)
        padded = examples + [examples[-1]] * (batch_size - len(examples))
        return examples, np.stack([example.images[sensor] for example in padded])

    count = -(-len(rows) // batch_size)
    return iter(grain.MapDataset.range(count).map(read).to_iter_dataset(READ))


def embed_rows(
    embedder: Embedder, records: RecordSet, rows: np.ndarray, batch_size: int
) -> Float[np.ndarray, "r d"]:
    """Returns the embeddings of the given rows, in their order."""
    progress = Progress(f"embed ({embedder.bundle.name})", len(rows), "images")
    vectors, sensor = [], embedder.bundle.sensor
    for examples, images in example_batches(records, rows, sensor, batch_size):
        vectors.append(embedder({sensor: images})[: len(examples)])
        progress.advance(len(examples))
    return np.concatenate(vectors)
