"""What smaller descriptors cost: recall and F1 against the bytes that each takes.

Queries and gallery are those of the evaluation. What is stored, the gallery, is coded and read
back; a query is not stored and keeps its float32 numbers. Of more than `QUERIES` queries that many
are taken, at even distances, so that a large evaluation does not cost a dozen times as much again.
"""

import dataclasses
import operator
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rejepa_jax import artifacts
from rejepa_jax.retrieval import codes, exact
from rejepa_jax.retrieval.forms import unit
from rejepa_jax.retrieval.metrics import intervals
from rejepa_jax.retrieval.metrics.catalogue import Metric
from rejepa_jax.retrieval.metrics.evaluating import Task
from rejepa_jax.retrieval.metrics.relevance import overlap
from rejepa_jax.retrieval.metrics.sets import f1_micro_sets, set_columns

COMPACT = "compact.json"
QUERIES = 2000
CANDIDATES = 10  # times k: how many the bits propose for re-ranking
PARTS = (2, 4, 8)  # of the numbers, one is kept
MEASURES = {
    "recall": Metric("recall@k", "share of the true k", operator.itemgetter("recall")),
    "f1": Metric("f1_micro_sets@k", "of label sets", f1_micro_sets),
}
WHOLE, PCA, PCA_INT8, FIRST = "all numbers", "PCA, float32", "PCA, int8", "first numbers, float32"

Vectors = Float[np.ndarray, "r d"]


@dataclasses.dataclass(frozen=True)
class Coding:
    """A way to store the gallery, as far as a search can tell."""

    name: str
    family: str  # the line of the chart it stands on
    bytes: int  # a descriptor, in what is searched
    queries: Float[np.ndarray, "q d"]
    gallery: Vectors  # coded and read back
    exact_bytes: int = 0  # kept besides, of which only candidates are read


def write(
    directory: pathlib.Path,
    queries: Float[np.ndarray, "q d"],
    gallery: Vectors,
    task: Task,
    k: int,
) -> None:
    """Writes `compact.json`: every coding with its bytes, recall@k and, of labelled images, F1@k.

    `queries` and `gallery` are the searched encoder's descriptors, of length 1; `task` scores them.
    """
    asked = np.linspace(0, len(queries) - 1, min(len(queries), QUERIES), dtype=int)
    queries = queries[asked]
    content: dict[str, Any] = {"k": k, "dim": gallery.shape[1], "gallery": len(gallery)}
    content |= {"queries": len(queries), "candidates": CANDIDATES * k}
    rows, true = [], None
    for coding in codings(queries, gallery):
        found = rank(coding, queries, gallery, k)
        true = found if true is None else true  # the first coding is no coding
        columns, measures = {"recall": recall(found, true, queries, gallery)}, dict(MEASURES)
        if task.query_labels.shape[1]:
            pairs = overlap(task.queries.pick(asked), task.gallery, found)
            columns |= set_columns(pairs, task.query_labels.shape[1])
        else:
            measures.pop("f1")
        scores = {name: s._asdict() for name, s in intervals.scores(columns, measures).items()}
        facts = {name: getattr(coding, name) for name in ("name", "family", "bytes", "exact_bytes")}
        rows.append(facts | scores)
    artifacts.write_json(directory / COMPACT, content | {"rows": rows})


def codings(queries: Float[np.ndarray, "q d"], gallery: Vectors) -> Iterator[Coding]:
    """Yields every way to store the gallery, one at a time; the first one loses nothing."""
    dim = gallery.shape[1]
    yield Coding("float32", WHOLE, 4 * dim, queries, gallery)
    yield Coding("float16", WHOLE, 2 * dim, queries, gallery.astype(np.float16).astype(np.float32))
    yield Coding("int8", WHOLE, dim, queries, _int8(gallery))
    short = -(-dim // codes.BYTE)
    yield Coding("1-bit", WHOLE, short, queries, _signs(gallery))
    mean = gallery.mean(axis=0)[None]  # about which the signs of the index kind `bits` are taken
    sides = _signs(queries - mean), _signs(gallery - mean)
    yield Coding("1-bit, re-ranked", WHOLE, short, *sides, exact_bytes=4 * dim)
    del sides  # as large as the gallery
    axes = principal_axes(gallery, dim // min(PARTS))
    for kept in [dim // part for part in PARTS if dim >= part]:
        turned, first = gallery @ axes[:, :kept], gallery[:, :kept]
        asked = unit(queries @ axes[:, :kept])
        if _have_directions(turned):
            turned = unit(turned)
            yield Coding(f"PCA to {kept}, float32", PCA, 4 * kept, asked, turned)
            yield Coding(f"PCA to {kept}, int8", PCA_INT8, kept, asked, _int8(turned))
        if _have_directions(first):
            asked = unit(queries[:, :kept])
            yield Coding(f"first {kept}, float32", FIRST, 4 * kept, asked, unit(first))


def principal_axes(vectors: Vectors, count: int) -> Float[np.ndarray, "d count"]:
    """Returns the `count` directions that hold most of the rows' squares, strongest first.

    Eigenvectors of XᵀX, of rows as they are given: the projection that keeps inner products best
    (Eckart & Young 1936). Of rows with mean 0 they are the axes of PCA. The number of an axis that
    is largest in size is positive.
    """
    _, axes = np.linalg.eigh(np.einsum("rd,re->de", vectors, vectors, optimize=True))
    axes = axes[:, ::-1][:, :count]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return (axes * np.where(largest < 0, -1, 1)).astype(np.float32)


def rank(
    coding: Coding, queries: Float[np.ndarray, "q d"], gallery: Vectors, k: int
) -> Int[np.ndarray, "q k"]:
    """Returns what is found in a coded gallery; `queries` and `gallery` are those not coded."""
    if not coding.exact_bytes:
        return exact.top_k(coding.queries, coding.gallery, k)[1]
    wanted = min(CANDIDATES * k, len(gallery))
    proposed = np.sort(exact.top_k(coding.queries, coding.gallery, wanted)[1], axis=1)
    order = np.argsort(-_scores(queries, gallery, proposed), axis=1, kind="stable")[:, :k]
    return np.take_along_axis(proposed, order, axis=1)


def recall(
    found: Int[np.ndarray, "q k"],
    true: Int[np.ndarray, "q k"],
    queries: Float[np.ndarray, "q d"],
    gallery: Vectors,
) -> Float[np.ndarray, " q"]:
    """Returns the share of the true k neighbours that were found, for each query.

    What is as near as the last true neighbour is one too: equal vectors stand for each other.
    """
    least = _scores(queries, gallery, true).min(axis=1, keepdims=True) - 1e-6
    return (_scores(queries, gallery, found) >= least).mean(axis=1)


def _scores(
    queries: Float[np.ndarray, "q d"], gallery: Vectors, rows: Int[np.ndarray, "q k"]
) -> Float[np.ndarray, "q k"]:
    """Returns the inner products of each query with rows of its own, a query at a time."""
    return np.stack([gallery[near] @ query for query, near in zip(queries, rows, strict=True)])


def _signs(vectors: Vectors) -> Vectors:
    return codes.decode_bits(codes.bit_codes(vectors), vectors.shape[1])


def _int8(vectors: Vectors) -> Vectors:
    return codes.decode_int8(codes.int8_codes(vectors).codes)


def _have_directions(vectors: Vectors) -> bool:
    """Whether something is left of every row: what is zero has no cosine."""
    return bool((np.abs(vectors).max(axis=1) > 0).all())
