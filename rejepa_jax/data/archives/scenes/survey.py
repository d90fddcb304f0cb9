"""A look through all scenes of an archive: which can be used, how much of each patch is known."""

import collections
import concurrent.futures
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import rasterio
from absl import logging
from jaxtyping import Float
from rasterio.errors import NotGeoreferencedWarning

from rejepa_jax.config import Scenes
from rejepa_jax.console import Progress
from rejepa_jax.data.archives.scenes import patches
from rejepa_jax.data.archives.scenes.raster_files import CACHE_PER_FILE
from rejepa_jax.data.archives.scenes.scene_files import Scene
from rejepa_jax.data.archives.scenes.scene_headers import Described, Kind, describe
from rejepa_jax.data.archives.scenes.windows import Grid, Layer, known_shares
from rejepa_jax.data.workers import count_cores
from rejepa_jax.types import DataError

Given = TypeVar("Given")
Made = TypeVar("Made")
Shares = Float[np.ndarray, "rows columns"]


def open_scenes(
    root: pathlib.Path,
    scenes: Sequence[Scene],
    needs_mask: bool,
    file_bands: tuple[str, ...],
    sensor: str,
) -> tuple[Kind, list[Described], dict[str, str]]:
    """Opens all scenes; returns what most of them are, those that are so, and the others' faults.

    Raises:
        DataError: none can be used.
    """

    def look(scene: Scene) -> Described | str:
        try:
            found = describe(root, scene, file_bands, sensor)
        except DataError as error:
            return str(error)
        lacks_mask = needs_mask and not found.mask_ratio
        return f"scene {scene.id}: got no mask, expected its file or asset" if lacks_mask else found

    found = _each("open scenes", look, scenes)
    kinds = collections.Counter(one.kind for one in found if isinstance(one, Described))
    kind = kinds.most_common(1)[0][0] if kinds else None
    usable, faults = [], {}
    for scene, one in zip(scenes, found, strict=True):
        if isinstance(one, str):
            faults[scene.id] = one
        elif one.kind == kind:
            usable.append(one)
        else:
            faults[scene.id] = (
                f"scene {scene.id}: got {one.kind}, expected {kind} as in most scenes; leave it "
                "out, or name its bands with --config.data.file_bands"
            )
    for name, reason in faults.items():
        logging.warning("scenes: %s cannot be used: %s", name, reason)
    if kind is None:
        raise DataError(
            f"archive {root}: none of {len(scenes)} scenes can be used; the first: "
            f"{next(iter(faults.values()))}"
        )
    _tell(usable)
    return kind, usable, faults


def _tell(scenes: list[Described]) -> None:
    """Says what of the scenes may surprise."""
    unplaced = [scene.scene.id for scene in scenes if not scene.grid.crs]
    if unplaced:
        logging.warning(
            "scenes: %d without CRS, such as %s: their patches have no footprint, and cannot be "
            "split by block or location",
            *(len(unplaced), unplaced[0]),
        )
    moved = collections.Counter(scene.scene.offset for scene in scenes)
    if set(moved) != {0}:
        logging.info(
            "scenes: offsets added to the values, as the metadata tell, and in how many scenes: %s",
            dict(moved),
        )


def measure(
    root: pathlib.Path, scenes: Sequence[Described], settings: Scenes
) -> list[tuple[Described, Grid, Shares]]:
    """Finds the share of known pixels of each patch, in the band that has the fewest.

    Raises:
        ConfigError: patches do not fit the pixels of coarser bands.
        DataError: no patch has enough.
    """
    grids = [patches.make_grid(scene, settings) for scene in scenes]
    masks = [patches.make_mask(scene, settings) for scene in scenes]
    tasks = [(n, layer) for n, one in enumerate(scenes) for layer in patches.make_layers(one)]

    def share(task: tuple[int, Layer]) -> Shares:
        number, layer = task
        return known_shares(root, layer, masks[number], grids[number])

    shares = [np.ones((grid.rows, grid.columns)) for grid in grids]
    found = _each("look for known pixels", share, tasks)
    for (number, _), one in zip(tasks, found, strict=True):
        shares[number] = np.minimum(shares[number], one)
    total = sum(grid.count for grid in grids)
    kept = sum(int((one >= settings.min_valid).sum()) for one in shares)
    text = (
        f"{kept} of {total} patches of {settings.patch} px from {len(scenes)} scenes; "
        f"{total - kept} left out: less than {settings.min_valid:g} of the pixels known in a band"
    )
    logging.info("scenes: %s", text)
    if not kept:
        raise DataError(
            f"archive {root}: got {text}, expected one at least; lower --config.scenes.min_valid "
            "or --config.scenes.patch"
        )
    return list(zip(scenes, grids, shares, strict=True))


def _each(label: str, act: Callable[[Given], Made], given: Sequence[Given]) -> list[Made]:
    """Does something to each, several at once: GDAL decodes without holding Python's lock."""
    made: list[Made] = []
    threads = count_cores()
    progress = Progress(label, len(given), "files")
    with (
        # Filters of warnings are of the process: those that threads set would undo one another.
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.Env(GDAL_CACHEMAX=threads * CACHE_PER_FILE),
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
    ):
        for one in pool.map(act, given):
            made.append(one)
            progress.update(len(made))
    return made
