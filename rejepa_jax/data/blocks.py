"""Blocks of ground, by longitude and latitude.

They are cells of rows between parallels, each row cut into so many that they are about as wide in
its middle as they are high: nearly equal areas from pole to pole, and no seam, neither between UTM
zones nor at the antimeridian. The Earth is a sphere of 6,371 km here.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

from rejepa_jax.data.archives import footprints

HALF_CIRCLE_KM = 20015.1  # from pole to pole
Centre = Sequence[float]  # longitude, latitude; empty = unknown


def find_block(centre: Centre | None, block_km: float) -> str | None:
    """Names the block that a longitude and latitude lie in; "" or None where they are unknown."""
    if not centre:
        return None if centre is None else ""
    longitude, latitude = centre
    rows = max(1, round(HALF_CIRCLE_KM / block_km))
    row = min(int((latitude + 90) / 180 * rows), rows - 1)
    middle = math.radians((row + 0.5) * 180 / rows - 90)
    columns = max(1, round(2 * HALF_CIRCLE_KM * math.cos(middle) / block_km))
    column = int((longitude + 180) % 360 / 360 * columns) % columns
    return f"{row}_{column}"


def around(centre: Centre, km: float) -> Iterator[Centre]:
    """Yields the corners and the middles of the sides of a square around a place, `km` away.

    No block as wide as that can reach into the square and hold none of them.
    """
    longitude, latitude = centre
    step = 180 * km / HALF_CIRCLE_KM
    for north, east in itertools.product((-1, 0, 1), repeat=2):
        there = min(max(latitude + north * step, -90.0), 90.0)
        across = step / max(math.cos(math.radians(there)), 1e-6)
        yield footprints.wrap(longitude + east * min(across, 180.0)), there
