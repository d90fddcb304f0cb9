"""The transformer written a second time, in plain numpy and loops, one image at a time, in float64.

Arrays are looked up by the names they have on disk, such as `blocks/attention/qkv/kernel`. They may
be complex and have more axes in front, from which `numpy_step` gets derivatives.
"""

import math

import numpy as np
from scipy import special

from rejepa_jax.models.arrays import named_arrays


def ERF(x):
    """The error function; of a complex number with a tiny imaginary part, to first order in it."""
    real = special.erf(x.real)
    if not np.iscomplexobj(x):
        return real
    return real + 2j / math.sqrt(math.pi) * np.exp(-(x.real**2)) * x.imag


def weights(module):
    """Gives a module's arrays by name, in float64."""
    return {name: np.asarray(array, np.float64) for name, array in named_arrays(module).items()}


def positions(grid_size, dim):
    """One vector a patch, row by row: sin and cos of the column, then sin and cos of the row.

    They are rounded to float32, as which the table is defined.
    """
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
    return table.astype(np.float32).astype(np.float64)


def patches(image, size):
    """Cuts [h w c] into rows of flattened squares."""
    rows = []
    for top in range(0, image.shape[0], size):
        for left in range(0, image.shape[1], size):
            rows.append(image[top : top + size, left : left + size].reshape(-1))
    return np.stack(rows).astype(np.float64)


def joined(parts):
    """Puts tokens one after the other; whatever axes some have in front, all get."""
    front = np.broadcast_shapes(*(part.shape[:-2] for part in parts))
    return np.concatenate(
        [np.broadcast_to(part, front + part.shape[-2:]) for part in parts], axis=-2
    )


def dense(x, arrays, name):
    return x @ arrays[f"{name}/kernel"] + arrays[f"{name}/bias"]


def norm(x, arrays, name):
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred / spread * arrays[f"{name}/scale"] + arrays[f"{name}/bias"]


def attention(x, arrays, name, heads, visible=True):
    """Self-attention; `visible[i, j]` says whether token i may look at token j."""
    width = x.shape[-1] // heads
    query, key, value = np.split(dense(x, arrays, f"{name}/qkv"), 3, axis=-1)
    mixed = []
    for head in range(heads):
        part = (..., slice(head * width, (head + 1) * width))
        scores = np.exp(query[part] @ key[part].swapaxes(-1, -2) / math.sqrt(width)) * visible
        mixed.append(scores / scores.sum(-1, keepdims=True) @ value[part])
    return dense(np.concatenate(mixed, axis=-1), arrays, f"{name}/project")


def mlp(x, arrays, name):
    hidden = dense(x, arrays, f"{name}/up")
    return dense(0.5 * hidden * (1 + ERF(hidden / math.sqrt(2))), arrays, f"{name}/down")


def run_blocks(x, arrays, heads, visible=True):
    """Runs every layer of the stacked arrays under `blocks/`."""
    stacked = {name: a for name, a in arrays.items() if name.startswith("blocks/")}
    for layer in range(len(stacked["blocks/norm1/scale"])):
        here = {name: array[layer] for name, array in stacked.items()}
        x = x + attention(norm(x, here, "blocks/norm1"), here, "blocks/attention", heads, visible)
        x = x + mlp(norm(x, here, "blocks/norm2"), here, "blocks/mlp")
    return x


def encode(image, arrays, spec, indices=None):
    """Tokens of one image [h w c], of all its patches or of those at `indices`.

    A class token, if the arrays hold one, comes first; a learned table replaces the fixed one.
    """
    grid = image.shape[0] // spec.patch_size
    indices = np.arange(grid**2) if indices is None else np.asarray(indices)
    places = arrays["positions"] if "positions" in arrays else positions(grid, spec.embed_dim)
    tokens = dense(patches(image, spec.patch_size)[indices], arrays, "patch_embed")
    tokens = tokens + places[..., indices, :]
    if "class_token" in arrays:
        tokens = joined([np.atleast_2d(arrays["class_token"]), tokens])
    return norm(run_blocks(tokens, arrays, spec.num_heads), arrays, "norm")


def predict(context, context_indices, target_indices, arrays, grid_size, heads, alone=False):
    """Features of one target group [t], from one image's context tokens [k d].

    A class token before the context has no position. With `alone` nothing looks at a mask token
    but itself.
    """
    table = positions(grid_size, arrays["mask_token"].shape[-1])
    places = table[np.asarray(context_indices)]
    extra = context.shape[-2] - len(places)
    places = np.concatenate([np.zeros((extra, places.shape[1])), places])
    known = dense(context, arrays, "embed") + places
    asked = arrays["mask_token"] + table[np.asarray(target_indices)]
    tokens = joined([known, asked])
    visible = np.ones((tokens.shape[-2],) * 2, bool)
    if alone:
        visible[:, len(places) :] = np.eye(len(visible), dtype=bool)[:, len(places) :]
    tokens = run_blocks(tokens, arrays, heads, visible)
    return dense(norm(tokens[..., len(places) :, :], arrays, "norm"), arrays, "project")
