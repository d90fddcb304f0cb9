"""Records with places and times, a bundle, and an embedder that needs no compilation."""

import dataclasses
import hashlib
import pathlib
import sys
import time

import fake_archive
import numpy as np
import toys
from export_parts import polygon
from flax import nnx

from rejepa_jax.config import Export
from rejepa_jax.data.pipeline import RecordSet, open_records
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.embeddings import exporting
from rejepa_jax.retrieval.encoder import Bundle, Embedder
from rejepa_jax.types import DataError

SPEC = EncoderSpec(16, 8, 2, 16, 1, 2, 4.0, "float32")
SIZE = 16


class Placed(RecordSet):
    """Records of the fake archive, with what it does not know: image n was taken on day n + 1."""

    def read_examples(self, rows):
        return [
            dataclasses.replace(
                example,
                place=f"place {number // 2}",
                crs="EPSG:32634",
                transform=(10.0, 0.0, 3e5 + number, 0.0, -10.0, 5e6),
                geometry=polygon(number, 40, number + 0.5, 41),
                datetime=f"2020-06-{number + 1:02d}T10:00:00Z",
                source=f"https://user:secret@host/{example.id}.tif?signature=secret",
            )
            for number, example in zip(rows, super().read_examples(rows), strict=True)
        ]


class Quick(Embedder):
    """Embeds by arithmetic that one can repeat by hand: row means, of length 1."""

    def __init__(self, bundle):
        self.bundle = bundle

    def __call__(self, images):
        return quick_vectors(images["s2"])


def quick_vectors(images):
    means = images.astype(np.float64).mean(axis=(2, 3))
    return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


def make_records(root):
    """Three test places, then seven to train on."""
    return fake_archive.prepared(root, {"train": 7, "test": 3}, size=SIZE)


def make_bundle(records):
    """Takes two of the three bands, whose zeros are no measurement."""
    given = SensorInput((0, 2), (1500.0,) * 2, (800.0,) * 2, 0.0)
    encoder = toys.filled(lambda: Encoder(SPEC, rngs=nnx.Rngs(0)))
    record = records.schema.sensors["s2"]
    return Bundle(
        "target", encoder, Preprocess(SIZE, {"s2": given}), "s2", record, "mean", 5, "mark" * 10
    )


def digests(folder):
    """Returns the sha256 of every file by name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


class Slow(Placed):
    """Takes its time, to be killed in the middle."""

    def read_examples(self, rows):
        time.sleep(0.3)
        return super().read_examples(rows)


def main(records, folder):
    """Exports by two processes; a fault of data ends it with exit code 1 and is said."""
    opened = Slow(**vars(open_records(pathlib.Path(records))))
    embedder = Embedder(make_bundle(opened))
    export = Export(thumbnails=8, part_rows=2, processes=2)
    try:
        exporting.write_embeddings(embedder, opened, pathlib.Path(folder), 2, export)
    except DataError as error:
        sys.exit(f"DataError: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
