"""What an engine is told beside the rows: names, settings, targets; and what it refuses."""

import asking
import invented
import numpy as np
import pytest

from rejepa_jax.retrieval.collection.catalogue import Catalogue
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.embeddings.schema import EmbeddingPart, part_name
from rejepa_jax.retrieval.embeddings.writing import write_part
from rejepa_jax.retrieval.engines import contract, loading, source
from rejepa_jax.retrieval.engines.contract import Options
from rejepa_jax.types import ConfigError, DataError


def one_row(directory, dim, name="one.tif"):
    directory.mkdir()
    vector = np.full((1, dim), dim**-0.5, np.float32)
    part = EmbeddingPart(0, [name], vector, ["rgb"], [["a"]])
    write_part(directory / part_name(0, 1), part, {"fingerprint": "c" * 64})
    return directory


@pytest.mark.parametrize("name", ["", "1st", "a-b", "x" * 41, 'a"; DROP TABLE b; --', "é", "a\n"])
def test_names_that_some_engine_does_not_take_are_refused(name):
    with pytest.raises(ConfigError, match=r"got name .* expected at most 40 letters"):
        Options(name)


def test_settings_are_known_and_of_their_type():
    defaults = {"lists": 0, "kind": "flat"}
    assert Options(settings={"lists": "12"}).choose(defaults) == {"lists": 12, "kind": "flat"}
    with pytest.raises(ConfigError, match="got --option list, expected one of: lists, kind"):
        Options(settings={"list": "12"}).choose(defaults)
    for text in ("0", "-3", "1.5", "many", ""):
        with pytest.raises(ConfigError, match="expected a positive whole number"):
            Options(settings={"lists": text}).choose(defaults)


def test_passwords_are_not_shown():
    shown = contract.without_secrets("https://anna:secret@host:6333/path?api_key=secret")
    assert shown == "https://host:6333/path"
    assert contract.without_secrets("folder/data.db") == "folder/data.db"


def test_columns_say_what_our_own_search_says(tmp_path):
    export = invented.write(tmp_path / "embeddings")
    opened = source.open_export(export)
    batches = list(opened.batches(64))
    assert max(map(len, batches)) == 64
    rows = [row for batch in batches for row in source.facts(batch)]
    known = Catalogue(reading.read(export).table).describe(np.arange(300))
    for row, fact in zip(rows, known, strict=True):
        assert (row["id"], row["row"], row["labels"]) == (fact["id"], fact["row"], fact["labels"])
        assert (row["lon"], row["lat"]) == (fact["lon"], fact["lat"])
        sides = [row[side] for side in source.SIDES]
        assert sides == list(fact["bbox"] or [None] * 4)
        assert (row["place"] or "", row["geometry"] or b"") == (fact["place"], fact["geometry"])
    vectors = np.concatenate([source.vectors(batch) for batch in batches])
    np.testing.assert_array_equal(vectors, reading.read(export).vectors)


def test_plain_images_without_place_or_time_have_nulls(tmp_path):
    (batch,) = source.open_export(one_row(tmp_path / "plain", 8)).batches()
    (row,) = source.facts(batch)
    assert row["labels"] == ["a"]
    unknown = ("lon", "lat", *source.SIDES, "geometry", "datetime", "place", "split", "source_uri")
    assert [row[name] for name in unknown] == [None] * len(unknown)


def test_rows_of_no_use_are_refused_before_anything_is_written(tmp_path):
    (tmp_path / "empty").mkdir()
    none = EmbeddingPart(0, [], np.zeros((0, 8), np.float32), [], [])
    write_part(tmp_path / "empty" / part_name(0, 1), none, {"fingerprint": "c" * 64})
    with pytest.raises(DataError, match="got no rows"):
        loading.load(tmp_path / "empty", "vertex", str(tmp_path / "out"), Options())
    (tmp_path / "twice").mkdir()
    for number in range(2):
        part = EmbeddingPart(number, ["same.tif"], np.eye(1, 8, dtype=np.float32), ["rgb"], [[]])
        write_part(tmp_path / "twice" / part_name(number, 2), part, {"fingerprint": "c" * 64})
    with pytest.raises(DataError, match=r"got id 'same\.tif' twice"):
        loading.load(tmp_path / "twice", "vertex", str(tmp_path / "out"), Options())
    assert not (tmp_path / "out").exists()


def test_unknown_engine_and_missing_export_are_told(tmp_path):
    with pytest.raises(ConfigError, match="got engine 'oracle', expected one of faiss, lancedb"):
        loading.load(tmp_path, "oracle", "x", Options())
    with pytest.raises(FileNotFoundError, match="got no part"):
        loading.load(tmp_path, "vertex", str(tmp_path / "out"), Options())


@pytest.mark.service
@pytest.mark.filterwarnings("ignore:Failed to obtain server version")
@pytest.mark.parametrize(
    ("engine", "target"),
    [
        ("pgvector", "postgresql://anna:secret@127.0.0.1:1/none"),
        ("pgvector", "no connection string"),
        ("qdrant", "http://anna:secret@127.0.0.1:1"),
        ("qdrant", "127.0.0.1:1"),
        ("qdrant", "ftp://host"),
        ("qdrant", "FILE"),
        ("milvus", "http://127.0.0.1:1"),
        ("milvus", "/nowhere/data.db"),
        ("milvus", "FILE"),
        ("lancedb", "FILE"),
        ("faiss", "FILE"),
    ],
)
def test_bad_targets_are_refused_without_secrets(tmp_path, engine, target):
    export = one_row(tmp_path / "export", 8)
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ConfigError) as caught:
        loading.load(export, engine, target.replace("FILE", str(tmp_path / "file")), Options())
    assert "secret" not in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.service
class TestPostgres:
    @pytest.fixture
    def engine(self):
        return "pgvector"

    def fetch(self, target, query):
        import psycopg

        with psycopg.connect(target) as connection:
            done = connection.execute(query)
            while done.nextset():
                pass
            return done.fetchall() if done.description else []

    def test_index_answers_and_has_the_settings(self, target, load, tmp_path):
        export = invented.write(tmp_path / "embeddings")
        self.fetch(target, "CREATE SCHEMA geo")
        load(export, schema="geo", m="8", ef_construction="32")
        load(export, schema="geo", m="9", ef_construction="33", replace=True)
        indexes = dict(self.fetch(target, "SELECT indexname, indexdef FROM pg_indexes"))
        assert "m='9', ef_construction='33'" in indexes["images_embedding"]
        assert {"images_pkey", "images_labels", "images_datetime", "images_place"} <= set(indexes)
        plan = self.fetch(
            target,
            "SET enable_seqscan = off; EXPLAIN SELECT id FROM geo.images ORDER BY embedding <#> "
            "(SELECT embedding FROM geo.images LIMIT 1) LIMIT 10",
        )
        assert any("Index Scan using images_embedding" in line for (line,) in plan)

    @pytest.mark.parametrize(
        ("dim", "kind", "is_indexed"),
        [(2000, "vector", True), (2001, "halfvec", True), (4001, "halfvec", False)],
    )
    def test_long_vectors_become_half_and_longer_ones_have_no_index(
        self, target, load, tmp_path, dim, kind, is_indexed
    ):
        loaded = load(one_row(tmp_path / "long", dim))
        assert f"embedding is {kind}({dim})" in loaded.note
        assert ("search is exact" in loaded.note) != is_indexed
        with asking.pgvector(target, "images") as ask:
            ((name, score),) = ask(np.full(dim, dim**-0.5, np.float32), "all")
        assert name == "one.tif"
        assert score == pytest.approx(1, abs=1e-3)

    def test_footprints_become_geography_where_postgis_is(self, target, load, tmp_path):
        # A stand-in for the two names of PostGIS that are used; the server has no PostGIS.
        self.fetch(
            target,
            "CREATE TYPE geography AS RANGE (subtype = int4);"
            "CREATE FUNCTION st_geogfromwkb(bytea) RETURNS geography IMMUTABLE LANGUAGE sql AS "
            "$$ SELECT geography(octet_length($1), octet_length($1) + 1) $$",
        )
        loaded = load(invented.write(tmp_path / "embeddings"))
        assert "geometry is geography" in loaded.note
        kinds = self.fetch(target, "SELECT DISTINCT pg_typeof(geometry)::text FROM images")
        assert kinds == [("geography",)]

    def test_text_that_it_cannot_hold_is_a_fault_of_the_data(self, target, load, tmp_path):
        with pytest.raises(DataError, match=r"does not take a row: .*0x00"):
            load(one_row(tmp_path / "nul", 8, name="a\x00b"))
        assert (
            self.fetch(target, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
        )

    def test_two_loads_at_once_are_refused(self, target, load, tmp_path):
        import psycopg

        export = one_row(tmp_path / "one", 8)
        with psycopg.connect(target) as other:
            other.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended("
                "'table public.images of database postgres', 0))"
            )
            with pytest.raises(ConfigError, match="another load at work"):
                load(export)
        load(export)


@pytest.mark.service
@pytest.mark.parametrize(
    ("engine", "settings", "note"),
    [
        ("faiss", {"ivf_from": "100", "lists": "6", "probes": "99"}, "IVF6,Flat"),
        ("lancedb", {"index_from": "100"}, "IVF_FLAT of 17 lists"),
        ("milvus", {"index": "FLAT"}, "metric IP"),
        ("qdrant", {"m": "8", "ef_construct": "40"}, "local mode is exact"),
    ],
)
def test_other_indexes_answer_alike(engine, target, load, tmp_path, settings, note):
    export = invented.write(tmp_path / "embeddings")
    assert note in load(export, **settings).note
    for filtered in ("all", "label"):
        ids, _ = invented.expected(export, filtered)
        with asking.ENGINES[engine](target, "images") as ask:
            for query, wanted in zip(invented.QUERIES, ids, strict=True):
                assert [hit[0] for hit in ask(query, filtered)] == wanted


@pytest.mark.service
class TestFaiss:
    def load(self, export, target, **settings):
        return loading.load(export, "faiss", str(target), Options("images", settings=settings))

    def test_more_lists_than_rows_are_refused_and_never_the_default(self, tmp_path):
        export = invented.write(tmp_path / "embeddings", rows=9)
        few = "got --option lists=10 for 9 rows, expected at most one list a row"
        with pytest.raises(ConfigError, match=few):
            self.load(export, tmp_path / "out", ivf_from="1", lists="10")
        assert not (tmp_path / "out").exists()
        assert "IVF9,Flat" in self.load(export, tmp_path / "out", ivf_from="1").note

    @pytest.mark.parametrize("name", ["images.partial", "images.old"])
    def test_folder_of_another_beside_it_stays(self, tmp_path, name):
        export = one_row(tmp_path / "one", 8)
        theirs = tmp_path / "out" / name
        theirs.mkdir(parents=True)
        (theirs / "thesis.md").write_text("mine")
        with pytest.raises(ConfigError, match=f"{name}: got a folder with other things in it"):
            self.load(export, tmp_path / "out")
        assert list((tmp_path / "out").rglob("*")) == [theirs, theirs / "thesis.md"]
