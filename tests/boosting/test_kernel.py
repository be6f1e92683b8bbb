"""The compiled loops do what they say in Python, whatever the rows."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from hanse.boosting import exponential, packed, scales
from hanse.boosting.kernel import add_to, add_up, part, round_pairs

Matrix = np.ndarray[Any, Any]


def binned(n: int, columns: int, dtype: type[np.unsignedinteger[Any]]) -> Matrix:
    most = 300 if dtype is np.uint16 else 250
    return np.random.default_rng(n).integers(0, most, (n, columns)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 129, 1000])
def test_sums_are_those_of_the_loop_as_it_is_written(n: int, dtype: type[np.unsignedinteger[Any]]) -> None:
    """Of two nodes, whose rows stand in any order, with the largest numbers that there are."""
    bins, rng = binned(max(n, 1) * 2, 3, dtype), np.random.default_rng(1)
    pairs = rng.integers(-(1 << 30), 1 << 30, (len(bins), 2)).astype(np.int32)
    pairs[::3] = [-(1 << 30), 1 << 30]
    rows = rng.permutation(len(bins)).astype(np.int32)
    starts = np.arange(4, dtype=np.uint64) * np.uint64(301)
    low, high = np.array([0, n]), np.array([n, len(bins)])
    found, expected = (np.full((2, 903, 2), 1 << 40, np.int64) for _ in range(2))
    add_up(bins, pairs, rows, low, high, starts, found)
    for node, column in np.ndindex(2, 3):
        own = rows[low[node] : high[node]]
        np.add.at(expected[node], int(starts[column]) + bins[own, column].astype(int), pairs[own].astype(np.int64))
    assert (found == expected).all()
    written = np.full((2, 903, 2), 1 << 40, np.int64)
    add_up.plain(bins, pairs, rows, low, high, starts, written)
    assert (written == expected).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("n", [0, 1, 2, 65, 1000])
def test_sums_that_are_one_number_are_those_that_are_two(n: int, dtype: type[np.unsignedinteger[Any]]) -> None:
    """With the largest numbers that so many rows may have in one bin."""
    bins, rng = binned(n + 9, 3, dtype), np.random.default_rng(n)
    bins[:, 1] = 7
    g, h = (most // len(bins) for most in packed.MOST)
    pairs = np.stack([rng.integers(-g, g, len(bins)), rng.integers(0, h, len(bins))], 1).astype(np.int32)
    pairs[::2] = [[-g, h], [g, h]][n % 2]
    rows = rng.permutation(len(bins)).astype(np.int32)
    starts, ends = np.arange(4, dtype=np.uint64) * np.uint64(301), (np.array([0, 9]), np.array([9, n + 9]))
    two, one, written = np.zeros((2, 903, 2), np.int64), *(np.zeros((2, 903), np.int64) for _ in range(2))
    add_up(bins, pairs, rows, *ends, starts, two)
    add_up(bins, pairs, rows, *ends, starts, one)
    add_up.plain(bins, pairs, rows, *ends, starts, written)
    assert (packed.unpacked(one) == two).all()
    assert (written == one).all()


@pytest.mark.parametrize("outputs", [1, 3])
def test_pairs_are_the_numbers_of_their_rows_in_units(outputs: int) -> None:
    """Halves to the even number, the largest there are, and rows that are not asked for as they were."""
    rng = np.random.default_rng(outputs)
    both = [rng.uniform(-1, 1, (200, outputs)).astype(np.float32) for _ in range(2)]
    both[0][:6, 0], both[1][:4, 0] = np.float32([1, -1, 0.5, 1.5, -1.5, 0]), np.float32([0.25, 0, 2.5, 3.5])
    units, rows = rng.integers(-30, 1, (outputs, 2)), rng.permutation(400)[:200]
    units[0] = -30, 0  # the second of whole numbers, so that there are halves
    expected = np.full((outputs, 400, 2), 7, np.int32)
    expected[:, rows] = scales.whole(np.stack(both, axis=2), units).transpose(1, 0, 2)
    for write in (round_pairs, round_pairs.plain):
        pairs = np.full((outputs, 400, 2), 7, np.int32)
        write(*both, np.ldexp(1.0, -units), rows, pairs)
        assert (pairs == expected).all()


def test_of_no_columns_there_are_no_sums() -> None:
    rows, ends = np.arange(50, dtype=np.int32), (np.array([0]), np.array([50]))
    sums = np.zeros((1, 0, 2), np.int64)
    add_up(np.zeros((50, 0), np.uint8), np.ones((50, 2), np.int32), rows, *ends, np.zeros(1, np.uint64), sums)
    assert sums.shape == (1, 0, 2)


@pytest.mark.parametrize("columns", [64, 65, 200])
def test_rows_longer_than_a_line_of_the_cache_are_summed_up_alike(columns: int) -> None:
    bins, pairs = binned(90, columns, np.uint8), np.random.default_rng(4).integers(-9, 9, (90, 2)).astype(np.int32)
    rows, starts = np.arange(90, dtype=np.int32), (np.arange(columns + 1) * 250).astype(np.uint64)
    found, written = (np.zeros((1, columns * 250, 2), np.int64) for _ in range(2))
    add_up(bins, pairs, rows, np.array([0]), np.array([90]), starts, found)
    add_up.plain(bins, pairs, rows, np.array([0]), np.array([90]), starts, written)
    assert (found == written).all()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("goes", ["all left", "all right", "some"])
def test_rows_are_parted_where_they_stand(goes: str, order: Literal["C", "F"]) -> None:
    """Each node by its own column, those that go left first, both in their order; an empty one, and one that is none of
    these, stay as they are."""
    bins, rng = binned(500, 4, np.uint8), np.random.default_rng(2)
    rows = rng.permutation(500).astype(np.int32)
    low, high = np.array([10, 200, 200, 330]), np.array([200, 200, 300, 331])
    columns, middle = np.array([3, 0, 1, 2]), np.zeros(4, np.int64)
    left = rng.random((4, 256)) < {"all left": 1.0, "all right": 0.0, "some": 0.4}[goes]
    before, spare = rows.copy(), np.empty_like(rows)
    part(np.array(bins, order=order), columns, left.astype(np.uint8), rows, low, high, spare, middle)
    expected = before.copy()
    for i in range(4):
        own = before[low[i] : high[i]]
        side = left[i, bins[own, columns[i]]]
        expected[low[i] : high[i]] = np.concatenate([own[side], own[~side]])
        assert middle[i] == low[i] + side.sum()
    assert (rows == expected).all()


def test_each_leaf_adds_its_own_to_its_rows() -> None:
    margins, rows = np.zeros((6, 2), np.float32), np.array([5, 3, 1, 0], np.int32)
    add_to(margins, 1, rows, np.array([0, 2]), np.array([1, 4]), np.float32([0.5, -1]))
    assert margins.tolist() == [[0, -1], [0, -1], [0, 0], [0, 0], [0, 0], [0, 0.5]]


def test_the_compiled_exponential_has_the_bits_of_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any float32 numbers, those around the largest and the smallest, infinite ones and none."""
    rng = np.random.default_rng(3)
    edges = np.array([exponential._LOW, exponential._HIGH, np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32)
    around = np.nextafter(edges[:2, None], edges[2:4]).reshape(-1)
    anything = rng.integers(0, 1 << 32, 20_000, np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([edges, around, anything, rng.uniform(-104, 89, 20_000).astype(np.float32)])
    found = []
    for way in (False, True):
        monkeypatch.setattr(exponential, "worthwhile", lambda way=way: way)
        found.append(exponential.exp(x[:, None])[:, 0])
    none = np.isnan(x)
    assert (np.isnan(found[1]) == none).all()
    assert (found[0][~none].view(np.uint32) == found[1][~none].view(np.uint32)).all()
    assert found[0].dtype == found[1].dtype
