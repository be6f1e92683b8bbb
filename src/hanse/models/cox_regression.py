"""Cox's regression of the time until an event, stratified by site: hazard ratios, fitted exactly.

All sites have the hazard ratios in common, and each has a baseline hazard of its own, as of strata in lifelines'
``CoxPHFitter`` and statsmodels' ``PHReg``. The target is two columns, a time and whether it was that of the event. With
``alpha = 0`` the regression table has standard errors; else α / 2 |coef|² is added over all rows, in units in which
numbers have mean 0 and scale 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.learning.fitting import task_fits
from hanse.learning.partial_likelihood import BRESLOW, EFRON, PartialLikelihood, alone
from hanse.learning.results import parameters_of, task_of
from hanse.messages import Array, Json, Record
from hanse.settings import Setting, checked, number, one_of
from hanse.task import HAZARD, Task

NEEDS = "standardised"
LEARNS_BY = ("sums",)
PREDICTS = (HAZARD,)
JOINTLY = True
EQUALS = "the pooled fit stratified by site (hazard ratios in common, each site its own baseline hazard)"
SETTINGS = {
    "ties": Setting(EFRON, "how events at the same time count", one_of(EFRON, BRESLOW)),
    "alpha": Setting(0.0, "strength of the L2 penalty; 0: none", number(0)),
}


class CoxRegression:
    """The adapter, whose intercept stays 0: each site's baseline hazard has it."""

    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        self.task, self.options = task, options

    @property
    def convex(self) -> PartialLikelihood:
        features, alpha = len(self.task.features), float(self.options["alpha"])
        return PartialLikelihood(alone, 1, features, alpha, False, effect="hazard_ratio", ties=self.options["ties"])

    def parameters(self, theta: Array) -> dict[str, Array]:
        return {"coef": theta[0, :-1].copy(), "intercept": theta[0, -1:].copy()}

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        return _hazards(parameters["coef"], X)


@dataclass(frozen=True, eq=False)
class HazardRatios:
    """What a Cox regression has learned, for the design matrix; in the names of lifelines and scikit-learn.

    Args:
        coef_: (f,) log hazard ratios.
        feature_names_in_: (f,) of the columns.
    """

    coef_: Array
    feature_names_in_: Array

    @property
    def params_(self) -> dict[str, float]:
        """The log hazard ratios by column."""
        return dict(zip(self.feature_names_in_.tolist(), self.coef_.tolist(), strict=True))

    def predict(self, X: Any) -> Array:
        """(n,) exp(xᵀβ): how many times as likely an event is as for a row of zeros at the same site."""
        return _hazards(self.coef_, np.asarray(X, np.float64))

    predict_partial_hazard = predict


def build(task: Task, options: Mapping[str, Json]) -> CoxRegression:
    task_fits("cox_regression", task, PREDICTS)
    return CoxRegression(task, checked(options, SETTINGS, of="cox_regression"))


def native(result: Record) -> HazardRatios:
    """Its :class:`HazardRatios`, as no library makes a stratified model without its rows."""
    return HazardRatios(parameters_of(result)["coef"], np.array(task_of(result).features, object))


def predict(result: Record, X: Array) -> Array:
    """(n,) hazards, against a row whose numbers are at the mean."""
    return _hazards(parameters_of(result)["coef"], X)


def _hazards(coef: Array, X: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(X @ coef), np.float64)
