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
from hanse.messages import Json, Record
from hanse.registry import find

TAKES = "boosted_trees"
DEFAULT = True


class TreeBagging:
    combines = frozenset({Combine.EACH})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        state = begin(config, previous, base_score(previous))
        return Record({**state.data, "local_rounds": config["local_epochs"]}, state.arrays)

    def ask(self, state: State) -> Ask | Done:
        return ask(state)

    def answer(self, site: Site, ask: Record) -> Contribution:
        prepared = preparation.unpack(ask)
        model, rows = model_at(site, prepared), preparation.rows(site, prepared)
        so_far, base = trees(ask), ask.data["base"]
        sums, shown = evaluated(lambda X: model.predict(so_far, base, X), rows, prepared, ask)
        if ask.data["phase"] == "evaluate":
            return Contribution(Record(), float(len(rows.test)), sums, shown)
        site.progress()
        new, losses = model.empty(), list[float]()
        if len(rows.train):
            rng = site.rng("train", ask.data["round"])
            new = model.grow(
                so_far,
                base,
                rows.X[rows.train],
                rows.y[rows.train],
                rng,
                rounds=site.config["local_epochs"],
                progress=site.progress,
                losses=losses,
            )
        sums |= importance_sums(model.importance(new), len(rows.train))
        shown |= {f"train_loss_{i}": loss for i, loss in enumerate(losses[:20], 1)}
        if losses:
            shown |= {"train_loss": losses[-1]}
        shown["trees"] = float(len(new["size"]))
        return Contribution(Record({}, new), float(len(rows.train)), sums, shown)

    def tell(self, state: State, gathered: Gathered) -> State:
        model = self._model(state)
        if state.data["phase"] == "evaluate":
            return told(state, gathered, None)
        most = state.data["local_rounds"] * model.task.outputs
        found = [(weight, new) for _, weight, new in received(gathered, model, lambda rows: most) if weight > 0]
        total = sum(weight for weight, _ in found)
        average = model.options["scaling"] == "average"
        parts = [(weight / total if average else 1.0, new) for weight, new in found]
        return told(state, gathered, model.merge([(1.0, trees(state)), *parts]))

    def result(self, state: State) -> Record:
        return result(state, __name__.rpartition(".")[2])

    def metrics(self, state: State) -> Mapping[str, Json]:
        return metrics(state)

    @staticmethod
    def _model(state: State) -> Any:
        task = preparation.task(preparation.unpack(state))
        return find("models", state.data["model_name"]).build(task, state.data["options"])


ALGORITHM = TreeBagging()


def averages(options: Mapping[str, Json]) -> bool:
    """Whether a site's trees are scaled by its rows."""
    return bool(options.get("scaling", "average") == "average")


def base_score(prepared: Record | None) -> float | None:
    """What the empty ensemble predicts: the share of class 1 for binary, the mean for regression, and
    0.5 in each class's score for more (a constant there changes no probability)."""
    if prepared is None:
        return None
    task = preparation.task(prepared)
    if task.kind == "regression":
        return float(np.float32(prepared.arrays["target_mean"][0]))
    if task.kind == "binary":
        return float(np.clip(np.float32(class_shares(prepared)[1]), 1e-6, 1 - 1e-6))
    return 0.5
