"""How well the encoders retrieve, beside what costs nothing: one table, one protocol.

Queries come from one split and the gallery from another (CSMAE: validation queries test), ranked
exactly by cosine. Every descriptor stands in the table in three forms: plain (length 1), z-scored
with gallery statistics first, and whitened by the gallery's principal axes. Where places are both
among queries and gallery, a second table leaves a query's own place out.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Bool, Float, Int

from rejepa_jax import artifacts
from rejepa_jax.config import Eval
from rejepa_jax.console import Progress
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.retrieval import baselines, compact
from rejepa_jax.retrieval.embed import example_batches
from rejepa_jax.retrieval.forms import Pair, check_descriptors, each_form, is_constant
from rejepa_jax.retrieval.metrics import catalogue, table
from rejepa_jax.retrieval.metrics.evaluating import measure
from rejepa_jax.retrieval.metrics.excluded import same
from rejepa_jax.retrieval.metrics.full import evaluate_gallery
from rejepa_jax.retrieval.metrics.protocol import RULES, Protocol, Scored
from rejepa_jax.retrieval.metrics.table import UNLABELLED

TABLE = "table.json"
PER_CLASS = "per_class.json"
RANKING = "ranking.npz"
Rows = Int[np.ndarray, " _r"]  # of the records
PROTOCOL = ("k", "queries", "gallery", "encoder")  # of the table, in the manifest too
ROWS = "3"  # version of what stands in the table
FULL_PAIRS = 1 << 27  # queries times rows up to which whole galleries are ranked: some 10 s


class Archive(NamedTuple):
    """What one reading of all images gives."""

    free: dict[str, Float[np.ndarray, "r _"]]  # descriptors
    labels: Bool[np.ndarray, "r l"]
    places: Sequence[str]


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

    Raises:
        DataError: an encoder's descriptors are not finite, or all the same.
    """
    queries, gallery = records.rows(settings.query_split), records.rows(settings.gallery_split)
    rows = np.concatenate([queries, gallery])
    archive = _read(records, rows, sensor, settings)
    if not records.schema.classes:
        logging.warning("%s", UNLABELLED)
        encoders = {settings.encoder: encoders[settings.encoder]}
    protocol = _make_protocol(queries, gallery, archive, settings.k)
    scored = _score_free(protocol, archive.free)
    content = _heading(protocol, settings)
    for name, embed in encoders.items():
        vectors = embed(rows)
        check_descriptors(encoder_row(name), vectors)
        if records.schema.classes:
            scored.add_forms(encoder_row(name), vectors)
        if name == settings.encoder:
            _, plain = next(each_form(*np.split(vectors, [len(queries)])))
            content |= _write_searched(directory, protocol, plain, records.schema.classes)
    content["rows"] = scored.all
    if protocol.same_place is not None:
        content["same_place"] |= {"rows": scored.apart}
    artifacts.write_json(directory / TABLE, content)
    (directory / "table.txt").write_text(table.format_table(content) + "\n")
    return artifacts.Built({"table": {name: content[name] for name in PROTOCOL}})


def encoder_row(name: str) -> str:
    """Names an encoder's rows of the table."""
    return name if name.endswith("encoder") else f"{name} encoder"


def _read(records: RecordSet, rows: Rows, sensor: str, settings: Eval) -> Archive:
    """Reads every image once; without classes there is nothing to read for."""
    classes, size = records.schema.classes, settings.batch_size
    if not classes:
        return Archive({}, np.zeros((len(rows), 0), bool), [""] * len(rows))
    free = baselines.free_descriptors(records, settings.gallery_split, sensor, size)
    return _describe(records, rows, sensor, size, free)


def _describe(
    records: RecordSet,
    rows: Rows,
    sensor: str,
    batch_size: int,
    free: dict[str, baselines.Describe],
) -> Archive:
    """Computes all free descriptors of each image as it is read, and keeps labels and place."""
    labels, places = np.zeros((len(rows), len(records.schema.classes)), bool), []
    parts: dict[str, list[np.ndarray]] = {name: [] for name in free}
    progress = Progress("describe (free)", len(rows), "images")
    for examples, images in example_batches(records, rows, sensor, batch_size):
        placed = jnp.asarray(images)
        for name, describe in free.items():
            parts[name].append(np.asarray(describe(placed))[: len(examples)])
        for row, example in enumerate(examples, len(places)):
            labels[row, list(example.labels)] = True
        places += [example.place for example in examples]
        progress.update(len(places))
    return Archive({name: np.concatenate(parts.pop(name)) for name in free}, labels, places)


def _make_protocol(queries: Rows, gallery: Rows, archive: Archive, wanted: int) -> Protocol:
    """Puts what was read together; `k` is no more than the gallery has."""
    k, count = min(wanted, len(gallery)), len(queries)
    if k < wanted:
        logging.warning("the gallery has only %d images: metrics are at %d", k, k)
    labels, place = archive.labels, same((archive.places[:count], archive.places[count:]))
    is_shared = place.counts().any()
    return Protocol(
        queries, gallery, labels[:count], labels[count:], k, place if is_shared else None
    )


def _score_free(protocol: Protocol, free: dict[str, Float[np.ndarray, "r _"]]) -> Scored:
    """Scores what needs no encoder; there is none of these without labels."""
    scored = Scored(protocol)
    if protocol.query_labels.shape[1]:
        scored.add_references()
    for name, vectors in free.items():
        if is_constant(vectors):
            logging.warning("%s are the same for all images, and are left out", name)
        else:
            scored.add_forms(name, vectors)
    return scored


def _heading(protocol: Protocol, settings: Eval) -> dict[str, Any]:
    """Returns what the scores are of."""
    k, shared = protocol.k, protocol.same_place
    return {
        "k": k,
        "queries": {"split": settings.query_split, "images": len(protocol.queries)},
        "gallery": {"split": settings.gallery_split, "images": len(protocol.gallery)},
        "encoder": settings.encoder,
        "unanswerable": int((~protocol.task.answerable).sum()),
        "shown": table.SHOWN,
        "metrics": table.describe(catalogue.at_k(RULES) | catalogue.full(RULES), k),
        "same_place": shared and {"queries": int((shared.counts() > 0).sum())},
    }


def _write_searched(
    directory: pathlib.Path, protocol: Protocol, plain: Pair, classes: Sequence[str]
) -> dict[str, Any]:
    """Writes what there is of the chosen encoder; returns its figures of the whole gallery."""
    scores, places = protocol.rank(*plain)
    k, hits = protocol.k, protocol.gallery[places]
    np.savez(directory / RANKING, queries=protocol.queries, hits=hits[:, :k], scores=scores[:, :k])
    compact.write(directory, *plain, protocol.task, k)
    if not classes:
        return {}
    columns = measure(protocol.task, places, k)
    content = {
        "k": k,
        "classes": table.class_lines(classes, columns, protocol.gallery_labels.sum(axis=0)),
    }
    artifacts.write_json(directory / PER_CLASS, content)
    if len(protocol.queries) * len(protocol.gallery) > FULL_PAIRS:
        return {"full": None}  # hours of sorting that nobody asked for
    return {"full": table.as_json(evaluate_gallery(protocol.task, *plain))}
