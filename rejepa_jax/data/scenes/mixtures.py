"""How the ground is put together: shares of materials in each pixel, fields, growth on top."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int

from rejepa_jax.data.scenes.patterns import SIZE, Field, borders, parcels, smooth_noise

Shares = Float32[np.ndarray, "m h w"]  # of each pixel by material, summing to 1
Mixture = dict[str, Field | float]  # share of each pixel by material; what is missing is soil
Surface = tuple[Mixture, Field]  # and height above the ground, in pixels
FLAT = np.zeros((SIZE, SIZE), np.float32)


def of_parcel(plot: Int[np.ndarray, "h w"], values: Float[np.ndarray, " p"]) -> Field:
    """Gives each pixel the value of its parcel."""
    return values.astype(np.float32)[plot]


def draw_fields(
    rng: np.random.Generator,
    length: tuple[float, float],
    width: tuple[float, float],
    crops: Sequence[str],
    row_contrast: float,
) -> Surface:
    """Draws a mosaic of parcels, each with one of `crops` and rows along its strip."""
    plot, along, across = parcels(rng, length, width)
    count = plot.max() + 1
    kind = rng.integers(0, len(crops), count)
    lengthwise = rng.random(count) < 0.8
    wave = np.where(lengthwise[plot], across, along) / of_parcel(
        plot, rng.uniform(0.45, 1.1, count)
    )
    rows = of_parcel(plot, rng.uniform(0, row_contrast, count)) * np.sin(wave)
    stand = of_parcel(plot, rng.uniform(0.65, 1, count)) + rows + 0.06 * smooth_noise(rng, 6.0)
    stand = np.clip(stand, 0, 1).astype(np.float32)
    mixture: Mixture = {name: (kind == i)[plot] * stand for i, name in enumerate(crops)}
    mixture["grass"] = mixture.get("grass", 0.0) + 0.5 * borders(plot) * (1 - stand)
    return mixture, FLAT


def overgrown(surface: Surface, mask: Field, growth: Surface) -> Surface:
    """Puts `growth` on top of `surface` where `mask` (0 to 1) says."""
    (below, low), (above, high) = surface, growth
    mixture: Mixture = {
        name: below.get(name, 0.0) * (1 - mask) + above.get(name, 0.0) * mask
        for name in below | above
    }
    return mixture, low * (1 - mask) + high * mask
