"""Parts of an export to write, with footprints packed by hand."""

import dataclasses
import struct

import numpy as np

from rejepa_jax.retrieval.embeddings import schema, writing

FOOTER = {"fingerprint": "ab" * 32, "model": {"name": "target", "step": 7}, "licence": "CC0"}


def unit_rows(rows, dim=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ring(west, south, east, north, order="<"):
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return struct.pack(f"{order}I", 5) + b"".join(struct.pack(f"{order}dd", *c) for c in corners)


def polygon(*box, order="<"):
    return struct.pack(f"{order}BII", order == "<", 3, 1) + ring(*box, order=order)


def multipolygon(*boxes):
    return struct.pack("<BII", 1, 6, len(boxes)) + b"".join(polygon(*box) for box in boxes)


def plain_part(rows=5, first=0, **changes):
    part = schema.EmbeddingPart(
        first_row=first,
        ids=[f"patch_{first + i}" for i in range(rows)],
        vectors=unit_rows(rows, seed=first),
        sensor=["s2"] * rows,
        labels=[["water", "crops"][: i % 3] for i in range(rows)],
    )
    return dataclasses.replace(part, **changes)


def full_part():
    return plain_part(
        3,
        collection=["ben"] * 3,
        split=["train", "", "test"],
        geometry=[polygon(20.1, 44.2, 20.3, 44.4), b"", polygon(-1.7, 50, -1.6, 50.3, order=">")],
        proj_code=["EPSG:32634", "", "EPSG:32630"],
        proj_transform=[(10.0, 0.0, 3e5, 0.0, -10.0, 5e6), (), (10.0, 0.0, 7e5, 0.0, -10.0, 6e6)],
        proj_shape=[(120, 120), (), (120, 60)],
        datetime=["2017-06-13T10:10:31Z", "", "2018-01-02T03:04:05.250000Z"],
        source_uri=["a/b.tif", "", "c.tif"],
        valid_fraction=np.array([1, np.nan, 0], np.float32),
    )


def write(folder, *parts, footers=None):
    for i, part in enumerate(parts):
        path = folder / schema.part_name(i, len(parts))
        writing.write_part(path, part, footers[i] if footers else FOOTER)
    return folder


def full_part_from(first):
    return dataclasses.replace(full_part(), first_row=first, ids=[f"full_{i}" for i in range(3)])
