"""Sensors and their bands: wavelength, ground sampling distance, order; and their pictures.

Wavelengths of Sentinel-2 are the Sentinel-2A column of ESA's table of the Multispectral Instrument.
What the values of a band are like, by whom published: `published.py`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped, UInt8

from rejepa_jax.types import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class BandSpec:
    """What is known of one band; None is not defined or not published."""

    name: str
    wavelength_nm: float | None  # central
    gsd_m: float | None  # ground sampling distance; for radar the pixel spacing


@dataclasses.dataclass(frozen=True)
class SensorSpec:
    """What is known of one sensor."""

    title: str
    dtype: str  # numpy's name
    bands: tuple[BandSpec, ...]  # in the order of our records
    nodata: float | None  # the value of a pixel without a measurement
    scale: float = 1.0  # a stored value times this is the physical one
    unit: str = ""  # of the physical value
    natural_colour: tuple[str, ...] = ()  # the bands that look red, green, blue; () = none do

    @property
    def band_names(self) -> tuple[str, ...]:
        """The bands' names, in the order of our records."""
        return tuple(band.name for band in self.bands)


_MSI = (
    BandSpec("B01", 442.7, 60.0),
    BandSpec("B02", 492.7, 10.0),
    BandSpec("B03", 559.8, 10.0),
    BandSpec("B04", 664.6, 10.0),
    BandSpec("B05", 704.1, 20.0),
    BandSpec("B06", 740.5, 20.0),
    BandSpec("B07", 782.8, 20.0),
    BandSpec("B08", 832.8, 10.0),
    BandSpec("B8A", 864.7, 20.0),
    BandSpec("B09", 945.1, 60.0),
    BandSpec("B10", 1373.5, 60.0),
    BandSpec("B11", 1613.7, 20.0),
    BandSpec("B12", 2202.4, 20.0),
)

SENSORS = {
    "s1": SensorSpec(
        title="Sentinel-1 C-SAR, IW GRD, backscatter in dB",
        dtype="float32",
        bands=(BandSpec("VV", None, 10.0), BandSpec("VH", None, 10.0)),
        nodata=None,
        unit="dB",
    ),
    "s2": SensorSpec(
        title="Sentinel-2 MSI, Level-2A, surface reflectance times 10,000",
        dtype="uint16",
        bands=tuple(band for band in _MSI if band.name != "B10"),
        nodata=0.0,
        scale=1e-4,
        unit="reflectance",
        natural_colour=("B04", "B03", "B02"),
    ),
    "s2_l1c": SensorSpec(
        title="Sentinel-2 MSI, Level-1C, top-of-atmosphere reflectance times 10,000",
        dtype="uint16",
        bands=_MSI,
        nodata=0.0,
        scale=1e-4,
        unit="reflectance",
        natural_colour=("B04", "B03", "B02"),
    ),
    "rgb": SensorSpec(
        title="Colour picture from any camera",
        dtype="uint8",
        bands=(
            # Nominal wavelengths: those of a camera are seldom published.
            BandSpec("red", 665.0, None),
            BandSpec("green", 560.0, None),
            BandSpec("blue", 490.0, None),
        ),
        nodata=None,
        natural_colour=("red", "green", "blue"),
    ),
}

_TO_B08 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08")
ORDERS = {  # of the bands in multi-band files that do not name them
    "fmow_sentinel": (*_TO_B08, "B8A", "B09", "B10", "B11", "B12"),  # SatMAE, datasets.py
    "eurosat": (*_TO_B08, "B09", "B10", "B11", "B12", "B8A"),  # EuroSAT: B8A comes last
}


def in_order(
    image: Shaped[np.ndarray, "h w _"], given: Sequence[str], wanted: Sequence[str], name: str
) -> Shaped[np.ndarray, "h w c"]:
    """Returns the wanted bands, by name, of an image whose bands are given in another order.

    Raises:
        DataError: the image has not as many bands as are given, or lacks a wanted one.
    """
    missing = [band for band in wanted if band not in given]
    if image.shape[2] != len(given) or missing:
        raise DataError(
            f"image {name}: got {image.shape[2]} bands, named {', '.join(given)}, expected "
            f"{', '.join(wanted)} among them; correct the order with --config.data.file_bands"
        )
    places = [list(given).index(band) for band in wanted]
    return image if places == list(range(len(given))) else image[..., places]


def sensor_spec(sensor: str) -> SensorSpec:
    """Looks a sensor up; raises a ConfigError that lists the known ones."""
    if sensor not in SENSORS:
        raise ConfigError(
            f"sensor: got {sensor!r}, expected one of {', '.join(SENSORS)}; choose a known sensor"
        )
    return SENSORS[sensor]


def nodata(sensor: str) -> float | None:
    """Gives the value of a pixel without a measurement; None where every value is one."""
    return SENSORS[sensor].nodata if sensor in SENSORS else None


def band_specs(sensor: str, names: Sequence[str]) -> tuple[BandSpec, ...]:
    """Looks bands up by name, in the order asked for; raises a ConfigError on an unknown one."""
    bands = {band.name: band for band in sensor_spec(sensor).bands}
    if unknown := [name for name in names if name not in bands]:
        raise ConfigError(
            f"bands of sensor {sensor!r}: got {', '.join(unknown)}, expected some of "
            f"{', '.join(bands)}; correct the names"
        )
    return tuple(bands[name] for name in names)


def picture(image: Shaped[np.ndarray, "h w c"], bands: Sequence[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Renders an image for people to look at.

    Natural colour where the bands allow it; VV, VH and VV - VH for radar; else the first three
    bands, or the first one in grey. Eight-bit values stay as they are; all others are stretched
    between their 2nd and 98th percentile, over all three colours together where the colour is
    natural and over each by itself where it is not. What is not a number comes out black.
    """
    position = {name: index for index, name in enumerate(bands)}
    triples = [spec.natural_colour for spec in SENSORS.values() if spec.natural_colour]
    natural = next((triple for triple in triples if position.keys() >= set(triple)), ())
    if natural:
        colours = image[..., [position[name] for name in natural]]
    elif position.keys() >= {"VV", "VH"}:
        vv, vh = image[..., position["VV"]], image[..., position["VH"]]
        colours = np.stack([vv, vh, vv - vh], axis=-1)
    else:
        colours = image[..., [0, 1, 2] if len(bands) >= 3 else [0, 0, 0]]
    if colours.dtype == np.uint8:
        return colours
    return _stretch(colours, axis=None if natural else (0, 1))


def _stretch(
    colours: Shaped[np.ndarray, "h w 3"], axis: tuple[int, int] | None
) -> UInt8[np.ndarray, "h w 3"]:
    low, high = np.nanpercentile(colours.astype(np.float64), (2, 98), axis=axis, keepdims=True)
    scaled = (colours - low) / np.where(high > low, high - low, 1)  # a flat image stays dark
    return np.rint(255 * np.clip(np.nan_to_num(scaled), 0, 1)).astype(np.uint8)
