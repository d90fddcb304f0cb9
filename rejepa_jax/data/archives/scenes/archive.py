"""Layout: your own scenes, cut into patches on the pixel grid of each scene's finest bands.

The archive is a folder of GeoTIFF, COG or JPEG 2000 files (`scene_files.py` tells scenes by their
names) or a list of STAC items (`stac.py`). All scenes have the sensor, bands and type that most of
them have; one that has not, or that does not open, is a single unusable item of its name.
"""

import collections
import os
import pathlib
import statistics

import rasterio
from absl import logging

from rejepa_jax.config import Scenes
from rejepa_jax.data import sensors
from rejepa_jax.data.archives import footprints
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.archives.scenes import (
    patches,
    raster_files,
    recipes,
    scene_files,
    stac,
    survey,
)
from rejepa_jax.data.archives.scenes.scene_files import Scene
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.types import ConfigError, DataError

NAME = "scenes"


def open_archive(
    path: str | os.PathLike[str],
    settings: Scenes,
    file_bands: tuple[str, ...] = (),
    sensor: str = "s2",
    labels: str = "none",
) -> Archive:
    """Lists the patches of which enough is known; the pixels of all scenes are read for that.

    Args:
        path: Folder of scenes, or a list of STAC items; a folder with items is such a list.
        settings: How to cut. A patch is left out, and counted, if less than `min_valid` of its
            pixels is known in any band; masked pixels do not count as known.
        file_bands: Names of the bands, in files that do not name them.
        sensor: Taken where the bands' names leave a choice; `image` takes the values as they are.
        labels: `none`, or `folder`: the folder that a scene lies in is its class.

    Raises:
        ConfigError: A setting does not fit the scenes.
        DataError: There is no scene, or no patch of which enough is known.
    """
    files, scenes = find_scenes(pathlib.Path(path), settings.mask, file_bands)
    classes = find_classes(scenes, labels)
    (key, bands, dtype), usable, faults = survey.open_scenes(
        files.path, scenes, bool(settings.mask), file_bands, sensor
    )
    items: list[Item] = []
    left_out, counts = 0, []
    for scene, grid, shares in survey.measure(files.path, usable, settings):
        left_out += int((shares < settings.min_valid).sum())
        own = (classes.index(scene.scene.folder),) if classes else ()
        made = patches.make_items(scene, grid, shares, settings, own)
        counts.append(len(made))
        items += made
    typical = int(statistics.median(counts))  # what a scene that cannot be read would have given
    items += [patches.unusable(name, reason, typical) for name, reason in faults.items()]
    size = settings.patch
    return Archive(
        schema=Schema(NAME, {key: Sensor(bands, dtype, size, size)}, classes),
        items=tuple(sorted(items, key=lambda item: item.id)),
        files=files,
        read=read_example,
        facts={"left_out": left_out, "unusable_scenes": len(faults)},
    )


def read_example(files: ArchiveFiles, item: Item, schema: Schema) -> Example:
    """Reads a patch; raises a DataError if it, or its scene, cannot be used as it is."""
    if "fault" in item.facts:
        raise DataError(item.facts["fault"])
    ((key, sensor),) = schema.sensors.items()
    recipe, corner = recipes.from_text(item.facts["recipe"]), tuple(item.facts["corner"])
    size = sensor.height
    try:
        with rasterio.Env(GDAL_CACHEMAX=raster_files.CACHE):
            image = recipe.read(files.path, corner, size, sensor.bands, sensors.nodata(key))
    except DataError as error:
        raise DataError(f"patch {item.id}: {error}") from error
    if key == "s1" and image.min() >= 0:
        raise DataError(
            f"patch {item.id}: got values from {image.min():g} to {image.max():g}, expected "
            "backscatter in dB; convert it (10 log10), or set --config.data.sensor=image"
        )
    transform = recipe.transform_at(*corner)
    return Example(
        id=item.id,
        images={key: image},
        labels=item.labels,
        source=item.files[sensor.bands[0]],
        crs=recipe.crs,
        transform=transform,
        geometry=footprints.footprint(recipe.crs, transform, size, size),
        datetime=recipe.datetime,
        place=item.place,
    )


def find_scenes(
    path: pathlib.Path, mask: str, file_bands: tuple[str, ...]
) -> tuple[ArchiveFiles, list[Scene]]:
    """Finds the scenes of a folder or of a list of STAC items, by id.

    Raises:
        DataError: there is none, or two have the same id.
    """
    is_list = path.is_file() and path.suffix.lower() in stac.LISTS
    if path.is_file() and not is_list:
        raise DataError(
            f"archive {path}: got a file, expected a folder of scenes or a list of STAC items "
            f"({', '.join(stac.LISTS)}); scenes are read in windows, so unpack a .tar or .zip"
        )
    files = ArchiveFiles(path.parent if is_list else path)
    listed = stac.read_items(files, path.name if is_list else "")
    scenes = [stac.to_scene(name, item, mask, file_bands) for name, item in listed]
    if scenes and not is_list:
        logging.info("scenes: %d STAC items say which files are read, and no others", len(scenes))
    scenes = scenes or scene_files.find_scenes(files, mask, file_bands)
    named = collections.Counter(scene.id for scene in scenes)
    twice = [name for name, count in named.items() if count > 1]
    if not scenes or twice:
        raise DataError(
            f"archive {path}: got {f'{twice[0]} twice' if twice else 'no scene'}, expected files "
            f"{', '.join(raster_files.ENDINGS)} or STAC items, each scene once; set "
            "--config.data.archive=PATH"
        )
    return files, sorted(scenes, key=lambda scene: scene.id)


def find_classes(scenes: list[Scene], labels: str) -> tuple[str, ...]:
    """Lists the folders that scenes lie in, if they shall be classes."""
    if labels == "none":
        return ()
    classes = {scene.folder for scene in scenes}
    if labels != "folder" or "" in classes:
        raise ConfigError(
            f"config.scenes.labels = {labels!r}: choose none, or folder where each scene lies in "
            "the folder of its class; STAC items and scenes at the top lie in none"
        )
    return tuple(sorted(classes))
