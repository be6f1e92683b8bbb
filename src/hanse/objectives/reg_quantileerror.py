"""A quantile of a number: the pinball loss; g = 1 - α where F >= y, else -α; h = 1. A leaf is the α-quantile of its
residuals.

Source: XGBoost 3.2, ``src/objective/quantile_obj.cu``; ``adaptive.cc``. One quantile a model: XGBoost takes a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.number import QuantileLeaves, predicts_number
from hanse.boosting.objective import Objective, weighted
from hanse.messages import Array, Json
from hanse.settings import Setting, number
from hanse.task import Task

NAME = "reg:quantileerror"
DEFAULT_FOR = ()
LEAVES_ARE_QUANTILES = True
SETTINGS = {"quantile_alpha": Setting(0.5, "of reg:quantileerror: the quantile that is learned", number(0, 1))}


@dataclass(frozen=True, slots=True)
class QuantileError(QuantileLeaves):
    alpha: float
    name = NAME

    @property
    def quantile(self) -> float:
        return self.alpha

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME, "quantile_loss_param": {"quantile_alpha": f"[{self.alpha:.9g}]"}}

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        alpha = np.float32(self.alpha)
        g = np.where(margin[:, 0] - y.astype(np.float32) >= 0, np.float32(1) - alpha, -alpha)
        return weighted(g, np.ones(len(y), np.float32), weight)

    def bounds(self) -> tuple[float, float]:
        alpha = np.float32(self.alpha)
        return float(max(alpha, np.float32(1) - alpha)), 1.0


fits = predicts_number


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    return QuantileError(float(options["quantile_alpha"]))
