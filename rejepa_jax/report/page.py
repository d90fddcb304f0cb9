"""One page about a run: how well it retrieves, how it trained, what it finds, from what it came."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2

from rejepa_jax import artifacts
from rejepa_jax.config import Report
from rejepa_jax.data import sensors
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.report import attention, curves, gallery
from rejepa_jax.retrieval.baselines import FREE
from rejepa_jax.retrieval.encoder import load_bundle
from rejepa_jax.retrieval.evaluate import RANKING, TABLE, UNLABELLED, encoder_row
from rejepa_jax.storage import mirror
from rejepa_jax.training.export import UNTRAINED
from rejepa_jax.training.monitor import LOG
from rejepa_jax.types import DataError

PAGE = "report.html"
STAGES = ("checkpoints", "encoders", "embeddings", "index", "evaluation")
JUDGED = "f1_micro_sets"  # the metric of the verdict
METRICS = {  # title and meaning
    "f1_micro_sets": ("F1, micro sets", "harmonic mean of the grand means, as in CSMAE"),
    "f1_pair_mean": ("F1, pair mean", "mean over query and hit pairs, as in CR-JEPA"),
    "precision_at_k": ("Precision", "share of hits with a label of the query"),
}

Line = dict[str, Any]  # of the table


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
    check_sources(run, stages)
    path = run / "evaluation" / TABLE
    table = artifacts.read_json(path)
    searched, untrained = encoder_row(table["encoder"]), encoder_row(UNTRAINED)
    verdicts = (
        [judge(table, FREE, path), judge(table, [untrained], path)]
        if table["rows"]
        else [UNLABELLED]
    )
    bundles = {
        encoder_row(n): load_bundle(run / "encoders" / n) for n in (table["encoder"], UNTRAINED)
    }
    bundle = bundles[searched]
    ranking = gallery.read_ranking(run / "evaluation" / RANKING)
    queries = ranking.queries[gallery.spread(len(ranking.queries), settings.queries)]
    html = render(
        "template.html",
        run=mirror.address(run.resolve()).rstrip("/").rpartition("/")[2],
        stages=stages,
        table=table,
        metrics=metrics(table),
        judged=JUDGED,
        searched=searched,
        verdicts=verdicts,
        curves=curves.draw_curves(run / "checkpoints" / LOG),
        answers=gallery.show_answers(ranking, records, bundle.sensor, settings.queries),
        attended=attention.show_attention(bundles, records, queries),
        ramp=attention.ramp(),
        image_size=bundle.preprocess.image_size,
        sensor=title(bundle.sensor, bundle.record.bands),
        dtype=bundle.record.dtype,
        records=records,
    )
    (directory / PAGE).write_text(html, encoding="utf-8")
    return artifacts.Built({"verdict": verdicts[0]})


def check_sources(run: pathlib.Path, stages: dict[str, dict[str, Any]]) -> None:
    """Refuses stages of which one was made from another than the one that is there."""
    for name, manifest in stages.items():
        for source, fingerprint in manifest["inputs"].items():
            if source in stages and fingerprint != stages[source]["fingerprint"]:
                raise DataError(
                    f"{run / name}: got one made from {source} {fingerprint[:12]}, expected "
                    f"{stages[source]['fingerprint'][:12]}, which is there; run {name} again"
                )


def metrics(table: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Returns title and meaning of each metric of a table."""
    first = table["rows"][0] if table["rows"] else {}
    names = [name for name, cell in first.items() if isinstance(cell, dict)]
    return {name: METRICS.get(name, (name, "")) for name in names}


def title(sensor: str, bands: Sequence[str]) -> str:
    """Names a sensor; one that no table knows by its bands."""
    known = sensors.SENSORS.get(sensor)
    return known.title if known else f"{len(bands)} bands: {', '.join(bands)}"


def render(template: str, **content: Any) -> str:
    """Fills a template; whatever comes from data is escaped."""
    return _environment().get_template(template).render(**content)


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("rejepa_jax.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def judge(table: dict[str, Any], rivals: Sequence[str], path: pathlib.Path) -> str:
    """Says in a sentence whether the encoder beats the best of some rivals, whichever way it goes.

    The encoder stands as it is searched (plain), a rival in its best form.
    """
    searched = encoder_row(table["encoder"])
    ours = next(line for line in lines(table, [searched], path) if line["form"] == "plain")
    best = max(lines(table, rivals, path), key=lambda line: line[JUDGED]["value"])
    name = best["descriptor"]
    rival = f"the best free descriptor, {name} ({best['form']})" if name in FREE else f"the {name}"
    return sentence(f"The {searched}", ours[JUDGED], rival, best[JUDGED], table["k"])


def sentence(
    name: str, ours: dict[str, float], rival: str, theirs: dict[str, float], k: int
) -> str:
    """Says which of two scores is better, and whether their intervals leave that open."""
    is_open = ours["low"] <= theirs["high"] and theirs["low"] <= ours["high"]
    if ours["value"] > theirs["value"]:
        words = "does not clearly retrieve better than" if is_open else "retrieves better than"
    else:
        words = "retrieves no better than" if is_open else "retrieves worse than"
    return (
        f"{name} {words} {rival}: F1@{k} {_score(ours)} against {_score(theirs)}; the intervals "
        f"{'' if is_open else 'do not '}overlap."
    )


def lines(table: dict[str, Any], names: Sequence[str], path: pathlib.Path) -> list[Line]:
    """Returns the table's lines of some descriptors; a DataError where there is none."""
    found = [line for line in table["rows"] if line["descriptor"] in names]
    if not found:
        there = sorted({line["descriptor"] for line in table["rows"]})
        raise DataError(
            f"{path}: got rows for {there}, expected {' or '.join(names)}; evaluate again"
        )
    return found


def _score(score: dict[str, float]) -> str:
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
