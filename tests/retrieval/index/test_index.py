"""All index kinds behind one interface, against a stable numpy sort."""

import importlib.util
import json

import numpy as np
import pytest

from rejepa_jax.retrieval.index import building, filtering, loading, scann_kind
from rejepa_jax.retrieval.index.kinds import KINDS
from rejepa_jax.types import ConfigError, DataError


def needs(kind):
    """Parametrises with a kind, skipped where its package is not installed."""
    absent = importlib.util.find_spec(KINDS[kind].module) is None
    return pytest.param(kind, marks=pytest.mark.skipif(absent, reason=f"{kind} is not installed"))


def unit_rows(seed, rows, dim=16):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def truth(queries, gallery, k):
    scores = queries @ gallery.T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.fixture(scope="module")
def gallery():
    return unit_rows(0, 500)


# So small a gallery can be searched whole by every kind.
WHOLE = {
    "bits": {"candidates": 50},
    "faiss": {"probes": 7},
    "hnsw": {"breadth": 500},
    "int8": {"candidates": 2},
}


@pytest.fixture(scope="module", params=[needs(kind) for kind in KINDS])
def built(request, gallery, tmp_path_factory):
    """An index of each kind: (folder, what `build` returned)."""
    directory = tmp_path_factory.mktemp(request.param)
    choices = WHOLE.get(request.param, {})
    return directory, building.build(gallery, directory, request.param, "f" * 64, **choices)


@pytest.fixture(scope="module")
def loaded(built):
    return loading.load(built[0])


def test_search_equals_a_stable_sort(loaded, gallery):
    queries = unit_rows(1, 20)
    scores, rows = loaded.search(queries, 10)
    expected_scores, expected = truth(queries, gallery, 10)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int32)


def test_the_whole_gallery_can_be_ranked(loaded):
    scores, rows = loaded.search(unit_rows(2, 2), 500)
    np.testing.assert_array_equal(np.sort(rows, axis=1), [np.arange(500)] * 2)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("few", [0, 10**6], ids=["fetching more", "comparing few"])
def test_only_allowed_rows_are_found(loaded, gallery, monkeypatch, few):
    monkeypatch.setattr(filtering, "FEW_ROWS", few)
    allowed = np.random.default_rng(3).random(500) < 0.3
    queries = unit_rows(1, 20)
    scores, rows = loaded.search(queries, 10, allowed)
    expected_scores, expected = truth(queries, gallery[allowed], 10)
    np.testing.assert_array_equal(rows, np.flatnonzero(allowed)[expected])
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


def test_where_all_or_most_is_filtered_out_the_rest_is_said(loaded, gallery):
    queries, allowed = unit_rows(1, 3), np.zeros(500, bool)
    scores, rows = loaded.search(queries, 10, allowed)
    assert (rows == -1).all()
    assert np.isnan(scores).all()
    allowed[[7, 300]] = True
    scores, rows = loaded.search(queries, 10, allowed)
    np.testing.assert_array_equal(
        rows[:, :2], np.array([7, 300])[truth(queries, gallery[allowed], 2)[1]]
    )
    assert (rows[:, 2:] == -1).all()
    assert np.isnan(scores[:, 2:]).all()


def test_exact_vectors_are_read_back(loaded, gallery):
    np.testing.assert_array_equal(loaded.vectors(np.array([499, 0, 7])), gallery[[499, 0, 7]])


def test_the_folder_describes_itself(built, loaded):
    directory, info = built
    assert json.loads((directory / "index.json").read_text()) == info == loaded.info
    assert (info["rows"], info["dim"], info["fingerprint"]) == (500, 16, "f" * 64)
    assert info["recall_at_10"] == 1.0
    assert sorted(info["files"]) == sorted(
        path.name for path in directory.iterdir() if path.name != "index.json"
    )
    facts = (loaded.kind, loaded.rows, loaded.dim, loaded.fingerprint)
    assert facts == (info["kind"], 500, 16, "f" * 64)


def test_more_neighbours_than_rows_or_none_are_refused(loaded):
    with pytest.raises(ConfigError, match="k = 501, expected 1 to 500"):
        loaded.search(unit_rows(0, 1), 501)
    with pytest.raises(ConfigError, match="k = 0, expected 1 to 500"):
        loaded.search(unit_rows(0, 1), 0)
    with pytest.raises(ConfigError, match=r"8 dimensions, expected 16: .* different encoders"):
        loaded.search(unit_rows(0, 1, dim=8), 5)
    with pytest.raises(DataError, match=r"queries: got 1 of 2 .* not finite, first in rows \[1\]"):
        loaded.search(np.stack([unit_rows(0, 1)[0], np.full(16, np.nan, np.float32)]), 5)
    with pytest.raises(ConfigError, match=r"499 allowed rows, expected .* each of 500"):
        loaded.search(unit_rows(0, 1), 5, np.ones(499, bool))


def copy(directory, target):
    target.mkdir()
    for path in directory.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_moved_folder_still_answers(built, gallery, tmp_path):
    moved = loading.load(copy(built[0], tmp_path / "moved"))
    assert moved.search(gallery[7:8], 1)[1].tolist() == [[7]]


def test_every_flipped_swapped_or_missing_file_is_refused_by_name(built, tmp_path):
    directory, info = built
    other = tmp_path / "other"
    building.build(unit_rows(9, 500), other, info["kind"], "f" * 64, **WHOLE.get(info["kind"], {}))
    for name, entry in info["files"].items():
        broken = copy(directory, tmp_path / f"flipped {name}")
        content = bytearray((broken / name).read_bytes())
        content[entry["bytes"] * 2 // 3] ^= 4
        (broken / name).write_bytes(content)
        with pytest.raises(
            DataError, match=rf"{name}: got sha256 \w+, expected {entry['sha256'][:12]}"
        ):
            loading.load(broken)
        if (other / name).read_bytes() != (directory / name).read_bytes():
            (broken / name).write_bytes((other / name).read_bytes())
            with pytest.raises(DataError, match=f"{name}: got sha256"):
                loading.load(broken)
        (broken / name).unlink()
        with pytest.raises(DataError, match=f"{name}: got sha256 no file"):
            loading.load(broken)


def test_a_whole_index_of_another_manifest_is_refused(built, tmp_path):
    swapped = copy(built[0], tmp_path / "swapped")
    entry = {"bytes": 1, "sha256": "0" * 64}
    (swapped / "manifest.json").write_text(json.dumps({"files": {"index.json": entry}}))
    with pytest.raises(DataError, match=r"index\.json: got sha256 \w+, expected 000000000000"):
        loading.load(swapped)


def test_a_folder_that_is_no_index_is_refused(built, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"index\.json: not there"):
        loading.load(tmp_path)
    old = copy(built[0], tmp_path / "old")
    (old / "index.json").write_text('{"schema": "rejepa-index/1"}')
    with pytest.raises(DataError, match="schema rejepa-index/1, expected rejepa-index/2"):
        loading.load(old)
    (old / "index.json").write_text('{"schema": "rejepa-ind')
    with pytest.raises(DataError, match="expected JSON"):
        loading.load(old)
    (old / "index.json").write_text(json.dumps(built[1] | {"kind": "tree"}))
    with pytest.raises(DataError, match="got kind tree, expected one of"):
        loading.load(old)


@pytest.mark.parametrize("kind", [needs("exact"), needs("scann"), needs("bits"), needs("device")])
def test_equal_scores_rank_by_row_in_all_kinds(kind, tmp_path):
    gallery = np.tile(np.eye(4, dtype=np.float32), (5, 1))
    building.build(gallery, tmp_path, kind, "f")
    _, rows = loading.load(tmp_path).search(gallery[2:3], 20)
    others = [row for row in range(20) if row % 4 != 2]
    assert rows.tolist() == [[2, 6, 10, 14, 18, *others]]


@pytest.mark.parametrize("kind", [needs(kind) for kind in KINDS])
def test_one_image_is_a_gallery(kind, tmp_path):
    info = building.build(unit_rows(0, 1), tmp_path, kind, "f")
    assert info["recall_at_10"] == 1.0
    assert loading.load(tmp_path).search(unit_rows(0, 1), 1)[1].tolist() == [[0]]


def test_vectors_that_are_not_finite_zero_or_constant_are_refused_before_the_build(
    gallery, tmp_path, monkeypatch
):
    monkeypatch.setattr(scann_kind, "_write", None)  # is not reached
    nan, zero = gallery.copy(), gallery.copy()
    nan[[3, 77]] = np.nan
    zero[9] = 0
    constant = np.tile(gallery[:1], (50, 1))
    for vectors, message in (
        (nan, r"2 of 500 .* not finite, first in rows \[3, 77\]"),
        (zero, r"length other than 1, first in rows \[9\]"),
        (constant, "50 equal vectors .* collapsed"),
        (gallery[:0], "no rows"),
    ):
        with pytest.raises(DataError, match=message):
            building.build(vectors, tmp_path, "scann", "f")
    assert not list(tmp_path.iterdir())


def test_unknown_kinds_and_choices_are_refused(gallery, tmp_path):
    with pytest.raises(ConfigError, match="'tree', expected auto or one of"):
        building.build(gallery, tmp_path, "tree", "f")
    with pytest.raises(ConfigError, match=r"\['leaves'\] for index kind 'bits' of 500 rows"):
        building.build(gallery, tmp_path, "bits", "f", leaves=3)
    with pytest.raises(ConfigError, match=r"dtype as one of \['bfloat16', 'float32'\]"):
        building.build(gallery, tmp_path, "device", "f", dtype="float16")
