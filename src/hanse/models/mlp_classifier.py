"""scikit-learn's ``MLPClassifier``: a multi-layer perceptron (:mod:`hanse.models._mlp`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanse.learning.fitting import task_fits
from hanse.learning.results import labels_of, options_of, parameters_of, positive, task_of
from hanse.messages import Array, Json, Record
from hanse.models._mlp import SETTINGS, Perceptron, estimator
from hanse.settings import checked
from hanse.task import PROBABILITIES, Task

NEEDS = "standardised"
LEARNS_BY = ("parameters", "row_gradients")
PREDICTS = (PROBABILITIES,)


def build(task: Task, options: Mapping[str, Json]) -> Perceptron:
    task_fits("mlp_classifier", task, PREDICTS)
    return Perceptron(task, checked(options, SETTINGS, of="mlp_classifier"))


def native(result: Record) -> Any:
    """A fitted ``MLPClassifier`` for the design matrix, with the original labels."""
    options = checked(options_of(result), SETTINGS, of="mlp_classifier")
    return estimator(task_of(result), options, parameters_of(result), labels_of(result))


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`."""
    return positive(native(result).predict_proba(X), task_of(result))
