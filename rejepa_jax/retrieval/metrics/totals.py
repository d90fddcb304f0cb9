"""How many images of a gallery are right for each query: what recall and ideal rankings ask.

No query meets every image. Many images have the same label set, and whether a hit is right follows
from three sizes (query, hit, shared): each distinct set of the queries meets each distinct set of
the gallery once, and is left with a histogram of (shared, hit).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from rejepa_jax.retrieval.metrics.blocks import blocks
from rejepa_jax.retrieval.metrics.excluded import Excluded
from rejepa_jax.retrieval.metrics.relevance import LabelSets, Overlap, Rule, all_pairs, overlap


class Totals(NamedTuple):
    """Counts of the gallery's images for each query, without those that are excluded for it."""

    relevant: dict[str, Int[np.ndarray, " q"]]  # by rule
    gains: Int[np.ndarray, "q g"]  # that share g labels with the query, g = 0, 1, ...


def count_gallery(
    queries: LabelSets,
    gallery: LabelSets,
    rules: Mapping[str, Rule],
    excluded: Excluded | None = None,
) -> Totals:
    """Counts what is right for each query under each rule, and what shares how many labels."""
    asked, kind = _distinct(queries)
    known, kind_known = _distinct(gallery)
    images = np.bincount(kind_known)
    parts = [
        _count_block(asked.pick(part), known, images, rules)
        for part in blocks(len(asked.sizes), len(known.sizes))
    ]
    totals = Totals(
        {name: np.concatenate([part.relevant[name] for part in parts])[kind] for name in rules},
        np.concatenate([part.gains for part in parts])[kind],
    )
    return totals if excluded is None else _without(totals, queries, gallery, rules, excluded)


def count_classes(
    gallery_labels: Bool[np.ndarray, "r l"], queries: int, excluded: Excluded | None
) -> Int[np.ndarray, "#q l"]:
    """Counts the gallery's images of each class, for each query where some are excluded."""
    counts = gallery_labels.sum(axis=0)[None, :]
    if excluded is not None:
        counts = np.repeat(counts, queries, axis=0)
        for query, row in excluded.pairs():
            np.subtract.at(counts, query, gallery_labels[row].astype(counts.dtype))
    return counts


def _distinct(sets: LabelSets) -> tuple[LabelSets, Int[np.ndarray, " r"]]:
    """Returns the different sets, and which of them each row has."""
    order = np.lexsort(sets.words.T)
    ordered = sets.words[order]
    is_new = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    kind = np.empty(len(order), np.int64)
    kind[order] = np.cumsum(is_new) - 1
    return sets.pick(order[is_new]), kind


def _count_block(
    queries: LabelSets, gallery: LabelSets, images: Int[np.ndarray, " r"], rules: Mapping[str, Rule]
) -> Totals:
    """Counts for distinct label sets, of which each of the gallery stands for some images."""
    pairs = all_pairs(queries, gallery)
    wide = int(gallery.sizes.max()) + 1  # sizes of hits, and of what is shared
    shape = (len(queries.sizes), wide, wide)
    place = (np.arange(shape[0])[:, None] * wide + pairs.shared) * wide + pairs.hit_size
    weights = np.broadcast_to(images, place.shape).ravel()
    histogram = np.bincount(place.ravel(), weights, np.prod(shape)).astype(np.int64).reshape(shape)
    grid = Overlap(
        np.arange(wide)[None, :, None], queries.sizes[:, None, None], np.arange(wide)[None, None, :]
    )
    relevant = {name: (histogram * rule(grid)).sum(axis=(1, 2)) for name, rule in rules.items()}
    return Totals(relevant, histogram.sum(axis=2))


def _without(
    totals: Totals,
    queries: LabelSets,
    gallery: LabelSets,
    rules: Mapping[str, Rule],
    excluded: Excluded,
) -> Totals:
    relevant, gains = {name: count.copy() for name, count in totals.relevant.items()}, totals.gains
    for query, row in excluded.pairs():
        pairs = overlap(queries.pick(query), gallery, row[:, None])
        for name, rule in rules.items():
            np.subtract.at(relevant[name], query, rule(pairs)[:, 0].astype(np.int64))
        np.subtract.at(gains, (query, pairs.shared[:, 0]), 1)
    return Totals(relevant, gains)
