"""What the coordinator knows of a run of exact boosting (:mod:`hanse.algorithms.boosting`), and what follows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from hanse.algorithms import _boosting_shap
from hanse.algorithms._boosting_counts import Counting
from hanse.algorithms._boosting_leaves import Leaves
from hanse.algorithms._boosting_shap import Explain, Explained
from hanse.algorithms._boosting_site import Base, Forward, Times, Units, adapter_of
from hanse.boosting import packed, risk, scales, shap
from hanse.boosting.binning import Binning
from hanse.boosting.growing import Growing, Rules
from hanse.boosting.trees import Trees, none
from hanse.errors import RunFailed
from hanse.learning import rows as preparation
from hanse.learning.pooling import Importance
from hanse.learning.schedule import Schedule
from hanse.messages import Array, Json, Record


@dataclass(frozen=True, slots=True)
class State:
    """What the coordinator knows.

    Args:
        counting: what is settled before the first tree.
        took: the nodes that grow this tree; () before its first ask.
        whole: nodes that are sent all trees next, since they have said that they need them.
        bins, base: once they are settled.
        model: the trees so far.
        times: what the gradients of this tree need of all rows, as far as it is known; None: nothing.
        units: of gradients and Hessians in this tree, once they are known.
        growing: the trees of this round, after the first ask; ``leaves``: what these take once they are whole, where
            it is looked for.
        forward: what brings a node that has all earlier trees to this round.
        grown: the stamp of the rows as they have been told to go; ``after``: as they will have been with the next ask.
        patience: rounds without a smaller loss after which it ends; ``kept``: the rounds of the model, once it has.
        restarts: trees that began anew. fewer: rounds whose trees grew of the rows of fewer sites than the run has.
        lumped: nodes whose rows are so often equal that a share of them is not like all.
        explains: of how many rows SHAP values are summed up at the end; None: of all. ``explained``: their sums.
    """

    schedule: Schedule
    prepared: Record
    model_name: str
    options: Mapping[str, Json]
    counting: Counting
    importance: Importance
    took: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    bins: Binning | None = None
    base: Base | None = None
    model: Trees | None = None
    times: Times | None = None
    units: Units | None = None
    growing: Growing | None = None
    leaves: Leaves | None = None
    forward: Forward | None = None
    grown: str = ""
    after: str = ""
    seed: int = 0
    patience: int | None = None
    kept: int | None = None
    restarts: int = 0
    fewer: int = 0
    lumped: tuple[str, ...] = ()
    explains: int | None = 0
    explained: Explained | None = None

    @property
    def adapter(self) -> Any:
        """The model's adapter."""
        return adapter_of(self.model_name, self.options, preparation.task(self.prepared))

    @property
    def rules(self) -> Rules:
        """How trees grow, with the seed of the run."""
        return _rules(self.adapter, self.seed)


@lru_cache(8)
def _rules(adapter: Any, seed: int) -> Rules:
    rules: Rules = adapter.rules
    return replace(rules, constraints=replace(rules.constraints, seed=seed))


def to_explain(state: State) -> Explain | None:
    """What the sites are asked after the last tree; None where they are not, or have been."""
    model = known(state.model)
    if state.explains == 0 or state.explained is not None or state.base is None or not len(model):
        return None
    share = 1.0 if state.explains is None else min(1.0, state.explains / state.counting.rows)
    return Explain(model, state.base, share, shap.unit(model))


def shares(state: State, most: int | None = None) -> dict[str, Json]:
    """What features add to predictions, the ``most`` important ones, once it is known."""
    if state.explained is None:
        return {}
    task = preparation.task(state.prepared)
    # the margin of two classes is of the second one
    outputs = task.classes if state.adapter.objective.outputs > 1 else task.classes[1:]
    of = _boosting_shap.table(state.explained, task.features, outputs)[:most]
    withheld = {"withheld": list(state.explained.withheld)} if state.explained.withheld else {}
    return {"shap": {"rows": state.explained.rows, **withheld, "features": of}}


def fresh(state: State) -> State:
    """Before the first ask of a tree."""
    bounds, outputs, weight = (
        state.adapter.objective.bounds(),
        state.adapter.objective.outputs,
        state.counting.weight_unit,
    )
    units = None
    if all(bound is not None for bound in bounds):
        if weight is None:
            own = _packable(state) or tuple(map(scales.unit, bounds))
        else:  # what a light row weighs is small beside the heaviest, so weights have all bits that there are
            own = tuple(scales.bounded(bound * 2.0 ** (weight + scales.BITS)) for bound in bounds)
        units = np.tile(np.array(own, np.int32), (outputs, 1))
    times = None if state.times is None else Times(state.times.edges)
    return replace(state, growing=None, leaves=None, units=units, times=times)


def _packable(state: State) -> tuple[int, int] | None:
    """The units in which both sums of a bin of all sites are one number, but for some that are too full; None where
    there are none. They follow from the rows of all and not from where these lie, as all of a model has to."""
    if state.counting.apart is None:
        return None
    return scales.packable(state.adapter.objective.bounds(), state.counting.most)


@dataclass(frozen=True, slots=True)
class Room:
    """How large sums can be that are asked for.

    Args:
        largest: a row's |gradient| and Hessian, in the units of this tree.
        rows: of the fullest bin of the sites that grow it; None where nobody knows, since one may grow it that was not
            there when bins were counted, and before all have answered that will. ``others``: of the fullest of those
            that are not told ``apart``.
        apart: the bins whose sums are told apart from the others', where both sums of a bin are one number
            (:mod:`hanse.boosting.packed`); None: they are two.
    """

    largest: tuple[int, int]
    rows: int | None
    others: int
    apart: Array | None

    @staticmethod
    def of(state: State) -> Room:
        """Of this tree."""
        counting, bounds = state.counting, state.adapter.objective.bounds()
        largest = 1 << scales.BITS, 1 << scales.BITS
        if counting.weight_unit is None and state.units is not None and None not in bounds:
            g, h = (scales.largest(bound, unit) for bound, unit in zip(bounds, state.units[0].tolist(), strict=True))
            largest = g, h
        counted = state.took and {*state.took} <= {*counting.took}
        rows = counting.fullest or None if counted else None
        return Room(largest, rows, counting.most, None if rows is None else counting.apart)

    @property
    def fullest(self) -> tuple[int, int]:
        """Most rows of a bin, and of one of those that are told apart."""
        most = self.rows or 1 << 62
        return (most if self.apart is None else self.others), most

    @property
    def most(self) -> dict[str, int]:
        """How large a number of the histograms of a site, and of all together, can be: of no more rows than the fullest
        bin has of all sites."""
        if self.rows is None:
            return {}
        g, h = self.largest
        if self.apart is None:
            return {"histograms": self.rows * max(g, h)}
        return {"histograms": packed.largest(self.others * g), "apart": self.rows * max(g, h)}


def timed(times: Times, found: Mapping[str, Array], weight_unit: int | None) -> Times:
    """With how large hazards are, or with their sums, of all sites."""
    if times.units is None:
        return replace(times, units=scales.settled(found["magnitudes"]))
    happened = np.ldexp(found["happened"].astype(np.float64), weight_unit or 0)
    return replace(times, hazard=risk.hazard(found["at_risk"], happened, int(times.units[0])))


def stopped(state: State) -> State:
    """The end, with the trees of the rounds up to the least loss."""
    model, done, best = known(state.model), state.schedule.round, state.schedule.best()
    kept = done if best is None else best
    trees = model.some(0, len(model) - (done - kept) * state.adapter.trees)
    return replace(state, schedule=replace(state.schedule, phase="done"), model=trees, kept=kept)


def everything(state: State) -> Forward:
    """What brings a node to this round that has nothing."""
    if state.forward is None:
        raise RunFailed("the edges of the bins are not settled")
    return replace(state.forward, bins=state.bins, base=state.base, trees=known(state.model), whole=True)


def known(model: Trees | None) -> Trees:
    """The trees, where there are some yet."""
    return none() if model is None else model
