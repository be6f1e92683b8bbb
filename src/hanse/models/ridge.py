"""scikit-learn's ``Ridge``: least squares with the penalty α |coef|², fitted exactly.

With the loss |y - Xw|² / 2 over all rows of all sites the penalty is α / 2 |w|²; the intercept goes free. The rows are
standardised with the mean and scale of all sites, so α means the same for every feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.convex import Convex, squared
from hanse.learning.fitting import task_fits
from hanse.learning.results import linear_in_units, options_of, sklearn, task_of
from hanse.messages import Array, Json, Record
from hanse.settings import Setting, boolean, checked, number
from hanse.task import NUMBER, Task

NEEDS = "standardised"
LEARNS_BY = ("sums",)
PREDICTS = (NUMBER,)
SETTINGS = {
    "alpha": Setting(1.0, "strength of the L2 penalty", number(0)),
    "fit_intercept": Setting(True, "whether there is an intercept", boolean),
}


class Ridge:
    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        self.task, self.options = task, options

    @property
    def convex(self) -> Convex:
        alpha, free = float(self.options["alpha"]), bool(self.options["fit_intercept"])
        return Convex(squared, 1, len(self.task.features), alpha, free, dispersed=True, scaled=True)

    def parameters(self, theta: Array) -> dict[str, Array]:
        return {"coef": theta[0, :-1].copy(), "intercept": theta[0, -1:].copy()}

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        return np.asarray(X @ parameters["coef"] + parameters["intercept"][0], np.float64)


def build(task: Task, options: Mapping[str, Json]) -> Ridge:
    task_fits("ridge", task, PREDICTS)
    return Ridge(task, checked(options, SETTINGS, of="ridge"))


def native(result: Record) -> Any:
    """A fitted ``Ridge`` for the design matrix, in the target's own units."""
    found = linear_in_units(result)
    model = sklearn("linear_model").Ridge(**checked(options_of(result), SETTINGS, of="ridge"))
    model.n_features_in_ = len(task_of(result).features)
    model.coef_, model.intercept_ = found["coef"], float(found["intercept"][0])
    return model


def predict(result: Record, X: Array) -> Array:
    """(n,) values in the target's own units."""
    found = linear_in_units(result)
    return np.asarray(X @ found["coef"] + float(found["intercept"][0]), np.float64)
