"""SHAP values of many rows: those of the readable twin and of XGBoost; their sums are exact."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost

from hanse.boosting import importance, shap
from hanse.boosting.booster import dumps
from hanse.boosting.trees import LEAF, Trees, leaf, none
from hanse.messages import Array
from tests.boosting.test_booster import CATEGORIES, FEATURES, TYPES, booster, data, forest, objective


@pytest.mark.parametrize("categories", [True, False])
def test_they_are_the_twins_and_xgboosts(categories: bool) -> None:
    own, base = objective("multi:softprob"), np.float32([0.1, -0.2, 0.3])
    trees, X = forest(1, 3, 6, categories), data(0, 120)
    found = shap.values(trees, base, X)
    assert np.abs(found - importance.shap(trees, base, X)).max() < 1e-12
    names = [f"column {i}" for i in range(FEATURES)]
    rows = xgboost.DMatrix(X, feature_names=names, feature_types=TYPES, enable_categorical=True)
    theirs = booster(dumps(trees, base, own.document, FEATURES, names, CATEGORIES)).predict(rows, pred_contribs=True)
    assert np.abs(found - theirs).max() < 1e-5


def chain(depth: int) -> Trees:
    """A tree whose deepest leaf asks ``depth`` distinct features."""
    size = 2 * depth + 1
    left, right, feature = np.full(size, LEAF, np.int32), np.full(size, LEAF, np.int32), np.zeros(size, np.int32)
    left[0 : 2 * depth : 2], right[0 : 2 * depth : 2] = np.arange(1, size, 2), np.arange(2, size, 2)
    feature[0 : 2 * depth : 2] = np.arange(depth)
    whole = np.zeros(size, np.float32)
    value = np.where(left == LEAF, np.linspace(-1, 1, size), 0).astype(np.float32)
    cover = np.repeat(2.0 ** -np.arange(depth + 1), 2)[1:].astype(np.float32)
    zero, one = np.zeros(size, np.int32), np.zeros(1, np.int32)
    return Trees(
        np.int32([size]), one, left, right, feature, value, zero.astype(np.uint8), whole, cover, whole, zero, one[:0]
    )


def test_paths_of_many_features_are_computed_row_by_row() -> None:
    trees, X = chain(13), np.random.default_rng(0).normal(size=(40, 13))
    found, base = shap.values(trees, np.zeros(1, np.float32), X), np.zeros(1, np.float32)
    assert np.abs(found - importance.shap(trees, base, X)).max() < 1e-12


def test_sums_are_the_same_for_every_order_and_division_of_rows() -> None:
    trees, X = forest(2, 1, 10), data(3, 200)
    found, unit = shap.values(trees, np.zeros(1, np.float32), X), shap.unit(trees)
    whole = shap.sums(found, unit)
    order = np.random.default_rng(0).permutation(200)
    parts = [shap.sums(found[rows], unit) for rows in np.split(order, [0, 1, 70])]
    for name, expected in whole.items():
        assert np.array_equal(sum(part[name] for part in parts), expected), name
    own: Array = found[:, :, :-1]
    assert np.allclose(np.ldexp(whole["shap_size"].astype(float), unit), np.abs(own).sum(0), atol=1e-5)
    assert np.allclose(np.ldexp(whole["shap_squares"].astype(float), 2 * unit + 30), (own**2).sum(0), atol=1e-4)


def test_trees_without_splits_add_nothing() -> None:
    for trees in (none(), leaf(0, 0.5)):
        found = shap.values(trees, np.float32([0.25]), np.zeros((3, 2)))
        assert not found[:, :, :2].any()
        assert found[0, 0, 2] == 0.25 + 0.5 * len(trees)
        assert shap.unit(trees) == -30
