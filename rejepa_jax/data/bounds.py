"""Boxes in longitude and latitude around many footprints, also across the antimeridian."""

import functools

import numpy as np
from jaxtyping import Float

from rejepa_jax.data.archives.footprints import rings

# Least and greatest longitude counted from -180 on, the same counted from 0 on, and of latitude:
# around the antimeridian the second pair is the narrow one. Boxes can be joined in any order.
Box = tuple[float, ...]
NOWHERE: Box = (float("inf"), float("-inf")) * 3


def box(footprint: bytes) -> Box:
    """Returns the box around a footprint; of an empty one, nowhere."""
    parts = rings(footprint) if footprint else []
    return functools.reduce(joined, map(_box, parts), NOWHERE)


def joined(one: Box, other: Box) -> Box:
    """Returns the box around both."""
    pairs = zip(one, other, strict=True)
    return tuple(max(pair) if place % 2 else min(pair) for place, pair in enumerate(pairs))


def bounding_box(box: Box) -> list[float] | None:
    """Returns west, south, east, north as GeoJSON has it: east < west across the antimeridian."""
    *longitudes, south, north = box
    if south > north:
        return None
    west, east = min((longitudes[:2], longitudes[2:]), key=lambda pair: pair[1] - pair[0])
    west, east = (x if abs(x) <= 180 else (x + 180) % 360 - 180 for x in (west, east))
    return [west, south, east, north]


def _box(ring: Float[np.ndarray, "p 2"]) -> Box:
    longitude, latitude = ring.T
    middle = (longitude.min() + longitude.max()) / 2
    turned = [longitude - 360 * np.floor((middle - start) / 360) for start in (-180, 0)]
    return tuple(float(limit(v)) for v in (*turned, latitude) for limit in (np.min, np.max))
