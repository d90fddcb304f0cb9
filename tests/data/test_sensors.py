import numpy as np
import pytest

from rejepa_jax.data import sensors
from rejepa_jax.types import ConfigError, DataError

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


def test_band_orders_of_the_records():
    assert sensors.sensor_spec("s2").band_names == S2
    assert sensors.sensor_spec("s1").band_names == ("VV", "VH")
    assert sensors.sensor_spec("rgb").band_names == ("red", "green", "blue")


def test_tables_are_consistent():
    for spec in sensors.SENSORS.values():
        assert set(spec.natural_colour) <= set(spec.band_names)
        assert len(set(spec.band_names)) == len(spec.bands)
    wavelengths = [band.wavelength_nm for band in sensors.sensor_spec("s2").bands]
    assert wavelengths == sorted(wavelengths)


def test_ground_sampling_distances():
    by_distance = {
        distance: {b.name for b in sensors.sensor_spec("s2").bands if b.gsd_m == distance}
        for distance in (10, 20, 60)
    }
    assert by_distance == {
        10: {"B02", "B03", "B04", "B08"},
        20: {"B05", "B06", "B07", "B8A", "B11", "B12"},
        60: {"B01", "B09"},
    }


def test_no_data_values():
    assert sensors.nodata("s2") == 0
    assert sensors.nodata("s1") is None
    assert sensors.nodata("image") is None  # a sensor that no table knows


def test_bands_are_brought_into_order_by_name():
    given = sensors.ORDERS["eurosat"]
    assert given[-1] == "B8A"
    image = np.arange(13, dtype=np.uint16) * np.ones((2, 2, 1), np.uint16)
    ordered = sensors.in_order(image, given, sensors.SENSORS["s2_l1c"].band_names, "a.tif")
    assert ordered[0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 12, 8, 9, 10, 11]
    assert sensors.ORDERS["fmow_sentinel"] == sensors.SENSORS["s2_l1c"].band_names
    with pytest.raises(DataError, match=r"a\.tif: got 13 bands, named VV, VH, expected VV"):
        sensors.in_order(image, ("VV", "VH"), ("VV",), "a.tif")
    with pytest.raises(DataError, match=r"expected B02, B10 among them; .*file_bands"):
        sensors.in_order(image[..., :1], ("B02",), ("B02", "B10"), "a.tif")


def test_what_is_unknown_is_refused():
    with pytest.raises(ConfigError, match="got 'landsat', expected one of s1, s2, s2_l1c, rgb"):
        sensors.sensor_spec("landsat")
    with pytest.raises(ConfigError, match="got B10, B13, expected some of B01"):
        sensors.band_specs("s2", ("B02", "B10", "B13"))


def test_picture_of_eight_bits_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    np.testing.assert_array_equal(sensors.picture(image, ("red", "green", "blue")), image)
    np.testing.assert_array_equal(
        sensors.picture(image[..., ::-1], ("blue", "green", "red")), image
    )


def test_picture_of_sentinel_2_stretches_red_green_blue_together():
    image = np.zeros((10, 10, 12), np.uint16)
    red, green, blue = (np.arange(100).reshape(10, 10) + 100 * i for i in (2, 1, 0))
    image[..., 3], image[..., 2], image[..., 1] = red, green, blue
    # 300 values 0 .. 299: the percentiles lie at 0.02 * 299 and 0.98 * 299.
    low, high = 5.98, 293.02
    expected = np.clip((np.stack([red, green, blue], -1) - low) / (high - low), 0, 1) * 255
    np.testing.assert_array_equal(sensors.picture(image, S2), np.rint(expected))


def test_picture_of_sentinel_1_shows_vv_vh_and_their_difference():
    ramp = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, 101)
    image = np.stack([-20 + 10 * ramp, np.full_like(ramp, -25)], axis=-1)
    vv, vh, difference = np.moveaxis(sensors.picture(image, ("VV", "VH")), -1, 0)
    expected = np.rint(255 * np.clip((ramp - 0.02) / 0.96, 0, 1))
    np.testing.assert_allclose(vv, expected, atol=1)
    np.testing.assert_allclose(difference, expected, atol=1)
    assert (vh == 0).all()
    swapped = sensors.picture(image[..., ::-1], ("VH", "VV"))
    np.testing.assert_array_equal(swapped[..., 0], vv)


def test_picture_of_other_bands_is_the_first_three_or_grey():
    image = np.random.default_rng(0).integers(0, 256, (3, 3, 5)).astype(np.uint8)
    names = tuple(f"band{number}" for number in range(1, 6))
    np.testing.assert_array_equal(sensors.picture(image, names), image[..., :3])
    np.testing.assert_array_equal(
        sensors.picture(image[..., :2], names[:2]), np.repeat(image[..., :1], 3, axis=-1)
    )


def test_picture_survives_flat_images_and_what_is_no_number():
    assert (sensors.picture(np.full((4, 4, 12), 7, np.uint16), S2) == 0).all()
    image = np.array([[[0.0], [1.0], [np.nan]]], np.float32)
    assert sensors.picture(image, ("band1",))[0, :, 0].tolist() == [0, 255, 0]
