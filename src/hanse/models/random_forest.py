"""scikit-learn's random forests, as plain arrays from which real ones are rebuilt.

A forest is the arrays of :mod:`hanse.learning.ensembles`, with scikit-learn's node arrays and ``value``
(nodes, k): class shares over the federation's classes, or the mean. Trees grown at a site that lacks
a class give it the share zero. A forest is rebuilt through the state of scikit-learn's own tree
class, after the arrays have been proven to be trees; nothing is unpickled. Missing values are NaN
and go where each tree learned to send them.

Each tree of scikit-learn's is grown, and asked, under warning filters that are set for it and put back; those of a
process are one list, so the sites of a simulation, which are threads, take turns: else what was put back last stayed,
and the process had none of its filters any more.

Options have scikit-learn's names. ``n_estimators`` (default 100) is the size of the whole forest over
all rounds and sites. Leaves hold at least the node's own ``minimum_count`` rows.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.learning import ensembles
from hanse.learning.fitting import task_fits
from hanse.learning.results import labels_of, options_of, parameters_of, positive, seed_of, sklearn, task_of
from hanse.messages import Array, Json, Record
from hanse.settings import Setting, boolean, checked, either, nothing, number, one_of, whole
from hanse.task import NUMBER, PROBABILITIES, Task
from hanse.transport import Progress

NEEDS = "raw"
LEARNS_BY = ("trees",)
PREDICTS = (PROBABILITIES, NUMBER)
SETTINGS = {
    "n_estimators": Setting(100, "trees in all, of all sites together", whole(1, 1_000_000)),
    "criterion": Setting(
        None,
        "what a split lowers; null: gini, or the squared error",
        one_of(None, "gini", "entropy", "log_loss", "squared_error"),
    ),
    "max_depth": Setting(None, "levels of a tree; null: no limit", either(nothing, whole(1, 1000))),
    "min_samples_split": Setting(2, "least rows of a node that is split", whole(2)),
    "min_samples_leaf": Setting(1, "least rows of a leaf", whole(1)),
    "max_features": Setting(
        None,
        "columns looked at per split: a share, a number, sqrt or log2; null: sqrt, or all in a regression",
        either(one_of(None, "sqrt", "log2"), whole(1), number(0, 1, above=True)),
    ),
    "max_leaf_nodes": Setting(None, "leaves of a tree; null: no limit", either(nothing, whole(2))),
    "min_impurity_decrease": Setting(0.0, "least fall of the impurity by a split", number(0)),
    "bootstrap": Setting(True, "each tree on rows drawn with replacement", boolean),
    "max_samples": Setting(
        None, "share of rows drawn per tree; null: as many as there are", either(nothing, number(0, 1, above=True))
    ),
    "class_weight": Setting(
        None,
        "balanced: classes weigh inversely to their share of rows, of the site or of each draw; null: all rows alike",
        one_of(None, "balanced", "balanced_subsample"),
    ),
}
_PER_TREE = ("size",)
_TURN = threading.Lock()


class Forest:
    """Learns by ``trees`` (:mod:`hanse.models`)."""

    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        self.task, self.options = task, options
        self.width = 1 if task.predicts == NUMBER else len(task.classes)
        regression = task.predicts == NUMBER
        if options["criterion"] not in (None, *(("squared_error",) if regression else ("gini", "entropy", "log_loss"))):
            raise ConfigError(f"criterion {options['criterion']} of random_forest does not fit a {task.kind} task")
        if regression and options["class_weight"] is not None:
            raise ConfigError("class_weight of random_forest has no meaning for a regression")
        if options["max_samples"] is not None and not options["bootstrap"]:
            raise ConfigError("max_samples of random_forest needs bootstrap")
        self._arrays: dict[str, tuple[str, tuple[int, ...]]] = {
            "size": ("int32", ()),
            "left": ("int32", ()),
            "right": ("int32", ()),
            "feature": ("int32", ()),
            "threshold": ("float64", ()),
            "missing_left": ("uint8", ()),
            "impurity": ("float64", ()),
            "samples": ("int64", ()),
            "weighted": ("float64", ()),
            "value": ("float64", (self.width,)),
        }

    def empty(self) -> dict[str, Array]:
        return {name: np.zeros((0, *shape), dtype) for name, (dtype, shape) in self._arrays.items()}

    def grow(
        self, count: int, X: Array, y: Array, rng: np.random.Generator, *, min_leaf: int, progress: Progress
    ) -> dict[str, Array]:
        """``count`` new trees on (n, f) ``X`` (NaN: missing) and (n,) ``y``."""
        settings = self._settings(X.shape[1])
        settings["min_samples_leaf"] = max(settings["min_samples_leaf"], min_leaf)
        forest = self._library()(**settings, n_estimators=1, warm_start=True, random_state=seed_of(rng))
        forest.n_estimators = 0
        while forest.n_estimators < count:  # in small batches, to show life
            forest.n_estimators = min(count, forest.n_estimators + 10)
            with _TURN:
                forest.fit(X, y)
            progress()
        parts = [
            self.empty(),
            *(
                self._read(tree.tree_, getattr(forest, "classes_", None))
                for tree in (forest.estimators_ if count else [])
            ),
        ]
        return ensembles.join(parts)

    def predict(self, trees: Mapping[str, Array], X: Array) -> Array:
        """As :meth:`hanse.model.Model.predict`; at least one tree and one row."""
        forest = self.estimator(trees, np.arange(len(self.task.classes)))
        with _TURN:
            if self.task.predicts == NUMBER:
                return np.asarray(forest.predict(X), np.float64)
            return positive(forest.predict_proba(X), self.task)

    def too_many(self, trees: Mapping[str, Array], most: int, rows: float) -> str:
        """What is too much of ``most`` trees of so many rows; see :func:`hanse.learning.ensembles.too_many`."""
        return ensembles.too_many(trees, most, rows)

    def fault(self, trees: Mapping[str, Array]) -> str:
        """What is wrong with trees that a site sent; "" if nothing is."""
        wrong = ensembles.fault(trees, self._arrays, _PER_TREE, len(self.task.features))
        if wrong:
            return wrong
        if (trees["samples"] < 1).any() or (trees["weighted"] <= 0).any():
            return "a node without rows"
        if self.task.predicts != NUMBER:
            value = trees["value"]
            if (value < 0).any() or (value > 2).any() or (np.abs(value.sum(1) - 1) > 1e-6).any():
                return "the class shares of a node do not sum to one"
        return ""

    def importance(self, trees: Mapping[str, Array]) -> Array:
        """(f,) share of each feature in the impurity that the splits take away, averaged over trees as
        scikit-learn does; sums to 1, or to 0 without splits."""
        total, count = np.zeros(len(self.task.features)), 0
        edges = ensembles.starts(trees)
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            left, right, weighted, impurity, feature = (
                np.asarray(trees[n][low:high]) for n in ("left", "right", "weighted", "impurity", "feature")
            )
            inner = np.flatnonzero(left != -1)
            mass = weighted * impurity
            gain = mass[inner] - mass[left[inner]] - mass[right[inner]]
            if len(inner):
                total += ensembles.share(np.bincount(feature[inner], np.maximum(gain, 0), len(total)))
                count += 1
        return ensembles.share(total) if count else total

    def first(self, trees: Mapping[str, Array], most: int) -> Mapping[str, Array]:
        """No more than so many of the trees."""
        return ensembles.first(trees, most, _PER_TREE)

    def merge(self, parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        return ensembles.join(parts)

    def estimator(self, trees: Mapping[str, Array], classes: Array) -> Any:
        """A genuine, fitted forest. Raises ``WireError`` for arrays that are not trees."""
        ensembles.must_be(self.fault(trees))
        count = len(trees["size"])
        if not count:
            raise ConfigError("the forest has no trees; no site grew one")
        features = len(self.task.features)
        forest = self._library()(**self._settings(features), n_estimators=count, random_state=0)
        single = forest.estimator
        forest.estimator_, forest.n_features_in_, forest.n_outputs_ = single, features, 1
        if self.task.predicts != NUMBER:
            forest.classes_, forest.n_classes_ = classes, self.width
        edges = ensembles.starts(trees)
        arrays = {n: np.asarray(trees[n]) for n in trees if n != "size"}
        forest.estimators_ = [
            self._tree({n: a[low:high] for n, a in arrays.items()}, single, forest)
            for low, high in zip(edges[:-1], edges[1:], strict=True)
        ]
        return forest

    def _tree(self, nodes: Mapping[str, Array], single: Any, forest: Any) -> Any:
        from sklearn.tree._tree import NODE_DTYPE, Tree

        count, features = len(nodes["left"]), len(self.task.features)
        made = np.zeros(count, NODE_DTYPE)
        leaf = nodes["left"] == -1
        made["left_child"], made["right_child"] = nodes["left"], nodes["right"]
        made["feature"] = np.where(leaf, -2, nodes["feature"])
        made["threshold"] = np.where(leaf, -2.0, nodes["threshold"])
        made["missing_go_to_left"], made["impurity"] = nodes["missing_left"], nodes["impurity"]
        made["n_node_samples"], made["weighted_n_node_samples"] = nodes["samples"], nodes["weighted"]
        tree = Tree(features, np.array([self.width], np.intp), 1)
        tree.__setstate__(
            {
                "max_depth": ensembles.depth(nodes["left"], nodes["right"]),
                "node_count": count,
                "nodes": made,
                "values": np.ascontiguousarray(nodes["value"][:, None, :]),
            }
        )
        estimator = type(single)(**{p: getattr(forest, p) for p in forest.estimator_params if p != "random_state"})
        estimator.tree_, estimator.n_features_in_, estimator.n_outputs_ = tree, features, 1
        estimator.max_features_ = features
        if self.task.predicts != NUMBER:
            estimator.classes_, estimator.n_classes_ = np.arange(self.width), self.width
        return estimator

    def _read(self, tree: Any, classes: Array | None) -> dict[str, Array]:
        nodes = tree.__getstate__()["nodes"]
        value = np.zeros((len(nodes), self.width))
        columns = np.arange(self.width) if classes is None else classes.astype(np.int64)
        value[:, columns] = tree.value[:, 0, :]
        leaf = nodes["left_child"] == -1
        return {
            "size": np.array([len(nodes)], np.int32),
            "left": nodes["left_child"].astype(np.int32),
            "right": nodes["right_child"].astype(np.int32),
            "feature": np.where(leaf, -1, nodes["feature"]).astype(np.int32),
            # "any number goes left, missing goes right" has an infinite threshold; the largest number does as well
            "threshold": np.where(leaf, 0.0, np.minimum(nodes["threshold"], np.finfo(np.float64).max)),
            "impurity": nodes["impurity"].copy(),
            "missing_left": nodes["missing_go_to_left"].astype(np.uint8),
            "samples": nodes["n_node_samples"].astype(np.int64),
            "weighted": nodes["weighted_n_node_samples"].copy(),
            "value": value,
        }

    def _settings(self, features: int) -> dict[str, Any]:
        settings = {k: v for k, v in self.options.items() if k != "n_estimators"}
        if settings["criterion"] is None:
            settings["criterion"] = "squared_error" if self.task.predicts == NUMBER else "gini"
        if settings["max_features"] is None:
            settings["max_features"] = 1.0 if self.task.predicts == NUMBER else "sqrt"
        elif isinstance(settings["max_features"], int):
            settings["max_features"] = min(settings["max_features"], features)
        if self.task.predicts == NUMBER:
            del settings["class_weight"]
        return {**settings, "n_jobs": 1}

    def _library(self) -> Any:
        ensemble = sklearn("ensemble")
        return ensemble.RandomForestRegressor if self.task.predicts == NUMBER else ensemble.RandomForestClassifier


def build(task: Task, options: Mapping[str, Json]) -> Forest:
    task_fits("random_forest", task, PREDICTS)
    return Forest(task, checked(options, SETTINGS, of="random_forest"))


def native(result: Record) -> Any:
    """A fitted ``RandomForestClassifier`` or ``RandomForestRegressor`` for the design matrix (NaN:
    missing), with the original labels."""
    return build(task_of(result), options_of(result)).estimator(parameters_of(result), labels_of(result))


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`."""
    return build(task_of(result), options_of(result)).predict(parameters_of(result), X)
