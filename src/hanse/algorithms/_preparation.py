"""Preparation: what all sites must agree on before they learn one model. Three small exchanges.

1. *merge*: the classes of the target, the categories of each text feature, and which features have
   missing values anywhere (unions of words, so AGREE).
2. *sum*: count and sum of each numeric column, class counts, rows (SUM).
3. *squares*: the same once more, about the mean c of the second exchange, and sums of squares about it (SUM).
   Two passes, so nothing cancels. A site says besides which of its columns are unlike those of all sites. Models that
   take raw values (trees) do without squares and scales, and not without that: a unit of its own at one site spoils
   them, too. They take values as float32, so larger ones count as the largest of these.

Each exchange goes to all nodes that answered the one before. What is divided comes from one exchange, so where
a node is lost between two, rows, class counts, means and scales are those of the nodes that answered the last:
mean c + Σ(x - c)/n, variance Σ(x - c)²/n - (Σ(x - c)/n)². Where that mean is far from c, the variance
would cancel, and the third exchange is made once more, about the new mean.

The result is the same as on pooled rows, for every split over sites. Means, scales and class counts
are those of the **training** rows (:func:`split`); what is held out for evaluation is not in them.
Infinite numbers count as missing.

With ``minimum_count`` (a node's own setting), a class, a category or a missing value that occurs in
fewer rows of a site does not leave that site; rows of a class that no site named are not used. Class
counts only set where an ensemble begins, so a site keeps back those below ``minimum_count``, and so many
more that its rows do not give them away (:func:`hanse.suppression.hidden`); they are 0 in the sum. So
is the number of its rows that are not used. A site with fewer usable rows than that refuses.
A site that is asked to settle a numeric target (``task_type`` "auto") names its values only if they
are at most twenty whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np

from hanse.algorithms._agreement import MAX_WARNINGS, UNTOLD, agreed, check_sums, least, report, sizes
from hanse.algorithms._oddities import coded, recoded, unlike
from hanse.codec import ArrayOf, encode
from hanse.config import RunConfig
from hanse.errors import ConfigError, DataError
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site
from hanse.learning.rows import (
    STANDARDISED,
    Agreed,
    Described,
    check_task,
    numbers,
    parted,
    target_columns,
    untold,
    usable,
)
from hanse.messages import Array, Json, Record
from hanse.privacy.guarantee import range_of
from hanse.registry import find
from hanse.rough import some
from hanse.suppression import hidden
from hanse.table import ColumnKind, Table
from hanse.typed import Typed

Step = Literal["merge", "sum", "squares", "done"]
Fill = Literal["missing", "zero"]
PerColumn = Annotated[Array, ArrayOf("float64", "columns")]

_MOST = float(np.finfo(np.float32).max)  # models of raw values take them as float32
_ROWS = 1 << 16  # that are added up at a time
_FAR = 1e6  # (distance of two means)² over the variance: 10 of 16 digits are left


def most_steps(config: RunConfig) -> int:
    """The exchanges."""
    return 3


def _none() -> Array:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class State:
    """What the coordinator knows.

    Args:
        step: the next exchange.
        task_type, target, needs: of the run and its model.
        agreed: after the first exchange.
        took: the nodes that answered the last one.
        rows, held_out, dropped: of these nodes: for training, for evaluation, without a usable target.
        class_counts: training rows of each class, as far as sites told them; None where there are no classes.
        private: whether nodes tell nothing of their rows here, so that numbers of rows are those of sites.
        warnings: for people.
        count, mean, scale: of the numbers in the columns, those of the target last.
        union_fill: what a feature is at a site that lacks it, for whoever predicts with the model.
    """

    step: Step
    task_type: str
    target: str
    needs: str
    agreed: Agreed | None = None
    took: tuple[str, ...] = ()
    rows: int | None = None
    held_out: int = 0
    dropped: int = 0
    class_counts: tuple[int, ...] | None = None
    warnings: tuple[str, ...] = ()
    count: PerColumn = field(default_factory=_none)
    mean: PerColumn = field(default_factory=_none)
    scale: PerColumn = field(default_factory=_none)
    union_fill: Fill = "missing"
    private: bool = False

    @property
    def known(self) -> Agreed:
        """What the sites agreed on. Raises ``ConfigError`` before they did."""
        if self.agreed is None:
            raise ConfigError("nothing is agreed on before the first exchange of a preparation")
        return self.agreed


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: to report on its columns (``merge``), or for sums over those that were agreed on; with
    ``count`` and about ``mean`` where squares are asked for."""

    step: Step
    agreed: Agreed | None = None
    count: PerColumn = field(default_factory=_none)
    mean: PerColumn = field(default_factory=_none)


class Preparation:
    """A :class:`hanse.typed.Computation`."""

    combines = frozenset({Combine.AGREE, Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        """Nothing is agreed on."""
        needs = str(find("models", config["model_name"]).NEEDS)
        private, fill = config.get("privacy") is not None, config["union_fill"]
        return State("merge", config["task_type"], config["target_column"], needs, union_fill=fill, private=private)

    def ask(self, state: State) -> Ask | Done:
        """Reports of everybody; then sums of those that answered."""
        if state.step == "merge":
            return Ask(encode(Question("merge")), Combine.AGREE, "prepare")
        if state.step == "done":
            return Done("the sites agree on classes, categories and scales")
        wanted = sizes(state.known, state.step == "squares")
        return Ask(
            encode(Question(state.step, state.known, state.count, state.mean)),
            Combine.SUM,
            "prepare",
            to=state.took,
            counts={"count": None, "rows": None, "classes": None},
            arrays={name: ("float64", (size,)) for name, size in wanted.items()},
            sums={},
        )

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half."""
        if ask.step == "merge":
            return Contribution(Record(report(site)), combine=Combine.AGREE)
        if ask.agreed is None:
            raise DataError("sums were asked for before anything was agreed on")
        task, columns = ask.agreed.task, ask.agreed.columns
        if site.config.get("privacy") is not None:
            return _of_ranges(site, ask)
        check_task(site, task)
        of_target = target_columns(site.table, task.of, ask.agreed.target)
        given = int(np.all([column.given for column in of_target], axis=0).sum())
        del of_target  # before others are in memory
        kept, y = usable(site.table, task, ask.agreed.target)
        unused = len(kept) < given
        train, _ = parted(site, kept, y, columns)
        atleast = least(site)
        if 0 < len(kept) < atleast:
            raise DataError(f"fewer rows with a usable target than this node's minimum of {atleast}")
        dropped = site.table.rows - len(kept)
        arrays: dict[str, Array] = {
            "rows": np.array([len(train), len(kept) - len(train), dropped if dropped >= atleast else 0], np.float64),
        }
        if task.classes:
            counts = np.bincount(y[train], minlength=len(task.classes))
            arrays["classes"] = np.where(hidden(counts, atleast), 0, counts).astype(np.float64)
        learned = np.zeros(site.table.rows, bool)
        learned[kept[train]] = True
        targets = (y if y.ndim > 1 else y[:, None])[train, : task.of.moments]
        del kept, y, train  # before columns are in memory
        found, odd = _column_sums(site.table, learned, targets, ask, atleast)
        arrays |= {name: found[name] for name in ("count", "sum")}
        said: dict[str, Json] = {}
        if ask.step == "squares":
            if ask.agreed.standardised:
                arrays["squares"] = found["squares"]
            odd["unused"] = [ask.agreed.target] if unused else []
            said = {what: names for what, names in odd.items() if names}
        return Contribution(
            Record(said, arrays),
            metrics={"n": float(arrays["rows"][0]), "dropped": float(arrays["rows"][2])},
            combine=Combine.SUM,
        )

    def tell(self, state: State, gathered: Gathered) -> State:
        """What was agreed on, or means and scales."""
        took = tuple(answer.node for answer in gathered.answers)
        if state.step == "merge":
            found, odd = agreed(state.task_type, state.target, state.needs, gathered)
            return replace(state, step="sum", agreed=found, warnings=odd, took=took)
        return self._summed(state, gathered, took)

    def _summed(self, state: State, gathered: Gathered, took: tuple[str, ...]) -> State:
        found = gathered.sum()
        check_sums(sizes(state.known, state.step == "squares"), found, gathered)
        rows, held_out, dropped = (int(v) for v in found["rows"])
        if rows == 0:
            raise ConfigError(f"no site has a training row with a value of {state.target!r}")
        told = tuple(int(v) for v in found["classes"]) if "classes" in found else None
        before = state
        state = replace(state, rows=rows, held_out=held_out, dropped=dropped, took=took, class_counts=told)
        count = np.asarray(found["count"], np.float64)
        mean = np.divide(found["sum"], count, out=np.zeros_like(count), where=count > 0)
        if state.step == "sum":
            return replace(state, step="squares", count=count, mean=mean, scale=np.ones_like(mean))
        # where all that made the centre are here, it is their mean, and what is left of it is rounding
        shift = np.zeros_like(mean) if took == before.took else mean
        mean = np.where(count > 0, before.mean + shift, 0.0)
        state = replace(state, count=count, mean=mean, scale=np.ones_like(mean))
        state = replace(state, warnings=_warned(state, gathered))
        if state.needs != STANDARDISED:
            return replace(state, step="done")
        variance = np.divide(found["squares"], count, out=np.zeros_like(mean), where=count > 0) - shift**2
        if (shift**2 > _FAR * variance).any():
            return state
        # a constant column has variance zero up to the rounding of its mean
        rounding = (count * mean * np.finfo(float).eps) ** 2 + count * np.finfo(float).eps * variance
        return replace(state, step="done", scale=np.where(variance > rounding, np.sqrt(variance), 1.0))

    def result(self, state: State) -> Record:
        """Data ``{task: {kind, features, classes}, target, columns, needs, rows, ...}``; arrays
        ``mean`` and ``scale`` of the numeric columns in order, ``target_mean`` and ``target_scale``
        of the numbers in the target (0 and 1 where there are none)."""
        task = state.known.task
        data = {
            "task": task.to_json(),
            "target": state.target,
            "columns": [column.to_json() for column in state.known.columns],
            "needs": state.needs,
            **({} if state.union_fill == "missing" else {"union_fill": state.union_fill}),
            **self.metrics(state),
            "rows": state.rows,
        }
        mean, scale = state.mean, state.scale
        if own := task.of.moments:
            arrays = {"mean": mean[:-own], "scale": scale[:-own]}
            arrays |= {"target_mean": mean[-own:], "target_scale": scale[-own:]}
        else:
            arrays = {"mean": mean, "scale": scale, "target_mean": np.zeros(1), "target_scale": np.ones(1)}
        return Record(data, arrays)

    def metrics(self, state: State) -> Mapping[str, Json]:
        """How many rows there are, and what people should look at, as far as it is known."""
        found: dict[str, Json] = {}
        if state.rows is not None and not state.private:
            found |= {"rows": state.rows, "held_out": state.held_out, "dropped": state.dropped}
        if state.class_counts is not None and not state.private:
            found["class_counts"] = list(state.class_counts)
        if state.warnings:
            found["warnings"] = list(state.warnings)
        return found


ALGORITHM = Typed(Preparation(), State, Question)


def _column_sums(
    table: Table, learned: Array, targets: Array, ask: Question, atleast: int
) -> tuple[dict[str, Array], dict[str, list[str]]]:
    """``count``, ``sum`` and ``squares`` of the numbers in each column, at the rows that are ``learned`` from, (n,)
    bool, and of their (m, c) ``targets``; and with the squares, which columns are odd. Of one column after the other,
    so that one is in memory at a time."""
    assert ask.agreed is not None
    listed: list[Described | None] = [column for column in ask.agreed.columns if column.numeric]
    features = len(listed)
    listed += [None] * targets.shape[1]
    found = {name: np.zeros(len(listed)) for name in ("count", "sum", "squares")}
    odd: dict[str, list[str]] = {"unlike": [], "recoded": [], "coded": []}
    squares, all_rows = ask.step == "squares", bool(learned.all())
    if squares:
        odd["untold"] = [column.name for column in ask.agreed.columns if untold(table, column, learned)]
    for i, column in enumerate(listed):
        values = targets[:, i - features] if column is None else numbers(table, column)
        if column is not None and not all_rows:
            values = values[learned]
        if not ask.agreed.standardised:
            values = np.clip(values, -_MOST, _MOST)
        if squares and column is not None and column.kind is ColumnKind.NUMERIC:
            own = [column.name], values[:, None]
            counts, means = ask.count[i : i + 1], ask.mean[i : i + 1]
            if far := unlike(*own, counts, means, atleast):
                odd["unlike"] += far
            else:
                odd["recoded"] += recoded(*own, counts, means, atleast)
            odd["coded"] += coded(*own, atleast)
            del own
        present = np.isfinite(values)
        centred = values - (ask.mean[i] if squares else 0.0)
        del values
        centred[~present] = 0.0
        found["count"][i], found["sum"][i] = present.sum(), _added(centred, len(listed))
        if squares and ask.agreed.standardised:
            found["squares"][i] = _added(centred**2, len(listed))
    return found, odd


def _added(values: Array, columns: int) -> float:
    """Their sum, of one row after the other as numpy adds up the rows of a matrix of several columns."""
    if columns == 1 or not len(values):
        return float(values.sum())
    total = values[:1]
    for low in range(1, len(values), _ROWS):
        total = np.add.accumulate(np.concatenate([total, values[low : low + _ROWS]]))[-1:]
    return float(total[0])


def _of_ranges(site: Site, ask: Question) -> Contribution:
    """What a node tells of numbers in a differentially private run: the middle of each range as its mean and half its
    width as its scale, as the proposal has them. Nothing of it follows from rows; each site counts for one."""
    assert ask.agreed is not None
    task, privacy = ask.agreed.task, site.config["privacy"]
    names = [column.name for column in ask.agreed.columns if column.numeric]
    kinds = {column.name: column.kind for column in ask.agreed.columns}
    targets = [ask.agreed.target] * task.of.moments
    ends = [(0.0, 1.0) if kinds[n] is ColumnKind.BOOLEAN else range_of(privacy, n) for n in names]
    ends += [range_of(privacy, name) for name in targets]
    low, high = (np.array([end[i] for end in ends]) for i in range(2))
    arrays = {
        "count": np.ones(len(ends)),
        "sum": (low + high) / 2 - (ask.mean if ask.step == "squares" else 0.0),
        "rows": np.array([1.0, 0.0, 0.0]),
    }
    if ask.step == "squares" and ask.agreed.standardised:
        arrays["squares"] = arrays["sum"] ** 2 + ((high - low) / 2) ** 2
    if task.classes:
        arrays["classes"] = np.zeros(len(task.classes))
    return Contribution(Record({}, arrays), combine=Combine.SUM, sensitivity=0.0)


_ODD = {
    "unlike": "lies far from its values at the other sites; look at its unit, its decimal sign and its codes",
    "recoded": "has two values there, and its mean at the other sites lies beyond both; code it alike (0 and 1, say)",
    "coded": "seems to hold a code for missing values; leave those cells empty",
    "untold": f"has labels that no site tells ({UNTOLD}): rows with them count as rows of none of the labels",
    "unused": f"has labels that no site tells ({UNTOLD}): nothing is learned from rows with them",
}
_FEW = "classes, categories, means and scales are those of {} of {} sites, by which the others learn; failures say why"
_UNMARKED = (
    "is missing in some rows, at no site in as many as owners ask for (minimum_count): there it counts as its mean"
)


def _warned(state: State, gathered: Gathered) -> tuple[str, ...]:
    """What is odd about the columns of sites, and what of them is not learned from, after what was said before."""
    known = {state.target, *(column.name for column in state.known.columns)}
    at: dict[tuple[str, str], list[str]] = {}
    for answer in gathered.answers:
        for what in _ODD:
            told = answer.data.get(what, ())
            for name in told if isinstance(told, list) else []:
                if name in known:
                    at.setdefault((name, what), []).append(answer.node)
    there, of = len(gathered.answers), len(gathered.nodes)
    few = [_FEW.format(there, of)] if there < of else []  # sites that come back learn by what the others have settled
    said = [*few, *state.warnings, *(f"{name!r} at {some(sites)} {_ODD[what]}" for (name, what), sites in at.items())]
    if state.known.standardised:
        numeric = [column for column in state.known.columns if column.numeric]
        for column, present in zip(numeric, state.count, strict=False):  # the target's numbers are the last
            if not column.missing and present < (state.rows or 0) - 0.5:  # of secure sums to the last digits
                said.append(f"{column.name!r} {_UNMARKED}")
    return tuple(dict.fromkeys(said))[:MAX_WARNINGS]
