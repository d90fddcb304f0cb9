"""Weight files of other projects, made by hand: random ViTs by timm's names, in plain numpy.

`tokens` computes what such a ViT gives, in float64 and straight from the names; `torch_zip` writes
what `torch.save` writes, byte by byte, so that no test has to trust a pickle library.
"""

import math
import struct
import zipfile

import numpy as np
import numpy_vit
import safetensors.numpy

DIM, DEPTH, HEADS, PATCH, GRID, BANDS = 16, 2, 2, 4, 3, 3
SIZE = PATCH * GRID


def vit(*, class_token=False, norm="norm", positions="random", bands=BANDS, seed=0):
    """Tensors of a ViT as timm's `state_dict` names and shapes them."""
    rng = np.random.default_rng(seed)
    shapes = {
        "patch_embed.proj.weight": (DIM, bands, PATCH, PATCH),
        "patch_embed.proj.bias": (DIM,),
    }
    for layer in range(DEPTH):
        inside = {
            **{"norm1.weight": (DIM,), "norm1.bias": (DIM,)},
            **{"attn.qkv.weight": (3 * DIM, DIM), "attn.qkv.bias": (3 * DIM,)},
            **{"attn.proj.weight": (DIM, DIM), "attn.proj.bias": (DIM,)},
            **{"norm2.weight": (DIM,), "norm2.bias": (DIM,)},
            **{"mlp.fc1.weight": (4 * DIM, DIM), "mlp.fc1.bias": (4 * DIM,)},
            **{"mlp.fc2.weight": (DIM, 4 * DIM), "mlp.fc2.bias": (DIM,)},
        }
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in inside.items()}
    shapes |= {f"{norm}.weight": (DIM,), f"{norm}.bias": (DIM,)}
    if class_token:
        shapes["cls_token"] = (1, 1, DIM)
    shapes["pos_embed"] = (1, GRID**2 + class_token, DIM)
    weights = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    if positions == "sincos":
        table = numpy_vit.positions(GRID, DIM).astype(np.float32)
        weights["pos_embed"] = np.pad(table, ((int(class_token), 0), (0, 0)))[None]
    return weights


def ijepa(**changes):
    """A checkpoint of I-JEPA's training code."""
    inside = {"positions": "sincos"} | changes
    encoders = {
        name: {f"module.{key}": value for key, value in vit(seed=seed, **inside).items()}
        for name, seed in (("encoder", 1), ("target_encoder", 2))
    }
    predictor = {"module.mask_token": np.zeros((1, 1, 8), np.float32)}
    return {**encoders, "predictor": predictor, "opt": {"state": {}, "lr": 0.001}, "epoch": 300}


def mae():
    """A checkpoint of MAE's training code: its decoder is there, and settings beside it."""
    decoder = {
        "mask_token": (1, 1, 8),
        "decoder_embed.weight": (8, DIM),
        "decoder_pred.bias": (48,),
    }
    extra = {name: np.zeros(shape, np.float32) for name, shape in decoder.items()}
    return {"model": vit(class_token=True, positions="sincos") | extra, "epoch": 800}


def timm(*, class_token=True):
    """A classifier of timm: with a class token, or pooling the mean behind `fc_norm`."""
    head = {"head.weight": np.zeros((10, DIM), np.float32), "head.bias": np.zeros(10, np.float32)}
    norm = "norm" if class_token else "fc_norm"
    return vit(class_token=class_token, norm=norm) | head


def tokens(image, weights, heads=HEADS):
    """The patches' tokens after the last norm, of one image [h w c], in float64."""
    weights = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    kernel = weights["patch_embed.proj.weight"]
    size = kernel.shape[2]
    rows = []
    for top in range(0, image.shape[0], size):
        for left in range(0, image.shape[1], size):
            patch = image[top : top + size, left : left + size]
            rows.append(np.einsum("dcij,ijc->d", kernel, patch))
    x = np.stack(rows) + weights["patch_embed.proj.bias"]
    table = weights["pos_embed"][0]
    if "cls_token" in weights:
        x = np.concatenate([weights["cls_token"][0], x])
        table = np.pad(table, ((len(x) - len(table), 0), (0, 0)))  # timm: no_embed_class
    x = x + table
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    for layer in range(depth):
        x = _block(x, weights, f"blocks.{layer}", heads)
    x = _norm(x, weights, "norm" if "norm.weight" in weights else "fc_norm")
    return x[-len(rows) :]


def _dense(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(x, weights, name):
    x = x - x.mean(1, keepdims=True)
    x = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _block(x, weights, name, heads):
    qkv = _dense(_norm(x, weights, f"{name}.norm1"), weights, f"{name}.attn.qkv")
    width = x.shape[1] // heads
    # timm reshapes to (token, 3, head, width): all queries come first, head by head.
    query, key, value = qkv.reshape(len(x), 3, heads, width).transpose(1, 2, 0, 3)
    scores = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(width))
    mixed = scores / scores.sum(2, keepdims=True) @ value
    x = x + _dense(mixed.transpose(1, 0, 2).reshape(x.shape), weights, f"{name}.attn.proj")
    hidden = _dense(_norm(x, weights, f"{name}.norm2"), weights, f"{name}.mlp.fc1")
    hidden = 0.5 * hidden * (1 + numpy_vit.ERF(hidden / math.sqrt(2)))
    return x + _dense(hidden, weights, f"{name}.mlp.fc2")


# --- files


def flat(tree, prefix=""):
    """The arrays of nested dictionaries by dotted name."""
    out = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, np.ndarray):
            out[prefix + key] = value
    return out


def write_safetensors(path, tree):
    safetensors.numpy.save_file(flat(tree), path)
    return path


STORAGES = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16"}


def write_torch(path, tree, *, changes=()):
    """Writes a tree of arrays and plain values as `torch.save` does; `changes` replaces members."""
    storages = []
    members = {"data.pkl": b"\x80\x02" + _program(tree, storages) + b".", "byteorder": b"little"}
    members |= {f"data/{key}": array.tobytes() for key, array in enumerate(storages)}
    members |= {"version": b"3\n"} | dict(changes)
    return write_zip(path, members)


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{path.stem}/{name}", content)
    return path


def _program(value, storages):
    """The pickle operations that build a value; arrays become calls of torch's functions."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value)) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(_program(item, storages) for item in value) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(_program(item, storages) for item in value) + b"e"
    if isinstance(value, dict):
        pairs = b"".join(_program(part, storages) for pair in value.items() for part in pair)
        return b"ccollections\nOrderedDict\n)R(" + pairs + b"u"
    return _tensor(value, storages)


def _tensor(array, storages):
    base = array if array.base is None else array.base  # a view lies in its owner's storage
    storages.append(base)
    kind = f"ctorch\n{STORAGES[str(array.dtype)]}Storage\n".encode()
    key, cpu = (_program(text, storages) for text in (str(len(storages) - 1), "cpu"))
    reference = b"(" + _program("storage", storages) + kind + key + cpu
    reference += _program(base.size, storages) + b"tQ"
    offset = (array.ctypes.data - base.ctypes.data) // array.itemsize
    strides = tuple(step // array.itemsize for step in array.strides)
    view = b"".join(_program(part, storages) for part in (offset, array.shape, strides))
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + view + hooks + b"tR"
