"""Compact codes against values worked out by hand, and against the vectors that they stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejepa_jax.retrieval import codes, exact
from rejepa_jax.types import DataError


def unit_rows(seed, rows, dim):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_int8_codes_by_hand():
    vectors = np.array([[0.6, -0.8, 0.0], [1.0, 0.0, 0.004]], np.float32)
    found = codes.int8_codes(vectors)
    # 127 * 0.6 / 0.8 = 95.25; 127 * 0.004 = 0.508
    np.testing.assert_array_equal(found.codes, [[95, -127, 0], [127, 0, 1]])
    lengths = np.sqrt(np.array([95**2 + 127**2, 127**2 + 1], np.float32))
    np.testing.assert_allclose(found.scale, 1 / lengths, rtol=1e-6)
    np.testing.assert_allclose(
        codes.decode_int8(found.codes), found.codes / lengths[:, None], rtol=1e-6
    )


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(1e-3, 1e3))
def test_int8_codes_are_within_half_a_step_whatever_the_length(seed, dim, length):
    vectors = unit_rows(seed, 3, dim)
    found = codes.int8_codes(vectors * np.float32(length))
    np.testing.assert_array_equal(np.abs(found.codes).max(axis=1), 127)
    steps = np.abs(vectors).max(axis=1, keepdims=True) / 127
    assert (np.abs(vectors - found.codes * steps) < steps * 0.501).all()
    decoded = codes.decode_int8(found.codes)
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, rtol=1e-5)


def test_bit_codes_by_hand():
    vectors = np.array([[0.1, -0.1, 0.0, 0.2, -1, -1, -1, 1, 0.5]], np.float32)
    found = codes.bit_codes(vectors)
    np.testing.assert_array_equal(found, [[0b10010001, 0b10000000]])
    third = 1 / 3  # sqrt(9) numbers
    signs = [1, -1, -1, 1, -1, -1, -1, 1, 1]
    np.testing.assert_allclose(codes.decode_bits(found, 9), [np.multiply(signs, third)], rtol=1e-6)


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("dim", [8, 33])
def test_words_rank_as_decoded_bits_do(dim, count):
    gallery, queries = (codes.bit_codes(unit_rows(s, n, dim)) for s, n in ((0, 300), (1, count)))
    scores, rows = exact.top_k(codes.words(queries), codes.words(gallery), 20)
    cosines = codes.decode_bits(queries, dim) @ codes.decode_bits(gallery, dim).T
    agreement = np.rint(cosines * dim)
    expected = np.argsort(-agreement, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(rows, expected)
    # Bits that fill up the last word are equal in all.
    filled = -(-dim // 32) * 32 - dim
    np.testing.assert_array_equal(scores, np.take_along_axis(agreement, expected, axis=1) + filled)


def test_what_has_no_direction_is_refused():
    vectors = unit_rows(0, 5, 6)
    vectors[2] = 0
    vectors[4, 1] = np.nan
    with pytest.raises(DataError, match=r"vectors: got 2 of 5 .* first in rows \[2, 4\]"):
        codes.int8_codes(vectors)
    with pytest.raises(DataError, match=r"vectors: got 1 of 5 .* first in rows \[4\]"):
        codes.bit_codes(vectors)
    with pytest.raises(DataError, match=r"int8 codes: got 1 of 2 .* first in rows \[1\]"):
        codes.decode_int8(np.array([[1, 2], [0, 0]], np.int8))
    with pytest.raises(DataError, match="2 bytes a vector, expected 3 for 17 numbers"):
        codes.decode_bits(np.zeros((1, 2), np.uint8), 17)
