"""What is ScaNN's own: its recipe, its tuning, its crashes."""

import importlib.util

import numpy as np
import pytest

from rejepa_jax.retrieval.index import building, loading, scann_kind
from rejepa_jax.retrieval.index.kinds import KINDS
from rejepa_jax.types import ConfigError, DataError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("scann") is None, reason="ScaNN is not installed"
)


@pytest.fixture(scope="module")
def gallery():
    vectors = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def small_tree(monkeypatch):
    """Tree and hashing also for galleries that would be searched by brute force."""
    recipe = {"leaves": 20, "leaves_to_search": 4, "candidates": 8}
    monkeypatch.setitem(
        KINDS,
        "scann",
        scann_kind.SCANN.__class__(**vars(scann_kind.SCANN) | {"recipe": lambda _: dict(recipe)}),
    )


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (19_999, {}),
        (20_000, {"leaves": 141, "leaves_to_search": 8, "candidates": 8}),
        (590_326, {"leaves": 768, "leaves_to_search": 39, "candidates": 8}),
    ],
)
def test_the_recipe_follows_the_size(rows, parts):
    assert scann_kind.scann_recipe(rows) == parts
    assert scann_kind.ladders(parts).keys() == parts.keys() - {"leaves"}


@pytest.mark.usefixtures("small_tree")
def test_tree_and_hashing_are_tuned_measured_and_fill_long_rankings(gallery, tmp_path):
    info = building.build(gallery, tmp_path / "tuned", "scann", "f", recall=0.9)
    chosen = info["recipe"]
    assert chosen["leaves"] == 20
    assert chosen["leaves_to_search"] in scann_kind.ladders(chosen)["leaves_to_search"]
    assert chosen["candidates"] in scann_kind.CANDIDATES
    # The reported recall, from answers and truth gathered one row at a time.
    loaded = loading.load(tmp_path / "tuned")
    held_out = np.random.default_rng(0).permutation(500)[500 // 3 :]
    found = 0
    for row, answer in zip(held_out, loaded.search(gallery[held_out], 11)[1].tolist(), strict=True):
        others = np.argsort(-np.delete(gallery @ gallery[row], row), kind="stable")[:10]
        others = {int(near + (near >= row)) for near in others}
        found += len(others & set([near for near in answer if near != row][:10]))
    assert info["recall_at_10"] == pytest.approx(found / (10 * len(held_out)), abs=1e-9)
    assert 0.8 < info["recall_at_10"] <= 1
    few = building.build(gallery, tmp_path / "few", "scann", "f", leaves_to_search=1)
    assert few["recipe"]["leaves_to_search"] == 1  # what is asked for is not tuned
    assert few["recall_at_10"] < 0.5
    scores, rows = loading.load(tmp_path / "few").search(gallery[:3], 500)  # one leaf is too few
    np.testing.assert_array_equal(np.sort(rows, axis=1), [np.arange(500)] * 3)
    assert np.isfinite(scores).all()


@pytest.mark.usefixtures("small_tree")
def test_a_crash_in_scann_is_told_and_survived(gallery, tmp_path, monkeypatch):
    # Let NaN through our own check: it trips a fatal check in ScaNN's tree training.
    monkeypatch.setattr(building, "check_embeddings", lambda _: None)
    poisoned = gallery.copy()
    poisoned[3] = np.nan
    with pytest.raises(ConfigError, match=r"ended with exit code -?\d+ .* use index kind 'exact'"):
        building.build(poisoned, tmp_path, "scann", "f")
    assert not (tmp_path / "index.json").exists()


def test_files_that_would_run_code_or_do_not_load_are_refused(gallery, tmp_path):
    building.build(gallery, tmp_path, "scann", "f")
    stored = gallery.view()
    (tmp_path / "scann_docids.pkl").write_bytes(b"")
    with pytest.raises(DataError, match="unpickle"):
        scann_kind.SCANN.open(tmp_path, {}, stored)
    (tmp_path / "scann_docids.pkl").unlink()
    (tmp_path / "scann_config.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(DataError, match="ScaNN files that do not load"):
        scann_kind.SCANN.open(tmp_path, {}, stored)
