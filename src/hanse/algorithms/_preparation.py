"""Preparation: what all sites must agree on before they learn one model. Three small exchanges.

1. *merge*: the classes of the target, the categories of each text feature, and which features have
   missing values anywhere (unions, so MERGE).
2. *sum*: count and sum of each numeric column, class counts, rows (SUM).
3. *squares*: the sum of squares about the global mean (SUM). Two passes, so nothing cancels.
   Models that take raw values (trees) do without it.

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
    MAX_CLASSES,
    MAX_WHOLE_CLASSES,
    agreed,
    check_sums,
    least,
    order_labels,
    report,
    settle,
    sizes,
)
from hanse.algorithms._rows import (
    Rows,
    design,
    feature_names,
    kind_of,
    numbers,
    pack,
    rows,
    split,
    target,
    task,
    unpack,
)
from hanse.errors import ConfigError, DataError
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site, State
from hanse.messages import Array, Json, Record
from hanse.registry import find
from hanse.suppression import hidden

__all__ = [
    "ALGORITHM",
    "MAX_CATEGORIES",
    "MAX_CLASSES",
    "MAX_WHOLE_CLASSES",
    "Preparation",
    "Rows",
    "design",
    "feature_names",
    "order_labels",
    "pack",
    "rows",
    "settle",
    "split",
    "target",
    "task",
    "unpack",
]


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
        return Ask(
            state,
            Combine.SUM,
            "prepare",
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
        if kind_of(ask) == "regression":
            values = np.column_stack([values, y[train]])
        present = np.isfinite(values)
        if step == "squares":
            centred = np.where(present, values - ask.arrays["mean"], 0.0)
            return Contribution(Record({}, {"squares": (centred**2).sum(0)}))
        dropped = site.table.rows - len(kept)
        arrays: dict[str, Array] = {
            "count": present.sum(0).astype(np.float64),
            "sum": np.where(present, values, 0.0).sum(0),
            "rows": np.array([len(train), len(kept) - len(train), dropped if dropped >= atleast else 0], np.float64),
        }
        if kind_of(ask) != "regression":
            counts = np.bincount(y[train], minlength=len(ask.data["task"]["classes"]))
            arrays["classes"] = np.where(hidden(counts, atleast), 0, counts).astype(np.float64)
        return Contribution(Record({}, arrays), metrics={"n": float(len(train)), "dropped": float(arrays["rows"][2])})

    def tell(self, state: State, gathered: Gathered) -> State:
        step = state.data["step"]
        if step == "merge":
            return agreed(state, gathered)
        found = gathered.sum()
        check_sums(state, found, gathered)
        if step == "sum":
            count = np.asarray(found["count"], np.float64)
            mean = np.divide(found["sum"], count, out=np.zeros_like(count), where=count > 0)
            rows = [int(v) for v in found["rows"]]
            if rows[0] == 0:
                raise ConfigError(f"no site has a training row with a value of {state.data['target']!r}")
            data = {**state.data, "rows": rows[0], "held_out": rows[1], "dropped": rows[2]}
            if "classes" in found:
                data["class_counts"] = [int(v) for v in found["classes"]]
            done = state.data["needs"] == "raw"
            data["step"] = "done" if done else "squares"
            return Record(data, {"count": count, "mean": mean, "scale": np.ones_like(mean)})
        count, mean = state.arrays["count"], state.arrays["mean"]
        variance = np.divide(found["squares"], count, out=np.zeros_like(mean), where=count > 0)
        # a constant column has variance zero up to the rounding of its mean
        rounding = (count * mean * np.finfo(float).eps) ** 2 + count * np.finfo(float).eps * variance
        scale = np.where(variance > rounding, np.sqrt(variance), 1.0)
        return Record({**state.data, "step": "done"}, {"count": count, "mean": mean, "scale": scale})

    def result(self, state: State) -> Record:
        """Data ``{task: {kind, features, classes}, target, columns, needs, rows, ...}``; arrays
        ``mean`` and ``scale`` of the numeric columns in order, ``target_mean`` and ``target_scale``
        (1,) (0 and 1 for classes)."""
        data = {k: v for k, v in state.data.items() if k not in ("step", "task_type")}
        mean, scale = state.arrays["mean"], state.arrays["scale"]
        if kind_of(state) == "regression":
            arrays = {"mean": mean[:-1], "scale": scale[:-1], "target_mean": mean[-1:], "target_scale": scale[-1:]}
        else:
            arrays = {"mean": mean, "scale": scale, "target_mean": np.zeros(1), "target_scale": np.ones(1)}
        return Record(data, arrays)

    def metrics(self, state: State) -> Mapping[str, Json]:
        return {k: state.data[k] for k in ("rows", "held_out", "dropped", "class_counts") if k in state.data}


ALGORITHM = Preparation()
