"""Scores a ranking by every named metric: what was asked, what may answer, what is right.

A ranking is an integer array [q k] of gallery rows, best first, from any system; -1 is no hit.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from rejepa_jax.retrieval.metrics import catalogue, intervals
from rejepa_jax.retrieval.metrics.anmrr import anmrr_columns
from rejepa_jax.retrieval.metrics.blocks import blocks
from rejepa_jax.retrieval.metrics.catalogue import named
from rejepa_jax.retrieval.metrics.excluded import Excluded
from rejepa_jax.retrieval.metrics.graded import graded_columns
from rejepa_jax.retrieval.metrics.intervals import Score
from rejepa_jax.retrieval.metrics.per_class import class_columns
from rejepa_jax.retrieval.metrics.ranked import full_columns, ranked_columns
from rejepa_jax.retrieval.metrics.relevance import (
    ANY_OVERLAP,
    LabelSets,
    Rule,
    find_rules,
    overlap,
    pack,
)
from rejepa_jax.retrieval.metrics.sets import Columns, set_columns
from rejepa_jax.retrieval.metrics.totals import Totals, count_classes, count_gallery
from rejepa_jax.types import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Task:
    """Label sets of queries and gallery, the rules of relevance, and what may not answer whom.

    Raises:
        ConfigError: the classes of queries and gallery differ, or there is no such rule.
        DataError: the rule single_label, and an image has not exactly one.
    """

    query_labels: Bool[np.ndarray, "q _l"]
    gallery_labels: Bool[np.ndarray, "r _m"]
    rules: tuple[str, ...] = (ANY_OVERLAP,)
    excluded: Excluded | None = None

    def __post_init__(self) -> None:
        ours, theirs = self.query_labels.shape[1], self.gallery_labels.shape[1]
        if ours != theirs:
            raise ConfigError(
                f"got {ours} label columns for the queries and {theirs} for the gallery, expected "
                "the same classes in the same order; build both from one schema"
            )
        _ = self.right_by

    @functools.cached_property
    def queries(self) -> LabelSets:
        """The queries' label sets, packed."""
        return pack(self.query_labels)

    @functools.cached_property
    def gallery(self) -> LabelSets:
        """The gallery's label sets, packed."""
        return pack(self.gallery_labels)

    @functools.cached_property
    def right_by(self) -> dict[str, Rule]:
        """The rules by name."""
        return find_rules(self.rules, self.queries, self.gallery)

    @functools.cached_property
    def totals(self) -> Totals:
        """What is right in the gallery for each query."""
        return count_gallery(self.queries, self.gallery, self.right_by, self.excluded)

    @functools.cached_property
    def class_totals(self) -> Int[np.ndarray, "#q l"]:
        """How many images of the gallery have each class, for each query."""
        return count_classes(self.gallery_labels, len(self.query_labels), self.excluded)

    @property
    def answerable(self) -> Bool[np.ndarray, " q"]:
        """Whether anything in the gallery is right for each query, under the first rule."""
        return self.totals.relevant[self.rules[0]] > 0

    def pick(self, queries: Int[np.ndarray, " p"]) -> "Task":
        """Returns the task of some of the queries.

        Raises:
            ConfigError: of none.
        """
        if not len(queries):
            raise ConfigError(
                "got no query that can be answered, expected some; look at the labels"
            )
        left = self.excluded and self.excluded.pick(queries)
        return dataclasses.replace(self, query_labels=self.query_labels[queries], excluded=left)


def measure(task: Task, ranking: Int[np.ndarray, "_q _n"], k: int | None = None) -> Columns:
    """Scores each query by its first k hits (default: all) that are not excluded.

    Raises:
        ConfigError: the arrays do not belong together, or there is nothing to score.
        DataError: the ranking names a row that the gallery does not have, or one twice.
    """
    check_ranking(task, ranking)
    k = ranking.shape[1] if k is None else k
    # A class takes as much room as a hit.
    width = ranking.shape[1] + task.query_labels.shape[1]
    parts = [_measure_block(task, part, ranking[part], k) for part in blocks(len(ranking), width)]
    return join(parts)


def evaluate(
    query_labels: Bool[np.ndarray, "q _l"],
    gallery_labels: Bool[np.ndarray, "_r _m"],
    ranking: Int[np.ndarray, "_q _n"],
    rules: Sequence[str] = (ANY_OVERLAP,),
    excluded: Excluded | None = None,
) -> dict[str, Score]:
    """Scores any system's ranking by every metric of k hits; k is the width of the ranking."""
    task = Task(query_labels, gallery_labels, tuple(rules), excluded)
    return intervals.scores(measure(task, ranking), catalogue.at_k(task.rules))


def measure_full(task: Task, part: slice, ranking: Int[np.ndarray, "b r"]) -> Columns:
    """Scores a block of queries by rankings of the whole gallery, -1 after what is excluded."""
    pairs = overlap(task.queries.pick(part), task.gallery, ranking)
    columns = graded_columns(pairs.shared, task.totals.gains[part], "_full")
    rows = len(task.gallery_labels)
    for name, rule in task.right_by.items():
        right, totals = rule(pairs), task.totals.relevant[name]
        found = full_columns(right, totals[part])
        found |= anmrr_columns(right, totals[part], int(totals.max(initial=0)), rows)
        columns |= {named(column, name): values for column, values in found.items()}
    return columns


def join(parts: Sequence[Columns]) -> Columns:
    """Puts the columns of blocks of queries one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_ranking(task: Task, ranking: Int[np.ndarray, "q n"]) -> None:
    """Refuses a ranking that does not belong to the task."""
    queries, rows = len(task.query_labels), len(task.gallery_labels)
    if len(ranking) != queries:
        raise ConfigError(
            f"got a ranking of {len(ranking)} queries, expected {queries} (the rows of the query "
            "labels); rank the queries that are scored"
        )
    if ranking.size == 0:
        raise ConfigError(f"got a ranking of shape {ranking.shape}, expected q > 0 and k > 0")
    outside = (ranking < -1) | (ranking >= rows)
    if outside.any():
        query, rank = np.argwhere(outside)[0]
        raise DataError(
            f"ranking of query {query}: got gallery row {ranking[query, rank]} at rank {rank}, "
            f"expected 0 to {rows - 1}, or -1 for no hit; rank and score with the same gallery"
        )
    ordered = np.sort(ranking, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        query, place = np.argwhere(twice)[0]
        raise DataError(
            f"ranking of query {query}: got gallery row {ordered[query, place]} twice, expected "
            "every hit once; remove the repetition"
        )


def _measure_block(task: Task, part: slice, ranking: Int[np.ndarray, "b n"], k: int) -> Columns:
    hits = ranking[:, :k]
    if task.excluded is not None:
        hits = task.excluded.pick(part).drop(ranking, k)
    pairs = overlap(task.queries.pick(part), task.gallery, hits)
    columns = set_columns(pairs, task.query_labels.shape[1])
    columns |= graded_columns(pairs.shared, task.totals.gains[part])
    for name, rule in task.right_by.items():
        found = ranked_columns(rule(pairs), task.totals.relevant[name][part])
        columns |= {named(column, name): values for column, values in found.items()}
    total = task.class_totals if len(task.class_totals) == 1 else task.class_totals[part]
    return columns | class_columns(task.query_labels[part], task.gallery_labels, hits, total)
