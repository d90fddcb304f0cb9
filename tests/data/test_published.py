import pytest

from rejepa_jax.data.published import DEFAULTS, STATISTICS, published_statistics
from rejepa_jax.data.sensors import SENSORS
from rejepa_jax.types import ConfigError


def test_every_table_is_of_known_bands_and_says_whose_it_is():
    for table in STATISTICS.values():
        assert set(table.bands) == set(SENSORS[table.sensor].band_names)
        assert all(std > 0 for _, std in table.bands.values())
        assert table.source
    assert all(STATISTICS[table].sensor == sensor for sensor, table in DEFAULTS.items())


def test_statistics_follow_the_order_asked_for():
    mean, std = published_statistics("s2", ("B08", "B02"))
    assert mean == (2218.946, 429.943)
    assert std == (1365.456, 572.416)
    assert published_statistics("s1", ("VH",)) == ((-19.2904,), (5.4644,))
    # SatMAE's lists: B8A is the ninth, B10 the eleventh of thirteen.
    assert published_statistics("s2_l1c", ("B8A", "B10"), "fmow_sentinel") == (
        (1972.62, 14.77),
        (1364.39, 14.31),
    )
    assert published_statistics("rgb", ("blue",), "fmow_rgb")[0] == pytest.approx((101.7705,))


def test_what_nobody_published_is_refused_with_what_there_is():
    with pytest.raises(ConfigError, match=r"'rgb': got 'published', .* image, fmow_rgb, imagenet"):
        published_statistics("rgb", ("green",))
    with pytest.raises(ConfigError, match=r"'s1': got 'imagenet', unpublished .* bigearthnet_s1"):
        published_statistics("s1", ("VV",), "imagenet")
    with pytest.raises(ConfigError, match="got B99"):
        published_statistics("s2", ("B99",))
