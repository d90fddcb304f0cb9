"""Pixels for fixtures: real ones from ../shared/data where a checkout has it, else drawn ones."""

import functools
import io
import pathlib
import tarfile
import warnings

import numpy as np
import rasterio
from PIL import Image

from rejepa_jax.data.sensors import SENSORS

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
AID = SHARED / "aid" / "aid-150px-200-per-class.tar"
BIGEARTHNET = SHARED / "bigearthnet" / "bigearthnet-v1-original.tar"
BANDS = SENSORS["s2_l1c"].band_names


def jpeg(array):
    """A JPEG of the best quality."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=95)
    return file.getvalue()


@functools.cache
def pictures(count):
    """JPEG files of 150 pixels: of AID, each of another class."""
    if not AID.exists():
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (count, 10, 10, 3), np.uint8)
        return [jpeg(np.asarray(Image.fromarray(c).resize((150, 150)))) for c in coarse]
    with tarfile.open(AID) as tar:
        names = [name for name in tar.getnames() if name.endswith(".jpg")]
        return [tar.extractfile(name).read() for name in names[:: len(names) // count][:count]]


@functools.cache
def sentinel(count):
    """Images of 120 pixels and 13 bands in the records' order, and their CRS and transform.

    Real BigEarthNet patches, coarse bands repeated to 10 m; B10, which these lack, is invented.
    """
    if not BIGEARTHNET.exists():
        rng = np.random.default_rng(0)
        images = rng.integers(1, 9000, (count, 120, 120, 13)).astype(np.uint16)
        return [(image, "EPSG:32634", rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)) for image in images]
    with tarfile.open(BIGEARTHNET) as tar:
        first = [name for name in tar.getnames() if name.endswith("_B02.tif")][:count]
        return [_patch(tar, name) for name in first]


def _patch(tar, name):
    bands = {}
    for band in BANDS:
        if band == "B10":
            bands[band] = bands["B09"] // 100 + 1
            continue
        data = tar.extractfile(name.replace("B02", band)).read()
        with rasterio.MemoryFile(data) as file, file.open() as dataset:
            values = dataset.read(1)
            bands[band] = np.kron(values, np.ones((120 // len(values),) * 2, np.uint16))
            if band == "B02":
                crs, transform = dataset.crs.to_string(), dataset.transform
    return np.stack(list(bands.values()), axis=-1), crs, transform


def geotiff(array, crs="", transform=None, descriptions=()):
    """A GeoTIFF file of an image h w c."""
    height, width, count = array.shape
    profile = {"height": height, "width": width, "count": count, "dtype": array.dtype}
    if crs:
        profile |= {"crs": crs, "transform": transform}
    with rasterio.MemoryFile() as file:
        quiet = warnings.catch_warnings(action="ignore")  # some have no place, on purpose
        with quiet, file.open(driver="GTiff", **profile) as dataset:
            dataset.write(np.moveaxis(array, -1, 0))
            for number, description in enumerate(descriptions, start=1):
                dataset.set_band_description(number, description)
        return file.read()


def write(root, content):
    """Writes files of bytes or text below a folder, and returns it."""
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return root
