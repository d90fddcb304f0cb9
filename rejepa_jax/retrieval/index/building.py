"""From vectors to an index folder: the kind is chosen, its settings are tuned, its recall measured.

Whoever calls writes the manifest and publishes the folder.
"""

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float

from rejepa_jax.retrieval.exact import check_vectors
from rejepa_jax.retrieval.index.interface import Kind, Nearest, Recipe
from rejepa_jax.retrieval.index.kinds import KINDS, choose
from rejepa_jax.retrieval.index.recall import samples
from rejepa_jax.retrieval.index.stored import (
    SCHEMA,
    open_array,
    open_vectors,
    write_info,
    write_vectors,
)
from rejepa_jax.retrieval.index.tuning import tune
from rejepa_jax.types import ConfigError, DataError

CONSTANT_TOLERANCE = 1e-6


def build(
    embeddings: Float[np.ndarray, "r d"] | None,
    directory: Path,
    kind: str,
    fingerprint: str,
    **choices: Any,
) -> dict[str, Any]:
    """Writes an index of unit vectors and returns what `index.json` says.

    `embeddings` may be memory-mapped and larger than memory, as far as the kind allows; None: those
    that lie in the folder already, as `vectors.npy`.
    `kind` is one of `KINDS`, or auto: what suits the gallery's size and this machine. `choices`
    replace parts of the kind's recipe, and then are not tuned; `recall` is the recall@10 to tune
    for.

    Raises:
      ConfigError: an unknown kind or choice, a package that is not installed, or ScaNN failed.
      DataError: vectors that no index may hold.
    """
    vectors = open_vectors(directory) if embeddings is None else embeddings
    check_embeddings(vectors)
    rows, dim = vectors.shape
    chosen, suited, reason = choose(kind, rows, dim)
    engine = KINDS[chosen]
    target = choices.pop("recall", engine.target)
    recipe = _recipe(chosen, rows, suited | choices)
    logging.info("index: %s for %d rows of %d: %s", chosen, rows, dim, reason)
    if embeddings is not None:
        directory.mkdir(parents=True, exist_ok=True)
        write_vectors(directory, embeddings)
    engine.write(directory, recipe)
    stored = open_array(directory / engine.vectors, (rows, dim))
    nearest = engine.open(directory, recipe, stored)
    recall = _tune(engine, nearest, recipe, stored, target, frozenset(choices))
    info = {
        "schema": SCHEMA,
        "kind": chosen,
        "reason": reason,
        "recipe": recipe,
        "rows": rows,
        "dim": dim,
        "fingerprint": fingerprint,
        "versions": {name: importlib.metadata.version(name) for name in engine.packages},
        "recall_at_10": recall,
    }
    write_info(directory, info)
    log = logging.info if recall >= target else logging.warning
    log("index: %s %s: recall@10 %.3f against exact search", chosen, recipe, recall)
    return info


def check_embeddings(embeddings: Float[np.ndarray, "r d"]) -> None:
    """Refuses vectors that are not finite, not of length 1, or all the same.

    Raises:
      DataError: naming the first bad rows.
    """
    if not len(embeddings):
        raise DataError("embeddings: got no rows, expected at least one; embed the archive first")
    check_vectors(embeddings, "embeddings")
    spread = (embeddings.max(axis=0) - embeddings.min(axis=0)).max()
    if len(embeddings) > 1 and spread <= CONSTANT_TOLERANCE:
        raise DataError(
            f"embeddings: got {len(embeddings)} equal vectors (largest difference {spread:.1e}), "
            "expected different ones; the encoder has collapsed or was fed constant images"
        )


def _recipe(kind: str, rows: int, choices: Recipe) -> Recipe:
    recipe = KINDS[kind].recipe(rows)
    unknown = sorted(set(choices) - set(recipe))
    if unknown:
        raise ConfigError(
            f"got the choices {unknown} for index kind {kind!r} of {rows} rows, expected some of "
            f"{sorted(recipe)} or recall; leave them out"
        )
    return recipe | choices


def _tune(
    kind: Kind,
    nearest: Nearest,
    recipe: Recipe,
    stored: Float[np.ndarray, "r d"],
    target: float,
    fixed: frozenset[str],
) -> float:
    """Tunes on some rows; returns the recall@10 on others."""
    tuning, held_out = samples(stored)
    ladders = kind.ladders(recipe)
    ladders = {name: steps for name, steps in ladders.items() if name not in fixed}
    tune(recipe, ladders, lambda: tuning.recall(nearest), target)
    return held_out.recall(nearest)
