"""What is loaded into a real engine gives the answers that our own exact search gives."""

import os
import pathlib
import signal
import subprocess
import sys

import asking
import invented
import numpy as np
import pytest
import road

from rejepa_jax.retrieval.engines import source
from rejepa_jax.types import ConfigError, DataError

pytestmark = [
    pytest.mark.service,
    pytest.mark.parametrize("engine", asking.ENGINES),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def compare(engine, target, name, export, filters=invented.FILTERS):
    with asking.ENGINES[engine](target, name) as ask:
        for filtered in filters:
            ids, scores = invented.expected(export, filtered, box_by_middle=engine == "qdrant")
            for query, wanted, best in zip(invented.QUERIES, ids, scores, strict=True):
                found = ask(query, filtered)
                assert [hit[0] for hit in found] == wanted, filtered
                np.testing.assert_allclose([hit[1] for hit in found], best, atol=1e-5)


def test_ids_scores_and_filters_equal_ours(engine, target, load, export):
    loaded = load(export)
    assert loaded.rows == invented.ROWS
    assert "images" in loaded.where
    compare(engine, target, "images", export)


def test_loading_again_is_refused_or_replaces_the_whole(engine, target, load, export, tmp_path):
    load(export)
    with pytest.raises(ConfigError, match=r"300 rows of the same encoder there already.*--replace"):
        load(export)
    compare(engine, target, "images", export, ["all"])
    other = invented.write(tmp_path / "other", rows=120, seed=7)
    assert load(other, replace=True).rows == 120
    compare(engine, target, "images", other, ["all", "label"])
    load(export, name="beside")
    compare(engine, target, "images", other, ["all"])


def test_vectors_of_another_encoder_are_refused(engine, target, load, export, tmp_path):
    load(export)
    other = invented.write(tmp_path / "other", rows=60, fingerprint="b" * 64)
    for replace in (False, True):
        with pytest.raises(ConfigError, match="encoder aaaaaaaaaaaa there, expected bbbbbbbbbbbb"):
            load(other, replace=replace)
    compare(engine, target, "images", export, ["all"])


@pytest.mark.parametrize("fault", ["a damaged page", "got 150 rows there, expected 300"])
def test_fault_while_it_is_replaced_leaves_the_old(
    engine, target, load, export, monkeypatch, fault
):
    load(export)
    whole = source.Export.batches

    def broken(self, *_):
        yield from (batch for _, batch in zip(range(3), whole(self, 50), strict=False))
        if "page" in fault:
            raise DataError(f"part-00001: {fault}")

    monkeypatch.setattr(source.Export, "batches", broken)
    with pytest.raises(DataError, match=fault):
        load(export, replace=True)
    monkeypatch.undo()
    compare(engine, target, "images", export, ["all"])
    load(export, replace=True)
    compare(engine, target, "images", export, ["all"])


def test_killed_half_way_there_is_nothing_and_the_next_load_is_whole(engine, target, load, export):
    command = [sys.executable, pathlib.Path(__file__).with_name("killed.py")]
    done = subprocess.run(
        [*command, engine, target, export, "images"],
        check=False,
        env=os.environ | {"PYTHONPATH": str(road.ROOT)},
    )
    assert done.returncode == -signal.SIGKILL
    with (
        pytest.raises(asking.none_there(engine), match=r"images|vector type not found"),
        asking.ENGINES[engine](target, "images") as ask,
    ):
        ask(invented.QUERIES[0], "all")
    load(export)
    compare(engine, target, "images", export)
    assert leftovers(engine, target) == 1


def leftovers(engine, target):
    """How many tables, collections or folders there are."""
    if engine == "pgvector":
        import psycopg

        with psycopg.connect(target) as connection:
            return connection.execute(
                "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
            ).fetchone()[0]
    if engine == "qdrant":
        from qdrant_client import QdrantClient

        return len(QdrantClient(path=target).get_collections().collections)
    if engine == "milvus":
        from pymilvus import MilvusClient

        return len(MilvusClient(target).list_collections())
    return len(list(pathlib.Path(target).iterdir()))


def test_what_another_has_made_is_never_replaced(engine, target, load, export):
    make_by_hand(engine, target)
    with pytest.raises(ConfigError, match="that `rejepa load` has not made"):
        load(export, name="theirs", replace=True)


def make_by_hand(engine, target):
    if engine == "pgvector":
        import psycopg

        with psycopg.connect(target) as connection:
            connection.execute("CREATE TABLE theirs (id int)")
            connection.execute("COMMENT ON TABLE theirs IS 'the payroll'")
    elif engine == "qdrant":
        from qdrant_client import QdrantClient, models

        client = QdrantClient(path=target)
        client.create_collection("theirs", models.VectorParams(size=4, distance="Dot"))
        client.close()
    elif engine == "milvus":
        from pymilvus import MilvusClient

        client = MilvusClient(target)
        client.create_collection("theirs", dimension=4)
        client.close()
    elif engine == "lancedb":
        import lancedb

        lancedb.connect(target).create_table("theirs", [{"a": 1}])
    else:
        pathlib.Path(target, "theirs").mkdir(parents=True)
