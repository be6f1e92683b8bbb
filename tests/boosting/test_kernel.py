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
    pairs = rng.integers(-(1 << 30), 1 << 30, (2, len(bins), 2)).astype(np.int32)
    pairs[:, ::3] = [-(1 << 30), 1 << 30]
    rows = rng.permutation(len(bins)).astype(np.int32)
    starts = np.arange(4, dtype=np.uint64) * np.uint64(301)
    places = np.array([[1, 0, n], [0, n, len(bins)]])
    found, expected = (np.full((2, 903, 2), 1 << 40, np.int64) for _ in range(2))
    add_up(bins, pairs, rows, places, starts, found)
    for node, column in np.ndindex(2, 3):
        output, low, high = places[node]
        own = rows[low:high]
        of = pairs[output, own].astype(np.int64)
        np.add.at(expected[node], int(starts[column]) + bins[own, column].astype(int), of)
    assert (found == expected).all()
    written = np.full((2, 903, 2), 1 << 40, np.int64)
    add_up.plain(bins, pairs, rows, places, starts, written)
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
    starts, places = np.arange(4, dtype=np.uint64) * np.uint64(301), np.array([[0, 0, 9], [0, 9, n + 9]])
    two, one, written = np.zeros((2, 903, 2), np.int64), *(np.zeros((2, 903), np.int64) for _ in range(2))
    add_up(bins, pairs[None], rows, places, starts, two)
    add_up(bins, pairs[None], rows, places, starts, one)
    add_up.plain(bins, pairs[None], rows, places, starts, written)
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
    rows, places = np.arange(50, dtype=np.int32), np.array([[0, 0, 50]])
    sums = np.zeros((1, 0, 2), np.int64)
    add_up(np.zeros((50, 0), np.uint8), np.ones((1, 50, 2), np.int32), rows, places, np.zeros(1, np.uint64), sums)
    assert sums.shape == (1, 0, 2)


@pytest.mark.parametrize("columns", [64, 65, 200])
def test_rows_longer_than_a_line_of_the_cache_are_summed_up_alike(columns: int) -> None:
    bins, pairs = binned(90, columns, np.uint8), np.random.default_rng(4).integers(-9, 9, (1, 90, 2)).astype(np.int32)
    rows, starts = np.arange(90, dtype=np.int32), (np.arange(columns + 1) * 250).astype(np.uint64)
    found, written = (np.zeros((1, columns * 250, 2), np.int64) for _ in range(2))
    for way, sums in ((add_up, found), (add_up.plain, written)):
        way(bins, pairs, rows, np.array([[0, 0, 90]]), starts, sums)
    assert (found == written).all()


EDGES, CATEGORIES = np.array([254, 254, 254, 9]), np.array([0, 0, 0, 10])


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("goes", ["all left", "all right", "some"])
def test_rows_are_parted_where_they_stand(goes: str, layout: Literal["C", "F"]) -> None:
    """Each node by its own column, those that go left first, both in their order, and one after its parent; an empty
    one, and one that is none of these, stay as they are."""
    bins, rng = binned(500, 4, np.uint8), np.random.default_rng(2)
    bins[:, 3] %= 11  # ten categories, and none
    bins[::7, :3] = 255  # missing
    before = rng.permutation(500).astype(np.int32)
    first = [[1, 10, 200], [0, 200, 200], [0, 200, 300], [0, 330, 331], [2, 331, 500]]
    bin, missing = {"all left": (254, 1), "all right": (-1, 0), "some": (100, 1)}[goes]
    splits = np.array([[0, 5, 1, bin, missing], [1, 7, 0, bin, 0], [2, 9, 3, 0, missing], [5, 11, 2, bin, missing]])
    right = rng.integers(0, 256, (4, 2), np.uint8) if goes == "some" else np.full((4, 2), 255 * (bin < 0), np.uint8)
    for way in (part, part.plain):
        rows, places = before.copy(), np.array(first + [[-1, 0, 0]] * 8)
        assert way(np.array(bins, order=layout), splits, right, EDGES, CATEGORIES, rows, np.empty_like(rows), places)
        expected, stand = before.copy(), [list(place) for place in first + [[-1, 0, 0]] * 8]
        for (node, left, feature, last, default), bits in zip(splits.tolist(), right, strict=True):
            output, low, high = stand[node]
            own = expected[low:high].copy()
            goes_left = bins[own, feature] <= last
            if CATEGORIES[feature]:
                goes_left = np.append(np.unpackbits(bits)[:10] == 0, False)[bins[own, feature]]
            side = np.where(bins[own, feature] == EDGES[feature] + 1, default == 1, goes_left)
            expected[low:high] = np.concatenate([own[side], own[~side]])
            middle = low + int(side.sum())
            stand[node], stand[left], stand[left + 1] = [-1, 0, 0], [output, low, middle], [output, middle, high]
        assert (rows == expected).all()
        assert places.tolist() == stand


@pytest.mark.parametrize(
    "split",
    [[-1, 1, 0, 3, 0], [3, 1, 0, 3, 0], [1, 1, 0, 3, 0], [0, -1, 0, 3, 0], [0, 2, 0, 3, 0], [0, 1, 4, 3, 0],
     [0, 1, -1, 3, 0], [0, 1, 3, 3, 0]],
    ids=["no node", "no such node", "no rows", "no child", "no such child", "no column", "before them", "no bits"],
)  # fmt: skip
def test_nothing_is_parted_by_what_is_not_there(split: list[int]) -> None:
    """A compiled loop would write where it has no business."""
    bins, before = np.full((50, 4), 5, np.uint8), np.arange(50, dtype=np.int32)
    for way in (part, part.plain):
        rows, places = before.copy(), np.array([[0, 0, 50], [-1, 0, 0], [-1, 0, 0]])
        right = np.zeros((1, 1), np.uint8)
        assert not way(bins, np.array([split]), right, EDGES, CATEGORIES, rows, np.empty_like(rows), places)
        assert (rows == before).all()
        assert places.tolist() == [[0, 0, 50], [-1, 0, 0], [-1, 0, 0]]


def test_each_leaf_adds_its_own_to_its_rows() -> None:
    margins, order = np.zeros((6, 2), np.float32), np.array([5, 3, 1, 0], np.int32)
    add_to(margins, order, np.array([[1, 0, 1], [-1, 0, 0], [1, 2, 4]]), np.float32([0.5, 9, -1]))
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
