"""The tensors of a torch checkpoint, read without running anything that it asks to be run.

`torch.save` writes a zip: `data.pkl` says what there is, `data/KEY` are the raw numbers.
"""

import dataclasses
import math
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from rejepa_jax.retrieval.weights.pickle_program import UnknownNameError, follow
from rejepa_jax.retrieval.weights.weight_file import WeightFile
from rejepa_jax.types import DataError

CONVERT = """where you trust it, convert it: python -c "import torch; from safetensors.torch \
import save_file; save_file(torch.load('{0}', 'cpu', weights_only=False)['model'], \
'{0}.safetensors')" (I-JEPA: 'target_encoder' for 'model'; a bare dictionary: without it)"""


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A member of the zip: numbers in a row."""

    key: str
    dtype: np.dtype
    size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        least = min((self.offset, *self.shape, *self.strides))
        if least < 0 or max(last + 1, math.prod(self.shape)) > self.storage.size:
            raise ValueError(f"shape {self.shape} does not fit into {self.storage.size} numbers")


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _find_storage(reference: tuple[str, np.dtype, str, str, int]) -> _Storage:
    _, dtype, key, _, size = reference
    return _Storage(key, dtype, size)


DTYPES = {
    **{"Float": np.float32, "Double": np.float64, "Half": np.float16, "BFloat16": jnp.bfloat16},
    **{"Long": np.int64, "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8},
    "Bool": np.bool_,
}
FUNCTIONS = {  # all that a file may name
    "collections OrderedDict": dict,
    "argparse Namespace": dict,  # the settings in a checkpoint of MAE's training code
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
    **{f"torch {name}Storage": np.dtype(dtype) for name, dtype in DTYPES.items()},
}


def open_torch(path: pathlib.Path) -> WeightFile:
    """Opens a torch checkpoint of tensors, plain values and containers of them.

    Raises:
        DataError: it would have to be run to be read, has another format, or is damaged.
    """
    root, program = _read_program(path)
    try:
        tensors = dict(_flat(follow(program, FUNCTIONS, _find_storage), "", set()))
    except UnknownNameError as error:
        raise DataError(
            f"{path} cannot be read without running what it brings along: got a call for {error}, "
            f"expected only tensors and plain values. Nothing was run; {CONVERT.format(path)}"
        ) from error
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"{path}: data.pkl is damaged ({error}): copy the file again") from error

    def read(name: str) -> Shaped[np.ndarray, "..."]:
        tensor, storage = tensors[name], tensors[name].storage
        content = _read_member(path, f"{root}/data/{storage.key}")
        if len(content) != storage.size * storage.dtype.itemsize:
            raise DataError(
                f"{path}: tensor {name!r} lies in {len(content)} bytes, expected {storage.size} "
                f"numbers of {storage.dtype}: copy the file again"
            )
        numbers = np.frombuffer(content, storage.dtype)[tensor.offset :]
        strides = [step * storage.dtype.itemsize for step in tensor.strides]
        return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)

    return WeightFile(path, {name: tensor.shape for name, tensor in tensors.items()}, read)


def _read_program(path: pathlib.Path) -> tuple[str, bytes]:
    """Returns the directory inside the zip, and the bytes of its `data.pkl`."""
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path}: got neither safetensors nor the zip that torch.save has written since "
            f"version 1.6. If it is an older torch file: {CONVERT.format(path)}"
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    roots = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise DataError(
            f"{path}: got a zip with {len(roots)} files data.pkl, expected the one of a torch "
            "checkpoint; give the checkpoint itself"
        )
    order = f"{roots[0]}/byteorder"
    if order in names and _read_member(path, order) != b"little":
        raise DataError(f"{path}: got big-endian numbers; {CONVERT.format(path)}")
    return roots[0], _read_member(path, f"{roots[0]}/data.pkl")


def _read_member(path: pathlib.Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {name} cannot be read ({error}): copy the file again") from error


def _flat(tree: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, _Tensor]]:
    """Yields the tensors in nested dictionaries by dotted name; each dictionary only once."""
    if isinstance(tree, _Tensor):
        yield prefix, tree
    elif isinstance(tree, dict) and id(tree) not in seen:
        seen.add(id(tree))
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key), seen)
