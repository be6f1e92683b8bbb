"""Several classes: -log of the probability of the true one, p = softmax(F); g_k = p_k - [y = k], h_k = 2 p_k (1 - p_k).

The base scores are the logarithms of the classes' shares, less their mean, as from XGBoost 3.1 on. Source: XGBoost 3.2,
``src/objective/multiclass_obj.cu``; ``src/common/math.h``, ``Softmax``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.exponential import exp
from hanse.boosting.objective import SMALLEST, Objective
from hanse.messages import Array, Json
from hanse.settings import Setting
from hanse.task import PROBABILITIES, Task

NAME = "multi:softprob"
DEFAULT_FOR = ("multiclass",)
SETTINGS: dict[str, Setting] = {}
_EDGE = 1e-6  # XGBoost's kRtEps, so that the logarithm of a share of 0 is a number


@dataclass(frozen=True, slots=True)
class Softprob:
    outputs: int
    name = NAME
    quantile: None = None
    intervals = 0

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME, "softmax_multiclass_param": {"num_class": str(self.outputs)}}

    def unfit(self, y: Array) -> str:
        return "" if ((y >= 0) & (y < self.outputs)).all() else f"a class is not from 0 to {self.outputs - 1}"

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        p = _softmax(margin, np.maximum(margin.max(1), np.finfo(np.float32).tiny))
        h = np.float32(2) * p * (1 - p)
        p[np.arange(len(y)), y] -= np.float32(1)
        if weight is not None:
            factor = np.asarray(weight, np.float32)[:, None]
            p, h = p * factor, h * factor
        return p, np.maximum(h, np.float32(SMALLEST))

    def bounds(self) -> tuple[float, float]:
        return 1.0, 0.5

    def begin(self, y: Array) -> Array:
        return np.asarray(y[:, None] == np.arange(self.outputs), np.float64)

    def base(self, totals: Array, rows: float) -> Array:
        logs = [math.log(float(count) / max(rows, 1.0) + _EDGE) for count in totals]
        return np.array(logs, np.float32) - np.float32(math.fsum(logs) / len(logs))

    def stated(self, base: float) -> Array:
        return np.full(self.outputs, base, np.float32)

    def margin(self, base: Array) -> Array:
        return np.asarray(base, np.float32)

    def predict(self, margin: Array) -> Array:
        if not len(margin):
            return np.zeros(margin.shape)
        return _softmax(margin, margin.max(1)).astype(np.float64)


def _softmax(margin: Array, largest: Array) -> Array:
    """(n, k) float32. Each row is added up in the order of the classes, in float64, as XGBoost does."""
    powers = exp(margin - largest[:, None])
    total = np.zeros(len(margin))
    for k in range(margin.shape[1]):
        total += powers[:, k]
    return np.asarray(powers / total.astype(np.float32)[:, None], np.float32)


def fits(task: Task) -> bool:
    return task.predicts == PROBABILITIES and task.outputs > 1


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    return Softprob(task.outputs)
