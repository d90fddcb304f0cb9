"""The classes of the queries, in the orders that a reader may want: no script sorts a page."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from rejepa_jax.report.evaluated import Cell, ClassScore

ORDERS: dict[str, tuple[Callable[[ClassScore], Any], bool]] = {  # key, and whether highest first
    "F1": (operator.attrgetter("f1"), True),
    "average precision": (lambda one: _value(one.average_precision), True),
    "number of images": (operator.attrgetter("relevant"), True),
    "name": (lambda one: one.name.casefold(), False),
}


def in_orders(classes: Sequence[ClassScore]) -> dict[str, list[ClassScore]]:
    """Returns the classes in each order, by its name; what has no value comes last."""
    return {name: _sort(classes, *order) for name, order in ORDERS.items()} if classes else {}


def _sort(
    classes: Sequence[ClassScore], key: Callable[[ClassScore], Any], is_falling: bool
) -> list[ClassScore]:
    known = [one for one in classes if key(one) is not None]
    unknown = [one for one in classes if key(one) is None]
    return sorted(known, key=key, reverse=is_falling) + unknown


def _value(cell: Cell | None) -> float | None:
    return None if cell is None else cell["value"]
