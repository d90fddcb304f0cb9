"""Scores files: someone's hits against labels, or one export that queries another.

Two exports may be of other splits, other sensors, or both. They hold descriptors of one space: made
by one encoder, or by encoders that were trained together, which only the caller can know. An image
that is in both, as in two sensors, is no answer to itself unless that is asked for.
"""

import pathlib

import numpy as np
from absl import logging

from rejepa_jax.retrieval import exact
from rejepa_jax.retrieval.collection.parts import find_exports
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.forms import check_descriptors
from rejepa_jax.retrieval.metrics.excluded import same
from rejepa_jax.retrieval.metrics.scoring import DEFAULTS, Asked, evaluate_ranking, rows_of, score
from rejepa_jax.retrieval.metrics.sheet import Sheet
from rejepa_jax.retrieval.metrics.truth import Truth, read_truth
from rejepa_jax.retrieval.rankings import read_ranking
from rejepa_jax.types import ConfigError


def score_files(
    ranking: pathlib.Path,
    labels: pathlib.Path,
    asked: Asked = DEFAULTS,
    is_one_space: bool = False,
) -> Sheet:
    """Scores a file of hits against an export, a run or a table; or an export that queries another.

    Raises:
        FileNotFoundError, ConfigError, DataError: what is there cannot be scored.
    """
    if not ranking.is_dir():
        return evaluate_ranking(read_ranking(ranking), read_truth(labels), asked)
    return score_exports(ranking, labels, asked, is_one_space)


def score_exports(
    queries: pathlib.Path,
    gallery: pathlib.Path,
    asked: Asked = DEFAULTS,
    is_one_space: bool = False,
) -> Sheet:
    """Ranks images of one export or run by those of another, exactly, and scores that.

    Raises:
        ConfigError: their encoders differ, and `is_one_space` does not say that this is meant.
        DataError: descriptors are all the same, or an export is damaged.
    """
    asks, answers = _read(queries, asked.queries), _read(gallery, asked.gallery)
    if asks[2] != answers[2] and not is_one_space:
        raise ConfigError(
            f"got {queries} of encoder {asks[2][:12]} and {gallery} of {answers[2][:12]}, expected "
            "one encoder; if the two were trained to agree, say so with is_one_space"
        )
    own = [same((asks[0].ids, answers[0].ids))]
    own += [same((asks[0].places, answers[0].places))]
    more = sum(int(excluded.counts().max()) for excluded in own)
    depth = min(asked.k + more, len(answers[1]))
    if depth < asked.k:
        logging.warning("the gallery has only %d images: what is missing counts as wrong", depth)
    return score(asks[0], answers[0], exact.top_k(asks[1], answers[1], depth)[1], asked)


def _read(source: pathlib.Path, split: str) -> tuple[Truth, np.ndarray, str]:
    """Returns truth, descriptors and encoder of an export or a run, or of a split of it."""
    found, truth = find_exports(source), read_truth(source)
    parts = [reading.read_vectors(path) for path in found.paths]
    vectors = np.concatenate(parts)[found.live] if found.is_changed else parts[0]
    if split:
        rows = rows_of(truth, split)
        truth, vectors = truth.pick(rows), vectors[rows]
    check_descriptors(str(source), vectors)
    return truth, vectors, found.footer["fingerprint"]
