"""The parameters of boosted trees: XGBoost's names, aliases, defaults and ranges, and what to do instead of those that
a federation does not have.

Every objective brings its own beside these (:mod:`hanse.objectives`). Source: XGBoost 3.2, ``src/tree/param.h``, and
its page of parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.registry import find, names
from hanse.settings import Check, Setting, checked, mapping, maybe, number, one_of, text, whole


def _signs(value: Json) -> bool:
    given = list(value.values()) if isinstance(value, Mapping) else value
    return isinstance(given, (list, tuple)) and all(type(v) is int and v in (-1, 0, 1) for v in given)


def _groups(value: Json) -> bool:
    if not isinstance(value, (list, tuple)):
        return False
    return all(isinstance(group, (list, tuple)) and group and all(map(_column, group)) for group in value)


def _column(value: Json) -> bool:
    return (isinstance(value, str) and bool(value)) or (type(value) is int and value >= 0)


_SIGN = {"enum": [-1, 0, 1]}
_MONOTONE = Check(
    "an object of column to -1, 0 or 1, or a list of those for all columns",
    lambda value: (isinstance(value, (list, tuple)) or mapping.fits(value)) and _signs(value),
    {"anyOf": [{"type": "object", "additionalProperties": _SIGN}, {"type": "array", "items": _SIGN}]},
)
_TOGETHER = Check(
    "a list of lists of columns",
    _groups,
    {"type": "array", "items": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}},
)

OF_TREES: Mapping[str, Setting] = {
    "objective": Setting(None, "what is made small, by XGBoost's name; null: that of the task", maybe(text(100))),
    "base_score": Setting(None, "what is predicted without trees; null: estimated from all rows", maybe(number())),
    "learning_rate": Setting(
        0.3, "what each new tree counts for (shrinkage)", number(0, 1000, above=True), aliases=("eta",)
    ),
    "gamma": Setting(0.0, "least loss reduction of a split", number(0), aliases=("min_split_loss",)),
    "max_depth": Setting(6, "levels of a tree; 0: no limit", whole(0, 30)),
    "max_leaves": Setting(0, "leaves of a tree; 0: no limit", whole(0, 1_000_000)),
    "grow_policy": Setting(
        "depthwise", "split level by level, or where the loss falls most", one_of("depthwise", "lossguide")
    ),
    "max_bin": Setting(256, "bins of a column's histogram", whole(2, 65536)),
    "min_child_weight": Setting(1.0, "least sum of Hessians in a leaf", number(0)),
    "reg_lambda": Setting(1.0, "L2 penalty on the values of leaves", number(0), aliases=("lambda",)),
    "reg_alpha": Setting(0.0, "L1 penalty on the values of leaves", number(0), aliases=("alpha",)),
    "max_delta_step": Setting(
        None, "largest value of a leaf before shrinkage, 0: no limit; null: 0, of count:poisson 0.7", maybe(number(0))
    ),
    "subsample": Setting(1.0, "share of rows per tree", number(0, 1, above=True)),
    "colsample_bytree": Setting(1.0, "share of columns per tree", number(0, 1, above=True)),
    "colsample_bylevel": Setting(1.0, "share of columns per level", number(0, 1, above=True)),
    "colsample_bynode": Setting(1.0, "share of columns per split", number(0, 1, above=True)),
    "monotone_constraints": Setting({}, "columns whose effect may only rise (1) or fall (-1)", _MONOTONE),
    "interaction_constraints": Setting((), "groups of columns that may stand on one path", _TOGETHER),
    "max_cat_to_onehot": Setting(4, "so many categories and more are split into two groups", whole(1, 1 << 14)),
    "max_cat_threshold": Setting(64, "most categories of the smaller group of a split", whole(1, 1 << 14)),
    "num_parallel_tree": Setting(
        1, "trees of each output in a round, which share the learning rate; with subsample a forest", whole(1, 1000)
    ),
    "booster": Setting("gbtree", "trees, and nothing else", one_of("gbtree")),
    "tree_method": Setting("hist", "splits are found by exact histograms, as hist", one_of("hist", "auto")),
    "sampling_method": Setting("uniform", "every row has the same chance", one_of("uniform")),
}

INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(
        ("n_estimators", "num_boost_round", "num_round", "num_rounds"), "num_rounds of the run says how many trees"
    ),
    **dict.fromkeys(("seed", "random_state"), "seed of the run is that of everything"),
    **dict.fromkeys(("nthread", "n_jobs"), "how many threads a node has is its owner's to say"),
    **dict.fromkeys(("device", "gpu_id", "predictor"), "nodes compute on their processors"),
    **dict.fromkeys(("verbosity", "silent"), "the course of a run stands in its record; leave it out"),
    **dict.fromkeys(("eval_metric", "disable_default_eval_metric"), "the task says what is measured, on held-out rows"),
    **dict.fromkeys(("num_class", "num_target"), "the sites agree on the classes; leave it out"),
    "early_stopping_rounds": "it is a setting of the run, beside num_rounds",
    "multi_strategy": "a round has one tree an output; leave it out",
    "enable_categorical": "columns of categories are known from the data; leave it out",
    "missing": "empty cells are missing; leave it out",
    "base_margin": "set base_score, which is one for all rows",
    "updater": "trees are grown from histograms of all sites; leave it out",
    "process_type": "trees are grown anew; initial_model of the run goes on from earlier ones",
    "refresh_leaf": "trees are grown anew; leave it out",
    "feature_weights": "columns are drawn with equal chances; name the columns of the run",
    "sketch_eps": "bins are exact; set max_bin",
    **dict.fromkeys(
        ("rate_drop", "skip_drop", "one_drop", "sample_type", "normalize_type"), "trees are never dropped (gbtree)"
    ),
}


def settings() -> dict[str, Setting]:
    """All of them: those of trees, and those of every objective that is there now."""
    found = dict(OF_TREES)
    for name in names("objectives"):
        found |= find("objectives", name).SETTINGS
    return found


def read(given: Mapping[str, Json], of: str = "") -> dict[str, Any]:
    """Every parameter by its own name, as given (also by an alias), or its default.

    Raises ``ConfigError`` for a name or a value that does not fit.

    >>> read({"eta": 0.1, "lambda": 2})["reg_lambda"]
    2
    >>> read({"n_estimators": 100}, "xgboost")
    Traceback (most recent call last):
    ...
    hanse.errors.ConfigError: n_estimators of xgboost cannot be set: num_rounds of the run says how many trees
    """
    found = checked(given, settings(), of=of, instead=INSTEAD)
    if not found["max_depth"] and not found["max_leaves"]:
        raise ConfigError("max_depth is 0, and so is max_leaves; expected a limit of one of them")
    return found


def monotone(options: Mapping[str, Json], features: Sequence[str]) -> Array:
    """(f,) int8: 1 where the margin may only rise with a feature, -1 where only fall, else 0.

    Args:
        options: as of :func:`read`.
        features: names of the columns.

    Raises:
        ConfigError: a column is not there, or a list has another length.

    >>> monotone({"monotone_constraints": {"age": 1}}, ["sex", "age"]).tolist()
    [0, 1]
    """
    given = options["monotone_constraints"]
    found = np.zeros(len(features), np.int8)
    if isinstance(given, Mapping):
        for name, sign in given.items():
            found[_place("monotone_constraints", name, features)] = sign
    elif len(given) not in (0, len(features)):
        raise ConfigError(
            f"monotone_constraints is a list of {len(given)}; expected one of {len(features)}, a feature each"
        )
    elif len(given):
        found[:] = given
    return found


def interactions(options: Mapping[str, Json], features: Sequence[str]) -> Array | None:
    """(groups, f) bool: which features may stand on one path from the root. None where all may.

    A feature that no group names stands alone. Args and errors as of :func:`monotone`.

    >>> interactions({"interaction_constraints": [["a", "b"]]}, ["a", "b", "c"]).tolist()
    [[True, True, False], [False, False, True]]
    """
    given = options["interaction_constraints"]
    if not given:
        return None
    groups = np.zeros((len(given), len(features)), bool)
    for row, group in zip(groups, given, strict=True):
        for column in group:
            row[_place("interaction_constraints", column, features)] = True
    alone = np.flatnonzero(~groups.any(0))
    return np.concatenate([groups, np.eye(len(features), dtype=bool)[alone]])


def _place(setting: str, column: str | int, features: Sequence[str]) -> int:
    if isinstance(column, int) and column < len(features):
        return column
    if isinstance(column, str) and column in features:
        return features.index(column)
    shown = ", ".join(features[:20]) + (", ..." if len(features) > 20 else "")
    raise ConfigError(f"{setting} names the column {column!r}; there are {shown}")
