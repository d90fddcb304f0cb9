"""A searcher over 200 invented images: all the server's answers without an encoder or a run.

`python tests/serve/fakes.py --port 8123` serves it. Only what would need a run is invented: the
columns, the vectors, the engine (one matrix product), the encoder (an image's mean colours), the
pictures and the pixels.
"""

import argparse
import datetime
import io
import threading

import numpy as np
import pyarrow as pa
import shapely
from PIL import Image

from rejepa_jax.data.examples import Sensor
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.vit import EncoderSpec
from rejepa_jax.retrieval.collection.catalogue import Catalogue
from rejepa_jax.retrieval.collection.collection import Collection, nearest
from rejepa_jax.retrieval.collection.pixels import Pixels
from rejepa_jax.retrieval.embeddings.thumbnails import Thumbnails
from rejepa_jax.retrieval.encoder import Bundle, Embedder, abstract_encoder
from rejepa_jax.retrieval.index.interface import Index
from rejepa_jax.retrieval.search import Searcher, _Opened

ROWS, DIM, SIDE = 200, 16, 32
LABELS = ("Arable land", "Broad-leaved forest", "Inland waters", "Pastures", "Urban fabric")
EDGES = ("xmin", "ymin", "xmax", "ymax")


def bundle():
    """An encoder's description, without weights."""
    spec = EncoderSpec(SIDE, 8, 3, DIM, 1, 1, 2.0, "float32")
    given = SensorInput((0, 1, 2), (0.0,) * 3, (255.0,) * 3, None)
    record = Sensor(("red", "green", "blue"), "uint8", SIDE, SIDE)
    preprocess = Preprocess(SIDE, {"rgb": given})
    return Bundle("context", abstract_encoder(spec), preprocess, "rgb", record, "mean", 0, "f" * 64)


class MeanColours(Embedder):
    def __init__(self, bundle):
        self.bundle = bundle

    def __call__(self, images):
        colours = images["rgb"].astype(np.float32).mean(axis=(1, 2)) / 255 + 0.01
        vectors = np.pad(colours, ((0, 0), (0, DIM - 3))).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Plain(Thumbnails):
    """Squares of one colour; `missing` has none."""

    def __init__(self, vectors, missing=9):
        self.vectors, self.missing = vectors, missing

    def read(self, row):
        if row == self.missing:
            return None
        buffer = io.BytesIO()
        colour = tuple(int(120 + 100 * x) for x in self.vectors[row, :3])
        Image.new("RGB", (96, 96), colour).save(buffer, "WEBP")
        return buffer.getvalue()


class Stripes(Pixels):
    def __init__(self):
        pass

    def read(self, *_):
        return np.indices((SIDE, SIDE, 3)).sum(axis=0).astype(np.uint8)


class FakeSearcher(Searcher):
    def __init__(self, collection=None, following=()):
        made = bundle()
        self._opened = _Opened(collection or collection_of(table()), made, MeanColours(made))
        self._pixels = Stripes()
        self._lock = threading.Lock()
        self.following = list(following)  # what reload finds, in turn

    def reload(self):
        if not self.following:
            return False
        self._opened = self._opened._replace(collection=self.following.pop(0))
        return True


def collection_of(columns, version="0-invented"):
    random = np.random.default_rng(7)
    centres = random.normal(size=(len(LABELS), DIM))
    kinds = random.integers(0, len(LABELS), len(columns))
    vectors = (centres[kinds] + 0.3 * random.normal(size=(len(columns), DIM))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def engine(queries, k, allowed):
        may = np.ones(len(vectors), bool) if allowed is None else allowed
        scores, rows = nearest(queries, vectors, k, may)
        return scores.astype(np.float32), rows.astype(np.int32)

    info = {"kind": "exact", "recall_at_10": 1.0}
    index = Index("exact", len(vectors), DIM, "f" * 64, info, engine, vectors)
    none, pictures = np.zeros((0, DIM), np.float32), ((0, Plain(vectors)),)
    catalogue = Catalogue(columns)
    return Collection("invented", version, "f" * 64, catalogue, index, none, pictures)


def table(rows=ROWS):
    """Invented columns: 100 places in Europe, of two images each; hostile names among them."""
    kinds = np.random.default_rng(7).integers(0, len(LABELS), rows)
    places = np.arange(rows) // 2
    lon, lat = np.random.default_rng(3).uniform([-9, 36], [30, 60], (rows, 2))[places].T
    boxes = [shapely.box(x, y, x + 0.02, y + 0.015) for x, y in zip(lon, lat, strict=True)]
    bounds = np.array([box.bounds for box in boxes], np.float32).tolist()
    start = datetime.datetime(2017, 6, 1, 10, tzinfo=datetime.UTC)
    labels = [
        sorted({LABELS[kind], LABELS[(kind + row) % len(LABELS)]}) for row, kind in enumerate(kinds)
    ]
    labels[5] = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>']
    return pa.table(
        {
            "id": [f"patch-{row}" if row != 6 else "<b>patch&6</b>" for row in range(rows)],
            "uuid": [f"00000000-0000-5000-8000-{row:012d}" for row in range(rows)],
            "labels": labels,
            "split": [("train", "validation", "test")[row % 3] for row in range(rows)],
            "sensor": ["rgb"] * rows,
            "collection": ["invented"] * rows,
            "datetime": [start + datetime.timedelta(days=row) for row in range(rows)],
            "place": [f"place-{place}" for place in places],
            "source_uri": [f"invented/{row}.png" for row in range(rows)],
            "geometry": [shapely.to_wkb(box) for box in boxes],
            "bbox": [dict(zip(EDGES, edges, strict=True)) for edges in bounds],
        }
    )


def main():
    from rejepa_jax.serve.app import create_app
    from rejepa_jax.serve.running import run
    from rejepa_jax.serve.settings import Settings

    parser = argparse.ArgumentParser()
    known = {"port": 8123, "token": "", "host": "127.0.0.1", "drain_timeout": 20.0}
    for name, value in known.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    settings = Settings(**vars(parser.parse_args()))
    run(create_app(FakeSearcher(), settings), settings)


if __name__ == "__main__":
    main()
