"""The largest batch that fits: each guess is a compilation, so few are made."""

import math
from collections.abc import Callable

STEP = 8  # images; a TPU lays rows out in eights


def find_largest(needs: Callable[[int], float], start: int, available: float) -> int:
    """Returns the largest multiple of 8 whose need is at most what is available, 0 if none is.

    Args:
        needs: bytes for so many images a device, infinite where nobody knows; it grows with them.
        start: images to begin with, a multiple of 8.
        available: bytes of a device.
    """
    known: dict[int, float] = {}
    fits, fails, guess = 0, None, max(start, STEP)
    while fails is None or fails - fits > STEP:
        known[guess] = needs(guess)
        if known[guess] <= available:
            fits = guess
        else:
            fails = guess
        guess = _next(known, fits, fails, available)
    return fits


def _next(known: dict[int, float], fits: int, fails: int | None, available: float) -> int:
    """Guesses along the line through the two nearest needs; doubles or halves without one."""
    nearest = sorted((n for n in known if math.isfinite(known[n])), key=lambda n: abs(n - fits))[:2]
    guess = 2 * fits if fails is None else (fits + fails) // 2
    if len(nearest) == 2:
        low, high = sorted(nearest)
        slope = (known[high] - known[low]) / (high - low)
        if slope > 0:
            guess = int(low + (available - known[low]) / slope)
    most = 4 * fits if fails is None else fails - STEP
    return max(fits + STEP, min(guess, most) // STEP * STEP)
