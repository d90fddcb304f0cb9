"""Against timm and torch themselves."""

import argparse
import datetime
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
import toys
from flax import nnx

from rejepa_jax.data.examples import Sensor
from rejepa_jax.data.preprocess import Preprocess, SensorInput, plain_view
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.encoder import Bundle, Embedder, save_bundle
from rejepa_jax.retrieval.weights.exporting import export_weights
from rejepa_jax.retrieval.weights.importing import Import, read_bundle
from rejepa_jax.retrieval.weights.torch_file import open_torch
from rejepa_jax.types import DataError

pytestmark = pytest.mark.interop
PLAIN = Import(None, 4, (), "rgb", (), None, None, (), (), "mean")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def timm(torch):
    """The package; beside a torch without CUDA, its torchvision may lack two operators."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return pytest.importorskip("timm")


def random_vit(timm, torch, **changes):
    """A ViT as timm initialises it, moved a little: biases and norms too."""
    torch.manual_seed(0)
    sizes = {"img_size": 48, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 4}
    model = timm.models.VisionTransformer(**sizes, num_classes=5, **changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


VARIANTS = {
    "class token": {"class_token": True, "global_pool": "token"},
    "no class token": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "mean pooled": {"class_token": True, "global_pool": "avg"},
    "class token without a position": {"no_embed_class": True, "global_pool": "token"},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_tokens_equal_timms(timm, torch, tmp_path, variant):
    model = random_vit(timm, torch, **variant)
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "vit.pth")
    encoder = read_bundle(tmp_path / "vit.pth", PLAIN)[0].encoder
    image = np.random.default_rng(0).normal(size=(2, 48, 48, 3)).astype(np.float32)
    with torch.no_grad():
        tokens = model.forward_features(torch.from_numpy(image).permute(0, 3, 1, 2))
        tokens = model.fc_norm(tokens)[:, model.num_prefix_tokens :]
    assert tokens.std() > 0.5
    np.testing.assert_allclose(jax.jit(encoder)(image), tokens.numpy(), rtol=0, atol=1e-4)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("class_token", [False, True])
def test_timm_loads_what_the_card_says(torch, tmp_path, monkeypatch, class_token):
    positions = "learned" if class_token else "fixed"
    spec = EncoderSpec(16, 8, 2, 16, 2, 2, 4.0, "float32", class_token, positions)
    bundle = Bundle(
        name="target",
        encoder=toys.filled(lambda: Encoder(spec, rngs=nnx.Rngs(0)), seed=11),
        preprocess=Preprocess(16, {"s1": SensorInput((0, 1), (-12.0, -19.0), (5.0, 6.0), None)}),
        sensor="s1",
        record=Sensor(("VV", "VH"), "float32", 20, 20),
        pool="mean",
        step=1,
    )
    save_bundle(bundle, tmp_path / "bundle")
    export_weights(tmp_path / "bundle", tmp_path / "out", None)
    monkeypatch.chdir(tmp_path / "out")
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.S)
    names = {}
    exec(next(block for block in blocks if "import timm" in block), names)

    images = {"s1": np.random.default_rng(1).normal(-15, 5, (3, 20, 20, 2)).astype(np.float32)}
    view = np.array(jax.jit(lambda images: plain_view(images, bundle.preprocess))(images)["s1"])
    with torch.no_grad():
        pooled = names["encoder"].eval()(torch.from_numpy(view).permute(0, 3, 1, 2)).numpy()
    got = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(got, Embedder(bundle)(images), rtol=0, atol=1e-5)


def test_checkpoints_of_torch_are_read_without_torch(torch, tmp_path):
    layer = torch.nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    tree = {
        "model": layer.state_dict(),
        "parameters": dict(layer.named_parameters()),
        "half": {"a": layer.weight.detach().half(), "b": layer.weight.detach().bfloat16()},
        "views": {"a": layer.weight.detach().T, "b": layer.weight.detach()[1:, 1:]},
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, betas=(0.9, 0.95), name=None),
        "epoch": 7,
    }
    for protocol in (2, 4):
        torch.save(tree, tmp_path / "x.pth", pickle_protocol=protocol)
        file = open_torch(tmp_path / "x.pth")
        weight = layer.weight.detach().numpy()
        for name, expected in (
            ("model.weight", weight),
            ("parameters.bias", layer.bias.detach().numpy()),
            ("views.a", weight.T),
            ("views.b", weight[1:, 1:]),
            ("half.a", tree["half"]["a"].numpy()),
            ("half.b", tree["half"]["b"].float().numpy()),
            ("optimizer.state.0.exp_avg", optimizer.state_dict()["state"][0]["exp_avg"].numpy()),
        ):
            np.testing.assert_array_equal(file.read(name).astype(expected.dtype), expected)


def test_whole_models_and_old_files_are_refused(torch, tmp_path):
    torch.save(torch.nn.Linear(3, 4), tmp_path / "model.pth")
    with pytest.raises(DataError, match=r"got a call for torch\.nn\.modules\.linear\.Linear"):
        open_torch(tmp_path / "model.pth")
    state = torch.nn.Linear(3, 4).state_dict()
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(
        DataError, match=r"since version 1\.6\. If it is an older torch file: where"
    ):
        open_torch(tmp_path / "old.pth")


def test_the_command_in_the_message_converts_a_file(torch, tmp_path):
    tree = {"model": torch.nn.Linear(3, 4).state_dict(), "when": datetime.datetime(2026, 1, 1)}
    path = tmp_path / "x.pth"
    torch.save(tree, path)
    with pytest.raises(DataError, match=r"datetime\.datetime") as caught:
        open_torch(path)
    command = re.search(r'python (-c) "(.*?)" \(I-JEPA', str(caught.value))
    subprocess.run([sys.executable, *command.groups()], check=True)
    converted = safetensors.numpy.load_file(f"{path}.safetensors")
    np.testing.assert_array_equal(converted["weight"], tree["model"]["weight"].numpy())
