"""Scores of a ranking together with what they were taken over, as JSON and as text."""

import dataclasses
from typing import Any

from rejepa_jax.console import table as lay_out
from rejepa_jax.retrieval.metrics import catalogue, table
from rejepa_jax.retrieval.metrics.intervals import Score


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Every metric, and what it was taken over."""

    facts: dict[str, Any]
    at_k: dict[str, Score]
    full: dict[str, Score] | None  # if the whole gallery was ranked
    same_place: dict[str, Score] | None  # of hits elsewhere; None if no query's place is there


def to_json(sheet: Sheet) -> dict[str, Any]:
    """Returns the scores in JSON's own types."""
    rules = sheet.facts["rules"]
    metrics = catalogue.at_k(rules) | (catalogue.full(rules) if sheet.full else {})
    return sheet.facts | {
        "metrics": table.as_json(sheet.at_k),
        "full": sheet.full and table.as_json(sheet.full),
        "same_place": sheet.same_place and table.as_json(sheet.same_place),
        "meanings": table.describe(metrics, sheet.facts["k"]),
    }


def to_text(sheet: Sheet) -> str:
    """Lays the scores out: each metric with its 95 % bootstrap interval over queries."""
    content = to_json(sheet)
    elsewhere = content["same_place"] or {}
    rows = [["metric", "score", "meaning"]]
    if elsewhere:
        rows[0].insert(2, "without the query's place")
    for name, score in (content["metrics"] | (content["full"] or {})).items():
        cells = [name, table.format_score(score), content["meanings"][name]["meaning"]]
        if elsewhere:
            cells.insert(2, table.format_score(elsewhere[name]) if name in elsewhere else "-")
        rows.append(cells)
    return f"{_heading(sheet.facts)}\n{lay_out(rows)}"


def _heading(facts: dict[str, Any]) -> str:
    splits = ", ".join(facts["gallery_splits"])
    notes = [
        f"{facts['queries']} queries, {facts['gallery']} images that could be found"
        + (f" (split {splits})" if splits else ""),
        f"k = {facts['k']}; in brackets 95 % bootstrap intervals over queries",
    ]
    for key, text in (
        ("itself", "hits were the query itself: left out"),
        ("short", f"queries have fewer than {facts['k']} hits: what is missing counts as wrong"),
        ("unanswerable", "queries to which no image is right, whatever is found"),
    ):
        if facts[key]:
            notes.append(f"{facts[key]} {text}")
    return "\n".join(notes)
