"""Invented scenes of Earth's surface: what is there, and how two satellites see it.

A scene's content (layout, textures) and the conditions it is seen under come from separate random
streams of one place, so the same content can be seen under other conditions, and labels follow
from the content alone.
"""

import dataclasses
import enum

import numpy as np
from jaxtyping import Bool

from rejepa_jax.data.scenes.conditions import Conditions, draw_conditions
from rejepa_jax.data.scenes.landscapes import Cover
from rejepa_jax.data.scenes.layout import ClassMap, draw_class_map, labels_of
from rejepa_jax.data.scenes.materials import MATERIAL_INDEX
from rejepa_jax.data.scenes.mixtures import Shares
from rejepa_jax.data.scenes.patterns import SIZE, Field, smooth_noise, turned
from rejepa_jax.data.scenes.radiometry import render_s1, render_s2
from rejepa_jax.data.scenes.surfaces import SURFACES

_WATERS = (Cover.INLAND_WATERS, Cover.MARINE_WATERS)


class Purpose(enum.IntEnum):
    """What random numbers are for; each purpose has its own stream at each place."""

    PLACE = 0
    CONTENT = 1
    CONDITIONS = 2
    RENDERING = 3


@dataclasses.dataclass(frozen=True)
class Scene:
    """What is on the ground: class and materials of each pixel, and how it rises."""

    class_map: ClassMap
    cover: Shares
    height: Field  # of trees and buildings, in pixels
    terrain: Field  # the lie of the land, unit variance

    @property
    def labels(self) -> tuple[int, ...]:
        """Indices of the classes that cover enough of the scene."""
        return labels_of(self.class_map)


def stream(seed: int, index: int, purpose: Purpose) -> np.random.Generator:
    """Returns the random numbers of one purpose at one place, whoever draws them and when."""
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence(seed, spawn_key=(index, purpose)))
    )


def _add_details(rng: np.random.Generator, cover: Shares, land: Bool[np.ndarray, "h w"]) -> None:
    """Adds what is too small to be mapped: farmsteads, ponds, copses, bare spots, a road."""
    spots = ["tile", "roof", "water", "broadleaf", "conifer", "sand", "mud"]
    for material in rng.choice(spots, size=rng.poisson(4)):
        along, across = turned(rng.uniform(0, np.pi))
        middle, half = rng.uniform(-SIZE / 2, SIZE / 2, 2), rng.uniform(0.7, 2.5, 2)
        spot = np.hypot((along - middle[0]) / half[0], (across - middle[1]) / half[1]) < 1
        cover[:, spot & land] = 0
        cover[MATERIAL_INDEX[material], spot & land] = 1
    if rng.random() < 0.5:
        _, across = turned(rng.uniform(0, np.pi))
        road = np.abs(across + 3 * smooth_noise(rng, 40.0) - rng.uniform(-40, 40)) < 0.6
        cover[:, road & land] *= 0.3
        cover[MATERIAL_INDEX["asphalt"], road & land] += 0.7


def draw_scene(seed: int, index: int, landscape: str) -> Scene:
    """Draws the content of scene `index`."""
    rng = stream(seed, index, Purpose.CONTENT)
    class_map = draw_class_map(rng, landscape)
    cover = np.zeros((len(MATERIAL_INDEX), SIZE, SIZE), np.float32)
    height = np.zeros((SIZE, SIZE), np.float32)
    for value in np.unique(class_map):
        here = (class_map == value).astype(np.float32)
        mixture, rise = SURFACES[Cover(value)](rng)
        for material, share in mixture.items():
            cover[MATERIAL_INDEX[material]] += here * share
        height += here * rise
    soil = MATERIAL_INDEX["soil"]
    cover[soil] += np.clip(1 - cover.sum(0), 0, None)
    cover /= cover.sum(0)
    _add_details(rng, cover, ~np.isin(class_map, _WATERS))
    return Scene(class_map, cover, height, smooth_noise(rng, 12.0))


def scene_conditions(seed: int, index: int, day: int) -> Conditions:
    """Draws the circumstances under which scene `index` is seen on a day of the year."""
    return draw_conditions(stream(seed, index, Purpose.CONDITIONS), day)


def render(seed: int, index: int, scene: Scene, conditions: Conditions) -> dict[str, np.ndarray]:
    """Renders every band of both sensors by name: S2 `B01` to `B12` uint16, S1 `VV VH` float32."""
    rng = stream(seed, index, Purpose.RENDERING)
    ground = (scene.cover, scene.height, scene.terrain, conditions)
    return render_s2(rng, *ground) | render_s1(rng, *ground)
