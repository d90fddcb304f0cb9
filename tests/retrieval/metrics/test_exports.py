"""Exports and runs as queries, gallery and labels: splits, sensors, encoders, what is current."""

import numpy as np
import pytest
import searched_run

from rejepa_jax.retrieval.collection import updates
from rejepa_jax.retrieval.embeddings import schema, writing
from rejepa_jax.retrieval.metrics import exports
from rejepa_jax.retrieval.metrics.scoring import Asked, evaluate_ranking
from rejepa_jax.retrieval.metrics.truth import read_truth
from rejepa_jax.retrieval.rankings import read_ranking
from rejepa_jax.types import ConfigError, DataError

CLASSES = ("crops", "forest", "water")
KIND = np.arange(12) % 3  # the class of each image; 0 to 5 are of split a, the others of b
CLEAN = np.eye(3, 4)[KIND]


def export(directory, vectors, sensor, fingerprint="ab" * 32, **columns):
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    part = schema.EmbeddingPart(
        first_row=0,
        ids=[f"patch {n}" for n in range(len(vectors))],
        vectors=vectors.astype(np.float32),
        sensor=[sensor] * len(vectors),
        labels=[[CLASSES[kind]] for kind in KIND],
        split=["a"] * 6 + ["b"] * 6,
        **columns,
    )
    directory.mkdir(parents=True)
    writing.write_part(directory / schema.part_name(0, 1), part, {"fingerprint": fingerprint})
    return directory


@pytest.fixture
def pair(tmp_path):
    """Two sensors: in s2 only image 0 looks like class 0."""
    wrong = CLEAN.copy()
    wrong[[3, 6, 9]] = CLEAN[1]
    return export(tmp_path / "s1", CLEAN, "s1"), export(tmp_path / "s2", wrong, "s2")


def test_another_sensor_and_split_answers(pair):
    scored = exports.score_files(*pair, Asked(k=2, queries="a", gallery="b"))
    assert (scored.facts["queries"], scored.facts["gallery"]) == (6, 6)
    # To class 0 all of the gallery are alike, so it finds rows 6, 7; to class 1 rows 6, 7, 9, 10
    # are, and it finds 6, 7; of these 6 is of class 0, 7 of 1. Class 2 finds its own, 8 and 11.
    assert scored.at_k["precision_at_k"].value == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)


def test_the_image_itself_in_another_sensor_is_no_answer_unless_asked_for(pair):
    apart = exports.score_files(*pair, Asked(k=1))
    with_it = exports.score_files(*pair, Asked(k=1, keep_self=True))
    assert apart.facts["gallery"] == with_it.facts["gallery"] == 12
    assert with_it.at_k["precision_at_k"].value == 1
    # Without itself patch 0 finds the first of all, 1, and patch 1 the first that looks alike, 3.
    assert apart.at_k["precision_at_k"].value == pytest.approx(10 / 12)


def test_same_place_is_told_apart_and_there_are_hits_enough(tmp_path):
    places = [f"p{n // 4}" for n in range(12)]  # 0-3, 4-7, 8-11
    folder = export(tmp_path / "e", CLEAN, "s1", place=places)
    scored = exports.score_files(folder, folder, Asked(k=2))
    # Of each class four images, one or two of them in each place.
    assert scored.at_k["precision_at_k"].value == 1
    assert scored.facts["itself"] == 12
    assert scored.same_place["precision_at_k"].value == 1
    assert scored.same_place["recall_at_k"].value == pytest.approx(
        np.mean(
            [
                2 / sum(KIND[m] == KIND[n] and places[m] != places[n] for m in range(12))
                for n in range(12)
            ]
        )
    )


def test_other_encoders_are_refused_unless_they_share_a_space(tmp_path, pair):
    other = export(tmp_path / "other", CLEAN, "s2", fingerprint="cd" * 32)
    with pytest.raises(ConfigError, match=r"of encoder abab.* of cdcd.*, expected one encoder"):
        exports.score_files(pair[0], other)
    exports.score_files(pair[0], other, is_one_space=True)


@pytest.mark.parametrize("which", [0, 1])
def test_constant_descriptors_are_refused(tmp_path, pair, which):
    """As of an encoder that masks every patch of one sensor."""
    constant = export(tmp_path / "constant", np.ones((12, 4)), "s2")
    sides = [constant, pair[0]] if which == 0 else [pair[0], constant]
    with pytest.raises(DataError, match="constant: got the same descriptor for all 12 images"):
        exports.score_files(*sides)


def test_a_file_of_hits_may_name_rows_of_an_export(tmp_path, pair):
    hits = np.array([[6, 9], [7, 8]])
    np.savez(tmp_path / "ranking.npz", queries=np.array([0, 1]), hits=hits, scores=-hits / 10)
    scored = exports.score_files(tmp_path / "ranking.npz", pair[0], Asked(k=2))
    assert scored.facts["gallery_splits"] == ["b"]
    assert scored.at_k["precision_at_k"].value == pytest.approx((1 + 1 / 2) / 2)
    np.savez(tmp_path / "ranking.npz", queries=np.array([0, 12]), hits=hits, scores=-hits / 10)
    with pytest.raises(
        DataError, match=r"1 images that .* does not have, first '12', expected its rows"
    ):
        exports.score_files(tmp_path / "ranking.npz", pair[0])


def test_labels_of_a_run_are_those_of_what_is_current_of_it(tmp_path):
    run = searched_run.make(tmp_path)
    hits = np.array([[6, 7], [8, 9]])
    np.savez(tmp_path / "r.npz", queries=np.array([0, 1]), hits=hits, scores=-hits / 10)
    by_rows = read_ranking(tmp_path / "r.npz")
    assert evaluate_ranking(by_rows, read_truth(run), Asked(k=2)).facts["gallery"] == 18
    changed = searched_run.rows_of([3, 100], searched_run.unit(1, 2), labels=[["new"], ["new"]])
    updates.delete(run, ["place003", "place004"])
    updates.add(run, changed, searched_run.MARK)
    truth = read_truth(run)
    assert truth.ids[2:4] == ["place002", "place005"]
    assert truth.ids[-2:] == ["place003", "place100"]
    assert truth.labels[:, truth.classes.index("new")].nonzero()[0].tolist() == [22, 23]
    # Rows of the records would be those of other images.
    with pytest.raises(ConfigError, match=r"got rows of the records.*give .*/run/embeddings as"):
        evaluate_ranking(by_rows, truth, Asked(k=2))
    evaluate_ranking(by_rows, read_truth(run / "embeddings"), Asked(k=2))
    # Of 24 images 2 are gone and 2 came, and each is asked and found.
    assert exports.score_files(run, run, Asked(k=2)).facts["gallery"] == 24
    assert exports.score_files(run, run / "embeddings", Asked(k=2)).facts["itself"] == 23
