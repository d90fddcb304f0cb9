"""Files of hits in every format, and those that cannot be right."""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rejepa_jax.retrieval.metrics.ranking import make_ranking
from rejepa_jax.retrieval.rankings import read_ranking
from rejepa_jax.types import DataError

HITS = [  # in no order
    *[("7", "05", 0.25), ("q b", "3", 0.5), ("7", "3", 0.75), ("7", "é", -1.0)],
    *[("q b", "05", 0.5), ("q b", "9", 0.5)],
]
ROWS = {"3": 0, "05": 1, "9": 2, "é": 3}
EXPECTED = [[0, 1, 3], [0, 1, 2]]  # equal scores by row


def write_separated(path, delimiter):
    lines = [("query", "hit", "score"), *HITS]
    path.write_text("".join(delimiter.join(map(str, line)) + "\n" for line in lines), "utf-8")


def write_trec(path):
    """With tabs and runs of spaces, and ranks that say nothing."""
    lines = [f"{q.replace(' ', '_')} Q0\t{h}  0 {s:.3f} me\n" for q, h, s in HITS]
    path.write_text("\n" + "".join(lines), "utf-8")


def write_parquet(path):
    query, hit, score = zip(*HITS, strict=True)
    names = pa.array(hit).dictionary_encode()
    columns = {"query": query, "hit": names, "score": np.float32(score), "other": [1] * 6}
    pq.write_table(pa.table(columns), path)


WRITERS = {
    "hits.csv": lambda path: write_separated(path, ","),
    "hits.tsv": lambda path: write_separated(path, "\t"),
    "hits.trec": write_trec,
    "hits.run": write_trec,
    "hits.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_order(tmp_path, name):
    WRITERS[name](tmp_path / name)
    ranking = read_ranking(tmp_path / name)
    assert [query.replace("_", " ") for query in ranking.queries] == ["7", "q b"]
    np.testing.assert_array_equal(
        ranking.order(np.array([ROWS[h] for h in ranking.hits])), EXPECTED
    )


def test_our_own_file_names_rows_and_may_lack_hits(tmp_path):
    hits = np.array([[4, 2, -1], [3, 4, 2]], np.int32)
    scores = np.array([[0.9, 0.8, np.nan], [0.7, 0.7, 0.1]], np.float32)
    np.savez(tmp_path / "ranking.npz", queries=np.array([8, 6]), hits=hits, scores=scores)
    ranking = read_ranking(tmp_path / "ranking.npz")
    assert (ranking.are_rows, ranking.queries) == (True, ["8", "6"])
    np.testing.assert_array_equal(ranking.order(np.array([int(h) for h in ranking.hits])), hits)


def test_equal_scores_rank_by_rank_where_there_is_one_and_then_by_row():
    queries, hits = ["a"] * 4, ["w", "x", "y", "z"]
    by_row = make_ranking(queries, hits, scores=[1, 1, 2, 1])
    np.testing.assert_array_equal(by_row.order(np.array([5, 3, 9, 4])), [[9, 3, 4, 5]])
    ranked = make_ranking(queries, hits, scores=[1, 1, 2, 1], ranks=[2, 3, 1, 3])
    np.testing.assert_array_equal(ranked.order(np.array([5, 3, 9, 2])), [[9, 5, 2, 3]])
    only = make_ranking(queries, hits, ranks=[2, 40, 1, 3])
    np.testing.assert_array_equal(only.order(np.array([5, 3, 9, 2])), [[9, 5, 2, 3]])


def test_queries_with_fewer_hits_end_in_no_hit():
    ranking = make_ranking(["b", "a", "b"], ["x", "x", "y"], [1, 1, 2])
    np.testing.assert_array_equal(ranking.order(np.array([0, 0, 1])), [[1, 0], [0, -1]])


CSV = {
    "no score": ("query,hit\na,b\n", "columns .'query', 'hit'., expected columns query, hit, and"),
    "no line": ("query,hit,score\n", "got no hit, expected some"),
    "nothing": ("", "Empty CSV"),
    "words": ("query,hit,score\na,b,high\n", "hits.csv: got .*CSV conversion error to double"),
    "a value missing": ("query,hit,score\na,b,1\na,c,\n", "got no score in line 2 of the hits"),
    "not a number": ("query,hit,score\na,b,nan\n", "got no score in line 1 of the hits"),
    "infinite": ("query,hit,score\na,b,inf\n", "got no score in line 1 of the hits"),
    "lines of other lengths": ("query,hit,score\na,b,1\na,b\n", "Expected 3 columns, got 2"),
    "distances": (
        "query,hit,score,rank\na,b,0.1,1\na,c,0.5,2\n",
        "a score that grows with the rank, at query 'a', hit 'c', .* distances as their negatives",
    ),
    "a rank twice": ("query,hit,rank\na,b,1\na,c,1\n", "a rank twice, at query 'a', hit 'c'"),
}


@pytest.mark.parametrize("name", CSV)
def test_table_of_hits_that_cannot_be_right_is_refused(tmp_path, name):
    text, words = CSV[name]
    (tmp_path / "hits.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_ranking(tmp_path / "hits.csv")


def test_the_same_hit_twice_is_refused_by_name():
    ranking = make_ranking(["a", "b", "b"], ["x", "x", "x"], [1, 2, 3])
    with pytest.raises(DataError, match="ranking: got hit 'x' twice for query 'b'"):
        ranking.order(np.array([0, 0, 0]))


OTHERS = {
    "hits.trec": (b"a Q0 b 1 0.5\n", "hits.trec, line 1: got 5 words, expected 6"),
    "hits.run": (b"\xff\xfe\n", "hits.run: got .*utf-8"),
    "hits.parquet": (b"PAR1", "hits.parquet: got .*, expected columns"),
    "hits.npz": (b"PK\x03\x04", "hits.npz: got "),
    "hits.json": (b"{}", "got the ending '.json', expected one of .csv, .tsv"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_file_that_cannot_be_read_is_refused_by_name(tmp_path, name):
    content, words = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_ranking(tmp_path / name)


def test_our_own_file_of_other_shapes_or_of_objects_is_refused(tmp_path):
    path = tmp_path / "ranking.npz"
    np.savez(path, queries=np.arange(2), hits=np.zeros((3, 2), int), scores=np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"got \(2,\) queries, \(3, 2\) hits"):
        read_ranking(path)
    np.savez(path, queries=np.arange(2))
    with pytest.raises(DataError, match="got no hits"):
        read_ranking(path)
    np.savez(
        path, queries=np.array([{}], object), hits=np.zeros((1, 1), int), scores=np.zeros((1, 1))
    )
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        read_ranking(path)


def test_no_file_is_said():
    with pytest.raises(FileNotFoundError, match="got no file, expected a ranking"):
        read_ranking(pathlib.Path("/nowhere/hits.csv"))
