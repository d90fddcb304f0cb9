"""The search for the largest batch, over needs that are written down."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejepa_jax.planning.largest import find_largest


@given(
    state=st.integers(0, 60),
    image=st.integers(1, 40),
    bend=st.integers(0, 3),
    start=st.integers(0, 30),
)
def test_it_is_the_last_multiple_of_eight_that_fits(state, image, bend, start):
    def needs(images):
        return float(state + image * images + bend * images**2 / 100)

    def is_fitting(images):
        return needs(images) <= 1000

    found = find_largest(needs, 8 * start, 1000.0)
    assert found % 8 == 0
    assert found == 0 or is_fitting(found)
    assert not is_fitting(found + 8)


@pytest.mark.parametrize("start", [8, 64, 4096])
def test_few_guesses_are_made_where_needs_grow_evenly(start):
    asked = []

    def needs(images):
        asked.append(images)
        return 3.0 + images / 20

    assert find_largest(needs, start, 16.0) == 256
    assert len(asked) <= 7
    assert len(set(asked)) == len(asked)


def test_a_compiler_that_does_not_say_how_much_is_missing():
    assert find_largest(lambda images: math.inf if images > 40 else 1.0, 128, 16.0) == 40


def test_nothing_fits():
    assert find_largest(lambda images: 20.0 + images, 64, 16.0) == 0
