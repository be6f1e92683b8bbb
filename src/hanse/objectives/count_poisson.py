"""Counts: the Poisson deviance of the mean exp(F); g = exp(F) - y, h = exp(F + ``max_delta_step``).

The Hessian is larger than the loss's own, so that a step stays small: 0.7 unless ``max_delta_step`` is set. The base
score is the mean. Source: XGBoost 3.2, ``src/objective/regression_obj.cu``, ``PoissonRegression``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.exponential import exp
from hanse.boosting.number import LogLink, predicts_number
from hanse.boosting.objective import Objective, weighted
from hanse.messages import Array, Json
from hanse.settings import Setting, maybe, number
from hanse.task import Task

NAME = "count:poisson"
DEFAULT_FOR = ("counts",)
SETTINGS = {
    "max_delta_step": Setting(
        None, "largest value of a leaf before shrinkage, 0: no limit; null: 0, of count:poisson 0.7", maybe(number(0))
    )
}


@dataclass(frozen=True, slots=True)
class Poisson(LogLink):
    step: float
    name = NAME

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME, "poisson_regression_param": {"max_delta_step": f"{self.step:.9g}"}}

    def unfit(self, y: Array) -> str:
        return "" if (y >= 0).all() else f"{NAME} learns numbers from 0; a target is less"

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        f = margin[:, 0]
        return weighted(exp(f) - y.astype(np.float32), exp(f + np.float32(self.step)), weight)

    def bounds(self) -> tuple[None, None]:
        return None, None


fits = predicts_number


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    step = options["max_delta_step"]
    return Poisson(0.7 if step is None else float(step))
