"""Points of many dimensions on a plane, and who is near whom."""

import importlib.util

import numpy as np
from jaxtyping import Float, Int

from rejepa_jax.retrieval.compact import principal_axes
from rejepa_jax.types import ConfigError

SEED = 0
UMAP_NEIGHBOURS = 15

Places = Float[np.ndarray, "r 2"]


def lay_out(vectors: Float[np.ndarray, "r d"], kind: str) -> tuple[Places, str]:
    """Returns a place for each row, and what the axes are, in words; `kind` is pca or umap.

    Raises:
        ConfigError: there is no such kind, or UMAP is not installed.
    """
    if kind not in LAYOUTS:
        raise ConfigError(f"got report.map = {kind!r}, expected {' or '.join(LAYOUTS)}; choose one")
    return LAYOUTS[kind](vectors)


def _pca(vectors: Float[np.ndarray, "r d"]) -> tuple[Places, str]:
    centred = vectors - vectors.mean(axis=0)
    places = centred @ principal_axes(centred, 2)
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    share = (places**2).sum(axis=0) / max(float((centred**2).sum()), 1e-30)
    words = " and ".join(f"{100 * one:.0f} %" for one in share)
    return places, f"the two strongest axes of PCA, with {words} of the variance"


def _umap(vectors: Float[np.ndarray, "r d"]) -> tuple[Places, str]:
    if importlib.util.find_spec("umap") is None:
        raise ConfigError(
            "got report.map = 'umap' without umap-learn, expected it installed; "
            "install the extra rejepa_jax[umap], or take report.map = 'pca'"
        )
    import umap

    near = min(UMAP_NEIGHBOURS, len(vectors) - 1)
    # One process and a fixed seed: the same embeddings give the same map.
    umap = umap.UMAP(n_neighbors=near, metric="cosine", init="pca", random_state=SEED, n_jobs=1)
    words = f"UMAP of {near} neighbours by cosine, whose axes and distances have no unit"
    return np.asarray(umap.fit_transform(vectors), np.float32), words


LAYOUTS = {"pca": _pca, "umap": _umap}


def nearest(points: Float[np.ndarray, "r d"], count: int) -> Int[np.ndarray, "r count"]:
    """Returns each row's nearest others, nearest first; of unit vectors, those of highest cosine.

    Equally near ones come in the order of their rows.
    """
    points = points.astype(np.float64)
    squares = np.einsum("rd,rd->r", points, points)
    found = np.empty((len(points), count), np.int64)
    for start in range(0, len(points), 512):
        part = points[start : start + 512]
        away = squares[None, :] - 2 * part @ points.T  # and a term that is the same in a row
        away[np.arange(len(part)), np.arange(start, start + len(part))] = np.inf
        found[start : start + 512] = np.argsort(away, axis=1, kind="stable")[:, :count]
    return found
