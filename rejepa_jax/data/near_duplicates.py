"""Images that are in two splits at once, or nearly so: the same pixels, or the same picture.

Every image is compared with those of the other splits that its signature may resemble
(`signatures.py`: thumbnails of 8 x 8 cells), and pairs that look alike once more on 32 x 32 cells,
read again from the records. Noise, recompression, other brightness and contrast are seen through.
Mirrored, turned and shifted images are not recognised: overlapping ground is what
`data.split_by = block` is for.
"""

import collections
import dataclasses
import hashlib
import itertools
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rejepa_jax.console import Progress, table
from rejepa_jax.data import sensors, signatures
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.data.signatures import Codes, Pairs, Signatures

CELLS, FINE_CELLS = 8, 32
THRESHOLD = 0.97  # correlation on the fine cells from which on two images are the same picture
MARGIN = 0.03  # by which it may be less on the coarse ones
BATCH = 256
LISTED = 1000  # pairs that a report names


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images of different splits that show the same."""

    splits: tuple[str, str]
    ids: tuple[str, str]
    correlation: float
    is_exact: bool  # all their bytes are equal


@dataclasses.dataclass(frozen=True)
class Twins:
    """How many images of a split have a twin in another one."""

    split: str
    other: str
    exact: int
    near: int  # that have no exact one
    images: int  # of the split


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found in all records."""

    sensor: str
    threshold: float
    images: int
    flat: int  # images without contrast, of which only exact twins are found
    twins: tuple[Twins, ...]
    found: int  # pairs
    pairs: tuple[Pair, ...]  # of these the likest, `LISTED` at most

    def to_json(self) -> dict[str, Any]:
        """Gives it in JSON's own types."""
        return dataclasses.asdict(self)


def find_near_duplicates(records: RecordSet, sensor: str, threshold: float = THRESHOLD) -> Report:
    """Compares the images of each split with those of every other, by one sensor.

    An exact duplicate is paired with one image of each other split that has it, however many
    there are. Memory: 128 bytes an image and band, and 200 an image: 1 GB for 590,000 of twelve.
    """
    split_of = np.repeat(np.arange(len(records.splits)), [len(r) for r in records.splits.values()])
    described, codes, digests = _read_all(records, sensor)
    exact = _exact_pairs(digests, split_of)
    pairs = signatures.alike(described, codes, split_of, threshold - MARGIN)
    is_new = [digests[one] != digests[other] for one, other in pairs.tolist()]
    pairs, correlations = _look_again(records, sensor, pairs[np.array(is_new, bool)], threshold)
    names, equal = list(records.splits), exact[:LISTED]
    order = np.argsort(-correlations, kind="stable")[: LISTED - len(equal)]
    return Report(
        sensor=sensor,
        threshold=threshold,
        images=len(split_of),
        flat=int((~described.any(axis=1)).sum()),
        twins=tuple(_count(exact, pairs, split_of, names)),
        found=len(exact) + len(pairs),
        pairs=(
            *_named(records, equal, np.ones(len(equal)), split_of, is_exact=True),
            *_named(records, pairs[order], correlations[order], split_of, is_exact=False),
        ),
    )


def to_text(report: Report) -> str:
    """Lays the report out as tables: who has twins where, and the likest pairs."""
    head = (
        f"{report.images} images of {report.sensor}: {report.found} pairs in two splits, equal or "
        f"correlated by {report.threshold:g} and more; {report.flat} images without contrast were "
        "only searched for equal ones"
    )
    counts = [["split", "has in", "equal", "near", "of images"]] + [
        [t.split, t.other, str(t.exact), str(t.near), str(t.images)] for t in report.twins
    ]
    pairs = [["correlation", "image", "and image"]] + [
        ["equal" if pair.is_exact else f"{pair.correlation:.4f}"]
        + [f"{split}: {name}" for split, name in zip(pair.splits, pair.ids, strict=True)]
        for pair in report.pairs[:20]
    ]
    return "\n\n".join([head, *(table(rows) for rows in (counts, pairs) if len(rows) > 1)])


def _read_all(records: RecordSet, sensor: str) -> tuple[Signatures, Codes, list[bytes]]:
    """Reads every image once; returns its signature, its codes and the digest of its bytes."""
    total, nodata = len(records.records), sensors.nodata(sensor)
    progress = Progress("look for duplicates", total, "images")
    described, codes, digests = [], [], []
    towards = np.zeros((0, 0), np.float32)
    for start in range(0, total, BATCH):
        rows = np.arange(start, min(start + BATCH, total))
        images = records.read(rows, [sensor])["image"][sensor]
        digests += [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
        found = signatures.describe(images, CELLS, nodata)
        if not towards.size:
            towards = signatures.directions(found.shape[1])
        codes.append(signatures.encode(found, towards))
        described.append(found.astype(np.float16))
        progress.update(len(digests))
    return np.concatenate(described), np.concatenate(codes, axis=1), digests


def _exact_pairs(digests: list[bytes], split_of: Int[np.ndarray, " r"]) -> Pairs:
    """Pairs each image with the first equal one of every other split."""
    rows_of: dict[bytes, list[int]] = collections.defaultdict(list)
    for row, digest in enumerate(digests):
        rows_of[digest].append(row)
    found = set()
    for rows in rows_of.values():
        first = {int(split_of[row]): row for row in reversed(rows)}
        found |= {
            (min(row, other), max(row, other))
            for row, (split, other) in itertools.product(rows, first.items())
            if split != split_of[row]
        }
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def _look_again(
    records: RecordSet, sensor: str, pairs: Pairs, threshold: float
) -> tuple[Pairs, Float[np.ndarray, " p"]]:
    """Returns the pairs that are alike on the fine cells too, and how much."""
    nodata, correlations = sensors.nodata(sensor), np.zeros(len(pairs))
    progress = Progress("compare on finer cells", len(pairs), "pairs")
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        rows, place = np.unique(part, return_inverse=True)
        images = records.read(rows, [sensor])["image"][sensor]
        fine = signatures.describe(images, FINE_CELLS, nodata)[place.reshape(part.shape)]
        correlations[start : start + BATCH] = np.einsum("pd,pd->p", fine[:, 0], fine[:, 1])
        progress.update(start + len(part))
    kept = correlations >= threshold
    return pairs[kept], correlations[kept]


def _count(
    exact: Pairs, near: Pairs, split_of: Int[np.ndarray, " r"], names: list[str]
) -> list[Twins]:
    """Counts, for each split, its images with a twin in each other split that has any."""
    with_twin: dict[tuple[int, int], tuple[set[int], set[int]]] = {}
    for kind, pairs in enumerate((exact, near)):
        for one, other in itertools.chain(pairs.tolist(), pairs[:, ::-1].tolist()):
            key = int(split_of[one]), int(split_of[other])
            with_twin.setdefault(key, (set(), set()))[kind].add(one)
    sizes = np.bincount(split_of, minlength=len(names))
    return [
        Twins(names[a], names[b], len(equal), len(alike - equal), int(sizes[a]))
        for (a, b), (equal, alike) in sorted(with_twin.items())
    ]


def _named(
    records: RecordSet,
    pairs: Pairs,
    correlations: Float[np.ndarray, " p"],
    split_of: Int[np.ndarray, " r"],
    is_exact: bool,
) -> list[Pair]:
    names = list(records.splits)
    id_of = {row: records.read_examples([row])[0].id for row in np.unique(pairs).tolist()}
    return [
        Pair(
            (names[split_of[one]], names[split_of[other]]),
            (id_of[one], id_of[other]),
            round(float(correlation), 6),
            is_exact,
        )
        for (one, other), correlation in zip(pairs.tolist(), correlations, strict=True)
    ]
