"""Several runs side by side: how well they retrieve, what they look at, what they find."""

import dataclasses
import pathlib
from collections.abc import Sequence

from rejepa_jax import artifacts
from rejepa_jax.report import attention, finders, gallery, page
from rejepa_jax.report.evaluated import JUDGED, Cell, Line, Measure
from rejepa_jax.report.sides import Side, find_records, open_sides
from rejepa_jax.report.verdict import sentence
from rejepa_jax.retrieval.baselines import FREE
from rejepa_jax.retrieval.evaluate import encoder_row
from rejepa_jax.training.export import UNTRAINED

QUERIES = 6  # shown
SEARCHED = "searched encoder"  # the row in which each run has the encoder that fills its index


@dataclasses.dataclass(frozen=True)
class Row:
    """A descriptor in one form: by metric, a score of each run that has it."""

    descriptor: str
    form: str
    cells: dict[str, list[Cell | None]]

    def best(self, measure: Measure) -> float | None:
        """The best value, where there is one to choose."""
        cells = [cell for cell in self.cells[measure.name] if cell]
        is_choice = len({cell["value"] for cell in cells}) > 1
        return measure.best(cells) if is_choice else None


def write_comparison(
    runs: Sequence[pathlib.Path], path: pathlib.Path, records: pathlib.Path | None = None
) -> pathlib.Path:
    """Writes a page about two or more runs evaluated alike; returns where it is.

    `path` is the file, or a directory that gets `compare.html`; `records` is needed where no run
    has its records in it.

    Raises:
        ConfigError: fewer than two runs, one run twice, or runs that were evaluated differently.
        FileNotFoundError, DataError: a run is not finished or damaged.
    """
    sides = open_sides(runs)
    held = find_records(sides, records)
    rankings = [side.found.ranking for side in sides]
    queries = rankings[0].queries
    places = gallery.spread(len(queries), QUERIES)
    answers = [
        gallery.show_answers(side.found.ranking, held, side.bundle.sensor, QUERIES)
        for side in sides
    ]
    counts = finders.count_finders([ranking.hits for ranking in rankings])
    html = page.render(
        "compare.html",
        sides=sides,
        table=sides[0].found.table,
        measures=sides[0].found.measures,
        verdicts=judge(sides),
        rows=side_by_side(sides),
        records=held,
        attended=attention.show_attention({s.name: s.bundle for s in sides}, held, queries[places]),
        ramp=attention.ramp(),
        alone=finders.shares_alone(counts),
        answers=finders.mark(answers, [count[places] for count in counts]),
        versions=artifacts.versions(),
    )
    target = path if path.suffix == ".html" else path / "compare.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(html, encoding="utf-8")
    return target


def judge(sides: Sequence[Side]) -> list[str]:
    """Says how the best run stands to each other, by the encoder that fills its index."""

    def score(side: Side) -> Cell:
        return side.found.plain[JUDGED]

    best, *others = sorted(sides, key=lambda side: -score(side)["value"])
    name = f"{best.name} ({best.found.searched})"
    return [
        sentence(name, score(best), f"{s.name} ({s.found.searched})", score(s), s.found.k)
        for s in others
    ]


def side_by_side(sides: Sequence[Side]) -> list[Row]:
    """Lines the tables up: the searched encoders, the untrained, all others, what is free."""
    found: dict[tuple[str, str], dict[int, Line]] = {}
    for number, side in enumerate(sides):
        for line in side.found.table["rows"]:
            name = SEARCHED if line["descriptor"] == side.found.searched else line["descriptor"]
            found.setdefault((name, line["form"]), {})[number] = line

    def place(key: tuple[str, str]) -> int:
        name, _ = key
        first = (SEARCHED, encoder_row(UNTRAINED))
        if name in first:
            return first.index(name)
        return 2 if name.endswith("encoder") else 3 if name in FREE else 4

    return [
        Row(
            descriptor,
            form,
            {
                measure.name: [
                    found[descriptor, form].get(n, {}).get(measure.name) for n in range(len(sides))
                ]
                for measure in sides[0].found.measures
            },
        )
        for descriptor, form in sorted(found, key=place)
    ]
