"""Numbers from 0 with a lump at 0 (claims, costs): the Tweedie deviance of the mean exp(F), of variance power ρ.

g = exp((2 - ρ) F) - y exp((1 - ρ) F), h = (2 - ρ) exp((2 - ρ) F) - y (1 - ρ) exp((1 - ρ) F). The base score is the
mean. Source: XGBoost 3.2, ``src/objective/regression_obj.cu``, ``TweedieRegression``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.exponential import exp
from hanse.boosting.number import LogLink, predicts_number
from hanse.boosting.objective import Objective, weighted
from hanse.messages import Array, Json
from hanse.settings import Setting, number
from hanse.task import Task

NAME = "reg:tweedie"
DEFAULT_FOR = ()
SETTINGS = {
    "tweedie_variance_power": Setting(1.5, "of reg:tweedie: 1 is near Poisson, 2 near gamma", number(1, 2, below=True))
}


@dataclass(frozen=True, slots=True)
class Tweedie(LogLink):
    power: float
    name = NAME

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME, "tweedie_regression_param": {"tweedie_variance_power": f"{self.power:.9g}"}}

    def unfit(self, y: Array) -> str:
        return "" if (y >= 0).all() else f"{NAME} learns numbers from 0; a target is less"

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        power, f, label = np.float32(self.power), margin[:, 0], y.astype(np.float32)
        one, two = np.float32(1) - power, np.float32(2) - power
        low, high = exp(one * f), exp(two * f)
        return weighted(-label * low + high, -label * one * low + two * high, weight)

    def bounds(self) -> tuple[None, None]:
        return None, None


fits = predicts_number


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    return Tweedie(float(options["tweedie_variance_power"]))
