"""Scores what any system found: its ranking, by ids, against labels from anywhere.

Which images could have been found decides recall and every figure of the whole gallery. They are
those of the split that is named; else of the splits in which hits are; else, where no splits are
known, all images, or all that are no query if no query is found.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int

from rejepa_jax.retrieval.metrics import catalogue, intervals
from rejepa_jax.retrieval.metrics.blocks import blocks
from rejepa_jax.retrieval.metrics.evaluating import Task, join, measure, measure_full
from rejepa_jax.retrieval.metrics.excluded import Excluded, same
from rejepa_jax.retrieval.metrics.intervals import Score
from rejepa_jax.retrieval.metrics.protocol import RULES
from rejepa_jax.retrieval.metrics.ranking import Ranking
from rejepa_jax.retrieval.metrics.sheet import Sheet
from rejepa_jax.retrieval.metrics.truth import Truth
from rejepa_jax.types import ConfigError, DataError

Rows = Int[np.ndarray, " _n"]


@dataclasses.dataclass(frozen=True)
class Asked:
    """How to score."""

    k: int = 10
    rules: tuple[str, ...] = RULES
    queries: str = ""  # the split that was asked, each of its images; "" = whatever was
    gallery: str = ""  # the split that could be found; "" = as above
    keep_self: bool = False  # let a query be its own answer, as in another sensor
    skip_unanswerable: bool = False  # leave out queries to which no image is right

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"got k = {self.k}, expected 1 or more; change k")


DEFAULTS = Asked()


def evaluate_ranking(ranking: Ranking, truth: Truth, asked: Asked = DEFAULTS) -> Sheet:
    """Scores any system's ranking by every metric.

    Raises:
        ConfigError: a split or a rule is not there.
        DataError: an image has no labels in `truth`, or is not of the split.
    """
    queries = truth.find(ranking.queries, ranking.are_rows, ranking.source)
    hits = truth.find(ranking.hits, ranking.are_rows, ranking.source)
    if asked.queries:
        _check_queries(ranking.source, truth, asked.queries, queries)
    gallery = _choose_gallery(truth, asked.gallery, queries, hits)
    place = np.full(len(truth.ids), -1)
    place[gallery] = np.arange(len(gallery))
    if (outside := place[hits] < 0).any():
        name = ranking.hits[int(outside.argmax())]
        raise DataError(
            f"{ranking.source}: got {outside.sum()} hits that are not of split {asked.gallery!r}, "
            f"first {name!r}, expected none; search that split only, or name another gallery"
        )
    return score(truth.pick(queries), truth.pick(gallery), ranking.order(place[hits]), asked)


def score(
    queries: Truth, gallery: Truth, ranking: Int[np.ndarray, "q n"], asked: Asked = DEFAULTS
) -> Sheet:
    """Scores a ranking of gallery rows; the two may come from two tables, as of two sensors."""
    classes = tuple(sorted({*queries.classes, *gallery.classes}))
    queries, gallery = queries.with_classes(classes), gallery.with_classes(classes)
    itself = same((queries.ids, gallery.ids))
    place = same((queries.places, gallery.places))
    excluded = None if asked.keep_self else itself
    task = Task(queries.labels, gallery.labels, asked.rules, excluded)
    facts = {
        "k": asked.k,
        "rules": list(asked.rules),
        "gallery": len(gallery.ids),
        "gallery_splits": sorted({*gallery.splits} - {""}),
        "unanswerable": int((~task.answerable).sum()),
    }
    kept = np.arange(len(queries.ids))
    if asked.skip_unanswerable:
        kept = np.flatnonzero(task.answerable)
    return _score_kept(task.pick(kept), itself.pick(kept), place.pick(kept), ranking[kept], facts)


def _score_kept(
    task: Task,
    itself: Excluded,
    place: Excluded,
    ranking: Int[np.ndarray, "q n"],
    facts: dict[str, Any],
) -> Sheet:
    k = facts["k"]
    missing = max(0, k - ranking.shape[1])
    ranking = np.pad(ranking, ((0, 0), (0, missing)), constant_values=-1)
    counted = ranking[:, :k] if task.excluded is None else task.excluded.drop(ranking, k)
    facts |= {
        "queries": len(ranking),
        "itself": 0 if task.excluded is None else int(task.excluded.covers(ranking).sum()),
        "short": int((counted[:, -1] < 0).sum()),
    }
    same_place = None
    if (place.counts() > itself.counts()).any():  # of another image than itself
        both = Excluded(*(np.hstack(pair) for pair in zip(itself, place, strict=True)))
        same_place = _at_k(dataclasses.replace(task, excluded=both), ranking, k)
    return Sheet(facts, _at_k(task, ranking, k), _full(task, ranking), same_place)


def _at_k(task: Task, ranking: Int[np.ndarray, "q n"], k: int) -> dict[str, Score]:
    return intervals.scores(measure(task, ranking, k), catalogue.at_k(task.rules))


def _full(task: Task, ranking: Int[np.ndarray, "q n"]) -> dict[str, Score] | None:
    """Returns the metrics of the whole gallery if all of it was ranked for each query."""
    queries, rows = len(ranking), len(task.gallery_labels)
    gone = np.zeros(queries, int) if task.excluded is None else task.excluded.counts()
    ranked = (ranking >= 0).sum(axis=1)
    if task.excluded is not None:
        ranked -= task.excluded.covers(ranking).sum(axis=1)
    if (ranked < rows - gone).any():
        return None
    parts = []
    for part in blocks(queries, rows):
        hits = np.pad(
            ranking[part], ((0, 0), (0, max(0, rows - ranking.shape[1]))), constant_values=-1
        )
        if task.excluded is not None:
            hits = task.excluded.pick(part).drop(hits, rows)
        parts.append(measure_full(task, part, hits[:, :rows]))
    return intervals.scores(join(parts), catalogue.full(task.rules))


def _check_queries(source: str, truth: Truth, split: str, queries: Rows) -> None:
    wanted = rows_of(truth, split)
    for rows, text in (
        (np.setdiff1d(wanted, queries), f"no hit for {{}} images of split {split!r}"),
        (np.setdiff1d(queries, wanted), f"{{}} queries that are not of split {split!r}"),
    ):
        if len(rows):
            raise DataError(
                f"{source}: got {text.format(len(rows))}, first {truth.ids[rows[0]]!r}, "
                "expected hits for each image of the split and no other; ask all of them"
            )


def _choose_gallery(truth: Truth, split: str, queries: Rows, hits: Rows) -> Rows:
    if split:
        return rows_of(truth, split)
    splits = np.asarray(truth.splits)
    if found := {truth.splits[row] for row in np.unique(hits)} - {""}:
        return np.flatnonzero(np.isin(splits, [*found]))
    rows = np.arange(len(truth.ids))
    return rows if np.isin(queries, hits).any() else np.setdiff1d(rows, queries)


def rows_of(truth: Truth, split: str) -> Rows:
    """Returns the rows of a split; a ConfigError where it has none."""
    rows = np.flatnonzero(np.asarray(truth.splits) == split)
    if not len(rows):
        known = ", ".join(sorted({*truth.splits} - {""})) or "none"
        raise ConfigError(f"{truth.source}: got the split {split!r}, expected one of: {known}")
    return rows
