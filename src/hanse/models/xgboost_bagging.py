"""XGBoost's boosted trees, a bag of them per round: each site grows its own.

It takes one exchange a round of any number of trees, where :mod:`hanse.models.xgboost`, whose trees are those of the
pooled rows, takes one a level. It learns less the more the sites differ.

An ensemble is the arrays of :mod:`hanse.learning.ensembles`, with ``group`` (the class of a tree's output),
``value`` (the leaf's output, or the split's threshold), ``default_left``, ``gain``, ``cover`` and
``weight``. Joining ensembles is joining arrays, so the coordinator needs no XGBoost; a node writes
them into XGBoost's own binary JSON and loads that. Nothing is unpickled.

Options have XGBoost's names. ``learning_rate`` (default 0.3; the run's setting of that
name counts where there is no option) shrinks each tree. ``scaling`` is ours:
``average`` (default) counts the trees that a site adds in a round by its share of the rows, so that a
round of any number of sites is a step of the same size as a round of one; ``sum`` counts them fully,
a step that grows with the number of sites.

What trees tell: a split's threshold is a cut between values, and XGBoost cuts *at* values that occur,
so single values of a feature can be read from an ensemble. ``min_child_weight`` bounds how few rows a
leaf stands for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.boosting.booster import dumps
from hanse.boosting.objective import chosen
from hanse.boosting.trees import Trees
from hanse.errors import WireError
from hanse.learning import ensembles
from hanse.learning.fitting import task_fits
from hanse.learning.results import options_of, parameters_of, seed_of, task_of
from hanse.messages import Array, Json, Record
from hanse.models._xgboost import library, plain_names
from hanse.settings import Setting, checked, number, one_of, whole
from hanse.task import NUMBER, PROBABILITIES, Task
from hanse.transport import Progress

NEEDS = "raw"
LEARNS_BY = ("boosted_trees",)
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
    "subsample": Setting(1.0, "share of rows per tree", number(0, 1, above=True)),
    "colsample_bytree": Setting(1.0, "share of columns per tree", number(0, 1, above=True)),
    "colsample_bylevel": Setting(1.0, "share of columns per level", number(0, 1, above=True)),
    "colsample_bynode": Setting(1.0, "share of columns per split", number(0, 1, above=True)),
    "reg_lambda": Setting(1.0, "L2 penalty on the values of leaves", number(0)),
    "reg_alpha": Setting(0.0, "L1 penalty on the values of leaves", number(0)),
    "max_delta_step": Setting(0.0, "largest value of a leaf; 0: no limit", number(0)),
    "scale_pos_weight": Setting(1.0, "weight of the positive class", number(0, above=True)),
    "max_bin": Setting(256, "bins of a column's histogram", whole(2, 65536)),
    "tree_method": Setting("hist", "how splits are found", one_of("hist", "approx", "exact")),
    "scaling": Setting(
        "average", "average: the trees of a round count as their mean; sum: as they are", one_of("average", "sum")
    ),
}
_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {
    "size": ("int32", ()),
    "group": ("int32", ()),
    "left": ("int32", ()),
    "right": ("int32", ()),
    "feature": ("int32", ()),
    "value": ("float32", ()),
    "default_left": ("uint8", ()),
    "gain": ("float32", ()),
    "cover": ("float32", ()),
    "weight": ("float32", ()),
}
_PER_TREE = ("size", "group")


class Boosting:
    """Learns by ``boosted_trees`` (:mod:`hanse.models`)."""

    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        self.task, self.options = task, options

    @property
    def _two(self) -> bool:
        """Whether one output is the probability of the second of two classes."""
        return self.task.predicts == PROBABILITIES and self.task.outputs == 1

    @property
    def _objective(self) -> str:
        if self.task.predicts == NUMBER:
            return "reg:squarederror"
        return "binary:logistic" if self._two else "multi:softprob"

    def empty(self) -> dict[str, Array]:
        return {name: np.zeros(0, dtype) for name, (dtype, _) in _ARRAYS.items()}

    def grow(
        self,
        trees: Mapping[str, Array],
        base: float,
        X: Array,
        y: Array,
        rng: np.random.Generator,
        *,
        rounds: int,
        progress: Progress,
        losses: list[float],
    ) -> dict[str, Array]:
        """New trees that boost ``trees`` on (n, f) ``X`` (NaN: missing) and (n,) ``y``, ``rounds``
        of one tree, or of one a class. One thread, so the same bytes every time."""
        xgboost = library()
        settings = {k: v for k, v in self.options.items() if k not in ("scaling", "scale_pos_weight")}
        settings |= {
            "objective": self._objective,
            "nthread": 1,
            "seed": seed_of(rng),
            "base_score": 0.5,
            "verbosity": 0,
        }
        if self.task.outputs > 1:
            settings["num_class"] = len(self.task.classes)
        if self._two:
            settings["scale_pos_weight"] = self.options["scale_pos_weight"]
        margin = self.margin(trees, base, X)
        data = xgboost.DMatrix(X, np.asarray(y, np.float64), base_margin=margin, nthread=1)
        booster = xgboost.train(settings, data, 0)
        for i in range(rounds):
            booster.update(data, i)
            said = booster.eval(data, "site")
            losses.append(float(said.rsplit(":", 1)[1]))
            progress()
        found: dict[str, Any] = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]
        return self._read(found["trees"], found["tree_info"])

    def margin(self, trees: Mapping[str, Array], base: float, X: Array) -> Array:
        """(n,) or (n, k) raw scores, float32: the base plus the outputs of all trees."""
        xgboost = library()
        shape = self.task.shape(len(X))
        if not math.isfinite(base) or (self._two and not 0 < base < 1):
            raise WireError(f"the base score {base!r} is not one of a {self.task.kind} task")
        if not len(X):
            return np.zeros(shape, np.float32)
        start = base if not self._two else float(np.log(base / (1 - base)))
        if not len(trees["size"]):
            return np.full(shape, start, np.float32)
        booster = self.booster(trees, base)
        raw = booster.predict(xgboost.DMatrix(X, nthread=1), output_margin=True)
        return np.asarray(raw, np.float32).reshape(shape)

    def predict(self, trees: Mapping[str, Array], base: float, X: Array) -> Array:
        """As :meth:`hanse.model.Model.predict`."""
        score = self.margin(trees, base, X).astype(np.float64)
        if self.task.predicts == NUMBER:
            return score
        if self._two:
            return np.exp(-np.logaddexp(0.0, -score))
        score = np.exp(score - score.max(1, keepdims=True)) if len(score) else score
        return np.asarray(score / score.sum(1, keepdims=True))

    def too_many(self, trees: Mapping[str, Array], most: int, rows: float) -> str:
        """What is too much of ``most`` trees of so many rows; see :func:`hanse.learning.ensembles.too_many`."""
        return ensembles.too_many(trees, most, rows)

    def fault(self, trees: Mapping[str, Array]) -> str:
        """What is wrong with trees that a site sent; "" if nothing is."""
        wrong = ensembles.fault(trees, _ARRAYS, _PER_TREE, len(self.task.features))
        if wrong:
            return wrong
        rounds, rest = divmod(len(trees["size"]), self.task.outputs)
        if rest or (trees["group"] != np.tile(np.arange(self.task.outputs), rounds)).any():
            return "a round does not have one tree for each output, in order"
        return ""

    def merge(self, parts: Sequence[tuple[float, Mapping[str, Array]]]) -> dict[str, Array]:
        """The trees of all parts, the outputs of each times its factor."""
        scaled = []
        for factor, trees in parts:
            leaf = np.asarray(trees["left"]) == -1
            value = np.where(leaf, trees["value"] * np.float32(factor), trees["value"]).astype(np.float32)
            scaled.append({**{n: trees[n] for n in trees}, "value": value})
        return ensembles.join(scaled)

    def importance(self, trees: Mapping[str, Array]) -> Array:
        """(f,) share of each feature in the gain of all splits; sums to 1, or to 0 without splits."""
        inner = np.asarray(trees["left"]) != -1
        gain = np.bincount(trees["feature"][inner], np.maximum(trees["gain"][inner], 0), len(self.task.features))
        return ensembles.share(gain)

    def booster(self, trees: Mapping[str, Array], base: float, names: Sequence[str] = ()) -> Any:
        """A genuine ``xgboost.Booster``. It predicts with one thread until told otherwise. Raises
        ``WireError`` for arrays that are not trees."""
        ensembles.must_be(self.fault(trees))
        booster = library().Booster({"nthread": 1})
        objective = chosen(self.task, {"objective": self._objective}).document
        typed = Trees(**trees, listed=np.zeros(len(trees["left"]), np.int32), categories=np.zeros(0, np.int32))
        bases = np.full(self.task.outputs, base, np.float32)
        booster.load_model(bytearray(dumps(typed, bases, objective, len(self.task.features), names)))
        return booster

    def _read(self, trees: Sequence[Mapping[str, Any]], groups: Sequence[int]) -> dict[str, Array]:
        parts = []
        for tree, group in zip(trees, groups, strict=True):
            left, right = (np.array(tree[n], np.int64) for n in ("left_children", "right_children"))
            order = _breadth_first(left, right)  # without nodes that pruning took away
            place = np.full(len(left) + 1, -1, np.int32)
            place[order] = np.arange(len(order))
            values = {
                "feature": "split_indices",
                "value": "split_conditions",
                "default_left": "default_left",
                "gain": "loss_changes",
                "cover": "sum_hessian",
                "weight": "base_weights",
            }
            part = {n: np.array(tree[theirs], np.float64)[order].astype(_ARRAYS[n][0]) for n, theirs in values.items()}
            part |= {"left": place[left[order]], "right": place[right[order]]}
            part |= {"size": np.array([len(order)], np.int32), "group": np.array([group], np.int32)}
            parts.append(part)
        return ensembles.join([self.empty(), *parts])


def _breadth_first(left: Array, right: Array) -> Array:
    level = np.zeros(1, np.int64)
    found = [level]
    while len(inner := level[left[level] != -1]):
        level = np.stack([left[inner], right[inner]], 1).ravel()
        found.append(level)
    return np.concatenate(found)


def build(task: Task, options: Mapping[str, Json]) -> Boosting:
    task_fits("xgboost_bagging", task, PREDICTS)
    return Boosting(task, checked(options, SETTINGS, of="xgboost_bagging"))


def native(result: Record) -> Any:
    """An ``xgboost.Booster`` for the design matrix. Feature names are those of :mod:`hanse.models._xgboost`; class
    labels are in ``result.data["task"]["classes"]``, and as attributes of the booster."""
    model, task = build(task_of(result), options_of(result)), task_of(result)
    booster = model.booster(parameters_of(result), float(result.data["base"]), plain_names(task.features))
    booster.set_attr(classes=json.dumps(task.classes), features=json.dumps(task.features))
    return booster


def importance(result: Record) -> Array:
    """(f,) share of each feature in the gain of all splits."""
    return build(task_of(result), options_of(result)).importance(parameters_of(result))


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`."""
    model = build(task_of(result), options_of(result))
    return model.predict(parameters_of(result), float(result.data["base"]), X)
