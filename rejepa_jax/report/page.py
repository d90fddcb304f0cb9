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
from rejepa_jax.report import (
    attention,
    compact_chart,
    curves,
    embedding_map,
    evaluated,
    gallery,
    per_class,
    verdict,
)
from rejepa_jax.retrieval.baselines import FREE
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.encoder import load_bundle
from rejepa_jax.retrieval.evaluate import UNLABELLED, encoder_row
from rejepa_jax.storage import mirror
from rejepa_jax.training.export import UNTRAINED
from rejepa_jax.training.monitor import LOG
from rejepa_jax.types import DataError

PAGE = "report.html"
STAGES = ("checkpoints", "encoders", "embeddings", "index", "evaluation")


def write_report(
    run: pathlib.Path,
    records: RecordSet,
    settings: Report,
    directory: pathlib.Path,
) -> artifacts.Built:
    """Writes the page, one file that needs no other, from the run's complete artefacts.

    Raises:
        FileNotFoundError: a stage has not finished.
        DataError: a file of a stage is missing, empty or stages do not belong together.
        ConfigError: the map is asked for by a package that is not installed.
    """
    stages = {"records": records.manifest}
    stages |= {name: artifacts.load(run / name) for name in STAGES}
    check_sources(run, stages)
    found = evaluated.read(run / "evaluation")
    names = (found.table["encoder"], UNTRAINED)
    bundles = {encoder_row(name): load_bundle(run / "encoders" / name) for name in names}
    bundle = bundles[found.searched]
    verdicts = judge(found)
    queries = found.ranking.queries[gallery.spread(len(found.ranking.queries), settings.queries)]
    html = render(
        "template.html",
        run=mirror.address(run.resolve()).rstrip("/").rpartition("/")[2],
        stages=stages,
        found=found,
        verdicts=verdicts,
        curves=curves.draw_curves(run / "checkpoints" / LOG),
        answers=gallery.show_answers(found.ranking, records, bundle.sensor, settings.queries),
        classes=per_class.in_orders(found.classes),
        charts=compact_chart.draw_compact(found.compact),
        map=draw_map(run, records.splits[found.table["gallery"]["split"]], settings),
        attended=attention.show_attention(bundles, records, queries),
        ramp=attention.ramp(),
        image_size=bundle.preprocess.image_size,
        sensor=title(bundle.sensor, bundle.record.bands),
        dtype=bundle.record.dtype,
        records=records,
    )
    (directory / PAGE).write_text(html, encoding="utf-8")
    return artifacts.Built({"verdict": verdicts[0]})


def judge(found: evaluated.Evaluated) -> list[str]:
    """Says how the encoder stands to what is free, and to what it was before it learned."""
    if not found.table["rows"]:
        return [UNLABELLED]
    return [verdict.judge(found, FREE), verdict.judge(found, [encoder_row(UNTRAINED)])]


def draw_map(run: pathlib.Path, rows: range, settings: Report) -> embedding_map.Map | None:
    """Draws some of these rows' embeddings; they are read once, batch by batch."""
    if not settings.points:
        return None
    batches = reading.iterate(run / "embeddings", ("id", "labels"))
    return embedding_map.draw_map(
        embedding_map.sample(batches, rows, settings.points), settings.map
    )


def check_sources(run: pathlib.Path, stages: dict[str, dict[str, Any]]) -> None:
    """Refuses stages of which one was made from another than the one that is there."""
    for name, manifest in stages.items():
        for source, fingerprint in manifest["inputs"].items():
            if source in stages and fingerprint != stages[source]["fingerprint"]:
                raise DataError(
                    f"{run / name}: got one made from {source} {fingerprint[:12]}, expected "
                    f"{stages[source]['fingerprint'][:12]}, which is there; run {name} again"
                )


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
