import threading

import fake_archive
import jax
import numpy as np
import pytest
import toys
from flax import nnx

from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval import embed
from rejepa_jax.retrieval.encoder import Bundle, Embedder
from rejepa_jax.types import DataError

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
    np.testing.assert_array_equal(embed.embed_rows(embedder, records, rows, 5), expected[rows])


def test_batches_have_the_examples_asked_for_and_images_padded_with_the_last(records):
    batches = list(embed.example_batches(records, np.array([9, 0, 4]), "s2", 2))
    assert [[place.id for place in places] for places, _ in batches] == [
        ["place009", "place000"],
        ["place004"],
    ]
    last = fake_archive.pixels(4, records.schema)["s2"]
    np.testing.assert_array_equal(batches[1][1], [last, last])


def test_batches_of_examples_come_with_the_embeddings_of_their_images(embedder, records, expected):
    rows = np.array([9, 0, 4, 2, 2, 7, 1, 3, 5, 6, 8, 0])
    done = []
    for examples, images, vectors in embed.embedded_batches(embedder, records, rows, 5):
        assert (len(images), len(vectors)) == (5, 5)
        np.testing.assert_array_equal(images[0], examples[0].images["s2"])
        np.testing.assert_array_equal(vectors[: len(examples)], expected[rows[len(done) :][:5]])
        done += [example.id for example in examples]
    assert done == [f"place{row:03d}" for row in rows]


def test_batches_are_embedded_side_by_side_and_compiled_once(
    embedder, records, expected, monkeypatch
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    # No batch is embedded before another one has been begun: one after the other would never end.
    together = threading.Barrier(2, timeout=20)

    class Meeting(Embedder):
        def __call__(self, images):
            together.wait()
            return super().__call__(images)

    meeting = Meeting(embedder.bundle)
    rows = np.arange(10)
    np.testing.assert_array_equal(embed.embed_rows(meeting, records, rows, 5), expected)
    assert meeting._run._cache_size() == 1


def test_damaged_record_is_named(embedder, tmp_path):
    records = fake_archive.prepared(tmp_path, {"train": 12}, size=16)
    path = tmp_path / "records" / "toy-train.tfrecord-00001-of-00003"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path.name}, record 3: got checksum"):
        embed.embed_rows(embedder, records, np.arange(12), 2)
