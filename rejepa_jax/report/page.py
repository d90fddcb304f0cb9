"""One page about a run: how well it retrieves, how it trained, what it finds, from what it came."""

import importlib.resources
import pathlib
from typing import Any

import jinja2

from rejepa_jax import artifacts
from rejepa_jax.config import Report
from rejepa_jax.data import sensors
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.report import curves, gallery
from rejepa_jax.retrieval.encoder import DESCRIPTION
from rejepa_jax.retrieval.evaluate import RANKING, TABLE
from rejepa_jax.training.monitor import LOG
from rejepa_jax.types import DataError

PAGE = "report.html"
STAGES = ("checkpoints", "encoders", "embeddings", "index", "evaluation")
JUDGED = "f1_micro_sets"  # the metric of the verdict
RIVALS = ("image statistics", "untrained encoder")
METRICS = {  # title and meaning
    "f1_micro_sets": ("F1, micro sets", "harmonic mean of the grand means, as in CSMAE"),
    "f1_pair_mean": ("F1, pair mean", "mean over query and hit pairs, as in CR-JEPA"),
    "precision_at_k": ("Precision", "share of hits with a label of the query"),
}


def write_report(
    run: pathlib.Path, records: RecordSet, settings: Report, directory: pathlib.Path
) -> artifacts.Built:
    """Writes the page, one file that needs no other, from the run's complete artefacts.

    Raises:
        FileNotFoundError: a stage has not finished.
        DataError: a file of a stage is missing, empty or stages do not belong together.
    """
    stages = {"records": records.manifest}
    stages |= {name: artifacts.load(run / name) for name in STAGES}
    _check_sources(run, stages)
    path = run / "evaluation" / TABLE
    table = artifacts.read_json(path)
    verdicts = [compare(table, rival, path) for rival in RIVALS]
    bundle = artifacts.read_json(run / "encoders" / table["encoder"] / DESCRIPTION)
    cells = [name for name, cell in table["rows"][0].items() if isinstance(cell, dict)]
    ranking = gallery.read_ranking(run / "evaluation" / RANKING)
    html = render(
        run=run.resolve().name,
        stages=stages,
        table=table,
        metrics={name: METRICS.get(name, (name, "")) for name in cells},
        judged=JUDGED,
        verdicts=verdicts,
        curves=curves.draw_curves(run / "checkpoints" / LOG),
        answers=gallery.show_answers(ranking, records, bundle["sensor"], settings.queries),
        sensor=_title(bundle["sensor"], bundle["record"]["bands"]),
        dtype=bundle["record"]["dtype"],
        records=records,
    )
    (directory / PAGE).write_text(html, encoding="utf-8")
    return artifacts.Built({"verdict": verdicts[0]})


def _check_sources(run: pathlib.Path, stages: dict[str, dict[str, Any]]) -> None:
    """Refuses stages of which one was made from another than the one that is there."""
    for name, manifest in stages.items():
        for source, fingerprint in manifest["inputs"].items():
            if source in stages and fingerprint != stages[source]["fingerprint"]:
                raise DataError(
                    f"{run / name}: got one made from {source} {fingerprint[:12]}, expected "
                    f"{stages[source]['fingerprint'][:12]}, which is there; run {name} again"
                )


def _title(sensor: str, bands: list[str]) -> str:
    """Names a sensor; one that no table knows by its bands."""
    known = sensors.SENSORS.get(sensor)
    return known.title if known else f"{len(bands)} bands: {', '.join(bands)}"


def render(**content: Any) -> str:
    """Fills the template; whatever comes from data is escaped."""
    template = importlib.resources.files("rejepa_jax.report") / "template.html"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(**content)


def compare(table: dict[str, Any], rival: str, path: pathlib.Path) -> str:
    """Says in a sentence whether the encoder beats a rival, whichever way it goes.

    The encoder stands as it is searched (plain), the rival in its better form.
    """
    name = f"{table['encoder']} encoder"
    ours = next(line[JUDGED] for line in _lines(table, name, path) if line["form"] == "plain")
    theirs = max((line[JUDGED] for line in _lines(table, rival, path)), key=lambda s: s["value"])
    is_open = ours["low"] <= theirs["high"] and theirs["low"] <= ours["high"]
    if ours["value"] > theirs["value"]:
        words = "does not clearly retrieve better than" if is_open else "retrieves better than"
    else:
        words = "retrieves no better than" if is_open else "retrieves worse than"
    return (
        f"The {name} {words} {'the ' if 'encoder' in rival else ''}{rival}: F1@{table['k']} "
        f"{_score(ours)} against {_score(theirs)}; the intervals {'' if is_open else 'do not '}"
        "overlap."
    )


def _lines(table: dict[str, Any], name: str, path: pathlib.Path) -> list[dict[str, Any]]:
    lines = [line for line in table["rows"] if line["descriptor"] == name]
    if not lines:
        names = sorted({line["descriptor"] for line in table["rows"]})
        raise DataError(f"{path}: got rows for {names}, expected {name!r}; evaluate again")
    return lines


def _score(score: dict[str, float]) -> str:
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
