"""Every metric by name: what it is called, what it means, how it follows from means over queries.

Names say what is left open elsewhere. `_at_k` is over the first k hits, `_full` over the ranking of
the whole gallery; metrics of right and wrong hits are under the rule any_overlap, or under another
one that their name ends in: `map_at_k/exact_set`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rejepa_jax.retrieval.metrics import per_class
from rejepa_jax.retrieval.metrics.ranked import f1_ir
from rejepa_jax.retrieval.metrics.relevance import ANY_OVERLAP
from rejepa_jax.retrieval.metrics.sets import Columns, Values, f1_micro_sets


class Metric(NamedTuple):
    """A metric, as a function of the means of columns over queries."""

    title: str  # @k stands for the depth
    meaning: str
    of: Callable[[Columns], Values]
    is_distance: bool = False  # the smaller, the better


SETS = {  # title and meaning; the others are means of a column
    "f1_micro_sets": ("f1_micro_sets@k", "harmonic mean of the grand means of p, r' (CSMAE)"),
    "f1_pair_mean": ("f1_pair_mean@k", "mean F1 of label sets of query and hit (CR-JEPA)"),
    "precision_sets": ("p sets@k", "mean of |q∩r| / |r|"),
    "recall_sets": ("r' sets@k", "mean of |q∩r| / |q|"),
    "jaccard": ("Jaccard@k", "mean of |q∩r| / |q∪r|"),
    "hamming": ("Hamming@k", "mean of |q△r| / classes, a distance"),
    "acg_at_k": ("ACG@k", "mean number of labels shared"),
    "wmap_at_k": ("wMAP@k", "mean ACG@i over the ranks i of hits that share a label"),
    "ndcg_at_k": ("nDCG@k", "gain: labels shared; discount: log2(rank + 1)"),
    "ndcg_exp_at_k": ("nDCG@k, 2^s-1", "gain: 2^shared - 1; discount: log2(rank + 1)"),
}
RANKED = {
    "precision_at_k": ("P@k", "share of right hits"),
    "recall_at_k": ("R@k", "right hits / all that is right in the gallery"),
    "f1_ir": ("f1_ir@k", "harmonic mean of mean P@k and mean R@k"),
    "f1_ir_query_mean": ("f1_ir_query_mean@k", "mean over queries of the F1 of P@k and R@k"),
    "map_at_k": ("mAP@k", "mean average precision; divisor min(k, all that is right)"),
    "map_at_k_found": ("mAP@k, found", "mean average precision; divisor the right ones found"),
    "map_at_k_all": ("mAP@k, all", "mean average precision; divisor all that is right (trec_eval)"),
}
FULL = {
    "map_full": ("mAP", "mean average precision over the whole gallery"),
    "r_precision": ("R-precision", "precision at rank R, R = all that is right"),
    "anmrr": ("ANMRR, 1.25 K", "K = min(4 NG, 2 GTM), penalty 1.25 K (MPEG-7); a distance"),
    "anmrr_k_plus_1": ("ANMRR, K + 1", "K = min(4 NG, 2 GTM), penalty K + 1; a distance"),
}
FULL_SETS = {
    "wmap_full": ("wMAP", "mean ACG@i over all ranks i of images that share a label"),
    "ndcg_full": ("nDCG", "over the whole gallery; gain: labels shared"),
    "ndcg_exp_full": ("nDCG, 2^s-1", "over the whole gallery; gain: 2^shared - 1"),
}
MACRO = {
    "precision_at_k": ("macro P@k", "share of hits with the class; mean over its queries, classes"),
    "recall_at_k": ("macro R@k", "hits with the class / gallery images with it"),
    "map_at_k": ("macro mAP@k", "average precision for the class; divisor min(k, images with it)"),
}
COMPOUND: dict[str, Callable[[Columns], Values]] = {"f1_micro_sets": f1_micro_sets}
DISTANCES = ("hamming", "anmrr", "anmrr_k_plus_1")


def named(metric: str, rule: str) -> str:
    """Names a metric, or the column of one, under a relevance rule."""
    return metric if rule == ANY_OVERLAP else f"{metric}/{rule}"


def at_k(rules: Sequence[str] = (ANY_OVERLAP,)) -> dict[str, Metric]:
    """Returns the metrics of the first k hits."""
    found = {name: _metric(name, *texts) for name, texts in SETS.items()}
    found |= _under(rules, RANKED)
    for name, texts in MACRO.items():
        found[f"macro_{name}"] = Metric(*texts, functools.partial(per_class.macro, measure=name))
    return found


def full(rules: Sequence[str] = (ANY_OVERLAP,)) -> dict[str, Metric]:
    """Returns the metrics of rankings of the whole gallery."""
    return _under(rules, FULL) | {name: _metric(name, *texts) for name, texts in FULL_SETS.items()}


def _under(rules: Sequence[str], texts: dict[str, tuple[str, str]]) -> dict[str, Metric]:
    return {
        named(name, rule): _metric(named(name, rule), named(title, rule), meaning, rule)
        for rule in rules
        for name, (title, meaning) in texts.items()
    }


def _metric(name: str, title: str, meaning: str, rule: str = ANY_OVERLAP) -> Metric:
    plain = name.partition("/")[0]
    of = COMPOUND.get(name) or functools.partial(_mean, name=name)
    if plain == "f1_ir":
        of = functools.partial(f1_ir, ending=name.removeprefix(plain))
    if rule != ANY_OVERLAP:
        meaning += f"; right: {rule}"
    return Metric(title, meaning, of, plain in DISTANCES)


def _mean(means: Columns, name: str) -> Values:
    return means[name]
