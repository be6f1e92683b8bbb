"""scikit-learn's ``MLPRegressor``: a multi-layer perceptron (:mod:`hanse.models._mlp`), on a target
of mean 0 and scale 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.learning.fitting import task_fits
from hanse.learning.results import options_of, parameters_of, target_scale, task_of
from hanse.messages import Array, Json, Record
from hanse.models._mlp import SETTINGS, Perceptron, estimator
from hanse.settings import checked
from hanse.task import NUMBER, Task

NEEDS = "standardised"
LEARNS_BY = ("parameters", "row_gradients")
PREDICTS = (NUMBER,)


def build(task: Task, options: Mapping[str, Json]) -> Perceptron:
    task_fits("mlp_regressor", task, PREDICTS)
    return Perceptron(task, checked(options, SETTINGS, of="mlp_regressor"))


def native(result: Record) -> Any:
    """A fitted ``MLPRegressor`` for the design matrix, in the target's own units: its last layer is
    linear, so the target's scale is folded into it."""
    mean, scale = target_scale(result)
    found = parameters_of(result)
    last = len(found) // 2 - 1
    found[f"w{last}"] = found[f"w{last}"] * scale
    found[f"b{last}"] = found[f"b{last}"] * scale + mean
    options = checked(options_of(result), SETTINGS, of="mlp_regressor")
    return estimator(task_of(result), options, found, np.zeros(0))


def predict(result: Record, X: Array) -> Array:
    """(n,) values in the target's own units."""
    return np.asarray(native(result).predict(X), np.float64)
