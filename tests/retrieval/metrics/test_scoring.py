"""Others' results: which images could be found, what is left out, and how it is said."""

import json

import numpy as np
import pytest
import slow_metrics

from rejepa_jax.retrieval.metrics import scoring, sheet
from rejepa_jax.retrieval.metrics.ranking import make_ranking
from rejepa_jax.retrieval.metrics.scoring import Asked, evaluate_ranking
from rejepa_jax.retrieval.metrics.truth import read_truth
from rejepa_jax.types import ConfigError, DataError

LABELS = """id,labels,split,place
q1,forest; water,val,p1
q2,water,val,p2
q3,,val,
g1,forest,test,p1
g2,water;urban,test,p2
g3,forest;water,test,p3
g4,,test,
t1,water,train,p9
"""
HITS = [  # gallery: g1 g2 g3 g4
    *[("q1", "g1", 0.9), ("q1", "g2", 0.5), ("q1", "g4", 0.1)],
    *[("q2", "g2", 0.9), ("q2", "g3", 0.8), ("q2", "g1", 0.7)],
    *[("q3", "g3", 0.9), ("q3", "g1", 0.1), ("q3", "g2", 0.0)],
]


@pytest.fixture
def truth(tmp_path):
    (tmp_path / "labels.csv").write_text(LABELS)
    return read_truth(tmp_path / "labels.csv")


def ranking(hits=HITS):
    query, hit, score = zip(*hits, strict=True)
    return make_ranking(query, hit, score, source="hits.csv")


def expected(hits=((0, 1, 3), (1, 2, 0), (2, 0, 1)), excluded=()):
    """Classes: forest, urban, water."""
    gallery = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 1], [0, 0, 0]], bool)
    queries = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0]], bool)
    made = slow_metrics.queries_of(queries, gallery, hits, excluded)
    return slow_metrics.at_k(made, 3, scoring.RULES)


def values(scores):
    return {name: score.value for name, score in scores.items()}


def test_scores_are_those_of_the_loops_over_the_split_in_which_hits_are(truth):
    scored = evaluate_ranking(ranking(), truth, Asked(k=3))
    assert values(scored.at_k) == pytest.approx(expected(), abs=1e-12)
    assert scored.facts == {
        "k": 3,
        "rules": ["any_overlap", "exact_set", "jaccard>=0.5"],
        "queries": 3,
        "gallery": 4,
        "gallery_splits": ["test"],
        "unanswerable": 1,
        "itself": 0,
        "short": 0,
    }
    assert scored.full is None


def test_without_the_querys_place_both_are_told(truth):
    scored = evaluate_ranking(ranking(), truth, Asked(k=3))
    elsewhere = expected(excluded=((0,), (1,), ()))  # q1 shares p1 with g1, q2 p2 with g2
    assert values(scored.same_place) == pytest.approx(elsewhere, abs=1e-12)
    assert scored.same_place["precision_at_k"].value < scored.at_k["precision_at_k"].value
    alone = [hit for hit in HITS if hit[0] == "q3"]
    assert evaluate_ranking(ranking(alone), truth, Asked(k=3)).same_place is None


def test_fewer_hits_than_k_are_counted_as_wrong_and_said(truth):
    scored = evaluate_ranking(ranking(HITS[:2] + HITS[3:]), truth, Asked(k=4))
    assert scored.facts["short"] == 3
    found = expected(((0, 1, -1, -1), (1, 2, 0, -1), (2, 0, 1, -1)))
    assert values(scored.at_k) == pytest.approx(found, abs=1e-12)
    assert "3 queries have fewer than 4 hits: what is missing counts as wrong" in sheet.to_text(
        scored
    )


def test_queries_that_nothing_answers_count_0_or_are_left_out(truth):
    scored = evaluate_ranking(ranking(), truth, Asked(k=3, skip_unanswerable=True))
    whole = evaluate_ranking(ranking(), truth, Asked(k=3))
    assert scored.facts["queries"] == 2
    assert scored.facts["unanswerable"] == 1
    for name in ("precision_at_k", "map_at_k", "ndcg_at_k"):
        assert scored.at_k[name].value == pytest.approx(1.5 * whole.at_k[name].value)
    with pytest.raises(ConfigError, match="no query that can be answered"):
        evaluate_ranking(ranking(HITS[6:]), truth, Asked(k=3, skip_unanswerable=True))


def test_a_query_that_finds_itself_is_no_hit(truth):
    """As where one index holds all images, with and without their splits."""
    hits = [("g1", "g1", 1.0), ("g1", "g3", 0.9), ("g1", "g2", 0.8), ("g1", "g4", 0.7)]
    scored = evaluate_ranking(ranking(hits), truth, Asked(k=2))
    assert (scored.facts["gallery"], scored.facts["itself"]) == (4, 1)
    assert scored.at_k["precision_at_k"].value == 0.5
    assert scored.at_k["recall_at_k"].value == 1
    assert "1 hits were the query itself: left out" in sheet.to_text(scored)
    kept = evaluate_ranking(ranking(hits), truth, Asked(k=2, keep_self=True))
    assert kept.facts["itself"] == 0
    assert kept.at_k["precision_at_k"].value == 1
    # All the other images were ranked: figures of the whole gallery come too, either way.
    assert scored.full["map_full"].value == 1
    assert kept.full["map_full"].value == 1
    assert scored.full["anmrr"].value == 0
    assert evaluate_ranking(ranking(hits[:3]), truth, Asked(k=2)).full is None


def test_without_splits_the_gallery_is_all_or_all_but_the_queries(tmp_path):
    lines = [line.rsplit(",", 2)[0] for line in LABELS.splitlines()]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    truth = read_truth(tmp_path / "labels.csv")
    assert evaluate_ranking(ranking(), truth, Asked(k=3)).facts["gallery"] == 5
    both = [*HITS, ("q1", "q2", 0.3)]
    assert evaluate_ranking(ranking(both), truth, Asked(k=3)).facts["gallery"] == 8


def test_splits_may_be_named(truth):
    scored = evaluate_ranking(ranking(), truth, Asked(k=3, queries="val", gallery="test"))
    assert scored.facts["gallery"] == 4
    for asked, words, error in (
        ({"gallery": "train"}, "got 9 hits that are not of split 'train', first 'g1'", DataError),
        ({"gallery": "all"}, "split 'all', expected one of: test, train, val", ConfigError),
        ({"queries": "train"}, "no hit for 1 images of split 'train', first 't1'", DataError),
        ({"k": 0}, "k = 0, expected 1 or more", ConfigError),
        ({"rules": ("single_label",)}, "expected exactly one for every image", DataError),
    ):
        with pytest.raises(error, match=words):
            evaluate_ranking(ranking(), truth, Asked(**asked))
    with pytest.raises(DataError, match="no hit for 1 images of split 'val', first 'q3'"):
        evaluate_ranking(ranking(HITS[:6]), truth, Asked(queries="val"))


def test_an_image_without_labels_in_the_table_is_refused_by_name(truth):
    with pytest.raises(
        DataError, match=r"hits.csv: got 1 images that .*labels.csv does not have, first 'x'"
    ):
        evaluate_ranking(ranking([*HITS, ("q1", "x", 0.2)]), truth)


def test_json_and_text_name_every_metric(truth):
    scored = evaluate_ranking(ranking(), truth, Asked(k=3))
    content = json.loads(json.dumps(sheet.to_json(scored)))
    assert content["metrics"]["precision_at_k"]["value"] == pytest.approx(4 / 9)
    assert content["meanings"]["precision_at_k"]["title"] == "P@3"
    text = sheet.to_text(scored)
    assert text.startswith("3 queries, 4 images that could be found (split test)\nk = 3; ")
    for name in content["metrics"]:
        assert f"\n{name} " in text
    assert "without the query's place" in text


TABLES = {
    "an id twice": ("id,labels\na,x\na,y\n", "got id 'a' 2 times, expected it once"),
    "no labels": ("id,split\na,x\n", "got columns .'id', 'split'., expected id, labels"),
    "ragged": ("id,labels\na,x\na\n", "labels.csv: got .*Expected 2 columns, got 1"),
}


@pytest.mark.parametrize("name", TABLES)
def test_table_of_labels_that_cannot_be_used_is_refused(tmp_path, name):
    text, words = TABLES[name]
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_truth(tmp_path / "labels.csv")


def test_one_label_an_image_may_hold_any_sign_and_tabs_may_separate(tmp_path):
    (tmp_path / "labels.tsv").write_text(
        "name\tlabel\n1.png\tBare; or sparse\n2.png\tWater\n3.png\t\n"
    )
    truth = read_truth(tmp_path / "labels.tsv")
    assert truth.classes == ("Bare; or sparse", "Water")
    np.testing.assert_array_equal(truth.labels, [[1, 0], [0, 1], [0, 0]])
    with pytest.raises(FileNotFoundError, match="got nothing there, expected labels"):
        read_truth(tmp_path / "others.csv")
