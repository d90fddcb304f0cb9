"""Images that were found, and what is known of them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rejepa_jax.retrieval.collection.collection import Collection

NOT_JSON = ("geometry",)


@dataclasses.dataclass(frozen=True)
class Hit:
    """One image that was found; `""`, `()`, `b""` and None mean unknown."""

    rank: int  # from 1
    score: float  # cosine
    row: int
    id: str
    uuid: str
    labels: list[str]
    split: str
    sensor: str
    collection: str
    datetime: str  # of acquisition, ISO 8601
    place: str
    lon: float | None  # middle of the footprint, degrees
    lat: float | None
    geometry: bytes  # WKB in degrees
    source_uri: str
    bbox: tuple[float, float, float, float] | None = None  # xmin > xmax over the antimeridian


@dataclasses.dataclass(frozen=True)
class Answer:
    """The hits of one query and where they come from."""

    hits: list[Hit]
    version: str  # of what was searched
    searched: int  # images
    allowed: int  # of them, by the filters
    notes: tuple[str, ...] = ()  # what was done with the query, or why there are few hits


def hits_of(
    collection: Collection, rows: np.ndarray | Sequence[int], scores: np.ndarray | Sequence[float]
) -> list[Hit]:
    """Returns rows of a collection with their scores as hits, in this order."""
    return [
        Hit(rank, float(score), **{name: fact[name] for name in FOUND})
        for rank, (fact, score) in enumerate(
            zip(collection.catalogue.describe(rows), scores, strict=False), start=1
        )
    ]


FOUND = [field.name for field in dataclasses.fields(Hit)][2:]  # all but rank and score


def facts(hit: Hit) -> dict[str, Any]:
    """Returns a hit as JSON has it, without its footprint."""
    found = dataclasses.asdict(hit)
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in found.items()
        if name not in NOT_JSON
    }
