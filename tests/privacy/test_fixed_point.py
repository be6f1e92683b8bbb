"""Numbers as words: exact sums, the stated error, and no number that wraps."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hanse.errors import ConfigError, DataError
from hanse.privacy.fixed_point import (
    LEAST,
    MOST_NODES,
    Code,
    code,
    come,
    cut,
    decode,
    encode,
    forms,
    sent,
    widths,
    word,
)

F8, I8 = np.dtype("float64"), np.dtype("int64")


def total(parts: list[np.ndarray], how: Code, weights: list[float] | None = None) -> np.ndarray:
    """What a coordinator makes of the words of all nodes."""
    word = np.dtype(f"uint{how.bits}")
    together = np.zeros(how.words * how.size, word)
    for part, weight in zip(parts, weights or [1.0] * len(parts), strict=True):
        words = np.zeros_like(together)
        encode(part, weight, how, words)
        together += words
    return decode(together, how)


def exact(parts: list[np.ndarray], weights: list[float] | None = None) -> list[Fraction]:
    scaled = [
        (np.asarray(p, np.float64) * w).ravel() for p, w in zip(parts, weights or [1.0] * len(parts), strict=True)
    ]
    return [sum((Fraction(float(p[i])) for p in scaled), Fraction(0)) for i in range(scaled[0].size)]


finite = st.floats(-1e20, 1e20, allow_nan=False)


@settings(deadline=None)
@given(st.integers(1, 12), st.sampled_from([1, 7, 1024, 1025]), st.data())
def test_a_sum_in_digits_is_the_exact_one_rounded_within_the_stated_error(
    n: int, size: int, data: st.DataObject
) -> None:
    how = code(F8, (size,), n, 1, n)
    few = [data.draw(arrays(np.float64, min(size, 7), elements=finite)) for _ in range(n)]
    parts = [np.resize(part, size) for part in few]
    for got, want in zip(total(parts, how)[:7], exact(parts)[:7], strict=True):
        assert abs(Fraction(float(got)) - want) <= Fraction(how.error(n)) + abs(want) * Fraction(2) ** -51


def test_digits_hold_large_and_tiny_numbers_side_by_side_and_nothing_cancels() -> None:
    how = code(F8, (4,), 3, 1, 3)
    parts = [
        np.array([1e30, 1.0, -1e-20, 2.0**100]),
        np.array([-1e30, 1e-30, 0.0, -(2.0**100)]),
        np.array([1.0, -1.0, 3e-20, 1e-9]),
    ]
    np.testing.assert_allclose(total(parts, how), [1.0, 1e-30, 2e-20, 1e-9], rtol=3e-16, atol=how.error(3))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool", "uint64"])
def test_whole_numbers_are_exact(dtype: str) -> None:
    rng = np.random.default_rng(1)
    parts = [rng.integers(0, 2 if dtype == "bool" else 200, (3, 4)).astype(dtype) for _ in range(10)]
    found = total(parts, code(np.dtype(dtype), (3, 4), 10, 1, 10))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, sum(p.astype(np.int64) for p in parts))


@settings(deadline=None)
@given(st.integers(1, MOST_NODES))
def test_the_largest_whole_numbers_of_so_many_nodes_do_not_wrap(n: int) -> None:
    how = code(I8, (), n, 1, n)
    largest = np.array(((1 << 63) - 1) // n)
    words = np.zeros(1, np.uint64)
    encode(largest, 1.0, how, words)
    assert int(words[0]) * n < 1 << 63
    with pytest.raises(DataError, match="beyond"):
        encode(largest + 1 if n > 1 else np.array(1 << 63, np.uint64), 1.0, how, words)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(0, 62), st.integers(0, 2**32 - 1))
def test_many_whole_numbers_are_in_as_few_bits_as_the_sum_of_all_nodes_needs_and_never_wrap(
    n: int, e: int, seed: int
) -> None:
    """The worst case: the sum is the largest that there can be, of numbers of which some are as large."""
    most, size = (1 << e) + seed % (1 << e), LEAST
    how = code(I8, (size,), n, 1, n, most=most)
    wanted = [bits for bits in (32, 40, 48) if most < 1 << (bits - 1)]
    assert how.bits == (wanted[0] if wanted else 64)
    rng = np.random.default_rng(seed)
    whole, whose = rng.integers(-most, most, size, endpoint=True), rng.integers(0, n, size)
    whole[:3] = [most, -most, 0]
    parts = [np.where(whose == k, whole, 0) for k in range(n)]
    if n > 1:
        parts[0][3], parts[1][3] = most, -most
    vector = {how.bits: np.zeros(size, word(how.bits))}
    total = np.zeros_like(vector[how.bits])
    for values in parts:
        encode(values, 1.0, how, vector[how.bits])
        travels = sent(vector)
        cut(vector[how.bits], how.bits, travels, 0, size)
        assert {name: (a.dtype.name, a.shape) for name, a in travels.items()} == forms(widths([how]))
        assert sum(a.nbytes for a in travels.values()) == size * how.bits // 8
        total += come(travels, how.bits, 0, size)
    np.testing.assert_array_equal(decode(total, how), np.sum(parts, axis=0))
    if most < (1 << 63) - 1:
        parts[0][-1] = most + 1
        with pytest.raises(DataError, match="beyond"):
            encode(parts[0], 1.0, how, vector[how.bits])


def test_few_whole_numbers_stay_as_they_are() -> None:
    few = code(I8, (LEAST - 1,), 3, 1, 3, most=(1 << 63) - 1)
    assert (few.bits, few.largest) == (64, (1 << 63) - 1)  # all bits, where the sum of all is known to need no more
    assert code(I8, (LEAST - 1,), 3, 1, 3, most=5).bits == 64
    assert code(I8, (LEAST,), 3, 1, 3).bits == 64


def test_whole_numbers_with_weights() -> None:
    how = code(I8, (2,), 2, 1, 2)
    np.testing.assert_array_equal(total([np.array([3, -4]), np.array([1, 2])], how, [10.0, 3.0]), [33, -34])
    with pytest.raises(DataError, match=r"weighted by 0\.5"):
        total([np.array([3, -4])], how, [0.5])
    with pytest.raises(DataError, match="beyond"):
        total([np.array([np.iinfo(np.int64).min, 0])], how)


SIZE = (1 << 16) + 3


@pytest.mark.parametrize("bits", [64, 32])
@settings(deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 10**7),
    st.integers(-20, 40),
    st.integers(0, 2**32 - 1),
)
def test_large_arrays_are_within_the_stated_error_and_never_wrap(
    bits: int, n: int, rows: int, power: int, seed: int
) -> None:
    """The worst case: every node sends the largest number that it may, for all of its rows."""
    how = code(np.dtype("float32"), (SIZE,), n, rows, n * rows, bits=bits, range=2.0**power)
    assert how.words == 1
    rng = np.random.default_rng(seed)
    values = np.zeros(SIZE)
    values[:6] = [2.0**power, -(2.0**power), 0.0, *rng.uniform(-(2.0**power), 2.0**power, 3)]
    words = np.zeros(SIZE, np.dtype(f"uint{bits}"))
    encode(values, float(rows), how, words)
    total = decode(words * words.dtype.type(n), how)
    wanted = n * rows * values[:6]
    assert np.all(np.abs(total[:6] - wanted) <= how.error(n) + np.abs(wanted) * 2**-50)
    # the mean is as fine as the word: a step of range / 2^(bits - 2) for each node, whatever the rows
    assert how.error(n) / (n * rows) <= n * 2.0**power * 2.0 ** -(bits - 2)


@pytest.mark.parametrize("size", [3, 2000, SIZE])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_out_of_range_is_refused_before_it_is_masked(size: int, bad: float) -> None:
    values = np.zeros(size)
    values[size // 2] = bad
    how = code(F8, (size,), 3, 100, 300)
    with pytest.raises(DataError, match="NaN, or a number beyond"):
        encode(values, 1.0, how, np.zeros(how.words * size, np.uint64))


def test_a_large_number_of_a_large_array_is_one_beyond_the_range_for_each_row() -> None:
    how = code(F8, (SIZE,), 2, 10, 20, range=4.0)
    words, values = np.zeros(SIZE, np.uint64), np.zeros(SIZE)
    values[-1] = 4.0
    encode(values, 10.0, how, words)
    values[-1] = 4.0001
    with pytest.raises(DataError, match="beyond ±40"):
        encode(values, 10.0, how, words)


def test_arrays_without_numbers_and_too_many_nodes() -> None:
    for dtype in (F8, I8):
        how = code(dtype, (0, 3), 2, 1, 2)
        assert total([np.zeros((0, 3), dtype)] * 2, how).shape == (0, 3)
    with pytest.raises(ConfigError, match="16384 nodes"):
        code(F8, (1,), MOST_NODES + 1, 1, 1)


def test_as_many_digits_as_there_may_be_add_without_a_carry() -> None:
    how = code(F8, (1,), MOST_NODES, 1, MOST_NODES)
    words = np.zeros(how.words, np.uint64)
    encode(np.array([-how.largest]), 1.0, how, words)
    assert np.all(np.abs(words.view(np.int64).astype(object)) * MOST_NODES < 1 << 63)
    assert float(decode(words * np.uint64(MOST_NODES), how)[0]) == pytest.approx(-how.largest * MOST_NODES, rel=1e-15)


def test_float32_is_weighted_in_float64() -> None:
    """A product in float32 is rounded to 24 bits, which is 100,000 times the stated error."""
    rng = np.random.default_rng(0)
    parts, weights = [rng.normal(size=SIZE).astype(np.float32) for _ in range(3)], [37.0, 101.0, 333.0]
    how = code(np.dtype("float32"), (SIZE,), 3, 333, 471)
    wanted = sum(p.astype(np.float64) * w for p, w in zip(parts, weights, strict=True))
    assert np.abs(total(parts, how, weights) - wanted).max() <= how.error(3) + np.abs(wanted).max() * 2**-50


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-30, 61), st.sampled_from([1.0, 3.0, 0.37]))
def test_words_are_rounded_half_to_even_near_and_far(seed: int, power: int, weight: float) -> None:
    """There is a quick way for numbers that are not large: it rounds as the other."""
    how = code(F8, (SIZE,), 2, 2.0**20, 2.0**21)
    rng = np.random.default_rng(seed)
    step = 2.0**-how.fraction
    values = rng.normal(size=SIZE) * 2.0**power * step / weight
    values[:7] = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -0.0, 2.0**50 + 0.5]) * step / weight
    words = np.zeros(SIZE, np.uint64)
    encode(values, weight, how, words)
    np.testing.assert_array_equal(words.view(np.int64), np.rint(values * (weight / step)).astype(np.int64))
