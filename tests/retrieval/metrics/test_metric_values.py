"""Every metric against loops written from its definition, cases worked by hand, and refusals."""

import numpy as np
import pytest
import slow_metrics
from metric_cases import RULES, excluded_rows, groups, random_case, values

from rejepa_jax.retrieval.metrics import blocks as blocks_module
from rejepa_jax.retrieval.metrics import catalogue, intervals
from rejepa_jax.retrieval.metrics.evaluating import Task, evaluate, measure
from rejepa_jax.types import ConfigError, DataError

ALIKE = ("f1_micro_sets", "f1_pair_mean", "precision_at_k")  # with one label an image

CASES = {
    "seven classes": {},
    "rare labels: fewer right than k": {"density": 0.04},
    "70 classes: two words": {"classes": 70, "density": 0.05},
    "one query": {"queries": 1, "density": 0.6},
    "k = 1": {"k": 1},
    "all of the gallery": {"k": 57},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_loops_over_pairs(name, seed):
    case = random_case(seed, **CASES[name])
    expected = slow_metrics.at_k(slow_metrics.queries_of(*case), case[0].shape[1], RULES)
    found = values(case, RULES)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-12)


def test_blocks_of_queries_change_nothing(monkeypatch):
    query, gallery, ranking = random_case(3)
    excluded = groups(23, 57)
    whole = measure(Task(query, gallery, RULES, excluded), ranking)
    monkeypatch.setattr(blocks_module.blocks, "__defaults__", (40,))
    monkeypatch.setattr("rejepa_jax.retrieval.metrics.excluded.PAIRS", 5)
    parts = measure(Task(query, gallery, RULES, excluded), ranking)
    for name, column in whole.items():
        np.testing.assert_array_equal(column, parts[name], err_msg=name)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_excluded_is_neither_found_nor_missed(seed):
    query, gallery, ranking = random_case(seed, k=30)
    excluded = groups(23, 57, seed)
    queries = slow_metrics.queries_of(query, gallery, ranking, excluded_rows(excluded))
    for q in queries:
        q.hits, q.sets, q.shared = q.hits[:9], q.sets[:9], q.shared[:9]
    columns = measure(Task(query, gallery, RULES, excluded), ranking, 9)
    means = intervals.means(columns)
    found = {name: metric.of(means) for name, metric in catalogue.at_k(RULES).items()}
    assert found == pytest.approx(slow_metrics.at_k(queries, 7, RULES), abs=1e-12)


def test_a_case_worked_by_hand():
    # Query {0, 1}; results {0}, {1, 2, 3}, {}: p = 1, 1/3, 0; r' = 1/2, 1/2, 0.
    query = np.array([[1, 1, 0, 0]], bool)
    gallery = np.array([[0, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]], bool)
    found = values((query, gallery, np.array([[2, 0, 1]])), ("any_overlap", "jaccard>=0.5"))
    # P = 4/9, R = 1/3: 2PR / (P + R) = 8/21. Pair F1 = 2/3, 2/5, 0: mean 16/45.
    # In the gallery three share a label, one of them two: the ideal gains are 2, 1, 1.
    log3 = np.log2(3)
    expected = {
        "f1_micro_sets": 8 / 21,
        "f1_pair_mean": 16 / 45,
        "jaccard": (1 / 2 + 1 / 4) / 3,
        "hamming": (1 + 3 + 2) / 4 / 3,
        "precision_at_k": 2 / 3,
        "recall_at_k": 2 / 3,
        "map_at_k": 2 / 3,
        "map_at_k_found": 1,
        "acg_at_k": 2 / 3,
        "wmap_at_k": 1,
        "ndcg_at_k": (1 + 1 / log3) / (2 + 1 / log3 + 1 / 2),
        "ndcg_exp_at_k": (1 + 1 / log3) / (3 + 1 / log3 + 1 / 2),
        "precision_at_k/jaccard>=0.5": 1 / 3,
        "recall_at_k/jaccard>=0.5": 1 / 2,
        "map_at_k/jaccard>=0.5": 1 / 2,
        "macro_precision_at_k": 1 / 3,  # class 0 and class 1: one hit of three each
        "macro_recall_at_k": 1 / 2,
        "macro_map_at_k": (1 / 2 + 1 / 4) / 2,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_no_labels_at_all_score_zero():
    nothing = np.zeros((3, 4), bool)
    found = values((nothing, nothing, np.array([[0, 1]] * 3)), RULES)
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize("seed", range(20))
def test_f1_of_means_is_never_below_mean_of_f1(seed):
    scores = values(random_case(seed, density=0.1 + 0.04 * seed))
    assert scores["f1_micro_sets"] >= scores["f1_pair_mean"] - 1e-12


def test_with_one_label_an_image_f1_is_precision():
    rng = np.random.default_rng(3)
    eye = np.eye(5, dtype=bool)
    query, gallery = eye[rng.integers(0, 5, 40)], eye[rng.integers(0, 5, 60)]
    ranking = np.argsort(rng.random((40, 60)), axis=1)[:, :10]
    found = values((query, gallery, ranking), ("any_overlap", "single_label", "exact_set"))
    expected = (query.argmax(1)[:, None] == gallery.argmax(1)[ranking]).mean()
    assert {name: found[name] for name in ALIKE} == pytest.approx(dict.fromkeys(ALIKE, expected))
    for name in ("map_at_k", "recall_at_k"):
        assert found[name] == found[f"{name}/single_label"] == found[f"{name}/exact_set"]


# --- what does not belong together


def bad_cases():
    query, gallery, ranking = random_case(0)
    outside, below, twice = ranking.copy(), ranking.copy(), ranking.copy()
    outside[4, 2], below[1, 0], twice[7, 1] = 57, -2, ranking[7, 0]
    return [
        ((query[:, :6], gallery, ranking), ConfigError, "6 label columns .* 7 for the gallery"),
        ((query, gallery, ranking[:-1]), ConfigError, "ranking of 22 queries, expected 23"),
        ((query, gallery, ranking[:, :0]), ConfigError, "k > 0"),
        ((query[:0], gallery, ranking[:0]), ConfigError, "q > 0"),
        ((query, gallery, outside), DataError, "query 4: got gallery row 57 at rank 2, .* 0 to 56"),
        ((query, gallery, below), DataError, "query 1: got gallery row -2"),
        ((query, gallery, twice), DataError, "query 7: got gallery row .* twice"),
        (
            (query, gallery, ranking, ("map",)),
            ConfigError,
            "the relevance rule 'map', expected any",
        ),
        ((query, gallery, ranking, ("jaccard>=0",)), ConfigError, "T above 0 and up to 1"),
        ((query, gallery, ranking, ("jaccard>=x",)), ConfigError, "T above 0 and up to 1"),
        ((query, gallery, ranking, ("single_label",)), DataError, "labels in row .* exactly one"),
    ]


@pytest.mark.parametrize(("case", "error", "message"), bad_cases())
def test_what_does_not_belong_together_is_refused(case, error, message):
    with pytest.raises(error, match=message):
        evaluate(*case)


def test_every_metric_says_what_it_is():
    names = catalogue.at_k(RULES) | catalogue.full(RULES)
    for name, metric in names.items():
        assert metric.title, name
        assert metric.meaning, name
        assert metric.is_distance == (
            name.partition("/")[0] in ("hamming", "anmrr", "anmrr_k_plus_1")
        )
    assert "right: exact_set" in names["map_full/exact_set"].meaning
