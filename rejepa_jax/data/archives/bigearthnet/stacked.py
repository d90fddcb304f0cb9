"""Layout: the 13,683 pairs of BigEarthNet v2 that circulate as BEN-14K, one file a patch.

    metadata.parquet, that of all of v2
    BigEarthNet-S2/<split>/<patch_id>.tif   ten bands: B01 and B09 are left out
    BigEarthNet-S1/<split>/<s1_name>.tif    two bands

They are the clean patches of v2 from Serbia in summer, in v2's own splits: neither the patches nor
the splits of the published BEN-14K, 14,832 pairs of v1.
"""

import functools
import os
from collections.abc import Sequence

from absl import logging

from rejepa_jax.data.archives import footprints, rasters
from rejepa_jax.data.archives.bigearthnet.labels import CLASSES
from rejepa_jax.data.archives.bigearthnet.names import acquired, ground
from rejepa_jax.data.archives.bigearthnet.v2 import Row, select
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.sensors import SENSORS, in_order
from rejepa_jax.types import ConfigError, DataError


def open_files(
    files: ArchiveFiles,
    folders: dict[str, str],
    tables: Sequence[str],
    selection: str = "clean",
    split_file: str | os.PathLike[str] = "",
    file_bands: Sequence[str] = (),
) -> Archive:
    """Lists the patches of the metadata whose files are there; the first says how all have to be.

    Args:
        files: The archive.
        folders: Where the chosen sensors' patches lie.
        tables: As `bigearthnet_v2.select` takes them, and what follows.
        selection: The same.
        split_file: The same.
        file_bands: The bands of a file in their order, of both sensors one behind the other, where
            the files do not name them.

    Raises:
        ConfigError: A setting is unknown.
        DataError: If the metadata cannot be used, there is no file, or the order of the bands is
            not known.
    """
    _check_names(file_bands)
    items = _find_items(files, folders, select(files, tables, selection, split_file))
    if not items:
        raise DataError(
            f"archive {files.path}: got no file of a selected patch, expected "
            f"{' and '.join(folders.values())}/<split>/<name>.tif; choose another selection"
        )
    items.sort(key=lambda item: (item.split, item.id))
    read = functools.partial(read_example, file_bands=tuple(file_bands))
    sensors = {key: _describe(files, key, items[0].files[key], file_bands) for key in folders}
    return Archive(Schema("bigearthnet", sensors, CLASSES), tuple(items), files, read)


def read_example(
    files: ArchiveFiles, item: Item, schema: Schema, file_bands: Sequence[str] = ()
) -> Example:
    """Reads a patch, its bands in the schema's order; raises a DataError naming the bad file."""
    read = {key: rasters.read_raster(files.read(name), name) for key, name in item.files.items()}
    images = {}
    for key, raster in read.items():
        name = item.files[key]
        given = _order(raster, key, name, file_bands)
        images[key] = in_order(raster.array, given, schema.sensors[key].bands, name)
    first = "s2" if "s2" in read else "s1"
    grid, name = read[first], item.files[first]
    return Example(
        id=item.id,
        images=images,
        labels=item.labels,
        source=name,
        crs=grid.crs,
        transform=grid.transform,
        geometry=footprints.footprint(grid.crs, grid.transform, *grid.array.shape[:2]),
        datetime=acquired(name),
        place=item.place,
    )


def _find_items(
    files: ArchiveFiles, folders: dict[str, str], selected: list[tuple[Row, str]]
) -> list[Item]:
    """Makes an item of each row one of whose files is there: the metadata are of more patches."""
    there, items = set(files.names()), []
    for row, split in selected:
        names = {"s1": row.s1, "s2": row.s2}
        paths = {key: f"{path}/{row.split}/{names[key]}.tif" for key, path in folders.items()}
        if not there.isdisjoint(paths.values()):
            items.append(Item(row.s2, split, row.labels, paths, ground(row.s2)))
    others = there.difference(*(item.files.values() for item in items))
    if left := sum(name.startswith(tuple(folders.values())) for name in others):
        logging.warning("archive %s: left out %d files of no selected patch", files.path, left)
    return items


def _check_names(file_bands: Sequence[str]) -> None:
    known = [band for key in ("s2", "s1") for band in SENSORS[key].band_names]
    if unknown := [band for band in file_bands if band not in known]:
        raise ConfigError(
            f"data.file_bands: got {', '.join(unknown)}, expected some of {', '.join(known)}; give "
            "them as --config.data.file_bands=\"('B02', 'VV')\""
        )


def _describe(files: ArchiveFiles, key: str, name: str, file_bands: Sequence[str]) -> Sensor:
    raster = rasters.read_raster(files.read(name), name)
    given = _order(raster, key, name, file_bands)
    bands = tuple(band for band in SENSORS[key].band_names if band in given)
    return Sensor(bands, raster.array.dtype.name, *raster.array.shape[:2])


def _order(
    raster: rasters.Raster, key: str, name: str, file_bands: Sequence[str]
) -> tuple[str, ...]:
    """Gives the names of a file's bands: its own, or else those from the settings."""
    known = SENSORS[key].band_names
    told = tuple(band for band in file_bands if band in known)
    own = raster.bands if set(raster.bands) <= set(known) else ()
    if not (own or told) or (own and told and own != told):
        got = f"bands that name themselves {raster.bands}, and {told} from data.file_bands"
        raise DataError(
            f"image {name}: got {got}, expected one order of {raster.array.shape[2]} of "
            f"{', '.join(known)}; find out how the file was written and give the order of both "
            "sensors, one behind the other, as --config.data.file_bands"
        )
    return own or told
