"""Published statistics of bands: mean and standard deviation, of what and by whom.

They are in the unit in which our records hold the band.
"""

import dataclasses
from collections.abc import Sequence

from rejepa_jax.data.sensors import SENSORS, band_specs
from rejepa_jax.types import ConfigError


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of the bands of one sensor."""

    source: str
    sensor: str
    bands: dict[str, tuple[float, float]]  # name -> mean, std


def _table(names: Sequence[str], *values: float) -> dict[str, tuple[float, float]]:
    """Pairs up first all means, then all standard deviations."""
    means, stds = values[: len(names)], values[len(names) :]
    return dict(zip(names, zip(means, stds, strict=True), strict=True))


STATISTICS = {
    "bigearthnet_s1": Statistics(
        "BigEarthNet v1: BAND_STATS of the package bigearthnet-common 2.8.0",
        "s1",
        {"VV": (-12.6200, 5.1159), "VH": (-19.2904, 5.4644)},
    ),
    "bigearthnet_s2": Statistics(
        "BigEarthNet v1: BAND_STATS of the package bigearthnet-common 2.8.0",
        "s2",
        {
            "B01": (340.768, 554.813),
            "B02": (429.943, 572.416),
            "B03": (614.217, 582.879),
            "B04": (590.236, 675.887),
            "B05": (950.684, 729.898),
            "B06": (1792.463, 1096.015),
            "B07": (2075.468, 1273.454),
            "B08": (2218.946, 1365.456),
            "B8A": (2266.460, 1356.138),
            "B09": (2246.061, 1302.329),
            "B11": (1594.427, 1079.191),
            "B12": (1009.327, 818.867),
        },
    ),
    "fmow_sentinel": Statistics(
        "fMoW-Sentinel: SatMAE (Cong et al. 2022), util/datasets.py",
        "s2_l1c",
        _table(
            SENSORS["s2_l1c"].band_names,
            *(1370.19, 1184.38, 1120.77, 1136.26, 1263.74, 1645.40, 1846.87, 1762.60, 1972.62),
            *(582.73, 14.77, 1732.16, 1247.92),
            *(633.15, 650.28, 712.13, 965.23, 948.98, 1108.07, 1258.36, 1233.15, 1364.39),
            *(472.38, 14.31, 1310.37, 1087.60),
        ),
    ),
    "fmow_rgb": Statistics(  # published as shares of 255
        "fMoW-RGB: SatMAE (Cong et al. 2022), util/datasets.py",
        "rgb",
        {
            "red": (255 * 0.4182, 255 * 0.2877),
            "green": (255 * 0.4215, 255 * 0.2754),
            "blue": (255 * 0.3991, 255 * 0.2764),
        },
    ),
    "imagenet": Statistics(
        "ImageNet, as in torchvision",
        "rgb",
        {
            "red": (255 * 0.485, 255 * 0.229),
            "green": (255 * 0.456, 255 * 0.224),
            "blue": (255 * 0.406, 255 * 0.225),
        },
    ),
}
DEFAULTS = {"s1": "bigearthnet_s1", "s2": "bigearthnet_s2", "s2_l1c": "fmow_sentinel"}


def published_statistics(
    sensor: str, names: Sequence[str], table: str = "published"
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gives mean and standard deviation of the named bands, in the records' own unit.

    Args:
        sensor: whose bands they are.
        names: the bands.
        table: a key of `STATISTICS`; `published` takes the sensor's usual one.

    Raises:
        ConfigError: a band or the table is unknown, or the table is of another sensor.
    """
    band_specs(sensor, names)
    chosen = DEFAULTS.get(sensor, "") if table == "published" else table
    known = STATISTICS.get(chosen)
    if known is None or known.sensor != sensor:
        tables = [name for name, entry in STATISTICS.items() if entry.sensor == sensor]
        raise ConfigError(
            f"statistics of sensor {sensor!r}: got {table!r}, unpublished for it, expected "
            f"{', '.join(['records', 'image', *tables])}; choose with --config.data.statistics"
        )
    pairs = [known.bands[name] for name in names]
    return tuple(mean for mean, _ in pairs), tuple(std for _, std in pairs)
