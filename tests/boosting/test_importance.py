"""Importance and SHAP values are those of XGBoost, and keep the law that defines them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import xgboost

from hanse.boosting.booster import dumps
from hanse.boosting.importance import Kind, scores, shap
from hanse.boosting.trees import LEAF, Trees, join, leaf, margins, none
from hanse.messages import Array

from .test_booster import CATEGORIES, FEATURES, TYPES, booster, data, forest, grown, objective

KINDS: tuple[Kind, ...] = ("weight", "gain", "cover", "total_gain", "total_cover")


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_booster(kind: Kind) -> None:
    own, trees = objective("binary:logistic"), forest(1, 1)
    found = booster(dumps(trees, np.float32([0.5]), own.document, FEATURES, (), CATEGORIES))
    said = found.get_score(importance_type=kind)
    expected = [said.get(f"f{i}", 0.0) for i in range(FEATURES)]
    assert scores(trees, FEATURES, kind) == pytest.approx(expected, rel=1e-5)
    assert min(expected) > 0
    assert scores(none(), FEATURES, kind).tolist() == [0.0] * FEATURES


@pytest.mark.parametrize("name", ["binary:logistic", "multi:softprob"])
def test_shap_values_are_those_of_the_booster(name: str) -> None:
    """Of trees whose covers add up, as those of rows do."""
    own = objective(name)
    trees, X = covered(forest(2, own.outputs, 12)), data(1, 200)
    base = np.float32([0.4, 0.1, -0.5][: own.outputs])
    found = booster(dumps(trees, base, own.document, FEATURES, (), CATEGORIES))
    rows = xgboost.DMatrix(X, feature_types=TYPES, enable_categorical=True)
    expected = found.predict(rows, pred_contribs=True).reshape(len(X), own.outputs, FEATURES + 1)
    values = shap(trees, own.margin(base), X)
    np.testing.assert_allclose(values, expected, atol=2e-5)
    np.testing.assert_allclose(values.sum(2), margins(trees, own.margin(base), X), atol=1e-5)


def covered(trees: Trees) -> Trees:
    """The same, where the covers of two children add up to their parent's."""
    cover = trees.cover.copy()
    for low, high in zip(trees.starts[:-1], trees.starts[1:], strict=True):
        for node in range(int(high) - 1, int(low) - 1, -1):
            if trees.left[node] != LEAF:
                cover[node] = cover[low + trees.left[node]] + cover[low + trees.right[node]]
    return replace(trees, cover=cover)


def test_shap_values_are_shapley_values() -> None:
    """By their definition, over all sets of features, for one tree."""
    tree = covered(grown(np.random.default_rng(8), 0, 5, categories=False))
    X = data(3, 5)
    found = shap(tree, np.zeros(1, np.float32), X)[:, 0]
    for row, values in zip(X, found, strict=True):
        worth = {known: expected(tree, row, known) for r in range(5) for known in itertools.combinations(range(4), r)}
        for i in range(4):
            others = [j for j in range(4) if j != i]
            shapley = 0.0
            for r in range(4):
                for known in itertools.combinations(others, r):
                    factor = math.factorial(r) * math.factorial(3 - r) / math.factorial(4)
                    shapley += factor * (worth[tuple(sorted((*known, i)))] - worth[known])
            assert values[i] == pytest.approx(shapley, abs=1e-6)
        assert values[-1] == pytest.approx(worth[()], abs=1e-6)


def expected(tree: Trees, row: Array, known: tuple[int, ...], node: int = 0) -> float:
    """The value of the tree where only some features are known."""
    if tree.left[node] == LEAF:
        return float(tree.value[node])
    left, right, feature = int(tree.left[node]), int(tree.right[node]), int(tree.feature[node])
    if feature in known:
        value = np.float32(row[feature])
        goes = tree.default_left[node] == 1 if np.isnan(value) else value < tree.value[node]
        return expected(tree, row, known, left if goes else right)
    share = float(tree.cover[left]) / float(tree.cover[node])
    return share * expected(tree, row, known, left) + (1 - share) * expected(tree, row, known, right)


def test_trees_without_splits_say_only_what_is_expected() -> None:
    found = shap(join([leaf(0, 0.5), leaf(0, 0.25)]), np.float32([1.0]), np.zeros((2, 3)))
    assert found.tolist() == [[[0.0, 0.0, 0.0, 1.75]]] * 2
