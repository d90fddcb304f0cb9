"""One part of an export: rows of the records, embedded, with all that the records know of them."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from rejepa_jax.data.examples import Example
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.data.preprocess import SensorInput
from rejepa_jax.retrieval.embed import embedded_batches
from rejepa_jax.retrieval.embeddings.schema import EmbeddingPart
from rejepa_jax.retrieval.encoder import Embedder

Draw = Callable[[np.ndarray, np.ndarray], Iterable[str]]  # rows, their images -> URIs of pictures


def make_part(
    embedder: Embedder,
    records: RecordSet,
    rows: np.ndarray,
    batch_size: int,
    draw: Draw,
    advance: Callable[[int], None],
) -> EmbeddingPart:
    """Embeds rows and gathers their columns; `advance` is told of every image that is done."""
    sensor = embedder.bundle.sensor
    given = embedder.bundle.preprocess.inputs[sensor]
    known, vectors, fractions, pictures = [], [], [], []
    for examples, images, made in embedded_batches(embedder, records, rows, batch_size):
        count = len(examples)
        drawn = draw(rows[len(known) : len(known) + count], images[:count])
        vectors.append(made[:count])
        fractions.append(valid_fraction(images[:count], given))
        pictures += drawn
        known += [without_pixels(example) for example in examples]
        advance(count)
    return _gather(
        embedder,
        records,
        rows,
        known,
        vectors=np.concatenate(vectors),
        valid_fraction=np.concatenate(fractions),
        thumbnail_uri=pictures,
    )


def valid_fraction(
    images: Shaped[np.ndarray, "b h w _"], given: SensorInput
) -> Float32[np.ndarray, " b"]:
    """Returns the share of pixels known in all bands embedded; NaN where nothing means no-data."""
    if given.nodata is None:
        return np.full(len(images), np.nan, np.float32)
    is_known = (images[..., list(given.bands)] != given.nodata).all(axis=-1)
    return is_known.mean(axis=(1, 2), dtype=np.float32)


def without_pixels(example: Example) -> Example:
    """Returns what is known of a place beside its images."""
    fields = {name: value for name, value in vars(example).items() if name != "images"}
    return Example(images={}, **fields)


def split_names(records: RecordSet, rows: np.ndarray) -> list[str]:
    """Returns the split of each row."""
    ends = [split.stop for split in records.splits.values()]
    names = list(records.splits)
    return [names[i] for i in np.searchsorted(ends, rows, side="right")]


def _gather(
    embedder: Embedder, records: RecordSet, rows: np.ndarray, known: list[Example], **made: Any
) -> EmbeddingPart:
    record, classes = embedder.bundle.record, records.schema.classes
    shape = (record.height, record.width)
    return EmbeddingPart(
        first_row=int(rows[0]),
        ids=[example.id for example in known],
        sensor=[embedder.bundle.sensor] * len(rows),
        labels=[[classes[label] for label in example.labels] for example in known],
        collection=[records.schema.name] * len(rows),
        split=split_names(records, rows),
        place=[example.place for example in known],
        geometry=[example.geometry for example in known],
        proj_code=[example.crs for example in known],
        proj_transform=[example.transform for example in known],
        proj_shape=[shape if example.transform else () for example in known],
        datetime=[example.datetime for example in known],
        source_uri=[example.source for example in known],
        **made,
    )
