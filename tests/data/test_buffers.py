"""Memory is used again only when nothing can see it any more."""

import gc

import jax
import numpy as np

from rejepa_jax.data.buffers import BufferPool

SHAPE, DTYPE = (3, 4, 5, 2), np.dtype(np.uint16)


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_the_last_view_is_gone():
    pool = BufferPool()
    array = pool.take(SHAPE, DTYPE)
    assert (array.shape, array.dtype) == (SHAPE, DTYPE)
    first = address(array)
    assert first % 64 == 0
    array[:] = 7
    view = array[1:, :2].transpose(0, 2, 1, 3)
    del array
    gc.collect()
    other = pool.take(SHAPE, DTYPE)  # the view still sees the first
    assert address(other) != first
    other[:] = 9
    assert (view == 7).all()
    del view
    gc.collect()
    assert address(pool.take(SHAPE, DTYPE)) == first


def test_another_size_has_other_memory():
    pool = BufferPool()
    first = address(pool.take(SHAPE, DTYPE))
    assert address(pool.take((4, *SHAPE[1:]), DTYPE)) != first
    assert address(pool.take(SHAPE, DTYPE)) == first


def test_an_array_on_a_device_keeps_its_values():
    pool = BufferPool()
    array = pool.take((1000, 16), np.dtype(np.float32))
    array[:] = 1.0
    placed = jax.device_put(array)  # on CPU JAX may take the memory over without a copy
    del array
    gc.collect()
    for _ in range(3):
        pool.take((1000, 16), np.dtype(np.float32))[:] = 2.0
    np.testing.assert_array_equal(np.asarray(placed), np.ones((1000, 16), np.float32))
