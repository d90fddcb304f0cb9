"""Several runs side by side: how well they retrieve, what they look at, what they find."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from rejepa_jax import artifacts
from rejepa_jax.data.pipeline import RecordSet, open_records
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.report import attention, gallery, page
from rejepa_jax.retrieval.baselines import FREE
from rejepa_jax.retrieval.encoder import Bundle, load_bundle
from rejepa_jax.retrieval.evaluate import RANKING, TABLE, UNLABELLED, encoder_row
from rejepa_jax.training.export import UNTRAINED
from rejepa_jax.types import ConfigError, DataError

QUERIES = 6  # shown
SEARCHED = "searched encoder"  # the row in which each run has the encoder that fills its index

Cell = dict[str, float] | None


@dataclasses.dataclass(frozen=True)
class Side:
    """One run: what the page needs of it."""

    name: str
    path: pathlib.Path
    table: dict[str, Any]
    stages: dict[str, dict[str, Any]]  # manifests
    bundle: Bundle  # that fills the index
    ranking: gallery.Ranking

    @property
    def row(self) -> str:
        """The encoder's name in the run's table."""
        return encoder_row(self.table["encoder"])

    @property
    def parameters(self) -> int:
        """Of the encoder."""
        return count_parameters(self.bundle.encoder)

    @property
    def sensor(self) -> str:
        """The sensor's title."""
        return page.title(self.bundle.sensor, self.bundle.record.bands)

    @property
    def protocol(self) -> dict[str, Any]:
        """All that two runs must share for their scores to be comparable."""
        shared = {name: self.table[name] for name in ("queries", "gallery", "k")}
        return shared | {"records": self.stages["evaluation"]["inputs"]["records"]}


@dataclasses.dataclass(frozen=True)
class Row:
    """A descriptor in one form: by metric, a score of each run that has it."""

    descriptor: str
    form: str
    cells: dict[str, list[Cell]]

    def best(self, metric: str) -> float | None:
        """The highest value, where there is one to choose."""
        values = {cell["value"] for cell in self.cells[metric] if cell}
        return max(values) if len(values) > 1 else None


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
    queries = sides[0].ranking.queries
    shown = queries[gallery.spread(len(queries), QUERIES)]
    found = [gallery.show_answers(s.ranking, held, s.bundle.sensor, QUERIES) for s in sides]
    html = page.render(
        "compare.html",
        sides=sides,
        table=sides[0].table,
        metrics=page.metrics(sides[0].table),
        judged=page.JUDGED,
        verdicts=judge(sides),
        rows=side_by_side(sides),
        records=held,
        attended=attention.show_attention({s.name: s.bundle for s in sides}, held, shown),
        ramp=attention.ramp(),
        answers=list(zip(*found, strict=True)),
        versions=artifacts.versions(),
    )
    target = path if path.suffix == ".html" else path / "compare.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(html, encoding="utf-8")
    return target


def open_sides(runs: Sequence[pathlib.Path]) -> list[Side]:
    """Opens the runs and refuses those whose scores cannot be compared."""
    paths = [run.resolve() for run in runs]
    if len(paths) < 2 or len(set(paths)) < len(paths):
        raise ConfigError(
            f"got runs {', '.join(map(str, runs)) or '(none)'}, expected two or more different "
            "run directories; name each once"
        )
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.name}" for path in paths]
    sides = [_open_side(name, path) for name, path in zip(names, paths, strict=True)]
    first = sides[0]
    if not first.table["rows"]:
        raise ConfigError(f"run {first.path}: {UNLABELLED} Compare runs over labelled records")
    for side in sides[1:]:
        for key, value in side.protocol.items():
            if value != first.protocol[key]:
                raise ConfigError(
                    f"{side.path} was evaluated with {key} = {value}, {first.path} with "
                    f"{first.protocol[key]}; evaluate both on the same records (data.records) "
                    "with the same eval settings"
                )
    return sides


def _open_side(name: str, path: pathlib.Path) -> Side:
    stages = {n: artifacts.load(path / n) for n in ("checkpoints", "encoders", "evaluation")}
    page.check_sources(path, stages)
    table = artifacts.read_json(path / "evaluation" / TABLE)
    bundle = load_bundle(path / "encoders" / table["encoder"])
    ranking = gallery.read_ranking(path / "evaluation" / RANKING)
    return Side(name, path, table, stages, bundle, ranking)


def find_records(sides: Sequence[Side], given: pathlib.Path | None) -> RecordSet:
    """Opens the records that all runs were evaluated on: the given ones, or those in a run."""
    wanted = sides[0].protocol["records"]
    for place in [given] if given else [side.path / "records" for side in sides]:
        if given or (place / artifacts.MANIFEST).exists():
            records = open_records(place)
            if records.manifest["fingerprint"] == wanted:
                return records
    raise DataError(
        f"{given or 'the runs'}: got no records {wanted[:12]}, which the runs were evaluated on; "
        "give their directory with --records"
    )


def judge(sides: Sequence[Side]) -> list[str]:
    """Says how the best run stands to each other, by the encoder that fills its index."""

    def score(side: Side) -> dict[str, float]:
        lines = page.lines(side.table, [side.row], side.path / "evaluation" / TABLE)
        return next(line[page.JUDGED] for line in lines if line["form"] == "plain")

    best, *others = sorted(sides, key=lambda side: -score(side)["value"])
    name = f"{best.name} ({best.row})"
    return [
        page.sentence(name, score(best), f"{s.name} ({s.row})", score(s), s.table["k"])
        for s in others
    ]


def side_by_side(sides: Sequence[Side]) -> list[Row]:
    """Lines the tables up: the searched encoders, the untrained, all others, what is free."""
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for number, side in enumerate(sides):
        for line in side.table["rows"]:
            name = SEARCHED if line["descriptor"] == side.row else line["descriptor"]
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
                metric: [found[descriptor, form].get(n, {}).get(metric) for n in range(len(sides))]
                for metric in page.metrics(sides[0].table)
            },
        )
        for descriptor, form in sorted(found, key=place)
    ]
