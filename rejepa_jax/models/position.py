"""Fixed two-dimensional sine-cosine positions (paper 3.4; layout of He et al. 2022)."""

import numpy as np
from jaxtyping import Float


def sincos_positions(grid_size: int, dim: int) -> Float[np.ndarray, "n d"]:
    """Returns one position vector a patch, row by row over a square grid.

    The first half of the features encodes the column, the second the row; each half holds sines
    and then cosines at `dim / 4` frequencies falling geometrically from 1 to 1/10000.
    """
    rows, columns = np.divmod(np.arange(grid_size**2), grid_size)
    frequency = 10000.0 ** (-np.arange(dim // 4) / (dim // 4))
    angles = [np.outer(axis, frequency) for axis in (columns, rows)]
    parts = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.concatenate(parts, axis=1).astype(np.float32)
