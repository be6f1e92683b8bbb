"""A random forest over all sites: each grows trees on its own rows, the forest is their union.

There are no parameters to average. The model's ``n_estimators`` trees (T) are shared out over R rounds
and over the sites by their training rows: site k grows about T·n_k/(N·R) trees a round, rounded so
that its rounds add up to T·n_k/N within one tree; which way is drawn from seed and site, so that no
site, however small, is always left out. (N is known from the preparation; sites that are not asked
in a round grow none, and the forest is smaller.) All trees count alike, so a site counts by its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.algorithms import _preparation as preparation
from hanse.algorithms._ensemble import (
    ask,
    begin,
    class_shares,
    evaluated,
    importance_sums,
    metrics,
    model_at,
    received,
    result,
    told,
    trees,
)
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site, State
from hanse.messages import Array, Json, Record
from hanse.registry import find

TAKES = "trees"
DEFAULT = True


class ForestUnion:
    combines = frozenset({Combine.EACH})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        return begin(config, previous)

    def ask(self, state: State) -> Ask | Done:
        return ask(state)

    def answer(self, site: Site, ask: Record) -> Contribution:
        prepared = preparation.unpack(ask)
        model, rows = model_at(site, prepared), preparation.rows(site, prepared)
        so_far = trees(ask)
        sums, shown = evaluated(lambda X: _predict(model, so_far, prepared, X), rows, prepared, ask)
        if ask.data["phase"] == "evaluate":
            return Contribution(Record(), float(len(rows.test)), sums, shown)
        site.progress()
        quota = model.options["n_estimators"] * len(rows.train) / prepared.data["rows"]
        count = share(quota, ask.data["round"], site.config["num_rounds"], site.rng("share").random())
        new = model.empty()
        if count:
            new = model.grow(
                count,
                rows.X[rows.train],
                rows.y[rows.train],
                site.rng("train", ask.data["round"]),
                min_leaf=int(site.owner.get("minimum_count", 1)),
                progress=site.progress,
            )
        sums |= importance_sums(model.importance(new), len(rows.train))
        shown["trees"] = float(count)
        return Contribution(Record({}, new), float(len(rows.train)), sums, shown)

    def tell(self, state: State, gathered: Gathered) -> State:
        task = preparation.task(preparation.unpack(state))
        model = find("models", state.data["model_name"]).build(task, state.data["options"])
        if state.data["phase"] == "evaluate":
            return told(state, gathered, None)
        wanted = model.options["n_estimators"] / (state.data["prepared"]["rows"] * state.data["rounds"])
        found = received(gathered, model, lambda rows: int(wanted * rows) + 1)
        joined = model.merge([trees(state), *(new for _, weight, new in found if weight > 0)])
        return told(state, gathered, joined)

    def result(self, state: State) -> Record:
        return result(state, __name__.rpartition(".")[2])

    def metrics(self, state: State) -> Mapping[str, Json]:
        return metrics(state)


ALGORITHM = ForestUnion()


def averages(options: Mapping[str, Json]) -> bool:
    """Never: all trees count alike."""
    return False


def share(quota: float, round: int, rounds: int, start: float) -> int:
    """Trees that a site grows in this round (from 1), of ``quota`` in all rounds.

    >>> [share(2.5, r, 4, 0.6) for r in (1, 2, 3, 4)]
    [1, 0, 1, 1]
    """
    done, before = quota * round / rounds + start, quota * (round - 1) / rounds + start
    return int(np.floor(done)) - int(np.floor(before))


def _predict(model: Any, so_far: Mapping[str, Array], prepared: Record, X: Array) -> Array:
    """Of the forest so far; an empty one predicts the training rows' shares of classes, or their mean."""
    if len(so_far["size"]):
        predicted: Array = model.predict(so_far, X)
        return predicted
    task = preparation.task(prepared)
    if task.kind == "regression":
        return np.full(len(X), prepared.arrays["target_mean"][0])
    shares = class_shares(prepared)
    return np.full(len(X), shares[1]) if task.kind == "binary" else np.tile(shares, (len(X), 1))
