import dataclasses
import math

import foreign
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.flax

from rejepa_jax import artifacts, cli
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.retrieval.encoder import Embedder, load_bundle
from rejepa_jax.retrieval.weights.importing import Import, import_weights, read_bundle
from rejepa_jax.retrieval.weights.vit_file import Tensors, measure, mlp_ratio
from rejepa_jax.retrieval.weights.weight_file import WeightFile
from rejepa_jax.types import ConfigError, DataError

PLAIN = Import(None, foreign.HEADS, (), "rgb", (), None, None, (), (), "mean")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
rng = np.random.default_rng(3)
IMAGES = rng.integers(0, 256, (2, foreign.SIZE, foreign.SIZE, 3)).astype(np.uint8)


def inside(tree, prefix):
    """The encoder's own tensors of a checkpoint."""
    flat = foreign.flat(tree)
    return {name.removeprefix(prefix): a for name, a in flat.items() if name.startswith(prefix)}


def standardised(images):
    return (images / 255 - MEAN) / STD


FILES = {
    "ijepa": (foreign.ijepa(), "target_encoder.module.", "fixed"),
    "mae": (foreign.mae(), "model.", "fixed"),
    "timm": (foreign.timm(), "", "learned"),
    "timm, pooled mean": (foreign.timm(class_token=False), "", "learned"),
}


@pytest.mark.parametrize(("tree", "prefix", "positions"), FILES.values(), ids=FILES.keys())
def test_tokens_equal_numpy(tmp_path, tree, prefix, positions):
    path = foreign.write_safetensors(tmp_path / "x.safetensors", tree)
    encoder = read_bundle(path, PLAIN)[0].encoder
    assert encoder.spec.positions == positions
    assert encoder.spec.image_size == foreign.SIZE
    view = standardised(IMAGES).astype(np.float32)
    expected = [foreign.tokens(image, inside(tree, prefix)) for image in view]
    np.testing.assert_allclose(jax.jit(encoder)(view), expected, atol=1e-5)


@pytest.mark.parametrize("tree", [file[0] for file in FILES.values()], ids=FILES.keys())
def test_torch_file_gives_the_same_bundle_as_safetensors(tmp_path, tree):
    for path, write in (
        ("x.safetensors", foreign.write_safetensors),
        ("x.pth", foreign.write_torch),
    ):
        import_weights(write(tmp_path / path, tree), tmp_path / path[2:], PLAIN)
    same = {load_bundle(tmp_path / name).fingerprint for name in ("safetensors", "pth")}
    assert len(same) == 1


def test_class_token_without_a_position(tmp_path):
    tensors = foreign.vit(class_token=True)
    tensors["pos_embed"] = tensors["pos_embed"][:, 1:]  # timm's no_embed_class
    path = foreign.write_safetensors(tmp_path / "x.safetensors", tensors)
    encoder = read_bundle(path, PLAIN)[0].encoder
    np.testing.assert_array_equal(encoder.class_token[...], tensors["cls_token"][0, 0])
    np.testing.assert_array_equal(encoder.positions[...], tensors["pos_embed"][0])


def test_other_numbers_become_float32(tmp_path):
    tensors = {name: a.astype(ml_dtypes.bfloat16) for name, a in foreign.vit().items()}
    path = tmp_path / "x.safetensors"
    safetensors.flax.save_file({name: jax.numpy.asarray(a) for name, a in tensors.items()}, path)
    arrays = named_arrays(read_bundle(path, PLAIN)[0].encoder)
    assert {str(array.dtype) for array in arrays.values()} == {"float32"}
    expected = tensors["blocks.1.mlp.fc2.bias"].astype(np.float32)
    np.testing.assert_array_equal(arrays["blocks/mlp/down/bias"][1], expected)


# --- the bundle


def test_bundle_embeds_pictures_by_imagenets_statistics(tmp_path, capsys):
    tree = foreign.mae()
    file = foreign.write_torch(tmp_path / "mae.pth", tree)
    assert cli.main(["import", str(file), str(tmp_path / "out"), "--heads", "2"]) == 0
    bundle = load_bundle(tmp_path / "out")
    weights = inside(tree, "model.")
    pooled = np.stack([foreign.tokens(image, weights).mean(0) for image in standardised(IMAGES)])
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(Embedder(bundle)({"rgb": IMAGES}), expected, atol=1e-5)
    out = capsys.readouterr().out
    for said in (
        "taken: model.* of mae.pth: 2 layers of 16, 2 heads, 4 px patches, a class token",
        "positions: 3 x 3, sine-cosine",
        "left out: decoder_embed (1 tensors), decoder_pred (1 tensors), mask_token (1 tensors)",
        "bands: red, green, blue, as they are",
        "mean 123.675, 116.28, 103.53, std 58.395, 57.12, 57.375, of ImageNet",
        f"--config.model.weights={tmp_path / 'out'}",
    ):
        assert said in out
    assert artifacts.verify(tmp_path / "out") == []


def test_encoder_of_several_can_be_chosen(tmp_path):
    tree = foreign.ijepa()
    path = foreign.write_safetensors(tmp_path / "x.safetensors", tree)
    for chosen, name in ((None, "target_encoder"), ("encoder", "encoder")):
        bundle, notes = read_bundle(path, dataclasses.replace(PLAIN, encoder=chosen))
        expected = tree[name]["module.blocks.0.attn.proj.weight"].T
        np.testing.assert_array_equal(
            bundle.encoder.blocks.attention.project.kernel[...][0], expected
        )
        assert notes[0].startswith(f"taken: {name}.module.* of x.safetensors")
    other = dataclasses.replace(PLAIN, encoder="student")
    with pytest.raises(
        ConfigError, match=r"encoders \['encoder', 'target_encoder'\], got 'student'"
    ):
        read_bundle(path, other)


@pytest.mark.parametrize(
    ("dim", "given", "heads"),
    [
        (192, None, 3),
        (768, None, 12),
        (1024, None, 16),
        (1280, None, 16),
        (1408, None, 16),
        (768, 8, 8),
    ],
)
def test_heads_of_the_known_sizes(tmp_path, dim, given, heads):
    shapes = {
        **{"patch_embed.proj.weight": (dim, 3, 14, 14), "pos_embed": (1, 256, dim)},
        **{"blocks.0.mlp.fc1.weight": (4 * dim, dim), "blocks.1.norm1.weight": (dim,)},
    }
    spec, first = measure(Tensors(WeightFile(tmp_path, shapes, shapes.get), ""), given)
    assert (spec.num_heads, spec.image_size, spec.depth, first) == (heads, 16 * 14, 2, 0)


@pytest.mark.parametrize(("given", "got"), [(None, "no"), (3, "3"), (-2, "-2")])
def test_other_numbers_of_heads_have_to_be_given(tmp_path, given, got):
    path = foreign.write_safetensors(tmp_path / "x.safetensors", foreign.vit())
    with pytest.raises(ConfigError, match=f"got {got} heads for 16 features, expected .*--heads"):
        read_bundle(path, dataclasses.replace(PLAIN, heads=given))


def test_mlp_ratio_gives_the_width_back_whatever_rounding_does():
    for dim in (192, 1152, 1408, 1664):
        for hidden in range(1, 6200):
            assert int(mlp_ratio(hidden, dim) * dim) == hidden


def test_other_sensor_gets_its_own_statistics_and_bands(tmp_path):
    path = foreign.write_safetensors(tmp_path / "x.safetensors", foreign.vit())
    wanted = dataclasses.replace(PLAIN, sensor="s2", bands=("B04", "B08"), record_size=120)
    bundle, notes = read_bundle(path, wanted)
    assert bundle.record.shape == (120, 120, 2)
    assert bundle.record.dtype == "uint16"
    given = bundle.preprocess.inputs["s2"]
    assert (given.mean, given.std) == ((590.236, 2218.946), (675.887, 1365.456))
    assert given.nodata == 0
    assert "bands: B04 from red; B08 from the mean; all times 3/2" in notes


def test_image_size_interpolates_even_fixed_positions(tmp_path):
    path = foreign.write_safetensors(tmp_path / "x.safetensors", foreign.vit(positions="sincos"))
    bundle, notes = read_bundle(path, dataclasses.replace(PLAIN, image_size=24))
    assert bundle.encoder.spec.positions == "learned"
    assert bundle.encoder.positions.shape == (36, foreign.DIM)
    assert "positions: learned ones from fixed ones, interpolated 3 x 3 -> 6 x 6 (bicubic)" in notes


def test_given_statistics(tmp_path):
    path = foreign.write_safetensors(tmp_path / "x.safetensors", foreign.vit())
    half = dataclasses.replace(PLAIN, mean=(127.5,) * 3, std=(127.5,) * 3)
    bundle, notes = read_bundle(path, half)
    assert bundle.preprocess.inputs["rgb"].mean == (127.5,) * 3
    assert notes[-1].endswith("std 127.5, 127.5, 127.5, as given")
    for bad in ({"mean": (1.0,)}, {"mean": (1.0,) * 3, "std": (0.0,) * 3}, {"std": (1.0,) * 3}):
        with pytest.raises(ConfigError, match=r"expected one number a band \(red, green, blue\)"):
            read_bundle(path, dataclasses.replace(PLAIN, **bad))


# --- files that do not fit


def refuse(tmp_path, changes, match, error=DataError, **settings):
    tensors = foreign.vit(class_token=True) | changes
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    path = foreign.write_safetensors(tmp_path / "x.safetensors", tensors)
    with pytest.raises(error, match=match):
        read_bundle(path, dataclasses.replace(PLAIN, **settings))


def zeros(*shape):
    return np.zeros(shape, np.float32)


WRONG = {
    "no ViT": ({"patch_embed.proj.weight": None}, r"no tensor 'patch_embed\.proj\.weight' \(but"),
    "oblong patches": (
        {"patch_embed.proj.weight": zeros(16, 3, 4, 5)},
        r"'patch_embed\.proj\.weight': got patches of 4 x 5, expected square ones; give the",
    ),
    "video patches": (
        {"patch_embed.proj.weight": zeros(16, 3, 2, 4, 4)},
        r"'patch_embed\.proj\.weight': got the shape \[16, 3, 2, 4, 4\], expected 4 dimensions",
    ),
    "patch size": (
        {"pos_embed": zeros(1, 13, 16)},
        r"'pos_embed': got \[1, 13, 16\], expected \[1, n, 16\] for a square grid of n patches, n",
    ),
    "no positions": (
        {"pos_embed": None},
        r"'pos_embed': got no such tensor, expected one of 3 dim",
    ),
    "width": (
        {"blocks.1.attn.qkv.weight": zeros(24, 8)},
        r"'blocks\.1\.attn\.qkv\.weight': got the shape \[24, 8\], expected \[48, 16\]",
    ),
    "a layer lost": (
        {"blocks.0.norm2.bias": None},
        r"'blocks\.0\.norm2\.bias': got no such tensor, expected one of 1 dimensions",
    ),
    "not finite": (
        {"norm.bias": np.full(16, math.nan, np.float32)},
        r"'norm\.bias': got 16 numbers not finite, expected none",
    ),
    "layer scale": (
        {"blocks.0.ls1.gamma": zeros(16)},
        r"'blocks\.0\.ls1\.gamma': got a part that our encoder does not have",
    ),
    "registers": ({"reg_token": zeros(1, 4, 16)}, r"'reg_token': got a part that our encoder"),
}


@pytest.mark.parametrize(("changes", "match"), WRONG.values(), ids=WRONG.keys())
def test_weights_that_do_not_fit_are_refused_by_tensor(tmp_path, changes, match):
    refuse(tmp_path, changes, rf"x\.safetensors.*{match}")


def test_unnamed_bands_are_refused(tmp_path):
    kernel = {"patch_embed.proj.weight": zeros(16, 12, 4, 4)}
    match = (
        r"'patch_embed\.proj\.weight' has 12 bands, got 0 names \(\); name them with --file_bands"
    )
    refuse(tmp_path, kernel, match, ConfigError)
    refuse(
        tmp_path, {}, r"has 3 bands, got 2 names \(VV, VH\)", ConfigError, file_bands=("VV", "VH")
    )


def test_bands_that_the_sensor_does_not_have_are_refused(tmp_path):
    refuse(tmp_path, {}, "got B04, expected some of red, green", ConfigError, bands=("B04",))
    refuse(tmp_path, {}, "got 'spot', expected one of s1, s2, ", ConfigError, sensor="spot")


def test_image_size_that_is_no_multiple_of_the_patch_is_refused(tmp_path):
    match = r"--image_size 18: tensor 'patch_embed\.proj\.weight' of .* has patches of 4 px; give a"
    refuse(tmp_path, {}, match, ConfigError, image_size=18)


def test_exit_codes(tmp_path, caplog):
    missing = ["import", str(tmp_path / "no.pth"), str(tmp_path / "out")]
    assert cli.main(missing) == 3
    assert "no.pth: no such file; give a .safetensors file or a torch checkpoint" in caplog.text
    (tmp_path / "bad.safetensors").write_bytes(b"not such a file")
    assert cli.main(["import", str(tmp_path / "bad.safetensors"), str(tmp_path / "out")]) == 3
    assert "bad.safetensors: got a file that is damaged or not safetensors" in caplog.text
    path = foreign.write_safetensors(tmp_path / "x.safetensors", foreign.vit())
    assert cli.main(["import", str(path), str(tmp_path / "out")]) == 2
    assert "--heads" in caplog.text
    assert not list(tmp_path.glob("out*"))


def test_file_in_the_way_is_refused_and_stays(tmp_path):
    path = foreign.write_safetensors(tmp_path / "x.safetensors", foreign.vit())
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ConfigError, match=r"taken: got a file there, .*; give another directory"):
        import_weights(path, tmp_path / "taken", PLAIN)
    assert (tmp_path / "taken").read_text() == "mine"
