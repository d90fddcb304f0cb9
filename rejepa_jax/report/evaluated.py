"""What the evaluation left, read in one place: here is settled what a release adds or lacks."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from rejepa_jax import artifacts
from rejepa_jax.report import gallery
from rejepa_jax.retrieval.compact import COMPACT
from rejepa_jax.retrieval.evaluate import PER_CLASS, RANKING, TABLE, encoder_row
from rejepa_jax.types import DataError

JUDGED = "f1_micro_sets"  # the metric of the verdict
MAIN = {  # title and meaning of the metrics that are always shown
    JUDGED: ("F1, micro sets", "harmonic mean of the grand means, as in CSMAE"),
    "f1_pair_mean": ("F1, pair mean", "mean over query and hit pairs, as in CR-JEPA"),
    "precision_at_k": ("Precision", "share of hits with a label of the query"),
}

Line = dict[str, Any]  # of the table
Cell = dict[str, float]  # value, low, high


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric of the table, in words."""

    name: str
    title: str
    meaning: str
    is_distance: bool  # the smaller, the better

    def cells(self, lines: Sequence[Line]) -> list[Cell]:
        """Returns its scores of the lines that have one."""
        return [line[self.name] for line in lines if self.name in line]

    def best(self, cells: Iterable[Cell]) -> float:
        """Returns the best value of one or more scores."""
        return (min if self.is_distance else max)(cell["value"] for cell in cells)


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """One class of the queries; a score is None where no query has it."""

    name: str
    queries: int
    relevant: int  # images of the gallery that have it
    precision: Cell | None
    recall: Cell | None
    average_precision: Cell | None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall."""
        if self.precision is None or self.recall is None:
            return None
        precision, recall = self.precision["value"], self.recall["value"]
        return 2 * precision * recall / max(precision + recall, 1e-300)


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """All of an evaluation; what an older one lacks is None or empty."""

    path: pathlib.Path  # of the table
    table: dict[str, Any]
    ranking: gallery.Ranking
    classes: list[ClassScore]
    compact: dict[str, Any] | None

    @property
    def k(self) -> int:
        """How many hits count."""
        return self.table["k"]

    @property
    def searched(self) -> str:
        """The row of the encoder that fills the index."""
        return encoder_row(self.table["encoder"])

    @property
    def plain(self) -> Line:
        """The searched encoder's scores, as it fills the index."""
        return _plain(self.lines([self.searched]))

    @property
    def measures(self) -> list[Measure]:
        """The metrics of the table, those that are always shown first."""
        rows = self.table["rows"]
        found = [name for row in rows for name, cell in row.items() if isinstance(cell, dict)]
        return [self._measure(name) for name in dict.fromkeys([*MAIN, *found]) if name in found]

    @property
    def full(self) -> dict[Measure, Cell]:
        """What was scored over the whole gallery, of the searched encoder."""
        scores = self.table.get("full") or {}
        return {self._measure(name): cell for name, cell in scores.items()}

    @property
    def same_place(self) -> tuple[int, Cell] | None:
        """How many queries have their own place in the gallery, and the score without it."""
        apart = self.table.get("same_place")
        if not apart or not apart.get("rows"):
            return None
        lines = [line for line in apart["rows"] if line["descriptor"] == self.searched]
        return apart["queries"], _plain(lines)[JUDGED]

    @property
    def unanswerable(self) -> int:
        """How many queries nothing in the gallery is right for."""
        return self.table.get("unanswerable", 0)

    def lines(self, names: Sequence[str]) -> list[Line]:
        """Returns the lines of some descriptors; a DataError where there is none."""
        found = [line for line in self.table["rows"] if line["descriptor"] in names]
        if not found:
            there = sorted({line["descriptor"] for line in self.table["rows"]})
            raise DataError(
                f"{self.path}: got rows for {there}, expected {' or '.join(names)}; evaluate again"
            )
        return found

    def _measure(self, name: str) -> Measure:
        if name in MAIN:
            title, meaning = MAIN[name]
            return Measure(name, f"{title} @{self.k}", meaning, is_distance=False)
        words = {"title": name, "meaning": "", "is_distance": False}
        return Measure(name, **self.table.get("metrics", {}).get(name, words))


def read(directory: pathlib.Path) -> Evaluated:
    """Reads an evaluation, which is whole."""
    path = directory / TABLE
    table, ranking = artifacts.read_json(path), gallery.read_ranking(directory / RANKING)
    compact, classes = (_read_optional(directory / name) for name in (COMPACT, PER_CLASS))
    lines = classes["classes"] if classes else []
    return Evaluated(path, table, ranking, [_class_score(line) for line in lines], compact)


def _read_optional(path: pathlib.Path) -> dict[str, Any] | None:
    return artifacts.read_json(path) if path.exists() else None


def _class_score(line: Line) -> ClassScore:
    counts = line["class"], line["queries"], line["relevant"]
    return ClassScore(*counts, line["precision_at_k"], line["recall_at_k"], line["ap_at_k"])


def _plain(lines: Sequence[Line]) -> Line:
    return next(line for line in lines if line["form"] == "plain")
