"""Tensors by name in a file on disk, each read only when it is asked for.

The steps of nested dictionaries are joined by dots: `target_encoder.module.norm.weight`.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import safetensors
from jaxtyping import Shaped

from rejepa_jax.types import DataError


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """What a file holds."""

    path: pathlib.Path
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Shaped[np.ndarray, "..."]]


def open_safetensors(path: pathlib.Path) -> WeightFile:
    """Opens a safetensors file; raises a DataError if it is none."""
    try:
        file = safetensors.safe_open(path, framework="np")
    except safetensors.SafetensorError as error:
        raise DataError(
            f"{path}: got a file that is damaged or not safetensors ({error}): copy it again"
        ) from error
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.offset_keys()}
    return WeightFile(path, shapes, file.get_tensor)
