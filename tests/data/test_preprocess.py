import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rejepa_jax.config import Augment
from rejepa_jax.data import preprocess
from rejepa_jax.data.preprocess import Preprocess, SensorInput

rng = np.random.default_rng(8)
PIXELS = rng.integers(1, 3000, (4, 16, 16, 3)).astype(np.uint16)
MISSING = np.where(rng.random(PIXELS.shape) < 0.1, 0, PIXELS).astype(np.uint16)
FLOATS = jnp.asarray(rng.normal(size=(3, 16, 16, 2)), jnp.float32)
INPUT = SensorInput((0, 1, 2), (1000.0, 1500.0, 2000.0), (500.0, 700.0, 900.0), 0.0)
WHOLE = jnp.array([[0.0, 0.0, 1.0, 1.0]])


random_boxes = jax.jit(preprocess.random_boxes, static_argnums=(1, 2, 3))


def boxes(*box, batch=3):
    return jnp.tile(jnp.array([box], jnp.float32), (batch, 1))


@pytest.fixture(scope="module")
def resample():
    return jax.jit(preprocess.resample, static_argnums=2)


def pillow(image, size, box):
    """Bicubic with antialiasing of a part of [h w c], band by band."""
    h, w, _ = image.shape
    top, left, height, width = box
    edges = (left * w, top * h, (left + width) * w, (top + height) * h)
    bands = [Image.fromarray(np.asarray(band)) for band in np.moveaxis(image, -1, 0)]
    parts = [band.resize((size, size), Image.Resampling.BICUBIC, box=edges) for band in bands]
    return np.stack([np.asarray(part) for part in parts], axis=-1)


# --- values


def test_standardised_by_hand_with_a_missing_pixel():
    image = jnp.array([[[[1500, 0, 200], [0, 700, 2000]]]], jnp.uint16)
    given = SensorInput((2, 0), mean=(1000.0, 500.0), std=(500.0, 250.0), nodata=0.0)
    scaled = preprocess.standardise(image, given)
    assert scaled.dtype == jnp.float32
    # Bands 2 and 0: (200 - 1000) / 500, (1500 - 500) / 250; then (2000 - 1000) / 500, no data.
    np.testing.assert_allclose(scaled, [[[[-1.6, 4.0], [2.0, 0.0]]]], rtol=1e-6)


def test_without_a_missing_value_zero_is_a_value():
    given = SensorInput((0,), mean=(-10.0,), std=(4.0,), nodata=None)
    scaled = preprocess.standardise(jnp.array([[[[0.0], [-18.0]]]]), given)
    np.testing.assert_allclose(scaled, [[[[2.5], [-2.0]]]])


def test_image_without_any_measurement_becomes_the_mean():
    scaled = preprocess.standardise(jnp.zeros((1, 4, 4, 3), jnp.uint16), INPUT)
    np.testing.assert_array_equal(scaled, 0)


def test_each_image_by_its_own_statistics_where_none_are_given():
    given = SensorInput((2, 0), (), (), 0.0)
    scaled = preprocess.standardise(jnp.asarray(MISSING), given)
    for image, got in zip(MISSING.astype(np.float64), scaled, strict=True):
        for place, band in enumerate((2, 0)):
            known = image[..., band] != 0
            values = image[..., band][known]
            assert not known.all()
            expected = np.where(known, (image[..., band] - values.mean()) / values.std(), 0)
            np.testing.assert_allclose(got[..., place], expected, atol=1e-5)


def test_own_statistics_of_an_image_without_contrast_or_measurement_are_finite():
    given = SensorInput((0,), (), (), 0.0)
    flat = jnp.full((1, 4, 4, 1), 7, jnp.uint16).at[0, 0, 0].set(0)
    for image in (flat, jnp.zeros_like(flat)):
        np.testing.assert_array_equal(preprocess.standardise(image, given), 0)


# --- plain view


def test_plain_view_at_equal_size_is_only_standardised():
    view = preprocess.plain_view({"s2": jnp.asarray(PIXELS)}, Preprocess(16, {"s2": INPUT}))
    expected = (PIXELS - np.array(INPUT.mean)) / np.array(INPUT.std)
    np.testing.assert_allclose(view["s2"], expected, atol=1e-6)


def test_plain_view_is_the_standardised_whole_image_resampled():
    spec = Preprocess(24, {"s2": INPUT})
    got = jax.jit(lambda images: preprocess.plain_view(images, spec))({"s2": PIXELS})["s2"]
    scaled = ((PIXELS - np.array(INPUT.mean)) / np.array(INPUT.std)).astype(np.float32)
    expected = [pillow(image, 24, (0, 0, 1, 1)) for image in scaled]
    np.testing.assert_allclose(got, expected, atol=2e-5)


# --- resampling


def test_whole_image_at_equal_size_is_itself(resample):
    np.testing.assert_allclose(resample(FLOATS, boxes(0, 0, 1, 1), 16), FLOATS, atol=1e-6)


@pytest.mark.parametrize("size", [24, 40, 10])  # up by 1.5 and 2.5, down with antialiasing
def test_whole_image_equals_pillows_bicubic(resample, size):
    expected = [pillow(np.asarray(image), size, (0, 0, 1, 1)) for image in FLOATS]
    np.testing.assert_allclose(resample(FLOATS, boxes(0, 0, 1, 1), size), expected, atol=2e-5)


def test_whole_image_equals_jaxs_own_resize(resample):
    expected = jax.image.resize(FLOATS, (3, 24, 24, 2), "cubic")
    np.testing.assert_allclose(resample(FLOATS, boxes(0, 0, 1, 1), 24), expected, atol=1e-5)


def test_box_on_pixel_edges_is_a_slice(resample):
    # Rows 4 to 12 and columns 8 to 16 of 16.
    crop = resample(FLOATS, boxes(0.25, 0.5, 0.5, 0.5), 8)
    np.testing.assert_allclose(crop, FLOATS[:, 4:12, 8:16], atol=1e-5)


def test_box_between_pixels_equals_pillows(resample):
    box = (0.13, 0.29, 0.61, 0.47)  # its sides differ, so the axes cannot be mixed up
    expected = [pillow(np.asarray(image), 16, box) for image in FLOATS]
    np.testing.assert_allclose(resample(FLOATS, boxes(*box), 16), expected, atol=5e-5)


def test_each_image_has_its_own_box(resample):
    places = jnp.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]])
    crops = resample(FLOATS, places, 8)
    np.testing.assert_allclose(crops[0], FLOATS[0, :8, :8], atol=1e-5)
    np.testing.assert_allclose(crops[1], FLOATS[1, 8:, :8], atol=1e-5)
    np.testing.assert_allclose(crops[2], FLOATS[2, 8:, 8:], atol=1e-5)


def test_constant_image_stays_constant_up_to_its_edges(resample):
    crop = resample(jnp.full((3, 16, 16, 1), 7.0), boxes(0, 0, 0.7, 0.9), 24)
    np.testing.assert_allclose(crop, 7, rtol=1e-5)


# --- crops


def test_boxes_have_the_asked_area_and_ratio_and_lie_inside(key):
    top, left, height, width = random_boxes(key, 4096, (0.2, 0.5), (0.75, 4 / 3)).T
    area, ratio = height * width, width / height
    assert 0.2 - 1e-6 <= area.min() < 0.205
    assert 0.495 < area.max() <= 0.5 + 1e-6
    assert 0.75 - 1e-5 <= ratio.min() < 0.755
    assert 1.325 < ratio.max() <= 4 / 3 + 1e-5
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + height).max() <= 1 + 1e-6
    assert (left + width).max() <= 1 + 1e-6


def test_boxes_are_drawn_evenly(key):
    top, left, height, width = np.asarray(random_boxes(key, 4096, (0.2, 0.5), (0.75, 4 / 3))).T
    # Means of uniform draws, within four deviations: spread / sqrt(12 * 4096).
    assert abs((height * width).mean() - 0.35) < 4 * 0.3 / np.sqrt(12 * 4096)
    for place in (top / (1 - height), left / (1 - width)):
        assert abs(place.mean() - 0.5) < 4 / np.sqrt(12 * 4096)
    spread = np.log(16 / 9)
    assert abs(np.log(width / height).mean()) < 4 * spread / np.sqrt(12 * 4096)


def test_no_box_reaches_over_the_edge_however_long(key):
    top, left, height, width = random_boxes(key, 512, (0.8, 1.0), (0.5, 2.0)).T
    assert height.max() <= 1
    assert width.max() <= 1
    assert (top + height).max() <= 1 + 1e-6
    assert (left + width).max() <= 1 + 1e-6


# --- flips and turns


def dihedral(image):
    return [
        turned for k in range(4) for turned in (np.rot90(image, k), np.rot90(image, k)[:, ::-1])
    ]


def test_eight_turns_are_the_eight_ways_to_lay_a_tile_down():
    image = jnp.tile(FLOATS[:1], (8, 1, 1, 1))
    turns = jnp.array([[bool(n & 1), bool(n & 2), bool(n & 4)] for n in range(8)])
    got = {np.asarray(turned).tobytes() for turned in preprocess.apply_turns(image, turns)}
    expected = {
        np.ascontiguousarray(turned).tobytes() for turned in dihedral(np.asarray(FLOATS[0]))
    }
    assert got == expected
    assert len(got) == 8


def drawn(key, augment):
    """Which of the eight ways come up in 256 draws."""
    turns = preprocess.random_turns(key, 256, augment)
    kinds = jnp.unique(turns, axis=0)
    image = jnp.tile(FLOATS[:1], (len(kinds), 1, 1, 1))
    return {np.asarray(turned).tobytes() for turned in preprocess.apply_turns(image, kinds)}


@pytest.mark.parametrize(("rotate", "count"), [(False, 4), (True, 8)])
def test_flips_reach_four_ways_and_turns_all_eight(key, rotate, count):
    assert len(drawn(key, Augment(flip=True, rotate=rotate))) == count


def test_without_flip_and_turn_nothing_moves(key):
    assert drawn(key, Augment(flip=False)) == {np.asarray(FLOATS[0]).tobytes()}


def test_quarter_turns_alone_mirror_nothing(key):
    turned = {np.ascontiguousarray(np.rot90(FLOATS[0], k)).tobytes() for k in range(4)}
    assert drawn(key, Augment(flip=False, rotate=True)) == turned


def test_turns_are_drawn_evenly(key):
    turns = np.asarray(preprocess.random_turns(key, 8000, Augment(rotate=True)))
    counts = np.bincount(turns @ np.array([1, 2, 4]), minlength=8)
    assert ((counts - 1000) ** 2 / 1000).sum() < 24.3  # chi-square of 7: one draw in a thousand


# --- radiometry


def test_no_gain_and_no_offset_change_nothing(key):
    assert preprocess.change_radiometry(key, FLOATS, Augment()) is FLOATS


def changes(key, **settings):
    """What one image of ones and one of zeros become: gains and shifts, image by band."""
    augment = Augment(**settings)
    gain = preprocess.change_radiometry(key, jnp.ones((3, 8, 8, 2)), augment)
    shift = preprocess.change_radiometry(key, jnp.zeros((3, 8, 8, 2)), augment)
    for changed in (gain, shift):
        np.testing.assert_array_equal(changed, jnp.broadcast_to(changed[:, :1, :1], changed.shape))
    return np.asarray(gain[:, 0, 0] - shift[:, 0, 0]), np.asarray(shift[:, 0, 0])


def test_gain_multiplies_each_image_by_a_number_of_its_own(key):
    gain, shift = changes(key, gain=0.2)
    assert (shift == 0).all()
    assert (gain > 0).all()
    np.testing.assert_array_equal(gain[:, 0], gain[:, 1])
    assert len(np.unique(gain)) == 3


def test_band_gain_multiplies_each_band_of_each_image_by_a_number_of_its_own(key):
    gain, shift = changes(key, band_gain=0.2)
    assert (shift == 0).all()
    assert (gain > 0).all()
    assert len(np.unique(gain)) == 6


def test_offset_shifts_each_image_by_a_number_of_its_own(key):
    gain, shift = changes(key, offset=0.2)
    np.testing.assert_allclose(gain, 1, atol=1e-6)
    np.testing.assert_array_equal(shift[:, 0], shift[:, 1])
    assert len(np.unique(shift)) == 3


def test_band_offset_shifts_each_band_of_each_image_by_a_number_of_its_own(key):
    gain, shift = changes(key, band_offset=0.2)
    np.testing.assert_allclose(gain, 1, atol=1e-6)
    assert len(np.unique(shift)) == 6


def test_gains_multiply_and_offsets_add_up(key):
    whole, bands = changes(key, gain=0.2, offset=0.3), changes(key, band_gain=0.1, band_offset=0.5)
    gain, shift = changes(key, gain=0.2, offset=0.3, band_gain=0.1, band_offset=0.5)
    np.testing.assert_allclose(gain, whole[0] * bands[0], rtol=1e-5)
    np.testing.assert_allclose(shift, whole[1] + bands[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("setting", ["gain", "offset", "band_gain", "band_offset"])
def test_radiometry_has_the_asked_spread(key, setting):
    augment = Augment(**{setting: 0.3})
    ones = preprocess.change_radiometry(key, jnp.ones((4000, 1, 1, 1)), augment)
    values = jnp.log(ones) if "gain" in setting else ones - 1
    assert abs(float(values.mean())) < 4 * 0.3 / np.sqrt(4000)
    assert float(values.std()) == pytest.approx(0.3, rel=4 / np.sqrt(2 * 4000))


# --- random view

TWO = Preprocess(
    12,
    {
        "a": SensorInput((0, 1), (0.0, 0.0), (1.0, 1.0), None),
        "b": SensorInput((0, 1), (0.0, 0.0), (1.0, 1.0), None),
    },
)
CROPS = Augment(crop_scale=(0.3, 0.9), flip=True, rotate=True)


def random_view(images, spec, augment, key):
    return jax.jit(lambda images, key: preprocess.random_view(images, spec, augment, key))(
        images, key
    )


def test_all_sensors_of_a_place_are_cropped_and_turned_alike(key):
    view = random_view({"a": FLOATS, "b": FLOATS}, TWO, CROPS, key)
    np.testing.assert_array_equal(view["a"], view["b"])


def test_sensors_of_other_resolution_are_cropped_alike(key):
    coarse = FLOATS[:, ::2, ::2]
    fine = jnp.repeat(jnp.repeat(coarse, 2, axis=1), 2, axis=2)
    view = random_view({"a": fine, "b": coarse}, TWO, CROPS, key)
    correlation = np.corrcoef(np.ravel(view["a"]), np.ravel(view["b"]))[0, 1]
    assert correlation > 0.9


def test_sensors_change_their_radiometry_independently(key):
    augment = Augment(offset=0.5, flip=False)
    view = random_view({"a": FLOATS, "b": FLOATS}, TWO, augment, key)
    assert np.abs(view["a"] - view["b"]).min() > 1e-4


def test_without_augmentation_the_random_view_is_the_plain_one(key):
    images = {"s2": jnp.asarray(PIXELS)}
    spec = Preprocess(24, {"s2": INPUT})
    view = random_view(images, spec, Augment(flip=False), key)
    plain = jax.jit(lambda images: preprocess.plain_view(images, spec))(images)
    np.testing.assert_array_equal(view["s2"], plain["s2"])


def test_same_key_same_view_and_other_key_other_view(key):
    augment = Augment((0.3, 0.9), rotate=True, gain=0.1, offset=0.1)
    images = {"a": FLOATS, "b": FLOATS}
    run = jax.jit(lambda images, key: preprocess.random_view(images, TWO, augment, key))
    once, again, other = run(images, key), run(images, key), run(images, jax.random.key(1))
    for sensor in images:
        assert once[sensor].shape == (3, 12, 12, 2)
        np.testing.assert_array_equal(once[sensor], again[sensor])
        assert np.abs(once[sensor] - other[sensor]).max() > 0.1


def test_images_of_a_batch_get_views_of_their_own(key):
    same = jnp.tile(FLOATS[:1], (3, 1, 1, 1))
    view = random_view({"a": same, "b": same}, TWO, CROPS, key)["a"]
    assert len({np.asarray(image).tobytes() for image in view}) == 3


def test_clip_cuts_at_so_many_std_and_puts_the_mean_at_a_half():
    # mean 1000, std 500, cut at 2 std: 0..2000 becomes 0..1; 7 is no-data and becomes the mean.
    given = SensorInput((0,), (1000.0,), (500.0,), 7.0, clip=2.0)
    image = np.array([-50, 0, 7, 500, 1000, 1750, 2000, 9000], np.float32).reshape(1, 2, 4, 1)
    value = np.asarray(preprocess.standardise(jnp.asarray(image), given)).ravel()
    np.testing.assert_allclose(value, [0, 0, 0.5, 0.25, 0.5, 0.875, 1, 1], atol=1e-6)
