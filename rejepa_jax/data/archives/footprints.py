"""Footprints anywhere on Earth: in two parts across the antimeridian, none around a pole.

They are WKB polygons, or multipolygons, in OGC:CRS84 with longitudes from -180 to 180 degrees, as
GeoParquet and GeoJSON (RFC 7946, section 3.1.9) have them.
"""

import itertools
import struct

import numpy as np
import rasterio.warp
from jaxtyping import Float
from rasterio._err import CPLE_BaseError  # pyrefly: ignore[missing-import]
from rasterio.errors import CRSError

Ring = Float[np.ndarray, "_ 2"]  # longitude, latitude; the first point again at the end


def footprint(crs: str, transform: tuple[float, ...], height: int, width: int) -> bytes:
    """Gives the ground of a grid; empty where it is unknown, or holds a pole.

    Around a pole no polygon in degrees says what is inside: CRS and transform have to do.
    """
    ring = _corners(crs, transform, height, width)
    if not len(ring):
        return b""
    if abs(ring[-2, 0] - ring[0, 0]) > 180:  # longitudes that do not come back to where they began
        return b""
    west = ring[:, 0].min()
    ring = ring - [360 * np.floor((west + 180) / 360), 0]
    parts = [_cut(ring, -1), _cut(ring, 1) - [360, 0]]
    written = [_write(part) for part in parts if len(part)]
    if len(written) == 1:
        return written[0]
    return struct.pack("<BII", 1, 6, len(written)) + b"".join(written)


def centre(footprint: bytes) -> tuple[float, float]:
    """Gives longitude (-180 to below 180) and latitude of the middle of a footprint's bounds."""
    points = np.concatenate(rings(footprint))
    longitudes = points[:, 0]
    if np.ptp(longitudes) > 180:  # two parts, one on each side of the antimeridian
        longitudes = longitudes % 360
    latitudes = points[:, 1]
    longitude = (longitudes.min() + longitudes.max()) / 2
    return wrap(float(longitude)), float(latitudes.min() + latitudes.max()) / 2


def wrap(longitude: float) -> float:
    """Brings a longitude to -180 to below 180."""
    return (longitude + 180) % 360 - 180


def rings(footprint: bytes) -> list[Ring]:
    """Reads the outer ring of each part of a little-endian WKB polygon or multipolygon."""
    kind, count = struct.unpack_from("<II", footprint, 1)
    place, found = (9, []) if kind == 6 else (0, [])
    for _ in range(count if kind == 6 else 1):
        (points,) = struct.unpack_from("<I", footprint, place + 9)
        ring = np.frombuffer(footprint, "<f8", 2 * points, place + 13).reshape(-1, 2)
        found.append(ring)
        place += 13 + ring.nbytes
    return found


def _corners(crs: str, transform: tuple[float, ...], height: int, width: int) -> Ring:
    """Gives the four corners of a grid, counter-clockwise; none where the place is unknown.

    Across the antimeridian longitudes go on beyond 180 degrees, so that the ring stays small.
    """
    nowhere = np.zeros((0, 2))
    if not crs or not transform:
        return nowhere
    a, b, c, d, e, f = transform
    columns, rows = np.array([0, 0, width, width]), np.array([0, height, height, 0])
    try:
        longitudes, latitudes = rasterio.warp.transform(
            crs, "OGC:CRS84", a * columns + b * rows + c, d * columns + e * rows + f
        )
    except (CRSError, CPLE_BaseError):  # the second is raised, but not exported
        return nowhere
    points = np.stack([np.unwrap(longitudes, period=360), latitudes], axis=-1)
    if not np.isfinite(points).all():
        return nowhere
    x, y = (points - points[0]).T
    if np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) < 0:  # twice the signed area
        points = points[::-1]
    return np.concatenate([points, points[:1]])


def _write(ring: Ring) -> bytes:
    return struct.pack("<BIII", 1, 3, 1, len(ring)) + ring.astype("<f8").tobytes()


def _cut(ring: Ring, side: int) -> Ring:
    """Keeps the part of a convex ring west (side = -1) or east (1) of 180 degrees."""
    points = []
    for start, end in itertools.pairwise(ring):
        inside, leaves = side * (start[0] - 180), side * (end[0] - 180)
        if inside >= 0:
            points.append(start)
        if inside * leaves < 0:  # the edge crosses: where it does, between the two
            share = inside / (inside - leaves)
            points.append(np.array([180.0, start[1] + share * (end[1] - start[1])]))
    on_the_line = all(point[0] == 180 for point in points)
    return np.zeros((0, 2)) if on_the_line else np.array([*points, points[0]])
