"""The encoder in a file of I-JEPA, MAE or timm, found and measured by the names it holds.

All three name the parts of a ViT alike (`vit_names.py`) and differ in what stands around it:

    I-JEPA   encoder.module.*, target_encoder.module.*, predictor.*, opt.*; no class token
    MAE      model.*, with a class token and, as training leaves it, decoder_*
    timm     bare names, with head.*, and fc_norm.* for norm.* where the model pools the mean
"""

import collections
import dataclasses
import math
from typing import NoReturn

import numpy as np

from rejepa_jax.models.position import sincos_positions
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.weights.vit_names import CLASS, PATCHES, POSITIONS, Array32, from_timm
from rejepa_jax.retrieval.weights.weight_file import WeightFile
from rejepa_jax.types import ConfigError, DataError

PREFERRED = "target_encoder"
HEAD_WIDTH = 64  # features a head in ViT of the sizes up to L; the larger ones:
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}  # by width: So, H, g, G
MLP = "blocks.0.mlp.fc1.weight"
BESIDE = ("decoder_", "mask_token", "head.", "fc_norm.")  # not part of what gives the tokens
SAME_TABLE = 1e-5


class Tensors:
    """The tensors of one encoder in a file, and which of them were read."""

    def __init__(self, file: WeightFile, prefix: str):
        self.file, self.prefix = file, prefix
        self.shapes = {
            name.removeprefix(prefix): shape
            for name, shape in file.shapes.items()
            if name.startswith(prefix)
        }
        self.unread = set(self.shapes)

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Returns a tensor's shape; raises a DataError if it is missing or of other rank."""
        shape = self.shapes.get(name)
        if shape is None:
            self.refuse(name, "no such tensor", f"one of {dimensions} dimensions")
        if len(shape) != dimensions:
            self.refuse(name, f"the shape {list(shape)}", f"{dimensions} dimensions")
        return shape

    def read(self, name: str, shape: tuple[int, ...]) -> Array32:
        """Reads a tensor as float32; raises a DataError unless it has this shape and is finite."""
        if name.startswith("norm.") and name not in self.shapes:
            name = f"fc_{name}"
        if self.shape(name, len(shape)) != shape:
            self.refuse(name, f"the shape {list(self.shapes[name])}", str(list(shape)))
        array = self.file.read(self.prefix + name).astype(np.float32)
        if not np.isfinite(array).all():
            self.refuse(name, f"{(~np.isfinite(array)).sum()} numbers not finite", "none")
        self.unread.discard(name)
        return array

    def refuse(self, name: str, got: str, expected: str) -> NoReturn:
        """Raises a DataError about a tensor."""
        raise DataError(
            f"{self.file.path}: tensor {self.prefix + name!r}: got {got}, expected {expected}; "
            "give the weights of a ViT as I-JEPA, MAE or timm write it"
        )


def read_vit(file: WeightFile, chosen: str | None, heads: int | None) -> tuple[Encoder, list[str]]:
    """Returns the encoder as the file has it, in its own bands and positions, and what was done.

    The first row of a table with a class position is added to the class token. A table that equals
    our sine-cosine one becomes fixed positions, any other learned ones.

    Args:
        file: the weights.
        chosen: which encoder, where the file has several; None takes `target_encoder`.
        heads: attention heads, which no shape shows; None assumes those of the known sizes of ViT.

    Raises:
        DataError: a tensor is missing, left over, or of a wrong shape.
        ConfigError: the encoder or the number of heads has to be said.
    """
    tensors = Tensors(file, _find_prefix(file, chosen))
    spec, first = measure(tensors, heads)
    table = tensors.read(POSITIONS, tensors.shapes[POSITIONS])[0]
    class_token, positions = None, table[first:]
    if spec.class_token:
        class_token = tensors.read(CLASS, (1, 1, spec.embed_dim))[0, 0] + table[:first].sum(0)
    fixed = sincos_positions(spec.grid_size, spec.embed_dim // 4 * 4)
    if fixed.shape == positions.shape and np.allclose(positions, fixed, rtol=0, atol=SAME_TABLE):
        spec = dataclasses.replace(spec, positions="fixed")
    encoder = from_timm(spec, tensors.read, class_token, positions)
    return encoder, _notes(tensors, spec, heads)


def _find_prefix(file: WeightFile, chosen: str | None) -> str:
    """Returns what stands before the names of the encoder's tensors."""
    prefixes = {
        name.split(".")[0] if name != PATCHES else "": name.removesuffix(PATCHES)
        for name in file.shapes
        if f".{name}".endswith(f".{PATCHES}")
    }
    if not prefixes:
        shown = ", ".join(list(file.shapes)[:5]) or "nothing"
        raise DataError(
            f"{file.path}: got no tensor {PATCHES!r} (but {shown}, ...), expected the weights of "
            "a ViT as I-JEPA, MAE or timm write it"
        )
    only = next(iter(prefixes)) if len(prefixes) == 1 else PREFERRED
    if (chosen or only) not in prefixes:
        raise ConfigError(
            f"{file.path} has the encoders {sorted(prefixes)}, got "
            f"{chosen!r}; name one of them with --encoder"
        )
    return prefixes[chosen or only]


def measure(tensors: Tensors, heads: int | None) -> tuple[EncoderSpec, int]:
    """Returns the encoder's sizes, with learned positions, and how many of those are no patch's."""
    dim, bands, patch, columns = tensors.shape(PATCHES, 4)
    if patch != columns:
        tensors.refuse(PATCHES, f"patches of {patch} x {columns}", "square ones")
    rows = tensors.shape(POSITIONS, 3)[1]
    has_class = CLASS in tensors.shapes
    first = int(has_class and math.isqrt(rows) ** 2 != rows)
    grid = math.isqrt(rows - first)
    if grid**2 != rows - first or tensors.shapes[POSITIONS] != (1, rows, dim):
        wanted = f"[1, n, {dim}] for a square grid of n patches{', n + 1' * has_class}"
        tensors.refuse(POSITIONS, str(list(tensors.shapes[POSITIONS])), wanted)
    hidden = tensors.shape(MLP, 2)[0]
    layers = [name.split(".")[1] for name in tensors.shapes if name.startswith("blocks.")]
    spec = EncoderSpec(
        image_size=grid * patch,
        patch_size=patch,
        bands=bands,
        embed_dim=dim,
        depth=max(int(layer) for layer in layers if layer.isdigit()) + 1,
        num_heads=_count_heads(tensors, dim, heads),
        mlp_ratio=mlp_ratio(hidden, dim),
        dtype="float32",
        class_token=has_class,
        positions="learned",
    )
    return spec, first


def _count_heads(tensors: Tensors, dim: int, given: int | None) -> int:
    """Returns the attention heads: as given, or those of the known sizes of ViT."""
    usual = HEADS.get(dim) or (dim // HEAD_WIDTH if dim % HEAD_WIDTH == 0 else 0)
    heads = usual if given is None else given
    if heads < 1 or dim % heads:
        raise ConfigError(
            f"{tensors.file.path}: got {given or 'no'} heads for {dim} features, expected a number "
            "that divides them; give it with --heads"
        )
    return heads


def mlp_ratio(hidden: int, dim: int) -> float:
    """Returns the ratio of which `int(ratio * dim)` is `hidden`, whatever rounding does."""
    ratio = hidden / dim
    return ratio if int(ratio * dim) == hidden else math.nextafter(ratio, math.inf)


def _notes(tensors: Tensors, spec: EncoderSpec, heads: int | None) -> list[str]:
    """Says what was taken and what left out; refuses a tensor that would change the tokens."""
    for name in sorted(tensors.unread):
        if not name.startswith(BESIDE):
            tensors.refuse(name, "a part that our encoder does not have", "none such")
    beside = [n for n in tensors.file.shapes if not n.startswith(tensors.prefix)]
    left = collections.Counter(name.split(".")[0] for name in [*beside, *tensors.unread])
    assumed = " (assumed of this width)" if heads is None else ""
    token = "a class token" if spec.class_token else "no class token"
    return [
        f"taken: {tensors.prefix}* of {tensors.file.path.name}: {spec.depth} layers of "
        f"{spec.embed_dim}, {spec.num_heads} heads{assumed}, {spec.patch_size} px patches, {token}",
        f"positions: {spec.grid_size} x {spec.grid_size}, "
        + ("sine-cosine" if spec.positions == "fixed" else "a learned table"),
        "left out: " + (", ".join(f"{n} ({left[n]} tensors)" for n in sorted(left)) or "nothing"),
    ]
