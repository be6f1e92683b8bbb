"""XGBoost's trees, grown exactly over all sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.boosting.constraints import Constraints
from hanse.boosting.growing import Rules, Shape
from hanse.boosting.objective import Objective, chosen
from hanse.boosting.splits import Penalty
from hanse.boosting.trees import Trees, fault, margins
from hanse.learning.fitting import task_fits
from hanse.learning.results import options_of, parameters_of, task_of
from hanse.messages import Array, Json, Record
from hanse.settings import Setting, checked, number, one_of, whole
from hanse.task import NUMBER, PROBABILITIES, Task

NEEDS = "raw"
LEARNS_BY = ("histograms",)
PREDICTS = (PROBABILITIES, NUMBER)
SETTINGS = {
    "learning_rate": Setting(0.3, "what each new tree counts for (shrinkage)", number(0, 10, above=True)),
    "max_depth": Setting(6, "levels of a tree; 0: no limit", whole(0, 30)),
    "max_leaves": Setting(0, "leaves of a tree; 0: no limit", whole(0, 1_000_000)),
    "grow_policy": Setting(
        "depthwise", "split level by level, or where the loss falls most", one_of("depthwise", "lossguide")
    ),
    "min_child_weight": Setting(1.0, "least sum of Hessians in a leaf", number(0)),
    "gamma": Setting(0.0, "least loss reduction of a split", number(0)),
    "reg_lambda": Setting(1.0, "L2 penalty on the values of leaves", number(0)),
    "reg_alpha": Setting(0.0, "L1 penalty on the values of leaves", number(0)),
    "max_delta_step": Setting(0.0, "largest value of a leaf; 0: no limit", number(0)),
    "subsample": Setting(1.0, "share of rows per tree", number(0, 1, above=True)),
    "max_bin": Setting(256, "bins of a column's histogram", whole(2, 65536)),
}


class Exact:
    """Learns by ``histograms`` (:mod:`hanse.models`)."""

    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        self.task, self.options = task, options
        self.objective: Objective = chosen(task, options)
        names = ("reg_lambda", "reg_alpha", "gamma", "min_child_weight", "max_delta_step")
        penalty = Penalty(**{name: options[name] for name in names})
        shape = Shape(**{name: options[name] for name in ("max_depth", "max_leaves", "grow_policy")})
        self.rules = Rules(penalty, shape, Constraints(), float(options["learning_rate"]))
        self.max_bin, self.subsample = int(options["max_bin"]), float(options["subsample"])

    def fault(self, trees: Trees) -> str:
        """What is wrong with trees; "" if nothing is."""
        return fault(trees, len(self.task.features), self.objective.outputs)


def build(task: Task, options: Mapping[str, Json]) -> Exact:
    task_fits("xgboost_exact", task, PREDICTS)
    return Exact(task, checked(options, SETTINGS, of="xgboost_exact"))


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`."""
    model, own = build(task_of(result), options_of(result)), parameters_of(result)
    base = np.asarray(own.pop("base"), np.float32)
    return model.objective.predict(margins(Trees(**own), model.objective.margin(base), X))
