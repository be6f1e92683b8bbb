"""A number by its median: the absolute error |y - F|; g = sign(F - y), h = 1. A leaf is the median of its residuals.

Source: XGBoost 3.2, ``src/objective/regression_obj.cu``, ``MeanAbsoluteError``; ``adaptive.cc``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.objective import Objective, weighted
from hanse.messages import Array, Json
from hanse.settings import Setting
from hanse.task import NUMBER, Task

NAME = "reg:absoluteerror"
DEFAULT_FOR = ()
LEAVES_ARE_QUANTILES = True
SETTINGS: dict[str, Setting] = {}


@dataclass(frozen=True, slots=True)
class AbsoluteError:
    name = NAME
    outputs = 1
    quantile = 0.5

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME}

    def unfit(self, y: Array) -> str:
        return ""

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        return weighted(np.sign(margin[:, 0] - y.astype(np.float32)), np.ones(len(y), np.float32), weight)

    def bounds(self) -> tuple[float, float]:
        return 1.0, 1.0

    def begin(self, y: Array) -> Array:
        return np.zeros((len(y), 0))

    def base(self, totals: Array, rows: float) -> Array:
        return np.zeros(1, np.float32)

    def stated(self, base: float) -> Array:
        return np.array([base], np.float32)

    def margin(self, base: Array) -> Array:
        return np.asarray(base, np.float32)

    def predict(self, margin: Array) -> Array:
        return margin[:, 0].astype(np.float64)


def fits(task: Task) -> bool:
    return task.predicts == NUMBER


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    return AbsoluteError()
