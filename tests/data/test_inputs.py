import dataclasses

import fake_archive
import jax.numpy as jnp
import numpy as np
import pytest

from rejepa_jax.config import Data
from rejepa_jax.data.inputs import make_preprocess
from rejepa_jax.data.preprocess import standardise
from rejepa_jax.types import ConfigError


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fake_archive.prepared(tmp_path_factory.mktemp("inputs"), {"train": 4, "test": 2}, size=6)


def test_every_band_is_standardised_by_the_training_split(records):
    spec = make_preprocess(records, Data(image_size=32))
    given = spec.inputs["s2"]
    pixels = np.stack([fake_archive.pixels(n, records.schema)["s2"] for n in range(2, 6)])
    known = np.ma.masked_equal(pixels.astype(np.float64), 0)
    assert spec.image_size == 32
    assert given.bands == (0, 1, 2)
    assert given.nodata == 0
    np.testing.assert_allclose(given.mean, known.mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(given.std, known.std((0, 1, 2)), rtol=1e-9)


def test_bands_are_chosen_by_name_in_the_order_asked_for(records):
    every = make_preprocess(records, Data()).inputs["s2"]
    some = make_preprocess(records, Data(bands=("B04", "B02"))).inputs["s2"]
    assert some.bands == (2, 0)
    assert some.mean == (every.mean[2], every.mean[0])
    assert some.std == (every.std[2], every.std[0])


def test_published_figures_of_the_chosen_bands(records):
    given = make_preprocess(records, Data(bands=("B03",), statistics="published")).inputs["s2"]
    assert given.mean == (614.217,)
    assert given.std == (582.879,)


def test_statistics_of_each_image_need_no_figures(records):
    given = make_preprocess(records, Data(statistics="image")).inputs["s2"]
    assert (given.bands, given.mean, given.std, given.nodata) == ((0, 1, 2), (), (), 0)


def test_a_value_of_radar_is_always_a_measurement(records):
    assert make_preprocess(records, Data(sensor="s1")).inputs["s1"].nodata is None


def test_unknown_sensor_is_refused_with_those_there_are(records):
    with pytest.raises(ConfigError, match=r"config\.data\.sensor = 'rgb': .*\['s1', 's2'\]"):
        make_preprocess(records, Data(sensor="rgb"))


def test_unknown_band_is_refused_with_those_there_are(records):
    with pytest.raises(ConfigError, match=r"\['B99'\] not among the s2 bands.*B02"):
        make_preprocess(records, Data(bands=("B02", "B99")))


def test_constant_band_is_not_divided_by_zero(records):
    constant = {"mean": [5.0] * 3, "std": [0.0] * 3, "min": [5.0] * 3, "max": [5.0] * 3}
    manifest = {"info": {"splits": {"train": {"statistics": {"s2": constant}}}}}
    given = make_preprocess(dataclasses.replace(records, manifest=manifest), Data()).inputs["s2"]
    assert given.std == (1e-6,) * 3


def test_clip_and_min_max_bring_a_range_to_0_to_1(records):
    plain = make_preprocess(records, Data()).inputs["s2"]
    clipped = make_preprocess(records, Data(normalise="clip")).inputs["s2"]
    assert clipped == dataclasses.replace(plain, clip=2.0)
    ranged = make_preprocess(records, Data(normalise="min_max")).inputs["s2"]
    pixels = np.stack([fake_archive.pixels(n, records.schema)["s2"] for n in range(2, 6)])
    known = np.ma.masked_equal(pixels.astype(np.float64), 0)
    low, high = known.min((0, 1, 2)).filled(), known.max((0, 1, 2)).filled()
    np.testing.assert_allclose(ranged.mean, (low + high) / 2)
    np.testing.assert_allclose(ranged.std, (high - low) / 2)
    image = np.asarray(standardise(jnp.stack([low, high])[None, None], ranged))
    np.testing.assert_allclose(image[0, 0], [[0, 0, 0], [1, 1, 1]], atol=1e-6)
