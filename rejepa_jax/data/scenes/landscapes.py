"""The landscapes that invented scenes lie in: which land covers share the ground of each."""

import dataclasses
import enum


class Cover(enum.IntEnum):
    """The 19 classes of BigEarthNet; a value is the index of the full name in `CLASSES`."""

    AGRO_FORESTRY = 0
    ARABLE = 1
    BEACHES = 2
    BROAD_LEAVED = 3
    COASTAL_WETLANDS = 4
    COMPLEX_CULTIVATION = 5
    CONIFEROUS = 6
    INDUSTRIAL = 7
    INLAND_WATERS = 8
    INLAND_WETLANDS = 9
    NATURAL_AGRICULTURE = 10
    MARINE_WATERS = 11
    MIXED_FOREST = 12
    MOORS = 13
    NATURAL_GRASSLAND = 14
    PASTURES = 15
    PERMANENT_CROPS = 16
    TRANSITIONAL = 17
    URBAN = 18


@dataclasses.dataclass(frozen=True)
class Landscape:
    """Which covers share the ground, by weight, and what is laid over them, by chance."""

    ground: dict[Cover, float]
    features: dict[str, float]


LANDSCAPES = {
    "plain": Landscape(
        {
            Cover.ARABLE: 4.0,
            Cover.NATURAL_AGRICULTURE: 2.0,
            Cover.COMPLEX_CULTIVATION: 2.0,
            Cover.PASTURES: 2.0,
            Cover.BROAD_LEAVED: 2.0,
            Cover.MIXED_FOREST: 1.0,
            Cover.PERMANENT_CROPS: 0.4,
        },
        {"river": 0.15, "town": 0.4},
    ),
    "bocage": Landscape(
        {
            Cover.PASTURES: 3.0,
            Cover.NATURAL_AGRICULTURE: 2.5,
            Cover.ARABLE: 2.0,
            Cover.MIXED_FOREST: 1.5,
            Cover.BROAD_LEAVED: 1.0,
            Cover.TRANSITIONAL: 1.0,
        },
        {"lake": 0.15, "town": 0.25},
    ),
    "orchards": Landscape(
        {
            Cover.PERMANENT_CROPS: 2.0,
            Cover.COMPLEX_CULTIVATION: 2.0,
            Cover.ARABLE: 2.0,
            Cover.NATURAL_AGRICULTURE: 1.5,
            Cover.BROAD_LEAVED: 1.5,
            Cover.NATURAL_GRASSLAND: 0.5,
        },
        {"river": 0.1, "town": 0.3},
    ),
    "montado": Landscape(
        {
            Cover.AGRO_FORESTRY: 4.0,
            Cover.ARABLE: 1.5,
            Cover.BROAD_LEAVED: 1.5,
            Cover.TRANSITIONAL: 1.5,
            Cover.PERMANENT_CROPS: 0.7,
            Cover.MOORS: 0.7,
        },
        {"lake": 0.15},
    ),
    "forest": Landscape(
        {
            Cover.CONIFEROUS: 3.0,
            Cover.MIXED_FOREST: 3.0,
            Cover.TRANSITIONAL: 2.5,
            Cover.BROAD_LEAVED: 1.5,
            Cover.NATURAL_AGRICULTURE: 1.0,
            Cover.INLAND_WETLANDS: 0.7,
        },
        {"lake": 0.25, "river": 0.1},
    ),
    "upland": Landscape(
        {
            Cover.TRANSITIONAL: 2.0,
            Cover.MOORS: 1.5,
            Cover.NATURAL_GRASSLAND: 1.5,
            Cover.CONIFEROUS: 1.5,
            Cover.PASTURES: 1.5,
            Cover.INLAND_WETLANDS: 1.0,
            Cover.MIXED_FOREST: 1.0,
        },
        {"lake": 0.2, "river": 0.1},
    ),
    "city": Landscape(
        {
            Cover.URBAN: 4.0,
            Cover.ARABLE: 1.5,
            Cover.COMPLEX_CULTIVATION: 1.5,
            Cover.INDUSTRIAL: 1.2,
            Cover.BROAD_LEAVED: 1.0,
            Cover.PASTURES: 1.0,
        },
        {"river": 0.25, "works": 0.3},
    ),
    "coast": Landscape(
        {
            Cover.ARABLE: 1.5,
            Cover.PASTURES: 1.0,
            Cover.NATURAL_AGRICULTURE: 1.0,
            Cover.CONIFEROUS: 1.0,
            Cover.MOORS: 1.0,
            Cover.URBAN: 1.0,
        },
        {"coast": 1.0, "works": 0.1},
    ),
}
