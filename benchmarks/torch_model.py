"""REJEPA at the paper's settings in PyTorch, written from its equations; needs nothing of ours.

It is meant to be hard to beat: query, key and value of all heads in one product, fused attention,
no graph for the target encoder. Products with weights go to oneDNN, forward and backward, where
asked for: the BLAS that PyTorch calls otherwise uses half of the vector units of a processor that
is not Intel's.
"""

import dataclasses

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The step's sizes; the defaults are ViT-B/16 and the paper's settings."""

    batch_size: int = 16
    image_size: int = 224
    patch_size: int = 16
    bands: int = 3
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    predictor_dim: int = 384
    predictor_depth: int = 12
    predictor_heads: int = 12
    targets: int = 49
    products: str = "onednn"  # onednn | blas


class OneDnnLinear(torch.autograd.Function):
    """A dense layer, its product and the two of its gradient by oneDNN."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        rows = x.reshape(-1, x.shape[-1])
        grad_x = product(grad, weight.t()).view(x.shape) if ctx.needs_input_grad[0] else None
        return grad_x, product(grad.t(), rows.t()), grad.sum(0)


def product(x, weight, bias=None):
    """Multiplies: x @ weight.T + bias, by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class Linear(nn.Linear):
    """A dense layer, by oneDNN where asked for."""

    by_onednn = False

    def forward(self, x):
        if Linear.by_onednn:
            return OneDnnLinear.apply(x, self.weight, self.bias)
        return functional.linear(x, self.weight, self.bias)


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, EPS), nn.LayerNorm(dim, EPS)
        self.qkv, self.project = Linear(dim, 3 * dim), Linear(dim, dim)
        self.up, self.down = Linear(dim, 4 * dim), Linear(4 * dim, dim)

    def forward(self, x):
        b, n, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.project(mixed.transpose(1, 2).reshape(b, n, d))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


def positions(grid, dim):
    """Sine-cosine positions: columns in the first half of the features, rows in the second."""
    rows, columns = np.divmod(np.arange(grid**2), grid)
    frequency = 10000.0 ** (-np.arange(dim // 4) / (dim // 4))
    angles = [axis[:, None] * frequency for axis in (columns, rows)]
    parts = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32))


def gather(tokens, indices):
    """Each image's tokens at its own indices."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[-1]))


class Encoder(nn.Module):
    """A ViT over some of an image's patches, or all."""

    def __init__(self, sizes):
        super().__init__()
        self.patch, dim = sizes.patch_size, sizes.embed_dim
        self.embed = Linear(sizes.patch_size**2 * sizes.bands, dim)
        self.blocks = nn.ModuleList(Block(dim, sizes.num_heads) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(dim, EPS)
        table = positions(sizes.image_size // sizes.patch_size, dim)
        self.register_buffer("positions", table[None].repeat(sizes.batch_size, 1, 1))

    def forward(self, image, indices=None):
        b, side, _, bands = image.shape
        grid = side // self.patch
        patches = image.view(b, grid, self.patch, grid, self.patch, bands)
        patches = patches.permute(0, 1, 3, 2, 4, 5).reshape(b, grid**2, -1)
        places = self.positions
        if indices is not None:
            patches, places = gather(patches, indices), gather(places, indices)
        x = self.embed(patches) + places
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Predictor(nn.Module):
    """A narrower transformer over the context and one mask token for each hidden patch."""

    def __init__(self, sizes):
        super().__init__()
        dim = sizes.predictor_dim
        self.embed, self.project = Linear(sizes.embed_dim, dim), Linear(dim, sizes.embed_dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))
        blocks = (Block(dim, sizes.predictor_heads) for _ in range(sizes.predictor_depth))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim, EPS)
        table = positions(sizes.image_size // sizes.patch_size, dim)
        self.register_buffer("positions", table)

    def forward(self, context, seen, hidden):
        known = self.embed(context) + self.positions[seen]
        x = torch.cat([known, self.mask_token + self.positions[hidden]], 1)
        for block in self.blocks:
            x = block(x)
        return self.project(self.norm(x[:, -hidden.shape[1] :]))


def step_loss(context_encoder, target_encoder, predictor, image, seen, hidden):
    """Prediction error plus 0.001 of VICReg (25 variance, 1 covariance, 25 invariance)."""
    with torch.no_grad():
        whole = target_encoder(image)
        target = gather(functional.layer_norm(whole, whole.shape[-1:], eps=1e-5), hidden)
    context = context_encoder(image, seen)
    predicted = predictor(context, seen, hidden)
    pooled = context.mean(1)
    centred = pooled - pooled.mean(0)
    free = len(pooled) - 1
    variance = functional.relu(1 - (centred.square().sum(0) / free + 1e-4).sqrt()).mean()
    covariance = centred.T @ centred / free
    off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
    invariance = functional.mse_loss(predicted.mean(1), target.mean(1))
    vicreg = 25 * variance + off_diagonal / pooled.shape[1] + 25 * invariance
    return functional.mse_loss(predicted, target) + 0.001 * vicreg
