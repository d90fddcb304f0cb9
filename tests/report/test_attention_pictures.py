import base64
import io

import jax
import numpy as np
import pytest
from PIL import Image

from rejepa_jax.models.attention import attention_maps, last_attention, rollout
from rejepa_jax.report import attention

COLD, EVEN, HOT = ((68, 1, 84), (33, 145, 140), (253, 231, 37))  # viridis at 0, 1/2 and 1


def open_uri(uri):
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))), float)


def test_heat_is_the_models_attention_in_even_shares(bundle, records):
    one = bundle("target")
    (example,) = records.read_examples([6])
    picture, heats = attention.look(one, example.images["rgb"])
    np.testing.assert_array_equal(picture, example.images["rgb"])  # seen at its own size
    given = one.preprocess.inputs["rgb"]
    view = (example.images["rgb"][None] - np.array(given.mean)) / np.array(given.std)
    maps = jax.jit(attention_maps)(one.encoder, view.astype(np.float32))
    for kind, make in (("last layer", last_attention), ("roll-out", rollout)):
        expected = 16 * np.asarray(make(maps, False)).reshape(4, 4)
        np.testing.assert_allclose(heats[kind], expected, rtol=1e-4)
        np.testing.assert_allclose(heats[kind].mean(), 1, rtol=1e-5)


def test_image_is_shown_as_the_encoder_sees_it(bundle, records):
    (example,) = records.read_examples([6])
    picture, heats = attention.look(bundle("target", 16), example.images["rgb"])
    assert picture.shape == (16, 16, 3)
    assert heats["roll-out"].shape == (4, 4)
    expected = np.broadcast_to(example.images["rgb"][:1, :1], (16, 16, 3))
    np.testing.assert_array_equal(picture, expected)  # a flat colour stays what it is


def test_colours_say_how_many_even_shares():
    grey = np.full((6, 6, 3), 100, np.uint8)
    heat = np.array([[0.0, 0.125, 1.0, 1.0], [0.01, 0.1, 1, 1], [8, 8, 1, 1], [64, 9, 1, 1]])
    drawn = open_uri(attention.overlay(grey, np.kron(heat, np.ones((3, 3)))))
    assert drawn.shape == (192, 192, 3)
    for place, colour in (((48, 48), COLD), ((96, 144), EVEN), ((150, 48), HOT)):
        expected = 0.4 * 100 + 0.6 * np.array(colour)
        np.testing.assert_allclose(drawn[place], expected, atol=6)


def test_the_image_shows_through_in_grey():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    drawn = open_uri(attention.overlay(image, np.ones((4, 4))))
    np.testing.assert_allclose(
        drawn[:, 150:].mean((0, 1)) - drawn[:, :40].mean((0, 1)), 102, atol=4
    )


def test_every_encoder_and_kind_has_its_picture(bundle, records):
    bundles = {"one": bundle("target"), "other, at 16 px": bundle("untrained", 16)}
    (first, second) = attention.show_attention(bundles, records, np.array([5, 6]))
    expected = [(name, kind) for kind in ("last layer", "roll-out") for name in bundles]
    assert [(heat.encoder, heat.kind) for heat in first.heats] == expected
    assert first.picture.id == records.read_examples([5])[0].id
    assert first.picture.labels == records.schema.classes[:2]
    colour = records.read_examples([6])[0].images["rgb"][0, 0]
    np.testing.assert_allclose(open_uri(second.picture.uri).mean((0, 1)), colour, atol=4)
    for heat in (*first.heats, *second.heats):
        assert open_uri(heat.uri).shape == (192, 192, 3)


@pytest.mark.parametrize(
    ("place", "words"), [(0, "row 1, column 1 of 4"), (6, "row 2, column 3 of 4")]
)
def test_the_hottest_patch_is_named(place, words):
    shares = np.zeros(16)
    shares[place] = 3
    assert attention.HeatMap("x", "roll-out", shares.reshape(4, 4), "").peak == words


def test_legend_runs_through_the_colours_of_the_pictures():
    stops = (
        attention.ramp().removeprefix("linear-gradient(to right, ").removesuffix(")").split(", ")
    )
    rgb = [tuple(int(stop[i : i + 2], 16) for i in (1, 3, 5)) for stop in stops]
    np.testing.assert_allclose([rgb[0], rgb[4], rgb[8]], [COLD, EVEN, HOT], atol=1)
