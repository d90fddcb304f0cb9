"""A query to one vector, over what is searched: its images embedded, its ids looked up."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from rejepa_jax.retrieval import query_images
from rejepa_jax.retrieval.collection import places
from rejepa_jax.retrieval.collection.collection import Collection
from rejepa_jax.retrieval.collection.filters import Filter
from rejepa_jax.retrieval.collection.opening import check_fingerprint
from rejepa_jax.retrieval.collection.pixels import Pixels
from rejepa_jax.retrieval.encoder import Bundle, Embedder
from rejepa_jax.retrieval.exact import check_vectors
from rejepa_jax.retrieval.queries import Image, Query, combine
from rejepa_jax.types import ConfigError


class Asked(NamedTuple):
    """A query as one vector; `rows` are those of the images that it names."""

    vector: Float[np.ndarray, " d"]
    rows: list[int]
    notes: tuple[str, ...]  # what was done, for people


def ask(query: Query, collection: Collection, embedder: Embedder, pixels: Pixels) -> Asked:
    """Turns a query into a vector of length 1.

    Raises:
      ConfigError: it asks for nothing, or for what cannot be had.
      DataError: an id is not there, an image or a vector cannot be used.
    """
    catalogue, notes = collection.catalogue, []
    named = catalogue.find([*query.positive, *query.negative]).tolist()
    positive, negative = named[: len(query.positive)], named[len(query.positive) :]
    if query.crop is not None and not query.images:
        positive = []  # its part is embedded instead of the whole
    if query.point is not None:
        row, distance = places.nearest(catalogue.points, catalogue.live, *query.point)
        positive.append(row)
        notes.append(f"{catalogue.id(row)} is nearest to the point, {distance:.1f} km away")
    vectors = [collection.vectors(positive), given_vectors(query, collection)]
    for image, name in _images(query, collection, embedder.bundle, pixels):
        cut, note = query_images.patches(image, embedder.bundle, query.mode, name)
        vectors.append(query_images.embed(embedder, cut)[None])
        notes += [note] if note else []
    vector = combine(np.concatenate(vectors), collection.vectors(negative))
    return Asked(vector, sorted({*named, *positive}), tuple(notes))


def _images(
    query: Query, collection: Collection, bundle: Bundle, pixels: Pixels
) -> list[tuple[Image, str]]:
    """Returns the images asked for with their names, cropped if so asked."""
    found = [_read(image, f"image {n}", bundle) for n, image in enumerate(query.images, start=1)]
    if query.crop is None:
        return found
    if not found and len(query.positive) == 1:
        name = query.positive[0]
        found = [(pixels.read(name, collection, bundle), name)]
    if len(found) != 1:
        raise ConfigError(
            f"got a crop of {len(found) or len(query.positive)} images, expected one image or one "
            "id; give one, or no crop"
        )
    ((image, name),) = found
    x0, y0, x1, y1 = query.crop
    return [(query_images.crop(image, query.crop, name), f"{name}, {x0},{y0},{x1},{y1}")]


def _read(image: Path | Image, name: str, bundle: Bundle) -> tuple[Image, str]:
    if isinstance(image, Path):
        return query_images.read_image(image, bundle), str(image)
    query_images.check_image(image, bundle, name)
    return image, name


def given_vectors(query: Query, collection: Collection) -> Float[np.ndarray, "n d"]:
    """Returns the vectors of a query that has some, after a look at them.

    Raises:
      ConfigError: they have another width.
      DataError: they are of another encoder, not finite or not of length 1.
    """
    width = collection.index.dim
    if query.fingerprint:
        check_fingerprint("the query", query.fingerprint, collection.fingerprint)
    for vector in query.vectors:
        if vector.shape != (width,):
            raise ConfigError(
                f"got a query vector of shape {vector.shape}, expected ({width},): it comes from "
                "another encoder; embed the image with this run's"
            )
    vectors = np.array(query.vectors, np.float32).reshape(-1, width)
    check_vectors(vectors, "query vectors")
    return vectors


def elsewhere(where: Filter, queried: Sequence[dict[str, Any]]) -> Filter:
    """Returns a filter that leaves the places of some images out as well."""
    found = {fact["place"] for fact in queried if fact["place"]}
    return dataclasses.replace(where, not_places=(*where.not_places, *sorted(found)))
