"""Evaluation on held-out rows, from sums alone: what leaves a site adds up over sites.

Which sums, and which metrics follow from them, says the task (:mod:`hanse.tasks`). What is undefined is null, never
invented.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import DataError, Unusable
from hanse.kinds import Gathered, Shapes
from hanse.messages import Array, Json
from hanse.task import ROWS, Task

_ROWS = 1 << 15  # that are measured at a time, so that what is computed of them stays small
THRESHOLDS = "thresholds"  # in the record of the step that measured last: counts by predicted probability


def evaluate(
    prediction: Array, y: Array, task: Task, center: Array | None = None, weight: Array | None = None
) -> tuple[dict[str, Array], dict[str, float]]:
    """A site's half.

    Args:
        prediction: as of :meth:`hanse.model.Model.predict`.
        y: (n,) class indices, or numbers. May be empty.
        center: numbers near the mean target, the same at every site, so that nothing cancels.
        weight: (n,) what each row counts for; None: 1.

    Returns:
        Sums that add over sites, and this site's own metrics (those that are defined). Rows whose
        prediction is not finite count as wrong, and no loss is reported.
    """
    near = np.zeros(max(1, task.of.moments)) if center is None else center
    if weight is not None and not _weighs(type(task.of)):
        raise DataError(f"a {task.kind} task is not measured with weights; set test_fraction to 0")
    of_rows: Any = task.of.sums
    sums: dict[str, Array] = {}
    for low in range(0, max(len(y), 1), _ROWS):  # sums of no rows have their shapes, too
        some = (values[low : low + _ROWS] for values in (prediction, y))
        more = () if weight is None else (weight[low : low + _ROWS],)
        with np.errstate(over="ignore", invalid="ignore"):
            found = of_rows(*some, task, near, *more)
        sums = {name: own + sums[name] if low else own for name, own in found.items()}
    if weight is not None:
        sums[ROWS] = np.array([len(y)], np.float64)
    own = report(sums, task)
    return sums, {k: float(v) for k, v in own.items() if isinstance(v, (int, float)) and math.isfinite(v)}


@functools.lru_cache(64)
def _weighs(kind: Any) -> bool:
    """Whether a kind of task can be measured with weights."""
    return "weight" in inspect.signature(kind.sums).parameters


def report(sums: Mapping[str, Array], task: Task) -> dict[str, Json]:
    """Metrics from sums (:meth:`hanse.task.Learnable.report`), or that the sums cannot be true."""
    if not task.of.plausible(sums, task):
        return {"n": 0, "loss": None, "implausible": True}  # somebody does not tell the truth: no numbers then
    reported = task.of.report(sums, task)
    if ROWS not in sums:
        return reported
    return {**reported, "n": int(sums[ROWS][0]), "weight": float(sums["totals"][0])}


def shapes(task: Task, weighted: bool) -> Shapes:
    """Of the sums of a site; where rows are ``weighted``, with how many they are."""
    return {**task.of.shapes(task), **({ROWS: ("float64", (1,))} if weighted else {})}


def counts(task: Task, weighted: bool) -> Mapping[str, int | None]:
    """Which of them count rows (:attr:`hanse.kinds.Ask.counts`)."""
    return {ROWS: 1} if weighted else task.of.counts


def over_sites(
    metrics: Callable[[], Iterable[Mapping[str, Json]]], names: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Smallest, largest and standard deviation over sites of each metric that two or more report. ``metrics`` gives
    those of each site anew, so that of ten thousand one is looked at after the other.

    >>> over_sites(lambda: [{"loss": 1.0}, {"loss": 3.0}, {}], ["loss"])
    {'loss': {'min': 1.0, 'max': 3.0, 'std': 1.0, 'sites': 2}}
    """
    spread: dict[str, dict[str, float]] = {}
    for name in names:
        said = (of_site.get(name) for of_site in metrics())
        values = array("d", (value for value in said if isinstance(value, (int, float)) and abs(value) < 1e100))
        if len(values) > 1:
            spread[name] = {"min": min(values), "max": max(values), "std": float(np.std(values)), "sites": len(values)}
    return spread


def summary(gathered: Gathered, task: Task, round: int) -> dict[str, Json]:
    """One entry of a history: the metrics of the model after ``round`` rounds, over all sites that
    answered, their ``spread`` over sites, and which sites they rest on (:func:`rests_on`). Raises
    ``Unusable`` for sums that are not of the task."""
    sums = gathered.sums()
    if any(name not in sums or sums[name].shape != shape for name, (_, shape) in shapes(task, ROWS in sums).items()):
        raise Unusable({a.node: "its evaluation is not of the task that was agreed on" for a in gathered.answers})
    spread = over_sites(lambda: (a.metrics for a in gathered.answers), task.of.metrics)
    reported, by_threshold = report(sums, task), getattr(task.of, THRESHOLDS, None)
    more = {} if by_threshold is None or "implausible" in reported else {THRESHOLDS: by_threshold(sums, task)}
    return {"round": round, **reported, "spread": spread, **rests_on(gathered), **more}


def appended(history: Sequence[Mapping[str, Json]], entry: Mapping[str, Json]) -> tuple[Mapping[str, Json], ...]:
    """A history with one more entry; only the latest keeps its counts by threshold."""
    return (*history[:-1], *told(history[-1:]), entry)


def told(history: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
    """A history as a result tells it: without counts by threshold, which the record of the last step has."""
    return [{k: v for k, v in entry.items() if k != THRESHOLDS} if THRESHOLDS in entry else entry for entry in history]


def shown(history: Sequence[Mapping[str, Json]], last: bool) -> dict[str, Json]:
    """The latest entry of a history as metrics of the step that measured it, which is the ``last`` one of its run or
    tells no counts by threshold."""
    hidden = {"round"} if last else {"round", THRESHOLDS}
    return {"evaluated_round": history[-1]["round"], **{k: v for k, v in history[-1].items() if k not in hidden}}


def unmeasured(gathered: Gathered, task: Task, round: int) -> dict[str, Json]:
    """The entry of a model where no site holds rows out: of none."""
    return {"round": round, **_of_no_rows(task), "spread": {}, **rests_on(gathered)}


@functools.lru_cache(8)
def _of_no_rows(task: Task) -> Mapping[str, Json]:
    sums = {name: np.zeros([n or 0 for n in shape], dtype) for name, (dtype, shape) in task.of.shapes(task).items()}
    return report(sums, task)


def rests_on(gathered: Gathered) -> dict[str, Json]:
    """``{sites: {answered, of, which}}`` where not all nodes of the run answered: how many of how many, and a
    name that is the same for the same ones. {} where all did."""
    listed = [answer.node for answer in gathered.answers]
    if listed == [*gathered.nodes] or not set(gathered.nodes) - (answered := {*listed}):
        return {}
    which = hashlib.sha256("\n".join(sorted(answered)).encode()).hexdigest()[:16]
    return {"sites": {"answered": len(answered), "of": len(gathered.nodes), "which": which}}
