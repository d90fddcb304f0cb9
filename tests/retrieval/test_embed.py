import fake_archive
import numpy as np
import pytest
import toys
from flax import nnx

from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval import embed
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
    np.testing.assert_array_equal(embed.embed_rows(embedder, records, rows, 5), expected[rows])


def test_batches_have_the_examples_asked_for_and_images_padded_with_the_last(records):
    batches = list(embed.example_batches(records, np.array([9, 0, 4]), "s2", 2))
    assert [[place.id for place in places] for places, _ in batches] == [
        ["place009", "place000"],
        ["place004"],
    ]
    last = fake_archive.pixels(4, records.schema)["s2"]
    np.testing.assert_array_equal(batches[1][1], [last, last])
