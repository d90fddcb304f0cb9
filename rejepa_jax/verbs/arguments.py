"""What the verbs share: how one is added, and lists of values as an argument."""

import argparse
from collections.abc import Callable
from typing import Any

# Adds a verb by its name, and by what carries it out and returns the exit code.
Verb = Callable[[str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]


def names(text: str) -> tuple[str, ...]:
    """Reads a,b,c."""
    return tuple(text.split(","))


def numbers(text: str) -> tuple[float, ...]:
    """Reads 1,2.5,3."""
    return tuple(float(part) for part in text.split(","))


def several(kind: type[int] | type[float], form: str) -> Callable[[str], tuple[Any, ...]]:
    """Returns what reads as many numbers as `form` has, such as LON,LAT."""

    def read(text: str) -> tuple[Any, ...]:
        try:
            found = tuple(kind(part) for part in text.split(","))
        except ValueError:
            found = ()
        if len(found) != len(form.split(",")):
            raise argparse.ArgumentTypeError(f"got {text!r}, expected numbers {form}")
        return found

    return read
