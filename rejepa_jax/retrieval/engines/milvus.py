"""Into Milvus, or a file of Milvus Lite: a collection of its own, then shown under an alias.

Clients know the alias only, and it is set in one act when all rows are there, indexed and loaded.
What a load that was ended leaves has no alias; the next load of that name removes it.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rejepa_jax.retrieval.engines.contract import (
    Loaded,
    Options,
    check_count,
    refuse,
    without_secrets,
)
from rejepa_jax.retrieval.engines.source import (
    NUMBERS,
    TEXTS,
    facts,
    open_export,
    read_mark,
    vectors,
)
from rejepa_jax.types import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa
    from pymilvus import CollectionSchema, MilvusClient

TOKEN = "MILVUS_TOKEN"
SETTINGS = {"index": "HNSW", "m": 16, "ef_construction": 200}
LONGEST, MOST = 65535, 4096  # bytes of a text, labels of an image: what Milvus takes
BATCH = 1024  # rows; a request must stay below 64 MB


def load(source: Path, target: str, options: Options) -> Loaded:
    """Loads into a server (http://host:19530) or a file NAME.db."""
    settings = options.choose(SETTINGS)
    export = open_export(source)
    where = f"collection {options.name} in {without_secrets(target)}"
    with _connected(target, where) as client:
        there: Any = client.list_collections()
        if options.name in there:
            refuse(where, {}, export, options)
        old = next((known for known in there if options.name in _aliases(client, known)), None)
        refuse(where, _mark(client, old) if old else None, export, options)
        for known in there:
            if known != old and _mark(client, known).get("name") == options.name:
                client.drop_collection(known)
        new = f"{options.name}_{secrets.token_hex(4)}"
        mark = json.dumps(export.mark | {"name": options.name})
        # A server keeps both, Milvus Lite only the properties.
        schema = _schema(client, export.dim, mark)
        client.create_collection(new, schema=schema, properties={"rejepa": mark})
        for batch in export.batches(BATCH):
            client.insert(new, _rows(batch))
        client.flush(new)
        check_count(where, client.get_collection_stats(new)["row_count"], export)
        _index(client, new, settings)
        (client.alter_alias if old else client.create_alias)(new, options.name)
        if old:
            client.drop_collection(old)
    return Loaded(export.rows, where, "metric IP; `time` is in seconds since 1970")


@contextlib.contextmanager
def _connected(target: str, where: str) -> Iterator["MilvusClient"]:
    from pymilvus import MilvusClient, MilvusException

    client = None
    try:
        client = MilvusClient(target, token=os.environ.get(TOKEN, ""), timeout=10)
        yield client
    except (MilvusException, OSError) as error:
        raise ConfigError(
            f"{where}: Milvus says: {error}; expected a server's URL or a file NAME.db in a folder "
            f"that is there ({TOKEN} in the environment, if the server asks for one)"
        ) from error
    finally:
        if client is not None:
            client.close()


def _aliases(client: "MilvusClient", name: str) -> list[str]:
    found: Any = client.list_aliases(name)
    return found["aliases"]


def _mark(client: "MilvusClient", name: str) -> dict[str, Any]:
    found: Any = client.describe_collection(name)
    return dict(read_mark(found.get("properties", {}).get("rejepa") or found["description"]))


def _schema(client: "MilvusClient", dim: int, mark: str) -> "CollectionSchema":
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=mark)
    text = {"datatype": DataType.VARCHAR, "max_length": LONGEST}
    schema.add_field("id", is_primary=True, **text)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("row", DataType.INT64)
    schema.add_field(
        "labels",
        DataType.ARRAY,
        element_type=DataType.VARCHAR,
        max_capacity=MOST,
        max_length=LONGEST,
    )
    schema.add_field("time", DataType.INT64, nullable=True)
    for name in TEXTS[1:]:
        schema.add_field(name, nullable=True, **text)
    for name in NUMBERS:
        schema.add_field(name, DataType.DOUBLE, nullable=True)
    return schema


def _rows(batch: "pa.RecordBatch") -> list[dict[str, Any]]:
    rows = []
    for fact, vector in zip(facts(batch), vectors(batch), strict=True):
        time = fact["datetime"]
        row = {name: fact[name] for name in ("row", "labels", *TEXTS, *NUMBERS)}
        seconds = None if time is None else int(time.timestamp() // 1)
        rows.append(row | {"embedding": vector, "time": seconds})
    return rows


def _index(client: "MilvusClient", name: str, settings: dict[str, Any]) -> None:
    """Indexes the vectors and makes the collection ready to be searched."""
    index = client.prepare_index_params()
    params = {"M": settings["m"], "efConstruction": settings["ef_construction"]}
    is_graph = settings["index"] == "HNSW"
    index.add_index(
        "embedding",
        index_type=settings["index"],
        metric_type="IP",
        params=params if is_graph else {},
    )
    client.create_index(name, index)
    client.load_collection(name)
