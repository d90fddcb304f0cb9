"""How well the encoders retrieve, beside what costs nothing: one table, one protocol.

Queries come from one split and the gallery from another (CSMAE: validation queries test), ranked
exactly by cosine. Every descriptor stands in the table in three forms: plain (length 1), z-scored
with gallery statistics first, and whitened by the gallery's principal axes.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Bool, Float, Int

from rejepa_jax import artifacts
from rejepa_jax.config import Eval
from rejepa_jax.console import Progress
from rejepa_jax.console import table as lay_out
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.retrieval import baselines, exact, metrics
from rejepa_jax.retrieval.embed import example_batches
from rejepa_jax.retrieval.forms import forms

TABLE = "table.json"
RANKING = "ranking.npz"
Rows = Int[np.ndarray, " r"]  # of the records
SEED = 0  # of the random ranking
UNLABELLED = "The records have no labels: nothing says which hits are right, so there is no score."
ROWS = "2"  # version of what stands in the table


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which rows query which, by which labels, and how deep."""

    queries: Int[np.ndarray, " q"]  # rows of the records
    gallery: Int[np.ndarray, " r"]
    query_labels: Bool[np.ndarray, "q l"]
    gallery_labels: Bool[np.ndarray, "r l"]
    k: int

    def rank(
        self, queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """Returns the k best gallery places of each query by inner product, and their scores."""
        return exact.top_k(queries, gallery, self.k)

    def score(self, ranking: Int[np.ndarray, "q k"]) -> dict[str, metrics.Score]:
        """Returns every named metric of a ranking."""
        return metrics.evaluate(self.query_labels, self.gallery_labels, ranking)


def evaluate(
    encoders: dict[str, Callable[[Rows], Float[np.ndarray, "r d"]]],
    sensor: str,
    records: RecordSet,
    settings: Eval,
    directory: pathlib.Path,
) -> artifacts.Built:
    """Writes the table of all descriptors, and the ranking of the chosen encoder for the report.

    `encoders` gives, by name, what embeds rows of the records. Without a label there is nothing to
    score: the table has no rows, and only the ranking is made.
    """
    queries, gallery = records.rows(settings.query_split), records.rows(settings.gallery_split)
    k = min(settings.k, len(gallery))
    if k < settings.k:
        logging.warning("the gallery has only %d images: metrics are at %d", k, k)
    rows = np.concatenate([queries, gallery])
    classes = records.schema.classes
    described, labels = {}, np.zeros((len(rows), 0), bool)
    if classes:
        batch_size = settings.batch_size
        free = baselines.free_descriptors(records, settings.gallery_split, sensor, batch_size)
        described, labels = _describe(records, rows, sensor, batch_size, free)
    else:
        logging.warning("the records have no labels: there is no score, only what is found")
        encoders = {settings.encoder: encoders[settings.encoder]}
    protocol = Protocol(queries, gallery, labels[: len(queries)], labels[len(queries) :], k)

    lines = _reference_lines(protocol) if classes else []
    for name, vectors in described.items():
        lines += _descriptor_lines(name, vectors, protocol)
    for name, embed in encoders.items():
        vectors = embed(rows)
        lines += _descriptor_lines(encoder_row(name), vectors, protocol) if classes else []
        if name == settings.encoder:
            _write_ranking(directory, protocol, vectors)
    content = {
        "k": k,
        "queries": {"split": settings.query_split, "images": len(queries)},
        "gallery": {"split": settings.gallery_split, "images": len(gallery)},
        "encoder": settings.encoder,
        "rows": lines,
    }
    artifacts.write_json(directory / TABLE, content)
    (directory / "table.txt").write_text(format_table(content) + "\n")
    return artifacts.Built({"table": content})


def encoder_row(name: str) -> str:
    """Names an encoder's rows of the table."""
    return name if name.endswith("encoder") else f"{name} encoder"


def _describe(
    records: RecordSet,
    rows: Rows,
    sensor: str,
    batch_size: int,
    free: dict[str, baselines.Describe],
) -> tuple[dict[str, Float[np.ndarray, "r _"]], Bool[np.ndarray, "r l"]]:
    """Reads every image once; returns all its free descriptors and its labels."""
    labels = np.zeros((len(rows), len(records.schema.classes)), bool)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in free}
    done, progress = 0, Progress("describe (free)", len(rows), "images")
    for examples, images in example_batches(records, rows, sensor, batch_size):
        placed = jnp.asarray(images)
        for name, describe in free.items():
            parts[name].append(np.asarray(describe(placed))[: len(examples)])
        for place, example in enumerate(examples, done):
            labels[place, list(example.labels)] = True
        done += len(examples)
        progress.update(done)
    return {name: np.concatenate(parts.pop(name)) for name in free}, labels


def _reference_lines(protocol: Protocol) -> list[dict[str, Any]]:
    count, k = len(protocol.queries), protocol.k
    chance = metrics.random_ranking(count, len(protocol.gallery), k, SEED)
    prior = metrics.label_prior_ranking(protocol.gallery_labels, count, k)
    return [
        _line("random ranking", "", protocol.score(chance)),
        _line("label prior", "", protocol.score(prior)),
    ]


def _descriptor_lines(
    name: str, vectors: Float[np.ndarray, "r d"], protocol: Protocol
) -> list[dict[str, Any]]:
    pairs = forms(*np.split(vectors, [len(protocol.queries)]))
    return [
        _line(name, form, protocol.score(protocol.rank(*pair)[1])) for form, pair in pairs.items()
    ]


def _line(name: str, form: str, scores: dict[str, metrics.Score]) -> dict[str, Any]:
    return {"descriptor": name, "form": form} | {
        metric: {"value": score.value, "low": score.low, "high": score.high}
        for metric, score in scores.items()
    }


def _write_ranking(
    directory: pathlib.Path, protocol: Protocol, vectors: Float[np.ndarray, "r d"]
) -> None:
    queries, gallery = np.split(vectors, [len(protocol.queries)])
    scores, places = protocol.rank(queries, gallery)
    np.savez(
        directory / RANKING,
        queries=protocol.queries,
        hits=protocol.gallery[places],
        scores=scores,
    )


def format_table(content: dict[str, Any]) -> str:
    """Lays the table out as text: each metric with its 95 % bootstrap interval over queries."""
    if not content["rows"]:
        queries, gallery = (content[name]["images"] for name in ("queries", "gallery"))
        return f"{UNLABELLED}\n{queries} images query {gallery}, k = {content['k']}: see the report"
    k = content["k"]
    titles = {
        "f1_micro_sets": f"f1_micro_sets@{k}",
        "f1_pair_mean": f"f1_pair_mean@{k}",
        "precision_at_k": f"P@{k}",
    }
    rows = [["descriptor", "form", *titles.values()]]
    for line in content["rows"]:
        cells = [
            f"{line[metric]['value']:.3f} [{line[metric]['low']:.3f}, {line[metric]['high']:.3f}]"
            for metric in titles
        ]
        rows.append([line["descriptor"], line["form"], *cells])
    queries, gallery = content["queries"], content["gallery"]
    heading = (
        f"{queries['images']} {queries['split']} images query {gallery['images']} "
        f"{gallery['split']} images, k = {k}; in brackets 95 % bootstrap intervals over queries"
    )
    return heading + "\n" + lay_out(rows)
