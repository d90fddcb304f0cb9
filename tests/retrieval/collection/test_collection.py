"""A base and what was added to it, searched as one."""

import numpy as np
import pytest
import searched_run
from searched_run import MARK, rows_of

from rejepa_jax import artifacts
from rejepa_jax.retrieval.collection import updates
from rejepa_jax.retrieval.collection.opening import current_version, open_collection
from rejepa_jax.retrieval.collection.parts import find_exports, read_parts
from rejepa_jax.types import ConfigError, DataError


@pytest.fixture
def run(tmp_path):
    return searched_run.make(tmp_path)


def ranked(vectors, live, queries, k):
    """All rows sorted by score, then row."""
    scores = np.where(live[None], queries @ vectors.T, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def test_base_and_added_rank_as_one_gallery(run):
    more = searched_run.unit(1, 10)
    more[3] = searched_run.unit(0)[5]  # as similar to anything as row 5: ranks after it
    updates.add(run, rows_of(range(100, 106), more[:6]), MARK)
    updates.delete(run, ["place002", "place101"])
    updates.add(run, rows_of(range(106, 110), more[6:]), MARK)
    opened = open_collection(run)
    vectors = np.concatenate([searched_run.unit(0), more])
    live = np.ones(34, bool)
    live[[2, 25]] = False
    queries = np.concatenate([searched_run.unit(2, 4), vectors[5:6]])
    for k in (1, 5, 32):
        scores, rows = opened.search(queries, k)
        expected = ranked(vectors, live, queries, k)
        np.testing.assert_array_equal(rows, expected[1])
        np.testing.assert_allclose(scores, expected[0], atol=1e-6)
    assert opened.search(queries[-1:], 2)[1].tolist() == [[5, 27]]
    assert opened.rows == 32
    np.testing.assert_array_equal(opened.vectors([30, 3, 24]), vectors[[30, 3, 24]])
    assert opened.catalogue.id(30) == "place106"
    assert opened.thumbnail(4) == searched_run.picture(4)
    assert opened.thumbnail(31) == searched_run.picture(107)


def test_only_allowed_rows_are_found_and_the_rest_is_marked(run):
    more = searched_run.unit(1, 3)
    updates.add(run, rows_of([100, 101, 102], more), MARK)
    updates.delete(run, ["place004"])
    opened = open_collection(run)
    allowed = np.zeros(27, bool)
    allowed[[4, 7, 25]] = True  # of which 4 is deleted
    scores, rows = opened.search(more[1:2], 5, allowed)
    assert rows.tolist() == [[25, 7, -1, -1, -1]]
    assert np.isnan(scores[0, 2:]).all()
    assert scores[0, 0] == pytest.approx(1, abs=1e-6)
    nothing = opened.search(more, 2, np.zeros(27, bool))
    assert (nothing[1] == -1).all()
    assert np.isnan(nothing[0]).all()
    only_added = np.arange(27) > 24
    np.testing.assert_array_equal(np.sort(opened.search(more, 2, only_added)[1]), [[25, 26]] * 3)


def test_equal_vectors_among_the_added_have_equal_scores_and_rank_by_row(run):
    """In groups of 7 a matrix product gives them scores that differ in the last bit."""
    added = np.repeat(searched_run.unit(1, 3), 7, axis=0)[np.arange(21).reshape(3, 7).T.ravel()]
    updates.add(run, rows_of(range(100, 121), added), MARK)
    opened = open_collection(run)
    queries = searched_run.unit(2, 40)
    for allowed in (np.arange(45) >= 24, None):
        scores, rows = opened.search(queries, 45 if allowed is None else 21, allowed)
        for each, ranks in zip(scores, rows, strict=True):
            for first in range(3):  # rows 24 + first, 27 + first, ...
                places = np.flatnonzero((ranks >= 24) & (ranks % 3 == first))
                assert ranks[places].tolist() == list(range(24 + first, 45, 3))
                assert len(set(each[places])) == 1
    # Of equal ones that not all fit in, those with the lowest rows are found.
    scores, rows = opened.search(queries, 3, np.arange(45) >= 24)
    best = (queries @ added[:3].T).argmax(axis=1)
    np.testing.assert_array_equal(rows, 24 + best[:, None] + [0, 3, 6])


def test_searches_that_cannot_be_answered_are_refused(run):
    opened = open_collection(run)
    query = searched_run.unit(1, 1)
    for k in (0, -1, 25, 10**9):
        with pytest.raises(ConfigError, match=f"k = {k}, expected 1 to 24"):
            opened.search(query, k)
    with pytest.raises(ConfigError, match=r"8 dimensions, expected 16.*different encoders"):
        opened.search(searched_run.unit(1, 1, 8), 3)
    with pytest.raises(DataError, match="not finite"):
        opened.search(query * np.nan, 3)
    with pytest.raises(DataError, match="length other than 1"):
        opened.search(query * 2, 3)


def test_empty_collection_says_so(run):
    updates.delete(run, searched_run.names(range(24)))
    opened = open_collection(run)
    assert opened.rows == 0
    with pytest.raises(DataError, match="all images were deleted; add some"):
        opened.search(searched_run.unit(1, 1), 1)
    with pytest.raises(DataError, match="all images were deleted; add some before merging"):
        updates.merge(run)
    updates.add(run, rows_of([3], searched_run.unit(3, 1)), MARK)  # the id was free again
    assert open_collection(run).search(searched_run.unit(3, 1), 1)[1].tolist() == [[24]]


def test_merged_base_answers_as_before(run):
    more = searched_run.unit(1, 5)
    updates.add(run, rows_of(range(100, 105), more), MARK)
    updates.delete(run, ["place000", "place102"])
    before = open_collection(run)
    queries = searched_run.unit(2, 3)
    scores, rows = before.search(queries, 27)
    ids = [[before.catalogue.id(row) for row in each] for each in rows]
    facts = before.catalogue.describe(rows[0])
    updates.merge(run)
    after = open_collection(run)
    assert (after.rows, after.index.rows, len(after.added)) == (27, 27, 0)
    assert after.index_info["kind"] == "exact"
    again, rows = after.search(queries, 27)
    np.testing.assert_allclose(again, scores, atol=1e-6)
    assert [[after.catalogue.id(row) for row in each] for each in rows] == ids
    strip = [{k: v for k, v in fact.items() if k != "row"} for fact in facts]
    assert [
        {k: v for k, v in fact.items() if k != "row"} for fact in after.catalogue.describe(rows[0])
    ] == strip
    row = int(after.catalogue.find(["place103"])[0])
    assert after.thumbnail(row) == searched_run.picture(103)
    # What the stages made is as it was, and the next change goes on from the new base.
    assert not artifacts.verify(run / "embeddings") + artifacts.verify(run / "index")
    assert not artifacts.verify(run / "updates" / "3")
    updates.delete(run, ["place103"])
    assert open_collection(run).rows == 26
    assert sorted(path.name for path in (run / "updates").iterdir() if path.is_dir()) == ["3", "4"]


def test_nothing_to_merge_is_no_new_version(run):
    before = current_version(run)
    assert updates.merge(run) is None
    assert current_version(run) == before


def test_parts_are_cut_anew_across_exports(run):
    updates.add(run, rows_of([100, 101], searched_run.unit(1, 2)), MARK)
    exports = [run / "embeddings", run / "updates" / "1" / "embeddings"]
    keep = np.ones(26, bool)
    keep[[0, 25]] = False
    parts = list(read_parts(exports, keep, size=10))
    assert [len(part.ids) for part, _ in parts] == [10, 10, 4]
    ids = [name for part, _ in parts for name in part.ids]
    assert ids == [*searched_run.names(range(1, 24)), "place100"]
    vectors = np.concatenate([part.vectors for part, _ in parts])
    expected = np.concatenate([searched_run.unit(0)[1:], searched_run.unit(1, 2)[:1]])
    np.testing.assert_array_equal(vectors, expected)


def test_what_is_current_of_a_run_is_found_whatever_was_done_to_it(run):
    def found(source):
        exports = find_exports(source)
        ids = [name for part in read_parts(exports.paths, exports.live) for name in part.part.ids]
        assert ids == exports.read_ids().to_pylist()
        return ids, exports.is_changed

    stages = searched_run.names(range(24))
    assert found(run) == (stages, False)
    updates.delete(run, ["place003"])
    updates.add(run, rows_of([3, 100], searched_run.unit(1, 2)), MARK)
    now = [*searched_run.names([*range(3), *range(4, 24)]), "place003", "place100"]
    assert found(run) == (now, True)
    updates.merge(run)
    assert found(run) == (now, True)
    assert found(run / "embeddings") == (stages, False)


def test_export_of_another_run_can_be_added(run, tmp_path):
    other = searched_run.make(tmp_path / "other", searched_run.unit(5, 6))
    with pytest.raises(ConfigError, match=r"6 ids that are there already.*--replace"):
        updates.add(run, list(read_parts([other / "embeddings"])), MARK)
    updates.add(run, list(read_parts([other / "embeddings"])), MARK, is_replacing=True)
    opened = open_collection(run)
    assert opened.rows == 24
    assert opened.catalogue.find(["place000", "place006"]).tolist() == [24, 6]
    assert opened.search(searched_run.unit(5, 6)[2:3], 1)[1].tolist() == [[26]]
    assert opened.thumbnail(26) == searched_run.picture(2)
