"""Queries with what the encoder found for them: right and wrong, as thumbnails in the page."""

import base64
import dataclasses
import io
import pathlib

import numpy as np
from jaxtyping import Float, Int, Shaped
from PIL import Image

from rejepa_jax.data import sensors
from rejepa_jax.data.examples import Example
from rejepa_jax.data.pipeline import RecordSet

THUMBNAIL = 120  # pixels, the longer side
QUALITY = 80  # of the JPEG


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Which rows of the records answer which, best first."""

    queries: Int[np.ndarray, " q"]
    hits: Int[np.ndarray, "q k"]  # -1 after the last
    scores: Float[np.ndarray, "q k"]  # cosine


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image of the records to look at."""

    id: str
    labels: tuple[str, ...]
    uri: str  # data: URI of a JPEG


@dataclasses.dataclass(frozen=True)
class Hit:
    """One answer to a query."""

    rank: int  # from 1
    score: float
    shared: tuple[str, ...]  # the labels it has in common with the query
    picture: Picture

    @property
    def is_relevant(self) -> bool:
        """Whether it counts as right: it shares a label with the query."""
        return bool(self.shared)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A query and its hits."""

    query: Picture
    hits: tuple[Hit, ...]


def read_ranking(path: pathlib.Path) -> Ranking:
    """Reads what the evaluation wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Ranking(file["queries"], file["hits"], file["scores"])


def spread(count: int, wanted: int) -> Int[np.ndarray, " n"]:
    """Returns up to `wanted` places, the middles of equal parts of `count`: chosen by no result."""
    wanted = min(count, wanted)
    return (2 * np.arange(wanted) + 1) * count // (2 * max(wanted, 1))


def show_answers(ranking: Ranking, records: RecordSet, sensor: str, wanted: int) -> list[Answer]:
    """Returns `wanted` of the queries, evenly spread over their list, with all their hits."""
    answers = []
    for place in spread(len(ranking.queries), wanted):
        there = ranking.hits[place][ranking.hits[place] >= 0]
        rows = np.append(ranking.queries[place], there)
        query, *found = records.read_examples(rows)
        pictures = [_picture(example, records, sensor) for example in (query, *found)]
        hits = tuple(
            Hit(rank, float(score), _shared(query, example, records), picture)
            for rank, (score, example, picture) in enumerate(
                zip(ranking.scores[place], found, pictures[1:], strict=False), 1
            )
        )
        answers.append(Answer(pictures[0], hits))
    return answers


def _shared(query: Example, other: Example, records: RecordSet) -> tuple[str, ...]:
    common = sorted(set(query.labels) & set(other.labels))
    return tuple(records.schema.classes[label] for label in common)


def _picture(example: Example, records: RecordSet, sensor: str) -> Picture:
    bands = records.schema.sensors[sensor].bands
    return labelled(example, records, thumbnail(example.images[sensor], bands))


def labelled(example: Example, records: RecordSet, uri: str) -> Picture:
    """Returns a picture with what is known of its place."""
    return Picture(example.id, tuple(records.schema.classes[i] for i in example.labels), uri)


def thumbnail(image: Shaped[np.ndarray, "h w c"], bands: tuple[str, ...]) -> str:
    """Returns an image as a small JPEG in a data: URI; few pixels stay sharp squares."""
    picture = Image.fromarray(sensors.picture(image, bands))
    scale = THUMBNAIL / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    picture = picture.resize(
        size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
    )
    return data_uri(picture)


def data_uri(picture: Image.Image) -> str:
    """Returns a picture as a JPEG that stands in the page itself."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
