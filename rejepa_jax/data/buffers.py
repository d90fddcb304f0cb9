"""Memory for batches, used again: touching fresh pages costs more than reading a record.

A batch of 64 Sentinel-2 patches is 22 MB, which the system hands out page by page and takes back
when the batch is gone. Here the memory of a batch returns when nothing refers to it any more: no
array, no view, and no accelerator's transfer, which all hold on to the array.
"""

import collections
import math
import weakref

import numpy as np
from jaxtyping import Shaped

_ALIGNMENT = 64  # bytes: what JAX on CPU asks of memory that it takes over without a copy
_KEPT = 16  # blocks that wait for their next use, at most


class BufferPool:
    """Gives arrays whose memory was used before; threads may share one."""

    def __init__(self) -> None:
        self._free: dict[int, collections.deque[bytearray]] = {}

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> Shaped[np.ndarray, "..."]:
        """Returns an array of any content."""
        size = math.prod(shape) * dtype.itemsize
        free = self._free.setdefault(size, collections.deque(maxlen=_KEPT))
        try:
            block = free.pop()  # the latest is the likeliest to be in the cache
        except IndexError:
            block = bytearray(size + _ALIGNMENT)
        start = -np.frombuffer(block, np.uint8).ctypes.data % _ALIGNMENT
        flat = np.frombuffer(block, dtype, math.prod(shape), start)
        weakref.finalize(flat, free.append, block)
        return flat.reshape(shape)  # a view, as all that is made of it: each holds `flat`

    def __reduce__(self) -> tuple:
        return BufferPool, ()
