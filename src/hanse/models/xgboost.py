"""XGBoost's boosted trees, as they grow on the pooled rows: the same bytes however the rows lie at sites.

Options have XGBoost's names, aliases and defaults (:mod:`hanse.boosting.parameters`). The result holds the arrays of
:class:`hanse.boosting.trees.Trees` and ``base``, the base score of each output in the objective's own units; a genuine
``xgboost.Booster`` is made of them (:mod:`hanse.boosting.booster`), and only that needs XGBoost.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from hanse.boosting import importance as of_trees
from hanse.boosting.booster import dumps
from hanse.boosting.constraints import Constraints
from hanse.boosting.growing import Rules, Shape
from hanse.boosting.objective import chosen, named
from hanse.boosting.parameters import interactions, monotone, settings
from hanse.boosting.parameters import read as read_parameters
from hanse.boosting.splits import Penalty
from hanse.boosting.trees import Trees, fault, margins
from hanse.errors import WireError
from hanse.learning.fitting import task_fits
from hanse.learning.results import options_of, parameters_of, task_of
from hanse.messages import Array, Json, Record
from hanse.models._xgboost import library, plain_names
from hanse.task import HAZARD, NUMBER, PROBABILITIES, Task

NEEDS = "coded"
LEARNS_BY = ("histograms",)
PREDICTS = (PROBABILITIES, NUMBER, HAZARD)
_MISREAD = (3, 1), (3, 4)  # from this release to before that, names of categories outside ASCII are


def __getattr__(name: str) -> Any:
    """``SETTINGS``: those of trees, and those of every objective that is there when they are asked for."""
    if name == "SETTINGS":
        return settings()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class ExactTrees:
    """Learns by ``histograms`` (:mod:`hanse.models`)."""

    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        self.task, self.options, self.objective = task, options, chosen(task, options)
        step = options["max_delta_step"]
        own = 0.7 if self.objective.name == "count:poisson" else 0.0
        penalty = Penalty(
            options["reg_lambda"],
            options["reg_alpha"],
            options["gamma"],
            options["min_child_weight"],
            own if step is None else step,
            options["max_cat_to_onehot"],
            options["max_cat_threshold"],
        )
        signs = monotone(options, task.features)
        constraints = Constraints(
            signs if signs.any() else None,
            interactions(options, task.features),
            options["colsample_bytree"],
            options["colsample_bylevel"],
            options["colsample_bynode"],
        )
        shape = Shape(options["max_depth"], options["max_leaves"], options["grow_policy"])
        parallel = int(options["num_parallel_tree"])
        self.rules = Rules(penalty, shape, constraints, float(options["learning_rate"]), parallel)
        self.max_bin, self.subsample = int(options["max_bin"]), float(options["subsample"])

    @property
    def trees(self) -> int:
        """Trees of a round: some of each output."""
        return self.objective.outputs * self.rules.parallel

    def base(self, totals: Array, rows: float) -> Array:
        """(outputs,) float32: the base score that the options state, or that follows from the sums of all rows."""
        stated = self.options["base_score"]
        return self.objective.base(totals, rows) if stated is None else self.objective.stated(stated)

    def fault(self, trees: Trees) -> str:
        """What is wrong with trees; "" if nothing is."""
        return fault(trees, len(self.task.features), self.objective.outputs)

    def margins(self, trees: Trees, base: Array, X: Array) -> Array:
        """(n, outputs) float32 of (n, f) rows. Raises ``WireError`` for arrays that are not trees."""
        wrong = self.fault(trees)
        if wrong:
            raise WireError(f"the trees of the model are not usable: {wrong}")
        return margins(trees, self.objective.margin(base), X)

    def importance(self, trees: Trees) -> Array:
        """(f,) share of each feature in the gain of all splits; sums to 1, or to 0 without splits."""
        return of_trees.shares(trees, len(self.task.features))


def read(options: Mapping[str, Json]) -> dict[str, Any]:
    """All options, as given or their defaults. Raises ``ConfigError`` for what does not fit."""
    found = read_parameters(options, "xgboost")
    if found["objective"] is not None:
        named(found["objective"])
    return found


def build(task: Task, options: Mapping[str, Json]) -> ExactTrees:
    task_fits("xgboost", task, PREDICTS)
    return ExactTrees(task, read(options))


def native(result: Record) -> Any:
    """An ``xgboost.Booster`` for the design matrix. Feature names are those of :mod:`hanse.models._xgboost`; class
    labels are in ``result.data["task"]["classes"]``, and as attributes of the booster. It predicts with one thread
    until told otherwise. Warns where this release of XGBoost misreads names of categories in frames."""
    xgboost, task = library(), task_of(result)
    model, trees, base = _parts(result)
    attributes = {"classes": json.dumps(task.classes), "features": json.dumps(task.features)}
    release = tuple(int(part) for part in xgboost.__version__.split(".")[:2])
    names, columns = plain_names(task.features), result.data["prepared"]["columns"]
    categories = tuple(tuple(column["categories"]) for column in columns)
    if _MISREAD[0] <= release < _MISREAD[1] and not all(name.isascii() for column in categories for name in column):
        warnings.warn(
            f"XGBoost {xgboost.__version__} misreads categories of pandas frames whose names are not ASCII; "
            "let result.predictor() predict from frames, or give the booster result.predictor().design(rows)",
            stacklevel=2,
        )
    raw = dumps(
        trees,
        base,
        model.objective.document,
        len(names),
        names,
        categories,
        attributes,
        release >= (3, 1),
        model.rules.parallel,
    )
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(raw))
    return booster


def importance(result: Record) -> Array:
    """(f,) share of each feature in the gain of all splits."""
    trees = Trees(**{field.name: result.arrays[f"model.{field.name}"] for field in fields(Trees)})
    return of_trees.shares(trees, len(result.data["task"]["features"]))  # asked after each tree: the model is not made


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`."""
    model, trees, base = _parts(result)
    return model.objective.predict(model.margins(trees, base, X))


def _parts(result: Record) -> tuple[ExactTrees, Trees, Array]:
    model, own = build(task_of(result), options_of(result)), parameters_of(result)
    try:
        base = np.asarray(own.pop("base"), np.float32)
        return model, Trees(**own), base
    except (KeyError, TypeError):
        raise WireError(
            "the model holds other arrays than those of boosted trees; an earlier release that made it reads it, and "
            "this one learns it anew"
        ) from None
