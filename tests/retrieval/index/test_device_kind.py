"""The gallery spread over eight devices: it stays where it is, and answers as one."""

import re

import jax
import numpy as np
import pytest

from rejepa_jax.retrieval.index import building, device_kind, loading


@pytest.fixture(scope="module")
def gallery():
    vectors = np.random.default_rng(0).normal(size=(1003, 64)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_each_device_reads_and_holds_its_share_and_only_candidates_travel(gallery):
    mesh = device_kind.make_mesh()
    vectors = device_kind.spread(gallery, mesh, np.dtype(np.float32))
    allowed = device_kind.spread(np.ones(1003, bool), mesh, np.dtype(bool))
    assert [shard.data.shape for shard in vectors.addressable_shards] == [(126, 64)] * 8
    np.testing.assert_array_equal(np.asarray(vectors)[:1003], gallery)
    assert np.asarray(allowed).sum() == 1003  # what fills the last share up is no row
    program = device_kind.search.lower(gallery[:4], vectors, allowed, 8, 1.0, mesh).compile()
    gathered = re.findall(r"= \(?(\w+)\[([\d,]+)\][^=]* all-gather\(", program.as_text())
    assert gathered
    assert all(np.prod([int(n) for n in shape.split(",")]) <= 4 * 8 * 8 for _, shape in gathered)
    assert vectors.sharding.num_devices == jax.device_count() == 8


def test_bfloat16_halves_the_memory_and_its_recall_is_measured(gallery, tmp_path):
    info = building.build(gallery, tmp_path, "device", "f", dtype="bfloat16")
    assert 0.9 < info["recall_at_10"] < 1
    scores, rows = loading.load(tmp_path).search(gallery[:20], 1)
    np.testing.assert_array_equal(rows[:, 0], np.arange(20))
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-2)


def test_the_partial_reduction_of_tpus_can_be_asked_for(gallery, tmp_path):
    info = building.build(gallery, tmp_path, "device", "f", recall_target=0.9)
    assert info["recall_at_10"] >= 0.9


def test_rows_beyond_int32_are_numbered():
    local, owner = np.array([[5, 2**30]], np.int32), np.array([[7, 255]], np.int32)
    rows = device_kind.global_rows(local, owner, 2**31 - 1)
    assert rows.tolist() == [[7 * (2**31 - 1) + 5, 255 * (2**31 - 1) + 2**30]]
