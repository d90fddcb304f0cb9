"""Per-band statistics over many images, from sums that are added up in parts."""

import dataclasses

import numpy as np
from jaxtyping import Shaped


@dataclasses.dataclass(frozen=True)
class BandSums:
    """What per-band statistics are made of; parts add up in any order."""

    count: np.ndarray  # pixels that are known
    total: np.ndarray
    square: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def plus(self, other: "BandSums") -> "BandSums":
        """Returns the sums over both parts."""
        return BandSums(
            self.count + other.count,
            self.total + other.total,
            self.square + other.square,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def to_json(self) -> dict[str, list[float]]:
        """Gives each array as a list."""
        return {f.name: getattr(self, f.name).tolist() for f in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, value: dict[str, list[float]]) -> "BandSums":
        """Reads what `to_json` gave."""
        return cls(**{name: np.array(items, np.float64) for name, items in value.items()})

    def statistics(self) -> dict[str, list[float]]:
        """Returns mean, standard deviation, minimum and maximum of each band."""
        count = np.maximum(self.count, 1)
        mean = self.total / count
        std = np.sqrt(np.maximum(self.square / count - mean**2, 0))
        known = self.count > 0
        columns = {"mean": mean, "std": std, "min": self.low, "max": self.high}
        return {name: np.where(known, column, 0).tolist() for name, column in columns.items()}


def band_sums(image: Shaped[np.ndarray, "h w c"], nodata: float | None) -> BandSums:
    """Sums over one image's known pixels, in float64."""
    pixels = image.reshape(-1, image.shape[-1]).astype(np.float64)
    known = np.ones_like(pixels, bool) if nodata is None else pixels != nodata
    held = np.where(known, pixels, 0)
    return BandSums(
        known.sum(0).astype(np.float64),
        held.sum(0),
        np.square(held).sum(0),
        np.where(known, pixels, np.inf).min(0),
        np.where(known, pixels, -np.inf).max(0),
    )
