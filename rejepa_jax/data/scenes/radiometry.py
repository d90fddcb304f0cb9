"""From a scene and the conditions it is seen under to the pixels of both sensors."""

import numpy as np
from jaxtyping import Float, Float32, UInt16
from scipy import ndimage

from rejepa_jax.data.scenes.conditions import Conditions
from rejepa_jax.data.scenes.materials import MATERIAL_INDEX, backscatter, spectra
from rejepa_jax.data.scenes.mixtures import Shares
from rejepa_jax.data.scenes.patterns import (
    COLUMNS,
    ROWS,
    SIZE,
    Field,
    slope_towards,
    smooth_noise,
)
from rejepa_jax.data.sensors import SENSORS

_S1, _S2 = SENSORS["s1"].bands, SENSORS["s2"].bands
_FACTORS = (np.array([band.gsd_m for band in _S2]) / 10).astype(int).tolist()  # from 10 m
_WAVELENGTHS = np.array([band.wavelength_nm for band in _S2]) / 1000  # micrometres
_TURBID = np.array([8, 9, 12, 12, 11, 8, 7.5, 7, 6, 5.5, 2.5, 1.5]) / 100
_WATERS = [MATERIAL_INDEX[name] for name in ("water", "sea")]
_MOIST = [
    MATERIAL_INDEX[name] for name in ("soil", "winter_crop", "summer_crop", "straw", "grass", "mud")
]


def _scene_spectra(rng: np.random.Generator, conditions: Conditions) -> Float[np.ndarray, "m c"]:
    """Returns the materials' reflectance here: season, water, and each place's own variety."""
    table = spectra(conditions.day)
    table[_WATERS] += 0.6 * conditions.turbidity * (_TURBID - table[_WATERS]) + conditions.glint
    redness = np.log(_WAVELENGTHS / 0.8)
    count = len(table)
    brightness, tilt = rng.normal(0, 0.25, (count, 1)), rng.normal(0, 0.18, (count, 1))
    return table * np.exp(brightness + tilt * redness)


def _light(
    rng: np.random.Generator, height: Field, terrain: Field, conditions: Conditions
) -> Field:
    """Returns the light that falls on each pixel: gain, gradient, slopes and shadows."""
    shade = conditions.shadow * slope_towards(height, conditions.sun_azimuth)
    # The ground between crowns or houses sees less of the sky.
    shade += 0.7 * conditions.shadow * (height - ndimage.uniform_filter(height, 5))
    shade += conditions.relief * 8 * slope_towards(terrain, conditions.sun_azimuth)
    down, across = conditions.slope
    gradient = 1 + down * (ROWS / SIZE - 0.5) + across * (COLUMNS / SIZE - 0.5)
    grain = 1 + 0.03 * rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    light = conditions.gain * gradient * grain * np.clip(1 + shade, 0.35, 1.7)
    return light.astype(np.float32)


def _block_mean(field: Field, factor: int) -> Float[np.ndarray, "_ _"]:
    """Averages squares of `factor` pixels a side."""
    side = field.shape[0] // factor
    return field.reshape(side, factor, side, factor).mean(axis=(1, 3))


def render_s2(
    rng: np.random.Generator, cover: Shares, height: Field, terrain: Field, conditions: Conditions
) -> dict[str, UInt16[np.ndarray, "_ _"]]:
    """Renders each Sentinel-2 band at its own resolution, as reflectance times 10,000."""
    table = _scene_spectra(rng, conditions).astype(np.float32)
    light = _light(rng, height, terrain, conditions)
    haze = conditions.haze * np.clip(1 + 0.5 * smooth_noise(rng, 40.0), 0, None)
    thickness = (_WAVELENGTHS / _WAVELENGTHS[1]) ** -conditions.haze_exponent
    flat = cover.reshape(len(cover), -1)
    images = {}
    for index, band in enumerate(_S2):
        ground = (table[:, index] @ flat).reshape(SIZE, SIZE) * light
        veil = 1 - np.exp(-np.float32(thickness[index]) * haze)
        image = _block_mean(ground + (0.45 - ground) * 0.6 * veil, _FACTORS[index])
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = image * 10_000 + noise * np.float32(conditions.noise * 10_000)
        images[band.name] = np.clip(np.rint(image), 1, 20_000).astype(np.uint16)
    return images


def render_s1(
    rng: np.random.Generator, cover: Shares, height: Field, terrain: Field, conditions: Conditions
) -> dict[str, Float32[np.ndarray, "h w"]]:
    """Renders Sentinel-1 backscatter in dB, with gamma-distributed speckle."""
    decibels = backscatter(conditions.day) + conditions.angle_shift
    decibels += rng.normal(0, 1.5, (len(decibels), 1))
    decibels[_MOIST] += conditions.moisture
    decibels[_WATERS] += conditions.wind
    power = (10 ** (decibels / 10)).astype(np.float32)
    look = np.pi / 2 if conditions.from_east else -np.pi / 2
    facing = 1 + 0.5 * slope_towards(height, look)
    facing += 4 * conditions.relief * slope_towards(terrain, look)
    flat = cover.reshape(len(cover), -1)
    images = {}
    for index, band in enumerate(_S1):
        mean = (power[:, index] @ flat).reshape(SIZE, SIZE) * np.clip(facing, 0.2, 3)
        speckle = rng.standard_gamma(conditions.looks, mean.shape) / conditions.looks
        images[band.name] = (10 * np.log10(np.maximum(mean * speckle, 1e-5))).astype(np.float32)
    return images
