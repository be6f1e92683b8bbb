"""Both sums of a bin in one number: nothing is lost of them, and units are as fine as that allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.boosting import packed, scales
from hanse.boosting.binning import Binning
from hanse.boosting.growing import Splits
from hanse.boosting.workspace import Workspace
from hanse.errors import DataError

G, H = packed.MOST
pairs = st.tuples(st.integers(-G, G), st.integers(0, H))


@given(st.lists(pairs, min_size=1, max_size=9), pairs)
def test_a_sum_is_the_sum_whatever_it_is_in_between(parts: list[tuple[int, int]], whole: tuple[int, int]) -> None:
    """The last part is what is left to a sum within the bounds; the others may go beyond them, as masks do."""
    sums = [np.array(part, np.int64) for part in parts]
    last = np.array(whole, np.int64) - sum(sums)
    total = np.zeros((), np.int64)
    for one in [*sums, last]:
        total = total + packed.packed(one)  # goes round without a word
    assert tuple(packed.unpacked(total).tolist()) == whole
    assert abs(int(packed.packed(np.array(whole, np.int64)))) <= packed.largest(abs(whole[0]))


@given(st.integers(1, 10_000), st.sampled_from([(1.0, 0.25), (1.0, 0.5), (1.0, 1.0), (0.9, 1.0), (3.7, 0.925)]))
def test_units_are_the_finest_in_which_sums_fit(rows: int, bounds: tuple[float, float]) -> None:
    def fits(units: tuple[int, ...]) -> list[bool]:
        ends = [scales.largest(bound, unit) for bound, unit in zip(bounds, units, strict=True)]
        return [rows * end <= most for end, most in zip(ends, packed.MOST, strict=True)]

    units, finest = scales.packable(bounds, rows), tuple(map(scales.unit, bounds))
    assert (units is not None) == (rows <= scales.room(bounds))
    if units is None:
        assert not all(fits((scales.COARSEST, scales.COARSEST)))
        return
    assert all(fits(units))
    assert all(scales.FINEST <= unit <= scales.COARSEST for unit in units)
    finer = fits((units[0] - 1, units[1] - 1))
    assert all(u == f or not fine for u, f, fine in zip(units, finest, finer, strict=True))


def test_of_a_class_of_one_in_ten_thousand_each_row_is_told_to_one_percent() -> None:
    """As docs/boosting.md says it: in the coarsest units, and in the finest."""
    for unit, most in ((scales.COARSEST, 0.01), (scales.FINEST, 0.0003)):
        shares = np.linspace(0.9e-4, 1.1e-4, 1001)
        off = np.abs(scales.whole(shares[:, None], np.array([unit]))[:, 0] * 2.0**unit / shares - 1)
        assert most / 2 < off.max() <= most * 1.1


def site(values: list[float], units: tuple[int, int]) -> Workspace:
    """Rows of one column, whose gradients are as large as they can be."""
    X = np.array(values)[:, None]
    work = Workspace(lambda: [X], len(X), Binning.of([np.float32([1, 2])]), np.float32([0]))
    rows = np.arange(len(X), dtype=np.int32)
    work.begin(1, [rows], rows, (scales.largest(1.0, units[0]), scales.largest(0.25, units[1])))
    work.pairs[0] = np.ldexp([1.0, 0.25], [-unit for unit in units])
    return work


ROOT, NONE = np.zeros(1, np.int32), np.zeros(0, np.int32)


def test_a_site_sums_up_alike_whether_its_sums_are_one_number_or_two() -> None:
    work = site([0.0, 1.5, 1.5, np.nan], (-24, -24))
    assert work.filled.tolist() == [1, 2, 0, 1]
    two, (one, _) = work.histograms(ROOT), work.packed(ROOT, NONE)
    assert one.shape == two.shape[:2]
    assert (packed.unpacked(one) == two).all()
    work.largest = None  # nobody knows
    assert (work.histograms(ROOT) == two).all()


def test_a_site_with_more_rows_in_a_bin_than_were_counted_says_so() -> None:
    """As where its table has changed since: its numbers would go round without a word."""
    work = site([0.0] * 300, (-23, -24))
    assert work.histograms(ROOT)[0, 0].tolist() == [300 << 23, 300 << 22]
    with pytest.raises(DataError, match="has the table changed"):
        work.packed(ROOT, NONE)


@pytest.mark.parametrize("full", [100, 300])
def test_full_bins_are_told_apart(full: int) -> None:
    """Whether their sums would be one number at this site or not."""
    work = site([0.0] * full + [1.5] * 3, (-23, -24))
    two, (one, own) = work.histograms(ROOT), work.packed(ROOT, np.array([0, 3], np.int32))
    assert own[0].tolist() == [[full << 23, full << 22], [0, 0]]
    assert packed.unpacked(one)[0].tolist() == [[0, 0], [3 << 23, 3 << 22], [0, 0], [0, 0]]
    assert two[0, 1].tolist() == [3 << 23, 3 << 22]


def test_rows_that_no_tree_learns_from_are_not_counted() -> None:
    work = site([0.0] * 300, (-24, -24))
    work.filled = work.filled[:0]
    some = np.arange(100, dtype=np.int32)
    work.begin(1, [some[:50]], some, (1 << 24, 1 << 22))
    assert work.filled.tolist() == [100, 0, 0, 0]


def test_a_site_without_rows_adds_nothing() -> None:
    work = site([], (-24, -24))
    nobody = np.zeros((1, 0), np.uint8)
    work.split(Splits(*(np.array([n], np.int32) for n in (0, 1, 0, 1)), np.zeros(1, np.uint8), nobody), "")
    assert not work.packed(np.array([1, 2]), NONE)[0].any()
