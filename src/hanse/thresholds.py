"""What counts of held-out rows by predicted probability say: ROC, precision and recall, calibration, net benefit.

The sites' summed histograms of the predicted probability, of the rows of a class and of the others, are joined to
*runs* of neighbouring bins, each of which holds none or at least :data:`LEAST` rows of either kind. So every threshold
that is told has so many rows on each side that differ from the next one's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hanse.messages import Array, Json

LEAST = 10  # rows, as the default of an owner's minimum_cell
_PLACES = 6  # decimals of probabilities in a record


def runs(positives: Array, negatives: Array) -> list[list[float]]:
    """``[low, high, mean, positives, negatives]`` of each run, ascending; ``mean`` of the bins' middles, by rows.

    Args:
        positives, negatives: (bins,) rows of the class and others, by predicted probability in bins of equal width.

    >>> runs(np.array([0, 0, 4, 12]), np.array([11, 2, 9, 0]))
    [[0.0, 0.25, 0.125, 0.0, 11.0], [0.25, 1.0, 0.717593, 16.0, 11.0]]
    """
    bins = len(positives)
    found: list[_Run] = []
    run = _Run(0)
    for i in map(int, np.flatnonzero((positives > 0) | (negatives > 0))):
        p, n = float(positives[i]), float(negatives[i])
        run = _Run(run.start, i + 1, run.positives + p, run.negatives + n, run.middles + (p + n) * (i + 0.5) / bins)
        if run.enough:
            found.append(run)
            run = _Run(i + 1)
    while found and run.rows and not run.enough:  # too few are left: they belong to the run before
        last = found.pop()
        run = _Run(last.start, run.stop, *(a + b for a, b in zip(last[2:], run[2:], strict=True)))
    if run.enough:
        found.append(run)
    stops = [*(r.stop for r in found[:-1]), bins]
    return [
        [round(v, _PLACES) for v in (r.start / bins, stop / bins, r.middles / r.rows, r.positives, r.negatives)]
        for r, stop in zip(found, stops, strict=False)
    ]


class _Run(NamedTuple):
    """Bins from ``start`` to before ``stop``, their rows, and the sum of the rows' middles."""

    start: int
    stop: int = 0
    positives: float = 0.0
    negatives: float = 0.0
    middles: float = 0.0

    @property
    def rows(self) -> float:
        return self.positives + self.negatives

    @property
    def enough(self) -> bool:
        return self.rows > 0 and all(n == 0 or n >= LEAST for n in (self.positives, self.negatives))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Of one class against all others, on the held-out rows of all sites.

    Args:
        label: the class.
        runs: as :func:`runs` gives them. Empty where there are too few rows.
    """

    label: str
    runs: Sequence[Sequence[float]]

    @staticmethod
    def of(said: Sequence[Mapping[str, Json]]) -> list[Thresholds]:
        """From the record of the step that measured them."""
        return [Thresholds(str(one["label"]), one["runs"]) for one in said]

    def counts(self) -> list[dict[str, float]]:
        """Of each ``threshold``, descending from "nobody": rows above it that are of the class (``true_positives``) or
        not (``false_positives``), and all of either kind."""
        p, n = (float(sum(run[i] for run in self.runs)) for i in (3, 4))
        found = [{"threshold": 1.0, "true_positives": 0.0, "false_positives": 0.0, "positives": p, "negatives": n}]
        for low, _, _, more_p, more_n in reversed(self.runs):
            last = found[-1]
            hits, alarms = last["true_positives"] + more_p, last["false_positives"] + more_n
            found.append({**last, "threshold": low, "true_positives": hits, "false_positives": alarms})
        return found

    def roc(self) -> list[dict[str, float | None]]:
        """``sensitivity`` TP / P and ``false_positive_rate`` FP / N of each threshold; None where there is no row."""
        return [
            {
                "threshold": c["threshold"],
                "false_positive_rate": _share(c["false_positives"], c["negatives"]),
                "sensitivity": _share(c["true_positives"], c["positives"]),
            }
            for c in self.counts()
        ]

    def precision_recall(self) -> list[dict[str, float | None]]:
        """``recall`` TP / P and ``precision`` TP / (TP + FP) of each threshold."""
        return [
            {
                "threshold": c["threshold"],
                "recall": _share(c["true_positives"], c["positives"]),
                "precision": _share(c["true_positives"], c["true_positives"] + c["false_positives"]),
            }
            for c in self.counts()
        ]

    def calibration(self) -> list[dict[str, float | None]]:
        """The mean ``predicted`` probability of each run, to half a bin, the share of its ``rows`` that are of the
        class (``observed``), and 95 % limits of that share (Wilson)."""
        return [
            {"predicted": mean, "observed": _share(p, p + n), **_wilson(p, p + n), "rows": p + n}
            for _, _, mean, p, n in self.runs
        ]

    def decision(self) -> list[dict[str, float | None]]:
        """``net_benefit`` TP/rows - FP/rows · t/(1 - t) of acting on those above each threshold t below 1, and of
        acting on ``all``; of acting on nobody it is 0. Vickers and Elkin 2006, "Decision curve analysis"."""
        found: list[dict[str, float | None]] = []
        for c in self.counts():
            t, rows = c["threshold"], c["positives"] + c["negatives"]
            if t < 1 and rows:
                odds = t / (1 - t)
                acted = (c["true_positives"] - c["false_positives"] * odds) / rows
                found.append(
                    {"threshold": t, "net_benefit": acted, "all": (c["positives"] - c["negatives"] * odds) / rows}
                )
        return found


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _wilson(part: float, whole: float) -> dict[str, float | None]:
    z, share = 1.959963984540054, part / whole
    middle, width = share + z * z / (2 * whole), z * np.sqrt(share * (1 - share) / whole + (z / (2 * whole)) ** 2)
    scale = 1 + z * z / whole
    return {"low": float((middle - width) / scale), "high": float((middle + width) / scale)}
