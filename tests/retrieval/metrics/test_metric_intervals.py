"""Bootstrap over queries: the metric of drawn queries, and differences in pairs."""

import numpy as np
import pytest
import slow_metrics
from metric_cases import random_case

from rejepa_jax.retrieval.metrics import catalogue, intervals
from rejepa_jax.retrieval.metrics.evaluating import Task, evaluate, measure
from rejepa_jax.types import ConfigError


@pytest.mark.parametrize("name", ["f1_micro_sets", "ndcg_at_k", "f1_ir", "macro_map_at_k"])
def test_resamples_are_the_metric_of_drawn_queries(name):
    case = random_case(5)
    queries = slow_metrics.queries_of(*case)
    columns = measure(Task(*case[:2]), case[2])
    metric = catalogue.at_k()[name]
    drawn = metric.of(intervals.resampled_means(columns))
    for i in (0, 1, 17, 999):
        chosen = np.random.default_rng(i).integers(0, 23, 23)
        expected = slow_metrics.at_k([queries[n] for n in chosen], 7)[name]
        assert drawn[i] == pytest.approx(expected, abs=1e-12)
    score = evaluate(*case)[name]
    assert score[1:] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=1e-12)
    assert score.low < score.value < score.high


def test_one_query_has_an_interval_without_width():
    query, gallery, _ = random_case(1, queries=1, density=0.6)
    score = evaluate(query, gallery, np.array([[4, 0, 1]]))["f1_micro_sets"]
    assert score.low == score.high == pytest.approx(score.value)


def test_differences_of_two_systems_are_paired():
    query, gallery, ranking = random_case(2, queries=200, rows=300, k=10)
    better = np.sort(ranking, axis=1)
    right = (query[:, None, :] & gallery[None, :, :]).any(2)
    for row, flags in zip(better, right, strict=True):
        if flags.sum() > 12 and not flags[row[0]]:
            row[0] = next(r for r in np.flatnonzero(flags) if r not in row)
    ours, theirs = (measure(Task(query, gallery), r) for r in (better, np.sort(ranking, axis=1)))
    name = "precision_at_k"
    metric = {name: catalogue.at_k()[name]}
    found = intervals.differences(ours, theirs, metric)[name]
    assert found.value == pytest.approx(ours[name].mean() - theirs[name].mean(), abs=1e-12)
    apart = [intervals.scores(side, metric)[name] for side in (ours, theirs)]
    assert apart[0].low < apart[1].high  # each interval on its own leaves it open
    assert found.low > 0
    assert intervals.differences(ours, ours, metric)[name] == (0, 0, 0)
    with pytest.raises(ConfigError, match="got 200 queries and 3, expected the same"):
        intervals.differences(ours, {n: c[:3] for n, c in theirs.items()}, metric)
