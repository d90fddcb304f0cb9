"""Every record through an encoder, into embedding files; goes on after the last finished part."""

import pathlib
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from jaxtyping import Float

from rejepa_jax import artifacts
from rejepa_jax.console import Progress
from rejepa_jax.data.examples import Example
from rejepa_jax.data.pipeline import READ, RecordSet
from rejepa_jax.retrieval import embeddings
from rejepa_jax.retrieval.encoder import Embedder
from rejepa_jax.storage import keeping

PART_ROWS = 65536


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
    return embed_examples(embedder, records, rows, batch_size)[1]


def embed_examples(
    embedder: Embedder, records: RecordSet, rows: np.ndarray, batch_size: int
) -> tuple[list[Example], Float[np.ndarray, "r d"]]:
    """Returns the rows' examples, without their pixels, and their embeddings."""
    progress = Progress(f"embed ({embedder.bundle.name})", len(rows), "images")
    kept, vectors = [], []
    sensor = embedder.bundle.sensor
    for examples, images in example_batches(records, rows, sensor, batch_size):
        vectors.append(embedder({sensor: images})[: len(examples)])
        kept += [without_pixels(example) for example in examples]
        progress.update(len(kept))
    return kept, np.concatenate(vectors)


def without_pixels(example: Example) -> Example:
    """Returns what is known of a place beside its images."""
    fields = {name: value for name, value in vars(example).items() if name != "images"}
    return Example(images={}, **fields)


def write_embeddings(
    embedder: Embedder, records: RecordSet, directory: pathlib.Path, batch_size: int
) -> artifacts.Built:
    """Embeds every record of every split, in row order; a part that exists is not made again."""
    total = len(records.records)
    parts = -(-total // PART_ROWS)
    split_of = np.empty(total, object)
    for split, rows in records.splits.items():
        split_of[rows.start : rows.stop] = split
    for number in range(parts):
        path = directory / embeddings.part_name(number, parts)
        if path.exists():
            continue
        rows = np.arange(number * PART_ROWS, min((number + 1) * PART_ROWS, total))
        examples, vectors = embed_examples(embedder, records, rows, batch_size)
        part = make_part(examples, vectors, rows, list(split_of[rows]), embedder, records)
        embeddings.write_part(path, part, footer(embedder))
        keeping.keep(path)
    return artifacts.Built({"rows": total, "fingerprint": embedder.bundle.fingerprint})


def make_part(
    examples: list[Example],
    vectors: Float[np.ndarray, "r d"],
    rows: np.ndarray,
    splits: list[str],
    embedder: Embedder,
    records: RecordSet,
) -> embeddings.EmbeddingPart:
    """Gathers the columns of one part."""
    record, classes = embedder.bundle.record, records.schema.classes
    shape = (record.height, record.width)
    return embeddings.EmbeddingPart(
        first_row=int(rows[0]),
        ids=[example.id for example in examples],
        vectors=vectors,
        sensor=[embedder.bundle.sensor] * len(rows),
        labels=[[classes[label] for label in example.labels] for example in examples],
        collection=[records.schema.name] * len(rows),
        split=splits,
        geometry=[example.geometry for example in examples],
        proj_code=[example.crs for example in examples],
        proj_transform=[example.transform for example in examples],
        proj_shape=[shape if example.transform else () for example in examples],
        datetime=[example.datetime for example in examples],
        source_uri=[example.source for example in examples],
    )


def footer(embedder: Embedder) -> dict[str, Any]:
    """Says what made the vectors."""
    bundle = embedder.bundle
    return {
        "fingerprint": bundle.fingerprint,
        "model": {"name": bundle.name, "step": bundle.step, **vars(bundle.encoder.spec)},
        "preprocessing": {"sensor": bundle.sensor, "image_size": bundle.preprocess.image_size},
        "bands": [bundle.record.bands[i] for i in bundle.preprocess.inputs[bundle.sensor].bands],
        "pool": bundle.pool,
        "versions": artifacts.versions(),
    }
