"""From the files of a scene to the pixels of one patch: the recipe that all its patches share."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.scenes.windows import Layer, Mask, expand
from rejepa_jax.types import DataError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What reading a patch needs to know of its scene."""

    crs: str  # "" = unknown
    transform: tuple[float, ...]  # of the finest bands; () = unknown
    datetime: str
    offset: int  # added to the stored values
    min_valid: float  # share of pixels known in each band, as found when the archive was listed
    layers: tuple[Layer, ...]
    mask: Mask | None

    def to_text(self) -> str:
        """Gives it as JSON."""
        return json.dumps(dataclasses.asdict(self))

    def transform_at(self, top: int, left: int) -> tuple[float, ...]:
        """Gives the transform of the patch whose upper left pixel this is."""
        if not self.transform:
            return ()
        a, b, c, d, e, f = self.transform
        return a, b, c + a * left + b * top, d, e, f + d * left + e * top

    def read(
        self,
        root: pathlib.Path,
        corner: tuple[int, int],
        size: int,
        bands: tuple[str, ...],
        nodata: float | None,
    ) -> Shaped[np.ndarray, "{size} {size} c"]:
        """Reads a patch on the grid of the finest bands, with `rasters.to_grid` for the others.

        Pixels that are unknown or masked get the sensor's no-data value; where it has none, the
        mean of the band's other pixels in the patch.

        Raises:
            DataError: a file is gone, damaged or not as it was when the archive was listed.
        """
        window = *corner, size, size
        usable = self.mask.read(root, *window) if self.mask else np.ones((size, size), bool)
        image: dict[str, np.ndarray] = {}
        least = 1.0
        for layer in self.layers:
            pixels, known = layer.read(root, *window)
            for name, values, is_known in zip(layer.names, pixels, known, strict=True):
                is_usable = expand(is_known, layer.ratio) & usable
                least = min(least, is_usable.sum() / size**2)
                image[name] = _to_band(values, is_known, is_usable, self.offset, nodata)
        if least < self.min_valid:
            raise DataError(
                f"got {least:.3f} of a band's pixels known, expected {self.min_valid} as when the "
                "archive was listed; a file has changed: run again"
            )
        return np.stack([image[name] for name in bands], axis=-1)


@functools.lru_cache(maxsize=64)
def from_text(text: str) -> Recipe:
    """Reads what `Recipe.to_text` gave; patches come scene by scene, so once for many."""
    value = json.loads(text)
    mask = value["mask"]
    return Recipe(
        **value
        | {
            "transform": tuple(value["transform"]),
            "layers": tuple(map(_to_layer, value["layers"])),
            "mask": Mask(_to_layer(mask["layer"]), tuple(mask["values"])) if mask else None,
        }
    )


def _to_layer(value: dict[str, Any]) -> Layer:
    names, numbers = tuple(value["names"]), tuple(value["numbers"])
    return Layer(names, value["file"], numbers, value["ratio"], value["nodata"])


def _to_band(
    values: Shaped[np.ndarray, "p p"],
    is_known: Bool[np.ndarray, "p p"],
    is_usable: Bool[np.ndarray, "h w"],
    offset: int,
    nodata: float | None,
) -> Shaped[np.ndarray, "h w"]:
    """Brings a band to the finest grid, and sets what is not usable."""
    dtype = values.dtype
    if offset:
        lowest = np.iinfo(dtype).min + (nodata == 0)  # 0 would mean that nothing was measured
        shifted = values.astype(np.int64) + offset
        values = np.clip(shifted, lowest, np.iinfo(dtype).max).astype(dtype)
    unknown = _mean(values, is_known) if nodata is None else dtype.type(nodata)
    band = rasters.to_grid(np.where(is_known, values, unknown), len(is_usable), nodata)
    return np.where(is_usable, band, _mean(band, is_usable) if nodata is None else unknown)


def _mean(values: Shaped[np.ndarray, "h w"], where: Bool[np.ndarray, "h w"]) -> np.generic:
    """The mean of some values, as a value of their type; 0 of none."""
    mean = values.mean(dtype=np.float64, where=where) if where.any() else 0.0
    return values.dtype.type(round(mean) if values.dtype.kind in "iu" else mean)
