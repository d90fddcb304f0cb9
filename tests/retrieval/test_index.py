"""Both index kinds behind one interface, and what they refuse."""

import importlib.util
import json

import numpy as np
import pytest

from rejepa_jax.retrieval import exact, index
from rejepa_jax.types import ConfigError, DataError

needs_scann = pytest.mark.skipif(
    importlib.util.find_spec("scann") is None, reason="ScaNN is not installed"
)


def unit_rows(seed, rows, dim=16):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def gallery():
    return unit_rows(0, 500)


@pytest.fixture(scope="module", params=["exact", pytest.param("scann", marks=needs_scann)])
def built(request, gallery, tmp_path_factory):
    """An index of each kind: (folder, what `build` returned)."""
    directory = tmp_path_factory.mktemp(request.param)
    return directory, index.build(gallery, directory, request.param, "f" * 64)


def test_search_equals_a_stable_sort(built, gallery):
    queries = unit_rows(1, 20)
    scores, rows = index.load(built[0]).search(queries, 10)
    truth = queries @ gallery.T
    expected = np.argsort(-truth, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(truth, expected, axis=1), atol=1e-6)


def test_the_whole_gallery_can_be_ranked(built):
    scores, rows = index.load(built[0]).search(unit_rows(2, 2), 500)
    np.testing.assert_array_equal(np.sort(rows, axis=1), [np.arange(500)] * 2)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_the_folder_describes_itself(built):
    directory, info = built
    assert json.loads((directory / "index.json").read_text()) == info
    assert (info["rows"], info["dim"], info["fingerprint"]) == (500, 16, "f" * 64)
    assert info["recall_at_10"] == 1.0
    assert info["kind"] in info["versions"] or info["kind"] == "exact"
    loaded = index.load(directory)
    assert (loaded.kind, loaded.size, loaded.dim, loaded.fingerprint) == (
        info["kind"],
        500,
        16,
        "f" * 64,
    )


def test_a_moved_folder_still_answers(built, gallery, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in built[0].iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    assert index.load(moved).search(gallery[7:8], 1)[1].tolist() == [[7]]


def test_searches_that_cannot_be_answered_are_refused(built):
    loaded = index.load(built[0])
    with pytest.raises(ConfigError, match="k = 501, expected 1 to 500"):
        loaded.search(unit_rows(0, 1), 501)
    with pytest.raises(ConfigError, match="k = 0, expected 1 to 500"):
        loaded.search(unit_rows(0, 1), 0)
    with pytest.raises(ConfigError, match=r"8 dimensions, expected 16: .* different encoders"):
        loaded.search(unit_rows(0, 1, dim=8), 5)
    with pytest.raises(DataError, match=r"queries: got 1 of 2 .* not finite, first in rows \[1\]"):
        loaded.search(np.stack([unit_rows(0, 1)[0], np.full(16, np.nan, np.float32)]), 5)


def copy(directory, target):
    target.mkdir()
    for path in directory.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def vectors_file(directory):
    (path,) = directory.glob("*.npy")
    return path


def test_damaged_folders_are_refused_by_name(built, tmp_path):
    short = copy(built[0], tmp_path / "short")
    vectors_file(short).write_bytes(vectors_file(short).read_bytes()[:1000])
    with pytest.raises(DataError, match=rf"{vectors_file(short).name}: got no readable array"):
        index.load(short)
    missing = copy(built[0], tmp_path / "missing")
    vectors_file(missing).unlink()
    with pytest.raises(DataError, match="no readable array"):
        index.load(missing)
    other = copy(built[0], tmp_path / "other")
    np.save(vectors_file(other), unit_rows(0, 499))
    with pytest.raises(DataError, match=r"\(499, 16\).* expected .*\(500, 16\)"):
        index.load(other)
    objects = copy(built[0], tmp_path / "objects")
    np.save(vectors_file(objects), np.array([{}, []], object), allow_pickle=True)
    with pytest.raises(DataError, match="no readable array"):
        index.load(objects)


def test_a_folder_that_is_no_index_is_refused(built, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"index\.json: not there"):
        index.load(tmp_path)
    old = copy(built[0], tmp_path / "old")
    (old / "index.json").write_text('{"schema": "rejepa-index/0"}')
    with pytest.raises(DataError, match=r"schema rejepa-index/0 .*, expected rejepa-index/1"):
        index.load(old)
    (old / "index.json").write_text('{"schema": "rejepa-ind')
    with pytest.raises(DataError, match="no JSON"):
        index.load(old)


@needs_scann
def test_broken_or_dangerous_scann_files_are_refused(gallery, tmp_path):
    index.build(gallery, tmp_path / "whole", "scann", "f")
    broken = copy(tmp_path / "whole", tmp_path / "broken")
    (broken / "scann_config.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(DataError, match="ScaNN files that do not load"):
        index.load(broken)
    no_assets = copy(tmp_path / "whole", tmp_path / "no_assets")
    (no_assets / "scann_assets.pbtxt").unlink()
    with pytest.raises(DataError, match="ScaNN files that do not load"):
        index.load(no_assets)
    pickled = copy(tmp_path / "whole", tmp_path / "pickled")
    (pickled / "scann_docids.pkl").write_bytes(b"")
    with pytest.raises(DataError, match="unpickle"):
        index.load(pickled)


@needs_scann
def test_tree_and_hashing_are_measured_and_fill_long_rankings(gallery, tmp_path, monkeypatch):
    recipe = {"leaves": 20, "leaves_to_search": 4, "reorder": 100}
    monkeypatch.setattr(index, "scann_recipe", lambda _: recipe)
    info = index.build(gallery, tmp_path, "scann", "f")
    loaded = index.load(tmp_path)
    assert info["recipe"] == recipe
    # The reported recall, from answers and truth gathered one row at a time.
    found = 0
    for row, answer in enumerate(loaded.search(gallery, 11)[1].tolist()):
        truth = np.argsort(-np.delete(gallery @ gallery[row], row), kind="stable")[:10]
        truth = {int(near + (near >= row)) for near in truth}
        found += len(truth & set([near for near in answer if near != row][:10]))
    assert info["recall_at_10"] == pytest.approx(found / 5000, abs=1e-9)
    assert 0.5 < info["recall_at_10"] < 1
    scores, rows = loaded.search(gallery[:3], 500)  # four leaves of twenty do not hold 500 rows
    np.testing.assert_array_equal(np.sort(rows, axis=1), [np.arange(500)] * 3)
    assert np.isfinite(scores).all()


@needs_scann
def test_equal_scores_rank_by_row_in_scann_too(tmp_path):
    gallery = np.tile(np.eye(4, dtype=np.float32), (5, 1))
    index.build(gallery, tmp_path, "scann", "f")
    _, rows = index.load(tmp_path).search(gallery[2:3], 20)
    others = [row for row in range(20) if row % 4 != 2]
    assert rows.tolist() == [[2, 6, 10, 14, 18, *others]]


@needs_scann
def test_a_crash_in_scann_is_told_and_survived(gallery, tmp_path, monkeypatch):
    # Let NaN through our own check: it trips a fatal check in ScaNN's tree training.
    monkeypatch.setattr(index, "check_embeddings", lambda _: None)
    monkeypatch.setattr(
        index, "scann_recipe", lambda _: {"leaves": 20, "leaves_to_search": 4, "reorder": 100}
    )
    poisoned = gallery.copy()
    poisoned[3] = np.nan
    with pytest.raises(ConfigError, match=r"ended with exit code -?\d+ .* use index kind 'exact'"):
        index.build(poisoned, tmp_path, "scann", "f")
    assert not (tmp_path / "index.json").exists()


def test_auto_takes_scann_only_where_it_is(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert index.build(gallery, tmp_path, "auto", "f")["kind"] == "exact"
    with pytest.raises(ConfigError, match="'scann' without ScaNN"):
        index.build(gallery, tmp_path, "scann", "f")
    (tmp_path / "index.json").write_text(
        json.dumps({"schema": "rejepa-index/1", "kind": "scann", "rows": 500, "dim": 16})
    )
    with pytest.raises(ConfigError, match="ScaNN is not here"):
        index.load(tmp_path)


def test_unknown_kinds_are_refused(gallery, tmp_path):
    with pytest.raises(ConfigError, match="'faiss', expected auto or one of"):
        index.build(gallery, tmp_path, "faiss", "f")


def test_vectors_that_no_index_may_hold_are_refused(gallery, tmp_path):
    nan, long = gallery.copy(), gallery.copy()
    nan[[3, 77]] = np.nan
    long[9] *= 2
    constant = np.tile(gallery[:1], (50, 1))
    for vectors, message in (
        (nan, r"2 of 500 .* not finite, first in rows \[3, 77\]"),
        (long, r"length other than 1, first in rows \[9\]"),
        (constant, "50 equal vectors .* collapsed"),
        (gallery[:0], "no rows"),
    ):
        with pytest.raises(DataError, match=message):
            index.build(vectors, tmp_path, "exact", "f")
    assert not list(tmp_path.iterdir())


def test_one_image_is_a_gallery(tmp_path):
    info = index.build(unit_rows(0, 1), tmp_path, "exact", "f")
    assert info["recall_at_10"] == 1.0
    assert index.load(tmp_path).search(unit_rows(0, 1), 1)[1].tolist() == [[0]]


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (19_999, {}),
        (20_000, {"reorder": 200}),
        (100_000, {"leaves": 316, "leaves_to_search": 32, "reorder": 200}),
    ],
)
def test_the_recipe_follows_the_size(rows, parts):
    assert index.scann_recipe(rows) == parts


def test_recall_does_not_count_a_row_as_its_own_neighbour(gallery):
    def first_rows_only(queries, k):
        return np.ones((len(queries), k), np.float32), np.tile(np.arange(k), (len(queries), 1))

    truth = exact.top_k(gallery, gallery, 11)[1]
    found = 0
    for row in range(500):
        mine = [near for near in truth[row].tolist() if near != row][:10]
        theirs = [near for near in range(11) if near != row][:10]
        found += len(set(mine) & set(theirs))
    assert index.recall_at_10(first_rows_only, gallery) == pytest.approx(found / 5000, abs=1e-12)
