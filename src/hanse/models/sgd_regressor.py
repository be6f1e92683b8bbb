"""scikit-learn's ``SGDRegressor``: linear regression by stochastic gradient descent.

Local training is ``partial_fit`` (:mod:`hanse.models._sgd`), on a target of mean 0 and scale 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.errors import WireError
from hanse.learning.fitting import task_fits
from hanse.learning.results import linear_in_units, options_of, seed_of, sklearn, task_of
from hanse.messages import Array, Json, Record
from hanse.models._sgd import fit, penalty_gradient
from hanse.privacy.clipped_rows import clipped_linear
from hanse.settings import Setting, boolean, checked, number, one_of
from hanse.task import NUMBER, Task
from hanse.training import Learned, Training

NEEDS = "standardised"
LEARNS_BY = ("parameters", "row_gradients")
PREDICTS = (NUMBER,)
SETTINGS = {
    "loss": Setting(
        "squared_error",
        "what is minimised",
        one_of("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"),
    ),
    "penalty": Setting("l2", "the penalty on the coefficients; null: none", one_of("l2", "l1", "elasticnet", None)),
    "alpha": Setting(0.0001, "strength of the penalty", number(0)),
    "l1_ratio": Setting(0.15, "share of L1 in an elastic net", number(0, 1)),
    "fit_intercept": Setting(True, "whether there is an intercept", boolean),
    "shuffle": Setting(True, "new order of rows in each epoch", boolean),
    "epsilon": Setting(
        0.1, "within it errors cost nothing, or grow linearly beyond it (huber, epsilon_insensitive)", number(0)
    ),
}


class SGDRegressor:
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
        model = _estimator(self.task, self.options, parameters, training.learning_rate)
        model.random_state = np.random.RandomState(seed_of(rng))
        return fit(model, X, y, training, lambda: float(((model.predict(X) - y) ** 2).mean()))

    def clipped(self, parameters: Mapping[str, Array], X: Array, y: Array, bound: float) -> dict[str, Array]:
        """See ``row_gradients`` of :mod:`hanse.models`."""
        off = X @ parameters["coef"] + parameters["intercept"][0] - y
        width, beyond = self.options["epsilon"], np.maximum(0.0, np.abs(off) - self.options["epsilon"])
        errors = {
            "squared_error": off,
            "huber": np.clip(off, -width, width),
            "epsilon_insensitive": np.sign(off) * (beyond > 0),
            "squared_epsilon_insensitive": 2.0 * np.sign(off) * beyond,
        }[self.options["loss"]]
        return clipped_linear(parameters, X, errors[:, None], bound, bool(self.options["fit_intercept"]))

    def penalty_gradient(self, parameters: Mapping[str, Array], rows: float) -> dict[str, Array]:
        """See ``row_gradients`` of :mod:`hanse.models`."""
        return penalty_gradient(self.options, parameters)

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        return np.asarray(self.native(parameters).predict(X), np.float64)

    def native(self, parameters: Mapping[str, Array]) -> Any:
        return _estimator(self.task, self.options, parameters, 0.01)


def _estimator(task: Task, options: Mapping[str, Any], parameters: Mapping[str, Array], learning_rate: float) -> Any:
    shapes = {name: np.shape(parameters[name]) for name in ("coef", "intercept")}
    if shapes != {"coef": (len(task.features),), "intercept": (1,)}:
        raise WireError("the parameters are not those of a linear model of the agreed features")  # C code trusts them
    model = sklearn("linear_model").SGDRegressor(**options, learning_rate="constant", eta0=learning_rate)
    model.n_features_in_, model.t_ = len(task.features), 1.0
    model.coef_, model.intercept_ = np.array(parameters["coef"]), np.array(parameters["intercept"])
    return model


def build(task: Task, options: Mapping[str, Json]) -> SGDRegressor:
    task_fits("sgd_regressor", task, PREDICTS)
    return SGDRegressor(task, checked(options, SETTINGS, of="sgd_regressor"))


def native(result: Record) -> Any:
    """A fitted ``SGDRegressor`` for the design matrix, in the target's own units."""
    options = checked(options_of(result), SETTINGS, of="sgd_regressor")
    return _estimator(task_of(result), options, linear_in_units(result), 0.01)


def predict(result: Record, X: Array) -> Array:
    """(n,) values in the target's own units."""
    return np.asarray(native(result).predict(X), np.float64)
