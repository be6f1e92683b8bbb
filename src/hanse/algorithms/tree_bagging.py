"""Boosted trees, a bag of them per round: each site boosts the common ensemble, all new trees are kept.

Every site computes the margins of the common ensemble F on its rows and boosts them by
``local_epochs`` rounds f_k of its own. With n_k training rows::

    F ← F + Σ_k (n_k / Σ n) f_k      (scaling "average"; "sum" leaves the weights out)

What makes this right where simpler schemes are not: the ensemble starts from one ``base``, the
global rate or mean of the target, not from each site's own; all local rounds are kept; each tree
keeps the class that it is for; and the step does not grow with the number of sites unless asked to.

A site without training rows adds nothing. A site that lacks classes, or has only one, adds what it
can. References: Flower's FedXgbBagging is the scheme that this corrects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.learning.pooling import Growth, Question, State, Trees, class_shares, pooling
from hanse.messages import Array, Json, Record
from hanse.settings import Setting, maybe, number, whole
from hanse.task import NUMBER

TAKES = "boosted_trees"
DEFAULT = True
SETTINGS = {
    "local_epochs": Setting(1, "rounds by which each site boosts the common ensemble per round", whole(1, 10_000)),
    "learning_rate": Setting(
        None, "of each boosted tree; null: the model's own (0.3)", maybe(number(0, 1000, above=True))
    ),
}


def _predict(model: Any, ask: Question, X: Array) -> Array:
    found: Array = model.predict(ask.model, ask.base, X)
    return found


def _grow(model: Any, site: Site, ask: Question, rows: preparation.Rows) -> tuple[Trees, list[float]]:
    losses: list[float] = []
    if not len(rows.train):
        return model.empty(), losses
    new: Trees = model.grow(
        ask.model,
        ask.base,
        rows.X[rows.train],
        rows.y[rows.train],
        site.rng("train", ask.round),
        rounds=site.config["local_epochs"],
        progress=site.progress,
        losses=losses,
    )
    return new, losses


def _most(model: Any, state: State, rows: float) -> int:
    return int(state.settings["local_epochs"] * model.task.outputs)


def _joined(model: Any, state: State, found: list[tuple[float, Trees]]) -> Trees:
    total = sum(weight for weight, _ in found)
    average = model.options["scaling"] == "average"
    parts = [(weight / total if average else 1.0, new) for weight, new in found]
    joined: Trees = model.merge([(1.0, state.model), *parts])
    return joined


def _averages(options: Mapping[str, Json]) -> bool:
    return bool(options.get("scaling", "average") == "average")


def base_score(prepared: Record) -> float:
    """What the empty ensemble predicts: the share of class 1 for binary, the mean for regression, and
    0.5 in each class's score for more (a constant there changes no probability)."""
    task = preparation.task(prepared)
    if task.predicts == NUMBER:
        return float(np.float32(prepared.arrays["target_mean"][0]))
    if task.outputs == 1:
        return float(np.clip(np.float32(class_shares(prepared)[1]), 1e-6, 1 - 1e-6))
    return 0.5


ALGORITHM = pooling(__name__, SETTINGS, Growth(base_score, _predict, _grow, _most, _joined, _averages))
