"""Windows of large raster files, and which of their pixels are known."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np
import rasterio
from jaxtyping import Bool, Float, Shaped
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rejepa_jax.data.archives.scenes.raster_files import open_file, refusal
from rejepa_jax.types import DataError


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where patches lie in a scene: in pixels of its finest bands."""

    patch: int
    stride: int
    rows: int  # of patches
    columns: int

    @property
    def count(self) -> int:
        """How many patches there are."""
        return self.rows * self.columns


@dataclasses.dataclass(frozen=True)
class Layer:
    """Bands of one file, all with pixels of one size."""

    names: tuple[str, ...]
    file: str
    numbers: tuple[int, ...]  # of the bands, from 1
    ratio: int  # side of a pixel in pixels of the scene's finest bands
    nodata: float | None = None  # the sensor's; the file's own is known to the file

    def read(
        self, root: pathlib.Path, top: int, left: int, height: int, width: int
    ) -> tuple[Shaped[np.ndarray, "c h w"], Bool[np.ndarray, "c h w"]]:
        """Reads the window, given in the finest pixels; gives pixels, and which are known.

        Known is what is finite, has neither the file's no-data value nor the sensor's, and is not
        left out by a mask or an alpha band inside the file.

        Raises:
            DataError: the file is gone, damaged or smaller than it was.
        """
        dataset = open_file(root, self.file)
        r = self.ratio
        window = Window(left // r, top // r, width // r, height // r)
        try:
            pixels = dataset.read(self.numbers, window=window)
            known = np.stack([_unmasked(dataset, n, window, self.numbers) for n in self.numbers])
        except (RasterioError, UnicodeDecodeError) as error:
            raise refusal(self.file, "blocks that do not decode", "a whole file") from error
        if pixels.shape[1:] != (height // r, width // r):
            got = f"{dataset.height}x{dataset.width} pixels"
            raise refusal(self.file, got, "as many as when the archive was listed")
        if pixels.dtype.kind == "f":
            known &= np.isfinite(pixels)
        if self.nodata is not None:
            known &= pixels != self.nodata
        return pixels, known


@dataclasses.dataclass(frozen=True)
class Mask:
    """A file whose values say which pixels are not usable."""

    layer: Layer
    values: tuple[int, ...]  # of unusable pixels

    def read(
        self, root: pathlib.Path, top: int, left: int, height: int, width: int
    ) -> Bool[np.ndarray, "h w"]:
        """Gives, in the finest pixels, which may be used."""
        (values,), (known,) = self.layer.read(root, top, left, height, width)
        return expand(known & ~np.isin(values, self.values), self.layer.ratio)


def expand(pixels: Shaped[np.ndarray, "*c h w"], ratio: int) -> Shaped[np.ndarray, "*c _ _"]:
    """Repeats each pixel `ratio` times along rows and columns."""
    return pixels if ratio == 1 else pixels.repeat(ratio, axis=-2).repeat(ratio, axis=-1)


def known_shares(
    root: pathlib.Path, layer: Layer, mask: Mask | None, grid: Grid
) -> Float[np.ndarray, "rows columns"]:
    """Gives each patch's share of known pixels, in that band of the file that has the fewest.

    Rows of patches are read one after another, so that no more than such a strip is in memory,
    beside GDAL's own cache of decoded blocks. A patch that cannot be read counts as known: reading
    it for its record will say what is wrong.
    """
    shares = np.ones((grid.rows, grid.columns))
    for row in range(grid.rows):
        try:
            shares[row] = _strip(root, layer, mask, grid, row, 0, grid.columns)
        except DataError:
            for column in range(grid.columns):
                with contextlib.suppress(DataError):
                    shares[row, column] = _strip(root, layer, mask, grid, row, column, 1)[0]
    return shares


def _strip(
    root: pathlib.Path,
    layer: Layer,
    mask: Mask | None,
    grid: Grid,
    row: int,
    first: int,
    columns: int,
) -> Float[np.ndarray, " columns"]:
    """Gives the shares of some patches of a row, the first and those right of it."""
    width = (columns - 1) * grid.stride + grid.patch
    strip = row * grid.stride, first * grid.stride, grid.patch, width
    _, known = layer.read(root, *strip)
    unit = layer.ratio
    if mask is not None:
        known, unit = expand(known, layer.ratio) & mask.read(root, *strip), 1
    side, stride = grid.patch // unit, grid.stride // unit
    total = np.cumsum(known.sum(axis=1), axis=1)
    total = np.pad(total, ((0, 0), (1, 0)))  # over all columns before each
    starts = np.arange(columns) * stride
    return (total[:, starts + side] - total[:, starts]).min(axis=0) / side**2


def data_bands(dataset: rasterio.DatasetReader, expected: int) -> Iterator[int]:
    """Yields the numbers of the bands that hold an image, and not an alpha channel.

    Four bands of 8 bits are often called colour and alpha when the fourth is an image like them:
    it is one if so many bands are `expected`, or if it is described as something else.
    """
    for number, meaning in enumerate(dataset.colorinterp, start=1):
        text = (dataset.descriptions[number - 1] or "alpha").lower()
        if meaning.name != "alpha" or text != "alpha" or dataset.count == expected:
            yield number


def _unmasked(
    dataset: rasterio.DatasetReader, number: int, window: Window, numbers: tuple[int, ...]
) -> Bool[np.ndarray, "h w"]:
    flags = dataset.mask_flag_enums[number - 1]
    is_image = MaskFlags.alpha in flags and len(numbers) == dataset.count  # see data_bands
    if is_image or MaskFlags.all_valid in flags:
        return np.ones((int(window.height), int(window.width)), bool)
    return dataset.read_masks(number, window=window) != 0
