"""Recall and F1 against the bytes of a descriptor, as two curve charts."""

import dataclasses
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from rejepa_jax.report.drawing import LINES, MARKS, to_svg
from rejepa_jax.retrieval.compact import FIRST, PCA, PCA_INT8

STARTS = {PCA: "float32", PCA_INT8: "int8", FIRST: "float32"}  # where a line comes from
RERANKED = "1-bit, re-ranked"
SIZE = (4.4, 3.1)
APART = 1.03  # by how much a line stands beside the one before: their intervals are as wide

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawn chart and what it says, in words."""

    title: str
    summary: str
    svg: str


def draw_compact(compact: dict[str, Any] | None) -> list[Chart]:
    """Draws what of recall and F1 was measured."""
    if compact is None:
        return []
    k, rows = compact["k"], compact["rows"]
    titles = {"recall": f"Recall@{k} of float32's hits", "f1": f"F1@{k}"}
    return [_draw(rows, name, title) for name, title in titles.items() if name in rows[0]]


def lines(rows: list[Row]) -> dict[str, list[Row]]:
    """Returns the rows of each line, most bytes first; re-ranking is a point of its own."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = RERANKED if row["exact_bytes"] else row["family"]
        start = [other for other in rows if other["name"] == STARTS.get(name)]
        found.setdefault(name, start).append(row)
    return found


def _draw(rows: list[Row], name: str, title: str) -> Chart:
    words = "; ".join(
        f"{row['name']}, {row['bytes']} bytes: {row[name]['value']:.3f}" for row in rows
    )
    svg = to_svg(lambda axes: _plot(axes, rows, name, title), f"{title} by bytes", words, SIZE)
    ends = max(rows, key=lambda row: row["bytes"]), min(rows, key=lambda row: row["bytes"])
    summary = " to ".join(f"{row[name]['value']:.3f} at {row['bytes']} bytes" for row in ends)
    return Chart(title, f"from {summary}; every point is in the table below", svg)


def _plot(axes: Axes, rows: list[Row], name: str, title: str) -> None:
    styles = zip(LINES, MARKS, strict=True)
    for number, (family, points) in enumerate(lines(rows).items()):
        (dashes, colour), mark = (
            (("none", LINES[0][1]), "*") if family == RERANKED else next(styles)
        )
        low, values, high = (
            np.array([point[name][key] for point in points]) for key in ("low", "value", "high")
        )
        axes.errorbar(
            [point["bytes"] * APART**number for point in points],
            values,
            np.maximum([values - low, high - values], 0),
            **{"ls": dashes, "color": colour, "marker": mark, "ms": 8 if mark == "*" else 4},
            **{"lw": 1.2, "elinewidth": 0.8, "capsize": 2, "label": family},
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(2))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set(xlabel="bytes a descriptor, in doublings", ylabel=title)
    axes.legend(frameon=False, fontsize=8)
