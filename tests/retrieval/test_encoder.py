import dataclasses
import json

import jax
import numpy as np
import numpy_vit
import pytest
import toys
from flax import nnx

from rejepa_jax.data.examples import Sensor
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.encoder import Bundle, Embedder, load_bundle, save_bundle
from rejepa_jax.training import sharding
from rejepa_jax.types import ConfigError, DataError

SPEC = EncoderSpec(16, 8, 2, 16, 2, 2, 4.0, "float32")
INPUT = SensorInput((2, 0), (1500.0, 1000.0), (700.0, 500.0), 0.0)
rng = np.random.default_rng(10)
IMAGES = np.where(
    rng.random((8, 16, 16, 3)) < 0.1, 0, rng.integers(1, 3000, (8, 16, 16, 3))
).astype(np.uint16)


@pytest.fixture(scope="module")
def bundle():
    return Bundle(
        name="target",
        encoder=toys.filled(lambda: Encoder(SPEC, rngs=nnx.Rngs(0)), seed=11),
        preprocess=Preprocess(16, {"s2": INPUT}),
        sensor="s2",
        record=Sensor(("B02", "B03", "B04"), "uint16", 16, 16),
        pool="mean",
        step=120,
    )


@pytest.fixture(scope="module")
def embedder(bundle):
    return Embedder(bundle)


@pytest.fixture
def saved(bundle, tmp_path):
    save_bundle(bundle, tmp_path / "target")
    return tmp_path / "target"


# --- embeddings


def test_embedding_equals_numpy_from_pixels_to_unit_vector(embedder, bundle):
    arrays, expected = numpy_vit.weights(bundle.encoder), []
    for image in IMAGES:
        chosen = image[..., [2, 0]].astype(np.float64)
        view = np.where(chosen == 0, 0, (chosen - INPUT.mean) / INPUT.std)
        pooled = numpy_vit.encode(view, arrays, SPEC).mean(0)
        expected.append(pooled / np.sqrt((pooled**2).sum()))
    vectors = embedder({"s2": IMAGES})
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=2e-6)


def test_embeddings_have_length_1(embedder):
    lengths = np.linalg.norm(embedder({"s2": IMAGES}).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_image_without_any_measurement_has_an_embedding(embedder):
    blank = np.zeros_like(IMAGES)
    vectors = embedder({"s2": blank})
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_what_fills_a_batch_up_does_not_matter(embedder):
    vectors = embedder({"s2": IMAGES})
    padded = np.concatenate([IMAGES[:3], np.repeat(IMAGES[2:3], 5, axis=0)])
    np.testing.assert_array_equal(embedder({"s2": padded})[:3], vectors[:3])


def test_batch_size_does_not_matter(embedder):
    vectors = embedder({"s2": IMAGES})
    np.testing.assert_allclose(embedder({"s2": IMAGES[:1]}), vectors[:1], atol=1e-6)


def test_eight_devices_embed_what_one_does(embedder, bundle):
    spread = Embedder(bundle, sharding.batch_sharding(sharding.make_mesh()))
    np.testing.assert_allclose(spread({"s2": IMAGES}), embedder({"s2": IMAGES}), atol=1e-6)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (IMAGES[..., :2], r"\(16, 16, 2, 'uint16'\)"),
        (IMAGES[:, :12], r"\(12, 16, 3, 'uint16'\)"),
        (IMAGES.astype(np.float32), r"\(16, 16, 3, 'float32'\)"),
    ],
    ids=["bands", "size", "dtype"],
)
def test_images_unlike_the_records_are_refused(embedder, images, got):
    message = (
        rf"got images {got} .*expected \(16, 16, 3, 'uint16'\) of sensor 's2' with bands .*B02"
    )
    with pytest.raises(ConfigError, match=message):
        embedder({"s2": images})


# --- bundles


def test_round_trip_gives_the_same_bits(embedder, bundle, saved):
    loaded = load_bundle(saved)
    np.testing.assert_array_equal(Embedder(loaded)({"s2": IMAGES}), embedder({"s2": IMAGES}))
    arrays = named_arrays(loaded.encoder)
    for name, array in named_arrays(bundle.encoder).items():
        np.testing.assert_array_equal(arrays[name], array)
    same = ("name", "preprocess", "sensor", "record", "pool", "step")
    assert all(getattr(loaded, name) == getattr(bundle, name) for name in same)
    assert loaded.encoder.spec == SPEC


def test_bundle_is_two_files_that_any_reader_of_safetensors_knows(saved):
    from safetensors.numpy import load_file

    assert {path.name for path in saved.iterdir()} == {"bundle.json", "weights.safetensors"}
    arrays = load_file(saved / "weights.safetensors")
    assert arrays["blocks/attention/qkv/kernel"].shape == (2, 16, 48)


def test_same_bundle_same_fingerprint(bundle, saved, tmp_path):
    save_bundle(bundle, tmp_path / "again")
    mark = load_bundle(tmp_path / "again").fingerprint
    assert mark == load_bundle(saved).fingerprint
    assert len(mark) == 64


CHANGES = {
    "name": {"name": "context"},
    "step": {"step": 121},
    "mean": {
        "preprocess": Preprocess(16, {"s2": dataclasses.replace(INPUT, mean=(1500.0, 1000.5))})
    },
    "bands": {"preprocess": Preprocess(16, {"s2": dataclasses.replace(INPUT, bands=(2, 1))})},
    "no data": {"preprocess": Preprocess(16, {"s2": dataclasses.replace(INPUT, nodata=None)})},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_decides_an_embedding_changes_the_fingerprint(bundle, saved, tmp_path, change):
    save_bundle(dataclasses.replace(bundle, **change), tmp_path / "other")
    assert load_bundle(tmp_path / "other").fingerprint != load_bundle(saved).fingerprint


def test_other_weights_change_the_fingerprint(bundle, saved, tmp_path):
    # One step of the last bit of one weight.
    encoder = jax.tree.map(lambda leaf: leaf, bundle.encoder)
    encoder.norm.bias[...] = (
        encoder.norm.bias[...].at[0].set(np.nextafter(encoder.norm.bias[...][0], np.float32(9)))
    )
    save_bundle(dataclasses.replace(bundle, encoder=encoder), tmp_path / "other")
    assert load_bundle(tmp_path / "other").fingerprint != load_bundle(saved).fingerprint


def test_flipped_byte_in_the_weights_is_refused(saved):
    path = saved / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"target: weights and description do not match .* export"):
        load_bundle(saved)


def test_changed_description_is_refused(saved):
    path = saved / "bundle.json"
    description = json.loads(path.read_text())
    description["preprocess"]["inputs"]["s2"]["mean"][0] += 1
    path.write_text(json.dumps(description))
    with pytest.raises(DataError, match="a file was changed or damaged"):
        load_bundle(saved)


def test_no_bundle_is_said_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no bundle\.json; run the export stage"):
        load_bundle(tmp_path)


def test_missing_weights_are_named(saved):
    (saved / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"target holds no weights\.safetensors"):
        load_bundle(saved)


def test_what_training_computes_again_is_no_part_of_a_bundle(bundle, saved, tmp_path):
    encoder = toys.filled(
        lambda: Encoder(dataclasses.replace(SPEC, remat="block"), rngs=nnx.Rngs(0)), seed=11
    )
    save_bundle(dataclasses.replace(bundle, encoder=encoder), tmp_path / "other")
    written, plain = ((path / "bundle.json").read_text() for path in (tmp_path / "other", saved))
    assert written == plain
    assert set(json.loads(plain)["encoder"]) == {
        *("image_size", "patch_size", "bands", "embed_dim", "depth", "num_heads", "mlp_ratio"),
        *("dtype", "class_token", "positions", "unroll"),  # as in bundles of earlier releases
    }
