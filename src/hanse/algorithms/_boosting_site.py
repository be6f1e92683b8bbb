"""The node's half of exact boosting (:mod:`hanse.algorithms.boosting`): what it is asked, and all that it does with its
rows."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np

from hanse.algorithms import _boosting_shap
from hanse.algorithms._boosting_rows import Observed
from hanse.allocator import give_back
from hanse.boosting import edges, quantiles, risk, scales
from hanse.boosting.binning import Binning
from hanse.boosting.compiled import at_once
from hanse.boosting.exponential import exp
from hanse.boosting.growing import Splits
from hanse.boosting.kernel import round_pairs
from hanse.boosting.trees import Trees
from hanse.boosting.workspace import Workspace
from hanse.codec import ArrayOf
from hanse.errors import DataError, WireError
from hanse.kinds import Combine, Contribution, Site
from hanse.learning import evaluation
from hanse.learning import rows as preparation
from hanse.learning.pooling import model_options
from hanse.learning.rows import Targets
from hanse.learning.sampling import drawn, lumped
from hanse.messages import Array, Json, Record, dumps, loads
from hanse.registry import find
from hanse.task import Task

_ROWS = 1 << 14  # whose gradients are computed at a time
Units = Annotated[Array, ArrayOf("int32", "outputs", 2)]
Base = Annotated[Array, ArrayOf("float32", "outputs")]


@dataclass(frozen=True, slots=True)
class Count:
    """What a node is asked first: how many of its values are in parts of these cells; and how large what the first
    margin follows from is, or with ``units`` its sums; or, where it is a quantile, how many targets have the bits of
    ``sought``."""

    cells: edges.Refinement
    wants: Literal["magnitudes", "totals", "nothing"]
    units: Annotated[Array, ArrayOf("int32", "sums")]
    sought: quantiles.Sought | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """The trees of the last round, or all; a node adds them to its margins, and is at the root of the next.

    Args:
        bins, base: of all rows; None for a node that goes on, as it was told them with the first trees.
        trees: what to add.
        whole: whether these are all trees.
        before, after: stamps of the margins, before and after.
        grown, splits, adds: for a node whose rows have grown as far as this stamp: the last splits, and what each node
            of the tree adds.
        begun: the stamp of rows that are all at the root.
    """

    bins: Binning | None
    base: Base | None
    trees: Trees
    whole: bool
    before: str
    after: str
    grown: str
    splits: Splits
    adds: Annotated[Array, ArrayOf("float32", "adds")]
    begun: str


@dataclass(frozen=True, slots=True)
class Level:
    """Splits to go along, with the stamps before and after; and the nodes to sum up then, in so many ``bins``: both
    sums of a bin as one number (:mod:`hanse.boosting.packed`), but those of bins told ``apart``; None: as two."""

    splits: Splits
    before: str
    after: str
    nodes: Annotated[Array, ArrayOf("int32", "built")]
    bins: int
    apart: Annotated[Array, ArrayOf("int32", "apart")] | None = None


@dataclass(frozen=True, slots=True)
class Residuals:
    """Quantiles of residuals that are looked for, in the leaves of whole trees; ``home``: of each of their nodes the
    leaf that its rows are in."""

    sought: quantiles.Sought
    home: Annotated[Array, ArrayOf("int32", "nodes")]


@dataclass(frozen=True, slots=True)
class Times:
    """What the gradients of a round need of all rows, for an objective of times (:mod:`hanse.boosting.risk`).

    Args:
        edges: of the intervals of time.
        units: in which a node sums up who is at risk in each; None: it says how large that is.
        hazard: what follows from the sums of all; None: it is asked for.
    """

    edges: Annotated[Array, ArrayOf("float32", "edges")]
    units: Annotated[Array, ArrayOf("int32", 1)] | None = None
    hazard: Annotated[Array, ArrayOf("float64", "intervals", 2)] | None = None


@dataclass(frozen=True, slots=True)
class Blank:
    """What a node answers at the root that has forgotten what it learns: nothing of so many ``trees``, in so many
    ``bins``, and of so many ``outputs``; and of these ``sums``, by their names ``[type, shape]``."""

    trees: int
    bins: int
    outputs: int
    sums: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: to ``count``; to go ``forward``, and then to measure, and to sum up the root in ``units``,
    or to say how large gradients and Hessians are, where their units are not known, and before both what these need of
    all rows (``times``); to go down a ``level``, and to sum up its nodes or to count ``residuals``. Where rows have
    weights, these count in units of 2^``weight_unit``. After the last tree, to ``explain`` what it learned.
    ``prepared``: what all sites agreed on; None where a node goes on from what it was told before, as inside a tree and
    from one to the next: to read it of many columns takes longer than all else that an ask says. At a root, ``blank``
    is for who has forgotten it.
    """

    prepared: Record | None
    count: Count | None = None
    forward: Forward | None = None
    level: Level | None = None
    residuals: Residuals | None = None
    times: Times | None = None
    units: Units | None = None
    weight_unit: int | None = None
    measures: bool = False
    grows: bool = True
    round: int | None = None
    explain: _boosting_shap.Explain | None = None
    blank: Blank | None = None


@dataclass(frozen=True, slots=True)
class Learner:
    """What a node learns in a run, kept beside its workspace."""

    prepared: Record
    task: Task
    model: Any

    @staticmethod
    def of(site: Site, prepared: Record | None) -> Learner | None:
        """That of what all agreed on; None where the node was not told, or has forgotten."""
        known: Learner | None = site.memory.get("learner")
        if prepared is None or (known is not None and _same(known.prepared, prepared)):
            return known
        own = Record(prepared.data, {name: np.array(prepared.arrays[name]) for name in prepared.arrays})
        task = preparation.task(own)
        made = Learner(own, task, adapter_of(site.config["model_name"], model_options(site.config), task))
        site.memory["learner"] = made
        return made


def _same(known: Record, told: Record) -> bool:
    """Whether a node was told this before: it comes with each tree, and what follows of it takes longer than to see
    that it is the same."""
    if known.data is told.data:
        return True
    if known.data != told.data or set(known.arrays) != set(told.arrays):
        return False
    pairs = ((known.arrays[name], told.arrays[name]) for name in known.arrays)
    return all(own.dtype == other.dtype and np.array_equal(own, other) for own, other in pairs)


_latest: tuple[tuple[str, Mapping[str, Json] | None, Task | None], Any] = (("", None, None), None)


def adapter_of(name: str, options: Mapping[str, Json], task: Task) -> Any:
    """The adapter of a model (:mod:`hanse.models`), made once: an ask needs it several times at either end, mostly of
    the very options and task of the time before."""
    global _latest
    known, found = _latest
    if known[0] != name or known[1] is not options or known[2] is not task:
        found = _adapter(name, dumps(dict(options)), task)
        _latest = (name, options, task), found
    return found


@functools.lru_cache(8)
def _adapter(name: str, options: str, task: Task) -> Any:
    return find("models", name).build(task, loads(options))


def answer(site: Site, ask: Question) -> Contribution:
    """What a node answers."""
    learner = Learner.of(site, ask.prepared)
    if learner is None:
        return _lost(ask)
    model = learner.model
    rows = Observed.of(site, learner.prepared)
    of = rows.targets
    if "unfit" not in site.cache:  # who is not counted grows no tree either
        y = of.y[of.trained]
        finite = np.abs(y).max(initial=0) <= np.finfo(np.float32).max
        site.cache["unfit"] = model.objective.unfit(y) if finite else "one is larger than float32 can hold"
    if site.cache["unfit"]:
        raise DataError(f"the targets do not fit {model.objective.name}: {site.cache['unfit']}")
    if ask.explain is not None:
        return _boosting_shap.answer(ask.explain, model, rows)
    if ask.count is not None:
        return _counted(ask.count, model, rows)
    work: Workspace | None = site.memory.get("boosting")
    sizes: dict[str, Array] = {}
    if ask.forward is not None:
        work = _gone_forward(work, ask.forward, model, rows)
        if work is not None and ask.grows:
            sizes = _begun(work, ask, model, rows)
    if ask.level is not None:
        work = _gone_down(work, ask.level)
    if work is None:
        return _lost(ask)
    site.memory["boosting"] = work
    site.progress()
    sums, shown = _measured(work, learner, of) if ask.measures else ({}, {})
    if ask.residuals is not None:
        found = {"ranks": _ranked(work, ask, ask.residuals, of)}
    else:
        nodes = ask.level.nodes if ask.level else np.arange(model.trees if ask.grows else 0)
        places = work.standing(nodes)
        found = {"rows": places[:, 2] - places[:, 1], **sizes}
        if ask.grows and not sizes:
            found |= _sums(work, nodes, places, ask.level.apart if ask.level else None)
    site.progress()
    shown |= {"n": float(of.size), "n_test": float(len(of.test))}
    return Contribution(Record({}, found), 1.0, sums, shown, Combine.SUM)


def _counted(ask: Count, model: Any, rows: Observed) -> Contribution:
    of, lumps = rows.targets, rows.site.cache.get("lumped", False)
    if wrong := ask.cells.fault(len(model.task.features) + bool(model.objective.intervals)):
        raise WireError(f"the cells that it is to count are not usable: {wrong}")
    if model.subsample < 1:
        lumps = lumps or lumped(rows.row_keys())  # before bins are in memory
    columns = rows.learned_columns(ask.cells.cells > 0)
    if model.objective.intervals:
        columns = itertools.chain(columns, [of.y[of.trained, 0]])
    found = {"counts": edges.counts(columns, ask.cells), "rows": np.array([of.size], np.int64)}
    y = of.y[of.trained]
    sums, weight = np.asarray(model.objective.begin(y), np.float64), None
    if of.weight is not None:
        weight = of.weight[of.trained]
        sums = np.column_stack([sums * weight[:, None], weight]).astype(np.float64)
    if ask.wants == "totals" and len(ask.units) != sums.shape[1]:
        raise WireError(f"the units are of {len(ask.units)} sums, and there are {sums.shape[1]}")
    if ask.wants == "magnitudes":
        found["magnitudes"] = scales.magnitudes(sums)
    elif ask.wants == "totals":
        found["totals"] = scales.whole(sums, ask.units).astype(np.int64).sum(axis=0)
    if ask.sought is not None:
        own = None if weight is None else _whole(weight, int(ask.units[-1]))
        found["ranks"] = quantiles.counts(quantiles.keys(y), np.zeros(len(y), np.int64), ask.sought, own)
    return Contribution(Record({"lumped": True} if lumps else {}, found), combine=Combine.SUM)


def _gone_forward(work: Workspace | None, ask: Forward, model: Any, rows: Observed) -> Workspace | None:
    """The workspace with the margins that the next tree begins with; None where it lacks trees before these."""
    if work is not None and work.boosted == ask.after:
        return work
    if ask.whole:
        if ask.bins is None or ask.base is None:
            raise WireError(
                "all trees are to be added, and nothing says in which bins rows are, or where margins begin"
            )
        if len(ask.base) != (outputs := model.objective.outputs):
            raise WireError(f"margins begin with those of {len(ask.base)} outputs, and there are {outputs}")
        work = None  # before another one is made
        give_back()
        work = Workspace(rows.columns, len(rows.targets), ask.bins, model.objective.margin(ask.base))
        give_back()
        work.add(ask.trees)
    elif work is None or work.boosted != ask.before:
        return None
    elif work.grown == ask.grown and model.rules.parallel == 1:
        work.boosted = ""  # until all is added: where that fails, some of it is in the margins
        work.split(ask.splits, "")
        work.add_leaves(ask.adds)
        work.add(ask.trees, work.others)
    else:
        work.boosted = ""
        work.add(ask.trees)
    work.boosted = ask.after
    return work


def _gone_down(work: Workspace | None, ask: Level) -> Workspace | None:
    """The workspace with the rows at the nodes that are asked for; None where they are not at their parents."""
    if work is not None and work.grown == ask.before:
        work.split(ask.splits, ask.after)
    return work if work is not None and work.grown == ask.after else None


def _begun(work: Workspace, ask: Question, model: Any, rows: Observed) -> dict[str, Array]:
    """Brings the rows of a round to the roots of its trees, with their gradients and Hessians in units; where these are
    not known, how large they are; before that, what the gradients need of all rows."""
    units, times, of, objective = ask.units, ask.times, rows.targets, model.objective
    if units is not None and len(units) != objective.outputs:
        raise WireError(f"the units are of {len(units)} outputs, and there are {objective.outputs}")
    if times is not None and times.hazard is not None and len(times.hazard) != len(times.edges) + 1:
        raise WireError(f"hazards are of {len(times.hazard)} intervals, and there are {len(times.edges) + 1}")
    train = of.train
    if times is not None and times.hazard is None:
        work.begin(objective.outputs, [train] * model.trees)
        return _at_risk(work, of, times, ask.weight_unit)
    of_trees = [train] * model.trees
    if model.subsample < 1:
        keys, share, seed = rows.row_keys(), model.subsample, int(rows.site.config["seed"])
        first = train[drawn(keys, share, seed, ask.round or 0)]
        of_trees = [first] * model.trees
        for tree in range(model.trees):  # those of several outputs have the same rows
            if place := tree % model.rules.parallel:
                of_trees[tree] = train[drawn(keys, share, seed, f"{ask.round or 0} {place}")]
    work.begin(objective.outputs, of_trees, train, _largest(objective, units, of))
    magnitudes: list[Array] = []
    hazard = None if times is None else times.hazard

    def some(rows: Array) -> None:
        train = slice(int(rows[0]), int(rows[-1]) + 1) if of.learned is None and len(rows) else rows  # no copies
        y, weight, own = of.y[train], None if of.weight is None else of.weight[train], objective
        if times is not None and hazard is not None:
            own = objective.given(hazard[risk.intervals(y[:, 0], times.edges)])
        both = own.gradients(work.margins[train], y, weight)  # (rows, outputs) each
        if units is None:
            magnitudes.append(scales.magnitudes(np.stack(both, axis=2).reshape(len(y), 2 * objective.outputs)))
            return
        round_pairs(*both, np.ldexp(1.0, -units), rows, work.pairs)

    at_once(partial(some, part) for part in _parts(train))
    work.grown = ask.forward.begun if ask.forward else ""
    return {} if units is not None else {"magnitudes": np.sum(magnitudes, axis=0)}


def _sums(work: Workspace, nodes: Array, places: Array, apart: Array | None) -> dict[str, Array]:
    """Those of some nodes in each bin."""
    if apart is None:
        return {"histograms": work.histograms(nodes, places)}
    sums, own = work.packed(nodes, apart, places)
    return {"histograms": sums, **({"apart": own} if len(apart) else {})}


def _largest(objective: Any, units: Array | None, of: Targets) -> tuple[int, int] | None:
    """That |g| and h of a row can be in these units; None where they have no bound, or rows have weights."""
    bounds = objective.bounds()
    if units is None or of.weight is not None or any(bound is None for bound in bounds):
        return None
    g, h = (scales.largest(bound, int(unit)) for bound, unit in zip(bounds, units.min(axis=0), strict=True))
    return g, h


def _parts(rows: Array) -> list[Array]:
    """Some rows after the other (at least none), so that what is computed of them stays small."""
    return [rows[low : low + _ROWS] for low in range(0, max(len(rows), 1), _ROWS)]


def _whole(weight: Array, unit: int) -> Array:
    """(n,) int64 weights in units of 2^``unit``."""
    return np.asarray(scales.whole(weight[:, None], np.array([unit]))[:, 0], np.int64)


def _at_risk(work: Workspace, of: Targets, times: Times, unit: int | None) -> dict[str, Array]:
    """How large the hazards exp(F) of the training rows are; in units, their sums in each interval, with the events
    there."""
    k = len(times.edges) + 1
    found = {"at_risk": np.zeros(k, np.int64), "happened": np.zeros(k, np.int64)}
    if times.units is None:
        found = {"magnitudes": np.zeros((1, scales.SIZE), np.int64)}
    for train in _parts(of.train):
        hazards, (time, event), own = exp(work.margins[train]).astype(np.float64), of.y[train].T, None
        if of.weight is not None:
            hazards, own = hazards * of.weight[train, None], _whole(of.weight[train], unit or 0)[event == 1]
        if times.units is None:
            found["magnitudes"] += scales.magnitudes(hazards)
            continue
        interval = risk.intervals(time, times.edges)
        whole = scales.whole(hazards, times.units)[:, 0].astype(np.int64)
        found["at_risk"] += scales.binned(interval, k, whole)
        found["happened"] += scales.binned(interval[event == 1], k, own)
    return found


def _ranked(work: Workspace, question: Question, ask: Residuals, of: Targets) -> Array:
    """How many of the rows that the trees learn from have residuals of the bits that are looked for, or what they
    weigh."""
    if len(ask.home) < len(work.places):
        raise WireError(
            f"{len(work.places)} nodes have grown here, and it is said of {len(ask.home)} what leaf they are"
        )
    found = np.zeros((len(ask.sought.group), quantiles.WIDTH), np.int64)
    leaf = np.empty(len(work.order), np.int32)
    for node, (output, low, high) in enumerate(work.places.tolist()):
        if output >= 0:
            leaf[low:high] = ask.home[node]
    for tree, (low, high) in enumerate(itertools.pairwise(work.bounds)):
        for own, at in zip(_parts(work.order[low:high]), _parts(leaf[low:high]), strict=True):
            residuals = of.y[own].astype(np.float32) - work.margins[own, tree // work.parallel]
            weight = None if of.weight is None else _whole(of.weight[own], question.weight_unit or 0)
            found += quantiles.counts(quantiles.keys(residuals), at, ask.sought, weight)
    return found


def _measured(work: Workspace, learner: Learner, of: Targets) -> tuple[dict[str, Array], dict[str, float]]:
    prediction = learner.model.objective.predict(work.margins[of.test])
    center, weight = learner.prepared.arrays["target_mean"], None if of.weight is None else of.weight[of.test]
    return evaluation.evaluate(prediction, of.y[of.test], learner.task, center, weight)


def _lost(ask: Question) -> Contribution:
    """Nothing, and that it is for want of earlier trees."""
    blank = ask.blank or Blank(0, 0, 0, {})
    nodes = len(ask.level.nodes) if ask.level else blank.trees
    sums = {name: np.zeros([n or 0 for n in shape], dtype) for name, (dtype, shape) in blank.sums.items()}
    found = {"rows": np.zeros(nodes, np.int64)}
    if ask.residuals is not None:
        found = {"ranks": np.zeros((len(ask.residuals.sought.group), quantiles.WIDTH), np.int64)}
    elif ask.times is not None and ask.times.hazard is None:
        k = len(ask.times.edges) + 1
        empty = {"at_risk": np.zeros(k, np.int64), "happened": np.zeros(k, np.int64)}
        found |= {"magnitudes": np.zeros((1, scales.SIZE), np.int64)} if ask.times.units is None else empty
    elif ask.forward is not None and ask.grows and ask.units is None:
        found["magnitudes"] = np.zeros((2 * blank.outputs, scales.SIZE), np.int64)
    elif nodes:
        wide = ask.level.bins if ask.level else blank.bins
        apart = ask.level.apart if ask.level else None
        found["histograms"] = np.zeros((nodes, wide, 2) if apart is None else (nodes, wide), np.int64)
        if apart is not None and len(apart):
            found["apart"] = np.zeros((nodes, len(apart), 2), np.int64)
    return Contribution(Record({"lost": True}, found), 1.0, sums, combine=Combine.SUM)
