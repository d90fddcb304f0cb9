"""A finished run of 24 invented images that a search can be tried on, without training."""

import datetime

import fake_archive
import numpy as np
import shapely
import toys
from flax import nnx

from rejepa_jax import artifacts
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.collection.opening import open_collection
from rejepa_jax.retrieval.collection.parts import Rows
from rejepa_jax.retrieval.embeddings import thumbnails
from rejepa_jax.retrieval.embeddings.schema import EmbeddingPart, part_name
from rejepa_jax.retrieval.embeddings.writing import write_part
from rejepa_jax.retrieval.encoder import Bundle, Embedder, load_bundle, save_bundle
from rejepa_jax.retrieval.index import building

ROWS, SIZE, DIM = 24, 16, 16
SPLITS = {"test": 6, "train": 18}
LABELS = ("forest", "water", "urban")
NOWHERE, ACROSS = 22, 23  # rows: one of which nothing is known, one over the antimeridian
SPEC = EncoderSpec(SIZE, 8, 3, DIM, 1, 2, 4.0, "float32")
START = datetime.datetime(2018, 1, 1, 10, tzinfo=datetime.UTC)


def unit(seed, rows=ROWS, dim=DIM):
    """Random vectors of length 1."""
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def names(rows):
    return [f"place{row:03d}" for row in rows]


def footprint(row):
    """A hundredth of a degree around longitude `row` and latitude 40."""
    if row == NOWHERE:
        return b""
    if row == ACROSS:
        halves = [shapely.box(179.99, 40, 180, 40.01), shapely.box(-180, 40, -179.99, 40.01)]
        return shapely.to_wkb(shapely.MultiPolygon(halves), byte_order=1)
    return shapely.to_wkb(shapely.box(row - 0.005, 39.995, row + 0.005, 40.005), byte_order=1)


def part(rows, vectors, **changes):
    """What is known of rows: two images a place, one a day, labels in turn."""
    known = [row != NOWHERE for row in rows]
    columns = {
        "ids": names(rows),
        "sensor": ["s2"] * len(rows),
        "labels": [[LABELS[row % 3], "all"] if row != NOWHERE else [] for row in rows],
        "collection": ["toy"] * len(rows),
        "split": ["test" if row < SPLITS["test"] else "train" for row in rows],
        "place": [f"ground{row // 2}" if ok else "" for row, ok in zip(rows, known, strict=True)],
        "geometry": [footprint(row) for row in rows],
        "datetime": [
            (START + datetime.timedelta(days=row)).isoformat() if ok else ""
            for row, ok in zip(rows, known, strict=True)
        ],
        "source_uri": names(rows),
    }
    return EmbeddingPart(first_row=0, vectors=vectors, **columns | changes)


def make(root, vectors=None, kind="exact", mark="f" * 64):
    """Writes a run's embeddings and index of the given vectors."""
    run = root / "run"
    vectors = unit(0) if vectors is None else vectors
    publish_embeddings(run, vectors, mark)
    publish_index(run, vectors, kind, mark)
    return run


def publish_embeddings(run, vectors, mark, **inputs):
    def write(partial):
        rows = part(range(len(vectors)), vectors)
        with thumbnails.writing(partial / thumbnails.zip_name(0, 1)) as add:
            uris = [add(row, picture(row)) for row in range(len(vectors))]
        rows = EmbeddingPart(**vars(rows) | {"thumbnail_uri": uris})
        write_part(partial / part_name(0, 1), rows, {"fingerprint": mark})
        return artifacts.Built({})

    artifacts.run_stage(run / "embeddings", {"encoder": "target"}, {"of": mark, **inputs}, write)


def picture(row):
    """The thumbnail of a row."""
    return thumbnails.webp(
        np.full((8, 8, 3), row * 10 % 256, np.uint8), ("red", "green", "blue"), 8
    )


def publish_index(run, vectors, kind, mark):
    made = {"embeddings": artifacts.load(run / "embeddings")["fingerprint"]}
    artifacts.run_stage(
        run / "index",
        {"kind": kind},
        made,
        lambda partial: artifacts.Built(building.build(vectors, partial, kind, mark)),
    )


def make_whole(root):
    """Writes a run with records and an encoder that has embedded them; returns (run, bundle)."""
    run = root / "run"
    records = fake_archive.prepared(run, SPLITS, SIZE)
    given = SensorInput((0, 1, 2), (1500.0,) * 3, (800.0,) * 3, 0.0)
    encoder = toys.filled(lambda: Encoder(SPEC, rngs=nnx.Rngs(0)))
    sensor = records.schema.sensors["s2"]
    bundle = Bundle("target", encoder, Preprocess(SIZE, {"s2": given}), "s2", sensor, "mean", 5)

    def export(partial):
        save_bundle(bundle, partial / "target")
        return artifacts.Built({"encoders": ["target"]})

    artifacts.run_stage(run / "encoders", {}, {}, export)
    bundle = load_bundle(run / "encoders" / "target")
    images = records.read(range(ROWS), ["s2"])["image"]["s2"]
    embedder = Embedder(bundle)
    vectors = np.concatenate([embedder({"s2": images[i : i + 1]}) for i in range(ROWS)])
    made_from = {"records": records.manifest["fingerprint"]}
    publish_embeddings(run, vectors, bundle.fingerprint, **made_from)
    publish_index(run, vectors, "exact", bundle.fingerprint)
    return run, bundle


MARK = {"fingerprint": "f" * 64}


def rows_of(numbers, vectors, **changes):
    """Images to add, with pictures."""
    rows = part(numbers, vectors, **changes)
    return [Rows(rows, lambda place: picture(numbers[place]))]


def ids(run):
    """What is searched now, and answers."""
    opened = open_collection(run)
    opened.search(unit(2, 1), 3)
    live = np.flatnonzero(opened.catalogue.live)
    return [opened.catalogue.id(row) for row in live]
