"""A number by its median: the absolute error |y - F|; g = sign(F - y), h = 1. A leaf is the median of its residuals.

Source: XGBoost 3.2, ``src/objective/regression_obj.cu``, ``MeanAbsoluteError``; ``adaptive.cc``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.number import QuantileLeaves, predicts_number
from hanse.boosting.objective import Objective, weighted
from hanse.messages import Array, Json
from hanse.settings import Setting
from hanse.task import Task

NAME = "reg:absoluteerror"
DEFAULT_FOR = ()
LEAVES_ARE_QUANTILES = True
SETTINGS: dict[str, Setting] = {}


@dataclass(frozen=True, slots=True)
class AbsoluteError(QuantileLeaves):
    name = NAME

    @property
    def quantile(self) -> float:
        return 0.5

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME}

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        return weighted(np.sign(margin[:, 0] - y.astype(np.float32)), np.ones(len(y), np.float32), weight)

    def bounds(self) -> tuple[float, float]:
        return 1.0, 1.0


fits = predicts_number


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    return AbsoluteError()
