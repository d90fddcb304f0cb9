"""Where images lie: their bounds, the middle of these, and which is nearest to a point."""

from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from jaxtyping import Bool, Float

from rejepa_jax.types import ConfigError

EDGES = ("xmin", "ymin", "xmax", "ymax")
MULTIPOLYGON = 6  # shapely's number
EARTH_KM = 6371.0088  # mean radius


def bounds(boxes: pa.ChunkedArray, geometry: pa.ChunkedArray) -> Float[np.ndarray, "r 4"]:
    """Returns boxes in degrees: xmin > xmax across the antimeridian, NaN where unknown.

    A footprint in two parts, one on each side of the antimeridian, has a box all around the Earth
    in the file; here it has the one that goes from its western part east.
    """
    edges = [edge.to_numpy().astype(np.float64) for edge in boxes.flatten()]
    found = np.stack(edges, axis=1)
    for row in np.flatnonzero(found[:, 2] - found[:, 0] > 180):
        shape = shapely.from_wkb(geometry[row].as_py(), on_invalid="ignore")
        longitudes = shapely.get_coordinates(shape)[:, 0] % 360
        is_split = shapely.get_type_id(shape) == MULTIPOLYGON
        if is_split and np.ptp(longitudes) <= 180:
            found[row, [0, 2]] = wrap(longitudes.min()), wrap(longitudes.max())
    return found


def middle(boxes: Float[np.ndarray, "r 4"]) -> Float[np.ndarray, "r 2"]:
    """Returns longitude and latitude of the middle of boxes."""
    west, south, east, north = boxes.T
    east = np.where(west > east, east + 360, east)
    return np.stack([wrap((west + east) / 2), (south + north) / 2], axis=1)


def nearest(
    points: Float[np.ndarray, "r 2"], allowed: Bool[np.ndarray, " r"], lon: float, lat: float
) -> tuple[int, float]:
    """Returns the allowed row nearest to a longitude and latitude, and how far it is in km.

    Raises:
      ConfigError: they are not in degrees, or it is known of no image where it lies.
    """
    if not (abs(lon) <= 180 and abs(lat) <= 90):
        raise ConfigError(
            f"got the point {lon},{lat}, expected longitude,latitude in degrees, -180 to 180 and "
            "-90 to 90; correct it"
        )
    known = allowed & np.isfinite(points).all(axis=1)
    if not known.any():
        raise ConfigError(
            "got a point, but of no image it is known where it lies; give an image or an id"
        )
    here, there = np.radians([lon, lat]), np.radians(points)
    half = np.sin((there - here[None]) / 2) ** 2
    squared = half[:, 1] + np.cos(here[1]) * np.cos(there[:, 1]) * half[:, 0]  # haversine
    row = int(np.argmin(np.where(known, squared, np.inf)))
    return row, float(2 * EARTH_KM * np.arcsin(np.sqrt(min(squared[row], 1.0))))


def wrap(longitude: Any) -> Any:
    """Brings longitudes to -180 up to below 180."""
    return (longitude + 180) % 360 - 180
