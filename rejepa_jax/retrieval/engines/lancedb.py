"""Into LanceDB: a table written as one version, which is there whole or not at all.

A table that is replaced keeps its old version until the new one is committed. Columns and types
are the export's own.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rejepa_jax.retrieval.engines.contract import (
    Loaded,
    Options,
    check_count,
    refuse,
    without_secrets,
)
from rejepa_jax.retrieval.engines.source import Export, open_export, read_mark
from rejepa_jax.types import ConfigError, DataError

if TYPE_CHECKING:
    from lancedb import DBConnection
    from lancedb.table import Table

SETTINGS = {"index_from": 100_000}
BATCH = 8192


def load(source: Path, target: str, options: Options) -> Loaded:
    """Loads into a folder, or a bucket's (s3://..., gs://...), as LanceDB itself reaches it."""
    import lancedb

    settings = options.choose(SETTINGS)
    export = open_export(source)
    where = f"table {options.name} in {without_secrets(target)}"
    faults: list[DataError] = []
    try:
        database = lancedb.connect(target)
        old = _mark(database, options.name)
        refuse(where, old, export, options)
        rows = pa.RecordBatchReader.from_batches(export.schema, _counted(export, where, faults))
        mode = "create" if old is None else "overwrite"
        table = database.create_table(options.name, rows, schema=export.schema, mode=mode)
        return Loaded(export.rows, where, _index(table, export, settings["index_from"]))
    except (ConfigError, DataError):
        raise
    except (OSError, RuntimeError, ValueError) as error:
        if faults:
            raise faults[0] from None
        raise ConfigError(
            f"{where}: LanceDB says: {error}; expected a folder, or one of a bucket to which you "
            "may write"
        ) from error


def _counted(export: Export, where: str, faults: list[DataError]) -> Iterator[pa.RecordBatch]:
    """Yields all rows or fails, and keeps the fault: LanceDB passes on only its text."""
    rows = 0
    try:
        for batch in export.batches(BATCH):
            rows += len(batch)
            yield batch
        check_count(where, rows, export)
    except DataError as error:
        faults.append(error)
        raise


def _mark(database: "DBConnection", name: str) -> dict[str, Any] | None:
    """The mark of a table, empty if it is not ours; None if none was ever committed."""
    try:
        table = database.open_table(name)
    except (FileNotFoundError, ValueError):
        return None
    return dict(read_mark((table.schema.metadata or {}).get(b"rejepa")))


def _index(table: "Table", export: Export, first: int) -> str:
    """Indexes many rows; few are searched exactly in no time."""
    from lancedb.index import BTree, IvfFlat, LabelList

    if export.rows < first:
        return f"searched exactly; an index is made from {first} rows on"
    lists = math.isqrt(export.rows)
    vectors = IvfFlat(distance_type="dot", num_partitions=lists)
    table.create_index("embedding", config=vectors)
    table.create_index("labels", config=LabelList())
    table.create_index("datetime", config=BTree())
    return f"IVF_FLAT of {lists} lists; give nprobes, and fast filters on labels and datetime"
