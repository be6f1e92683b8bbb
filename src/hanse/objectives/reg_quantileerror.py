"""A quantile of a number: the pinball loss; g = 1 - α where F >= y, else -α; h = 1. A leaf is the α-quantile of its
residuals.

Source: XGBoost 3.2, ``src/objective/quantile_obj.cu``; ``adaptive.cc``. One quantile a model: XGBoost takes a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.objective import Objective, weighted
from hanse.messages import Array, Json
from hanse.settings import Setting, number
from hanse.task import NUMBER, Task

NAME = "reg:quantileerror"
DEFAULT_FOR = ()
LEAVES_ARE_QUANTILES = True
SETTINGS = {"quantile_alpha": Setting(0.5, "of reg:quantileerror: the quantile that is learned", number(0, 1))}


@dataclass(frozen=True, slots=True)
class QuantileError:
    quantile: float
    name = NAME
    outputs = 1

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME, "quantile_loss_param": {"quantile_alpha": f"[{self.quantile:.9g}]"}}

    def unfit(self, y: Array) -> str:
        return ""

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        alpha = np.float32(self.quantile)
        g = np.where(margin[:, 0] - y.astype(np.float32) >= 0, np.float32(1) - alpha, -alpha)
        return weighted(g, np.ones(len(y), np.float32), weight)

    def bounds(self) -> tuple[float, float]:
        alpha = np.float32(self.quantile)
        return float(max(alpha, np.float32(1) - alpha)), 1.0

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
    return QuantileError(float(options["quantile_alpha"]))
