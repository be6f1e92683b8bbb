"""The best split of each node, however large its sums are and however many are searched at once."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from hanse.boosting import compiled, splits
from hanse.boosting.binning import Binning
from hanse.boosting.splits import Best, Penalty, best

Matrix = np.ndarray[Any, Any]


def histograms(nodes: int) -> tuple[Matrix, Binning]:
    """Sums of 200 rows in three columns, of which one lacks some values."""
    rng = np.random.default_rng(nodes)
    bins = Binning.of([np.arange(n, dtype=np.float32) for n in (20, 7, 40)])
    found = np.zeros((nodes, int(bins.starts[-1]), 2), np.int64)
    for node in range(nodes):
        pairs = np.column_stack([rng.integers(-(1 << 30), 1 << 30, 200), rng.integers(0, 1 << 30, 200)])
        for column, most in enumerate(bins.count + (2, 1, 1)):
            np.add.at(found[node], bins.starts[column] + rng.integers(0, most, 200), pairs)
    return found, bins


def same(one: Best, other: Best, times: int = 1) -> bool:
    exact = all(np.array_equal(getattr(one, n), getattr(other, n)) for n in ("gain", "feature", "bin", "default_left"))
    sums = ((one.gradient, other.gradient), (one.hessian, other.hessian))
    return exact and all(np.array_equal(a * times, b) for a, b in sums)


@pytest.mark.parametrize("bits", [0, 24])
def test_gains_are_those_of_whole_numbers_however_large(bits: int) -> None:
    """Sums beyond what float64 holds are taken from each other as whole numbers, and rounded then."""
    sums, bins = histograms(5)
    sums = (sums << bits) + np.random.default_rng(1).integers(0, 1 << bits, sums.shape)
    sums[:, bins.starts[1:] - 1] = 0  # no value is missing, so there is one way for each split
    sums[:, bins.starts[:-1]] += sums[:, : bins.starts[1]].sum(axis=1, keepdims=True) - np.stack(
        [sums[:, a:b].sum(axis=1) for a, b in zip(bins.starts[:-1], bins.starts[1:], strict=True)], axis=1
    )  # each column has all rows
    assert (np.abs(sums).max() > 1 << 53) == (bits > 0)
    unit = 2.0 ** -(30 + bits)
    found = best(sums, np.full((5, 2), unit), bins, Penalty())

    def score(gradient: int, hessian: int) -> float:
        g, h = float(gradient) * unit, float(hessian) * unit
        return g * g / (h + 1.0)

    for node in range(5):
        gains = []
        total = [int(v) for v in sums[node, : bins.starts[1]].sum(axis=0)]
        for column, low in enumerate(bins.starts[:-1].tolist()):
            for bin in range(int(bins.count[column])):
                left = [int(v) for v in sums[node, low : low + bin + 1].sum(axis=0)]
                right = [total[0] - left[0], total[1] - left[1]]
                if min(left[1], right[1]) * unit >= 1:
                    gains.append((score(*left) + score(*right) - score(*total), -column, -bin, left))
        gain, column, bin, left = max(gains)
        assert (found.gain[node], found.feature[node], found.bin[node]) == (gain, -column, -bin)
        assert [found.gradient[node], found.hessian[node]] == left


def test_nodes_are_searched_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, bins = histograms(9)
    unit = np.tile([2.0**-30, 2.0**-30], (9, 1))
    found = best(sums, unit, bins, Penalty())
    for block in ("_BLOCK", "_QUICK_BLOCK"):
        monkeypatch.setattr(splits, block, 1)  # each by itself
    for quick in (False, True):
        monkeypatch.setattr(splits, "worthwhile", lambda numbers, quick=quick: quick)
        assert same(found, best(sums, unit, bins, Penalty()))


@pytest.mark.parametrize("seed", range(40))
def test_the_compiled_search_finds_what_numpy_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without missing values, categories, forbidden columns, penalties, and sums beyond what float64 holds;
    and where the columns do not add up, which a coordinator that sees only the sum of all sites may be given."""
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 12, int(rng.integers(1, 6)))
    categories = np.where(rng.random(len(count)) < 0.25, count + 1, 0) if seed % 3 == 0 else None
    bins = Binning.of([np.sort(rng.normal(size=n)).astype(np.float32) for n in count], categories)
    m, bits = int(rng.integers(1, 7)), int(rng.choice([0, 24, 30]))
    sums = np.zeros((m, int(bins.starts[-1]), 2), np.int64)
    for node in range(m):
        rows = int(rng.integers(0, 60))
        pairs = np.stack([rng.integers(-(1 << 30), 1 << 30, rows), rng.integers(0, 1 << 30, rows)], axis=1) << bits
        for column, start in enumerate(bins.starts[:-1]):
            most = int(bins.count[column]) + int(rng.integers(1, 3))
            np.add.at(sums[node], start + rng.integers(0, most, rows), pairs)
    if seed % 5 == 0:
        sums += rng.integers(-5, 5, sums.shape)
    unit = np.ldexp(1.0, -30 - bits - rng.integers(0, 3, (m, 2)))
    reg_lambda, alpha, gamma, least = (float(rng.choice(some)) for some in ([0, 1, 3.5], [0, 0.5], [0, 0.1], [0, 1, 2]))
    penalty = Penalty(reg_lambda, alpha, gamma, least)
    allowed = rng.random((m, len(count))) < 0.7 if seed % 2 else None
    found = []
    for way in (False, True):
        monkeypatch.setattr(splits, "worthwhile", lambda numbers, way=way: way)
        found.append(best(sums, unit, bins, penalty, allowed))
    plain, fast = found
    assert same(plain, fast)
    assert np.array_equal(plain.right, fast.right)


def test_a_coordinator_without_numba_searches_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, bins = histograms(6)
    unit = np.tile([2.0**-30, 2.0**-30], (6, 1))
    found = best(sums, unit, bins, Penalty())
    monkeypatch.setattr(compiled, "installed", lambda: False)
    monkeypatch.delitem(sys.modules, "numba")
    monkeypatch.setattr(splits, "best_by_numbers", None)
    monkeypatch.setattr(splits, "best_of_pairs", None)
    assert not compiled.worthwhile(1 << 30)
    assert same(found, best(sums, unit, bins, Penalty()))
