"""An encoder in the names and shapes of timm's VisionTransformer, which I-JEPA's and MAE's share.

ours                             theirs
patch_embed/kernel   [p·p·c d]   patch_embed.proj.weight   [d c p p]
blocks/X/kernel      [l i o]     blocks.N.X.weight         [o i], for each of the l layers
class_token          [d]         cls_token                 [1 1 d], added to pos_embed's first
positions            [n d]       pos_embed                 [1 n d], or [1 1+n d] with cls_token
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from rejepa_jax.models.arrays import named_arrays, with_arrays
from rejepa_jax.models.position import sincos_positions
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.encoder import abstract_encoder

PATCHES, CLASS, POSITIONS = "patch_embed.proj.weight", "cls_token", "pos_embed"
MODULES = {
    "patch_embed": "patch_embed.proj",
    "attention/qkv": "attn.qkv",
    "attention/project": "attn.proj",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
}
Array32 = Float32[np.ndarray, "..."]
Read = Callable[[str, tuple[int, ...]], Array32]  # the tensor of this name and shape


def from_timm(
    spec: EncoderSpec,
    read: Read,
    class_token: Float[np.ndarray, " d"] | None,
    positions: Float[np.ndarray, "n d"] | None,
) -> Encoder:
    """Builds the encoder that `spec` describes out of the tensors that `read` gives."""
    like = abstract_encoder(spec)
    arrays: dict[str, Any] = {"class_token": class_token, "positions": positions}
    for name, leaf in named_arrays(like).items():
        if name == "patch_embed/kernel":
            shape = (spec.embed_dim, spec.bands, spec.patch_size, spec.patch_size)
            arrays[name] = read(PATCHES, shape).transpose(2, 3, 1, 0).reshape(leaf.shape)
        elif name.startswith("blocks/"):
            shape = leaf.shape[:0:-1]
            layers = [read(_name(name, layer), shape).T for layer in range(spec.depth)]
            arrays[name] = np.stack(layers)
        elif name not in arrays:
            arrays[name] = read(_name(name), leaf.shape[::-1]).T
    wanted = {name: jnp.asarray(arrays[name]) for name in named_arrays(like)}
    return with_arrays(like, wanted, "the imported encoder")


def to_timm(encoder: Encoder) -> dict[str, Array32]:
    """Returns the tensors that a timm VisionTransformer of the encoder's sizes loads.

    A class token's position is part of the token, so its row among the positions is zero.
    """
    spec = encoder.spec
    ours = {name: np.asarray(array) for name, array in named_arrays(encoder).items()}
    tensors = {}
    positions = position_table(encoder)
    if spec.class_token:
        tensors[CLASS] = ours.pop("class_token")[None, None]
        positions = np.concatenate([np.zeros_like(positions[:1]), positions])
    tensors[POSITIONS] = positions[None]
    ours.pop("positions", None)
    patches = ours.pop("patch_embed/kernel")
    patches = patches.reshape(spec.patch_size, spec.patch_size, spec.bands, spec.embed_dim)
    tensors[PATCHES] = patches.transpose(3, 2, 0, 1)
    for name, array in ours.items():
        if name.startswith("blocks/"):
            tensors |= {_name(name, layer): part.T for layer, part in enumerate(array)}
        else:
            tensors[_name(name)] = array.T
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def position_table(encoder: Encoder) -> Float32[np.ndarray, "n d"]:
    """Returns the encoder's positions, learned or fixed, in float32 whatever its activations."""
    if encoder.spec.positions == "learned":
        return np.asarray(encoder.positions[...])
    return sincos_positions(encoder.spec.grid_size, encoder.spec.embed_dim)


def _name(ours: str, layer: int | None = None) -> str:
    """Names an array of a dense layer or a norm as timm does."""
    module, _, kind = ours.removeprefix("blocks/").rpartition("/")
    block = "" if layer is None else f"blocks.{layer}."
    return f"{block}{MODULES.get(module, module)}.{'bias' if kind == 'bias' else 'weight'}"
