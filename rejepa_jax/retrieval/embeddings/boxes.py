"""Footprints: the covering column of boxes and the `geo` footer, as GeoParquet 1.1 has them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from jaxtyping import Float, Float32

from rejepa_jax.types import DataError

EDGES = ("xmin", "ymin", "xmax", "ymax")
KINDS = {3: "Polygon", 6: "MultiPolygon"}  # by shapely's numbers
LARGEST = np.array([180, 90, 180, 90], float)  # degrees


def boxes(ids: Sequence[str], geometry: Sequence[bytes]) -> tuple[pa.Array, dict[str, Any]]:
    """Computes the covering column and the `geo` footer; one footprint at least is known.

    Raises:
      DataError: a footprint is no WKB (multi)polygon, or not in degrees.
    """
    known = np.array([bool(wkb) for wkb in geometry])
    shapes = shapely.from_wkb([wkb or None for wkb in geometry], on_invalid="ignore")
    kinds, bounds = shapely.get_type_id(shapes), shapely.bounds(shapes)
    bad = ~np.isin(kinds, list(KINDS)) | shapely.is_empty(shapes)
    for i in np.flatnonzero(known & bad).tolist():
        raise DataError(
            f"{ids[i]}: got a geometry that is no WKB (multi)polygon, expected one in degrees lon "
            "lat; mend the footprint or leave it out"
        )
    for i in np.flatnonzero(known & ~(np.abs(bounds) <= LARGEST[None]).all(axis=1)).tolist():
        raise DataError(
            f"{ids[i]}: got a footprint over {bounds[i]}, expected degrees lon lat; bring it to "
            "OGC:CRS84"
        )
    found = np.asarray(kinds)[known].tolist()
    column = {
        "encoding": "WKB",
        "geometry_types": sorted({KINDS[kind] for kind in found}),
        "bbox": [*bounds[known, :2].min(axis=0).tolist(), *bounds[known, 2:].max(axis=0).tolist()],
        "covering": {"bbox": {edge: ["bbox", edge] for edge in EDGES}},
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    edges = [pa.array(edge) for edge in outward(bounds).T]
    return pa.StructArray.from_arrays(edges, EDGES, mask=pa.array(~known)), geo


def outward(bounds: Float[np.ndarray, "r 4"]) -> Float32[np.ndarray, "r 4"]:
    """Rounds boxes so that none loses ground."""
    directions = np.array([[-np.inf, -np.inf, np.inf, np.inf]], np.float32)
    nearest = bounds.astype(np.float32)
    inside = (bounds - nearest) * np.sign(directions) > 0
    return np.where(inside, np.nextafter(nearest, directions), nearest)
