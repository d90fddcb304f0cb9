"""When a hit is right: label sets packed into bits, what two of them share, and the rules.

An image without labels is never right, and nothing is right for it: under no rule.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt64

from rejepa_jax.types import ConfigError, DataError

ANY_OVERLAP = "any_overlap"
SINGLE_LABEL = "single_label"
JACCARD = "jaccard>="


class LabelSets(NamedTuple):
    """Label sets, 64 classes a word."""

    words: UInt64[np.ndarray, "r w"]
    sizes: Int[np.ndarray, " r"]

    def pick(self, rows: slice | np.ndarray) -> "LabelSets":
        """Returns the sets of some rows."""
        return LabelSets(self.words[rows], self.sizes[rows])


class Overlap(NamedTuple):
    """Sizes of query, of hit and of what they share; the arrays broadcast to one shape."""

    shared: Int[np.ndarray, "*#pairs"]
    query_size: Int[np.ndarray, "*#pairs"]
    hit_size: Int[np.ndarray, "*#pairs"]


Rule = Callable[[Overlap], np.ndarray]  # bool, of the overlap's shape


def pack(labels: Bool[np.ndarray, "r l"]) -> LabelSets:
    """Packs label sets: 590,326 of 19 classes take 5 MB, and what two share is two instructions."""
    bits = np.packbits(labels, axis=1, bitorder="little")
    width = max(1, -(-bits.shape[1] // 8)) * 8
    padded = np.pad(bits, ((0, 0), (0, width - bits.shape[1])))
    return LabelSets(padded.view(np.uint64), labels.sum(axis=1))


def overlap(queries: LabelSets, gallery: LabelSets, ranking: Int[np.ndarray, "q n"]) -> Overlap:
    """Compares each query with its hits; row -1 is no hit, and shares nothing."""
    is_hit = ranking >= 0
    shared = np.zeros(ranking.shape, np.int32)
    for ours, theirs in zip(queries.words.T, gallery.words.T, strict=True):
        shared += np.bitwise_count(ours[:, None] & theirs[ranking])
    sizes = gallery.sizes[ranking] * is_hit
    return Overlap(shared * is_hit, queries.sizes[:, None], sizes)


def all_pairs(queries: LabelSets, gallery: LabelSets) -> Overlap:
    """Compares each query with each image of the gallery."""
    shared = np.zeros((len(queries.words), len(gallery.words)), np.int32)
    for ours, theirs in zip(queries.words.T, gallery.words.T, strict=True):
        shared += np.bitwise_count(ours[:, None] & theirs[None, :])
    return Overlap(shared, queries.sizes[:, None], gallery.sizes[None, :])


def find_rule(name: str) -> Rule:
    """Returns the rule of a name: any_overlap, exact_set, jaccard>=T (0 < T <= 1), single_label.

    Raises:
        ConfigError: there is no such rule.
    """
    if name.startswith(JACCARD):
        return _jaccard_rule(name)
    if name not in RULES:
        raise ConfigError(
            f"got the relevance rule {name!r}, expected {', '.join(RULES)} or jaccard>=T with T "
            "above 0 and up to 1, such as jaccard>=0.5; choose one"
        )
    return RULES[name]


def find_rules(names: Iterable[str], *sets: LabelSets) -> dict[str, Rule]:
    """Returns rules by name, after a look whether they can be used with these label sets.

    Raises:
        ConfigError: there is no such rule.
        DataError: single_label, and an image has not exactly one.
    """
    found = {name: find_rule(name) for name in names}
    if SINGLE_LABEL in found:
        for images in sets:
            if (others := images.sizes != 1).any():
                row = int(others.argmax())
                raise DataError(
                    f"relevance rule {SINGLE_LABEL}: got {images.sizes[row]} labels in row {row}, "
                    "expected exactly one for every image; take any_overlap, exact_set or jaccard"
                )
    return found


def jaccard(pairs: Overlap) -> np.ndarray:
    """Returns |q∩r| / |q∪r|, 0 where both are empty."""
    return pairs.shared / np.maximum(pairs.query_size + pairs.hit_size - pairs.shared, 1)


def _any_overlap(pairs: Overlap) -> np.ndarray:
    return pairs.shared > 0


def _exact_set(pairs: Overlap) -> np.ndarray:
    is_all = (pairs.shared == pairs.query_size) & (pairs.shared == pairs.hit_size)
    return is_all & (pairs.shared > 0)


def _jaccard_rule(name: str) -> Rule:
    try:
        least = float(name.removeprefix(JACCARD))
    except ValueError:
        least = 0.0
    if not 0 < least <= 1:
        raise ConfigError(
            f"got the relevance rule {name!r}, expected jaccard>=T with T above 0 and up to 1, "
            "such as jaccard>=0.5; change T"
        )
    # A quotient, not a product: 3 / 10 is the very number that "0.3" stands for.
    return lambda pairs: jaccard(pairs) >= least


RULES: dict[str, Rule] = {
    ANY_OVERLAP: _any_overlap,
    "exact_set": _exact_set,
    SINGLE_LABEL: _any_overlap,  # the class is the same; `find_rules` sees to the rest
}
