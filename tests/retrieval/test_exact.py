"""Blockwise search against a stable numpy sort, on integers, where scores and ties are exact."""

import jax.numpy as jnp
import numpy as np
import pytest

from rejepa_jax.retrieval import exact
from rejepa_jax.types import ConfigError, DataError


def integers(seed, rows, dim=6, most=3):
    """Small integers as float32: every inner product is exact, and many are equal."""
    return np.random.default_rng(seed).integers(-most, most + 1, (rows, dim)).astype(np.float32)


def slow_top_k(queries, gallery, k):
    scores = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.mark.parametrize(
    ("queries", "rows", "k", "query_block", "gallery_block"),
    [
        (11, 37, 5, 1024, 65536),  # one block
        (11, 37, 5, 4, 8),  # ragged last blocks
        (8, 32, 5, 4, 8),  # full last blocks
        (3, 37, 20, 4, 8),  # k larger than a block
        (3, 37, 37, 2, 5),  # the whole gallery
        (1, 1, 1, 1024, 65536),
    ],
)
def test_equals_a_stable_sort(queries, rows, k, query_block, gallery_block):
    q, gallery = integers(0, queries), integers(1, rows)
    scores, found = exact.top_k(q, gallery, k, query_block=query_block, gallery_block=gallery_block)
    expected_scores, expected = slow_top_k(q, gallery, k)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("gallery_block", [3, 7, 64])
def test_equal_vectors_rank_by_row_across_blocks(gallery_block):
    gallery = np.tile(integers(2, 4), (8, 1))  # row i equals rows i + 4, i + 8, ...
    scores, found = exact.top_k(integers(3, 9), gallery, 20, gallery_block=gallery_block)
    np.testing.assert_array_equal(found, slow_top_k(integers(3, 9), gallery, 20)[1])
    ties = np.diff(scores, axis=1) == 0
    assert ties.any()
    assert (np.diff(found, axis=1)[ties] > 0).all()


def test_minus_zero_ties_with_zero():
    gallery = np.array([[-0.0], [0.0], [-0.0], [1.0]], np.float32)
    _, found = exact.top_k(np.ones((1, 1), np.float32), gallery, 4)
    np.testing.assert_array_equal(found, [[3, 0, 1, 2]])


def test_scores_of_real_vectors_are_float32_inner_products():
    rng = np.random.default_rng(4)
    q, gallery = (rng.normal(size=(n, 48)).astype(np.float32) for n in (6, 500))
    scores, found = exact.top_k(q, gallery, 10, gallery_block=128)
    expected_scores, expected = slow_top_k(q, gallery, 10)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)
    assert scores.dtype == np.float32


def test_a_gallery_on_the_device_gives_the_same():
    q, gallery = integers(5, 4), integers(6, 30)
    host, device = (exact.top_k(q, g, 7, gallery_block=8) for g in (gallery, jnp.asarray(gallery)))
    np.testing.assert_array_equal(host, device)


def test_no_queries_no_answers():
    scores, found = exact.top_k(integers(0, 3)[:0], integers(1, 5), 2)
    assert scores.shape == found.shape == (0, 2)


def test_one_compilation_for_full_and_padded_blocks():
    exact._search.clear_cache()
    gallery = integers(7, 37)
    for count in (8, 19, 5):  # 5 rounds up to the block of 8
        exact.top_k(integers(8, count), gallery, 3, query_block=8, gallery_block=16)
    assert exact._search._cache_size() == 1


def test_more_neighbours_than_rows_are_refused():
    with pytest.raises(ConfigError, match="k = 6, expected 1 to 5"):
        exact.top_k(integers(0, 2), integers(1, 5), 6)
    with pytest.raises(ConfigError, match="k = 0, expected 1 to 5"):
        exact.top_k(integers(0, 2), integers(1, 5), 0)


def test_other_widths_are_refused():
    with pytest.raises(ConfigError, match=r"4 dimensions, expected 6: .* different encoders"):
        exact.top_k(integers(0, 2, dim=4), integers(1, 5), 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    gallery = integers(1, 20)
    gallery[17, 2] = value
    with pytest.raises(DataError, match="not finite"):
        exact.top_k(integers(0, 2), gallery, 2, gallery_block=8)
    queries = integers(2, 20)
    queries[12, 0] = value
    with pytest.raises(DataError, match="queries 8 to 15"):
        exact.top_k(queries, integers(1, 20), 2, query_block=8)


def test_check_vectors_names_the_first_bad_rows():
    vectors = np.eye(6, dtype=np.float32)
    exact.check_vectors(vectors, "here")
    vectors[2, 2], vectors[4, 1] = np.nan, np.inf
    with pytest.raises(DataError, match=r"here: got 2 of 6 .* not finite, first in rows \[2, 4\]"):
        exact.check_vectors(vectors, "here")
    zero = np.eye(6, dtype=np.float32)
    zero[3] = 0
    with pytest.raises(DataError, match=r"length other than 1, first in rows \[3\]"):
        exact.check_vectors(zero, "here")
    with pytest.raises(DataError, match=r"got 6 of 6 .* \[0, 1, 2, 3, 4\]"):
        exact.check_vectors(np.eye(6, dtype=np.float32) * 1.01, "here")
