"""Into Qdrant: a collection filled under a name of its own, then shown under an alias.

Clients know the alias only, and it is set in one act when all rows are there. What a load that was
ended leaves has no alias; the next load of that name removes it.
"""

import contextlib
import os
import re
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
from rejepa_jax.retrieval.engines.source import SCHEMA, SIDES, Export, facts, open_export, vectors
from rejepa_jax.types import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from qdrant_client import QdrantClient, models

API_KEY = "QDRANT_API_KEY"
SETTINGS = {"m": 16, "ef_construct": 100}
AS_THEY_ARE = ("id", "row", "labels", "split", "sensor", "collection", "place", "source_uri")
KEYWORDS = ("id", "labels", "split", "sensor", "collection", "place")
BATCH = 512  # rows; a request must stay below 32 MB
LOCAL_ROWS = 20_000


def load(source: Path, target: str, options: Options) -> Loaded:
    """Loads into a server (URL, or host:port), or into a folder of Qdrant's local mode."""
    settings = options.choose(SETTINGS)
    export = open_export(source)
    where = f"collection {options.name} in {without_secrets(target)}"
    with _connected(target, where) as client:
        collections = _ours(client)
        aliases = {pair.alias_name: pair.collection_name for pair in client.get_aliases().aliases}
        old = aliases.get(options.name)
        if old is None and client.collection_exists(options.name):
            refuse(where, {}, export, options)
        refuse(where, collections.get(old, {}) if old else None, export, options)
        for name, mark in collections.items():
            if mark["name"] == options.name and name != old:
                client.delete_collection(name)
        new = f"{options.name}_{secrets.token_hex(4)}"
        _fill(client, new, export, options.name, settings)
        check_count(where, client.count(new).count, export)
        note = _index(client, new, export.rows)
        _show(client, options.name, new, old)
        return Loaded(export.rows, where, note)


@contextlib.contextmanager
def _connected(target: str, where: str) -> Iterator["QdrantClient"]:
    from qdrant_client import QdrantClient
    from qdrant_client.http.exceptions import ApiException

    url = f"http://{target}" if re.fullmatch(r"[\w.-]+:\d+", target) else target
    is_remote = "://" in url
    key = os.environ.get(API_KEY) or None
    client = None
    try:
        client = QdrantClient(url=url, api_key=key) if is_remote else QdrantClient(path=url)
        yield client
    except (ConfigError, DataError):
        raise
    except (ApiException, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{where}: Qdrant says: {error}; expected a server's URL, host:port or a folder that "
            f"no other process has open ({API_KEY} in the environment, if the server wants one)"
        ) from error
    finally:
        if client is not None:
            client.close()


def _ours(client: "QdrantClient") -> dict[str, dict[str, Any]]:
    """The mark of each collection that a load has made."""
    names = [entry.name for entry in client.get_collections().collections]
    marks = {name: client.get_collection(name).config.metadata for name in names}
    return {name: mark for name, mark in marks.items() if mark and mark.get("schema") == SCHEMA}


def _fill(
    client: "QdrantClient", name: str, export: Export, alias: str, settings: dict[str, Any]
) -> None:
    from qdrant_client import models

    client.create_collection(
        name,
        vectors_config=models.VectorParams(size=export.dim, distance=models.Distance.DOT),
        hnsw_config=models.HnswConfigDiff(**settings),
        metadata=export.mark | {"name": alias},
    )
    for batch in export.batches(BATCH):
        client.upsert(name, _points(batch))


def _points(batch: "pa.RecordBatch") -> "models.Batch":
    from qdrant_client import models

    rows = facts(batch)
    return models.Batch(
        ids=[row["uuid"] for row in rows],
        vectors=vectors(batch).tolist(),
        payloads=[_payload(row) for row in rows],
    )


def _payload(row: dict[str, Any]) -> dict[str, Any]:
    payload = {name: row[name] for name in AS_THEY_ARE if row[name] is not None}
    if row["datetime"] is not None:
        payload["datetime"] = row["datetime"].isoformat()
    if row["lon"] is not None:
        payload["location"] = {"lon": row["lon"], "lat": row["lat"]}
        payload["bbox"] = [row[side] for side in SIDES]
    return payload


def _show(client: "QdrantClient", alias: str, new: str, old: str | None) -> None:
    """Makes the alias mean the new collection in one act, then removes the old one."""
    from qdrant_client import models

    made = models.CreateAliasOperation(
        create_alias=models.CreateAlias(collection_name=new, alias_name=alias)
    )
    gone = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
    client.update_collection_aliases([gone, made] if old else [made])
    if old:
        client.delete_collection(old)


def _index(client: "QdrantClient", name: str, rows: int) -> str:
    """Lets a server index what is filtered by; local mode looks at every point anyway."""
    from qdrant_client import models
    from qdrant_client.local.qdrant_local import QdrantLocal

    if isinstance(client._client, QdrantLocal):
        return "local mode is exact" + ", and slow for so many rows" * (rows > LOCAL_ROWS)
    kinds = dict.fromkeys(KEYWORDS, models.PayloadSchemaType.KEYWORD)
    kinds |= {
        "datetime": models.PayloadSchemaType.DATETIME,
        "location": models.PayloadSchemaType.GEO,
    }
    for field, kind in kinds.items():
        client.create_payload_index(name, field, kind)
    return "payload indexes on " + ", ".join(kinds)
