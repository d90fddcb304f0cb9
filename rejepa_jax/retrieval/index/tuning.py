"""The cheapest settings that reach a recall."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

MARGIN = 0.01  # for what differs between the rows tuned on and others


def tune(
    recipe: dict[str, Any],
    ladders: Mapping[str, Sequence[int]],
    recall: Callable[[], float],
    target: float,
) -> None:
    """Sets each name of `recipe` to the first step of its ladder that is good enough.

    Ladders rise in recall and cost. They are climbed one after the other, the rest at their last
    step meanwhile; each but the last leaves half of what may be missed to those after it. `recall`
    measures what `recipe` says. Where nothing is good enough, the last step stays.
    """
    recipe.update({name: steps[-1] for name, steps in ladders.items()})
    wanted = min(1.0, target + MARGIN)
    for place, (name, steps) in enumerate(ladders.items(), 1):
        needed = wanted if place == len(ladders) else (1 + wanted) / 2
        low, high = 0, len(steps) - 1
        while low < high:
            middle = (low + high) // 2
            recipe[name] = steps[middle]
            low, high = (low, middle) if recall() >= needed else (middle + 1, high)
        recipe[name] = steps[low]
