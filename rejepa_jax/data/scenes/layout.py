"""Where each land cover lies in an invented scene, and so which labels the scene has."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from rejepa_jax.data.archives.bigearthnet.archive import CLASSES
from rejepa_jax.data.scenes.landscapes import LANDSCAPES, Cover
from rejepa_jax.data.scenes.patterns import COLUMNS, ROWS, SIZE, smooth_noise, turned

MIN_SHARE = 0.03  # of the scene: a class that covers less is drawn but is no label

ClassMap = UInt8[np.ndarray, "h w"]


def _warped(rng: np.random.Generator, amount: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns row and column coordinates bent by `amount` pixels of smooth noise."""
    bend = [np.float32(amount) * smooth_noise(rng, 20.0) for _ in range(2)]
    return ROWS + bend[0], COLUMNS + bend[1]


def _ground(rng: np.random.Generator, weights: dict[Cover, float]) -> ClassMap:
    """Divides the scene between one to five covers, along straight or winding boundaries."""
    share = np.array(list(weights.values())) / sum(weights.values())
    count = rng.choice(5, p=[0.1, 0.2, 0.35, 0.25, 0.1]) + 1
    kinds = rng.choice(list(weights), size=count, replace=False, p=share).astype(np.uint8)
    regions = count + int(rng.integers(0, 4))
    row, column = _warped(rng, rng.choice([1.0, 4.0, 8.0]))
    middles = rng.uniform(0, SIZE, (regions, 2, 1, 1)).astype(np.float32)
    nearest = np.argmin((row - middles[:, 0]) ** 2 + (column - middles[:, 1]) ** 2, axis=0)
    return kinds[np.arange(regions) % count][nearest]


def _add_river(rng: np.random.Generator, class_map: ClassMap) -> None:
    """Lays a winding river of 50 to 140 m across the scene."""
    along, across = turned(rng.uniform(0, np.pi))
    bends = rng.uniform(4, 14) * np.sin(along / rng.uniform(9, 22) + rng.uniform(0, 6))
    course = across + bends + 3 * smooth_noise(rng, 15.0) - rng.uniform(-30, 30)
    class_map[np.abs(course) < rng.uniform(2.5, 7)] = Cover.INLAND_WATERS


def _blob(rng: np.random.Generator, radius: tuple[float, float], bend: float) -> np.ndarray:
    """Returns a mask of one patch of ground with an irregular outline."""
    row, column = _warped(rng, bend)
    middle, size = rng.uniform(15, SIZE - 15, 2), rng.uniform(*radius)
    return np.hypot(row - middle[0], column - middle[1]) < size


def _add_lake(rng: np.random.Generator, class_map: ClassMap) -> None:
    """Lays one to three lakes into the scene."""
    for _ in range(rng.integers(1, 4)):
        class_map[_blob(rng, (12.0, 32.0), 8.0)] = Cover.INLAND_WATERS


def _add_town(rng: np.random.Generator, class_map: ClassMap) -> None:
    """Lays a town or village into the scene."""
    class_map[_blob(rng, (14.0, 40.0), 4.0)] = Cover.URBAN


def _add_works(rng: np.random.Generator, class_map: ClassMap) -> None:
    """Lays a straight-edged industrial estate into the scene."""
    along, across = turned(rng.uniform(0, np.pi))
    middle, half = rng.uniform(-35, 35, 2), rng.uniform(12, 30, 2)
    inside = (np.abs(along - middle[0]) < half[0]) & (np.abs(across - middle[1]) < half[1])
    class_map[inside] = Cover.INDUSTRIAL


def _add_coast(rng: np.random.Generator, class_map: ClassMap) -> None:
    """Lays the sea over one side, behind a beach, a salt marsh, both, or a bare shore."""
    _, across = turned(rng.uniform(0, 2 * np.pi))
    inland = across + rng.uniform(2, 9) * smooth_noise(rng, 24.0) + rng.uniform(-25, 35)
    width = np.float32(rng.uniform(7, 18)) + 4 * smooth_noise(rng, 24.0)
    shore = rng.choice(4, p=[0.35, 0.35, 0.2, 0.1])
    if shore in (1, 2):
        class_map[inland < rng.uniform(15, 40)] = Cover.COASTAL_WETLANDS
    if shore in (0, 2):
        class_map[inland < width] = Cover.BEACHES
    class_map[inland < 0] = Cover.MARINE_WATERS


_FEATURES: dict[str, Callable[[np.random.Generator, ClassMap], None]] = {
    "river": _add_river,
    "lake": _add_lake,
    "town": _add_town,
    "works": _add_works,
    "coast": _add_coast,
}


def draw_class_map(rng: np.random.Generator, landscape: str) -> ClassMap:
    """Draws which class each pixel belongs to, as an index into `CLASSES`."""
    plan = LANDSCAPES[landscape]
    class_map = _ground(rng, plan.ground)
    for feature, chance in plan.features.items():
        if rng.random() < chance:
            _FEATURES[feature](rng, class_map)
    return class_map


def labels_of(class_map: ClassMap) -> tuple[int, ...]:
    """Returns the classes that cover at least `MIN_SHARE` of the scene."""
    share = np.bincount(class_map.ravel(), minlength=len(CLASSES)) / class_map.size
    return tuple(np.flatnonzero(share >= MIN_SHARE).tolist())
