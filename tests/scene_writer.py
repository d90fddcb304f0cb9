"""Small scenes as users have them: GeoTIFF, COG or JPEG 2000, one file a band or one for all."""

import warnings

import numpy as np
import rasterio

UTM = "EPSG:32634"
CORNER = (600000.0, 5000000.0)


def noise(seed, *shape, dtype=np.uint16):
    """Values of 100 to 3,999: none of them is no-data."""
    return np.random.default_rng(seed).integers(100, 4000, shape).astype(dtype)


def write(path, array, metres=10.0, corner=CORNER, names=(), crs=UTM, **options):
    """Writes [h w] or [c h w]; `crs=None` writes no place at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = array if array.ndim == 3 else array[None]
    driver = "JP2OpenJPEG" if path.suffix == ".jp2" else options.pop("driver", "GTiff")
    if driver == "JP2OpenJPEG":
        options |= {"QUALITY": "100", "REVERSIBLE": "YES"}
    if crs:
        x, y = corner
        options |= {"crs": crs, "transform": rasterio.Affine(metres, 0, x, 0, -metres, y)}
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.open(path, "w", driver=driver, **shape, **options) as dataset,
    ):
        dataset.write(bands)
        for number, name in enumerate(names, start=1):
            dataset.set_band_description(number, name)
    return path


def write_bands(root, name, bands, size=24, seed=0, corner=CORNER, ending="tif"):
    """Writes one file a band, of so many metres a pixel; returns the arrays by band."""
    arrays = {}
    for number, (band, metres) in enumerate(bands.items()):
        side = size * 10 // metres
        arrays[band] = noise(seed + number, side, side)
        write(root / f"{name}_{band}.{ending}", arrays[band], metres, corner)
    return arrays


def write_archive(root, scenes=2, patches=4, patch=24):
    """Writes scenes of all twelve Sentinel-2 bands, side by side, 10 km apart."""
    gsd = {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20}
    gsd |= {"B08": 10, "B8A": 20, "B09": 60, "B11": 20, "B12": 20}
    for number in range(scenes):
        corner = (CORNER[0] + 10000 * number, CORNER[1])
        write_bands(
            root, f"T34TDN_2017061{number}T101031", gsd, patches * patch, 100 * number, corner
        )
    return root
