"""The embedding space as a map: a dot an image, coloured by label, and what the map leaves out.

The images are the gallery's, at even distances from its list, so chosen by no result. What a map
shows as near need not be near: the share of true neighbours that it keeps is part of it.
"""

import collections
import dataclasses
import operator
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from rejepa_jax.report import plane
from rejepa_jax.report.gallery import spread
from rejepa_jax.retrieval.metrics import intervals
from rejepa_jax.retrieval.metrics.catalogue import Metric
from rejepa_jax.types import DataError

COLOURS = 8  # in the legend; all other labels are grey
NEIGHBOURS = 10
KEPT = Metric("kept", "share of the true neighbours", operator.itemgetter("kept"))
SIDE = 1000  # the longer one of the drawing, in its own units


@dataclasses.dataclass(frozen=True)
class Sample:
    """The images that are drawn."""

    ids: list[str]
    labels: list[tuple[str, ...]]
    vectors: Float[np.ndarray, "r d"]
    of: int  # images that they stand for


@dataclasses.dataclass(frozen=True)
class Dot:
    """An image on the map."""

    x: float
    y: float
    colour: int  # place in the legend; COLOURS for grey
    id: str
    labels: tuple[str, ...]
    places: tuple[int, ...]  # of its labels among those of the map


@dataclasses.dataclass(frozen=True)
class Label:
    """A label, and how many of the neighbours of its images have it too: in truth, on the map."""

    name: str
    images: int
    coloured: int  # images whose dots have its colour
    in_space: float
    on_map: float


@dataclasses.dataclass(frozen=True)
class Map:
    """What the page draws."""

    axes: str  # what they are, in words
    width: float
    height: float
    dots: list[Dot]  # the last on top
    labels: list[Label]  # most images first; the first COLOURS of them are in the legend
    grey: int  # dots
    neighbours: int
    kept: dict[str, float]  # share of the true neighbours that are neighbours on the map
    chance: float  # the share that dots thrown at random would keep
    of: int


def sample(batches: Iterable[pa.RecordBatch], rows: range, wanted: int) -> Sample:
    """Picks up to `wanted` of a split's rows from an export that is read batch by batch.

    Raises:
        DataError: the export does not have them.
    """
    chosen = rows.start + spread(len(rows), wanted)
    ids, labels, vectors = [], [], []
    for batch in batches:
        picked = batch.filter(pa.array(np.isin(batch["row"].to_numpy(), chosen)))
        ids += picked["id"].to_pylist()
        labels += [tuple(names or ()) for names in picked["labels"].to_pylist()]
        numbers = picked["embedding"].flatten().to_numpy()
        vectors.append(numbers.reshape(len(picked), picked["embedding"].type.list_size))
    if len(ids) != len(chosen):
        raise DataError(
            f"embeddings: got {len(ids)} of the {len(chosen)} rows to draw, expected all of them; "
            "export again"
        )
    return Sample(ids, labels, np.concatenate(vectors), len(rows))


def draw_map(given: Sample, kind: str) -> Map | None:
    """Lays the images out by `kind`, pca or umap; None where there are fewer than three."""
    if len(given.ids) < 3:
        return None
    places, axes = plane.lay_out(given.vectors, kind)
    count = min(NEIGHBOURS, len(given.ids) - 1)
    near = [plane.nearest(points, count) for points in (given.vectors, places)]
    kept = (near[0][:, :, None] == near[1][:, None, :]).any(axis=1).mean(axis=1)
    names, has = tabulate(given.labels)
    colours = colour(has)
    dots = _dots(given, places, colours, has)
    return Map(
        axes=axes,
        width=max(dot.x for dot in dots),
        height=max(dot.y for dot in dots),
        dots=dots,
        labels=[_label(n, has[:, i], (colours == i).sum(), near) for i, n in enumerate(names)],
        grey=int((colours == COLOURS).sum()),
        neighbours=count,
        kept=intervals.scores({"kept": kept}, {"kept": KEPT})["kept"]._asdict(),
        chance=count / (len(given.ids) - 1),
        of=given.of,
    )


def tabulate(labels: Sequence[tuple[str, ...]]) -> tuple[list[str], Bool[np.ndarray, "r l"]]:
    """Returns the labels, most frequent first (equal ones by name), and which image has which."""
    counts = collections.Counter(name for one in labels for name in one)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return names, np.array([[name in one for name in names] for one in labels], bool)


def colour(has: Bool[np.ndarray, "r l"]) -> Int[np.ndarray, " r"]:
    """Returns each image's place in the legend: of its labels there the rarest; COLOURS for none.

    The labels are in the order of `tabulate`. The rarest one says most: the most frequent one of
    an image is what most other images have too.
    """
    places = np.where(has[:, :COLOURS], np.arange(min(COLOURS, has.shape[1]))[None, :], -1)
    last = places.max(axis=1, initial=-1)
    return np.where(last < 0, COLOURS, last)


def _dots(
    given: Sample,
    places: plane.Places,
    colours: Int[np.ndarray, " r"],
    has: Bool[np.ndarray, "r l"],
) -> list[Dot]:
    """Returns the dots, grey ones first, else in a drawn order: none lies on top for its label."""
    spots = (places - places.min(axis=0)) * SIDE / max(np.ptp(places, axis=0).max(), 1e-12)
    spots[:, 1] = spots[:, 1].max() - spots[:, 1]  # SVG counts downwards
    order = np.random.default_rng(0).permutation(len(spots))
    order = order[np.argsort(colours[order] < COLOURS, kind="stable")]
    return [
        Dot(
            round(float(spots[row, 0]), 1),
            round(float(spots[row, 1]), 1),
            int(colours[row]),
            given.ids[row],
            given.labels[row],
            tuple(np.flatnonzero(has[row]).tolist()),
        )
        for row in order
    ]


def _label(
    name: str, own: Bool[np.ndarray, " r"], coloured: np.integer, near: list[Int[np.ndarray, "r n"]]
) -> Label:
    return Label(name, int(own.sum()), int(coloured), *(float(own[n[own]].mean()) for n in near))
