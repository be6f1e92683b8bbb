"""scikit-learn's ``LinearRegression``.

Local training takes ``local_epochs`` iterations of L-BFGS, from the parameters of the federation,
on half the mean squared error over the site's rows, for a target of mean 0 and scale 1. (A site's
own closed solution would forget what the other sites know.) A term of the objective is in its value and its
gradient; the gradient that is told is that of all rows at the parameters of the federation. ``batch_size`` and
``learning_rate`` have no meaning here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.convex import Convex, squared
from hanse.learning.fitting import task_fits
from hanse.learning.results import linear_in_units, options_of, sklearn, task_of
from hanse.messages import Array, Json, Record
from hanse.models._lbfgs import minimise
from hanse.privacy.clipped_rows import clipped_linear
from hanse.settings import Setting, boolean, checked
from hanse.task import NUMBER, Task
from hanse.training import Learned, Training

NEEDS = "standardised"
LEARNS_BY = ("sums", "parameters", "row_gradients")
PREDICTS = (NUMBER,)
SETTINGS = {"fit_intercept": Setting(True, "whether there is an intercept", boolean)}


class LinearRegression:
    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        self.task, self.options = task, options

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"coef": np.zeros(len(self.task.features)), "intercept": np.zeros(1)}

    def train(
        self,
        parameters: Mapping[str, Array],
        X: Array,
        y: Array,
        rng: np.random.Generator,
        training: Training,
    ) -> Learned:
        free = float(self.options["fit_intercept"])

        def objective(flat: Array) -> tuple[float, Array]:
            error = X @ flat[:-1] + flat[-1] - y
            gradient = np.append(X.T @ error, free * error.sum()) / len(y)
            return float((error**2).mean() / 2), gradient

        return minimise(objective, parameters, ("coef", "intercept"), training)

    def clipped(self, parameters: Mapping[str, Array], X: Array, y: Array, bound: float) -> dict[str, Array]:
        """See ``row_gradients`` of :mod:`hanse.models`."""
        errors = (self.predict(parameters, X) - y)[:, None]
        return clipped_linear(parameters, X, errors, bound, bool(self.options["fit_intercept"]))

    def penalty_gradient(self, parameters: Mapping[str, Array], rows: float) -> dict[str, Array]:
        """There is none."""
        return {}

    @property
    def convex(self) -> Convex:
        free = bool(self.options["fit_intercept"])
        return Convex(squared, 1, len(self.task.features), intercept=free, dispersed=True, scaled=True)

    def parameters(self, theta: Array) -> dict[str, Array]:
        return {"coef": theta[0, :-1].copy(), "intercept": theta[0, -1:].copy()}

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        return np.asarray(X @ parameters["coef"] + float(parameters["intercept"][0]), np.float64)

    def native(self, parameters: Mapping[str, Array]) -> Any:
        return _estimator(self.task, self.options, parameters)


def _estimator(task: Task, options: Mapping[str, Any], parameters: Mapping[str, Array]) -> Any:
    model = sklearn("linear_model").LinearRegression(**options)
    model.n_features_in_ = len(task.features)
    model.coef_, model.intercept_ = np.array(parameters["coef"]), float(parameters["intercept"][0])
    return model


def build(task: Task, options: Mapping[str, Json]) -> LinearRegression:
    task_fits("linear_regression", task, PREDICTS)
    return LinearRegression(task, checked(options, SETTINGS, of="linear_regression"))


def native(result: Record) -> Any:
    """A fitted ``LinearRegression`` for the design matrix, in the target's own units."""
    options = checked(options_of(result), SETTINGS, of="linear_regression")
    return _estimator(task_of(result), options, linear_in_units(result))


def predict(result: Record, X: Array) -> Array:
    """(n,) values in the target's own units."""
    found = linear_in_units(result)
    return np.asarray(X @ found["coef"] + float(found["intercept"][0]), np.float64)
