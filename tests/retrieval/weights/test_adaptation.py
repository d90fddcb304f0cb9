import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import toys
from flax import nnx

from rejepa_jax.data.examples import Sensor
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.models.position import sincos_positions
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.encoder import Bundle, save_bundle
from rejepa_jax.retrieval.weights.adaptation import adapt_bands, interpolate, load_initial
from rejepa_jax.types import DataError

SPEC = EncoderSpec(16, 8, 2, 16, 2, 2, 4.0, "float32")
BANDS = ("B04", "B02")


# --- bands

# One pixel a patch, one feature: the filters of red, green and blue are 3, 6 and 12.
RGB = np.array([[3.0], [6.0], [12.0]], np.float32)


@pytest.mark.parametrize(
    ("new", "filters"),
    [
        (("red", "green", "blue"), (3, 6, 12)),
        (("blue", "red", "green"), (12, 3, 6)),
        (("B04", "B03", "B02"), (3, 6, 12)),
        (("red",), (9,)),  # 3, times 3/1
        (("B02", "B08"), (18, 10.5)),  # 12 and the mean 7, times 3/2
        (("VV", "VH"), (10.5, 10.5)),
    ],
)
def test_bands_by_hand(new, filters):
    got = adapt_bands(RGB, ("red", "green", "blue"), new)
    np.testing.assert_allclose(got[:, 0], filters, rtol=1e-6)


def test_bands_are_the_innermost_axis_of_each_patch():
    kernel = np.arange(4 * 3 * 2, dtype=np.float32).reshape(
        12, 2
    )  # (2 x 2 px, 3 bands), 2 features
    got = np.asarray(adapt_bands(kernel, ("red", "green", "blue"), ("blue", "green", "red")))
    np.testing.assert_array_equal(got.reshape(4, 3, 2), kernel.reshape(4, 3, 2)[:, ::-1])


def test_alike_bands_give_what_they_gave_if_all_filters_are_kept_or_none():
    kernel = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    before = np.repeat(np.arange(4.0), 3) @ kernel
    names = ("B01", "B02", "B05", "B06", "B07")
    for new in (("red", "green", "blue", *names), ("VV",), ("VV", "VH")):
        adapted = adapt_bands(kernel, ("a", "b", "c"), new)
        np.testing.assert_allclose(np.repeat(np.arange(4.0), len(new)) @ adapted, before, rtol=1e-5)


# --- positions


def keys(distance):
    """The cubic kernel of Keys (1981) with a = -1/2."""
    d = abs(distance)
    if d < 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def weights(old, new):
    """How much each old row counts for each new one; those beyond the edge are left out."""
    rows = np.array(
        [[keys((i + 0.5) * old / new - 0.5 - j) for j in range(old)] for i in range(new)]
    )
    return rows / rows.sum(1, keepdims=True)


@pytest.mark.parametrize("new", [2, 5, 8])
def test_interpolation_equals_numpy(new):
    table = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    one = weights(4, new)
    expected = np.einsum("ia,jb,abd->ijd", one, one, table.reshape(4, 4, 3)).reshape(-1, 3)
    np.testing.assert_allclose(interpolate(jnp.asarray(table), new), expected, atol=1e-5)


def test_interpolation_to_the_same_grid_changes_nothing():
    table = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
    np.testing.assert_array_equal(interpolate(jnp.asarray(table), 3), table)


# --- starting a run from a bundle


def save(path, spec=SPEC):
    encoder = toys.filled(lambda: Encoder(spec, rngs=nnx.Rngs(0)), seed=5)
    given = SensorInput((1, 0), (1.0, 2.0), (3.0, 4.0), None)  # the record has them the other way
    bundle = Bundle(
        name="imported",
        encoder=encoder,
        preprocess=Preprocess(spec.image_size, {"s2": given}),
        sensor="s2",
        record=Sensor(("B02", "B04"), "uint16", 20, 20),
        pool="mean",
        step=0,
    )
    save_bundle(bundle, path)
    return named_arrays(encoder)


def test_a_run_of_the_same_sizes_starts_from_the_same_bits(tmp_path):
    arrays = save(tmp_path / "b")
    unrolled = dataclasses.replace(SPEC, dtype="bfloat16", unroll=True)
    encoder = load_initial(tmp_path / "b", unrolled, BANDS)
    assert encoder.spec == unrolled
    for name, array in named_arrays(encoder).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_bands_are_taken_in_the_order_the_encoder_saw_them(tmp_path):
    arrays = save(tmp_path / "b")
    encoder = load_initial(tmp_path / "b", SPEC, BANDS[::-1])
    got = encoder.patch_embed.kernel[...].reshape(64, 2, 16)
    expected = arrays["patch_embed/kernel"].reshape(64, 2, 16)[:, ::-1]
    np.testing.assert_array_equal(got, expected)


def test_fixed_positions_follow_the_runs_grid(tmp_path):
    save(tmp_path / "b")
    larger = load_initial(tmp_path / "b", dataclasses.replace(SPEC, image_size=32), BANDS)
    np.testing.assert_array_equal(larger.pos_embed(), sincos_positions(4, 16))


@pytest.mark.parametrize("old", ["fixed", "learned"])
def test_learned_positions_start_from_the_bundles_interpolated(tmp_path, old):
    arrays = save(tmp_path / "b", dataclasses.replace(SPEC, positions=old))
    larger = dataclasses.replace(SPEC, image_size=32, positions="learned")
    encoder = load_initial(tmp_path / "b", larger, BANDS)
    table = arrays.get("positions", sincos_positions(2, 16))
    np.testing.assert_allclose(
        encoder.positions[...], interpolate(jnp.asarray(table), 4), atol=1e-6
    )


def test_learned_positions_cannot_become_fixed(tmp_path):
    save(tmp_path / "b", dataclasses.replace(SPEC, positions="learned"))
    match = (
        r"b: array 'positions' is a learned table, expected the fixed .*model\.positions to learned"
    )
    with pytest.raises(DataError, match=match):
        load_initial(tmp_path / "b", SPEC, BANDS)


@pytest.mark.parametrize(
    ("field", "value", "array", "got"),
    [
        ("embed_dim", 32, "patch_embed/kernel", "16"),
        ("patch_size", 4, "patch_embed/kernel", "8"),
        ("depth", 3, "blocks/norm1/scale", "2"),
        ("num_heads", 4, "blocks/attention/qkv/kernel", "2"),
        ("mlp_ratio", 2.0, "blocks/mlp/up/kernel", r"4\.0"),
        ("class_token", True, "class_token", "False"),
    ],
)
def test_other_sizes_are_refused_by_array(tmp_path, field, value, array, got):
    save(tmp_path / "b")
    match = (
        rf"b: array '{array}' has {field} {got}, expected {value}; set config\.model\.{field} "
        rf"to {got}, or give other weights"
    )
    with pytest.raises(DataError, match=match):
        load_initial(tmp_path / "b", dataclasses.replace(SPEC, **{field: value}), BANDS)


def test_no_bundle_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no bundle\.json"):
        load_initial(tmp_path, SPEC, BANDS)
