"""A random forest over all sites: each grows trees on its own rows, the forest is their union.

There are no parameters to average. The model's ``n_estimators`` trees (T) are shared out over R rounds
and over the sites by their training rows: site k grows about T·n_k/(N·R) trees a round, rounded so
that its rounds add up to T·n_k/N within one tree; which way is drawn from seed and site, so that no
site, however small, is always left out. (N is known from the preparation; sites that are not asked
in a round grow none, and the forest is smaller.) All trees count alike, so a site counts by its rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.learning.pooling import Growth, Question, State, Trees, class_shares, pooling
from hanse.messages import Array
from hanse.settings import Setting
from hanse.task import NUMBER

TAKES = "trees"
DEFAULT = True
SETTINGS: dict[str, Setting] = {}


def _predict(model: Any, ask: Question, X: Array) -> Array:
    """Of the forest so far; an empty one predicts the training rows' shares of classes, or their mean."""
    if len(ask.model["size"]):
        predicted: Array = model.predict(ask.model, X)
        return predicted
    task = preparation.task(ask.prepared)
    if task.predicts == NUMBER:
        return np.full(len(X), ask.prepared.arrays["target_mean"][0])
    shares = class_shares(ask.prepared)
    return np.full(len(X), shares[1]) if task.outputs == 1 else np.tile(shares, (len(X), 1))


def _grow(model: Any, site: Site, ask: Question, rows: preparation.Rows) -> tuple[Trees, list[float]]:
    quota = model.options["n_estimators"] * len(rows.train) / ask.prepared.data["rows"]
    count = share(quota, ask.round, site.config["num_rounds"], site.rng("share").random())
    if not count:
        return model.empty(), []
    new: Trees = model.grow(
        count,
        rows.X[rows.train],
        rows.y[rows.train],
        site.rng("train", ask.round),
        min_leaf=int(site.owner.get("minimum_count", 1)),
        progress=site.progress,
    )
    return new, []


def _most(model: Any, state: State, rows: float) -> int:
    wanted = model.options["n_estimators"] / (state.prepared.data["rows"] * state.schedule.rounds)
    return int(wanted * rows) + 1


def _joined(model: Any, state: State, found: list[tuple[float, Trees]]) -> Trees:
    joined: Trees = model.merge([state.model, *(new for _, new in found)])
    return joined


def share(quota: float, round: int, rounds: int, start: float) -> int:
    """Trees that a site grows in this round (from 1), of ``quota`` in all rounds.

    >>> [share(2.5, r, 4, 0.6) for r in (1, 2, 3, 4)]
    [1, 0, 1, 1]
    """
    done, before = quota * round / rounds + start, quota * (round - 1) / rounds + start
    return int(np.floor(done)) - int(np.floor(before))


# all trees count alike, so a weight decides nothing
ALGORITHM = pooling(
    __name__, SETTINGS, Growth(lambda prepared: None, _predict, _grow, _most, _joined, averages=lambda options: False)
)
