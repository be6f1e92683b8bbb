"""A number: half of the squared error; g = F - y, h = 1. The base score is the mean.

Source: XGBoost 3.2, ``src/objective/regression_loss.h``, ``LinearSquareLoss``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.objective import Objective, weighted
from hanse.messages import Array, Json
from hanse.settings import Setting
from hanse.task import NUMBER, Task

NAME = "reg:squarederror"
DEFAULT_FOR = ("regression",)
SETTINGS: dict[str, Setting] = {}


@dataclass(frozen=True, slots=True)
class SquaredError:
    name = NAME
    outputs = 1
    quantile: None = None

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME, "reg_loss_param": {"scale_pos_weight": "1"}}

    def unfit(self, y: Array) -> str:
        return ""

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        return weighted(margin[:, 0] - y.astype(np.float32), np.ones(len(y), np.float32), weight)

    def bounds(self) -> tuple[None, float]:
        return None, 1.0

    def begin(self, y: Array) -> Array:
        return y.astype(np.float64)[:, None]

    def base(self, totals: Array, rows: float) -> Array:
        return np.array([totals[0] / rows if rows else 0.0], np.float32)

    def stated(self, base: float) -> Array:
        return np.array([base], np.float32)

    def margin(self, base: Array) -> Array:
        return np.asarray(base, np.float32)

    def predict(self, margin: Array) -> Array:
        return margin[:, 0].astype(np.float64)


def fits(task: Task) -> bool:
    return task.predicts == NUMBER


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    return SquaredError()
