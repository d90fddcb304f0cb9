"""The pixels of a BigEarthNet patch, 1.2 km of ground, in one file a band: both versions' way."""

import os
import pathlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Shaped

from rejepa_jax.data.archives import footprints, rasters
from rejepa_jax.data.archives.bigearthnet.labels import CLASSES
from rejepa_jax.data.archives.bigearthnet.names import acquired
from rejepa_jax.data.archives.files import ArchiveFiles, Item
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.sensors import SENSORS
from rejepa_jax.types import DataError

SIZE = 120  # pixels a side on the grid of the records, 10 m
_PIXELS = {  # by sampling distance
    band.name: round(SIZE * 10 / band.gsd_m)
    for key in ("s1", "s2")
    for band in SENSORS[key].bands
    if band.gsd_m
}
_GRIDS = {"s2": "B02", "s1": "VV"}  # whose grid is that of the record: the first that is known


def schema(sensors: Iterable[str]) -> Schema:
    """Describes the records of patches with all bands of some of the sensors s1 and s2."""
    specs = {key: SENSORS[key] for key in sorted(sensors)}
    sizes = {key: Sensor(s.band_names, s.dtype, SIZE, SIZE) for key, s in specs.items()}
    return Schema("bigearthnet", sizes, CLASSES)


def read_example(files: ArchiveFiles, item: Item, schema: Schema) -> Example:
    """Reads every sensor of a patch on the 10 m grid; raises a DataError naming the bad file.

    `item.files` has how the names of the band files begin, by sensor.
    """
    bands = {
        key: _read_bands(files, key, {b: f"{item.files[key]}_{b}.tif" for b in sensor.bands})
        for key, sensor in schema.sensors.items()
    }
    grids = [bands[key][band] for key, band in _GRIDS.items() if key in bands]
    grid = next((grid for grid in grids if grid.transform), grids[0])
    stem = item.files.get("s2") or item.files["s1"]
    return Example(
        id=item.id,
        images={key: _stack(key, each) for key, each in bands.items()},
        labels=item.labels,
        source=stem.rsplit("/", 1)[0],
        crs=grid.crs,
        transform=grid.transform,
        geometry=footprints.footprint(grid.crs, grid.transform, SIZE, SIZE),
        datetime=acquired(stem),
        place=item.place,
    )


def read_patch(path: str | os.PathLike[str]) -> dict[str, Shaped[np.ndarray, "h w c"]]:
    """Reads the patch in a folder of files `..._<band>.tif`: one sensor or both, with all bands.

    Raises a DataError if a band is missing, there twice or damaged.
    """
    sensor_of = {band: key for key in _GRIDS for band in SENSORS[key].band_names}
    names = sorted(file.name for file in pathlib.Path(path).glob("*_*.tif"))
    found = [(b, name) for name in names if (b := name[:-4].rsplit("_", 1)[1]) in sensor_of]
    keys = sorted({sensor_of[band] for band, _ in found})
    expected = [band for band, key in sensor_of.items() if key in keys]
    if not found or sorted(band for band, _ in found) != sorted(expected):
        raise DataError(
            f"patch {path}: got files for {[band for band, _ in found]}, expected one for each of "
            f"{expected or list(sensor_of)}, as ..._B02.tif; give the folder of one whole patch"
        )
    files, name_of = ArchiveFiles(path), dict(found)
    chosen = {key: {b: name_of[b] for b in SENSORS[key].band_names} for key in keys}
    return {key: _stack(key, _read_bands(files, key, chosen[key])) for key in keys}


def _read_bands(files: ArchiveFiles, key: str, names: dict[str, str]) -> dict[str, rasters.Raster]:
    """Reads one file a band; each has to be as published, of the same ground and without NaN."""
    bands, grounds, dtype = {}, {}, SENSORS[key].dtype
    for band, name in names.items():
        raster = bands[band] = rasters.read_raster(files.read(name), name)
        got, size = raster.array, _PIXELS[band]
        bad = got.size - np.isfinite(got).sum() if got.dtype.kind == "f" else 0
        if got.dtype != dtype or got.shape != (size, size, 1) or bad:
            raise DataError(
                f"image {name}: got {got.dtype} {got.shape}, {bad} values not finite, expected "
                f"{dtype} {(size, size, 1)}, none; download the patch again"
            )
        if raster.transform:
            grounds.setdefault(_ground(raster), name)
    if len(grounds) > 1:
        (one, first), (other, name), *_ = grounds.items()
        raise DataError(
            f"image {name}: got the ground {other}, expected {one}, that of {first}; download the "
            "patch again"
        )
    return bands


def _ground(raster: rasters.Raster) -> tuple[str | float, ...]:
    """Gives the coordinate system and two opposite corners in it."""
    (a, b, c, d, e, f), (height, width, _) = raster.transform, raster.array.shape
    return raster.crs, c, f, c + a * width + b * height, f + d * width + e * height


def _stack(key: str, bands: dict[str, rasters.Raster]) -> Shaped[np.ndarray, "h w c"]:
    nodata = SENSORS[key].nodata
    grids = [rasters.to_grid(raster.array[..., 0], SIZE, nodata) for raster in bands.values()]
    return np.stack(grids, axis=-1)
