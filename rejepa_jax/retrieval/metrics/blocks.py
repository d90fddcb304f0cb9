"""How much of a large task is in memory at once."""

from collections.abc import Iterator

PAIRS = 1 << 20  # of queries and images; what is computed of a pair takes tens of bytes


def blocks(queries: int, width: int, pairs: int = PAIRS) -> Iterator[slice]:
    """Yields slices that cover all queries, of so few each that `width` a query keep to `pairs`."""
    step = max(1, pairs // max(width, 1))
    for start in range(0, queries, step):
        yield slice(start, min(start + step, queries))
