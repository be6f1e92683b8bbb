"""scikit-learn's ``LogisticRegression`` (multinomial for more than two classes).

Local training takes ``local_epochs`` iterations of L-BFGS, from the parameters of the federation,
on scikit-learn's objective over the site's rows: mean log loss + |coef|²/(2·C·n). scikit-learn's
own ``fit`` refuses a site that lacks a class, so the objective is ours and the solver SciPy's, the
same one. A term of the objective is in its value and its gradient; the gradient that is told is that of
all rows at the parameters of the federation. ``batch_size`` and ``learning_rate`` have no meaning here. ``C`` counts
for each site's own rows: the sites' penalties are averaged, weighted by rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.convex import Convex, logistic, multinomial
from hanse.learning.fitting import task_fits
from hanse.learning.results import labels_of, options_of, parameters_of, sklearn, task_of
from hanse.messages import Array, Json, Record
from hanse.models._lbfgs import minimise
from hanse.privacy.clipped_rows import clipped_linear
from hanse.settings import Setting, boolean, checked, either, number, one_of
from hanse.task import PROBABILITIES, Task
from hanse.training import Learned, Training

NEEDS = "standardised"
LEARNS_BY = ("sums", "parameters", "row_gradients")
PREDICTS = (PROBABILITIES,)
SETTINGS = {
    "C": Setting(
        1.0, "inverse of the strength of the L2 penalty; inf: none", either(number(0, above=True), one_of("inf"))
    ),
    "fit_intercept": Setting(True, "whether there is an intercept", boolean),
}


class LogisticRegression:
    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        self.task, self.options = task, options

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        rows = self.task.outputs
        return {"coef": np.zeros((rows, len(self.task.features))), "intercept": np.zeros(rows)}

    def train(
        self,
        parameters: Mapping[str, Array],
        X: Array,
        y: Array,
        rng: np.random.Generator,
        training: Training,
    ) -> Learned:
        shape = np.shape(parameters["coef"])
        size, rows = shape[0] * shape[1], np.arange(len(y))
        alpha = 1.0 / (float(self.options["C"]) * len(y))

        def objective(flat: Array) -> tuple[float, Array]:
            coef, intercept = flat[:size].reshape(shape), flat[size:]
            score = X @ coef.T + intercept
            if shape[0] == 1:
                z = score[:, 0]
                loss = np.logaddexp(0.0, z) - y * z
                error = (_sigmoid(z) - y)[:, None]
            else:
                score = score - score.max(1, keepdims=True)
                total = np.log(np.exp(score).sum(1))
                loss = total - score[rows, y]
                error = np.exp(score - total[:, None])
                error[rows, y] -= 1
            gradient = error.T @ X / len(y) + alpha * coef
            free = error.mean(0) if self.options["fit_intercept"] else np.zeros(shape[0])
            return float(loss.mean() + alpha / 2 * (coef**2).sum()), np.concatenate([gradient.ravel(), free])

        return minimise(objective, parameters, ("coef", "intercept"), training)

    def clipped(self, parameters: Mapping[str, Array], X: Array, y: Array, bound: float) -> dict[str, Array]:
        """See ``row_gradients`` of :mod:`hanse.models`."""
        _, errors, _ = self.convex.family(X @ parameters["coef"].T + parameters["intercept"], y)
        return clipped_linear(parameters, X, errors, bound, bool(self.options["fit_intercept"]))

    def penalty_gradient(self, parameters: Mapping[str, Array], rows: float) -> dict[str, Array]:
        """See ``row_gradients`` of :mod:`hanse.models`."""
        return {"coef": parameters["coef"] / (float(self.options["C"]) * rows)}

    @property
    def convex(self) -> Convex:
        family = logistic if self.task.outputs == 1 else multinomial
        penalty, free = 1.0 / float(self.options["C"]), bool(self.options["fit_intercept"])  # 1 / inf: none
        return Convex(family, self.task.outputs, len(self.task.features), penalty, free, effect="odds_ratio")

    def parameters(self, theta: Array) -> dict[str, Array]:
        return {"coef": theta[:, :-1].copy(), "intercept": theta[:, -1].copy()}

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        return _probabilities(self.task, parameters, X)

    def native(self, parameters: Mapping[str, Array]) -> Any:
        return _estimator(self.task, self.options, parameters, np.arange(len(self.task.classes)))


def _sigmoid(z: Array) -> Array:
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def _probabilities(task: Task, parameters: Mapping[str, Array], X: Array) -> Array:
    """What the estimator's ``predict_proba`` gives, to the bit. A node that only measures such a model need not load
    scikit-learn, which takes a second and 100 MB."""
    scores = X @ np.array(parameters["coef"]).T + parameters["intercept"]
    if task.outputs == 1:
        from scipy.special import expit

        return np.asarray(expit(scores[:, 0]), np.float64)
    scores -= scores.max(1, keepdims=True)
    np.exp(scores, out=scores)
    return np.asarray(scores / scores.sum(1, keepdims=True), np.float64)


def _estimator(task: Task, options: Mapping[str, Any], parameters: Mapping[str, Array], classes: Array) -> Any:
    model = sklearn("linear_model").LogisticRegression(**{**options, "C": float(options["C"])})
    model.classes_, model.n_features_in_ = classes, len(task.features)
    model.coef_, model.intercept_ = np.array(parameters["coef"]), np.array(parameters["intercept"])
    return model


def build(task: Task, options: Mapping[str, Json]) -> LogisticRegression:
    task_fits("logistic_regression", task, PREDICTS)
    return LogisticRegression(task, checked(options, SETTINGS, of="logistic_regression"))


def native(result: Record) -> Any:
    """A fitted ``LogisticRegression`` for the design matrix, with the original labels."""
    options = checked(options_of(result), SETTINGS, of="logistic_regression")
    return _estimator(task_of(result), options, parameters_of(result), labels_of(result))


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`."""
    return _probabilities(task_of(result), parameters_of(result), X)
