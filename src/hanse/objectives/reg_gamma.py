"""Positive numbers of skewed spread: the gamma deviance of the mean exp(F); g = 1 - y exp(-F), h = y exp(-F).

The base score is the mean. Source: XGBoost 3.2, ``src/objective/regression_loss.h``, ``GammaDeviance``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.boosting.exponential import exp
from hanse.boosting.number import LogLink, predicts_number
from hanse.boosting.objective import Objective, weighted
from hanse.messages import Array, Json
from hanse.settings import Setting
from hanse.task import Task

NAME = "reg:gamma"
DEFAULT_FOR = ()
SETTINGS: dict[str, Setting] = {}


@dataclass(frozen=True, slots=True)
class Gamma(LogLink):
    name = NAME

    @property
    def document(self) -> Mapping[str, Json]:
        return {"name": NAME, "reg_loss_param": {"scale_pos_weight": "1"}}

    def unfit(self, y: Array) -> str:
        return "" if (y > 0).all() else f"{NAME} learns numbers above 0; a target is not"

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        ratio = y.astype(np.float32) / exp(margin[:, 0])
        return weighted(np.float32(1) - ratio, ratio, weight)

    def bounds(self) -> tuple[None, None]:
        return None, None


fits = predicts_number


def build(task: Task, options: Mapping[str, Json]) -> Objective:
    return Gamma()
