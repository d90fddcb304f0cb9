"""Sensors and their bands: wavelength, ground sampling distance, statistics; and their pictures.

Wavelengths of Sentinel-2 are the Sentinel-2A column of ESA's table of the Multispectral Instrument.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped, UInt8

from rejepa_jax.types import ConfigError


@dataclasses.dataclass(frozen=True)
class BandSpec:
    """What is known of one band; None is not defined or not published."""

    name: str
    wavelength_nm: float | None  # central
    gsd_m: float | None  # ground sampling distance; for radar the pixel spacing
    mean: float | None = None
    std: float | None = None


@dataclasses.dataclass(frozen=True)
class SensorSpec:
    """What is known of one sensor."""

    title: str
    dtype: str  # numpy's name
    bands: tuple[BandSpec, ...]  # in the order of our records
    nodata: float | None  # the value of a pixel without a measurement
    natural_colour: tuple[str, ...] = ()  # the bands that look red, green, blue; () = none do
    statistics_source: str = ""  # of mean and std

    @property
    def band_names(self) -> tuple[str, ...]:
        """The bands' names, in the order of our records."""
        return tuple(band.name for band in self.bands)


_BIGEARTHNET = "BigEarthNet v1: BAND_STATS of the package bigearthnet-common 2.8.0"

SENSORS = {
    "s1": SensorSpec(
        title="Sentinel-1 C-SAR, IW GRD, backscatter in dB",
        dtype="float32",
        bands=(
            BandSpec("VV", None, 10.0, -12.6200, 5.1159),
            BandSpec("VH", None, 10.0, -19.2904, 5.4644),
        ),
        nodata=None,
        statistics_source=_BIGEARTHNET,
    ),
    "s2": SensorSpec(
        title="Sentinel-2 MSI, Level-2A, reflectance times 10,000",
        dtype="uint16",
        bands=(
            BandSpec("B01", 442.7, 60.0, 340.768, 554.813),
            BandSpec("B02", 492.7, 10.0, 429.943, 572.416),
            BandSpec("B03", 559.8, 10.0, 614.217, 582.879),
            BandSpec("B04", 664.6, 10.0, 590.236, 675.887),
            BandSpec("B05", 704.1, 20.0, 950.684, 729.898),
            BandSpec("B06", 740.5, 20.0, 1792.463, 1096.015),
            BandSpec("B07", 782.8, 20.0, 2075.468, 1273.454),
            BandSpec("B08", 832.8, 10.0, 2218.946, 1365.456),
            BandSpec("B8A", 864.7, 20.0, 2266.460, 1356.138),
            BandSpec("B09", 945.1, 60.0, 2246.061, 1302.329),
            BandSpec("B11", 1613.7, 20.0, 1594.427, 1079.191),
            BandSpec("B12", 2202.4, 20.0, 1009.327, 818.867),
        ),
        nodata=0.0,
        natural_colour=("B04", "B03", "B02"),
        statistics_source=_BIGEARTHNET,
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


def published_statistics(
    sensor: str, names: Sequence[str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gives mean and standard deviation of the named bands, in the records' own unit.

    Raises:
        ConfigError: If a band is unknown or nobody has published statistics of it.
    """
    bands = band_specs(sensor, names)
    known = [(b.mean, b.std) for b in bands if b.mean is not None and b.std is not None]
    if len(known) < len(bands):
        raise ConfigError(
            f"statistics of sensor {sensor!r}: got some of {', '.join(names)} unpublished, "
            "expected a mean and a std of each; measure them on the records instead"
        )
    return tuple(mean for mean, _ in known), tuple(std for _, std in known)


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
