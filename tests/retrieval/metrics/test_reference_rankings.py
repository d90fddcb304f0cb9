"""Rankings that look at nothing, against counting and loops."""

import itertools

import numpy as np
import pytest

from rejepa_jax.retrieval.metrics import reference
from rejepa_jax.types import ConfigError


def test_random_ranking_draws_different_rows_uniformly():
    ranking = reference.random_ranking(queries=24_000, rows=4, k=3, seed=0)
    counts = dict.fromkeys(itertools.permutations(range(4), 3), 0)
    for choice in map(tuple, ranking.tolist()):
        counts[choice] += 1  # a repeated row would be a KeyError
    # 24 ordered choices, 1000 expected of each, standard deviation 31.
    assert max(abs(count - 1000) for count in counts.values()) < 5 * 31


def test_random_ranking_is_given_by_its_seed_and_may_take_the_whole_gallery():
    first = reference.random_ranking(5, 6, 6, seed=1)
    np.testing.assert_array_equal(first, reference.random_ranking(5, 6, 6, seed=1))
    np.testing.assert_array_equal(np.sort(first, axis=1), np.tile(np.arange(6), (5, 1)))
    assert (first != reference.random_ranking(5, 6, 6, seed=2)).any()


def test_label_prior_ranking_has_the_highest_expected_f1():
    gallery = np.random.default_rng(8).random((80, 4)) < 0.4
    sets = [set(np.flatnonzero(row)) for row in gallery]
    expected = [
        np.mean([2 * len(a & b) / (len(a) + len(b)) if a or b else 0.0 for b in sets]) for a in sets
    ]
    ranking = reference.label_prior_ranking(gallery, queries=3, k=12)
    order = sorted(range(80), key=lambda row: (-round(expected[row], 10), row))
    np.testing.assert_array_equal(ranking, [order[:12]] * 3)


def test_label_prior_takes_the_most_frequent_class_smallest_rows_first():
    gallery = np.eye(3, dtype=bool)[[0, 2, 1, 2, 2, 0]]
    np.testing.assert_array_equal(reference.label_prior_ranking(gallery, 2, 4), [[1, 3, 4, 0]] * 2)


@pytest.mark.parametrize("k", [0, -1, 6])
def test_a_depth_outside_the_gallery_is_refused(k):
    with pytest.raises(ConfigError, match=f"k = {k}, expected 1 to 5"):
        reference.random_ranking(2, 5, k, seed=0)
    with pytest.raises(ConfigError, match=f"k = {k}, expected 1 to 5"):
        reference.label_prior_ranking(np.eye(5, dtype=bool), 2, k)
