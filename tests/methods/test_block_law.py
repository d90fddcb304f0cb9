"""The sizes of blocks beside an exact enumeration, their distribution, and lists of them."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rejepa_jax.methods import blocks
from rejepa_jax.methods.blocks import Law

TARGETS = (0.15, 0.2), (0.75, 1.5)  # I-JEPA's target blocks
CONTEXT = (0.85, 1.0), (1.0, 1.0)
SHORT, LONG = ((0.15, 0.15), (0.75, 1.5)), ((0.7, 0.7), (0.75, 1.5))  # V-JEPA


def sides(law, area, ratio):
    """The published rule: the nearest whole sides, within the grid."""
    limit = law.grid_size - law.faithful
    height, width = math.sqrt(area * ratio), math.sqrt(area / ratio)
    return tuple(min(max(round(side), 1), limit) for side in (height, width))


def middles(edges):
    """The middle of each interval between edges, or the one edge that there is."""
    edges = sorted(set(edges))
    return [(a + b) / 2 for a, b in itertools.pairwise(edges)] or edges


def reachable(law):
    """Every size that has a chance, from where area and sides jump."""
    tokens, (low, high), (thin, wide) = law.grid_size**2, law.scale, law.aspect
    first = math.floor(tokens * low + 1e-9)
    out = set()
    for area in range(first, max(first, math.floor(tokens * high - 1e-9)) + 1):
        ratios = thin, wide
        if law.faithful and high > low:  # the share that gives the area gives the ratio too
            shares = [min(max((a / tokens - low) / (high - low), 0), 1) for a in (area, area + 1)]
            ratios = tuple(thin + share * (wide - thin) for share in shares)
        jumps = [(k + 0.5) ** 2 for k in range(law.grid_size + 1)]
        jumps = [jump / area for jump in jumps] + [area / jump for jump in jumps]
        inside = [jump for jump in jumps if ratios[0] < jump < ratios[1]]
        out |= {sides(law, area, ratio) for ratio in middles([*ratios, *inside])}
    return out


@pytest.mark.parametrize(
    ("law", "first", "second", "size"),
    [
        # 196 tokens: areas 29 (0.15: 29.4), 34 (0.175: 34.3), 39 (0.2: 39.2).
        (Law(14, *TARGETS, False), 0.0, 0.0, (5, 6)),  # √(29 · 0.75) = 4.66, √(29 / 0.75) = 6.22
        (Law(14, *TARGETS, False), 0.0, 1.0, (7, 4)),  # √(29 · 1.5) = 6.60, √(29 / 1.5) = 4.40
        (Law(14, *TARGETS, False), 0.5, 0.5, (6, 5)),  # √(34 · 1.125) = 6.18, 5.497
        (Law(14, *TARGETS, True), 0.0, 1.0, (5, 6)),  # the second number counts for nothing
        (Law(14, *CONTEXT, False), 0.9, 0.3, (14, 14)),  # 193 tokens: 13.9
        (Law(14, *CONTEXT, True), 0.9, 0.3, (13, 13)),  # never the whole grid
        (Law(14, *CONTEXT, False), 0.0, 0.3, (13, 13)),  # 166 tokens: 12.9
    ],
)
def test_size_by_hand(law, first, second, size):
    assert tuple(map(int, law.size(jnp.float32(first), jnp.float32(second)))) == size


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("sizes", [TARGETS, CONTEXT, SHORT, LONG])
@pytest.mark.parametrize("grid", [7, 8, 14, 16, 28])
def test_static_lengths_are_the_true_extremes(grid, sizes, faithful):
    law = Law(grid, *sizes, faithful)
    areas = [height * width for height, width in reachable(law)]
    assert (law.smallest, law.largest) == (min(areas), max(areas))


def test_blocks_of_ijepa_at_14_by_14():
    """The published context block can have one size, and so one place: the upper left corner."""
    assert reachable(Law(14, *CONTEXT, True)) == {(13, 13)}
    targets = reachable(Law(14, *TARGETS, True))
    assert {height * width for height, width in targets} == {30, 35, 36, 40}


@pytest.fixture(scope="module")
def drawn():
    """Heights and widths of the blocks of many steps."""

    def measure(law, steps):
        draw = jax.vmap(lambda key: blocks.draw(key, 1, 1, law))
        maps = np.asarray(jax.jit(draw)(jax.random.split(jax.random.key(1), steps)))
        maps = maps.reshape(steps, law.grid_size, law.grid_size)
        return maps.any(2).sum(1), maps.any(1).sum(1)

    return measure


@pytest.mark.parametrize("faithful", [False, True])
def test_every_reachable_size_is_drawn_and_no_other(drawn, faithful):
    law = Law(14, *TARGETS, faithful)
    got = set(zip(*(side.tolist() for side in drawn(law, 4000)), strict=True))
    assert got == reachable(law)


@pytest.mark.parametrize("faithful", [False, True])
def test_only_the_faithful_law_ties_the_area_to_the_ratio(drawn, faithful):
    height, width = drawn(Law(56, *TARGETS, faithful), 600)
    tie = np.corrcoef(height * width, height / width)[0, 1]
    assert tie > 0.95 if faithful else abs(tie) < 0.15  # 3.7 deviations of 600 draws


def test_ratios_and_areas_are_uniform(drawn):
    """On a fine grid the steps of whole sides are small beside the quartiles."""
    height, width = drawn(Law(56, *TARGETS, False), 4000)
    quartiles = [0.25, 0.5, 0.75]
    np.testing.assert_allclose(
        np.quantile(height / width, quartiles), [0.9375, 1.125, 1.3125], atol=0.03
    )
    np.testing.assert_allclose(
        np.quantile(height * width / 56**2, quartiles), [0.1625, 0.175, 0.1875], atol=0.002
    )


def test_rows_and_columns_are_placed_apart():
    law = Law(14, (0.185, 0.185), (1.0, 1.0), False)  # 6 x 6
    maps = np.asarray(blocks.draw(jax.random.key(5), 9000, 1, law)).reshape(-1, 14, 14)
    top, left = maps.any(2).argmax(1), maps.any(1).argmax(1)
    counts = np.histogram2d(top, left, bins=[range(10), range(10)])[0]
    assert counts.sum() == 9000
    expected = 9000 / 81
    assert ((counts - expected) ** 2 / expected).sum() < 124.8  # 80 degrees of freedom: 0.001


# --- index lists

CHOSEN = jnp.array([[0, 1, 1, 0, 1, 0, 1], [0, 0, 0, 1, 0, 0, 0]], bool)


def test_packed_by_hand():
    indices, valid = blocks.pack(CHOSEN, 4)
    np.testing.assert_array_equal(indices[0], [1, 2, 4, 6])
    assert indices[1, 0] == 3
    np.testing.assert_array_equal(valid, [[1, 1, 1, 1], [1, 0, 0, 0]])


def test_what_does_not_fit_is_lost_at_the_end_without_a_key():
    np.testing.assert_array_equal(blocks.pack(CHOSEN, 2)[0][0], [1, 2])


def test_what_does_not_fit_is_lost_at_random_with_a_key():
    indices, valid = blocks.pack(jnp.broadcast_to(CHOSEN[:1], (6000, 7)), 2, jax.random.key(2))
    assert valid.all()
    kept = np.sort(np.asarray(indices), axis=1)
    pairs = [(1, 2), (1, 4), (1, 6), (2, 4), (2, 6), (4, 6)]
    counts = np.array([(kept == pair).all(1).sum() for pair in pairs])
    assert counts.sum() == 6000
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # 5 degrees of freedom: 0.001
