"""What the scores say in a sentence, whichever way it goes."""

from collections.abc import Sequence

from rejepa_jax.report.evaluated import JUDGED, Evaluated
from rejepa_jax.retrieval.baselines import FREE


def judge(evaluated: Evaluated, rivals: Sequence[str]) -> str:
    """Says whether the encoder beats the best of some rivals.

    The encoder stands as it is searched (plain), a rival in its best form.
    """
    best = max(evaluated.lines(rivals), key=lambda line: line[JUDGED]["value"])
    name = best["descriptor"]
    rival = f"the best free descriptor, {name} ({best['form']})" if name in FREE else f"the {name}"
    return sentence(
        f"The {evaluated.searched}", evaluated.plain[JUDGED], rival, best[JUDGED], evaluated.k
    )


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


def _score(score: dict[str, float]) -> str:
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
