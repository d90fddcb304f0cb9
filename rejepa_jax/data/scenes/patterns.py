"""Spatial patterns that invented scenes are drawn with: noise, parcels, trees, shading.

Lengths are pixels of the 10 m grid; a field is an array over that grid.
"""

import functools

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

SIZE = 120  # pixels a side, as a BigEarthNet patch
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE].astype(np.float32)
Field = Float[np.ndarray, "h w"]


@functools.cache
def _spline_weights(scale: float) -> Float[np.ndarray, "h k"]:
    """Cubic B-spline weights that carry knots `scale` pixels apart to every pixel."""
    knots = int(np.ceil(SIZE / scale)) + 3
    distance = np.abs(np.arange(SIZE)[:, None] / scale - (np.arange(knots)[None] - 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    return (weights / np.sqrt((weights**2).sum(1).mean())).astype(np.float32)


def smooth_noise(rng: np.random.Generator, scale: float) -> Field:
    """Draws zero-mean, unit-variance noise that varies over about `scale` pixels."""
    weights = _spline_weights(scale)
    knots = rng.standard_normal((weights.shape[1],) * 2, dtype=np.float32)
    return weights @ knots @ weights.T


def rough_noise(rng: np.random.Generator) -> Field:
    """Draws unit-variance noise with structure at every scale, as bare ground has."""
    parts = [smooth_noise(rng, scale) for scale in (24.0, 10.0, 4.0, 2.0)]
    return (
        np.float32(0.65) * parts[0]
        + np.float32(0.5) * parts[1]
        + np.float32(0.4) * (parts[2] + parts[3])
    )


def clumps(rng: np.random.Generator, radius: float) -> Field:
    """Draws unit-variance noise whose lumps are round and about `radius` pixels across."""
    white = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    return ndimage.gaussian_filter(white, radius, mode="wrap") * np.float32(
        2 * np.sqrt(np.pi) * radius
    )


def turned(angle: float) -> tuple[Field, Field]:
    """Returns the pixel coordinates turned by `angle` radians about the scene's middle."""
    x, y = COLUMNS - SIZE / 2, ROWS - SIZE / 2
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def parcels(
    rng: np.random.Generator, length: tuple[float, float], width: tuple[float, float]
) -> tuple[Int[np.ndarray, "h w"], Field, Field]:
    """Cuts the scene into straight-edged parcels: strips side by side, each cut across.

    Returns the parcel of each pixel and the pixel coordinates along and across the strips.
    """
    along, across = turned(rng.uniform(0, np.pi))
    edges = np.cumsum(rng.uniform(*width, size=int(2 * SIZE / width[0]))) - SIZE
    strip = np.searchsorted(edges, across)
    spans = rng.uniform(*length, size=len(edges) + 1).astype(np.float32)
    starts = rng.uniform(0, length[1], size=len(edges) + 1).astype(np.float32)
    cut = np.floor((along + SIZE + starts[strip]) / spans[strip]).astype(np.int64)
    _, plot = np.unique(strip * 1000 + cut, return_inverse=True)
    return plot.reshape(SIZE, SIZE), along, across


def borders(plot: Int[np.ndarray, "h w"]) -> Field:
    """Marks with 1 the pixels whose right or lower neighbour belongs to another parcel."""
    edge = np.zeros(plot.shape, np.float32)
    edge[:, :-1] = plot[:, :-1] != plot[:, 1:]
    edge[:-1] = np.maximum(edge[:-1], plot[:-1] != plot[1:])
    return edge


def trees(rng: np.random.Generator, spacing: float, radius: float, jitter: float) -> Field:
    """Draws crowns on a turned lattice, displaced by `jitter` spacings: 1 at a crown's middle."""
    reach = int(SIZE / spacing) + 1
    lattice = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    lattice = (lattice + rng.normal(0, jitter, lattice.shape)) * spacing
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    row, column = np.rint(turn @ lattice + SIZE / 2).astype(np.int64)
    inside = (row >= 0) & (row < SIZE) & (column >= 0) & (column < SIZE)
    stems = np.zeros((SIZE, SIZE), np.float32)
    stems[row[inside], column[inside]] = 2 * np.pi * radius**2
    return np.clip(ndimage.gaussian_filter(stems, radius), 0, 1)


def slope_towards(height: Field, azimuth: float) -> Field:
    """Returns how fast `height` falls towards `azimuth` (radians clockwise from north)."""
    south = height - np.roll(height, -1, axis=0)
    east = height - np.roll(height, -1, axis=1)
    south[-1], east[:, -1] = 0, 0
    return np.float32(-np.cos(azimuth)) * south + np.float32(np.sin(azimuth)) * east
