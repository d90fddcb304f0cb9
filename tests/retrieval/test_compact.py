import numpy as np
import pytest

from rejepa_jax import artifacts
from rejepa_jax.retrieval import compact
from rejepa_jax.retrieval.forms import unit
from rejepa_jax.retrieval.metrics.evaluating import Task, evaluate


def draw(rows, dim, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(rows, dim)))


def draw_labels(rows, seed=0, classes=5):
    return np.random.default_rng(seed).random((rows, classes)) < 0.4


def measure(directory, queries, gallery, task, k=4):
    compact.write(directory, queries, gallery, task, k)
    content = artifacts.read_json(directory / "compact.json")
    return content, {row["name"]: row for row in content["rows"]}


def nearest(scores, k):
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.fixture
def measured(tmp_path):
    """Thirty queries, ninety images of 16 numbers, five classes."""
    queries, gallery = draw(30, 16), draw(90, 16, 1)
    labels = draw_labels(30), draw_labels(90, 1)
    content, rows = measure(tmp_path, queries, gallery, Task(*labels))
    return queries, gallery, labels, content, rows


def test_bytes_are_those_of_what_is_searched(measured):
    *_, content, rows = measured
    sizes = {name: (row["bytes"], row["exact_bytes"]) for name, row in rows.items()}
    assert sizes == {
        **{"float32": (64, 0), "float16": (32, 0), "int8": (16, 0)},
        **{"1-bit": (2, 0), "1-bit, re-ranked": (2, 64)},
        **{"PCA to 8, float32": (32, 0), "PCA to 8, int8": (8, 0), "first 8, float32": (32, 0)},
        **{"PCA to 4, float32": (16, 0), "PCA to 4, int8": (4, 0), "first 4, float32": (16, 0)},
        **{"PCA to 2, float32": (8, 0), "PCA to 2, int8": (2, 0), "first 2, float32": (8, 0)},
    }
    facts = {name: value for name, value in content.items() if name != "rows"}
    assert facts == {"k": 4, "dim": 16, "gallery": 90, "queries": 30, "candidates": 40}


def test_float32_loses_nothing_and_has_the_evaluations_own_score(measured):
    queries, gallery, labels, _, rows = measured
    assert rows["float32"]["recall"] == {"value": 1, "low": 1, "high": 1}
    expected = evaluate(*labels, nearest(queries @ gallery.T, 4))["f1_micro_sets"]
    assert rows["float32"]["f1"] == pytest.approx(expected._asdict(), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("1-bit", np.sign),
        ("first 4, float32", lambda vectors: unit(vectors[:, :4])),
        ("float16", lambda vectors: vectors.astype(np.float16).astype(np.float32)),
    ],
)
def test_recall_and_f1_are_those_of_the_coded_gallery(measured, name, change):
    queries, gallery, labels, _, rows = measured
    asked = queries[:, :4] if name.startswith("first") else queries  # not as long, ranked alike
    true, found = nearest(queries @ gallery.T, 4), nearest(asked @ change(gallery).T, 4)
    shares = [len(set(a) & set(b)) / 4 for a, b in zip(true, found, strict=True)]
    assert rows[name]["recall"]["value"] == pytest.approx(np.mean(shares), abs=1e-12)
    assert rows[name]["recall"]["low"] <= np.mean(shares) <= rows[name]["recall"]["high"]
    score = evaluate(*labels, found)["f1_micro_sets"]
    assert rows[name]["f1"]["value"] == pytest.approx(score.value, abs=1e-12)


def test_re_ranking_finds_what_is_among_the_candidates(measured):
    queries, gallery, _, _, rows = measured
    true = nearest(queries @ gallery.T, 4)
    asked, stored = (np.where(x - gallery.mean(axis=0) > 0, 1, -1) for x in (queries, gallery))
    proposed = nearest(asked @ stored.T, 40)
    shares = [len(set(a) & set(b)) / 4 for a, b in zip(true, proposed, strict=True)]
    assert rows["1-bit, re-ranked"]["recall"]["value"] == pytest.approx(np.mean(shares), abs=1e-12)


def test_pca_loses_nothing_of_vectors_that_lie_in_few_directions(tmp_path):
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(16, 16)))
    queries, gallery = (
        (draw(rows, 4, seed) @ turn[:4]).astype(np.float32) for rows, seed in ((9, 0), (50, 1))
    )
    _, rows = measure(tmp_path, queries, gallery, Task(draw_labels(9), draw_labels(50)))
    assert [rows[f"PCA to {kept}, float32"]["recall"]["value"] for kept in (8, 4)] == [1, 1]
    assert rows["PCA to 2, float32"]["recall"]["value"] < 1


def test_axes_are_those_of_the_singular_value_decomposition():
    vectors = draw(40, 6)
    axes = compact.principal_axes(vectors, 3)
    _, _, expected = np.linalg.svd(vectors.astype(np.float64))
    np.testing.assert_allclose(np.abs(expected[:3] @ axes), np.eye(3), atol=1e-5)
    assert (axes.max(axis=0) == np.abs(axes).max(axis=0)).all()  # the sign is settled


def test_equal_vectors_stand_for_each_other(tmp_path):
    gallery = np.repeat(draw(3, 8), 10, axis=0)
    _, rows = measure(tmp_path, draw(3, 8), gallery, Task(draw_labels(3), draw_labels(30)))
    assert rows["int8"]["recall"]["value"] == 1


def test_numbers_that_leave_a_vector_without_direction_are_no_form(tmp_path):
    gallery = np.vstack([draw(9, 8), np.eye(8, dtype=np.float32)[-1:]])
    _, rows = measure(tmp_path, draw(3, 8), gallery, Task(draw_labels(3), draw_labels(10)))
    assert "first 4, float32" not in rows
    assert "PCA to 4, int8" in rows


def test_without_labels_there_is_recall_only(tmp_path):
    nothing = Task(np.zeros((3, 0), bool), np.zeros((9, 0), bool))
    _, rows = measure(tmp_path, draw(3, 8), draw(9, 8), nothing)
    assert all("f1" not in row and row["recall"] for row in rows.values())


def test_of_many_queries_some_are_asked_at_even_distances(tmp_path, monkeypatch):
    queries, gallery, labels = draw(9, 8), draw(20, 8, 1), (draw_labels(9), draw_labels(20, 1))
    monkeypatch.setattr(compact, "QUERIES", 3)
    some, _ = measure(tmp_path, queries, gallery, Task(*labels))
    assert some["queries"] == 3
    kept = queries[[0, 4, 8]], labels[0][[0, 4, 8]]
    expected, _ = measure(tmp_path, kept[0], gallery, Task(kept[1], labels[1]))
    assert some == expected
