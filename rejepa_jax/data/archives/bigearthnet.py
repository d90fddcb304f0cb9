"""Layout: BigEarthNet v2 (reBEN), pairs of Sentinel-1 and Sentinel-2 patches of 1.2 km.

    metadata.parquet, metadata_for_patches_with_snow_cloud_or_shadow.parquet
    BigEarthNet-S2/<patch_id less its last 2 parts>/<patch_id>/<patch_id>_<band>.tif
    BigEarthNet-S1/<s1_name less its last 3 parts>/<s1_name>/<s1_name>_<VV|VH>.tif

Names of files are worked out from the metadata: a folder of eight million files is never listed.
"""

import io
import os
import pathlib
import re
from typing import Any

import numpy as np
import pyarrow.parquet
from jaxtyping import Shaped

from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.sensors import SENSORS, band_specs
from rejepa_jax.types import ConfigError, DataError

METADATA = "metadata.parquet"
FLAGGED = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
SELECTIONS = {"clean": (METADATA,), "all": (METADATA, FLAGGED), "ben14k": (METADATA,)}
SPLITS = ("train", "validation", "test")
SIZE = 120  # pixels a side on the grid of the records, 10 m
CLASSES = (
    "Agro-forestry areas",
    "Arable land",
    "Beaches, dunes, sands",
    "Broad-leaved forest",
    "Coastal wetlands",
    "Complex cultivation patterns",
    "Coniferous forest",
    "Industrial or commercial units",
    "Inland waters",
    "Inland wetlands",
    "Land principally occupied by agriculture, with significant areas of natural vegetation",
    "Marine waters",
    "Mixed forest",
    "Moors, heathland and sclerophyllous vegetation",
    "Natural grassland and sparsely vegetated areas",
    "Pastures",
    "Permanent crops",
    "Transitional woodland, shrub",
    "Urban fabric",
)
_FOLDERS = {"s1": "BigEarthNet-S1", "s2": "BigEarthNet-S2"}
SCHEMA = Schema(
    name="bigearthnet",
    sensors={k: Sensor(SENSORS[k].band_names, SENSORS[k].dtype, SIZE, SIZE) for k in _FOLDERS},
    classes=CLASSES,
)
_PIXELS: dict[float | None, int] = {10.0: SIZE, 20.0: 60, 60.0: 20}  # by sampling distance in m
_COLUMNS = ("patch_id", "labels", "split", "country", "s1_name")
_PATCH_ID = re.compile(r"S2[A-Z]_MSIL2A_(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)_\w+", re.ASCII)
_S1_NAME = re.compile(r"S1[A-Z]_\w+", re.ASCII)


def open_archive(path: str | os.PathLike[str], selection: str = "clean") -> Archive:
    """Lists the patches of a folder, a .tar or a .zip, in which the root may lie at any depth.

    Args:
        path: The archive.
        selection: `clean`: the patches of metadata.parquet. `all`: those with seasonal snow, cloud
            or shadow too. `ben14k`: the clean ones from Serbia taken in June, July or August, which
            is the rule of CSMAE's BEN-14K; its published list is of v1, whose splits are others.

    Raises:
        DataError: If the metadata are missing or damaged, or nothing is selected.
    """
    if selection not in SELECTIONS:
        expected = ", ".join(SELECTIONS)
        raise ConfigError(f"data.selection: got {selection!r}, expected {expected}; choose one")
    files = ArchiveFiles(path)
    root = _find_root(files)
    rows = [row for table in SELECTIONS[selection] for row in _read_table(files, root / table)]
    items = [_to_item(root, row) for row in rows]
    if selection == "ben14k":
        items = [item for item, row in zip(items, rows, strict=True) if _is_ben14k(row)]
    if not items or len({item.id for item in items}) < len(items):
        raise DataError(
            f"archive {files.path}: got {len(items)} of {len(rows)} patches with the selection "
            f"{selection!r}, expected at least one and each once; the selections are "
            f"{', '.join(SELECTIONS)}: set --config.data.selection"
        )
    items.sort(key=lambda item: (item.split, item.id))
    return Archive(SCHEMA, tuple(items), files, read_example)


def read_example(files: ArchiveFiles, item: Item, schema: Schema) -> Example:
    """Reads both sensors of a patch on the 10 m grid; raises a DataError naming the bad file."""
    bands = {
        key: _read_bands(files, key, {b: f"{item.files[key]}_{b}.tif" for b in sensor.bands})
        for key, sensor in schema.sensors.items()
    }
    grid = bands["s2"]["B02"]
    return Example(
        id=item.id,
        images={key: _stack(each) for key, each in bands.items()},
        labels=item.labels,
        source=item.files["s2"].rsplit("/", 1)[0],
        crs=grid.crs,
        transform=grid.transform,
        geometry=rasters.footprint(grid.crs, grid.transform, SIZE, SIZE),
        datetime=_acquired(item.id),
    )


def read_patch(path: str | os.PathLike[str]) -> dict[str, Shaped[np.ndarray, "h w c"]]:
    """Reads the patch in a folder of files `..._<band>.tif`: one sensor or both, with all bands.

    Raises a DataError if a band is missing, there twice or damaged.
    """
    sensor_of = {band: key for key, sensor in SCHEMA.sensors.items() for band in sensor.bands}
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
    chosen = {key: {b: name_of[b] for b in SCHEMA.sensors[key].bands} for key in keys}
    return {key: _stack(_read_bands(files, key, chosen[key])) for key in keys}


def _is_ben14k(row: dict[str, Any]) -> bool:
    return row["country"] == "Serbia" and _acquired(row["patch_id"])[5:7] in ("06", "07", "08")


def _find_root(files: ArchiveFiles) -> pathlib.PurePosixPath:
    paths = map(pathlib.PurePosixPath, files.names(skip_folders=_FOLDERS.values()))
    roots = [path.parent for path in paths if path.name == METADATA]
    if len(roots) != 1:
        raise DataError(
            f"archive {files.path}: got {len(roots)} files {METADATA}, expected one beside "
            f"{' and '.join(_FOLDERS.values())} (BigEarthNet v2); set --config.data.archive=PATH"
        )
    return roots[0]


def _read_table(files: ArchiveFiles, path: pathlib.PurePosixPath) -> list[dict[str, Any]]:
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(files.read(str(path))))
        return table.select(_COLUMNS).to_pylist()
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise DataError(
            f"archive {files.path}, file {path}: got {error!r}, expected a Parquet table with "
            f"{', '.join(_COLUMNS)}; download it again"
        ) from error


def _to_item(root: pathlib.PurePosixPath, row: dict[str, Any]) -> Item:
    patch, s1_name, split = row["patch_id"], row["s1_name"], row["split"]
    labels = row["labels"] or ()  # a few patches have none
    unknown = [label for label in labels if label not in CLASSES]
    named = _PATCH_ID.fullmatch(patch or "") and _S1_NAME.fullmatch(s1_name or "")
    if unknown or split not in SPLITS or not named:
        raise DataError(
            f"metadata of {patch}: got split {split!r}, s1_name {s1_name!r}, unknown labels "
            f"{unknown}, expected {SPLITS} and all else as published; download the metadata again"
        )
    stems = {  # how the names of the band files begin
        "s1": root / _FOLDERS["s1"] / s1_name.rsplit("_", 3)[0] / s1_name / s1_name,
        "s2": root / _FOLDERS["s2"] / patch.rsplit("_", 2)[0] / patch / patch,
    }
    indices = tuple(sorted(set(map(CLASSES.index, labels))))
    return Item(patch, split, indices, {key: str(stem) for key, stem in stems.items()})


def _acquired(patch: str) -> str:
    """Reads the time of acquisition, ISO 8601 in UTC, out of a patch's name."""
    return _PATCH_ID.sub(r"\1-\2-\3T\4:\5:\6Z", patch)


def _read_bands(files: ArchiveFiles, key: str, names: dict[str, str]) -> dict[str, rasters.Raster]:
    """Reads one file a band; each has to be as published, and without NaN."""
    bands = {}
    for spec in band_specs(key, tuple(names)):
        name, size = names[spec.name], _PIXELS[spec.gsd_m]
        raster = bands[spec.name] = rasters.read_raster(files.read(name), name)
        got, dtype = raster.array, SENSORS[key].dtype
        bad = np.size(got) - np.isfinite(got).sum()
        if got.dtype != dtype or got.shape != (size, size, 1) or bad:
            raise DataError(
                f"image {name}: got {got.dtype} {got.shape}, {bad} values not finite, expected "
                f"{dtype} {(size, size, 1)}, none; download the patch again"
            )
    return bands


def _stack(bands: dict[str, rasters.Raster]) -> Shaped[np.ndarray, "h w c"]:
    return np.stack([rasters.to_grid(r.array[..., 0], SIZE) for r in bands.values()], axis=-1)
