"""scikit-learn's ``PoissonRegressor``: counts and rates by a log-linear model, fitted exactly.

scikit-learn minimises Σ (μ - y log μ) / n + α / 2 |coef|² with μ = exp(X coef + intercept). Times n that is the loss of
all rows with the penalty α n / 2 |coef|², so the penalty grows with the rows of all sites. ``alpha = 0`` is the plain
generalised linear model, whose regression table has standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.convex import Convex, poisson
from hanse.learning.fitting import task_fits
from hanse.learning.results import options_of, parameters_of, sklearn, task_of
from hanse.messages import Array, Json, Record
from hanse.settings import Setting, boolean, checked, number
from hanse.task import NUMBER, Task

NEEDS = "standardised"
LEARNS_BY = ("sums",)
PREDICTS = (NUMBER,)
SETTINGS = {
    "alpha": Setting(1.0, "strength of the L2 penalty, per row", number(0)),
    "fit_intercept": Setting(True, "whether there is an intercept", boolean),
}


class PoissonRegression:
    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        self.task, self.options = task, options

    @property
    def convex(self) -> Convex:
        alpha, free = float(self.options["alpha"]), bool(self.options["fit_intercept"])
        features = len(self.task.features)
        return Convex(poisson, 1, features, alpha, free, lowest=0.0, per_row=True, effect="rate_ratio", starts=math.log)

    def parameters(self, theta: Array) -> dict[str, Array]:
        return {"coef": theta[0, :-1].copy(), "intercept": theta[0, -1:].copy()}

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        return np.asarray(np.exp(X @ parameters["coef"] + parameters["intercept"][0]), np.float64)


def build(task: Task, options: Mapping[str, Json]) -> PoissonRegression:
    task_fits("poisson_regression", task, PREDICTS)
    return PoissonRegression(task, checked(options, SETTINGS, of="poisson_regression"))


def native(result: Record) -> Any:
    """A fitted ``PoissonRegressor`` for the design matrix."""
    found = parameters_of(result)
    options = checked(options_of(result), SETTINGS, of="poisson_regression")
    linear = sklearn("linear_model")
    model = linear.PoissonRegressor(**options)
    model.n_features_in_ = len(task_of(result).features)
    model.coef_, model.intercept_ = found["coef"], float(found["intercept"][0])
    model._base_loss = model._get_loss()
    return model


def predict(result: Record, X: Array) -> Array:
    """(n,) expected counts."""
    found = parameters_of(result)
    return np.asarray(np.exp(X @ found["coef"] + found["intercept"][0]), np.float64)
