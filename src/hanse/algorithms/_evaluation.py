"""Evaluation on held-out rows, from sums alone: what leaves a site adds up over sites.

A site sends counts, sums of losses and errors, and for each class two histograms of the predicted
probability (rows of the class, all other rows). From the summed histograms the area under the ROC
curve over all sites is exact to the width of a bin. What is undefined is null, never invented.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping

import numpy as np

from hanse.errors import Unusable
from hanse.kinds import Gathered, Shapes, Task
from hanse.messages import Array, Json

BINS = 1000
COUNTS: Mapping[str, int | None] = {"totals": 2, "positives": None, "negatives": None}  # what counts rows
_EPSILON = float(np.finfo(np.float64).eps)


def evaluate(prediction: Array, y: Array, task: Task, center: float = 0.0) -> tuple[dict[str, Array], dict[str, float]]:
    """A site's half.

    Args:
        prediction: as of :meth:`hanse.kinds.Model.predict`.
        y: (n,) class indices, or numbers for regression. May be empty.
        center: a number near the mean target, the same at every site, so that r2 does not cancel.

    Returns:
        Sums that add over sites, and this site's own metrics (those that are defined). Rows whose
        prediction is not finite count as wrong, and no loss is reported.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if task.kind == "regression":
            sums = _regression(prediction - center, y - center)
        else:
            sums = _classes(prediction, y, task)
    own = report(sums, task)
    return sums, {k: float(v) for k, v in own.items() if isinstance(v, (int, float)) and math.isfinite(v)}


def report(sums: Mapping[str, Array], task: Task) -> dict[str, Json]:
    """Metrics from sums: ``n``, ``loss``; ``accuracy``, ``auc`` and ``class_counts`` for classes
    (AUC is the mean over classes, one against the rest, for more than two; null unless each class
    and its rest have rows); ``rmse``, ``mae``, ``r2`` for regression (loss is the mean squared
    error)."""
    n, invalid, loss = (float(v) for v in sums["totals"][:3])
    if not _plausible(sums, task):
        return {"n": 0, "loss": None, "implausible": True}  # somebody does not tell the truth: no numbers then
    out: dict[str, Json] = {"n": int(n), "loss": loss / n if n and not invalid else None}
    if task.kind == "regression":
        absolute, total, squares = (float(v) for v in sums["totals"][3:])
        fine = bool(n) and not invalid
        spread = squares - total * total / n if n else 0.0
        out["rmse"] = math.sqrt(loss / n) if fine else None
        out["mae"] = absolute / n if fine else None
        out["r2"] = 1 - loss / spread if fine and n > 1 and spread > 1e-12 * squares else None
    else:
        out["accuracy"] = float(sums["totals"][3]) / n if n else None
        out["auc"] = None if invalid else _auc(sums["positives"], sums["negatives"])
        positives = sums["positives"].sum(1)
        counts = positives if task.kind == "multiclass" else [sums["negatives"].sum(), positives[0]]
        out["class_counts"] = None if invalid else [int(c) for c in counts]
    if invalid:
        out["invalid"] = int(invalid)
    return out


def _plausible(sums: Mapping[str, Array], task: Task) -> bool:
    """Whether these can be counts and sums of so many rows; a single site that lies must neither stop
    a run nor put a number into the record that is none."""
    n, invalid, loss, *rest = (float(v) for v in sums["totals"])
    if not (0 <= invalid <= n < 2**53 and loss >= 0):
        return False
    if task.kind == "regression":
        absolute, total, squares = rest
        return absolute >= 0 and squares >= 0 and abs(total) <= math.sqrt(n) * math.sqrt(squares) * (1 + 1e-6)
    rows = sum(float(sums[name].sum()) for name in ("positives", "negatives"))
    positive = all(float(sums[name].min()) >= 0 for name in ("positives", "negatives"))
    return positive and 0 <= rest[0] <= n and rows <= n * task.outputs + 0.5


def over_sites(metrics: Iterable[Mapping[str, Json]], names: Iterable[str]) -> dict[str, dict[str, float]]:
    """Smallest, largest and standard deviation over sites of each metric that two or more report.

    >>> over_sites([{"loss": 1.0}, {"loss": 3.0}, {}], ["loss"])
    {'loss': {'min': 1.0, 'max': 3.0, 'std': 1.0, 'sites': 2}}
    """
    listed = list(metrics)
    spread: dict[str, dict[str, float]] = {}
    for name in names:
        values = [float(m[name]) for m in listed if isinstance(m.get(name), (int, float)) and abs(m[name]) < 1e100]
        if len(values) > 1:
            spread[name] = {"min": min(values), "max": max(values), "std": float(np.std(values)), "sites": len(values)}
    return spread


METRICS = ("loss", "accuracy", "auc", "rmse", "mae", "r2")


def _regression(prediction: Array, y: Array) -> dict[str, Array]:
    error = prediction - y
    fine = np.isfinite(error**2)
    error = error[fine]
    return {"totals": np.array([len(y), (~fine).sum(), (error**2).sum(), np.abs(error).sum(), y.sum(), (y**2).sum()])}


def _classes(prediction: Array, y: Array, task: Task) -> dict[str, Array]:
    columns = prediction[:, None] if prediction.ndim == 1 else prediction
    fine = np.isfinite(columns).all(1)
    columns, known = np.clip(columns[fine], 0.0, 1.0), y[fine]
    if task.kind == "binary":
        chosen = (columns[:, 0] > 0.5).astype(np.int64)
        assigned = np.where(known == 1, columns[:, 0], 1 - columns[:, 0])
        wanted = [1]
    else:
        chosen = columns.argmax(1)
        assigned = columns[np.arange(len(known)), known]
        wanted = list(range(len(task.classes)))
    loss = -np.log(np.clip(assigned, _EPSILON, 1 - _EPSILON)).sum()
    bins = np.minimum((columns * BINS).astype(np.int64), BINS - 1)
    positives, negatives = np.zeros((len(wanted), BINS)), np.zeros((len(wanted), BINS))
    for i, c in enumerate(wanted):
        positives[i] = np.bincount(bins[known == c, i], minlength=BINS)
        negatives[i] = np.bincount(bins[known != c, i], minlength=BINS)
    totals = np.array([len(y), (~fine).sum(), loss, (chosen == known).sum()], np.float64)
    return {"totals": totals, "positives": positives, "negatives": negatives}


def _auc(positives: Array, negatives: Array) -> float | None:
    """P(score of a positive > score of a negative) + half of the ties, averaged over classes."""
    areas = []
    for positive, negative in zip(positives, negatives, strict=True):
        pairs = positive.sum() * negative.sum()
        if not pairs:
            return None
        below = np.cumsum(negative) - negative
        areas.append(float((positive * (below + negative / 2)).sum() / pairs))
    return float(np.mean(areas))


def shapes(task: Task) -> Shapes:
    """Of a site's sums."""
    if task.kind == "regression":
        return {"totals": ("float64", (6,))}
    bins = ("float64", (task.outputs, BINS))
    return {"totals": ("float64", (4,)), "positives": bins, "negatives": bins}


def summary(gathered: Gathered, task: Task, round: int) -> dict[str, Json]:
    """One entry of a history: the metrics of the model after ``round`` rounds, over all sites that
    answered, their ``spread`` over sites, and which sites they rest on (:func:`rests_on`). Raises
    ``Unusable`` for sums that are not of the task."""
    sums = gathered.sums()
    if any(name not in sums or sums[name].shape != shape for name, (_, shape) in shapes(task).items()):
        raise Unusable({a.node: "its evaluation is not of the task that was agreed on" for a in gathered.answers})
    spread = over_sites([a.metrics for a in gathered.answers], METRICS)
    return {"round": round, **report(sums, task), "spread": spread, **rests_on(gathered)}


def rests_on(gathered: Gathered) -> dict[str, Json]:
    """``{sites: {answered, of, which}}`` where not all nodes of the run answered: how many of how many, and a
    name that is the same for the same ones. {} where all did."""
    answered = {answer.node for answer in gathered.answers}
    if not set(gathered.nodes) - answered:
        return {}
    which = hashlib.sha256("\n".join(sorted(answered)).encode()).hexdigest()[:16]
    return {"sites": {"answered": len(answered), "of": len(gathered.nodes), "which": which}}
