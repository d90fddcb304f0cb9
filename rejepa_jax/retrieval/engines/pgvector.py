"""Into PostgreSQL with pgvector: one table, made and filled in one transaction.

Nothing is seen before the commit; whatever ends the load before it leaves what was there.
"""

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

from rejepa_jax.retrieval.engines.contract import Loaded, Options, check_count, refuse
from rejepa_jax.retrieval.engines.source import (
    NUMBERS,
    Export,
    facts,
    open_export,
    read_mark,
    vectors,
)
from rejepa_jax.types import ConfigError, DataError

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

SETTINGS = {"schema": "", "m": 16, "ef_construction": 64}
LONGEST_VECTOR, LONGEST_HALF = 2000, 4000  # dimensions that an HNSW index takes
FLOAT: LiteralString = "float8"
TYPES: dict[str, LiteralString] = {
    "id": "text",
    "uuid": "uuid",
    "row": "int8",
    "labels": "text[]",
    "split": "text",
    "sensor": "text",
    "collection": "text",
    "datetime": "timestamptz",
    "place": "text",
    **dict.fromkeys(NUMBERS, FLOAT),
    "geometry": "bytea",
    "source_uri": "text",
}
INDEXES: dict[str, LiteralString] = {
    "labels": "USING gin (labels)",
    "datetime": "(datetime)",
    "place": "(lon, lat)",
}
LOADING = "_loading"


def load(source: Path, target: str, options: Options) -> Loaded:
    """Loads into the database of a connection string (URL or key=value)."""
    import psycopg

    settings = options.choose(SETTINGS)
    export = open_export(source)
    try:
        with psycopg.connect(target, connect_timeout=10) as connection:
            return _load(connection, export, options, settings)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise DataError(f"{source}: PostgreSQL does not take a row: {error}") from error
    except psycopg.Error as error:
        raise ConfigError(
            f"PostgreSQL says: {str(error).strip()}; expected a connection string such as "
            "postgresql://user@host/database, of a user who may make tables; nothing was changed"
        ) from error


def _load(
    connection: "psycopg.Connection", export: Export, options: Options, settings: dict[str, Any]
) -> Loaded:
    from psycopg import sql

    schema = settings["schema"] or _one(connection, "SELECT current_schema()")
    where = f"table {schema}.{options.name} of database {connection.info.dbname}"
    if not _one(connection, "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", where):
        raise ConfigError(f"{where}: got another load at work on it; wait for its end")
    refuse(where, _mark(connection, sql.Identifier(schema, options.name)), export, options)
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    loading = options.name + LOADING
    new = sql.Identifier(schema, loading)
    _fill(connection, new, export)
    count = _one(connection, sql.SQL("SELECT count(*) FROM {}").format(new))
    check_count(where, count, export)
    note = _index(connection, schema, loading, export.dim, settings)
    _take_place(connection, schema, options.name, json.dumps(export.mark))
    return Loaded(export.rows, where, note)


def _one(connection: "psycopg.Connection", query: Any, *values: Any) -> Any:
    row = connection.execute(query, values).fetchone()
    return row[0] if row else None


def _mark(connection: "psycopg.Connection", table: "sql.Identifier") -> dict[str, Any] | None:
    name = table.as_string(connection)
    if _one(connection, "SELECT to_regclass(%s)", name) is None:
        return None
    return dict(read_mark(_one(connection, "SELECT obj_description(to_regclass(%s))", name)))


def _vector_kind(dim: int) -> LiteralString:
    return "vector" if dim <= LONGEST_VECTOR else "halfvec"


def _fill(connection: "psycopg.Connection", table: "sql.Identifier", export: Export) -> None:
    """Makes a table and streams the rows into it."""
    from pgvector import HalfVector
    from pgvector.psycopg import register_vector
    from psycopg import sql

    register_vector(connection)
    kind = _vector_kind(export.dim)
    types = TYPES | {"embedding": kind}
    columns = [sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(t)) for n, t in types.items()]
    make = sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY (id))")
    connection.execute(make.format(table, sql.SQL(", ").join(columns)))
    fixed = sql.SQL("ALTER TABLE {} ALTER embedding TYPE {}({})")
    connection.execute(fixed.format(table, sql.SQL(kind), sql.Literal(export.dim)))
    into = sql.SQL("COPY {} FROM STDIN WITH (FORMAT BINARY)").format(table)
    with connection.cursor() as cursor, cursor.copy(into) as copy:
        copy.set_types(list(types.values()))
        for batch in export.batches():
            for fact, vector in zip(facts(batch), vectors(batch), strict=True):
                fact["uuid"] = uuid.UUID(fact["uuid"])
                fact["embedding"] = vector if kind == "vector" else HalfVector(vector)
                copy.write_row([fact[name] for name in types])


def _index(
    connection: "psycopg.Connection", schema: str, table: str, dim: int, settings: dict[str, Any]
) -> str:
    """Builds the indexes once the rows are there; says what vectors and footprints became."""
    from psycopg import sql

    new, kind = sql.Identifier(schema, table), _vector_kind(dim)
    methods: dict[str, sql.Composable] = {name: sql.SQL(how) for name, how in INDEXES.items()}
    notes = [f"embedding is {kind}({dim})"]
    if _one(connection, "SELECT to_regtype('geography')::text"):
        cast = "ALTER TABLE {} ALTER geometry TYPE geography USING ST_GeogFromWKB(geometry)"
        connection.execute(sql.SQL(cast).format(new))
        methods["geometry"] = sql.SQL("USING gist (geometry)")
        notes.append("geometry is geography")
    if dim <= LONGEST_HALF:
        graph = sql.SQL("USING hnsw (embedding {}) WITH (m = {}, ef_construction = {})")
        numbers = [sql.Literal(settings[name]) for name in ("m", "ef_construction")]
        methods["embedding"] = graph.format(sql.Identifier(f"{kind}_ip_ops"), *numbers)
    else:
        notes.append(f"no HNSW index takes over {LONGEST_HALF} dimensions, so search is exact")
    for column, how in methods.items():
        name = sql.Identifier(f"{table}_{column}")
        connection.execute(sql.SQL("CREATE INDEX {} ON {} {}").format(name, new, how))
    connection.execute(sql.SQL("ANALYZE {}").format(new))
    return "; ".join(notes)


def _take_place(connection: "psycopg.Connection", schema: str, table: str, mark: str) -> None:
    """Puts the filled table, with its indexes, in the place of the old one."""
    from psycopg import sql

    old, new = sql.Identifier(schema, table), sql.Identifier(schema, table + LOADING)
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(old))
    connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(new, sql.Identifier(table)))
    for suffix in ("pkey", *INDEXES, "geometry", "embedding"):
        rename = sql.SQL("ALTER INDEX IF EXISTS {} RENAME TO {}").format(
            sql.Identifier(schema, f"{table}{LOADING}_{suffix}"),
            sql.Identifier(f"{table}_{suffix}"),
        )
        connection.execute(rename)
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(old, sql.Literal(mark)))
