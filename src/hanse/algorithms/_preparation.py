"""Preparation: what all sites must agree on before they learn one model. Three small exchanges.

1. *merge*: the classes of the target, the categories of each text feature, and which features have
   missing values anywhere (unions, so MERGE).
2. *sum*: count and sum of each numeric column, class counts, rows (SUM).
3. *squares*: the same once more, about the mean c of the second exchange, and sums of squares about it (SUM).
   Two passes, so nothing cancels. Models that take raw values (trees) do without it.

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

import numpy as np

from hanse.algorithms._agreement import (
    MAX_CATEGORIES,
    MAX_WARNINGS,
    agreed,
    check_sums,
    least,
    report,
    sizes,
)
from hanse.algorithms._oddities import coded, unlike
from hanse.config import RunConfig
from hanse.errors import ConfigError, DataError
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site, State
from hanse.learning.rows import (
    Rows,
    design,
    feature_names,
    numbers,
    pack,
    rows,
    split,
    target,
    task,
    task_at,
    unpack,
)
from hanse.messages import Array, Json, Record
from hanse.registry import find
from hanse.suppression import hidden
from hanse.table import ColumnKind

__all__ = [
    "ALGORITHM",
    "MAX_CATEGORIES",
    "Preparation",
    "Rows",
    "design",
    "feature_names",
    "pack",
    "rows",
    "split",
    "target",
    "task",
    "unpack",
]


_FAR = 1e6  # (distance of two means)² over the variance: 10 of 16 digits are left


def most_steps(config: RunConfig) -> int:
    """The exchanges."""
    return 3


class Preparation:
    combines = frozenset({Combine.MERGE, Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        needs = str(find("models", config["model_name"]).NEEDS)
        return Record(
            {"step": "merge", "task_type": config["task_type"], "target": config["target_column"], "needs": needs}
        )

    def ask(self, state: State) -> Ask | Done:
        step = state.data["step"]
        if step == "merge":
            return Ask(Record({"step": step}), Combine.MERGE, "prepare")
        if step == "done":
            return Done("the sites agree on classes, categories and scales")
        told = {k: v for k, v in state.data.items() if k != "took"}
        return Ask(
            Record(told, state.arrays),
            Combine.SUM,
            "prepare",
            to=state.data["took"],
            counts={"count": None, "rows": None, "classes": None},
            arrays={name: ("float64", (size,)) for name, size in sizes(state).items()},
            sums={},
        )

    def answer(self, site: Site, ask: Record) -> Contribution:
        step = ask.data["step"]
        if step == "merge":
            return Contribution(Record(report(site)))
        kept, y = target(site.table, ask)
        train, _ = split(y, site.rng("split"), float(site.config["test_fraction"]))
        atleast = least(site)
        if 0 < len(kept) < atleast:
            raise DataError(f"fewer rows with a usable target than this node's minimum of {atleast}")
        values = numbers(site.table.take(kept[train]), ask)
        settled = task_at(site, ask)
        if settled.of.moments:
            values = np.column_stack([values, y.reshape(len(y), -1)[train, : settled.of.moments]])
        present = np.isfinite(values)
        centre = ask.arrays["mean"] if step == "squares" else 0.0
        centred = np.where(present, values - centre, 0.0)
        dropped = site.table.rows - len(kept)
        arrays: dict[str, Array] = {
            "count": present.sum(0).astype(np.float64),
            "sum": centred.sum(0),
            "rows": np.array([len(train), len(kept) - len(train), dropped if dropped >= atleast else 0], np.float64),
        }
        if settled.classes:
            counts = np.bincount(y[train], minlength=len(settled.classes))
            arrays["classes"] = np.where(hidden(counts, atleast), 0, counts).astype(np.float64)
        said: dict[str, Json] = {}
        if step == "squares":
            arrays["squares"] = (centred**2).sum(0)
            columns = [c for c in ask.data["columns"] if c["kind"] not in (ColumnKind.CATEGORICAL, ColumnKind.IMAGE)]
            places = [i for i, c in enumerate(columns) if c["kind"] == ColumnKind.NUMERIC]
            names, own = [columns[i]["name"] for i in places], values[:, places]
            count, mean = (np.asarray(ask.arrays[n])[places] for n in ("count", "mean"))
            odd = {"unlike": unlike(names, own, count, mean, atleast), "coded": coded(names, own, atleast)}
            said = {what: found for what, found in odd.items() if found}
        return Contribution(Record(said, arrays), metrics={"n": float(len(train)), "dropped": float(arrays["rows"][2])})

    def tell(self, state: State, gathered: Gathered) -> State:
        step = state.data["step"]
        if step == "merge":
            told = agreed(state, gathered)
            return Record({**told.data, "took": [a.node for a in gathered.answers]}, told.arrays)
        found = gathered.sum()
        check_sums(state, found, gathered)
        rows, took = [int(v) for v in found["rows"]], [answer.node for answer in gathered.answers]
        if rows[0] == 0:
            raise ConfigError(f"no site has a training row with a value of {state.data['target']!r}")
        data = {**state.data, "rows": rows[0], "held_out": rows[1], "dropped": rows[2], "took": took}
        if "classes" in found:
            data["class_counts"] = [int(v) for v in found["classes"]]
        count = np.asarray(found["count"], np.float64)
        mean = np.divide(found["sum"], count, out=np.zeros_like(count), where=count > 0)
        if step == "sum":
            data["step"] = "done" if state.data["needs"] == "raw" else "squares"
            return Record(data, {"count": count, "mean": mean, "scale": np.ones_like(mean)})
        # where all that made the centre are here, it is their mean, and what is left of it is rounding
        shift = np.zeros_like(mean) if took == state.data["took"] else mean
        mean = np.where(count > 0, state.arrays["mean"] + shift, 0.0)
        variance = np.divide(found["squares"], count, out=np.zeros_like(mean), where=count > 0) - shift**2
        data |= _warned(state, gathered)
        if (shift**2 > _FAR * variance).any():
            return Record(data, {"count": count, "mean": mean, "scale": np.ones_like(mean)})
        # a constant column has variance zero up to the rounding of its mean
        rounding = (count * mean * np.finfo(float).eps) ** 2 + count * np.finfo(float).eps * variance
        scale = np.where(variance > rounding, np.sqrt(variance), 1.0)
        return Record({**data, "step": "done"}, {"count": count, "mean": mean, "scale": scale})

    def result(self, state: State) -> Record:
        """Data ``{task: {kind, features, classes}, target, columns, needs, rows, ...}``; arrays
        ``mean`` and ``scale`` of the numeric columns in order, ``target_mean`` and ``target_scale``
        of the numbers in the target (0 and 1 where there are none)."""
        data = {k: v for k, v in state.data.items() if k not in ("step", "task_type", "took")}
        mean, scale = state.arrays["mean"], state.arrays["scale"]
        if own := task(state).of.moments:
            arrays = {"mean": mean[:-own], "scale": scale[:-own]}
            arrays |= {"target_mean": mean[-own:], "target_scale": scale[-own:]}
        else:
            arrays = {"mean": mean, "scale": scale, "target_mean": np.zeros(1), "target_scale": np.ones(1)}
        return Record(data, arrays)

    def metrics(self, state: State) -> Mapping[str, Json]:
        shown = ("rows", "held_out", "dropped", "class_counts", "warnings")
        return {k: state.data[k] for k in shown if k in state.data}


ALGORITHM = Preparation()

_ODD = {
    "unlike": "lies far from its values at the other sites; look at its unit, its decimal sign and its codes",
    "coded": "seems to hold a code for missing values; leave those cells empty",
}


def _warned(state: State, gathered: Gathered) -> dict[str, Json]:
    """What sites found odd in their own columns, beside what was said before."""
    known = {c["name"] for c in state.data["columns"]}
    said = list(state.data.get("warnings", ()))
    for answer in gathered.answers:
        for what, sentence in _ODD.items():
            told = answer.data.get(what, ())
            named = [n for n in told if n in known] if isinstance(told, list) else []
            said += [f"{name!r} at {answer.node} {sentence}" for name in named]
    return {"warnings": list(dict.fromkeys(said))[:MAX_WARNINGS]} if said else {}
