"""Exact boosting: the trees that gradient boosting on the pooled rows grows, to the last bit, however the rows lie.

1. *prepare*: the sites count their values in cells (:mod:`hanse.boosting.edges`) and sum up what the first margin
   follows from. The edges of the bins and the first margin are those of all rows.
2. *train*, one ask a level: each site moves its rows along the splits that were found, and sums the gradients and the
   Hessians of its rows in each bin of each node, as whole numbers (:mod:`hanse.boosting.scales`). The coordinator adds
   them and finds the next splits (:mod:`hanse.boosting.growing`). What the leaves add to the margins goes with the
   first ask of the next tree, which also measures the trees so far on the rows that are held out. Trees of depth d take
   d asks.

All sums are whole numbers, so they are the same for every split of the rows over sites, and may be masked. All else is
computed at the coordinator, or for each row alone. What leaves a site are sums over its rows; where few of its rows are
in a bin or a leaf, these tell much of them (see docs/privacy.md).

A tree is grown by the sites that answered its first ask. Where one of them is lost on the way, the tree begins anew
with the others: sums of different sites have no difference. Who comes back is sent all trees, and takes part in the
next.

References: Chen and Guestrin 2016, "XGBoost: A Scalable Tree Boosting System"; Cheng et al. 2021, "SecureBoost",
section 3, for sums of sites; Ke et al. 2017, "LightGBM", section 2, for bins and the difference of siblings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache, partial
from typing import Any

import numpy as np

from hanse import rough
from hanse.algorithms import _boosting_counts, _boosting_leaves, _boosting_shap, _boosting_state
from hanse.algorithms._boosting_leaves import Leaves
from hanse.algorithms._boosting_site import Blank, Forward, Level, Question, Residuals, Times, Units, adapter_of, answer
from hanse.algorithms._boosting_state import Room, State
from hanse.boosting import growing, objective, quantiles, scales, sound
from hanse.boosting.growing import Growing, Splits
from hanse.boosting.importance import shares
from hanse.boosting.packed import Sums
from hanse.boosting.splits import Impossible
from hanse.boosting.trees import Trees, join, none
from hanse.codec import encode
from hanse.config import RunConfig
from hanse.errors import ConfigError, RunFailed, Unusable
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site
from hanse.learning import evaluation
from hanse.learning import rows as preparation
from hanse.learning.pooling import Importance, model_options
from hanse.learning.results import result_of
from hanse.learning.schedule import Schedule
from hanse.messages import Array, Json, Record
from hanse.settings import Setting, maybe, number, whole
from hanse.typed import Typed

TAKES = "histograms"
DEFAULT = True
EXACT = True
BY_COLUMNS = True
SETTINGS = {
    **preparation.SETTINGS,
    "learning_rate": Setting(
        None, "of each boosted tree; null: the model's own (0.3)", maybe(number(0, 1000, above=True))
    ),
    "early_stopping_rounds": Setting(
        None,
        "end where the loss on the rows held out has not fallen for so many rounds, and take the trees up to the least",
        maybe(whole(1, 100_000)),
    ),
    "shap_rows": Setting(
        0,
        "of how many training rows of all sites it is told what each feature adds to predictions (mean |SHAP|); "
        "0: none; null: all",
        maybe(whole(0, 1_000_000_000)),
    ),
}
CHECKPOINT_EVERY = 10  # trees: a state holds all trees so far
_SHOWN_FEATURES = 50


def ingredients(options: Mapping[str, Json]) -> tuple[str, ...]:
    """Modules of the node's half beside the model's, for the bundle."""
    return objective.modules(options)


def most_steps(config: RunConfig) -> int:
    """Those that count, and of each tree its levels and what its leaves take, twice: a tree may begin anew where a site
    is lost, and where secure sums were told that a killed coordinator asks again, those since its last state do."""
    options = config.model_options
    depth, leaves = options.get("max_depth", 6), options.get("max_leaves", 0)
    levels = depth or leaves or 1000
    quantile = options.get("objective") and getattr(
        objective.named(str(options["objective"])), "LEAVES_ARE_QUANTILES", False
    )
    more = quantiles.EXCHANGES if quantile else 0
    return _boosting_counts.MOST + 2 * (config.num_rounds + CHECKPOINT_EVERY) * (int(levels) + 4 + more) + 3


def unfit(config: RunConfig) -> str:
    """Why the run cannot be one of exact boosting; "" where it can."""
    if config.ingredient_settings.get("early_stopping_rounds") is not None and config.test_fraction == 0:
        return "early_stopping_rounds needs rows that are held out; set test_fraction above 0"
    return ""


class ExactBoosting:
    """A :class:`hanse.typed.Computation`."""

    combines = frozenset({Combine.SUM})

    def averages(self, options: Mapping[str, Json]) -> bool:
        """False: rows add up, and nobody's are worth less."""
        return False

    # ------------------------------------------------------------ coordinator

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        """Nothing is counted."""
        if previous is None:
            raise ConfigError("boosting follows the preparation; build the run with hanse.algorithms.build")
        task = preparation.task(previous)
        share = np.zeros(len(task.features))
        model = adapter_of(config["model_name"], model_options(config), task)
        return State(
            Schedule.of(config),
            previous,
            config["model_name"],
            model_options(config),
            _boosting_counts.begun(previous, model.objective, config["weight_column"] is not None),
            Importance(share, share, share),
            model=none(),
            seed=config["seed"],
            patience=config["early_stopping_rounds"],
            explains=config["shap_rows"],
        )

    def ask(self, state: State) -> Ask | Done:
        """Counts, until all edges are known; then tree after tree, level by level."""
        if state.counting.asked is not None:
            return _boosting_counts.ask(state.counting, state.counting.asked, state.adapter.objective, state.prepared)
        schedule, growing = state.schedule, state.growing
        if schedule.phase == "done" and (asked := _boosting_state.to_explain(state)) is not None:
            task = preparation.task(state.prepared)
            return Ask(
                encode(Question(state.prepared, explain=asked)),
                Combine.SUM,
                "explain",
                counts={"explained": None},
                fault=_boosting_shap.fault,
                arrays=_boosting_shap.shapes(state.adapter.objective.outputs, len(task.features)),
                sums={},
            )
        if schedule.phase == "done":
            trees = f"{schedule.round} rounds, {len(_boosting_state.known(state.model))} trees"
            return Done(trees if state.kept is None else f"{trees}: the loss was least after {state.kept} rounds")
        if growing is not None:
            return self._level(state, growing)
        return self._forward(state)

    def tell(self, state: State, gathered: Gathered) -> State:
        """The next cells to count; or the next splits."""
        heavy = {a.node: f"weighs {a.weight:g}; sums of rows weigh 1" for a in gathered.answers if a.weight != 1}
        if heavy:
            raise Unusable(heavy)
        if state.counting.asked is not None:
            return self._counted(state, gathered)
        if state.schedule.phase == "done" and (asked := _boosting_state.to_explain(state)) is not None:
            explained = _boosting_shap.told(asked, gathered)
            return replace(state, explained=explained, schedule=state.schedule.noted(None))
        told = {answer.node: bool(answer.data.get("lost")) for answer in gathered.answers}
        lost = tuple(node for node, is_lost in told.items() if is_lost)
        again = {node: "it does not have the trees that it was sent" for node in lost if node in state.whole}
        if again:
            raise Unusable(again)
        there = tuple(told)
        if state.took and there != state.took:
            return self._anew(state, there)
        if lost:
            return replace(state, took=there, whole=lost, schedule=state.schedule.noted(None))
        if there != state.took or state.whole:
            state = replace(state, took=there, whole=())
        if state.growing is None:
            now = self._begun(state, gathered)
        elif state.leaves is not None:
            now = self._filled(state, gathered, state.growing, state.leaves)
        else:
            now = self._grown(state, gathered, state.growing)
        grew = now.schedule.round > state.schedule.round
        return replace(now, fewer=now.fewer + 1) if grew and len(there) < len(gathered.nodes) else now

    def anew(self, state: State, left: Sequence[str] = ()) -> State | None:
        """The tree begins again, of those that are left; None where none grows. The numbers of a level are made of what
        nodes remember, so who has lost it cannot make those again that it gave."""
        growing = state.counting.asked is None and state.schedule.phase != "done" and state.forward is not None
        return self._anew(state, tuple(left)) if growing else None

    def _counted(self, state: State, gathered: Gathered) -> State:
        adapter = state.adapter
        counting = _boosting_counts.told(state.counting, gathered, adapter, state.prepared)
        state = replace(
            state, counting=counting, lumped=tuple(a.node for a in gathered.answers if a.data.get("lumped"))
        )
        if counting.asked is not None or counting.totals is None:
            return state
        bins, grid = _boosting_counts.settled(counting, adapter, state.prepared)
        base = state.base if state.base is not None else _boosting_counts.base(counting, adapter)
        times = None if grid is None else Times(grid)
        counting = _boosting_counts.filled(counting, bins, adapter.objective.bounds())
        state = replace(state, counting=counting, bins=bins, base=base, times=times)
        return self._next(state, _boosting_state.known(state.model), [], "", np.zeros(0, np.float32))

    # ---- trees

    def _next(self, state: State, trees: Trees, splits: list[Splits], grown: str, adds: Array) -> State:
        """The state before the first ask of a tree, with what brings the nodes there: the ``trees`` before it."""
        if state.bins is None or state.base is None:
            raise RunFailed("the edges of the bins are not settled")
        before = state.forward.after if state.forward else ""
        bins, base = (None, None) if before else (state.bins, state.base)
        after = _stamp(before, trees) if before else _stamp(trees, state.bins, state.base)
        last = splits[0] if splits else _nothing()
        forward = Forward(bins, base, trees, not before, before, after, grown, last, adds, _stamp(after, "root"))
        return replace(_boosting_state.fresh(state), forward=forward, grown=forward.begun, took=())

    def _forward(self, state: State) -> Ask:
        """Brings the nodes to the next tree; measures what they have; asks for the root."""
        forward, schedule, task = state.forward, state.schedule, preparation.task(state.prepared)
        if forward is None or state.bins is None:
            raise RunFailed("the edges of the bins are not settled")
        adapter, grows, weighted = state.adapter, schedule.phase == "train", state.counting.weighted
        sums = evaluation.shapes(task, weighted) if _measures(schedule) else {}
        trees, wide = adapter.trees if grows else 0, int(state.bins.starts[-1])
        question = Question(
            state.prepared if forward.whole or state.whole else None,
            forward=forward,
            times=state.times if grows else None,
            units=state.units,
            weight_unit=state.counting.weight_unit,
            measures=_measures(schedule),
            grows=grows,
            round=schedule.round + 1,
            blank=Blank(
                trees,
                wide,
                adapter.objective.outputs,
                {name: [dtype, list(shape)] for name, (dtype, shape) in sums.items()},
            ),
        )
        arrays: dict[str, tuple[str, tuple[int, ...]]] = {"rows": ("int64", (trees,))}
        if grows and state.times is not None and state.times.hazard is None:
            k, known = len(state.times.edges) + 1, state.times.units is not None
            there = {"at_risk": ("int64", (k,)), "happened": ("int64", (k,))}
            arrays |= there if known else {"magnitudes": ("int64", (1, scales.SIZE))}
        elif grows and state.units is None:
            arrays["magnitudes"] = ("int64", (2 * adapter.objective.outputs, scales.SIZE))
        elif grows:
            arrays["histograms"] = ("int64", (trees, wide, 2))
        if state.whole:  # all are asked the same, or it cannot be a secure sum; who has the trees passes over them
            question = replace(question, forward=_boosting_state.everything(state))
        counts = {
            "rows": None,
            **_counts(state, "happened"),
            **(evaluation.counts(task, weighted) if _measures(schedule) else {}),
        }
        return Ask(
            encode(question),
            Combine.SUM,
            schedule.phase,
            schedule.round + 1 if grows else None,
            to=state.took or schedule.whom,
            counts=counts,
            arrays=arrays,
            sums=sums,
            fault=partial(_fault, state.bins.starts, Room.of(state)),
            whole=grows,
            checkpoint=schedule.round % CHECKPOINT_EVERY == 0,
        )

    def _begun(self, state: State, gathered: Gathered) -> State:
        """After the first ask of a tree, or the one that only measures."""
        schedule, task = state.schedule, preparation.task(state.prepared)
        if _measures(schedule):
            entry = evaluation.summary(gathered, task, schedule.round)
            if schedule.phase == "evaluate":
                state = replace(state, schedule=schedule.evaluated(entry), took=())
                return _boosting_state.stopped(state) if state.patience and state.schedule.phase == "done" else state
            state = replace(state, schedule=schedule.noted(entry))
            best = state.schedule.best()
            if state.patience and best is not None and schedule.round - best >= state.patience:
                return _boosting_state.stopped(state)
        else:
            state = replace(state, schedule=schedule.noted(None))
        if state.bins is None:
            raise RunFailed("the edges of the bins are not settled")
        if state.times is not None and state.times.hazard is None:
            return replace(state, times=_boosting_state.timed(state.times, gathered.sum(), state.counting.weight_unit))
        if state.units is None:
            return replace(state, units=scales.settled(gathered.sum()["magnitudes"]).reshape(-1, 2))
        return self._grown(state, gathered, growing.roots(state.adapter.trees, state.bins))

    def _level(self, state: State, grown: Growing) -> Ask:
        """Brings the rows along the splits that were found last; asks for the sums of their nodes, or for the residuals
        in their leaves."""
        if state.bins is None:
            raise RunFailed("the edges of the bins are not settled")
        size, wide, round = len(grown.built), int(state.bins.starts[-1]), state.schedule.round + 1
        bounds, residuals = Room.of(state), None
        apart = bounds.apart
        level = Level(grown.splits, state.grown, state.after, grown.built, wide, apart)
        arrays: dict[str, tuple[str, tuple[int, ...]]]
        arrays = {"rows": ("int64", (size,)), "histograms": ("int64", (size, wide, 2))}
        if apart is not None:
            arrays["histograms"] = ("int64", (size, wide))
            arrays |= {"apart": ("int64", (size, len(apart), 2))} if len(apart) else {}
        if state.leaves is not None:
            residuals = Residuals(state.leaves.sought, self._trees(state, grown)[1])
            arrays = {"ranks": ("int64", (len(state.leaves.sought.group), quantiles.WIDTH))}
        unit = state.counting.weight_unit
        question = Question(None, level=level, residuals=residuals, weight_unit=unit, round=round)
        if state.whole:  # all go down again from the root
            forward = _boosting_state.everything(state)
            whole = Level(grown.every_split, forward.begun, state.after, grown.built, wide, apart)
            question = replace(question, prepared=state.prepared, forward=forward, level=whole)
            question = replace(question, times=state.times, units=state.units)
        return Ask(
            encode(question),
            Combine.SUM,
            "train",
            round,
            to=state.took,
            counts={"rows": None, **_counts(state, "ranks")},
            arrays=arrays,
            sums={},
            most=bounds.most,
            fault=partial(_fault, state.bins.starts, bounds),
            whole=True,
            checkpoint=False,
        )

    def _grown(self, state: State, gathered: Gathered, before: Growing) -> State:
        """With the sums of the nodes that were asked for; or with the trees of the round, where they are whole."""
        if state.bins is None or state.units is None:
            raise RunFailed("the units of gradients and Hessians are not settled")
        rules, bins = state.rules, state.bins
        worth = _worth(state.units, rules.parallel)
        sums = _sums(gathered.sum(), state.counting.apart)
        first = state.growing is None
        told = state.grown if first else state.after
        try:
            now = growing.grown(before, sums, worth, bins, rules, state.schedule.round)
        except Impossible as wrong:
            raise Unusable({a.node: f"the sums of all sites {wrong}" for a in gathered.answers}) from None
        schedule = state.schedule if first else state.schedule.noted(None)
        state = replace(state, growing=now, grown=told, after=_stamp(told, now.splits), schedule=schedule)
        if not now.done:
            return state
        if state.adapter.objective.quantile is not None:
            leaves = _boosting_leaves.begun(self._trees(state, now)[0])
            return replace(state, leaves=leaves)
        return self._added(state, now, *self._trees(state, now), first)

    @staticmethod
    def _trees(state: State, grown: Growing) -> tuple[Trees, Array]:
        """The trees, and of each node the place of its rows' leaf (:func:`hanse.boosting.growing.finished`)."""
        if state.bins is None or state.units is None:
            raise RunFailed("the units of gradients and Hessians are not settled")
        rules = state.rules
        return growing.finished(grown, _worth(state.units, rules.parallel), state.bins, rules)

    def _filled(self, state: State, gathered: Gathered, grown: Growing, leaves: Leaves) -> State:
        """With what was counted of the residuals; or with the trees of the round, where all leaves are known."""
        found, alpha = gathered.sum()["ranks"], state.adapter.objective.quantile
        if (found < 0).any():
            raise Unusable({a.node: "the counts of all sites add up to less than nothing" for a in gathered.answers})
        weighted = state.counting.weighted
        leaves, told = _boosting_leaves.told(leaves, found, alpha, weighted), state.after
        grown = replace(grown, opened=grown.opened[:0])  # the sites have been told
        state = replace(state, growing=grown, grown=told, after=_stamp(told, grown.splits), leaves=leaves)
        if not _boosting_leaves.known(leaves):
            return replace(state, schedule=state.schedule.noted(None))
        rules, (trees, home) = state.rules, self._trees(state, grown)
        trees = _boosting_leaves.filled(trees, leaves, alpha, weighted, rules.learning_rate / rules.parallel)
        return self._added(state, grown, trees, home, False)

    def _added(self, state: State, grown: Growing, trees: Trees, home: Array, first: bool) -> State:
        """With the trees of the round; ``first``: after its first ask."""
        gains = shares(trees, len(state.importance.latest))
        importance = state.importance.told({"importance": gains, "importance_weight": np.array([float(gains.any())])})
        measured = state.schedule.measured and first
        schedule = replace(state.schedule.trained(None), measured=measured)
        state = replace(
            state, schedule=schedule, importance=importance, model=join([_boosting_state.known(state.model), trees])
        )
        return self._next(state, trees, [grown.splits], state.grown, trees.value[home])

    def _anew(self, state: State, there: tuple[str, ...]) -> State:
        """The tree begins again, with the nodes that answered."""
        grown = state.forward.begun if state.forward else ""
        return replace(_boosting_state.fresh(state), grown=grown, took=there, whole=(), restarts=state.restarts + 1)

    def begun(self, state: State, start: Record) -> State:
        """The state that goes on from the trees of an earlier run."""
        own = {n.removeprefix("model."): np.asarray(start.arrays[n]) for n in start.arrays if n.startswith("model.")}
        base = own.pop("base", None)
        try:
            trees = Trees(**own)
        except TypeError:
            raise ConfigError("initial_model holds other arrays than the trees of exact boosting") from None
        wrong = state.adapter.fault(trees)
        if wrong or base is None:
            raise ConfigError(f"the trees of initial_model cannot be continued: {wrong or 'they have no base score'}")
        return replace(state, model=trees, base=np.asarray(base, np.float32))

    def result(self, state: State) -> Record:
        """Data ``{algorithm, model_name, options, task, prepared, history, best, round, feature_importance}``;
        arrays ``model.*`` (:class:`hanse.boosting.trees.Trees`, and ``base``) and ``prepared.*``."""
        model = {f.name: getattr(_boosting_state.known(state.model), f.name) for f in fields(Trees)}
        model["base"] = np.zeros(0, np.float32) if state.base is None else state.base
        return result_of(
            __name__.rpartition(".")[2],
            state.prepared,
            state.model_name,
            state.options,
            model,
            history=state.schedule.history,
            best=state.schedule.best(),
            round=state.schedule.round if state.kept is None else state.kept,
            feature_importance=state.importance.table(state.prepared.data["task"]["features"]),
            **_boosting_state.shares(state),
        )

    def metrics(self, state: State) -> Mapping[str, Json]:
        """Those of the trees that the last step measured (after ``evaluated_round`` rounds), how many trees there are
        now, and the most important features of the last round."""
        if state.bins is None:
            return {"cells": len(state.counting.cells.start)}
        latest, names = state.importance.latest, state.prepared.data["task"]["features"]
        top, share = np.argsort(-latest, kind="stable")[:_SHOWN_FEATURES].tolist(), latest.tolist()
        return {
            **state.schedule.shown(),
            "trees": len(_boosting_state.known(state.model)),
            **({"restarts": state.restarts} if state.restarts else {}),
            **({"warnings": odd} if (odd := _odd(state)) else {}),
            **_boosting_state.shares(state, _SHOWN_FEATURES),
            "feature_importance": {names[i]: share[i] for i in top if share[i] > 0},
        }

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half (:mod:`hanse.algorithms._boosting_site`)."""
        return answer(site, ask)


ALGORITHM = Typed(ExactBoosting(), State, Question)


# ---------------------------------------------------------------- parts


def _fault(starts: Array, bounds: Room, arrays: Mapping[str, Array]) -> str:
    """What is wrong with the histograms of one site; "" if nothing is. (The rows it names are held against what it
    declared beside this.)

    Args:
        starts: (f + 1,) where the bins of each column begin.
    """
    if "histograms" not in arrays:
        return scales.below(arrays, ("ranks", "at_risk", "happened", "magnitudes"))
    rows = np.asarray(arrays["rows"])
    return sound.fault(_sums(arrays, bounds.apart), rows, starts, bounds.largest, bounds.fullest)


def _sums(arrays: Mapping[str, Array], apart: Array | None) -> Sums:
    own = np.asarray(arrays["apart"]) if "apart" in arrays else None
    return Sums.of(np.asarray(arrays["histograms"]), own, apart)


def _worth(units: Units, trees: int) -> Array:
    """(outputs x trees, 2) float64: what a unit of the gradient and of the Hessian is worth in each tree."""
    worth = np.ldexp(1.0, units)
    return worth if trees == 1 else np.repeat(worth, trees, axis=0)


def _odd(state: State) -> list[str]:
    """What people should hear of before the first tree and after the last one: of rows that are drawn in lumps, and of
    trees that are not those of all rows."""
    found, ends = [], state.schedule.phase == "done"
    if state.lumped and (ends or not state.schedule.round):
        found.append(
            f"many rows at {rough.some(state.lumped)} are equal in all columns and the target, and equal rows are held "
            "out (test_fraction) and drawn (subsample) together, so that those learned from are not like all rows, and "
            "neither are those measured; set hold_out to sites, and leave subsample out"
        )
    there, of = len(state.counting.took), state.counting.sites
    if ends and there < of and state.fewer < state.schedule.round:  # else the trees are of fewer, which says it all
        found.append(
            f"the bins and what is predicted without trees are those of the rows of {there} of {of} sites, so the "
            "trees are not those of all pooled rows; failures say who was lost"
        )
    if state.fewer and ends:
        found.append(
            f"the trees of {state.fewer} of {state.schedule.round} rounds grew from the rows of fewer sites than the "
            "run has, so they are not those of all pooled rows; failures say who was lost, where no sample was asked "
            "(fraction)"
        )
    return found + (_boosting_shap.lacking(state.explained) if ends and state.explained is not None else [])


def _measures(schedule: Schedule) -> bool:
    """Whether the next step measures the trees: not where no rows are held out, as losses of none are no whole numbers
    all the same, and a secure sum of them takes an exchange more."""
    return schedule.measures and schedule.held_out


def _counts(state: State, name: str) -> dict[str, None]:
    """That this array counts rows; not where it sums up their weights."""
    return {} if state.counting.weighted else {name: None}


def _nothing() -> Splits:
    whole = np.zeros(0, np.int32)
    return Splits(whole, whole, whole, whole, np.zeros(0, np.uint8), np.zeros((0, 0), np.uint8))


def _stamp(*parts: Any) -> str:
    """A name for what these make together."""
    said = list[bytes]()
    for part in parts:
        if isinstance(part, str):
            said.append(part.encode())
            continue
        kind: Any = type(part)
        for value in (part,) if isinstance(part, np.ndarray) else [getattr(part, name) for name in _names(kind)]:
            said += (f"{_name(value.dtype)}{value.shape}".encode(), value.tobytes())
    return hashlib.sha256(b"".join(said)).hexdigest()


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


_name = cache(str)  # of a dtype: numpy puts it together anew each time, which takes longer than to hash a small array
