"""The circumstances under which a scene is seen: season, light, haze, noise, wind, angle.

None of them knows what the scene shows, so none of them tells its labels.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Conditions:
    """One acquisition's circumstances; they hold for the whole scene."""

    day: float  # of the year, as the vegetation feels it
    gain: float  # of all light
    slope: tuple[float, float]  # relative change of light down and across the scene
    sun_azimuth: float  # radians clockwise from north
    shadow: float  # strength of shading by height
    relief: float  # strength of shading by the lie of the land
    haze: float  # optical thickness in the blue
    haze_exponent: float  # how fast haze thins towards the red
    noise: float  # standard deviation in reflectance
    turbidity: float  # 0 clear water to 1 muddy
    glint: float  # reflectance that the sun's mirror image adds to water
    looks: float  # of the speckle
    angle_shift: float  # dB, of all backscatter
    moisture: float  # dB, of soil and low vegetation
    wind: float  # dB, of open water
    from_east: bool  # where the radar looks from


def draw_conditions(rng: np.random.Generator, day: int) -> Conditions:
    """Draws the circumstances of an acquisition on a day of the year."""
    winter = 0.5 + 0.5 * np.cos(2 * np.pi * (day + 10) / 365)  # 1 at the winter solstice
    return Conditions(
        day=day + rng.normal(0, 12),
        gain=float(np.exp(rng.uniform(np.log(0.6), np.log(1.5)))),
        slope=(rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25)),
        sun_azimuth=rng.uniform(2.5, 3.0),
        shadow=(0.16 + 0.2 * winter) * rng.uniform(0.7, 1.3),
        relief=rng.gamma(1.0, 0.05),
        haze=rng.gamma(1.3, 0.3),
        haze_exponent=rng.uniform(0.6, 2.0),
        noise=float(np.exp(rng.uniform(np.log(0.002), np.log(0.01)))),
        turbidity=rng.beta(0.8, 1.2),
        glint=rng.beta(0.6, 2.0) * 0.12,
        looks=rng.uniform(2, 8),
        angle_shift=rng.uniform(-3, 3),
        moisture=rng.uniform(-2.5, 2.5),
        wind=rng.uniform(-4, 10),
        from_east=bool(rng.random() < 0.5),
    )
