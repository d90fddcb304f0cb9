"""By hand on few points, and against slow sums over all pairs."""

import math

import numpy as np
import pytest

from rejepa_jax.retrieval import feature_statistics as measures

# Four directions of a plane, evenly spread: the rows' mean is zero.
CROSS = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])


@pytest.fixture
def unit():
    """Forty rows of length 1 in seven dimensions with a common mean, in float32 as embedded."""
    rows = np.random.default_rng(0).normal(0.3, 1, (40, 7))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pairs(rows):
    """Every pair of different rows, in both orders."""
    return [(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]


def test_rank_by_hand():
    assert measures.rank_me(np.eye(3)) == pytest.approx(3)
    assert measures.rank_me(np.outer([1, 2, 3], [1.0, 0, -1])) == pytest.approx(1)
    # Singular values 3 and 1: shares 3/4 and 1/4.
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert measures.rank_me(np.diag([3.0, 1, 0])) == pytest.approx(expected)
    assert measures.rank_me(np.zeros((4, 2))) == 0


@pytest.mark.parametrize("rows", [40, 5])  # more rows than dimensions, and fewer
def test_rank_from_singular_values(unit, rows):
    singular = np.linalg.svd(unit[:rows].astype(np.float64), compute_uv=False)
    share = singular / singular.sum()
    expected = np.prod(share**-share)
    assert measures.rank_me(unit[:rows]) == pytest.approx(expected, rel=1e-6)


def test_rank_does_not_change_with_scale_or_rotation(unit):
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))[0]
    assert measures.rank_me(5 * unit @ rotation) == pytest.approx(measures.rank_me(unit), rel=1e-5)


def test_spread_by_hand():
    # Each coordinate of the cross takes 1, 0, -1, 0: variance 1/2, times two dimensions.
    assert measures.feature_std(CROSS) == pytest.approx(1)
    assert measures.feature_std(np.tile([[0.6, 0.8]], (5, 1))) == pytest.approx(0, abs=1e-12)
    # Half the rows at (1, 0), half at (-1, 0): standard deviations 1 and 0.
    assert measures.feature_std(CROSS[[0, 2]]) == pytest.approx(math.sqrt(2) / 2)


def test_mean_cosine_by_hand():
    # Of the cross' six pairs two are opposite and four at right angles.
    assert measures.mean_cosine(CROSS) == pytest.approx(-2 / 6)
    assert measures.mean_cosine(np.tile([[0.6, 0.8]], (5, 1))) == pytest.approx(1)


def test_uniformity_by_hand():
    # Squared distances: 2 for the four pairs at right angles, 4 for the two opposite ones.
    expected = math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6)
    assert measures.uniformity(CROSS) == pytest.approx(expected)
    assert measures.uniformity(np.tile([[0.6, 0.8]], (5, 1))) == pytest.approx(0)


@pytest.mark.parametrize("block", [1, 16, 1024])  # 16: the last block is a part of one
def test_pairwise_measures_against_all_pairs(unit, block, monkeypatch):
    monkeypatch.setattr(measures, "BLOCK", block)
    cosines = [float(x.astype(np.float64) @ y) for x, y in pairs(unit)]
    potentials = [
        math.exp(-2 * float(((x - y).astype(np.float64) ** 2).sum())) for x, y in pairs(unit)
    ]
    assert measures.mean_cosine(unit) == pytest.approx(np.mean(cosines), rel=1e-6)
    assert measures.uniformity(unit) == pytest.approx(math.log(np.mean(potentials)), rel=1e-5)


def test_all_at_once_are_of_rows_of_length_one_and_of_the_rank_without_the_mean(unit):
    lengths = np.linspace(0.1, 9, len(unit))[:, None].astype(np.float32)
    found = measures.feature_statistics(unit * lengths)
    centred = unit - unit.mean(0)
    assert found == {
        "rank_me": pytest.approx(measures.rank_me(centred), rel=1e-5),
        "feature_std": pytest.approx(measures.feature_std(unit), rel=1e-5),
        "mean_cosine": pytest.approx(measures.mean_cosine(unit), rel=1e-5),
        "uniformity": pytest.approx(measures.uniformity(unit), rel=1e-5),
    }


def test_a_large_common_mean_hides_collapse_from_the_rank_as_published():
    # Differences in one direction, or in thirty: beside the mean both count for next to nothing.
    rng = np.random.default_rng(2)
    mean = np.zeros(32)
    mean[0] = 1
    for directions in (1, 30):
        away = np.eye(32)[1 : directions + 1]
        rows = mean + 0.003 * rng.normal(size=(1000, directions)) @ away
        assert 1 < measures.rank_me(rows) < 2
        found = measures.feature_statistics(rows)["rank_me"]
        assert found == pytest.approx(directions, rel=0.02)
