"""A number: half of the squared error; g = F - y, h = 1. The base score is the mean.

Source: XGBoost 3.2, ``src/objective/regression_loss.h``, ``LinearSquareLoss``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.number import IdentityLink, predicts_number
from hanse.boosting.objective import Objective, weighted
from hanse.messages import Array, Json
from hanse.settings import Setting
from hanse.task import Task

NAME = "reg:squarederror"
DEFAULT_FOR = ("regression",)
SETTINGS: dict[str, Setting] = {}


@dataclass(frozen=True, slots=True)
class SquaredError(IdentityLink):
    name = NAME

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME, "reg_loss_param": {"scale_pos_weight": "1"}}

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        return weighted(margin[:, 0] - y.astype(np.float32), np.ones(len(y), np.float32), weight)

    def bounds(self) -> tuple[None, float]:
        return None, 1.0


fits = predicts_number


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    return SquaredError()
