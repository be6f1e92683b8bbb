"""How long until an event: Cox's partial likelihood, where exp(F) says how many times as likely an event is at any
time; g and h as of :mod:`hanse.boosting.risk`.

The base score is XGBoost's 1, and changes nothing of what is learned: F counts up to a constant. Source: XGBoost
3.2, ``src/objective/regression_obj.cu``, ``CoxRegression``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hanse.boosting.exponential import exp
from hanse.boosting.number import LogLink
from hanse.boosting.objective import Objective, weighted
from hanse.messages import Array, Json
from hanse.settings import Setting, whole
from hanse.task import HAZARD, Task

NAME = "survival:cox"
DEFAULT_FOR = ("survival",)
SETTINGS = {
    "time_bins": Setting(
        1024, "of survival:cox: most times that are told apart; rows between count as tied", whole(2, 65536)
    )
}


@dataclass(frozen=True, slots=True)
class Cox(LogLink):
    intervals: int
    hazard: Array | None = None
    name = NAME

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME}

    def unfit(self, y: Array) -> str:
        if not (y[:, 0] >= 0).all():
            return "a time is below 0"
        return "" if np.isin(y[:, 1], (0, 1)).all() else "an event is neither true nor false"

    def given(self, hazard: Array) -> Cox:
        """The same for rows of this (n, 2) hazard."""
        return replace(self, hazard=hazard)

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        if self.hazard is None:
            raise ValueError("the gradients of Cox's partial likelihood need the hazard of all rows")
        risk = exp(margin[:, 0]).astype(np.float64)
        first = risk * self.hazard[:, 0]
        second = np.maximum(first - risk * risk * self.hazard[:, 1], 0.0)
        return weighted((first - y[:, 1]).astype(np.float32), second.astype(np.float32), weight)

    def bounds(self) -> tuple[None, None]:
        return None, None

    def begin(self, y: Array) -> Array:
        return np.zeros((len(y), 0))

    def base(self, totals: Array, rows: float) -> Array:
        return np.array([1.0], np.float32)


def fits(task: Task) -> bool:
    return task.predicts == HAZARD


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    return Cox(int(options["time_bins"]))
