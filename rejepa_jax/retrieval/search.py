"""An image in, its neighbours out: over the artefacts of a finished run."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Shaped

from rejepa_jax import artifacts
from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.bigearthnet import archive as bigearthnet
from rejepa_jax.retrieval import embeddings, index
from rejepa_jax.retrieval.encoder import Bundle, Embedder, load_bundle
from rejepa_jax.types import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Hit:
    """One answer."""

    rank: int  # from 1
    score: float  # cosine
    id: str
    labels: list[str]
    split: str
    row: int  # in the records


class Searcher:
    """A run's encoder, index and embeddings, opened once for many queries."""

    def __init__(self, run: pathlib.Path):
        """Opens the artefacts and refuses any that do not belong together.

        Raises:
            FileNotFoundError: a stage has not finished.
            DataError: a file is damaged, or encoder, embeddings and index have different
                fingerprints.
        """
        for name in ("encoders", "embeddings", "index"):
            artifacts.load(run / name)
        name = artifacts.load(run / "embeddings")["settings"]["encoder"]
        self.bundle: Bundle = load_bundle(run / "encoders" / name)
        self._index = index.load(run / "index")
        self._table = embeddings.read(run / "embeddings", columns=("id", "labels", "split"))
        made = {"encoder": self.bundle.fingerprint, "index": self._index.fingerprint}
        for part, fingerprint in made.items():
            if fingerprint != self._table.fingerprint:
                raise DataError(
                    f"{run / 'embeddings'} has the fingerprint {self._table.fingerprint[:12]}, the "
                    f"{part} {fingerprint[:12]}: they come from different encoders. Remove "
                    f"{run / 'embeddings'} and {run / 'index'} and run main again"
                )
        self._embedder = Embedder(self.bundle)

    def search(self, path: pathlib.Path, k: int) -> list[Hit]:
        """Returns the k images of the run most like the one at `path`, best first."""
        return self.search_image(read_query(path, self.bundle), k)

    def search_image(self, image: Shaped[np.ndarray, "h w c"], k: int) -> list[Hit]:
        """Returns the k images of the run most like `image`, in the sensor's own units."""
        vector = self._embedder({self.bundle.sensor: image[None]})
        scores, rows = self._index.search(vector, k)
        return [
            self._hit(rank, float(score), int(row))
            for rank, (score, row) in enumerate(zip(scores[0], rows[0], strict=True), 1)
        ]

    def _hit(self, rank: int, score: float, row: int) -> Hit:
        table = self._table
        return Hit(rank, score, table.ids[row], table.labels[row], table.split[row], row)


def read_query(path: pathlib.Path, bundle: Bundle) -> Shaped[np.ndarray, "h w c"]:
    """Reads an image file, or a BigEarthNet patch directory, as the bundle's encoder takes it.

    An image of another size is cut to its central square and resampled to the records' size, so
    that square should cover about as much ground as an image of the archive.

    Raises:
        ConfigError: it has other bands or another dtype than the encoder's images.
        DataError: it cannot be read, or holds numbers that are not finite.
    """
    if path.is_dir():
        found = bigearthnet.read_patch(path)
        if bundle.sensor not in found:
            raise ConfigError(
                f"{path} holds bands of {sorted(found)}; the encoder takes {bundle.sensor!r} "
                f"({', '.join(bundle.record.bands)}): give a patch of that sensor"
            )
        image = found[bundle.sensor]
    elif path.exists():
        image = rasters.read_image(path.read_bytes(), str(path))
    else:
        raise DataError(f"{path}: no such file; give an image file or a patch directory")
    given, wanted = (image.shape[-1], str(image.dtype)), _pixel(bundle)
    if given != wanted:
        raise ConfigError(
            f"{path} has {given[0]} bands of {given[1]}; the encoder takes {wanted[0]} bands of "
            f"{wanted[1]} ({', '.join(bundle.record.bands)}): give an image of sensor "
            f"{bundle.sensor!r} in the archive's own units"
        )
    if not np.isfinite(image).all():
        raise DataError(f"{path}: {(~np.isfinite(image)).sum()} pixels are not finite; fill them")
    if image.shape == bundle.record.shape:
        return image
    nodata = bundle.preprocess.inputs[bundle.sensor].nodata
    return rasters.fit(rasters.Raster(image), bundle.record.height, nodata).array


def _pixel(bundle: Bundle) -> tuple[int, str]:
    return len(bundle.record.bands), bundle.record.dtype


def to_json(hits: list[Hit]) -> str:
    """Returns the hits as one JSON array."""
    return json.dumps([dataclasses.asdict(hit) for hit in hits], indent=1)


def to_table(hits: list[Hit]) -> list[list[Any]]:
    """Returns the hits as rows of text under a heading."""
    heading = ["rank", "score", "id", "split", "labels"]
    rows = [[str(h.rank), f"{h.score:.4f}", h.id, h.split, "; ".join(h.labels)] for h in hits]
    return [heading, *rows]
