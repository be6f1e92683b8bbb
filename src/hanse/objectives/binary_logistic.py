"""Two classes: -log of the probability of the true one, p = 1 / (1 + exp(-F)); g = p - y, h = p (1 - p).

A positive row counts ``scale_pos_weight`` times. The base score is the share of positive rows, or, where they count
otherwise, one Newton step from F = 0. Source: XGBoost 3.2, ``src/objective/regression_loss.h``, ``LogisticRegression``;
``fit_stump.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.compiled import compiled, worthwhile
from hanse.boosting.exponential import exp
from hanse.boosting.objective import SMALLEST, Objective, steady, weighted
from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.settings import Setting, number
from hanse.task import PROBABILITIES, Task

NAME = "binary:logistic"
DEFAULT_FOR = ("binary",)
SETTINGS = {
    "scale_pos_weight": Setting(1.0, "of two classes: what a row of the second one counts for", number(0, above=True))
}
_EDGE = np.float32(1e-6)  # XGBoost's kRtEps: base scores lie from it to 1 - it


@dataclass(frozen=True, slots=True)
class BinaryLogistic:
    positive: float
    name = NAME
    outputs = 1
    quantile: None = None
    intervals = 0

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME, "reg_loss_param": {"scale_pos_weight": f"{self.positive:.9g}"}}

    def unfit(self, y: Array) -> str:
        return "" if np.isin(y, (0, 1)).all() else "a class is not 0 or 1"

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        g, h = _gradients(margin[:, 0], y)
        if self.positive != 1:
            own = np.where(y == 1, np.float32(self.positive), np.float32(1))
            weight = own if weight is None else own * np.asarray(weight, np.float32)
        return weighted(g, h, weight)

    def bounds(self) -> tuple[float, float]:
        most = max(1.0, float(np.float32(self.positive)))
        return most, 0.25 * most

    def begin(self, y: Array) -> Array:
        return y.astype(np.float64)[:, None]

    def base(self, totals: Array, rows: float) -> Array:
        positive = float(totals[0])
        share = positive / rows if rows else 0.5
        if self.positive != 1 and rows:  # Newton from F = 0: G = Σ w (1/2 - y), H = Σ w / 4
            counted = positive * self.positive
            step = -2 * (rows - positive - counted) / (rows - positive + counted)
            share = 1 / (1 + math.exp(-step))
        inside = min(max(share, float(_EDGE)), float(1 - _EDGE))
        return np.array([steady(inside, _logit)], np.float32)

    def stated(self, base: float) -> Array:
        if not 0 < base < 1:
            raise ConfigError(f"base_score is {base}; expected a probability above 0 and below 1")
        return np.array([steady(base, _logit)], np.float32)

    def margin(self, base: Array) -> Array:
        return np.array([_logit(np.float32(base[0]))], np.float32)

    def predict(self, margin: Array) -> Array:
        return sigmoid(margin[:, 0]).astype(np.float64)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) in float32."""
    return np.asarray(np.float32(1) / (_ratio(x) + np.float32(1)), np.float32)


def _ratio(x: Array) -> Array:
    """exp(-x), but not infinity."""
    return exp(np.minimum(-x, np.float32(88.7)))


def _gradients(x: Array, y: Array) -> tuple[Array, Array]:
    """(n,) float32 each, of rows that count once."""
    if worthwhile():
        g = _ratio(x)
        _compiled_gradients(y, g, h := np.empty_like(g))
        return g, h
    p = sigmoid(x)
    return p - y.astype(np.float32), np.maximum(p * (1 - p), np.float32(SMALLEST))


@compiled
def _compiled_gradients(y: Array, g: Array, h: Array) -> None:
    """The same in one look at each row.

    Args:
        g: (n,) float32, what :func:`_ratio` gives; overwritten.
        h: (n,) float32, written.
    """
    one, smallest = np.float32(1), np.float32(SMALLEST)
    for i in range(len(g)):
        p = one / (g[i] + one)
        g[i] = p - np.float32(y[i])
        h[i] = p * (one - p)
        if h[i] < smallest:
            h[i] = smallest


def _logit(base: np.float32) -> float:
    inside = min(max(base, _EDGE), np.float32(1) - _EDGE)
    return -math.log(float(np.float32(1) / inside - np.float32(1)))


def fits(task: Task) -> bool:
    return task.predicts == PROBABILITIES and task.outputs == 1


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    return BinaryLogistic(float(options["scale_pos_weight"]))
