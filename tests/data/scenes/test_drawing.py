"""Invented scenes: labels follow from what is drawn, and conditions do not touch them."""

import re

import numpy as np
import pytest

from rejepa_jax.data.archives.bigearthnet import archive as bigearthnet
from rejepa_jax.data.scenes import drawing
from rejepa_jax.data.scenes.landscapes import LANDSCAPES, Cover
from rejepa_jax.data.scenes.layout import draw_class_map, labels_of
from rejepa_jax.data.scenes.materials import MATERIAL_INDEX, spectra
from rejepa_jax.data.scenes.patterns import slope_towards, trees
from rejepa_jax.data.scenes.places import place_of
from rejepa_jax.data.scenes.surfaces import SURFACES
from rejepa_jax.data.sensors import SENSORS


@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_labels_are_what_covers_three_percent(landscape):
    scene = drawing.draw_scene(0, 3, landscape)
    covered = [c for c in range(19) if (scene.class_map == c).sum() >= 0.03 * 120 * 120]
    assert scene.labels == tuple(covered)


def test_a_class_below_three_percent_is_no_label():
    class_map = np.full((120, 120), Cover.PASTURES, np.uint8)
    class_map[0, :] = Cover.URBAN  # 0.8 %
    class_map[1:5, :108] = Cover.ARABLE  # 3 % exactly
    assert labels_of(class_map) == (Cover.ARABLE, Cover.PASTURES)


def test_cover_names_are_short_for_the_classes():
    assert [cover.value for cover in Cover] == list(range(len(bigearthnet.CLASSES)))
    for cover in Cover:
        first = re.split("[_ ]", cover.name)[0].capitalize()
        name = bigearthnet.CLASSES[cover]
        assert first in name or cover is Cover.NATURAL_AGRICULTURE


def test_all_classes_occur_often_enough():
    """Each of the 19 in at least 2 % of the patches that an archive would hold."""
    seen = np.zeros(19)
    for index in range(600):
        rng = drawing.stream(1, index, drawing.Purpose.PLACE)
        landscape = str(rng.choice(place_of("train", index, 0).tile.landscapes))
        content = drawing.stream(1, index, drawing.Purpose.CONTENT)
        seen[list(labels_of(draw_class_map(content, landscape)))] += 1
    assert (seen / 600).min() >= 0.02


def test_the_sea_lies_only_in_coastal_landscapes():
    for landscape, plan in LANDSCAPES.items():
        labels = {label for i in range(10) for label in drawing.draw_scene(2, i, landscape).labels}
        assert (Cover.MARINE_WATERS in labels) == ("coast" in plan.features)


def test_conditions_change_pixels_and_not_labels():
    scene = drawing.draw_scene(0, 1, "plain")
    seen = [drawing.render(0, 1, scene, drawing.scene_conditions(seed, 1, 170)) for seed in (0, 1)]
    assert abs(np.log(seen[0]["B08"].mean() / seen[1]["B08"].mean())) > 0.05
    assert drawing.draw_scene(0, 1, "plain").labels == scene.labels
    np.testing.assert_array_equal(drawing.draw_scene(0, 1, "plain").cover, scene.cover)


def test_every_pixel_is_made_of_something_whole():
    for index, landscape in enumerate(LANDSCAPES):
        cover = drawing.draw_scene(4, index, landscape).cover
        np.testing.assert_allclose(cover.sum(0), 1, atol=1e-5)
        assert cover.min() >= 0


def test_each_surface_draws_its_own_ground():
    for cover, draw in SURFACES.items():
        mixture, height = draw(np.random.default_rng(0))
        assert height.shape == (120, 120), cover
        assert mixture.keys() <= MATERIAL_INDEX.keys()
        total = sum(np.asarray(share) for share in mixture.values())
        assert np.min(total) >= 0, cover
        assert np.max(total) < 1.4, cover  # the rest is scaled down, what is missing is soil


def test_seasons_turn_fields_and_broad_leaved_trees():
    summer, winter = spectra(200.0), spectra(15.0)
    names = SENSORS["s2"].band_names
    red, near_infrared = names.index("B04"), names.index("B08")
    for material in ("summer_crop", "broadleaf"):
        index = MATERIAL_INDEX[material]
        contrast = [t[index, near_infrared] / t[index, red] for t in (summer, winter)]
        assert contrast[0] > 3 * contrast[1]
    index = MATERIAL_INDEX["conifer"]
    np.testing.assert_array_equal(summer[index], winter[index])


def test_slope_towards_the_sun():
    height = np.zeros((120, 120), np.float32)
    height[60, 60] = 1
    south = slope_towards(height, np.pi)
    assert south[60, 60] == pytest.approx(1)  # falls to the south: lit from there
    assert south[59, 60] == pytest.approx(-1)  # the pixel behind it lies in its shadow
    assert np.abs(slope_towards(height, np.pi / 2)[60, 59:61]) == pytest.approx([1, 1])


def test_trees_stand_on_a_lattice():
    crowns = trees(np.random.default_rng(0), spacing=8.0, radius=0.8, jitter=0.0)
    stems = (crowns[1:-1, 1:-1] > 0.9).sum()
    assert stems == pytest.approx((120 / 8) ** 2, rel=0.15)
