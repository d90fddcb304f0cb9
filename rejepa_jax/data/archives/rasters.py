"""From the bytes of an image file to pixels, and from a coarse band to a finer grid."""

import dataclasses
import io
import pathlib
import warnings

import numpy as np
import rasterio
import rasterio.warp
from jaxtyping import Shaped
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from scipy import ndimage

from rejepa_jax.data.archives import plain_tiff
from rejepa_jax.types import DataError

PICTURES = (".jpg", ".jpeg", ".png")
GEOTIFFS = (".tif", ".tiff")
# Height times width times bands: Pillow's own limit, and 1.5 GB at most while a GeoTIFF is read.
MAX_VALUES = 2**28


@dataclasses.dataclass(frozen=True)
class Raster:
    """An image file's pixels, and where on Earth they lie."""

    array: Shaped[np.ndarray, "h w c"]  # in the file's own dtype
    bands: tuple[str, ...] = ()  # the file's descriptions, "" where it has none
    crs: str = ""  # such as "EPSG:32634"; "" = unknown
    transform: tuple[float, ...] = ()  # affine a b c d e f from column, row to crs; () = unknown


def read_raster(data: bytes, name: str) -> Raster:
    """Decodes a JPEG, PNG or GeoTIFF.

    Pictures come out as 8-bit red, green, blue, whether they were grey, indexed or transparent;
    only a 16-bit grey PNG keeps its single band. A GeoTIFF keeps all bands and its dtype.

    Args:
        data: The file's bytes.
        name: Its name: the ending says how to decode, and errors repeat it.

    Raises:
        DataError: If the file is damaged, of another kind, or larger than `MAX_VALUES`.
    """
    ending = pathlib.PurePosixPath(name).suffix.lower()
    if ending in PICTURES:
        return Raster(_read_picture(data, name))
    if ending in GEOTIFFS:
        plain = plain_tiff.read(data)
        if plain is None:
            return _read_geotiff(data, name)
        height, width = plain.array.shape
        _check_size(name, height, width, 1)
        return Raster(plain.array[..., np.newaxis], ("",), plain.crs, plain.transform)
    raise _bad(name, f"the ending {ending!r}", f"one of {', '.join(PICTURES + GEOTIFFS)}")


def read_image(data: bytes, name: str) -> Shaped[np.ndarray, "h w c"]:
    """Decodes a JPEG, PNG or GeoTIFF as `read_raster` does, and gives the pixels alone."""
    return read_raster(data, name).array


def to_grid(
    band: Shaped[np.ndarray, "h w"], size: int, nodata: float | int | None = None
) -> Shaped[np.ndarray, "{size} {size}"]:
    """Brings a band to a grid of `size` by `size` pixels over the same ground, bicubically.

    This is the only place where bands of different resolution are brought together, such as
    Sentinel-2's of 20 m and 60 m to 10 m. It is Pillow's bicubic filter in float32: the cubic
    convolution kernel with a = -0.5, pixel centres at half pixels (corners are not aligned), the
    kernel cut off and renormalised at the edges, and widened as an antialias filter where the
    grid gets coarser. Integers are rounded and clipped to their range.

    What is not known stays so, and nothing else becomes so: a pixel is `nodata` where the nearest
    one of the band is. Its value weighs nothing: its weight goes to the nearest known pixel.
    """
    if band.shape == (size, size):
        return band
    if nodata is None or (known := band != nodata).all():
        return _bicubic(band, size, nodata)
    if not known.any():
        return np.full((size, size), nodata, band.dtype)
    where = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    rows, columns = np.asarray(where)
    values = _bicubic(band[rows, columns], size, nodata)
    stays = Image.fromarray(known).resize((size, size), Image.Resampling.NEAREST)
    return np.where(np.asarray(stays), values, band.dtype.type(nodata))


def _bicubic(
    band: Shaped[np.ndarray, "h w"], size: int, nodata: float | int | None
) -> Shaped[np.ndarray, "{size} {size}"]:
    image = Image.fromarray(band.astype(np.float32))
    values = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    if band.dtype.kind in "iu":
        limits = np.iinfo(band.dtype)
        lowest = limits.min + (nodata == limits.min)  # so that dark stays apart from unknown
        values = np.clip(np.rint(values), lowest, limits.max)
    return values.astype(band.dtype)


def fit(raster: Raster, size: int, nodata: float | None = None) -> Raster:
    """Crops the central square and brings each of its bands to `size` by `size` with `to_grid`."""
    height, width, bands = raster.array.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = raster.array[top : top + side, left : left + side]
    array = np.stack([to_grid(square[..., band], size, nodata) for band in range(bands)], axis=-1)
    if not raster.transform:
        return dataclasses.replace(raster, array=array)
    (a, b, c, d, e, f), scale = raster.transform, side / size
    c, f = c + a * left + b * top, f + d * left + e * top
    transform = (a * scale, b * scale, c, d * scale, e * scale, f)
    return dataclasses.replace(raster, array=array, transform=transform)


def _read_picture(data: bytes, name: str) -> Shaped[np.ndarray, "h w c"]:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            _check_size(name, image.height, image.width, len(image.getbands()))
            if image.mode.startswith("I;16"):
                return np.array(image, np.uint16)[..., np.newaxis]
            if image.format == "PNG" and data[24] > 8:  # the header's bit depth
                raise _bad(name, "a 16-bit colour PNG", "8 bits, or 16-bit grey")
            return np.array(image.convert("RGB"))
    except DataError:
        raise
    except Image.DecompressionBombError as error:  # twice Pillow's limit, seen before ours
        raise _bad(name, str(error), f"at most {MAX_VALUES} values") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise _undecodable(name, data, "JPEG or PNG") from error


def _read_geotiff(data: bytes, name: str) -> Raster:
    # Bytes alone: no files beside it are looked for, and no other format is tried.
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
    ):
        try:
            # Without a single byte rasterio would open the file for writing.
            with rasterio.MemoryFile(data or b"\0") as file, file.open(driver="GTiff") as dataset:
                _check_size(name, dataset.height, dataset.width, dataset.count)
                unknown = dataset.transform.is_identity
                return Raster(
                    array=np.ascontiguousarray(np.moveaxis(dataset.read(), 0, -1)),
                    bands=tuple(description or "" for description in dataset.descriptions),
                    crs=dataset.crs.to_string() if dataset.crs else "",
                    transform=() if unknown else tuple(dataset.transform)[:6],
                )
        except (RasterioError, UnicodeDecodeError) as error:
            raise _undecodable(name, data, "GeoTIFF") from error


def _check_size(name: str, height: int, width: int, bands: int) -> None:
    if height * width * bands > MAX_VALUES:
        raise _bad(name, f"{height}x{width}x{bands} values", f"at most {MAX_VALUES}")


def _undecodable(name: str, data: bytes, kind: str) -> DataError:
    # The libraries' own words hold addresses, which would make each run's report another.
    return _bad(name, f"{len(data)} bytes that do not decode", f"a whole {kind}")


def _bad(name: str, got: str, expected: str) -> DataError:
    return DataError(
        f"image {name}: got {got}, expected {expected}; restore or convert it, or leave it out"
    )
