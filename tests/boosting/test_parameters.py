"""XGBoost's parameters: names, aliases, ranges, and what people try that a federation does not have."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xgboost

from hanse.boosting.parameters import INSTEAD, interactions, monotone, read, settings
from hanse.errors import ConfigError


def theirs() -> dict[str, Any]:
    """What XGBoost itself says its parameters and defaults are."""
    booster = xgboost.train({}, xgboost.DMatrix(np.zeros((4, 1)), np.arange(4)), 1)
    trees = json.loads(booster.save_config())["learner"]["gradient_booster"]["tree_train_param"]
    return dict(trees)


def test_the_defaults_are_xgboosts() -> None:
    said, found = theirs(), read({})
    compared = sorted(
        said.keys() & found.keys() - {"max_delta_step", "monotone_constraints", "interaction_constraints"}
    )
    assert len(compared) > 12
    for name in compared:
        assert said[name] == found[name] or float(said[name]) == pytest.approx(found[name]), name


def test_every_parameter_of_xgboosts_trees_is_taken_or_says_what_to_do() -> None:
    known = {*settings(), *(a for s in settings().values() for a in s.aliases), *INSTEAD}
    unknown = set(theirs()) - known - {"sparse_threshold", "min_split_loss", "refresh_leaf", "lambda", "alpha", "eta"}
    assert unknown == set()


def test_aliases_mean_the_same() -> None:
    short = read({"eta": 0.1, "lambda": 2.0, "alpha": 3.0, "min_split_loss": 4.0})
    assert short == read({"learning_rate": 0.1, "reg_lambda": 2.0, "reg_alpha": 3.0, "gamma": 4.0})


def test_objectives_bring_their_own() -> None:
    assert read({"tweedie_variance_power": 1.3})["tweedie_variance_power"] == 1.3
    assert read({})["scale_pos_weight"] == 1.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_dept": 3}, "no setting 'max_dept' of xgboost; did you mean 'max_depth'"),
        ({"subsample": 0}, "subsample of xgboost is 0; expected a number above 0 up to 1"),
        ({"eta": "fast"}, "eta of xgboost is 'fast'; expected a number above 0"),
        ({"random_state": 1}, "random_state of xgboost cannot be set: seed of the run"),
        ({"booster": "dart"}, "booster of xgboost is 'dart'; expected one of"),
        ({"tree_method": "exact"}, "tree_method of xgboost is 'exact'"),
        ({"tweedie_variance_power": 2}, "expected a number from 1 to below 2"),
        ({"max_depth": 0}, "max_depth is 0, and so is max_leaves"),
        ({"monotone_constraints": {"age": 2}}, "an object of column to -1, 0 or 1"),
        ({"interaction_constraints": [[]]}, "a list of lists of columns"),
        ({"interaction_constraints": "[[0, 1]]"}, "a list of lists of columns"),
    ],
)
def test_what_does_not_fit_is_said(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(options, "xgboost")
    assert says in str(error.value)


def test_constraints_name_columns_or_give_all() -> None:
    features = ["sex", "site", "age", "sexual"]
    assert monotone(read({"monotone_constraints": {"age": 1, "sex": -1}}), features).tolist() == [-1, 0, 1, 0]
    assert monotone(read({"monotone_constraints": [0, 1, 0, -1]}), features).tolist() == [0, 1, 0, -1]
    assert monotone(read({}), features).tolist() == [0, 0, 0, 0]
    found = interactions(read({"interaction_constraints": [["sex", "age"], [2, 3]]}), features)
    assert found is not None
    assert found.astype(int).tolist() == [[1, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]]
    assert interactions(read({}), features) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"monotone_constraints": {"weight": 1}}, "names the column 'weight'; there are age, bmi"),
        ({"monotone_constraints": [1]}, "is a list of 1; expected one of 2"),
        ({"interaction_constraints": [["age", 2]]}, "names the column 2; there are age, bmi"),
    ],
)
def test_columns_that_are_not_there_are_said(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        monotone(read(options), ["age", "bmi"])
        interactions(read(options), ["age", "bmi"])
