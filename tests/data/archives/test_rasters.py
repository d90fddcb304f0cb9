import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform_bounds

from rejepa_jax.data.archives.files import ArchiveFiles
from rejepa_jax.data.archives.footprints import footprint
from rejepa_jax.data.archives.rasters import (
    Raster,
    fit,
    read_image,
    read_raster,
    to_grid,
)
from rejepa_jax.types import DataError


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


def geotiff(array, descriptions=(), **profile):
    height, width, count = array.shape
    with rasterio.MemoryFile() as file:
        with warnings.catch_warnings(action="ignore"):
            shape = {"height": height, "width": width, "count": count, "dtype": array.dtype}
            with file.open(driver="GTiff", **shape, **profile) as dataset:
                dataset.write(np.moveaxis(array, -1, 0))
                for band, description in enumerate(descriptions, start=1):
                    dataset.set_band_description(band, description)
        return file.read()


def test_colour_png_comes_back_exactly():
    np.testing.assert_array_equal(read_image(encoded(noise(6, 5, 3)), "x.PNG"), noise(6, 5, 3))


def test_jpeg_comes_back_as_pillow_reads_it():
    data = encoded(noise(6, 5, 3), "JPEG", quality=95)
    np.testing.assert_array_equal(
        read_image(data, "x.jpeg"), np.asarray(Image.open(io.BytesIO(data)))
    )


def test_grey_indexed_and_transparent_pictures_become_colour():
    grey = noise(6, 5)
    np.testing.assert_array_equal(read_image(encoded(grey), "x.png"), np.stack([grey] * 3, -1))
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    expected = [[[10, 20, 30], [40, 50, 60]], [[40, 50, 60], [10, 20, 30]]]
    assert read_image(encoded(palette), "x.png").tolist() == expected
    np.testing.assert_array_equal(
        read_image(encoded(noise(6, 5, 4)), "x.png"), noise(6, 5, 4)[..., :3]
    )


def test_sixteen_bits_are_kept_or_refused_but_never_halved():
    grey = noise(6, 5, dtype=np.uint16) * 257
    image = read_image(encoded(grey), "x.png")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[..., 0], grey)

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + b"\1\2\3\4\5\6"))
    png = b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"deep\.png: got a 16-bit colour PNG"):
        read_image(png, "deep.png")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("options", [{}, {"compress": "deflate", "interleave": "pixel"}])
def test_geotiff_keeps_bands_dtype_and_place(dtype, options):
    array = noise(7, 5, 4, dtype=dtype)
    transform = rasterio.Affine(10.0, 0.0, 600000.0, 0.0, -10.0, 5e6)
    data = geotiff(array, ["red", "", "nir"], crs="EPSG:32634", transform=transform, **options)
    raster = read_raster(data, "x.tif")
    assert raster.array.dtype == dtype
    np.testing.assert_array_equal(raster.array, array)
    assert raster.bands == ("red", "", "nir", "")
    assert raster.crs == "EPSG:32634"
    assert raster.transform == (10.0, 0.0, 600000.0, 0.0, -10.0, 5e6)


def test_geotiff_without_a_place_is_read_without_a_warning():
    with warnings.catch_warnings(action="error"):
        raster = read_raster(geotiff(noise(4, 3, 1)), "x.tiff")
    assert (raster.crs, raster.transform, raster.bands) == ("", (), ("",))


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif"])
def test_damaged_files_are_named(name):
    kinds = {"x.png": encoded(noise(64, 64, 3)), "x.jpg": encoded(noise(64, 64, 3), "JPEG")}
    whole = {**kinds, "x.tif": geotiff(noise(64, 64, 3))}[name]
    others = [data for other, data in kinds.items() if other != name and name == "x.tif"]
    for data in [b"", whole[:5], whole[:20], whole[: len(whole) // 2], b"text" * 50, *others]:
        with pytest.raises(DataError, match=f"image {name}: got {len(data)} bytes that do not"):
            read_raster(data, name)


def test_a_broken_png_header_is_a_data_error():
    data = encoded(noise(8, 8, 3))
    for position in range(8, 33):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        with pytest.raises(DataError, match=r"x\.png"):
            read_raster(bytes(damaged), "x.png")


def test_other_formats_are_refused():
    with pytest.raises(DataError, match=r"got the ending '\.gif', expected one of \.jpg"):
        read_raster(b"GIF89a", "x.gif")
    with pytest.raises(DataError, match="do not decode"):  # an image, but not of an allowed kind
        read_raster(encoded(noise(8, 8, 3), "GIF"), "x.png")
    virtual = b'<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand/></VRTDataset>'
    with pytest.raises(DataError, match="do not decode"):
        read_raster(virtual, "x.tif")


def test_bombs_are_refused_by_their_header():
    for side, message in ((10000, "10000x10000x3 values, expected at most"), (30000, "9000000")):
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        check = struct.pack(">I", zlib.crc32(header))
        png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + check + b"\0\0\0\0IDAT"
        with warnings.catch_warnings(action="ignore"), pytest.raises(DataError, match=message):
            read_raster(png, "bomb.png")
    with rasterio.MemoryFile() as file:
        with warnings.catch_warnings(action="ignore"):
            shape = {"height": 2**15, "width": 2**15, "count": 1, "dtype": "uint8"}
            file.open(driver="GTiff", tiled=True, sparse_ok=True, **shape).close()
        with pytest.raises(
            DataError, match=r"bomb\.tif: got 32768x32768x1 values, expected at most"
        ):
            read_raster(file.read(), "bomb.tif")


def bicubic(size_in, size_out):
    """The weights of one axis, written down anew: rows are output pixels."""
    scale = size_in / size_out
    width = max(scale, 1)
    centres = (np.arange(size_out) + 0.5) * scale - 0.5
    t = np.abs(centres[:, None] - np.arange(size_in)) / width
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("size_in", "size_out"), [(60, 120), (20, 120), (120, 60), (17, 23)])
def test_to_grid_is_bicubic_up_to_the_edges(size_in, size_out):
    band = np.random.default_rng(1).normal(1000, 300, (size_in, size_in)).astype(np.float32)
    weights = bicubic(size_in, size_out)
    expected = weights @ band.astype(np.float64) @ weights.T
    np.testing.assert_allclose(to_grid(band, size_out), expected, rtol=0, atol=2e-3)
    counts = np.random.default_rng(2).integers(0, 5000, (size_in, size_in)).astype(np.uint16)
    got = to_grid(counts, size_out)
    assert got.dtype == np.uint16
    expected = np.maximum(weights @ counts.astype(np.float64) @ weights.T, 0)
    assert np.abs(got - expected).max() < 0.502  # half for the rounding, the rest for float32


def test_to_grid_worked_by_hand():
    # k(1/4) = 0.8671875, k(3/4) = 0.2265625, k(5/4) = -0.0703125; two columns, renormalised.
    inner, outer = 0.2265625 / 1.09375, -0.0703125 / 0.796875
    band = np.array([[0, 1], [0, 1]], np.float32)
    expected = np.tile([outer, inner, 1 - inner, 1 - outer], (4, 1))
    np.testing.assert_allclose(to_grid(band, 4), expected, atol=1e-6)


def test_to_grid_keeps_constants_ramps_and_sizes():
    assert (to_grid(np.full((20, 20), 1234, np.uint16), 120) == 1234).all()
    ramp = np.tile(np.arange(20, dtype=np.float32), (20, 1))
    centres = (np.arange(120) + 0.5) / 6 - 0.5
    np.testing.assert_allclose(to_grid(ramp, 120)[60, 12:-12], centres[12:-12], atol=1e-4)
    same = noise(8, 8)
    assert to_grid(same, 8) is same


def test_to_grid_clips_overshoot_to_the_range_of_the_dtype():
    step = np.zeros((20, 20), np.uint16)
    step[:, 10:] = 65535
    got = to_grid(step, 120)[60].astype(int)
    assert (got[:60].min(), got[60:].max()) == (0, 65535)
    assert (np.diff(got[50:70]) >= 0).all()  # wrapped values would fall


def test_fit_crops_the_centre_and_moves_the_grid():
    array = noise(8, 12, 2)
    raster = Raster(array, ("a", "b"), "EPSG:32634", (10.0, 0.0, 600000.0, 0.0, -10.0, 5e6))
    got = fit(raster, 8)
    np.testing.assert_array_equal(got.array, array[:, 2:10])
    assert got.transform == (10, 0, 600020, 0, -10, 5e6)
    half = fit(raster, 4)
    weights = bicubic(8, 4)
    expected = np.einsum("ih,hwc,jw->ijc", weights, array[:, 2:10].astype(float), weights)
    assert np.abs(half.array - np.clip(expected, 0, 255)).max() < 0.502
    assert half.transform == (20, 0, 600020, 0, -20, 5e6)
    assert (half.bands, half.crs) == (("a", "b"), "EPSG:32634")
    assert fit(Raster(array), 4).transform == ()


def ring(wkb):
    order, kind, rings, count = struct.unpack_from("<BIII", wkb)
    assert (order, kind, rings, len(wkb)) == (1, 3, 1, 13 + 16 * count)
    points = np.frombuffer(wkb, "<f8", offset=13).reshape(count, 2)
    np.testing.assert_array_equal(points[0], points[-1])
    x, y = points[:-1].T
    area = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2
    assert area > 0  # counter-clockwise
    return points[:-1]


def test_footprint_is_longitude_latitude_counter_clockwise():
    degrees = (0.25, 0.0, 20.0, 0.0, -0.5, 45.0)
    corners = [[20, 45], [20, 43], [21, 43], [21, 45]]
    np.testing.assert_allclose(ring(footprint("EPSG:4326", degrees, 4, 4)), corners)
    upwards = (0.25, 0.0, 20.0, 0.0, 0.5, 43.0)  # a grid whose rows go north
    assert {tuple(p) for p in ring(footprint("EPSG:4326", upwards, 4, 4))} == set(
        map(tuple, corners)
    )


def test_footprint_of_utm():
    # Zone 34 has its central meridian, 21 degrees east, at 500 km; the equator is at 0.
    points = ring(footprint("EPSG:32634", (10.0, 0.0, 500000.0, 0.0, -10.0, 0.0), 120, 120))
    np.testing.assert_allclose(points[0], [21, 0], atol=1e-9)
    # 1200 m over the earth's radii at the equator: 6378.137 km along it, 6335.439 km across.
    np.testing.assert_allclose(points[2, 0] - 21, np.degrees(1200 / 6378137 / 0.9996), rtol=1e-6)
    np.testing.assert_allclose(points[2, 1], -np.degrees(1200 / 6335439 / 0.9996), rtol=1e-6)


def test_footprint_of_an_unknown_place_is_empty():
    grid = (10.0, 0.0, 0.0, 0.0, -10.0, 0.0)
    assert footprint("", grid, 4, 4) == b""
    assert footprint("EPSG:32634", (), 4, 4) == b""
    assert footprint('LOCAL_CS["drawing board"]', grid, 4, 4) == b""
    assert footprint("no such system", grid, 4, 4) == b""
    assert footprint("EPSG:32634", (1e30, 0.0, 0.0, 0.0, -10.0, 0.0), 4, 4) == b""


def test_real_files_are_read_as_they_are(shared_data):
    files = ArchiveFiles(shared_data / "bigearthnet" / "bigearthnet-v1-original.tar")
    name = next(name for name in files.names() if name.endswith("_B05.tif"))
    raster = read_raster(files.read(name), name)
    path = f"/vsitar/{files.path}/{name}"
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(raster.array[..., 0], dataset.read(1))
        assert raster.crs == str(dataset.crs)
        assert raster.transform == tuple(dataset.transform)[:6]
        bounds = transform_bounds(dataset.crs, "OGC:CRS84", *dataset.bounds, densify_pts=2)
    points = ring(footprint(raster.crs, raster.transform, 60, 60))
    np.testing.assert_allclose([*points.min(0), *points.max(0)], bounds, rtol=1e-6)


def test_to_grid_gives_no_weight_to_what_is_not_known():
    # Rows are alike; 0 is not known. Its weight goes to the nearest known pixel, 10: the values
    # are those of 10, 10, 20, and the two columns nearest to the unknown one stay unknown.
    band = np.tile(np.array([0, 10, 20], np.uint16), (3, 1))
    expected = np.rint(np.array([10, 10, 20.0]) @ bicubic(3, 6).T)
    assert to_grid(band, 6, nodata=0)[0].tolist() == [0, 0, *expected[2:]]
    assert (to_grid(band, 6, nodata=0) == to_grid(band, 6, nodata=0)[0]).all()
    assert to_grid(band, 6)[0].tolist() != [0, 0, *expected[2:]]  # taken for a dark pixel it smears
    # Between two unknown pixels: constant.
    assert to_grid(np.array([[0, 7], [0, 7]], np.uint16), 4, nodata=0).tolist() == 4 * [
        [0, 0, 7, 7]
    ]


def test_to_grid_changes_nothing_far_from_what_is_not_known():
    band = np.random.default_rng(0).integers(1, 5000, (20, 20)).astype(np.uint16)
    holed = band.copy()
    holed[3, 4] = 0
    changed = to_grid(holed, 120, nodata=0) != to_grid(band, 120, nodata=0)
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max()) == (9, 32)  # half-way into the pixels two before and two after
    assert (columns.min(), columns.max()) == (15, 38)
    assert np.argwhere(to_grid(holed, 120, nodata=0) == 0).min(0).tolist() == [18, 24]
    assert np.argwhere(to_grid(holed, 120, nodata=0) == 0).max(0).tolist() == [23, 29]


def test_to_grid_keeps_dark_apart_from_unknown():
    step = np.ones((20, 20), np.uint16)
    step[:, 10:] = 5000  # beside such an edge the cubic kernel goes below zero
    assert to_grid(step, 120).min() == 0
    assert to_grid(step, 120, nodata=0).min() == 1
    assert (to_grid(np.zeros((20, 20), np.uint16), 120, nodata=0) == 0).all()
    unknown = np.full((20, 20), -1, np.int16)  # not the least value of its dtype
    unknown[5:] = 3
    assert set(np.unique(to_grid(unknown, 40, nodata=-1))) == {-1, 3}


OWN = "+proj=tmerc +lat_0=1 +lon_0=21 +k=0.9 +datum=WGS84"


def test_a_reference_system_that_is_no_text_is_a_fault_of_the_file(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=3, height=2, count=1, dtype="uint8", crs=OWN,
        transform=rasterio.Affine(10, 0, 500000, 0, -10, 5000000),
    ) as file:  # fmt: skip
        file.write(np.ones((1, 2, 3), np.uint8))
    data = path.read_bytes()
    assert b"unknown" in data  # the name of the system
    with pytest.raises(DataError, match=r"a\.tif: got \d+ bytes that do not decode"):
        read_raster(data.replace(b"unknown", b"\xffnknown"), "a.tif")
