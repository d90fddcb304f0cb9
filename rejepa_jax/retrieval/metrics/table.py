"""Scores as they stand in the evaluation's files: lines of the table, text, classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rejepa_jax.console import table as lay_out
from rejepa_jax.retrieval.metrics import intervals, per_class
from rejepa_jax.retrieval.metrics.catalogue import Metric
from rejepa_jax.retrieval.metrics.intervals import Score
from rejepa_jax.retrieval.metrics.sets import Columns

UNLABELLED = "The records have no labels: nothing says which hits are right, so there is no score."
SHOWN = ("f1_micro_sets", "f1_pair_mean", "precision_at_k", "ndcg_at_k")

Line = dict[str, Any]


def line(name: str, form: str, scores: Mapping[str, Score]) -> Line:
    """Returns a descriptor's line in one form."""
    return {"descriptor": name, "form": form} | as_json(scores)


def as_json(scores: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    """Returns scores in JSON's own types."""
    return {name: score._asdict() for name, score in scores.items()}


def describe(metrics: Mapping[str, Metric], k: int) -> dict[str, dict[str, Any]]:
    """Returns title and meaning of each metric at this depth."""
    return {
        name: {
            "title": metric.title.replace("@k", f"@{k}"),
            "meaning": metric.meaning,
            "is_distance": metric.is_distance,
        }
        for name, metric in metrics.items()
    }


def format_table(content: dict[str, Any]) -> str:
    """Lays the table out as text: some metrics with their 95 % bootstrap intervals over queries."""
    queries, gallery, k = content["queries"], content["gallery"], content["k"]
    if not content["rows"]:
        images = f"{queries['images']} images query {gallery['images']}"
        return f"{UNLABELLED}\n{images}, k = {k}: see the report"
    heading = (
        f"{queries['images']} {queries['split']} images query {gallery['images']} "
        f"{gallery['split']} images, k = {k}; in brackets 95 % bootstrap intervals over queries"
    )
    titles = {name: metric["title"] for name, metric in content["metrics"].items()}
    text = heading + "\n" + format_lines(content["rows"], titles)
    if apart := content["same_place"]:
        text += (
            f"\n\nwithout images of the query's own place, which {apart['queries']} queries have "
            "in the gallery:\n" + format_lines(apart["rows"], titles)
        )
    return text


def format_lines(
    lines: Sequence[Line], titles: Mapping[str, str], names: Sequence[str] = SHOWN
) -> str:
    """Lays some metrics of some lines out as text, each with its interval."""
    rows = [["descriptor", "form", *(titles[name] for name in names)]]
    for one in lines:
        rows.append([one["descriptor"], one["form"], *(format_score(one[name]) for name in names)])
    return lay_out(rows)


def format_score(score: Mapping[str, float]) -> str:
    """Returns a score and its interval, as text."""
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def class_lines(classes: Sequence[str], columns: Columns, images: np.ndarray) -> list[Line]:
    """Returns what the queries of each class found of it; None where no query has the class.

    `images` counts those of the gallery, by class.
    """
    names = ("has_class", *(f"class_{name}" for name in per_class.MEASURES))
    used = {name: columns[name] for name in names}
    asked = used["has_class"].sum(axis=0).astype(int)
    found, drawn = intervals.means(used), intervals.resampled_means(used)
    lines: list[Line] = [
        {"class": name, "queries": int(queries), "relevant": int(count)}
        for name, queries, count in zip(classes, asked, images, strict=True)
    ]
    for measure in per_class.MEASURES:
        values, resamples = (per_class.by_class(means, measure) for means in (found, drawn))
        for place, one in enumerate(lines):
            score = intervals.summary(values[place], resamples[:, place]) if asked[place] else None
            one[measure.replace("map", "ap")] = score and score._asdict()
    return lines
