"""Edges of bins: exact quantiles by counting, the same however the rows lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.boosting import edges, quantiles
from hanse.boosting.binning import Binning

Matrix = np.ndarray[Any, Any]


def settle(parts: list[Matrix], bins: int) -> tuple[list[Matrix], int]:
    found, _, exchanges = settled(parts, bins)
    return found, exchanges


def settled(parts: list[Matrix], bins: int) -> tuple[list[Matrix], edges.Cells, int]:
    columns = parts[0].shape[1]
    most, cells, asked, exchanges = np.full(columns, bins), edges.none(), edges.first(np.ones(columns, bool)), 0
    while asked is not None:
        counted = np.sum([edges.counts(part.T, asked) for part in parts], axis=0)
        assert counted.shape == (asked.size,)
        cells, exchanges = edges.refined(cells, asked, counted), exchanges + 1
        assert exchanges < 24
        asked = edges.unclear(cells, most)
    return edges.edges(cells, most), cells, exchanges


def columns(n: int) -> Matrix:
    rng = np.random.default_rng(0)
    return np.column_stack(
        [
            rng.normal(size=n),
            rng.integers(0, 90, n),
            np.where(rng.random(n) < 0.6, 0, rng.lognormal(0, 3, n)),
            np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n) * 1e-20),
            np.full(n, np.nan),
            np.ones(n),
            rng.normal(1000, 1e-3, n),
            np.where(rng.random(n) < 0.5, -3.5, 1e38),
        ]
    )


def test_quantiles_are_exact_to_a_sixteenth_of_a_bin_for_any_distribution() -> None:
    X = columns(20_000)
    found, exchanges = settle([X], 64)
    assert exchanges <= 6
    for column, own in zip(X.T, found, strict=True):
        values = column[~np.isnan(column)].astype(np.float32)
        different, each = np.unique(values, return_counts=True)
        assert len(own) <= 63
        assert (np.diff(own) > 0).all()
        if not len(values):
            assert not len(own)
            continue
        share = len(values) / 64
        below = np.searchsorted(np.sort(values), own)
        for quantile in np.arange(1, 64) * share if len(different) > 64 else ():
            # no edge is further from a quantile than a value that many rows share, and a sixteenth
            assert np.abs(below - quantile).min() <= max(each.max(), share / 16) + 1
        if len(different) <= 64:
            assert len(own) == len(different) - 1


def test_a_column_of_few_values_has_the_edges_of_xgboost() -> None:
    X = columns(20_000)[:, [1]]
    (found,), _ = settle([X], 255)
    assert found.tolist() == np.unique(X.astype(np.float32))[1:].tolist()


@given(st.lists(st.integers(0, 300), max_size=6), st.integers(2, 64))
def test_edges_do_not_depend_on_where_the_rows_lie(cuts: list[int], bins: int) -> None:
    X = columns(300)
    whole, _ = settle([X], bins)
    rows = np.random.default_rng(len(cuts)).permutation(300)
    parts, _ = settle(np.split(X[rows], sorted(cuts)), bins)
    assert [own.tolist() for own in parts] == [own.tolist() for own in whole]


def test_a_cell_of_one_row_is_not_refined() -> None:
    X = np.array([[1.0], [1.0], [5.4321]])
    (found,), _ = settle([X], 255)
    assert found[0] <= np.float32(5.4321)
    assert found[0] != np.float32(5.4321)
    assert found[0] > 1


@pytest.mark.parametrize("bits", [12, 4])
def test_values_are_counted_in_cells_in_the_order_of_numbers(bits: int) -> None:
    """All float32 numbers are the parts of one cell, one after the other; -0 is 0, and NaN is nowhere."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 32, 5000, np.uint32).view(np.float32)
    values = np.concatenate([values, np.float32([0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, np.nan])])
    whole = edges.Refinement(*(np.array([n]) for n in (1, 32, bits)), np.zeros(1, np.int64))
    number = quantiles.keys(values[~np.isnan(values)]) >> (32 - bits)
    assert (edges.counts([values], whole) == np.bincount(number, minlength=1 << bits)).all()
    start = np.unique(rng.choice(number, 200)) << (32 - bits)
    some = edges.Refinement(np.array([len(start)]), np.array([32 - bits]), np.array([4]), start)
    finer = quantiles.keys(values[~np.isnan(values)]) >> (32 - bits - 4)
    expected = np.bincount(finer, minlength=1 << (bits + 4)).reshape(-1, 16)[start >> (32 - bits)]
    assert (edges.counts([values], some) == expected.ravel()).all()


@given(
    st.lists(st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1.0, 3.5]), max_size=40), st.integers(2, 64)
)
def test_bins_hold_what_was_counted(odd: list[float], bins: int) -> None:
    """Else a site's numbers would be refused as larger than they can be."""
    X = np.concatenate([columns(300), np.array(odd)[:, None] * np.ones(8)])
    found, cells, _ = settled([X], bins)
    binned = Binning.of(found)
    put = binned.put([X], len(X))
    for own, column in zip(edges.filled(cells, found, len(X)), put.T, strict=True):
        assert (np.bincount(column, minlength=len(own)) == own).all()
