"""Patches of a scene: where they lie, and which have enough known pixels."""

import numpy as np
import rasterio.warp
from jaxtyping import Float
from rasterio._err import CPLE_BaseError  # pyrefly: ignore[missing-import]
from rasterio.errors import CRSError

from rejepa_jax.config import Scenes
from rejepa_jax.data import sensors
from rejepa_jax.data.archives import footprints
from rejepa_jax.data.archives.files import Item
from rejepa_jax.data.archives.scenes.recipes import Recipe
from rejepa_jax.data.archives.scenes.scene_headers import OTHER, Described, Header
from rejepa_jax.data.archives.scenes.windows import Grid, Layer, Mask
from rejepa_jax.types import ConfigError

SPLIT = "train"  # of all patches, until `data.split_by` deals them out


def make_grid(scene: Described, settings: Scenes) -> Grid:
    """Lays the grid from the upper left corner; what is left over at the other edges is not cut.

    Raises:
        ConfigError: patches would cut the pixels of a coarser band in parts.
    """
    patch, stride = settings.patch, settings.stride or settings.patch
    ratios = {band.ratio for band in scene.bands} | {scene.mask_ratio or 1}
    if any(patch % ratio or stride % ratio for ratio in ratios):
        raise ConfigError(
            f"config.scenes.patch = {patch}, config.scenes.stride = {stride}: scene "
            f"{scene.scene.id} has pixels of {sorted(ratios)} times the finest; give multiples of "
            f"{int(np.lcm.reduce(list(ratios)))}"
        )
    rows, columns = ((side - patch) // stride + 1 for side in (scene.grid.height, scene.grid.width))
    return Grid(patch, stride, max(rows, 0), max(columns, 0))


def make_layers(scene: Described) -> list[Layer]:
    """Gathers a scene's bands by file."""
    by_file: dict[str, list] = {}
    for band in scene.bands:
        by_file.setdefault(band.file, []).append(band)
    nodata = sensors.nodata(scene.sensor)
    return [
        Layer(
            tuple(b.name for b in bands),
            file,
            tuple(b.number for b in bands),
            bands[0].ratio,
            nodata,
        )
        for file, bands in by_file.items()
    ]


def make_mask(scene: Described, settings: Scenes) -> Mask | None:
    """Describes the scene's mask, if there is one."""
    if not scene.mask_ratio:
        return None
    return Mask(Layer(("mask",), scene.scene.mask, (1,), scene.mask_ratio), settings.mask_values)


def make_items(
    scene: Described,
    grid: Grid,
    shares: Float[np.ndarray, "rows columns"],
    settings: Scenes,
    labels: tuple[int, ...],
) -> list[Item]:
    """Lists the patches with enough known pixels, which the share of each says."""
    layers, mask = make_layers(scene), make_mask(scene, settings)
    recipe = Recipe(
        crs=scene.grid.crs,
        transform=scene.grid.transform,
        datetime=scene.scene.datetime,
        offset=0 if scene.sensor == OTHER else scene.scene.offset,
        min_valid=settings.min_valid,
        layers=tuple(layers),
        mask=mask,
    ).to_text()  # one text for all items of the scene
    files = {name: layer.file for layer in layers for name in layer.names}
    if mask:
        files["mask"] = mask.layer.file
    corners = np.argwhere(shares >= settings.min_valid) * grid.stride
    centres = find_centres(scene.grid, corners + grid.patch / 2)
    items = []
    for (top, left), centre in zip(corners.tolist(), centres, strict=True):
        name = f"{scene.scene.id}/{top:05d}_{left:05d}"
        place = f"{centre[0]:.4f} {centre[1]:.4f}" if centre else ""
        facts = {"recipe": recipe, "corner": (top, left), "centre": centre}
        items.append(Item(name, SPLIT, labels, files, place, facts))
    return items


def unusable(scene: str, reason: str, images: int) -> Item:
    """Stands for a whole scene that cannot be used, of so many images; reading it says why."""
    return Item(scene, SPLIT, (), {}, facts={"fault": reason, "weight": max(images, 1)})


def find_centres(
    grid: Header, places: Float[np.ndarray, "p 2"]
) -> list[tuple[float, float] | tuple[()]]:
    """Gives longitude and latitude of rows and columns; () where they are unknown."""
    unknown: list[tuple[()]] = [()] * len(places)
    if not grid.crs or not grid.transform or not len(places):
        return list(unknown)
    a, b, c, d, e, f = grid.transform
    rows, columns = places.T
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    try:
        longitudes, latitudes = rasterio.warp.transform(grid.crs, "OGC:CRS84", x, y)
    except (CRSError, CPLE_BaseError):  # the second is raised, but not exported
        return list(unknown)
    return [
        (footprints.wrap(lon), lat) if np.isfinite(lon) and np.isfinite(lat) else ()
        for lon, lat in zip(longitudes, latitudes, strict=True)
    ]
