"""The transformer written a second time, in plain numpy and loops, one image at a time, in float64.

Arrays are looked up by the names they have on disk, such as `blocks/attention/qkv/kernel`.
"""

import math

import numpy as np

from rejepa_jax.models.arrays import named_arrays

ERF = np.vectorize(math.erf)


def weights(module):
    """Gives a module's arrays by name, in float64."""
    return {name: np.asarray(array, np.float64) for name, array in named_arrays(module).items()}


def positions(grid_size, dim):
    """One vector a patch, row by row: sin and cos of the column, then sin and cos of the row."""
    quarter = dim // 4
    table = np.zeros((grid_size * grid_size, dim))
    for row in range(grid_size):
        for column in range(grid_size):
            for half, place in enumerate((column, row)):
                for i in range(quarter):
                    angle = place / 10000 ** (i / quarter)
                    start = half * 2 * quarter
                    table[row * grid_size + column, start + i] = math.sin(angle)
                    table[row * grid_size + column, start + quarter + i] = math.cos(angle)
    return table


def patches(image, size):
    """Cuts [h w c] into rows of flattened squares."""
    rows = []
    for top in range(0, image.shape[0], size):
        for left in range(0, image.shape[1], size):
            rows.append(image[top : top + size, left : left + size].reshape(-1))
    return np.stack(rows).astype(np.float64)


def dense(x, arrays, name):
    return x @ arrays[f"{name}/kernel"] + arrays[f"{name}/bias"]


def norm(x, arrays, name):
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred / spread * arrays[f"{name}/scale"] + arrays[f"{name}/bias"]


def attention(x, arrays, name, heads):
    d = x.shape[1]
    width = d // heads
    query, key, value = np.split(dense(x, arrays, f"{name}/qkv"), 3, axis=1)
    mixed = np.zeros_like(x)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(width))
        mixed[:, part] = scores / scores.sum(1, keepdims=True) @ value[:, part]
    return dense(mixed, arrays, f"{name}/project")


def mlp(x, arrays, name):
    hidden = dense(x, arrays, f"{name}/up")
    return dense(0.5 * hidden * (1 + ERF(hidden / math.sqrt(2))), arrays, f"{name}/down")


def run_blocks(x, arrays, heads):
    """Runs every layer of the stacked arrays under `blocks/`."""
    stacked = {name: a for name, a in arrays.items() if name.startswith("blocks/")}
    for layer in range(len(stacked["blocks/norm1/scale"])):
        here = {name: array[layer] for name, array in stacked.items()}
        x = x + attention(norm(x, here, "blocks/norm1"), here, "blocks/attention", heads)
        x = x + mlp(norm(x, here, "blocks/norm2"), here, "blocks/mlp")
    return x


def encode(image, arrays, spec, indices=None):
    """Tokens of one image [h w c], of all its patches or of those at `indices`."""
    grid = image.shape[0] // spec.patch_size
    tokens = dense(patches(image, spec.patch_size), arrays, "patch_embed")
    tokens = tokens + positions(grid, spec.embed_dim)
    tokens = tokens if indices is None else tokens[np.asarray(indices)]
    return norm(run_blocks(tokens, arrays, spec.num_heads), arrays, "norm")


def predict(context, context_indices, target_indices, arrays, grid_size, heads):
    """Features of one target group [t], from one image's context tokens [k d]."""
    table = positions(grid_size, len(arrays["mask_token"]))
    known = dense(context, arrays, "embed") + table[np.asarray(context_indices)]
    asked = arrays["mask_token"] + table[np.asarray(target_indices)]
    tokens = run_blocks(np.concatenate([known, asked]), arrays, heads)
    return dense(norm(tokens[len(known) :], arrays, "norm"), arrays, "project")
