"""Metrics of whole galleries: against loops, by hand, and whatever the blocks and ties are."""

import numpy as np
import pytest
import slow_metrics
from metric_cases import RULES, excluded_rows, groups, random_case

from rejepa_jax.retrieval import exact
from rejepa_jax.retrieval.metrics import anmrr, catalogue, full, intervals
from rejepa_jax.retrieval.metrics.evaluating import Task
from rejepa_jax.types import ConfigError, DataError


def vectors(seed, queries=23, rows=57, dim=3):
    """Few directions, some of them twice, so that scores tie."""
    rng = np.random.default_rng(seed)
    both = rng.integers(-2, 3, (queries + rows, dim)).astype(np.float32)
    return both[:queries], both[queries:]


@pytest.mark.parametrize("is_exclusive", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_metrics_equal_loops_over_the_gallery_sorted_by_score_then_row(seed, is_exclusive):
    query, gallery, _ = random_case(seed)
    excluded = groups(23, 57, seed) if is_exclusive else None
    asked, known = vectors(seed)
    ranking = np.argsort(-(asked @ known.T), axis=1, kind="stable")
    gone = excluded_rows(excluded) if excluded else ()
    expected = slow_metrics.whole_gallery(
        slow_metrics.queries_of(query, gallery, ranking, gone), RULES
    )
    task = Task(query, gallery, RULES, excluded)
    found = {name: s.value for name, s in full.evaluate_gallery(task, asked, known).items()}
    assert found == pytest.approx(expected, abs=1e-12)


def test_no_more_than_a_block_of_scores_at_a_time_and_blocks_change_nothing(monkeypatch):
    query, gallery, _ = random_case(1)
    task = Task(query, gallery, RULES, groups(23, 57))
    whole = full.measure_gallery(task, *vectors(1))
    sizes = []
    order = full.order
    monkeypatch.setattr(full, "order", lambda scores: sizes.append(scores.size) or order(scores))
    monkeypatch.setattr(full, "SCORES", 57 * 5)
    monkeypatch.setattr(full, "ROWS", 10)
    parts = full.measure_gallery(task, *vectors(1))
    assert max(sizes) == 57 * 5
    for name, column in whole.items():
        np.testing.assert_allclose(column, parts[name], atol=1e-12, err_msg=name)


def test_order_is_that_of_a_stable_sort_for_any_finite_scores():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, 40_000, np.uint64).astype(np.uint32).view(np.float32)
    scores = bits[np.isfinite(bits)][:39_000].reshape(3, -1).copy()
    scores[:, ::7] = scores[:, :1]
    scores[:, 3::11] = 0.0
    scores[:, 5::11] = -0.0
    expected = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")
    np.testing.assert_array_equal(full.order(scores), expected)


@pytest.mark.parametrize(("count", "rows", "dim"), [(40, 300, 16), (9, 1000, 384), (70, 700, 37)])
def test_equal_vectors_have_equal_scores_wherever_they_stand(monkeypatch, count, rows, dim):
    """Those of numpy's matrix product differ in the last bit."""
    rng = np.random.default_rng(rows)
    gallery = rng.normal(size=(rows, dim)).astype(np.float32)
    here, there = rng.permutation(rows)[: rows // 2 * 2].reshape(2, -1)
    gallery[there] = gallery[here]
    queries = rng.normal(size=(count, dim)).astype(np.float32)
    monkeypatch.setattr(full, "ROWS", 256)
    scores = full.multiply(queries, gallery)
    np.testing.assert_allclose(scores, queries.astype(float) @ gallery.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(scores[:, here], scores[:, there])


def test_the_best_of_a_gallery_are_those_of_the_search_duplicates_by_row():
    rng = np.random.default_rng(5)
    gallery = rng.normal(size=(300, 16)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    gallery[100:200] = gallery[:100]  # of which BLAS makes other scores: the last bit
    queries = gallery[:40]
    task = Task(np.ones((40, 1), bool), np.ones((300, 1), bool))
    ranking = np.concatenate([rows for _, rows in full.rank_gallery(task, queries, gallery)])
    np.testing.assert_array_equal(ranking[:, :10], exact.top_k(queries, gallery, 10)[1])
    np.testing.assert_array_equal(ranking[:, 0], np.arange(40))


def test_anmrr_by_hand_with_both_penalties():
    """NG 3 and 5, so GTM = 5 and K = 10 for both; right images at ranks 1 4 11, and 1 2 3 6 10."""
    right = np.zeros((2, 12), bool)
    right[0, [0, 3, 10]] = right[1, [0, 1, 2, 5, 9]] = True
    found = anmrr.anmrr_columns(right, np.array([3, 5]), 5, 12)
    # Query 1: AVR = (1 + 4 + 12.5) / 3, or (1 + 4 + 11) / 3; less (1 + 3) / 2.
    first = (17.5 / 3 - 2) / (12.5 - 2), (16 / 3 - 2) / (11 - 2)
    # Query 2: AVR = 22 / 5; less (1 + 5) / 2.
    second = (4.4 - 3) / (12.5 - 3), (4.4 - 3) / (11 - 3)
    np.testing.assert_allclose(found["anmrr"], [first[0], second[0]], atol=1e-12)
    np.testing.assert_allclose(found["anmrr_k_plus_1"], [first[1], second[1]], atol=1e-12)
    assert found["anmrr"].mean() == pytest.approx(0.2562239, abs=1e-7)
    # NG = 1: K is 4, not 2 GTM = 10.
    np.testing.assert_array_equal(anmrr.anmrr_depth(np.array([1, 2, 3, 5]), 5), [4, 8, 10, 10])


def test_anmrr_is_0_when_perfect_1_when_nothing_is_found_or_right():
    right = np.zeros((3, 40), bool)
    right[0, :4] = True
    right[1, 30:34] = True  # beyond K = 8
    for column in anmrr.anmrr_columns(right, np.array([4, 4, 0]), 4, 40).values():
        np.testing.assert_allclose(column, [0, 1, 1], atol=1e-12)


def test_a_ranking_that_ends_before_k_has_no_anmrr():
    right = np.ones((1, 7), bool)
    with pytest.raises(ConfigError, match="rankings of 7 hits, expected 8 for ANMRR"):
        anmrr.anmrr_columns(right, np.array([4]), 4, 40)
    anmrr.anmrr_columns(right, np.array([4]), 4, 7)  # all of the gallery


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(value):
    query, gallery, _ = random_case(0)
    asked, known = vectors(0)
    known[3, 1] = value
    with pytest.raises(DataError, match="not finite for queries 0 to 22"):
        full.measure_gallery(Task(query, gallery), asked, known)


def test_vectors_of_other_images_are_refused():
    query, gallery, _ = random_case(0)
    with pytest.raises(ConfigError, match=r"vectors of \(23, 57\).* labels of \(23, 56\)"):
        full.measure_gallery(Task(query, gallery[1:]), *vectors(0))


def test_a_perfect_ranking_is_worth_1_and_its_reverse_less():
    rng = np.random.default_rng(2)
    gallery = rng.random((60, 6)) < 0.3
    query = gallery[gallery.any(1)][:20]
    shared = query.astype(int) @ gallery.T.astype(int)
    task = Task(query, gallery)
    best = np.argsort(-shared, axis=1, kind="stable")
    for ranking, is_perfect in ((best, True), (best[:, ::-1], False)):
        columns = full.join([full.measure_full(task, slice(0, 20), ranking)])
        values = {n: m.of(intervals.means(columns)) for n, m in catalogue.full().items()}
        for name in ("map_full", "r_precision", "ndcg_full", "ndcg_exp_full"):
            assert (values[name] == pytest.approx(1, abs=1e-12)) == is_perfect, name
        for name in ("anmrr", "anmrr_k_plus_1"):
            assert (values[name] == pytest.approx(0, abs=1e-12)) == is_perfect, name
