"""The same figures from scikit-learn, ir-measures and pytrec_eval, where they define the same."""

import numpy as np
import pytest

from rejepa_jax.retrieval.metrics import full, intervals
from rejepa_jax.retrieval.metrics.evaluating import Task, measure

pytestmark = pytest.mark.interop
QUERIES, ROWS, CLASSES, K = 40, 150, 8, 10


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(7)
    query = (rng.random((QUERIES, CLASSES)) < 0.2) & (rng.random((QUERIES, 1)) < 0.9)
    gallery = (rng.random((ROWS, CLASSES)) < 0.2) & (rng.random((ROWS, 1)) < 0.9)
    vectors = rng.normal(size=(QUERIES + ROWS, 6)).astype(np.float32)  # no ties: these differ
    asked, known = vectors[:QUERIES], vectors[QUERIES:]
    shared = query.astype(int) @ gallery.T.astype(int)
    task = Task(query, gallery)
    ranking = np.concatenate([rows for _, rows in full.rank_gallery(task, asked, known)])
    scores = asked @ known.T
    return task, shared, scores, ranking, full.measure_gallery(task, asked, known)


def test_scikit_learn(case):
    from sklearn import metrics as theirs

    task, shared, scores, ranking, whole = case
    found = measure(task, ranking, K)
    ndcg = [theirs.ndcg_score([s], [y], k=K) for s, y in zip(shared, scores, strict=True)]
    np.testing.assert_allclose(found["ndcg_at_k"], ndcg, atol=1e-12)
    exponential = [
        theirs.ndcg_score([2.0**s - 1], [y]) for s, y in zip(shared, scores, strict=True)
    ]
    np.testing.assert_allclose(whole["ndcg_exp_full"], exponential, atol=1e-12)
    right = shared > 0
    can_be_right = right.any(1)
    ap = [
        theirs.average_precision_score(r, s)
        for r, s in zip(right[can_be_right], scores[can_be_right], strict=True)
    ]
    np.testing.assert_allclose(whole["map_full"][can_be_right], ap, atol=1e-12)
    assert (whole["map_full"][~can_be_right] == 0).all()
    asked, hits = (
        task.query_labels.repeat(K, axis=0),
        task.gallery_labels[ranking[:, :K]].reshape(-1, CLASSES),
    )
    one = {"average": "samples", "zero_division": 0}
    means = {name: column.mean() for name, column in found.items()}
    assert means["f1_pair_mean"] == pytest.approx(theirs.f1_score(asked, hits, **one), abs=1e-12)
    assert means["recall_sets"] == pytest.approx(theirs.recall_score(asked, hits, **one), abs=1e-12)
    assert means["precision_sets"] == pytest.approx(
        theirs.precision_score(asked, hits, **one), abs=1e-12
    )
    assert means["jaccard"] == pytest.approx(theirs.jaccard_score(asked, hits, **one), abs=1e-12)
    assert means["hamming"] == pytest.approx(theirs.hamming_loss(asked, hits), abs=1e-12)


def named_case(case):
    """Judgements and run as dictionaries by name; only what is relevant is judged."""
    _, shared, scores, _, _ = case
    judged = {
        f"q{q}": {f"d{r}": int(shared[q, r]) for r in np.flatnonzero(shared[q])}
        for q in range(QUERIES)
        if shared[q].any()
    }
    run = {q: {f"d{r}": float(scores[int(q[1:]), r]) for r in range(ROWS)} for q in judged}
    return judged, run, np.array([int(q[1:]) for q in judged])


def test_pytrec_eval(case):
    import pytrec_eval

    task, _, _, ranking, whole = case
    judged, run, rows = named_case(case)
    names = {"map", "Rprec", "P_10", "recall_10", "map_cut_10", "ndcg", "ndcg_cut_10"}
    theirs = pytrec_eval.RelevanceEvaluator(judged, names).evaluate(run)
    found = measure(task, ranking, K)
    for name, column in {
        "map": whole["map_full"],
        "Rprec": whole["r_precision"],
        "P_10": found["precision_at_k"],
        "recall_10": found["recall_at_k"],
        "map_cut_10": found["map_at_k_all"],
        "ndcg": whole["ndcg_full"],
        "ndcg_cut_10": found["ndcg_at_k"],
    }.items():
        expected = [theirs[query][name] for query in judged]
        np.testing.assert_allclose(column[rows], expected, atol=1e-12, err_msg=name)


def test_ir_measures(case):
    import ir_measures

    task, _, _, ranking, whole = case
    judged, run, rows = named_case(case)
    found = measure(task, ranking, K)
    P, R, AP, nDCG, Rprec = (getattr(ir_measures, n) for n in ("P", "R", "AP", "nDCG", "Rprec"))
    ours = {
        P @ 10: found["precision_at_k"],
        R @ 10: found["recall_at_k"],
        AP @ 10: found["map_at_k_all"],
        AP: whole["map_full"],
        Rprec: whole["r_precision"],
        nDCG @ 10: found["ndcg_at_k"],
    }
    theirs = ir_measures.calc_aggregate(ours, judged, run)
    for measured, column in ours.items():
        assert column[rows].mean() == pytest.approx(theirs[measured], abs=1e-12), measured


def test_bootstrap_of_scipy_agrees_within_its_noise(case):
    from scipy import stats

    column = case[4]["map_full"]
    score = intervals.summary(column.mean(), intervals.resampled_means({"x": column})["x"])
    theirs = stats.bootstrap((column,), np.mean, n_resamples=4000, method="percentile", rng=0)
    width = score.high - score.low
    np.testing.assert_allclose(score[1:], theirs.confidence_interval, atol=width / 10)
