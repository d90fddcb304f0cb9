"""Blockwise search against a stable numpy sort, on integers, where scores and ties are exact."""

import jax.numpy as jnp
import numpy as np
import pytest

from rejepa_jax.retrieval import exact
from rejepa_jax.retrieval.brute import keys, on_cpu, on_device
from rejepa_jax.types import ConfigError, DataError


@pytest.fixture(params=[on_cpu, on_device], ids=["cpu", "device"])
def road(request, monkeypatch):
    """Both ways of searching, whatever the machine."""
    monkeypatch.setattr(exact, "is_on_cpu", lambda _: request.param is on_cpu)
    return request.param


def integers(seed, rows, dim=6, most=3):
    """Small integers as float32: every inner product is exact, and many are equal."""
    return np.random.default_rng(seed).integers(-most, most + 1, (rows, dim)).astype(np.float32)


def slow_top_k(queries, gallery, k):
    scores = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize(
    ("queries", "rows", "k", "query_block", "gallery_block"),
    [
        (11, 37, 5, 4, 8),  # ragged last blocks
        (3, 37, 37, 2, 5),  # the whole gallery, more than a block
        (1, 1, 1, 1024, 65536),  # one block
        (40, 3000, 9, 1024, 512),  # groups of rows, and compiled on both roads
        (40, 3000, 200, 1024, 512),  # more than there are groups
    ],
)
def test_equals_a_stable_sort(queries, rows, k, query_block, gallery_block):
    q, gallery = integers(0, queries), integers(1, rows)
    scores, found = exact.top_k(q, gallery, k, query_block=query_block, gallery_block=gallery_block)
    expected_scores, expected = slow_top_k(q, gallery, k)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(scores, expected_scores)
    assert (scores.dtype, found.dtype) == (np.float32, np.int32)


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("count", [5, 40])
def test_only_allowed_rows_are_found_and_the_rest_is_said(count):
    q, gallery, k = integers(0, count), integers(1, 300), 40
    few = np.random.default_rng(2).random(300) < 0.1
    most = np.arange(300) >= 70  # none of the first block
    for allowed in (few, most, np.zeros(300, bool)):
        rows = np.flatnonzero(allowed)[: max(k, allowed.sum())]
        scores, found = exact.top_k(q, gallery, k, allowed, gallery_block=64)
        expected_scores, expected = slow_top_k(q, gallery[allowed], k)
        there = expected.shape[1]
        assert there == min(k, len(rows))
        np.testing.assert_array_equal(found[:, :there], rows[expected])
        np.testing.assert_array_equal(scores[:, :there], expected_scores)
        assert (found[:, there:] == -1).all()
        assert np.isnan(scores[:, there:]).all()


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize(("gallery_block", "count"), [(7, 9), (64, 40)])
def test_equal_vectors_rank_by_row_across_blocks(gallery_block, count):
    gallery = np.tile(integers(2, 4), (32, 1))  # row i equals rows i + 4, i + 8, ...
    scores, found = exact.top_k(integers(3, count), gallery, 20, gallery_block=gallery_block)
    np.testing.assert_array_equal(found, slow_top_k(integers(3, count), gallery, 20)[1])
    ties = np.diff(scores, axis=1) == 0
    assert ties.any()
    assert (np.diff(found, axis=1)[ties] > 0).all()


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("count", [1, 7, 16, 31, 64])
def test_equal_real_vectors_have_equal_scores_wherever_they_stand(count):
    rng = np.random.default_rng(4)
    q, gallery = (rng.normal(size=(n, 96)).astype(np.float32) for n in (count, 2100))
    same = np.sort(rng.permutation(2100)[:200])
    gallery[same] = q[0]
    scores, found = exact.top_k(q, gallery, 250, gallery_block=256)
    np.testing.assert_array_equal(found[0, :200], same)
    assert len(set(scores[0, :200].tolist())) == 1


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("count", [1, 40])
def test_minus_zero_ties_with_zero(count):
    gallery = np.array([[-0.0], [0.0], [-0.0], [1.0]], np.float32)
    _, found = exact.top_k(np.ones((count, 1), np.float32), gallery, 4)
    np.testing.assert_array_equal(found, [[3, 0, 1, 2]] * count)


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("count", [6, 40])
def test_scores_of_real_vectors_are_float32_inner_products(count):
    rng = np.random.default_rng(4)
    q, gallery = (rng.normal(size=(n, 48)).astype(np.float32) for n in (count, 500))
    scores, found = exact.top_k(q, gallery, 10, gallery_block=128)
    expected_scores, expected = slow_top_k(q, gallery, 10)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("count", [4, 40])
def test_other_types_and_scales_give_the_products_they_stand_for(count):
    q, gallery = integers(5, count), integers(6, 300).astype(np.int8)
    scale = np.random.default_rng(7).choice([0.25, 0.5, 2], 300).astype(np.float32)
    scores, found = exact.top_k(q, gallery, 7, scale=scale, gallery_block=64)
    expected_scores, expected = slow_top_k(q, gallery * scale[:, None], 7)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(scores, expected_scores)
    half = jnp.asarray(gallery, jnp.bfloat16)
    for given, wanted in zip(
        exact.top_k(q, half, 7), slow_top_k(q, integers(6, 300), 7), strict=True
    ):
        np.testing.assert_array_equal(given, wanted)


@pytest.mark.usefixtures("road")
def test_a_gallery_larger_than_the_device_comes_in_parts(monkeypatch, tmp_path):
    monkeypatch.setattr(on_device, "part_rows", lambda _: 70)
    monkeypatch.setattr(on_cpu, "PART_BYTES", 70 * 24)
    q, gallery = integers(5, 70), integers(6, 300)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    assert exact.place(mapped) is mapped
    allowed = np.random.default_rng(2).random(300) < 0.8
    scores, found = exact.top_k(q, mapped, 30, allowed, query_block=32, gallery_block=32)
    expected_scores, expected = slow_top_k(q, gallery[allowed], 30)
    np.testing.assert_array_equal(found, np.flatnonzero(allowed)[expected])
    np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.usefixtures("road")
def test_no_queries_no_answers():
    scores, found = exact.top_k(integers(0, 3)[:0], integers(1, 5), 2)
    assert scores.shape == found.shape == (0, 2)


def test_one_compilation_for_full_and_padded_blocks(road):
    compiled = {on_cpu: on_cpu._score, on_device: on_device._search}[road]
    compiled.clear_cache()
    gallery = integers(7, 370)
    for count, k in ((64, 3), (150, 4), (40, 3)):  # 22 and 40 round up to the block of 64 or 32
        exact.top_k(integers(8, count), gallery, k, query_block=64, gallery_block=16)
    assert compiled._cache_size() == 2


def test_keys_sort_as_their_scores_do():
    scores = np.array([-np.inf, -2.5, -1e-30, 0, 1e-30, 2.5, 3e38], np.float32)
    packed = keys.pack(scores, np.arange(7))
    assert (np.diff(packed.astype(object)) < 0).all()
    np.testing.assert_array_equal(keys.unpack(packed), [scores, np.arange(7)])
    assert keys.pack(scores[:1], np.array([8])) > keys.pack(scores[:1], np.array([7]))
    nothing = keys.unpack(np.array([keys.WORST], np.uint64))
    assert np.isnan(nothing[0][0])
    assert nothing[1].tolist() == [-1]


def test_more_neighbours_than_rows_or_none_are_refused():
    with pytest.raises(ConfigError, match="k = 6, expected 1 to 5"):
        exact.top_k(integers(0, 2), integers(1, 5), 6)
    with pytest.raises(ConfigError, match="k = 0, expected 1 to 5"):
        exact.top_k(integers(0, 2), integers(1, 5), 0)


def test_other_widths_are_refused():
    with pytest.raises(ConfigError, match=r"4 dimensions, expected 6: .* different encoders"):
        exact.top_k(integers(0, 2, dim=4), integers(1, 5), 2)


@pytest.mark.usefixtures("road")
@pytest.mark.parametrize("count", [2, 40])
def test_scores_that_are_not_finite_are_refused(count):
    for value in (np.nan, np.inf, -np.inf):
        gallery = integers(1, 20)
        gallery[17, 2] = value
        with pytest.raises(DataError, match=r"gallery: .* not finite"):
            exact.top_k(integers(0, count), gallery, 2, gallery_block=8)
        queries = integers(2, 20)
        queries[12, 0] = value
        with pytest.raises(DataError, match=r"got 1 of 20 .* not finite, first in rows \[12\]"):
            exact.top_k(queries, gallery, 2, query_block=8)


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
        exact.check_vectors(2 * np.eye(6, dtype=np.float32), "here")
