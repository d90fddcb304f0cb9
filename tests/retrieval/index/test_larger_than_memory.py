"""From an export to an index without the vectors in memory, as large galleries need it."""

import tracemalloc

import numpy as np
import pytest

from rejepa_jax.retrieval.brute import on_cpu
from rejepa_jax.retrieval.embeddings import reading, schema, writing
from rejepa_jax.retrieval.index import building, codes_kind, loading, recall, stored

ROWS, DIM = 32_000, 128


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Four parts of 4 MB of vectors each."""
    folder = tmp_path_factory.mktemp("export")
    vectors = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number, part in enumerate(np.split(vectors, 4)):
        first, rows = number * len(part), len(part)
        names = [str(row) for row in range(first, first + rows)]
        known = schema.EmbeddingPart(first, names, part, ["s2"] * rows, [[]] * rows)
        writing.write_part(folder / schema.part_name(number, 4), known, {"fingerprint": "f"})
    return folder, vectors


@pytest.mark.parametrize("kind", ["int8", "bits"])
def test_a_gallery_larger_than_memory_is_indexed_a_piece_at_a_time(
    kind, export, tmp_path, monkeypatch
):
    folder, vectors = export
    monkeypatch.setattr(reading, "ROWS", 1024)
    monkeypatch.setattr(codes_kind, "BLOCK", 1024)
    monkeypatch.setattr(recall, "HELD_OUT", 20)
    monkeypatch.setattr(recall, "TUNING", 10)
    monkeypatch.setattr(on_cpu, "MOST_ROWS", 1024)
    monkeypatch.setattr(building, "write_vectors", None)  # nothing is written twice
    tracemalloc.start()
    try:
        footer = reading.copy_vectors(folder, tmp_path / stored.VECTORS)
        info = building.build(None, tmp_path, kind, footer["fingerprint"], candidates=20)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < vectors.nbytes / 2
    assert (info["rows"], info["dim"], info["fingerprint"]) == (ROWS, DIM, "f")
    index = loading.load(tmp_path)
    np.testing.assert_array_equal(index.stored, vectors)
    assert index.search(vectors[[7, 31_999]], 1)[1].tolist() == [[7], [31_999]]
