"""Bins of values, and trees that are walked on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hanse.boosting.binning import PRESENT, Binning
from hanse.boosting.trees import LEAF, Trees, join, margins
from hanse.boosting.workspace import Workspace

from .test_trees import listing, split

Matrix = np.ndarray[Any, Any]
EDGES = [np.float32([-1, 0, 1.5]), np.zeros(0, np.float32), np.float32([1, 2, 3])]
CODES = np.array([0, 0, 4])  # the last column has four categories


def rows(n: int = 400) -> Matrix:
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=n), np.full(n, 7.0), rng.integers(0, 4, n)])
    X[: n // 4, 0] = rng.choice([-1, 0, 1.5, -0.0], n // 4)  # edges themselves
    X[rng.random((n, 3)) < 0.2] = np.nan
    return X


def work(X: Matrix) -> Workspace:
    return Workspace(lambda: (column[:, None] for column in X.T), len(X), Binning.of(EDGES, CODES), np.float32([0.5]))


def on(feature: int, trees: Trees) -> Trees:
    return Trees(**{n: getattr(trees, n) for n in Trees.__dataclass_fields__} | {"feature": np.int32([feature, 0, 0])})


@pytest.mark.parametrize("default_left", [True, False])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1.5, PRESENT, 0.3, -9.0, 9.0])
def test_margins_of_bins_are_those_of_values(threshold: float, default_left: bool) -> None:
    """Also at thresholds that are no edges (the last three): trees of another run."""
    X, tree = rows(), split(0, threshold, -1.0, 2.0, default_left)
    binned = work(X)
    assert binned.bins.hold(tree) == (threshold in (-1.0, 0.0, 1.5, PRESENT))
    trees = join([tree, on(1, split(0, PRESENT, 0.25, 3.0)), on(2, listing(1, 3)), on(2, split(0, 1.5, 5.0, 7.0))])
    binned.add(trees)
    assert (binned.margins == margins(trees, np.float32([0.5]), X)).all()


def test_only_some_rows_are_added_to() -> None:
    X, tree = rows(), split(0, 0.0, -1.0, 2.0)
    binned, some = work(X), np.arange(0, 400, 3, dtype=np.int32)
    binned.add(tree, some)
    expected = np.full((400, 1), np.float32(0.5))
    expected[some] = margins(tree, np.float32([0.5]), X[some])
    assert (binned.margins == expected).all()
    assert (tree.left[1:] == LEAF).all()


@pytest.mark.parametrize(("edges", "bytes"), [(254, 1), (255, 2), (65534, 2), (65535, 4)])
def test_the_bin_of_missing_values_is_not_another_one(edges: int, bytes: int) -> None:
    """65,536 bins of values (max_bin) and one of missing ones are more than two bytes tell apart."""
    bins = Binning.of([np.arange(edges, dtype=np.float32)])
    found = bins.put([np.array([[-1.0], [edges], [np.nan]])], 3)
    assert found.itemsize == bytes
    assert found.ravel().tolist() == [0, edges, edges + 1]
