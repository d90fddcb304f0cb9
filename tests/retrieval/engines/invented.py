"""An export of invented images, some with names that no engine may take for a command."""

import datetime
import shutil

import numpy as np
import shapely

from rejepa_jax.retrieval.collection.catalogue import Catalogue
from rejepa_jax.retrieval.collection.filters import Filter
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.embeddings.schema import EmbeddingPart, part_name
from rejepa_jax.retrieval.embeddings.writing import write_part
from rejepa_jax.retrieval.exact import top_k

ROWS, DIM, K = 300, 24, 10
HOSTILE = [
    "it's.tif",
    'say "cheese".tif',
    "'; DROP TABLE rejepa; --",
    "x') OR 1=1 --",
    "back\\slash\\n.tif",
    "line\nbreak.tif",
    "Überflug 雪 🛰.tif",
    '{"$ne": null}',
    "%s %(name)s {0} ${x}",
    " spaces ",
]
LABELS = ["forest", 'it\'s "wet"; DROP TABLE rejepa;--', "雪"]
BOX = (170.0, -30.0, -160.0, 40.0)  # across the antimeridian
DATES = ("2018-03-01", "2019-09-30")
FILTERS = {
    "all": Filter(),
    "label": Filter(labels=(LABELS[1],)),
    "dates": Filter(start=DATES[0], end=DATES[1]),
    "box": Filter(bbox=BOX),
    "names": Filter(splits=("val",), sensors=("s2",)),
}


def unit(count, seed):
    """Vectors of length 1."""
    drawn = np.random.default_rng(seed).normal(size=(count, DIM))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


QUERIES = unit(20, 1)


def write(directory, rows=ROWS, fingerprint="a" * 64, seed=0):
    """Writes two parts; a third of the images lies about the antimeridian, some nowhere."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    rng, vectors = np.random.default_rng(seed), unit(rows, seed)
    first = datetime.datetime(2017, 1, 1, 10, 30, tzinfo=datetime.UTC)
    ids = [*HOSTILE, *(f"folder {i % 7}/image {i}.tif" for i in range(rows))][:rows]
    for number, span in enumerate((range(rows // 3), range(rows // 3, rows))):
        part = EmbeddingPart(
            first_row=span.start,
            ids=[ids[i] for i in span],
            vectors=vectors[span.start : span.stop],
            sensor=[("s1", "s2")[i % 2] for i in span],
            labels=[[name for j, name in enumerate(LABELS) if (i >> j) & 1] for i in span],
            split=[("train", "val", "test")[i % 3] for i in span],
            collection=["invented"] * len(span),
            place=["" if i % 5 == 0 else f"place {i // 4}" for i in span],
            geometry=[b"" if i % 11 == 0 else footprint(rng, i % 3 == 0) for i in span],
            datetime=[
                "" if i % 13 == 0 else (first + datetime.timedelta(days=4 * i)).isoformat()
                for i in span
            ],
            source_uri=[f"file:///{i}.tif" for i in span],
        )
        write_part(directory / part_name(number, 2), part, {"fingerprint": fingerprint})
    return directory


def footprint(rng, is_far_east):
    """A square of 4 degrees, in two parts where it crosses the antimeridian."""
    lon = rng.uniform(165, 195) if is_far_east else rng.uniform(-150, 150)
    lat = rng.uniform(-60, 60)
    square = shapely.box(lon - 2, lat - 2, lon + 2, lat + 2)
    if lon + 2 > 180:
        world = shapely.box(-180, -90, 180, 90)
        parts = [square & world, shapely.transform(square, lambda p: p - [[360, 0]]) & world]
        parts = [part for part in parts if part.area]
        square = shapely.MultiPolygon(parts) if len(parts) > 1 else parts[0]
    return shapely.to_wkb(square)


def is_in_box(directory):
    """Whether the middle of each footprint lies in BOX, worked out from the footprints alone."""
    table, _ = reading.read_columns(directory)
    inside = []
    for wkb in table["geometry"].to_pylist():
        points = shapely.get_coordinates(shapely.from_wkb(wkb)) if wkb else np.full((1, 2), np.nan)
        lon, lat = points.T
        lon = np.where(lon < 0, lon + 360, lon) if np.ptp(lon) > 180 else lon
        middle, height = (lon.min() + lon.max()) / 2 % 360, (lat.min() + lat.max()) / 2
        inside.append(170 <= middle <= 200 and -30 <= height <= 40)
    return np.array(inside)


def expected(directory, name, box_by_middle=False):
    """Our own exact answers under a filter: (ids, scores), each [q k]."""
    export = reading.read(directory)
    mask = FILTERS[name].mask(Catalogue(export.table))
    if name == "box" and box_by_middle:
        mask = is_in_box(directory)
    rows = np.arange(len(export.ids)) if mask is None else np.flatnonzero(mask)
    assert len(rows) > K
    assert mask is None or not mask.all()
    scores, found = top_k(QUERIES, export.vectors[rows], K)
    ids = np.array(export.ids, object)[rows]
    return [list(ids[row]) for row in found], scores
