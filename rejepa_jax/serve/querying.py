"""From a request to what the searcher is asked."""

import copy

import numpy as np
from jaxtyping import Float
from starlette.exceptions import HTTPException

from rejepa_jax.data.examples import Sensor
from rejepa_jax.retrieval.collection.collection import Collection
from rejepa_jax.retrieval.collection.filters import Filter
from rejepa_jax.retrieval.queries import Query
from rejepa_jax.retrieval.search import Searcher
from rejepa_jax.serve import models
from rejepa_jax.types import DataError


def pinned(searcher: Searcher) -> Searcher:
    """Returns a searcher that stays at the version it has now, whatever is published meanwhile."""
    return copy.copy(searcher)


def find(collection: Collection, ids: list[str]) -> np.ndarray:
    """Returns the rows of some ids; the one that is not there is a 404."""
    try:
        return collection.catalogue.find(ids)
    except DataError as error:
        raise HTTPException(404, str(error)) from error


def query_of(body: models.SearchRequest, images: tuple[np.ndarray, ...], mode: str) -> Query:
    """Makes the searcher's query of the request's."""
    positive, box = body.positive, None
    if body.crop is not None:
        x0, y0, x1, y1 = body.crop.box
        positive, box = [body.crop.id], (x0, y0, x1, y1)
        if images:
            raise HTTPException(
                422, "got a crop and a file, expected one of them; send two queries"
            )
    return Query(
        positive=tuple(positive),
        negative=tuple(body.negative),
        images=images,
        vectors=() if body.vector is None else (unit(body.vector),),
        crop=box,
        point=(body.point[0], body.point[1]) if body.point else None,
        mode=mode,
    )


def unit(numbers: list[float]) -> Float[np.ndarray, " d"]:
    """Brings a vector to length 1."""
    vector = np.array(numbers, np.float64)
    largest = np.abs(vector).max()
    if largest == 0:
        raise HTTPException(422, "got a vector of length 0, expected a descriptor; embed an image")
    vector /= largest  # so that no square is too large for a float
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def filter_of(given: models.Filters) -> Filter:
    """Makes the searcher's filter of the request's."""
    box = given.bbox
    return Filter(
        bbox=(box[0], box[1], box[2], box[3]) if box else None,
        start=given.start or "",
        end=given.end or "",
        sensors=tuple(given.sensors),
        labels=tuple(given.labels),
        collections=tuple(given.collections),
        splits=tuple(given.splits),
    )


def check_grid(shape: tuple[int, ...], record: Sensor, most: int) -> None:
    """Refuses an image of more patches than one request may have embedded."""
    count = -(-shape[0] // record.height) * -(-shape[1] // record.width)
    if count > most:
        raise HTTPException(
            413,
            f"got an image of {count} patches of {record.height} x {record.width}, expected at "
            f"most {most}; send a part of it, or use the mode resize",
        )
