"""What the ground of each class looks like: which materials stand where, and how high.

A surface is drawn over the whole scene and shown where its class lies. Seasons, light and haze
are no part of it.
"""

from collections.abc import Callable

import numpy as np

from rejepa_jax.data.scenes.landscapes import Cover
from rejepa_jax.data.scenes.mixtures import FLAT, Surface, draw_fields, of_parcel, overgrown
from rejepa_jax.data.scenes.patterns import (
    borders,
    clumps,
    parcels,
    rough_noise,
    smooth_noise,
    trees,
    turned,
)


def _arable(rng: np.random.Generator) -> Surface:
    crops = ("winter_crop", "summer_crop", "winter_crop", "straw")
    return draw_fields(rng, (30.0, 70.0), (12.0, 30.0), crops[: rng.integers(2, 5)], 0.35)


def _complex_cultivation(rng: np.random.Generator) -> Surface:
    crops = ("winter_crop", "summer_crop", "grass", "shrub", "straw", "broadleaf")
    return draw_fields(rng, (7.0, 16.0), (4.0, 8.0), crops, 0.15)


def _natural_agriculture(rng: np.random.Generator) -> Surface:
    crops = ("winter_crop", "summer_crop", "grass")
    fields = draw_fields(rng, (16.0, 34.0), (8.0, 18.0), crops, 0.25)
    patches = np.clip(3 * (smooth_noise(rng, 9.0) - 0.25), 0, 1)
    return overgrown(fields, patches, _broad_leaved(rng))


def _pastures(rng: np.random.Generator) -> Surface:
    plot, _, _ = parcels(rng, (35.0, 70.0), (25.0, 45.0))
    grazed = of_parcel(plot, rng.uniform(0.75, 1, plot.max() + 1)) + 0.03 * smooth_noise(rng, 12.0)
    hedge = borders(plot) * (smooth_noise(rng, 8.0) > rng.uniform(-1, 1))
    return overgrown(({"grass": np.clip(grazed, 0, 1)}, FLAT), hedge, ({"broadleaf": 0.9}, hedge))


def _permanent_crops(rng: np.random.Generator) -> Surface:
    plot, along, across = parcels(rng, (22.0, 45.0), (16.0, 35.0))
    count = plot.max() + 1
    pitch = of_parcel(plot, 2 * np.pi / rng.uniform(3.2, 5.2, count))
    turn = (rng.random(count) < 0.5)[plot]
    line = 0.5 + 0.5 * np.cos(pitch * np.where(turn, along, across))
    dot = line * (0.5 + 0.5 * np.cos(pitch * np.where(turn, across, along)))
    crown = np.where((rng.random(count) < rng.uniform(0, 1))[plot], dot, line * line)
    crown = crown * of_parcel(plot, rng.uniform(0.6, 1, count))
    plant, under = rng.choice(["broadleaf", "shrub"]), rng.choice(["grass", "straw", "soil"])
    below: Surface = ({under: of_parcel(plot, rng.uniform(0.4, 1, count))}, FLAT)
    return overgrown(below, crown, ({plant: 1.0}, 0.8 * crown))


def _agro_forestry(rng: np.random.Generator) -> Surface:
    crops = ("grass", "winter_crop", "straw")
    fields = draw_fields(rng, (50.0, 90.0), (35.0, 60.0), crops, 0.05)
    crown = trees(rng, rng.uniform(6, 9), 1.1, 0.17)
    return overgrown(fields, crown, ({"broadleaf": 0.5, "shrub": 0.5}, 1.5 * crown))


def _broad_leaved(rng: np.random.Generator) -> Surface:
    crown = clumps(rng, rng.uniform(1.5, 2.1))
    cover = np.clip(0.93 + 0.06 * crown, 0, 1)
    return {"broadleaf": cover}, 1.2 * np.maximum(crown, -0.7)


def _coniferous(rng: np.random.Generator) -> Surface:
    plot, _, _ = parcels(rng, (25.0, 60.0), (18.0, 40.0))
    age = of_parcel(plot, rng.uniform(0.5, 1, plot.max() + 1))
    crown = clumps(rng, 0.6)
    return {"conifer": np.clip(0.75 + 0.2 * age + 0.08 * crown, 0, 1)}, 0.75 * age * crown


def _mixed_forest(rng: np.random.Generator) -> Surface:
    stands = np.clip(4 * smooth_noise(rng, rng.uniform(5, 8)) + 0.5, 0, 1)
    return overgrown(_broad_leaved(rng), stands, _coniferous(rng))


def _transitional(rng: np.random.Generator) -> Surface:
    scrub = np.clip(0.35 + 0.25 * smooth_noise(rng, 7.0), 0, 1)
    crown = trees(rng, rng.uniform(3.5, 5), 0.85, 0.5) * (smooth_noise(rng, 14.0) > -0.7)
    ground: Surface = ({"shrub": scrub, "grass": 0.9 * (1 - scrub)}, FLAT)
    return overgrown(ground, crown, ({rng.choice(["broadleaf", "conifer"]): 1.0}, 1.3 * crown))


def _moors(rng: np.random.Generator) -> Surface:
    heather = np.clip(0.6 + 0.45 * smooth_noise(rng, rng.uniform(3, 6)), 0, 1)
    return {"shrub": heather, "grass": 0.8 * (1 - heather)}, 0.4 * heather


def _natural_grassland(rng: np.random.Generator) -> Surface:
    rough = rough_noise(rng)
    sward = np.clip(rng.uniform(0.45, 0.85) + 0.22 * rough, 0, 1)
    return {"grass": sward, "sand": 0.3 * (1 - sward)}, 0.35 * rough


def _inland_wetlands(rng: np.random.Generator) -> Surface:
    along, _ = turned(rng.uniform(0, np.pi))
    strings = np.sin(along / rng.uniform(1.2, 2.0) + 1.6 * smooth_noise(rng, 12.0))
    wet = smooth_noise(rng, 4.0) + 0.7 * strings
    pool = np.clip(2.5 * (wet - 0.5), 0, 1)
    moss = np.clip(0.5 - 0.3 * wet, 0, 1)
    bog: Surface = ({"reed": 0.85 - 0.7 * moss, "shrub": 0.7 * moss, "mud": 0.15}, FLAT)
    return overgrown(bog, pool, ({"water": 0.9, "mud": 0.1}, FLAT))


def _coastal_wetlands(rng: np.random.Generator) -> Surface:
    # The zero lines of noise branch and meander as tidal creeks do.
    wide = np.clip(1.6 - 5 * np.abs(smooth_noise(rng, 16.0)), 0, 1)
    narrow = np.clip(1.2 - 4 * np.abs(smooth_noise(rng, 6.0)), 0, 1)
    creek = np.maximum(wide, 0.8 * narrow)
    marsh = np.clip(0.75 + 0.15 * smooth_noise(rng, 8.0), 0, 1)
    ground: Surface = ({"reed": marsh, "mud": 1 - marsh}, FLAT)
    return overgrown(ground, creek, ({"sea": wide, "mud": 1 - wide}, FLAT))


def _inland_waters(rng: np.random.Generator) -> Surface:
    mud = np.clip(0.05 + 0.04 * smooth_noise(rng, 20.0), 0, 1)
    return {"water": 1 - mud, "mud": mud}, FLAT


def _marine_waters(rng: np.random.Generator) -> Surface:
    along, _ = turned(rng.uniform(0, np.pi))
    swell = np.sin(along / rng.uniform(0.7, 1.4) + 1.2 * smooth_noise(rng, 18.0))
    foam = np.clip(rng.uniform(0, 0.05) * (1 + swell + 0.6 * smooth_noise(rng, 3.0)), 0, 1)
    return {"sea": 1 - foam, "sand": foam}, (0.15 * swell).astype(np.float32)


def _beaches(rng: np.random.Generator) -> Surface:
    along, _ = turned(rng.uniform(0, np.pi))
    ripple = np.sin(along / rng.uniform(0.7, 1.3) + 2 * smooth_noise(rng, 16.0))
    tuft = np.clip(0.6 * (smooth_noise(rng, 4.0) - rng.uniform(0.3, 1.5)), 0, 0.7)
    return {"sand": 1 - tuft, "grass": tuft}, 0.3 * ripple.astype(np.float32)


def _urban(rng: np.random.Generator) -> Surface:
    # A street net whose blocks hold two-pixel roofs, gardens and yards.
    block, street = rng.uniform((8, 12), (12, 20)), rng.uniform(1.2, 2.0)
    bend = [2.5 * smooth_noise(rng, 40.0) for _ in range(2)]
    along, across = turned(rng.uniform(0, np.pi))
    along, across = along + bend[0] + 200, across + bend[1] + 200
    road = (along % block[0] < street) | (across % block[1] < street)
    cell = (along // 2).astype(np.int64) * 200 + (across // 2).astype(np.int64)
    kind = rng.choice(4, size=200 * 200, p=[0.3, 0.15, 0.4, 0.15])[cell]
    built = ~road & (kind < 2)
    mixture = {
        "tile": 0.85 * (~road & (kind == 0)),
        "roof": 0.85 * (~road & (kind == 1)),
        "asphalt": 0.9 * road + 0.1 * ~road,
        "grass": 0.85 * (~road & (kind == 2)),
        "broadleaf": 0.85 * (~road & (kind == 3)),
    }
    return mixture, 0.8 * built.astype(np.float32)


def _industrial(rng: np.random.Generator) -> Surface:
    along, across = turned(rng.uniform(0, np.pi))
    pitch = rng.uniform(18, 30, 2)
    halls = np.floor((along + 200) / pitch[0]), np.floor((across + 200) / pitch[1])
    cell = (halls[0] * 40 + halls[1]).astype(np.int64)
    u = np.abs((along + 200) / pitch[0] - halls[0] - 0.5)
    v = np.abs((across + 200) / pitch[1] - halls[1] - 0.5)
    size = rng.uniform(0.2, 0.42, (2, 1600)).astype(np.float32)
    hall = (u < size[0][cell]) & (v < size[1][cell])
    bright = of_parcel(cell, rng.choice([0.15, 0.6, 1.0], 1600)) * hall
    lawn = 0.9 * (~hall & (smooth_noise(rng, 6.0) > 0.9))
    yard = (1 - lawn) * ~hall
    mixture = {"roof": bright, "asphalt": yard + 0.9 * (hall - bright), "grass": lawn}
    return mixture, 1.2 * hall.astype(np.float32)


SURFACES: dict[Cover, Callable[[np.random.Generator], Surface]] = {
    Cover.AGRO_FORESTRY: _agro_forestry,
    Cover.ARABLE: _arable,
    Cover.BEACHES: _beaches,
    Cover.BROAD_LEAVED: _broad_leaved,
    Cover.COASTAL_WETLANDS: _coastal_wetlands,
    Cover.COMPLEX_CULTIVATION: _complex_cultivation,
    Cover.CONIFEROUS: _coniferous,
    Cover.INDUSTRIAL: _industrial,
    Cover.INLAND_WATERS: _inland_waters,
    Cover.INLAND_WETLANDS: _inland_wetlands,
    Cover.NATURAL_AGRICULTURE: _natural_agriculture,
    Cover.MARINE_WATERS: _marine_waters,
    Cover.MIXED_FOREST: _mixed_forest,
    Cover.MOORS: _moors,
    Cover.NATURAL_GRASSLAND: _natural_grassland,
    Cover.PASTURES: _pastures,
    Cover.PERMANENT_CROPS: _permanent_crops,
    Cover.TRANSITIONAL: _transitional,
    Cover.URBAN: _urban,
}
