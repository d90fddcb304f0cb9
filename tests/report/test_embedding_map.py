import importlib.util

import numpy as np
import pyarrow as pa
import pytest

from rejepa_jax.report import embedding_map, plane
from rejepa_jax.retrieval.forms import unit
from rejepa_jax.types import ConfigError, DataError

TURN, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))


def flat(places):
    """Points of six dimensions that lie in a plane, as `places` do."""
    return (np.array(places, np.float32) @ TURN[:2]).astype(np.float32)


def make(places, labels):
    ids = [f"image {row}" for row in range(len(places))]
    return embedding_map.Sample(ids, [tuple(one) for one in labels], flat(places), 99)


def batch(rows):
    """Rows of an export, each of which is a vector of its own number."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(rows, 2), pa.float32()), 2)
    labels = pa.array(
        [[f"label {row}"] if row % 2 else None for row in rows], pa.list_(pa.string())
    )
    names = pa.array([f"image {row}" for row in rows])
    columns = {"id": names, "row": pa.array(rows, pa.int64()), "labels": labels}
    return pa.RecordBatch.from_pydict({**columns, "embedding": vectors})


def test_images_are_spread_over_the_split_whatever_the_batches():
    batches = [batch(range(7)), batch(range(7, 9)), batch(range(9, 20))]
    found = embedding_map.sample(batches, range(4, 14), 5)
    rows = [5, 7, 9, 11, 13]  # the middles of five parts of ten
    assert found.ids == [f"image {row}" for row in rows]
    assert found.vectors.tolist() == [[row, row] for row in rows]
    assert found.labels == [(f"label {row}",) for row in rows]
    assert found.of == 10
    assert embedding_map.sample(batches, range(4, 6), 5).labels == [(), ("label 5",)]


def test_an_export_without_the_rows_is_refused():
    with pytest.raises(DataError, match="got 2 of the 3 rows to draw"):
        embedding_map.sample([batch(range(2))], range(3), 9)


def test_neighbours_are_by_distance_then_by_row():
    points = np.array([[0.0, 0], [3, 0], [1, 0], [-1, 0]])
    assert plane.nearest(points, 3).tolist() == [[2, 3, 1], [2, 0, 3], [0, 1, 3], [0, 2, 1]]
    vectors = unit(np.random.default_rng(0).normal(size=(600, 5)))  # more than a block
    scores = vectors @ vectors.T - 9 * np.eye(600)
    np.testing.assert_array_equal(plane.nearest(vectors, 1)[:, 0], scores.argmax(axis=1))


def test_pca_keeps_what_lies_in_a_plane():
    places = np.random.default_rng(0).normal(size=(30, 2)) * [3, 1]
    drawn, words = plane.lay_out(flat(places), "pca")
    apart = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (places, drawn)]
    np.testing.assert_allclose(*apart, atol=1e-4)
    shares = np.linalg.eigvalsh(np.cov(places.T))[::-1]
    first, second = (f"{100 * share:.0f} %" for share in shares / shares.sum())
    assert words == f"the two strongest axes of PCA, with {first} and {second} of the variance"
    found = embedding_map.draw_map(make(places, [()] * 30), "pca")
    assert found.kept == {"value": 1, "low": 1, "high": 1}
    assert found.chance == pytest.approx(10 / 29)
    assert (found.neighbours, found.of, found.grey, found.labels) == (10, 99, 30, [])


def test_what_a_map_loses_is_said():
    points = unit(np.random.default_rng(0).normal(size=(300, 40)))
    given = embedding_map.Sample([""] * 300, [()] * 300, points, 300)
    found = embedding_map.draw_map(given, "pca")
    drawn, _ = plane.lay_out(points, "pca")

    def near(x):
        away = np.linalg.norm(x[:, None].astype(float) - x[None], axis=-1) + 9 * np.eye(300)
        return [set(row[:10]) for row in np.argsort(away, axis=1)]

    shares = [len(a & b) / 10 for a, b in zip(near(points), near(drawn), strict=True)]
    assert found.kept["value"] == pytest.approx(np.mean(shares), abs=1e-12)
    assert found.kept["low"] < np.mean(shares) < found.kept["high"] < 0.3


def test_a_dot_has_the_colour_of_the_rarest_label_in_the_legend():
    names, has = embedding_map.tabulate([("c", "b"), ("b",), ("b", "a"), ("c",), ()])
    assert names == ["b", "c", "a"]  # 3, 2 and 1 images
    assert embedding_map.colour(has).tolist() == [1, 0, 2, 1, 8]
    every = [tuple("abcdefghij"[: 10 - row]) for row in range(10)]  # j is on one image, a on ten
    _, has = embedding_map.tabulate([*every, ()])
    assert embedding_map.colour(has).tolist() == [7, 7, 7, 6, 5, 4, 3, 2, 1, 0, 8]
    _, has = embedding_map.tabulate([(), ()])
    assert embedding_map.colour(has).tolist() == [8, 8]


def test_dots_lie_where_they_should_and_grey_ones_below():
    places = [(0, 0), (4, 0), (4, 2), (0, 2), (2, 1)]
    found = embedding_map.draw_map(make(places, ["a", "b", "", "a", "ab"]), "pca")
    assert sorted([found.width, found.height]) == [500, 1000]
    spots = {dot.id: (dot.x, dot.y) for dot in found.dots}
    assert spots["image 4"] == (500, 250)
    corners = {spots[f"image {row}"] for row in range(4)}
    assert corners == {(0, 0), (1000, 0), (0, 500), (1000, 500)}
    assert (found.dots[0].id, found.dots[0].colour) == ("image 2", 8)
    both = next(dot for dot in found.dots if dot.id == "image 4")
    assert (both.labels, both.places, both.colour) == (("a", "b"), (0, 1), 1)
    assert [(one.name, one.images, one.coloured) for one in found.labels] == [
        *[("a", 3, 2), ("b", 2, 2)]
    ]


def test_how_well_labels_keep_together_is_counted():
    places = [(0, 0), (0.1, 0), (5, 0), (5.1, 0)]
    found = embedding_map.draw_map(make(places, ["a", "a", "b", "a"]), "pca")
    # Three neighbours each, all others: of an "a" two have it too, of the "b" none.
    assert [(one.in_space, one.on_map) for one in found.labels] == [(2 / 3, 2 / 3), (0, 0)]


def test_two_images_are_no_map():
    assert embedding_map.draw_map(make([(0, 0), (1, 1)], ["a", "b"]), "pca") is None


def test_equal_images_are_one_spot():
    found = embedding_map.draw_map(make([(1, 1)] * 4, "aabb"), "pca")
    assert {(dot.x, dot.y) for dot in found.dots} == {(0, 0)}


def test_another_kind_and_a_missing_package_are_named(monkeypatch):
    with pytest.raises(ConfigError, match=r"got report\.map = 'tsne', expected pca or umap"):
        plane.lay_out(flat([(0, 0)]), "tsne")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"extra rejepa_jax\[umap\]"):
        plane.lay_out(flat([(0, 0)]), "umap")


@pytest.mark.slow
@pytest.mark.interop
def test_umap_keeps_groups_apart_and_is_the_same_twice():
    pytest.importorskip("umap")
    middles = np.repeat(np.eye(3, 20), 40, axis=0)
    points = unit(middles + np.random.default_rng(0).normal(size=(120, 20)) / 20)
    first, words = plane.lay_out(points, "umap")
    assert words.startswith("UMAP of 15 neighbours by cosine")
    np.testing.assert_array_equal(first, plane.lay_out(points, "umap")[0])
    groups = np.repeat(np.arange(3), 40)
    assert (groups[plane.nearest(first, 5)] == groups[:, None]).all()
