import struct
import warnings

import numpy as np
import pytest
import rasterio

from rejepa_jax.data.archives import plain_tiff
from rejepa_jax.data.archives.files import ArchiveFiles
from rejepa_jax.data.archives.rasters import read_raster

GRID = rasterio.Affine(10, 0, 500000, 0, -10, 4600000)


def geotiff(array, crs="EPSG:32634", transform=GRID, **profile):
    """Writes h w or c h w as GDAL does."""
    array = array if array.ndim == 3 else array[np.newaxis]
    count, height, width = array.shape
    shape = {"count": count, "height": height, "width": width, "dtype": array.dtype}
    with rasterio.MemoryFile() as file, warnings.catch_warnings(action="ignore"):
        with file.open(driver="GTiff", crs=crs, transform=transform, **shape, **profile) as dataset:
            dataset.write(array)
        return file.read()


def by_gdal(data):
    """What rasterio reads: band, coordinate system, transform."""
    with (
        rasterio.MemoryFile(data) as file,
        warnings.catch_warnings(action="ignore"),
        file.open(driver="GTiff") as dataset,
    ):
        crs = dataset.crs.to_string() if dataset.crs else ""
        transform = () if dataset.transform.is_identity else tuple(dataset.transform)[:6]
        return dataset.read(), crs, transform


def values(dtype, height=120, width=120):
    return np.random.default_rng(0).integers(0, 200, (height, width)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("crs", ["EPSG:32604", "EPSG:32634", "EPSG:32760", None])
def test_plain_files_are_read_as_gdal_reads_them(dtype, crs):
    data = geotiff(values(dtype, 40, 30), crs, GRID if crs else None)
    array, system, transform = plain_tiff.read(data)
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, values(dtype, 40, 30))
    np.testing.assert_array_equal(array, by_gdal(data)[0][0])
    assert (system, transform) == by_gdal(data)[1:]
    assert system == (crs or "")
    assert transform == (tuple(GRID)[:6] if crs else ())
    array[0, 0] = 7  # the caller's own


@pytest.mark.parametrize(
    "data",
    [
        geotiff(values("uint16"), compress="deflate"),
        geotiff(values("uint16"), tiled=True, blockxsize=64, blockysize=64),
        geotiff(values("uint16"), BIGTIFF="YES"),
        geotiff(values("uint16"), ENDIANNESS="BIG"),
        geotiff(values("uint16"), "EPSG:3035"),
        geotiff(values("uint16"), "EPSG:4326"),
        geotiff(values("uint16"), transform=GRID @ rasterio.Affine.rotation(10)),
        geotiff(values("uint16"), nodata=0),
        geotiff(values("uint16"), photometric="MINISWHITE"),
        geotiff(values("uint32")),
        geotiff(values("float64")),
        geotiff(np.stack([values("uint16")] * 2)),
        geotiff(np.stack([values("uint8")] * 3), photometric="RGB"),
        b"",
        b"II*\0",
        b"II*\0" + b"\xff" * 40,
        b"text" * 50,
        geotiff(values("uint16"))[:-1],
    ],
)
def test_other_files_are_left_to_gdal(data):
    assert plain_tiff.read(data) is None


def test_where_a_pixel_is_a_point_gdal_shifts_the_grid_and_we_do_not_read():
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff", height=4, width=4, count=1, dtype="uint8", crs=32634, transform=GRID
        ) as dataset:
            dataset.write(values("uint8", 4, 4), 1)
            dataset.update_tags(AREA_OR_POINT="Point")
        assert plain_tiff.read(file.read()) is None


def test_pages_and_tags_beyond_the_plain_ones_are_left_to_gdal():
    data = geotiff(values("uint8", 4, 4))
    (count,) = struct.unpack_from("<H", data, 8)
    end = 10 + 12 * count
    second = data[:end] + struct.pack("<I", 8) + data[end + 4 :]
    assert plain_tiff.read(second) is None
    orientation = bytearray(data)
    struct.pack_into("<H", orientation, 10 + 12 * 4, 274)  # in place of the photometry
    assert plain_tiff.read(bytes(orientation)) is None
    twice = bytearray(data)
    twice[10:22] = data[22:34]  # the height where the width was
    assert plain_tiff.read(bytes(twice)) is None


def check_damaged(whole, position, flip):
    """With one byte changed, a file is read as GDAL reads it, or left to GDAL."""
    damaged = bytearray(whole)
    damaged[position] ^= flip
    plain = plain_tiff.read(bytes(damaged))
    if plain is None:
        return 0
    array, crs, transform = by_gdal(bytes(damaged))
    np.testing.assert_array_equal(plain.array, array[0])
    assert plain.array.dtype == array.dtype
    assert (plain.crs, plain.transform) == (crs, transform)
    return 1


@pytest.mark.parametrize("side", [20, 120])
def test_no_changed_byte_makes_it_read_what_gdal_does_not(side):
    whole = geotiff(values("uint16", side, side))
    header = len(whole) - 2 * side * side
    read = sum(
        check_damaged(whole, position, flip)
        for position in range(header)
        for flip in (1 << position % 8, 255)
    )
    assert read > 100


def test_the_real_files_are_plain_and_read_as_gdal_reads_them(shared_data):
    for name in ("v1-original", "v1-reencoded", "v2-reencoded"):
        files = ArchiveFiles(shared_data / "bigearthnet" / f"bigearthnet-{name}.tar")
        images = [path for path in files.names() if path.endswith(".tif")]
        assert all(plain_tiff.read(files.read(path)) is not None for path in images)
        for path in images[::7]:
            array, crs, transform = by_gdal(files.read(path))
            raster = read_raster(files.read(path), path)
            np.testing.assert_array_equal(raster.array[..., 0], array[0])
            assert (raster.crs, raster.transform, raster.bands) == (crs, transform, ("",))
            assert (crs == "") == (name != "v1-original")
