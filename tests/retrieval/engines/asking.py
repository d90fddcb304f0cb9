"""Each engine asked in its own language: ids and scores of the best, under each filter."""

import contextlib
import json
from pathlib import Path

import invented
import numpy as np

LABEL, (START, END) = invented.LABELS[1], invented.DATES
WEST, SOUTH, EAST, NORTH = invented.BOX
LAST = "2019-10-01"  # the first day after
MEETS = (  # bounds that meet a box across the antimeridian, which some of them cross themselves
    f"south <= {NORTH} and north >= {SOUTH} and (west > east or east >= {WEST} or west <= {EAST})"
)


@contextlib.contextmanager
def pgvector(target, name):
    import psycopg
    from pgvector.psycopg import register_vector
    from psycopg import sql

    wheres = {
        "all": ("true", ()),
        "label": ("%s = any(labels)", (LABEL,)),
        "dates": ("datetime >= %s and datetime < %s", (f"{START}Z", f"{LAST}Z")),
        "box": (MEETS, ()),
        "names": ("split = 'val' and sensor = 's2'", ()),
    }
    with psycopg.connect(target, autocommit=True) as connection:
        register_vector(connection)
        connection.execute("SET enable_seqscan = off")  # so that it is the index that answers
        connection.execute("SET enable_bitmapscan = off")
        connection.execute("SET hnsw.ef_search = 400")
        connection.execute("SET hnsw.iterative_scan = strict_order")

        def ask(vector, filtered):
            where, values = wheres[filtered]
            query = sql.SQL(
                "SELECT id, -(embedding <#> %s) FROM {} WHERE {} ORDER BY embedding <#> %s LIMIT 10"
            ).format(sql.Identifier(name), sql.SQL(where))
            return connection.execute(query, (vector, *values, vector)).fetchall()

        yield ask


@contextlib.contextmanager
def qdrant(target, name):
    from qdrant_client import QdrantClient
    from qdrant_client.models import (
        DatetimeRange,
        FieldCondition,
        Filter,
        GeoBoundingBox,
        GeoPoint,
        MatchAny,
        MatchValue,
    )

    box = GeoBoundingBox(
        top_left=GeoPoint(lon=WEST, lat=NORTH), bottom_right=GeoPoint(lon=EAST, lat=SOUTH)
    )
    wheres = {
        "all": [],
        "label": [FieldCondition(key="labels", match=MatchAny(any=[LABEL]))],
        "dates": [
            FieldCondition(key="datetime", range=DatetimeRange(gte=f"{START}T00:00:00Z", lt=LAST))
        ],
        "box": [FieldCondition(key="location", geo_bounding_box=box)],
        "names": [
            FieldCondition(key="split", match=MatchValue(value="val")),
            FieldCondition(key="sensor", match=MatchValue(value="s2")),
        ],
    }
    client = QdrantClient(path=target)

    def ask(vector, filtered):
        where = Filter(must=wheres[filtered])
        found = client.query_points(name, query=vector.tolist(), query_filter=where, limit=10)
        return [(point.payload["id"], point.score) for point in found.points]

    with contextlib.closing(client):
        yield ask


@contextlib.contextmanager
def milvus(target, name):
    """Asks the file as another process finds it: closed, and then in no server's memory."""
    from milvus_lite.server_manager import server_manager_instance
    from pymilvus import MilvusClient

    seconds = [np.datetime64(day, "s").astype(int) for day in (START, LAST)]
    wheres = {
        "all": "",
        "label": f"ARRAY_CONTAINS(labels, {json.dumps(LABEL)})",
        "dates": f"time >= {seconds[0]} and time < {seconds[1]}",
        "box": MEETS,
        "names": 'split == "val" and sensor == "s2"',
    }
    server_manager_instance.release_server(target)
    client = MilvusClient(target)
    client.load_collection(name)

    def ask(vector, filtered):
        (found,) = client.search(
            name,
            [vector],
            filter=wheres[filtered],
            limit=10,
            search_params={"metric_type": "IP", "params": {"ef": 400}},
        )
        return [(hit["id"], hit["distance"]) for hit in found]

    with contextlib.closing(client):
        yield ask


@contextlib.contextmanager
def lancedb(target, name):
    import lancedb

    quoted = LABEL.replace("'", "''")
    wheres = {
        "all": "true",
        "label": f"array_has(labels, '{quoted}')",
        "dates": f"datetime >= timestamp '{START}' and datetime < timestamp '{LAST}'",
        "box": MEETS,
        "names": "split = 'val' and sensor = 's2'",
    }
    table = lancedb.connect(target).open_table(name)

    def ask(vector, filtered):
        found = table.search(vector, vector_column_name="embedding").distance_type("dot")
        rows = found.where(wheres[filtered], prefilter=True).limit(10).to_list()
        return [(row["id"], 1 - row["_distance"]) for row in rows]

    yield ask


@contextlib.contextmanager
def faiss(target, name):
    import duckdb
    import faiss

    rows = str(Path(target, name, "rows.parquet"))
    index = faiss.read_index(str(Path(target, name, "index.faiss")))
    lists = faiss.try_extract_index_ivf(index)
    kind = faiss.SearchParametersIVF if lists else faiss.SearchParameters
    probes = {"nprobe": lists.nprobe} if lists else {}
    quoted = LABEL.replace("'", "''")
    wheres = {
        "all": "true",
        "label": f"list_contains(labels, '{quoted}')",
        "dates": f"datetime >= '{START}T00:00Z' and datetime < '{LAST}T00:00Z'",
        "box": MEETS,
        "names": "split = 'val' and sensor = 's2'",
    }
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        ids = dict(database.execute('SELECT "row", id FROM read_parquet(?)', [rows]).fetchall())

        def ask(vector, filtered):
            query = f'SELECT "row" FROM read_parquet(?) WHERE {wheres[filtered]}'
            allowed = np.array(database.execute(query, [rows]).fetchall())[:, 0]
            chosen = kind(sel=faiss.IDSelectorBatch(allowed), **probes)
            scores, found = index.search(vector[None], 10, params=chosen)
            return [(ids[row], score) for row, score in zip(found[0], scores[0], strict=True)]

        yield ask


ENGINES = {
    "pgvector": pgvector,
    "qdrant": qdrant,
    "milvus": milvus,
    "lancedb": lancedb,
    "faiss": faiss,
}


def none_there(engine):
    """What the client raises where there is nothing of the name."""
    if engine == "pgvector":
        import psycopg

        return psycopg.ProgrammingError  # the table, or the whole extension
    if engine == "milvus":
        import pymilvus

        return pymilvus.MilvusException
    return RuntimeError if engine == "faiss" else ValueError
