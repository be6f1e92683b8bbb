"""What the tasks with classes have in common: targets are class indices, predictions probabilities.

A site sends counts, sums of losses, and for each class two histograms of the predicted probability (rows of the
class, all other rows; :mod:`hanse.thresholds`). In the area under the ROC curve over all sites, a pair of rows of one
bin counts half; the area of the rows themselves is within ``auc_error``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse import thresholds
from hanse.kinds import Shapes
from hanse.messages import Array, Json
from hanse.table import Column
from hanse.task import PROBABILITIES, ROUNDED, ROWS, Settled, Task, count, each_row
from hanse.tasks import _labels

_EPSILON = float(np.finfo(np.float64).eps)


class Classes:
    """``name`` is that of the task; ``wanted`` are the classes that have a probability of their own."""

    predicts = PROBABILITIES
    moments = 0
    metrics = ("loss", "accuracy", "auc")
    counts: Mapping[str, int | None] = {"totals": 2, "positives": None, "negatives": None}

    def __init__(self, name: str, two: bool) -> None:
        self.name, self._two = name, two

    def columns(self, target: str) -> tuple[str, ...]:
        return (target,)

    def tell(self, columns: Sequence[Column], atleast: int) -> dict[str, Json]:
        return _labels.tell(columns[0], atleast, auto=False)

    def check(self, said: Mapping[str, Json]) -> None:
        _labels.check(said)

    def settle(self, target: str, said: Sequence[Mapping[str, Any]]) -> Settled:
        return _labels.settle(self.name, target, said)

    def target(self, columns: Sequence[Column], task: Task) -> tuple[Array, Array]:
        y = _labels.codes(columns[0], task.classes)
        kept = np.flatnonzero(y >= 0)
        return kept, y if len(kept) == len(y) else y[kept]

    def outputs(self, task: Task) -> int:
        return 1 if self._two else len(task.classes)

    def shape(self, task: Task, rows: int) -> tuple[int, ...]:
        return (rows,) if self._two else (rows, len(task.classes))

    def sums(
        self, prediction: Array, y: Array, task: Task, center: Array, weight: Array | None = None
    ) -> dict[str, Array]:
        """``totals``: rows, those without a finite prediction, Σ loss, correct ones; ``positives`` and
        ``negatives`` (outputs, bins): rows of the class and others, by predicted probability."""
        columns = prediction[:, None] if prediction.ndim == 1 else prediction
        fine = np.isfinite(columns).all(1)
        columns, known = np.clip(columns[fine], 0.0, 1.0), y[fine]
        each = each_row(y, weight)
        own = each[fine]
        if self._two:
            chosen = (columns[:, 0] > 0.5).astype(np.int64)
            assigned = np.where(known == 1, columns[:, 0], 1 - columns[:, 0])
            wanted = [1]
        else:
            chosen = columns.argmax(1)
            assigned = columns[np.arange(len(known)), known]
            wanted = list(range(len(task.classes)))
        loss = -(own * np.log(np.clip(assigned, _EPSILON, 1 - _EPSILON))).sum()
        bins = thresholds.bins(columns)
        positives, negatives = (np.zeros((len(wanted), thresholds.BINS)) for _ in range(2))
        for i, c in enumerate(wanted):
            positives[i] = np.bincount(bins[known == c, i], own[known == c], thresholds.BINS)
            negatives[i] = np.bincount(bins[known != c, i], own[known != c], thresholds.BINS)
        totals = np.array([each.sum(), each[~fine].sum(), loss, own[chosen == known].sum()], np.float64)
        return {"totals": totals, "positives": positives, "negatives": negatives}

    def shapes(self, task: Task) -> Shapes:
        bins = ("float64", (task.outputs, thresholds.BINS))
        return {"totals": ("float64", (4,)), "positives": bins, "negatives": bins}

    def plausible(self, sums: Mapping[str, Array], task: Task) -> bool:
        n, invalid, loss, correct = (float(v) for v in sums["totals"])
        if not (0 <= invalid <= n * ROUNDED and n < 2**53 and loss >= 0):
            return False
        rows = sum(float(sums[name].sum()) for name in ("positives", "negatives"))
        positive = all(float(sums[name].min()) >= 0 for name in ("positives", "negatives"))
        return positive and 0 <= correct <= n * ROUNDED and rows <= n * task.outputs * ROUNDED + 0.5

    def report(self, sums: Mapping[str, Array], task: Task) -> dict[str, Json]:
        """AUC is the mean over classes, one against the rest, for more than two; null unless each class and
        its rest have rows."""
        n, invalid, loss, correct = (float(v) for v in sums["totals"])
        out: dict[str, Json] = {"n": int(n), "loss": loss / n if n and not invalid else None}
        out["accuracy"] = correct / n if n else None
        area = None if invalid else _auc(sums["positives"], sums["negatives"])
        out["auc"], out["auc_error"] = area or (None, None)
        positives = sums["positives"].sum(1)
        counts = [sums["negatives"].sum(), positives[0]] if self._two else positives
        out["class_counts"] = None if invalid else [count(c) for c in counts]
        return {**out, **({"invalid": count(invalid)} if invalid else {})}

    def thresholds(self, sums: Mapping[str, Array], task: Task) -> list[Json]:
        """Of each class that has a probability of its own, the counts by probability (:mod:`hanse.thresholds`)."""
        labels = task.classes[1:] if self._two else task.classes
        pairs = zip(labels, sums["positives"], sums["negatives"], strict=True)
        rows = float(sums[ROWS][0]) if ROWS in sums else None
        return [thresholds.of_class(label, p, n, rows) for label, p, n in pairs]

    def answer(self, prediction: Array, task: Task) -> Array:
        """Class labels."""
        chosen = (prediction > 0.5).astype(int) if self._two else prediction.argmax(1)
        return np.asarray(task.labels[chosen])

    def probabilities(self, prediction: Array, task: Task) -> Array:
        return np.column_stack([1 - prediction, prediction]) if self._two else prediction

    def score(self, prediction: Array, columns: Sequence[Column], task: Task) -> float:
        """Accuracy over all rows with a label; one whose label the model does not know is wrong."""
        kept, y = self.target(columns, task)
        chosen = (prediction > 0.5).astype(int) if self._two else prediction.argmax(1)
        return float((chosen[kept] == y).sum() / columns[0].given.sum())


def _auc(positives: Array, negatives: Array) -> tuple[float, float] | None:
    """P(score of a positive > score of a negative) + half of the ties, and half of the pairs of one bin, which is how
    far off it may be; each averaged over classes."""
    areas, errors = [], []
    for positive, negative in zip(positives, negatives, strict=True):
        pairs = positive.sum() * negative.sum()
        if not pairs:
            return None
        below = np.cumsum(negative) - negative
        areas.append(float((positive * (below + negative / 2)).sum() / pairs))
        errors.append(float((positive * negative).sum() / 2 / pairs))
    return float(np.mean(areas)), float(np.mean(errors))
