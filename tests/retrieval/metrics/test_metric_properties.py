"""What must hold of any labels and any ranking."""

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest

from rejepa_jax.retrieval.metrics import catalogue, intervals
from rejepa_jax.retrieval.metrics.evaluating import Task, measure
from rejepa_jax.retrieval.metrics.excluded import same

RULES = ("any_overlap", "exact_set", "jaccard>=0.5")
IN_ANY_ORDER = (
    *("f1_micro_sets", "f1_pair_mean", "precision_sets", "recall_sets", "jaccard", "hamming"),
    *("acg_at_k", "precision_at_k", "recall_at_k", "f1_ir", "f1_ir_query_mean"),
    *("macro_precision_at_k", "macro_recall_at_k"),
)
few = hypothesis.settings(max_examples=15, deadline=None, derandomize=True, database=None)


@st.composite
def cases(draw):
    queries, rows, classes = (draw(st.integers(1, n)) for n in (6, 12, 5))
    labels = [draw(arrays.arrays(bool, (n, classes))) for n in (queries, rows)]
    k = draw(st.integers(1, rows))
    seed = draw(st.integers(0, 1 << 16))
    ranking = np.argsort(np.random.default_rng(seed).random((queries, rows)), axis=1)
    return *labels, ranking, k


def values(query, gallery, ranking):
    means = intervals.means(measure(Task(query, gallery, RULES), ranking))
    return {name: float(metric.of(means)) for name, metric in catalogue.at_k(RULES).items()}


@few
@hypothesis.given(cases())
def test_order_within_k_matters_to_ranked_metrics_only(case):
    query, gallery, ranking, k = case
    found, turned = (
        values(query, gallery, hits) for hits in (ranking[:, :k], ranking[:, :k][:, ::-1])
    )
    for name in IN_ANY_ORDER:
        assert found[name] == pytest.approx(turned[name], abs=1e-12), name


@few
@hypothesis.given(cases())
def test_bounds_and_orders_among_metrics(case):
    query, gallery, ranking, k = case
    found = values(query, gallery, ranking[:, :k])
    for name, value in found.items():
        assert -1e-12 <= value <= (5 if name in ("acg_at_k", "wmap_at_k") else 1) + 1e-12, name
    assert found["f1_pair_mean"] <= found["f1_micro_sets"] + 1e-12
    assert found["jaccard"] <= found["f1_pair_mean"] + 1e-12
    for rule in ("", "/exact_set", "/jaccard>=0.5"):
        assert found[f"map_at_k_all{rule}"] <= found[f"map_at_k{rule}"] + 1e-12
        assert found[f"map_at_k{rule}"] <= found[f"map_at_k_found{rule}"] + 1e-12
    right = [found[f"precision_at_k{rule}"] for rule in ("/exact_set", "/jaccard>=0.5", "")]
    assert right == sorted(right)  # a stricter rule finds no more


@few
@hypothesis.given(cases())
def test_a_ranking_by_labels_shared_is_perfect_at_every_depth(case):
    query, gallery, _, k = case
    shared = query.astype(int) @ gallery.T.astype(int)
    found = measure(Task(query, gallery), np.argsort(-shared, axis=1, kind="stable")[:, :k])
    can_be_right = shared.max(axis=1) > 0
    for name in ("map_at_k", "map_at_k_found", "ndcg_at_k", "ndcg_exp_at_k"):
        np.testing.assert_allclose(found[name], can_be_right, atol=1e-12, err_msg=name)


@few
@hypothesis.given(cases())
def test_classes_in_another_order_and_a_class_of_no_image_change_nothing(case):
    query, gallery, ranking, k = case
    wider = [np.pad(labels[:, ::-1], ((0, 0), (1, 0))) for labels in (query, gallery)]
    found, other = values(query, gallery, ranking[:, :k]), values(*wider, ranking[:, :k])
    classes = query.shape[1]
    other["hamming"] *= (classes + 1) / classes
    assert other == pytest.approx(found, abs=1e-12)


@few
@hypothesis.given(cases())
def test_excluding_rows_is_as_if_they_were_not_in_the_gallery(case):
    query, gallery, ranking, k = case
    gone = np.arange(len(gallery)) % 3 == 1
    left = np.flatnonzero(~gone)
    excluded = same((["x"] * len(query), ["x" if out else "" for out in gone]))
    task = Task(query, gallery, RULES, excluded)
    found = measure(task, np.pad(ranking, ((0, 0), (0, k)), constant_values=-1), k)
    fewer = np.array([[hit for hit in hits if not gone[hit]] for hits in ranking.tolist()])
    place = np.cumsum(~gone) - 1
    hits = np.full((len(query), k), -1)
    hits[:, : len(left)] = place[fewer][:, :k] if len(left) else -1
    expected = measure(Task(query, gallery[left], RULES), hits)
    for name, column in expected.items():
        np.testing.assert_allclose(found[name], column, atol=1e-12, err_msg=name)
