"""Metrics against loops over pairs, a case worked by hand, and the published AID protocol."""

import csv
import itertools
import tarfile

import numpy as np
import PIL.Image
import pytest

from rejepa_jax.retrieval import metrics
from rejepa_jax.types import ConfigError, DataError


def random_case(seed, queries=23, rows=57, classes=7, k=9, density=0.25):
    rng = np.random.default_rng(seed)
    query_labels = rng.random((queries, classes)) < density
    gallery_labels = rng.random((rows, classes)) < density
    ranking = np.stack([rng.permutation(rows)[:k] for _ in range(queries)])
    return query_labels, gallery_labels, ranking


def slow_pairs(query_labels, gallery_labels, ranking):
    """(p, r') of each pair as lists of lists, from label sets."""
    out = []
    for labels, results in zip(query_labels, ranking, strict=True):
        query = set(np.flatnonzero(labels))
        pairs = []
        for row in results:
            result = set(np.flatnonzero(gallery_labels[row]))
            shared = len(query & result)
            pairs.append(
                (shared / len(result) if result else 0.0, shared / len(query) if query else 0.0)
            )
        out.append(pairs)
    return out


def slow_f1(p, r):
    return 2 * p * r / (p + r) if p + r else 0.0


def values(case):
    return {name: score.value for name, score in metrics.evaluate(*case).items()}


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_loops_over_pairs(seed):
    case = random_case(seed)
    pairs = slow_pairs(*case)
    fast = metrics.pair_scores(*case)
    np.testing.assert_allclose(fast.precision, [[p for p, _ in row] for row in pairs], atol=1e-12)
    np.testing.assert_allclose(fast.recall, [[r for _, r in row] for row in pairs], atol=1e-12)
    flat = [pair for row in pairs for pair in row]
    grand_p = sum(p for p, _ in flat) / len(flat)
    grand_r = sum(r for _, r in flat) / len(flat)
    expected = {
        "f1_micro_sets": slow_f1(grand_p, grand_r),
        "f1_pair_mean": sum(slow_f1(*pair) for pair in flat) / len(flat),
        "precision_at_k": sum(p > 0 for p, _ in flat) / len(flat),
    }
    assert values(case) == pytest.approx(expected, abs=1e-12)


def test_a_case_worked_by_hand():
    # Query {0, 1}; results {0}, {1, 2, 3}, {}: p = 1, 1/3, 0; r' = 1/2, 1/2, 0.
    query = np.array([[1, 1, 0, 0]], bool)
    gallery = np.array([[0, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    case = (query, gallery, np.array([[2, 0, 1]]))
    pairs = metrics.pair_scores(*case)
    np.testing.assert_allclose(pairs.precision, [[1, 1 / 3, 0]])
    np.testing.assert_allclose(pairs.recall, [[1 / 2, 1 / 2, 0]])
    # P = 4/9, R = 1/3: 2PR / (P + R) = 8/21. Pair F1 = 2/3, 2/5, 0: mean 16/45.
    assert values(case) == pytest.approx(
        {"f1_micro_sets": 8 / 21, "f1_pair_mean": 16 / 45, "precision_at_k": 2 / 3}
    )


def test_no_labels_at_all_score_zero():
    nothing = np.zeros((3, 4), bool)
    assert set(values((nothing, nothing, np.array([[0, 1]] * 3))).values()) == {0.0}


@pytest.mark.parametrize("seed", range(20))
def test_f1_of_means_is_never_below_mean_of_f1(seed):
    scores = values(random_case(seed, density=0.1 + 0.04 * seed))
    assert scores["f1_micro_sets"] >= scores["f1_pair_mean"] - 1e-12


def test_metrics_ignore_the_order_within_a_ranking():
    query, gallery, ranking = random_case(0)
    assert values((query, gallery, ranking)) == pytest.approx(
        values((query, gallery, ranking[:, ::-1])), abs=1e-12
    )


def test_with_one_label_an_image_all_metrics_are_precision():
    rng = np.random.default_rng(3)
    eye = np.eye(5, dtype=bool)
    case = (eye[rng.integers(0, 5, 40)], eye[rng.integers(0, 5, 60)], rng.integers(0, 60, (40, 10)))
    query, gallery, ranking = case
    expected = (query.argmax(1)[:, None] == gallery.argmax(1)[ranking]).mean()
    assert values(case) == pytest.approx(dict.fromkeys(metrics.METRICS, expected), abs=1e-12)


def test_the_interval_recomputes_the_metric_from_drawn_queries():
    case = random_case(5)
    pairs = np.array(slow_pairs(*case))
    draws = [np.random.default_rng(i).integers(0, len(pairs), len(pairs)) for i in range(1000)]
    for name, of in {
        "f1_micro_sets": lambda p: slow_f1(*p.reshape(-1, 2).mean(0)),
        "precision_at_k": lambda p: (p[..., 0] > 0).mean(),
    }.items():
        low, high = np.percentile([of(pairs[drawn]) for drawn in draws], [2.5, 97.5])
        score = metrics.evaluate(*case)[name]
        assert (score.low, score.high) == pytest.approx((low, high), abs=1e-12)
        assert score.low < score.value < score.high


def test_one_query_has_an_interval_without_width():
    score = metrics.evaluate(*random_case(1, queries=1, density=0.6))["f1_micro_sets"]
    assert score.low == score.high == pytest.approx(score.value)


def aid_split(shared_data):
    with open(shared_data / "aid" / "split.csv") as file:
        rows = list(csv.DictReader(file))
    names = np.array([row["label"] for row in rows])
    labels = names[:, None] == np.unique(names)[None, :]
    return rows, labels, np.array([row["split"] == "query" for row in rows])


def z_scored_ranking(features, is_query):
    features = (features - features[~is_query].mean(0)) / (features[~is_query].std(0) + 1e-6)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return np.argsort(-(features[is_query] @ features[~is_query].T), 1, kind="stable")[:, :10]


def test_chance_on_aid_is_as_published(shared_data):
    _, labels, is_query = aid_split(shared_data)
    features = np.random.default_rng(0).normal(size=(len(labels), 64))
    ranking = z_scored_ranking(features, is_query)
    scores = metrics.evaluate(labels[is_query], labels[~is_query], ranking)
    assert round(scores["f1_micro_sets"].value, 3) == 0.033
    assert scores["f1_micro_sets"] == pytest.approx(scores["precision_at_k"], abs=1e-12)


@pytest.mark.slow
def test_raw_pixels_on_aid_score_as_published_with_the_same_interval(shared_data):
    rows, labels, is_query = aid_split(shared_data)
    with tarfile.open(shared_data / "aid" / "aid-128px-200-per-class.tar") as tar:
        images = [PIL.Image.open(tar.extractfile(row["name"])).convert("RGB") for row in rows]
        images = np.stack([np.asarray(image) for image in images]).astype(np.float32) / 255
    pixels = images.reshape(len(rows), 16, 8, 16, 8, 3).mean((2, 4)).reshape(len(rows), -1)
    ranking = z_scored_ranking(pixels, is_query)
    score = metrics.evaluate(labels[is_query], labels[~is_query], ranking)["precision_at_k"]
    assert np.round(score, 3).tolist() == [0.193, 0.177, 0.209]


def test_random_ranking_draws_different_rows_uniformly():
    ranking = metrics.random_ranking(queries=24_000, rows=4, k=3, seed=0)
    counts = dict.fromkeys(itertools.permutations(range(4), 3), 0)
    for choice in map(tuple, ranking.tolist()):
        counts[choice] += 1  # a repeated row would be a KeyError
    # 24 ordered choices, 1000 expected of each, standard deviation 31.
    assert max(abs(count - 1000) for count in counts.values()) < 5 * 31


def test_random_ranking_is_given_by_its_seed_and_may_take_the_whole_gallery():
    first = metrics.random_ranking(5, 6, 6, seed=1)
    np.testing.assert_array_equal(first, metrics.random_ranking(5, 6, 6, seed=1))
    np.testing.assert_array_equal(np.sort(first, axis=1), np.tile(np.arange(6), (5, 1)))
    assert (first != metrics.random_ranking(5, 6, 6, seed=2)).any()


def test_label_prior_ranking_has_the_highest_expected_f1():
    gallery = random_case(8, rows=80, classes=4, density=0.4)[1]
    sets = [set(np.flatnonzero(row)) for row in gallery]
    expected = [
        np.mean([2 * len(a & b) / (len(a) + len(b)) if a or b else 0.0 for b in sets]) for a in sets
    ]
    ranking = metrics.label_prior_ranking(gallery, queries=3, k=12)
    order = sorted(range(80), key=lambda row: (-round(expected[row], 10), row))
    np.testing.assert_array_equal(ranking, [order[:12]] * 3)


def test_label_prior_takes_the_most_frequent_class_smallest_rows_first():
    gallery = np.eye(3, dtype=bool)[[0, 2, 1, 2, 2, 0]]
    np.testing.assert_array_equal(metrics.label_prior_ranking(gallery, 2, 4), [[1, 3, 4, 0]] * 2)


def bad_cases():
    query, gallery, ranking = random_case(0)
    outside, below = ranking.copy(), ranking.copy()
    outside[4, 2], below[1, 0] = 57, -1
    return [
        ((query[:, :6], gallery, ranking), ConfigError, "6 label columns .* 7 for the gallery"),
        ((query, gallery, ranking[:-1]), ConfigError, "ranking of 22 queries, expected 23"),
        ((query, gallery, ranking[:, :0]), ConfigError, "k > 0"),
        ((query[:0], gallery, ranking[:0]), ConfigError, "q > 0"),
        ((query, gallery, outside), DataError, "query 4: got gallery row 57 at rank 2, .* 0 to 56"),
        ((query, gallery, below), DataError, "query 1: got gallery row -1"),
    ]


@pytest.mark.parametrize(("case", "error", "message"), bad_cases())
def test_what_does_not_belong_together_is_refused(case, error, message):
    with pytest.raises(error, match=message):
        metrics.evaluate(*case)


@pytest.mark.parametrize("k", [0, -1, 6])
def test_a_depth_outside_the_gallery_is_refused(k):
    with pytest.raises(ConfigError, match=f"k = {k}, expected 1 to 5"):
        metrics.random_ranking(2, 5, k, seed=0)
    with pytest.raises(ConfigError, match=f"k = {k}, expected 1 to 5"):
        metrics.label_prior_ranking(np.eye(5, dtype=bool), 2, k)
