"""The exported file `rejepa-embeddings/1`: (Geo)Parquet parts, one row an image, numbered through.

The footer of a part holds the key `emb` (JSON: what made the vectors, and their fingerprint) and,
where footprints are known, `geo` (GeoParquet 1.1, whose default CRS is OGC:CRS84). The columns are
told one by one in docs/embeddings.md.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

SCHEMA = "rejepa-embeddings/1"
PART_NAME = re.compile(r"part-(\d{5})-of-(\d{5})\.parquet")
NAMES = pa.dictionary(pa.int32(), pa.string())
NEEDED = {  # a file without these columns, or with others of the name, is refused
    "id": pa.string(),
    "row": pa.int64(),
    "labels": pa.list_(pa.string()),
    "split": NAMES,
    "sensor": NAMES,
}
ALWAYS_READ = (*NEEDED, "embedding")
WITHOUT_NULLS = ("id", "uuid", "row", "embedding", "scale", "sensor")
NULLABLE = {
    "sensor": NAMES,
    "collection": NAMES,
    "split": NAMES,
    "place": pa.string(),
    "proj_code": pa.string(),
    "proj_transform": pa.list_(pa.float64()),
    "proj_shape": pa.list_(pa.int32()),
    "source_uri": pa.string(),
    "source_checksum": pa.string(),
    "thumbnail_uri": pa.string(),
}
FRACTIONS = ("valid_fraction", "cloud_fraction")


@dataclasses.dataclass(frozen=True)
class EmbeddingPart:
    """Columns of one part; a column left out is unknown for every row.

    Within a column `""`, `()`, `b""` and NaN mean unknown, as in `data.examples.Example`.
    `proj_transform` is the affine a b c d e f, `proj_shape` height and width, `geometry` a WKB
    polygon or multipolygon in degrees, `datetime` the acquisition in ISO 8601.
    """

    first_row: int
    ids: Sequence[str]
    vectors: Float[np.ndarray, "r d"]
    sensor: Sequence[str]
    labels: Sequence[Sequence[str]]
    collection: Sequence[str] = ()
    split: Sequence[str] = ()
    place: Sequence[str] = ()
    geometry: Sequence[bytes] = ()
    proj_code: Sequence[str] = ()
    proj_transform: Sequence[tuple[float, ...]] = ()
    proj_shape: Sequence[tuple[int, ...]] = ()
    datetime: Sequence[str] = ()
    source_uri: Sequence[str] = ()
    source_checksum: Sequence[str] = ()
    thumbnail_uri: Sequence[str] = ()
    valid_fraction: Sequence[float] | np.ndarray = ()
    cloud_fraction: Sequence[float] | np.ndarray = ()


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """All parts of an export, in row order; `table` has every column read but the vectors."""

    ids: list[str]
    vectors: Float[np.ndarray, "r d"]
    labels: list[list[str]]
    split: list[str]
    sensor: list[str]
    footer: dict[str, Any]
    table: pa.Table

    @property
    def fingerprint(self) -> str:
        """What made the vectors: only equal fingerprints may be compared."""
        return self.footer["fingerprint"]


def part_name(part: int, parts: int) -> str:
    """Names part `part` of `parts`, counted from 0."""
    return f"part-{part:05d}-of-{parts:05d}.parquet"
