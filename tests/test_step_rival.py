"""benchmarks/torch_model.py computes what the package computes."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toys import filled

from rejepa_jax.config import Loss, Vicreg
from rejepa_jax.methods import losses
from rejepa_jax.methods.vicreg import vicreg_terms
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.models.predictor import Predictor, PredictorSpec
from rejepa_jax.models.vit import Encoder, EncoderSpec, gather_tokens
from rejepa_jax.types import Masks

pytestmark = pytest.mark.interop
SPEC = EncoderSpec(32, 8, 3, 32, 2, 4, 4.0, "float32")
PREDICTOR = PredictorSpec(16, 2, 2, 32)
BATCH, TARGETS = 4, 4
rng = np.random.default_rng(4)
IMAGE = rng.normal(size=(BATCH, 32, 32, 3)).astype(np.float32)
ORDER = rng.permuted(np.tile(np.arange(16), (BATCH, 1)), axis=1)
SEEN, HIDDEN = ORDER[:, :-TARGETS], ORDER[:, -TARGETS:]


@pytest.fixture(scope="module")
def rival():
    """The module, which is no part of the package."""
    pytest.importorskip("torch")
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))
    try:
        import torch_model
    finally:
        sys.path.pop(0)
    return torch_model


def our_loss(trained, average):
    """The step's loss at the default settings, on masks that are given."""
    masks = Masks(
        context=jnp.asarray(SEEN),
        target=jnp.asarray(HIDDEN)[:, None],
        context_valid=None,
        target_valid=None,
    )
    context = trained["context_encoder"](jnp.asarray(IMAGE), masks["context"])
    predicted = trained["predictor"](context, masks)
    whole = losses.normalise_targets(average(jnp.asarray(IMAGE)), "layer")
    target = gather_tokens(whole, jnp.asarray(HIDDEN))[:, None]
    vicreg = Vicreg()
    terms = vicreg_terms(vicreg, Loss(), None, context, predicted, target, masks)
    prediction = losses.prediction_loss(predicted, target, Loss())
    return prediction + vicreg.weight * terms["vicreg_loss"]


WITHIN = {"qkv": "attention/qkv", "project": "attention/project"}
WITHIN |= {"up": "mlp/up", "down": "mlp/down"}


def ours(arrays, name, outside):
    """Returns our array of a torch parameter's name, laid out as torch has it."""
    *path, last = name.split(".")
    layer = int(path.pop(1)) if path[:1] == ["blocks"] else None
    path = [WITHIN.get(step, step) for step in path] if layer is not None else path
    path = [outside.get(step, step) for step in path]
    if last == "weight":
        last = "scale" if "norm" in path[-1] else "kernel"
    array = np.asarray(arrays["/".join([*path, last])])
    array = array if layer is None else array[layer]
    return array.T if last == "kernel" else array


def in_torch(torch, module, arrays, outside):
    """Gives a torch module our arrays."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.tensor(ours(arrays, name, outside)))
    return module


@pytest.mark.parametrize("products", ["blas", "onednn"])
def test_the_rival_has_the_same_loss_and_the_same_gradients(rival, products):
    torch = pytest.importorskip("torch")
    rival.Linear.by_onednn = products == "onednn"
    trained = {
        "context_encoder": filled(lambda: Encoder(SPEC, rngs=nnx.Rngs(0)), seed=1),
        "predictor": filled(lambda: Predictor(PREDICTOR, SPEC, rngs=nnx.Rngs(0)), seed=2),
    }
    average = filled(lambda: Encoder(SPEC, rngs=nnx.Rngs(0)), seed=3)
    wanted, gradients = jax.jit(jax.value_and_grad(our_loss))(trained, average)

    sizes = rival.Sizes(BATCH, 32, 8, 3, 32, 2, 4, 16, 2, 2, TARGETS)
    patches = {"embed": "patch_embed"}
    context, target = (
        in_torch(torch, rival.Encoder(sizes), named_arrays(encoder), patches)
        for encoder in (trained["context_encoder"], average)
    )
    predictor = in_torch(torch, rival.Predictor(sizes), named_arrays(trained["predictor"]), {})
    image, seen, hidden = (torch.tensor(array) for array in (IMAGE, SEEN, HIDDEN))
    got = rival.step_loss(context, target, predictor, image, seen, hidden)
    got.backward()

    assert float(wanted) > 0.1
    np.testing.assert_allclose(got.item(), wanted, rtol=1e-5)
    for module, key, outside in (
        (context, "context_encoder", patches),
        (predictor, "predictor", {}),
    ):
        arrays = named_arrays(gradients[key])
        for name, parameter in module.named_parameters():
            grad = ours(arrays, name, outside)
            atol = 1e-4 * np.abs(grad).max()
            np.testing.assert_allclose(parameter.grad, grad, atol=atol, rtol=0, err_msg=name)
