import math

import numpy as np
import numpy_vit
import pytest

from rejepa_jax.models.position import sincos_positions


def test_second_row_first_column_by_hand():
    # Two frequencies, 1 and 1/100: the column (0) comes first, then the row (1).
    table = sincos_positions(2, 8)
    expected = [0, 0, 1, 1, math.sin(1), math.sin(0.01), math.cos(1), math.cos(0.01)]
    np.testing.assert_allclose(table[2], expected, atol=1e-7)


def test_first_row_second_column_by_hand():
    table = sincos_positions(2, 8)
    expected = [math.sin(1), math.sin(0.01), math.cos(1), math.cos(0.01), 0, 0, 1, 1]
    np.testing.assert_allclose(table[1], expected, atol=1e-7)


@pytest.mark.parametrize(("grid", "dim"), [(1, 4), (3, 16), (14, 64)])
def test_equals_a_derivation_in_loops(grid, dim):
    np.testing.assert_allclose(
        sincos_positions(grid, dim), numpy_vit.positions(grid, dim), atol=1e-7
    )


def test_every_patch_has_its_own_position():
    table = sincos_positions(14, 384)
    assert len(np.unique(table.round(5), axis=0)) == 196


def test_is_the_table_of_the_papers_parameter_count():
    table = sincos_positions(14, 768)
    assert table.dtype == np.float32
    assert table.size == 150_528
