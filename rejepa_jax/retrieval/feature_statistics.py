"""Whether descriptors tell images apart: four numbers that need no labels.

Descriptors can collapse in two ways: onto one point, so that all images look alike, or onto a few
directions, so that images differ in few respects only. `feature_std`, `mean_cosine` and
`uniformity` see the first, `rank_me` the second. All arithmetic is in float64.
"""

import numpy as np
from jaxtyping import Float

BLOCK = 1024  # rows that meet all others at once


def feature_statistics(descriptors: Float[np.ndarray, "r d"]) -> dict[str, float]:
    """Measures descriptors scaled to length 1; the rank is that of their differences.

    Pooled features of a Vision Transformer share a large mean, whose singular value drowns the
    others: the mean is taken off before the rank is, unlike in Garrido et al. (2023).
    """
    unit = descriptors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return {
        "rank_me": rank_me(unit - unit.mean(axis=0)),
        "feature_std": feature_std(unit),
        "mean_cosine": mean_cosine(unit),
        "uniformity": uniformity(unit),
    }


def rank_me(features: Float[np.ndarray, "r d"]) -> float:
    """Computes the effective rank: exp of the entropy of the singular values' shares of their sum.

    Equal singular values count one each; the result lies in 1 .. min(r, d), and is 0 where all
    features are 0. As published (RankMe, Garrido et al. 2023) it takes features as they are.
    """
    features = features.astype(np.float64)
    rows, width = features.shape
    # Their squares are the eigenvalues of the smaller product: several times faster than the SVD.
    gram = features.T @ features if width <= rows else features @ features.T
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))
    singular = singular[singular > 0]
    if len(singular) == 0:
        return 0.0
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def feature_std(unit: Float[np.ndarray, "r d"]) -> float:
    """Computes the mean standard deviation of a dimension, times √d.

    For rows of length 1 it is 0 where all are equal, and 1 at most: where they are spread evenly
    over all dimensions.
    """
    deviation = unit.std(axis=0, dtype=np.float64)
    return float(deviation.mean() * np.sqrt(unit.shape[1]))


def mean_cosine(unit: Float[np.ndarray, "r d"]) -> float:
    """Computes the mean cosine of two different rows, each of length 1, in O(r d).

    The squared length of the rows' sum is the sum of all products, each row's with itself included.
    """
    rows = len(unit)
    total = unit.sum(axis=0, dtype=np.float64)
    own = np.square(unit, dtype=np.float64).sum()
    return float((total @ total - own) / (rows * (rows - 1)))


def uniformity(unit: Float[np.ndarray, "r d"]) -> float:
    """Computes log mean exp(-2 |x - y|²) over different rows of length 1 (Wang and Isola 2020).

    It is 0 where all are equal, about -4 where they are spread evenly over a sphere of many
    dimensions.
    """
    rows, unit = len(unit), unit.astype(np.float64)
    total = 0.0
    for start in range(0, rows, BLOCK):
        cosine = unit[start : start + BLOCK] @ unit.T
        total += np.exp(4 * (cosine - 1)).sum()  # |x - y|² = 2 - 2 x·y
    return float(np.log((total - rows) / (rows * (rows - 1))))
