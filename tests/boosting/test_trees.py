"""The value of a boosted model: what it predicts, and what is no model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hanse.boosting.trees import LEAF, Trees, fault, join, leaf, margins, none
from hanse.codec import decode, encode
from hanse.errors import WireError
from hanse.messages import Array


def split(
    feature: int, threshold: float, left: float, right: float, default_left: bool = True, group: int = 0
) -> Trees:
    """A tree of one split."""
    return Trees(
        size=np.int32([3]),
        group=np.int32([group]),
        left=np.int32([1, LEAF, LEAF]),
        right=np.int32([2, LEAF, LEAF]),
        feature=np.int32([feature, 0, 0]),
        value=np.float32([threshold, left, right]),
        default_left=np.uint8([default_left, 0, 0]),
        gain=np.float32([1, 0, 0]),
        cover=np.float32([2, 1, 1]),
        weight=np.float32([0, left, right]),
        listed=np.zeros(3, np.int32),
        categories=np.zeros(0, np.int32),
    )


def listing(*categories: int) -> Trees:
    """A tree of one split on categories of feature 0: 2 for those that are listed, else 1."""
    one = split(0, 0.0, 1.0, 2.0)
    return replace(one, listed=np.int32([len(categories), 0, 0]), categories=np.int32(categories))


def one(trees: Trees, *values: float) -> list[float]:
    X: Array = np.array(values, np.float64)[:, None]
    return [float(v) for v in margins(trees, np.float32([0.0]), X)[:, 0]]


def test_less_than_the_threshold_goes_left_and_equal_goes_right() -> None:
    assert one(split(0, 0.1, -1.0, 1.0), 0.0, 0.1, 0.2) == [-1.0, 1.0, 1.0]


def test_values_are_compared_as_float32_as_xgboost_reads_them() -> None:
    """0.1 of float64 and what is nearest to it in float32 are one number to XGBoost."""
    assert one(split(0, 0.1, -1.0, 1.0), float(np.float32(0.1)), 0.1 + 1e-12, 0.1 - 1e-8) == [1.0, 1.0, -1.0]


@pytest.mark.parametrize("default_left", [True, False])
def test_missing_values_go_where_the_split_says(default_left: bool) -> None:
    assert one(split(0, 0.0, -1.0, 1.0, default_left), np.nan) == [-1.0 if default_left else 1.0]


def test_listed_categories_go_right_and_unknown_ones_left() -> None:
    assert one(listing(0, 1, 3), 0, 1, 2, 3, 99, -0.5) == [2.0, 2.0, 1.0, 2.0, 1.0, 1.0]


def test_margins_add_in_float32_in_the_order_of_the_trees() -> None:
    leaves = [2.0**24, 1.0, -(2.0**24)]
    assert one(join([leaf(0, v) for v in leaves]), 0.0) == [0.0]  # 2^24 + 1 is none of float32
    assert one(join([leaf(0, v) for v in (leaves[0], leaves[2], leaves[1])]), 0.0) == [1.0]


def test_each_tree_is_for_its_output() -> None:
    trees = join([split(0, 0.0, 1.0, 2.0, group=1), leaf(0, 5.0)])
    assert margins(trees, np.float32([0.5, 0.25]), np.array([[-1.0], [1.0]])).tolist() == [[5.5, 1.25], [5.5, 2.25]]


def test_parts_of_an_ensemble_are_its_trees() -> None:
    parts = [split(0, 0.5, 1.0, 2.0), listing(2, 4), leaf(0, 3.0), listing(0)]
    whole = join(parts)
    for i, part in enumerate(parts):
        cut = whole.some(i, i + 1)
        assert encode(cut).arrays.keys() == encode(part).arrays.keys()
        assert all(np.array_equal(encode(cut).arrays[n], encode(part).arrays[n]) for n in encode(part).arrays)


def test_it_travels() -> None:
    trees = join([split(0, 0.5, 1.0, 2.0), listing(2, 4)])
    back = decode(Trees, encode(trees))
    assert fault(back, 1, 1) == ""
    assert one(back, 2.0) == one(trees, 2.0)
    assert len(decode(Trees, encode(none()))) == 0
    with pytest.raises(WireError, match="value of Trees is float64"):
        decode(Trees, replace_arrays(trees, value=trees.value.astype(np.float64)))


def replace_arrays(trees: Trees, **arrays: Array) -> Any:
    record = encode(trees)
    return type(record)(record.data, {**record.arrays, **arrays})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"left": np.int32([0, LEAF, LEAF])}, "after its parent"),
        ({"left": np.int32([2, LEAF, LEAF])}, "one parent"),
        ({"right": np.int32([LEAF, LEAF, LEAF])}, "one child"),
        ({"right": np.int32([3, LEAF, LEAF])}, "after its parent"),
        ({"feature": np.int32([1, 0, 0])}, "feature that does not exist"),
        ({"feature": np.int32([-1, 0, 0])}, "feature that does not exist"),
        ({"value": np.float32([np.nan, 0, 0])}, "NaN"),
        ({"value": np.float32([0, np.inf, 0])}, "NaN"),
        ({"group": np.int32([1])}, "output that does not exist"),
        ({"group": np.int32([-1])}, "output that does not exist"),
        ({"size": np.int32([2])}, "one entry a node"),
        ({"listed": np.int32([1, 0, 0])}, "another number"),
        ({"listed": np.int32([-1, 1, 0])}, "another number"),
        ({"listed": np.int32([0, 1, 0]), "categories": np.int32([1])}, "a leaf lists"),
        ({"listed": np.int32([1, 0, 0]), "categories": np.int32([-1])}, "a category is not"),
        ({"listed": np.int32([1, 0, 0]), "categories": np.int32([1 << 20])}, "a category is not"),
        ({"listed": np.int32([2, 0, 0]), "categories": np.int32([3, 3])}, "do not ascend"),
    ],
)
def test_what_is_no_tree_is_said(change: dict[str, Array], says: str) -> None:
    good = split(0, 0.5, 1.0, 2.0)
    assert fault(good, 1, 1) == ""
    assert says in fault(replace(good, **change), 1, 1)


def test_categories_of_two_splits_need_not_ascend_over_both() -> None:
    assert fault(join([listing(2, 4), listing(0, 1)]), 1, 1) == ""
