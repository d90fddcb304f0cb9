"""Which images may be answers: by box, date, sensor, label, collection, split, place."""

import dataclasses
import datetime
import difflib
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from rejepa_jax.retrieval.collection.catalogue import Catalogue
from rejepa_jax.types import ConfigError

Mask = Bool[np.ndarray, " r"]
Box = tuple[float, float, float, float]
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)


@dataclasses.dataclass(frozen=True)
class Filter:
    """What all answers have in common; an empty one lets everything pass.

    What is not known of an image does not fit: with `start` set, an image without a date is out.
    """

    bbox: Box | None = None  # degrees xmin, ymin, xmax, ymax; xmin > xmax crosses the antimeridian
    start: str = ""  # ISO 8601 date or time, UTC unless it says otherwise
    end: str = ""  # inclusive: a date means to the end of that day
    sensors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()  # any of them
    collections: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    not_places: tuple[str, ...] = ()  # images of these places are left out

    def mask(self, catalogue: Catalogue) -> Mask | None:
        """Returns which rows may be answers; None for all of them.

        Raises:
          ConfigError: a box or date that is none, or a name that no image has.
        """
        masks = [
            in_box(catalogue, self.bbox) if self.bbox is not None else None,
            in_time(catalogue, self.start, self.end) if self.start or self.end else None,
            with_label(catalogue, self.labels) if self.labels else None,
            ~of_places(catalogue, self.not_places) if self.not_places else None,
        ]
        for column in ("sensor", "collection", "split"):
            names = getattr(self, f"{column}s")
            masks.append(with_name(catalogue, column, names) if names else None)
        masks = [mask for mask in masks if mask is not None]
        return np.logical_and.reduce(masks) if masks else None


def in_box(catalogue: Catalogue, box: Box) -> Mask:
    """Returns the rows whose bounds meet a box; its edges belong to it."""
    west, south, east, north = check_box(box)
    xmin, ymin, xmax, ymax = catalogue.boxes.T
    crosses = xmin > xmax

    def meets(west: float, east: float) -> Mask:
        begins, ends = xmin <= east, xmax >= west
        return np.where(crosses, begins | ends, begins & ends)

    parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    along = np.logical_or.reduce([meets(*part) for part in parts])
    return along & (ymin <= north) & (ymax >= south)


def check_box(box: Box) -> Box:
    """Returns a box in degrees as numbers.

    Raises:
      ConfigError: it is none.
    """
    is_box = len(box) == 4 and all(map(math.isfinite, box))
    if not is_box or max(map(abs, box[::2])) > 180 or not -90 <= box[1] <= box[3] <= 90:
        raise ConfigError(
            f"got bbox {tuple(box)}, expected xmin,ymin,xmax,ymax in degrees: longitudes from "
            "-180 to 180 (xmin > xmax across the antimeridian), latitudes from -90 to 90 with "
            "ymin <= ymax; correct it"
        )
    west, south, east, north = map(float, box)
    return west, south, east, north


def in_time(catalogue: Catalogue, start: str, end: str) -> Mask:
    """Returns the rows acquired from `start` to `end`; either may be empty."""
    times = catalogue.times
    mask = times != np.iinfo(np.int64).min
    if start:
        mask &= times >= _microseconds(start)[0]
    if end:
        mask &= times <= _microseconds(end)[1]
    if start and end and _microseconds(start)[0] > _microseconds(end)[1]:
        raise ConfigError(f"got dates from {start} to {end}, expected from <= to; swap them")
    return mask


def _microseconds(text: str) -> tuple[int, int]:
    """Returns the first and the last microsecond of a day, or one moment twice."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"got the date {text[:99]!r}, expected ISO 8601 such as 2018-05-21 or "
            "2018-05-21T10:00:00Z; correct it"
        ) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    first = (moment - EPOCH) // MICROSECOND
    is_day = "T" not in text and " " not in text
    return first, first + (86_400_000_000 - 1 if is_day else 0)


def with_name(catalogue: Catalogue, column: str, names: Sequence[str]) -> Mask:
    """Returns the rows with one of these names in a column."""
    codes, known = catalogue.codes(column)
    return np.isin(codes, _codes(column, names, known))


def with_label(catalogue: Catalogue, names: Sequence[str]) -> Mask:
    """Returns the rows with any of these labels."""
    rows, codes, known = catalogue.labels
    mask = np.zeros(catalogue.rows, bool)
    mask[rows[np.isin(codes, _codes("label", names, known))]] = True
    return mask


def of_places(catalogue: Catalogue, places: Sequence[str]) -> Mask:
    """Returns the rows of these places; one that no image is of does no harm."""
    codes, known = catalogue.codes("place")
    is_one = pc.call_function("is_in", [known], pc.SetLookupOptions(value_set=pa.array(places)))
    return np.isin(codes, np.flatnonzero(is_one.to_numpy(zero_copy_only=False)))


def _codes(what: str, names: Sequence[str], known: pa.Array) -> np.ndarray:
    """Returns the numbers of names; a ConfigError for one that no image has: a typing error."""
    there = known.to_pylist()
    for name in names:
        if name not in there:
            close = difflib.get_close_matches(name, there, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                f"got the {what} {name[:99]!r}, which no image has, expected some of "
                f"{', '.join(sorted(there)[:30]) or 'none, as none is known'}{hint}"
            )
    return np.array([there.index(name) for name in names])
