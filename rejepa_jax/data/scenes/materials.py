"""What invented scenes are made of: reflectance, backscatter and season of each material.

The figures are round numbers of our own, of the shape that open spectral libraries and Sentinel
images show (red edge, water absorption in the short-wave infrared, volume scattering of trees).
"""

import dataclasses

import numpy as np
from jaxtyping import Float

_SOIL = (8, 10, 13, 17, 19, 21, 23, 25, 27, 28, 34, 30)
_STRAW = (7, 9, 13, 17, 20, 23, 25, 28, 30, 30, 36, 26)
_LEAFLESS = (4, 5, 7, 8, 10, 14, 16, 18, 20, 20, 23, 15)
_EVERGREEN = 1000.0


Numbers = tuple[float | int, ...]


@dataclasses.dataclass(frozen=True)
class Material:
    """One ingredient; reflectances in percent by Sentinel-2 band, backscatter (VV, VH) in dB.

    Greenness is `floor` at least and 1 on day `peak` of the year, with a bell of `width` days
    between; `dormant` is what the material looks like where it is not green.
    """

    green: Numbers
    dormant: Numbers
    backscatter: Numbers
    dormant_backscatter: Numbers
    peak: float = 200.0
    width: float = _EVERGREEN
    floor: float = 0.0


def _constant(reflectance: Numbers, backscatter: Numbers) -> Material:
    """Returns a material without seasons."""
    return Material(reflectance, reflectance, backscatter, backscatter)


_CROP = (3, 3.5, 7, 4, 11, 32, 40, 43, 45, 45, 20, 10)
_BARE = (-11.0, -19.0)

MATERIALS = {
    "soil": _constant(_SOIL, _BARE),
    "winter_crop": Material(_CROP, _SOIL, (-11.5, -17.5), _BARE, 130.0, 40.0),
    "summer_crop": Material(_CROP, _SOIL, (-9.0, -14.5), _BARE, 205.0, 38.0),
    "straw": _constant(_STRAW, (-11.5, -18.5)),
    "grass": Material(
        (3, 4, 8, 6, 13, 28, 34, 37, 39, 39, 24, 13), _STRAW, (-11.5, -17.5), (-12, -19),
        150.0, 70.0, 0.15,
    ),
    "broadleaf": Material(
        (2, 2.5, 5, 3, 8, 27, 36, 39, 41, 41, 18, 8), _LEAFLESS, (-8.5, -13.5), (-9.5, -15.5),
        205.0, 52.0, 0.03,
    ),
    "conifer": _constant((2, 2.3, 3.8, 2.7, 6, 16, 21, 23, 25, 25, 11, 5.5), (-9.0, -14.5)),
    "shrub": Material(
        (3, 4, 6, 5, 9, 18, 22, 25, 27, 27, 20, 12), (3, 4, 6, 7, 10, 14, 16, 18, 20, 20, 21, 14),
        (-10.5, -16.0), (-11, -17), 190.0, 70.0, 0.3,
    ),
    "reed": Material(
        (3, 3.5, 6, 5, 9, 21, 26, 29, 30, 30, 16, 8),
        (5, 7, 10, 12, 15, 18, 20, 22, 23, 23, 21, 14), (-9.5, -17.0), (-9, -18), 195.0, 55.0, 0.1,
    ),
    "roof": _constant((20, 23, 25, 27, 28, 29, 30, 31, 32, 32, 33, 30), (-3.0, -11.0)),
    "tile": _constant((8, 9, 11, 16, 18, 19, 20, 21, 22, 22, 26, 24), (-4.5, -12.0)),
    "asphalt": _constant((8, 9, 10, 11, 12, 13, 13, 14, 15, 15, 17, 16), (-14.0, -21.0)),
    "water": _constant((6, 6, 6, 4.5, 4, 3, 2.5, 2.2, 2, 2, 1, 0.8), (-19.0, -26.0)),
    "sea": _constant((6.5, 6, 5, 3.5, 3, 2.4, 2.2, 2, 2, 2, 1, 0.8), (-17.0, -25.0)),
    "sand": _constant((17, 21, 26, 31, 33, 35, 36, 38, 39, 39, 45, 41), (-15.0, -24.0)),
    "mud": _constant((6, 7, 8.5, 10, 11, 12, 13, 14, 14, 14, 12, 9), (-14.0, -22.0)),
}  # fmt: skip
MATERIAL_INDEX = {name: index for index, name in enumerate(MATERIALS)}


def greenness(day: float) -> Float[np.ndarray, " m"]:
    """Returns how green each material is on a day of the year (0 dormant, 1 at its peak)."""
    values = []
    for material in MATERIALS.values():
        apart = (day - material.peak + 182.5) % 365 - 182.5
        bell = np.exp(-0.5 * (apart / material.width) ** 2)
        values.append(material.floor + (1 - material.floor) * bell)
    return np.array(values)


def spectra(day: float) -> Float[np.ndarray, "m c"]:
    """Returns each material's reflectance (0 to 1) by Sentinel-2 band on a day of the year."""
    green = greenness(day)[:, None]
    fresh = np.array([material.green for material in MATERIALS.values()])
    dormant = np.array([material.dormant for material in MATERIALS.values()])
    return (green * fresh + (1 - green) * dormant) / 100


def backscatter(day: float) -> Float[np.ndarray, "m c"]:
    """Returns each material's mean backscatter (VV, VH) in dB on a day of the year."""
    green = greenness(day)[:, None]
    fresh = np.array([material.backscatter for material in MATERIALS.values()])
    dormant = np.array([material.dormant_backscatter for material in MATERIALS.values()])
    return green * fresh + (1 - green) * dormant
