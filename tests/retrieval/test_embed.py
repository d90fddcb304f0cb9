import fake_archive
import numpy as np
import pytest
import toys
from flax import nnx

from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval import embed, embeddings
from rejepa_jax.retrieval.encoder import Bundle, Embedder

SPEC = EncoderSpec(16, 8, 3, 16, 1, 2, 4.0, "float32")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Three test places, then seven to train on."""
    root = tmp_path_factory.mktemp("embed")
    return fake_archive.prepared(root, {"train": 7, "test": 3}, size=16)


@pytest.fixture(scope="module")
def embedder(records):
    given = SensorInput((0, 1, 2), (1500.0,) * 3, (800.0,) * 3, 0.0)
    encoder = toys.filled(lambda: Encoder(SPEC, rngs=nnx.Rngs(0)))
    record = records.schema.sensors["s2"]
    bundle = Bundle(
        "target", encoder, Preprocess(16, {"s2": given}), "s2", record, "mean", 5, "mark"
    )
    return Embedder(bundle)


@pytest.fixture(scope="module")
def expected(embedder, records):
    images = [fake_archive.pixels(n, records.schema)["s2"] for n in range(10)]
    return np.concatenate([embedder({"s2": np.stack(part)}) for part in (images[:5], images[5:])])


def test_rows_come_in_the_order_asked_for_whatever_the_last_batch_lacks(
    embedder, records, expected
):
    rows = np.array([9, 0, 4, 2, 2, 7, 1])
    places, vectors = embed.embed_examples(embedder, records, rows, 5)
    assert [place.id for place in places] == [f"place{row:03d}" for row in rows]
    assert all(place.images == {} for place in places)
    np.testing.assert_array_equal(vectors, expected[rows])
    np.testing.assert_array_equal(embed.embed_rows(embedder, records, rows, 5), vectors)


def test_every_record_is_written_in_row_order(embedder, records, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "PART_ROWS", 4)
    built = embed.write_embeddings(embedder, records, tmp_path, 5)
    assert built.info == {"rows": 10, "fingerprint": "mark"}
    written = embeddings.read(tmp_path, columns=())
    np.testing.assert_array_equal(written.vectors, expected)
    assert written.fingerprint == "mark"
    assert written.ids == [f"place{n:03d}" for n in range(10)]
    assert written.split == ["test"] * 3 + ["train"] * 7
    assert written.labels == [[fake_archive.CLASSES[n % 3]] for n in range(10)]


def test_finished_parts_are_not_made_again(embedder, records, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "PART_ROWS", 4)
    embed.write_embeddings(embedder, records, tmp_path, 5)
    parts = sorted(tmp_path.iterdir())
    assert len(parts) == 3
    before = [part.read_bytes() for part in parts]
    inodes = [part.stat().st_ino for part in parts]
    parts[1].unlink()
    embed.write_embeddings(embedder, records, tmp_path, 5)
    assert [part.read_bytes() for part in parts] == before
    assert [part.stat().st_ino for part in parts][::2] == inodes[::2]
