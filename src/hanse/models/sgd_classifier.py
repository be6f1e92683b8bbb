"""scikit-learn's ``SGDClassifier``: a linear classifier by stochastic gradient descent.

Local training is ``partial_fit`` (:mod:`hanse.models._sgd`). Every site trains all classes, also those that it has
never seen. Losses without probabilities (hinge) are not offered: there would be no loss and
no AUC to report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.learning.fitting import task_fits
from hanse.learning.results import (
    labels_of,
    log_loss,
    options_of,
    parameters_of,
    positive,
    seed_of,
    sklearn,
    task_of,
)
from hanse.messages import Array, Json, Record
from hanse.models._sgd import fit, penalty_gradient
from hanse.privacy.clipped_rows import clipped_linear
from hanse.settings import Setting, boolean, checked, either, nothing, number, one_of
from hanse.task import PROBABILITIES, Task
from hanse.training import Learned, Training

NEEDS = "standardised"
LEARNS_BY = ("parameters", "row_gradients")
PREDICTS = (PROBABILITIES,)
SETTINGS = {
    "loss": Setting("log_loss", "the logistic loss, or the smoothed hinge loss", one_of("log_loss", "modified_huber")),
    "penalty": Setting("l2", "the penalty on the coefficients; null: none", one_of("l2", "l1", "elasticnet", None)),
    "alpha": Setting(0.0001, "strength of the penalty", number(0)),
    "l1_ratio": Setting(0.15, "share of L1 in an elastic net", number(0, 1)),
    "fit_intercept": Setting(True, "whether there is an intercept", boolean),
    "shuffle": Setting(True, "new order of rows in each epoch", boolean),
    "epsilon": Setting(0.1, "of losses that this model does not offer; has no effect", number(0)),
    "class_weight": Setting(
        None,
        "balanced: classes weigh inversely to their share of rows; null: all rows alike",
        either(nothing, one_of("balanced")),
    ),
}


class SGDClassifier:
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
        options = dict(self.options)
        if options["class_weight"] == "balanced":  # partial_fit wants the weights, of the classes that are here
            counts = np.bincount(y, minlength=len(self.task.classes))
            present = np.maximum(counts, 1)
            options["class_weight"] = {c: len(y) / ((counts > 0).sum() * present[c]) for c in range(len(counts))}
        model = _estimator(self.task, options, parameters, np.arange(len(self.task.classes)), training.learning_rate)
        model.random_state = np.random.RandomState(seed_of(rng))
        return fit(model, X, y, training, lambda: log_loss(positive(model.predict_proba(X), self.task), y, self.task))

    def clipped(self, parameters: Mapping[str, Array], X: Array, y: Array, bound: float) -> dict[str, Array]:
        """See ``row_gradients`` of :mod:`hanse.models`; of more than two classes each is learned against all others."""
        wanted = y[:, None] if self.task.outputs == 1 else np.equal(y[:, None], np.arange(self.task.outputs))
        sign = 2.0 * wanted - 1.0
        margin = sign * (X @ parameters["coef"].T + parameters["intercept"])
        if self.options["loss"] == "log_loss":
            from scipy.special import expit

            slope = -expit(-margin)
        else:  # modified_huber
            slope = np.where(margin >= -1, -2.0 * np.maximum(0.0, 1.0 - margin), -4.0)
        return clipped_linear(parameters, X, sign * slope, bound, bool(self.options["fit_intercept"]))

    def penalty_gradient(self, parameters: Mapping[str, Array], rows: float) -> dict[str, Array]:
        """See ``row_gradients`` of :mod:`hanse.models`."""
        return penalty_gradient(self.options, parameters)

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        return positive(self.native(parameters).predict_proba(X), self.task)

    def native(self, parameters: Mapping[str, Array]) -> Any:
        return _estimator(self.task, self.options, parameters, np.arange(len(self.task.classes)), 0.01)


def _estimator(
    task: Task, options: Mapping[str, Any], parameters: Mapping[str, Array], classes: Array, learning_rate: float
) -> Any:
    model = sklearn("linear_model").SGDClassifier(**options, learning_rate="constant", eta0=learning_rate)
    model.classes_, model.n_features_in_, model.t_ = classes, len(task.features), 1.0
    model.coef_, model.intercept_ = np.array(parameters["coef"]), np.array(parameters["intercept"])
    return model


def build(task: Task, options: Mapping[str, Json]) -> SGDClassifier:
    task_fits("sgd_classifier", task, PREDICTS)
    return SGDClassifier(task, checked(options, SETTINGS, of="sgd_classifier"))


def native(result: Record) -> Any:
    """A fitted ``SGDClassifier`` for the design matrix, with the original labels."""
    options = checked(options_of(result), SETTINGS, of="sgd_classifier")
    return _estimator(task_of(result), options, parameters_of(result), labels_of(result), 0.01)


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`."""
    return positive(native(result).predict_proba(X), task_of(result))
