"""Into a FAISS index file, with the images' ids and facts by row number beside it.

`TARGET/NAME/` holds `index.faiss` (its ids are our row numbers), `rows.parquet` (whose column `row`
they are found in) and a manifest, and is renamed to that name when it is whole. FAISS keeps an
index in memory while it is built. Its files are no safe input from strangers.
"""

import datetime
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float

from rejepa_jax import artifacts
from rejepa_jax.retrieval.engines.contract import Loaded, Options, check_count, refuse
from rejepa_jax.retrieval.engines.source import SCHEMA, Export, open_export, vectors
from rejepa_jax.types import ConfigError

if TYPE_CHECKING:
    import faiss

SETTINGS = {"ivf_from": 100_000, "lists": 0, "probes": 32}  # lists 0: 4 * sqrt(rows)
TRAINING = 40  # rows for each list: FAISS asks for 39
INDEX, ROWS = "index.faiss", "rows.parquet"


def load(source: Path, target: str, options: Options) -> Loaded:
    """Loads into the folder NAME of a folder on this machine."""
    settings = options.choose(SETTINGS)
    export = open_export(source)
    directory = Path(target) / options.name
    refuse(str(directory), _mark(directory), export, options)
    lists = _lists(export, settings)
    partial = directory.with_name(f"{options.name}.partial")
    for beside in (partial, artifacts.old(directory)):
        artifacts.refuse_stranger(beside)
    try:
        _begin(partial, export)
        note = _build(export, partial, lists, settings["probes"])
        _write_manifest(partial, export)
        artifacts.publish(partial, directory)
    except (OSError, RuntimeError) as error:  # FAISS calls a full disk a RuntimeError
        raise ConfigError(f"{target}: got {error}, expected a folder with room in it") from error
    return Loaded(export.rows, str(directory), note)


def _mark(directory: Path) -> dict[str, Any] | None:
    if not directory.exists():
        return None
    if not (directory / artifacts.MANIFEST).is_file():
        return {}
    settings = artifacts.read_json(directory / artifacts.MANIFEST).get("settings", {})
    return settings if settings.get("schema") == SCHEMA else {}


def _lists(export: Export, settings: dict[str, Any]) -> int:
    """Returns the number of inverted lists; 0 for few rows, which are searched exactly."""
    lists = settings["lists"] or min(round(4 * math.sqrt(export.rows)), export.rows)
    if export.rows < settings["ivf_from"]:
        return 0
    if lists > export.rows:
        raise ConfigError(
            f"got --option lists={lists} for {export.rows} rows, expected at most one list a row; "
            "give fewer, or leave it out"
        )
    return lists


def _begin(partial: Path, export: Export) -> None:
    """Makes the folder anew, with the mark by which the next load knows it as ours."""
    if partial.exists():
        artifacts.remove(partial)
    partial.mkdir(parents=True)
    mark = {"settings": export.mark, "inputs": {}}
    artifacts.write_json(partial / artifacts.BEGUN, mark)


def _build(export: Export, directory: Path, lists: int, probes: int) -> str:
    import faiss

    index, kind = _empty(export, lists, probes)
    schema = export.schema
    columns = schema.remove(schema.get_field_index("embedding"))
    with pq.ParquetWriter(directory / ROWS, columns, compression="zstd") as rows:
        for batch in export.batches():
            index.add_with_ids(np.ascontiguousarray(vectors(batch)), batch["row"].to_numpy())
            rows.write_batch(batch.drop_columns(["embedding"]))
    check_count(str(directory), index.ntotal, export)
    faiss.write_index(index, str(directory / INDEX))
    return f"{kind}; ids are row numbers of {ROWS}; read only index files that you trust"


def _empty(export: Export, lists: int, probes: int) -> "tuple[faiss.Index, str]":
    """Makes an exact index, or inverted lists, trained on a sample."""
    import faiss

    kind = f"IVF{lists},Flat" if lists else "Flat"
    index = faiss.index_factory(export.dim, f"IDMap2,{kind}", faiss.METRIC_INNER_PRODUCT)
    if lists:
        index.train(_sample(export, TRAINING * lists))
        faiss.extract_index_ivf(index).nprobe = min(probes, lists)
    return index, kind


def _sample(export: Export, count: int) -> Float[np.ndarray, "r d"]:
    """Draws rows from all over the export in one pass, the same ones every time."""
    rows = np.flatnonzero(export.live)
    drawn = np.random.default_rng(0).choice(rows, min(count, len(rows)), replace=False)
    is_drawn = np.isin(np.arange(len(export.live)), drawn)
    found = [vectors(batch)[is_drawn[batch["row"].to_numpy()]] for batch in export.batches()]
    return np.concatenate(found)


def _write_manifest(directory: Path, export: Export) -> None:
    """Describes the folder as every artefact is described, so that `rejepa verify` knows it."""
    found = {
        name: {
            "bytes": (directory / name).stat().st_size,
            "sha256": artifacts.sha256_file(directory / name),
        }
        for name in (INDEX, ROWS)
    }
    content = {"stage": "load faiss", "settings": export.mark, "files": found}
    manifest = {
        "fingerprint": artifacts.fingerprint(content),
        **content,
        "inputs": {},
        "info": {"rows": export.rows},
        "versions": artifacts.versions(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    artifacts.write_json(directory / artifacts.MANIFEST, manifest)
    (directory / artifacts.BEGUN).unlink()
