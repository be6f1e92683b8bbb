"""What counts of held-out rows by predicted probability say: ROC, precision and recall, calibration, net benefit.

A site counts its rows in *bins* of the predicted probability p, the rows of a class and the others. Bins are ever finer
towards 0 and 1: of q = min(p, 1 - p), those from 1/4 on are 1/512 wide, and those below between 1/32 and 1/8 of the
least q in them, down to q = 2^-21. Bins of equal width would hold all rows of a rare class in one.

The sites' summed histograms are joined to *runs* of neighbouring bins, each of which holds none or at least
:data:`LEAST` rows of either kind. So every threshold that is told has so many rows on each side that differ from the
next one's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hanse.messages import Array, Json

LEAST = 10  # rows, as the default of an owner's minimum_cell
_PLACES = 9  # decimals of a mean probability in a record
_OCTAVES = (128, 64, 64, 32, 32, *(16,) * 6, *(8,) * 9)  # bins of q from 1/4 to 1/2, from 1/8 to 1/4, and so on
_BITS = 7  # the leading ones of a mantissa, of which 128 are in an octave


def _edges() -> Array:
    half = [0.0]
    for place in range(len(_OCTAVES), 0, -1):
        low, many = 0.5 ** (place + 1), _OCTAVES[place - 1]
        half += [low + low * i / many for i in range(many)]
    lower = np.array([*half, 0.5])
    return np.concatenate([lower, 1 - lower[-2::-1]])


EDGES = _edges()  # (BINS + 1,) from 0 to 1, all of them sums of powers of two
BINS = len(EDGES) - 1
_FIRST = (1023 - len(_OCTAVES) - 1) << _BITS  # exponent and leading bits of the least q that has bins of its own
_OF_BITS = np.searchsorted(
    EDGES,
    (np.arange(_FIRST - 1, _FIRST + (len(_OCTAVES) << _BITS), dtype=np.int64) << (52 - _BITS)).view(np.float64),
    "right",
)
_OF_BITS = np.maximum(_OF_BITS - 1, 0)  # bin of q by its exponent and leading bits; the first is of all that is less


def bins(probability: Array) -> Array:
    """(...) int64: the bin that holds a probability in [0, 1]; bin i holds EDGES[i] ≤ p < EDGES[i + 1], the last one 1.

    By the bits of p and no logarithm, so that every processor finds the same one.

    >>> bins(np.array([0.0, 1e-5, 0.25, 0.5, 1.0])).tolist()
    [0, 35, 361, 489, 977]
    """
    probability = np.asarray(probability, np.float64)
    upper = probability >= 0.5
    # where p is in [1 - b, 1 - a), q is in (a, b]: one bit less puts b into the bin below
    bits = np.where(upper, 1 - probability, probability).view(np.int64) - upper
    place = _OF_BITS[np.clip((bits >> (52 - _BITS)) - _FIRST + 1, 0, len(_OF_BITS) - 1)]
    return np.asarray(np.where(upper, BINS - 1 - place, place))


def runs(positives: Array, negatives: Array, edges: Array = EDGES, least: float = LEAST) -> list[list[float]]:
    """``[low, high, mean, positives, negatives]`` of each run, ascending; ``mean`` of the bins' middles, by rows.

    Args:
        positives, negatives: (k,) rows of the class and others, by predicted probability.
        edges: (k + 1,) of the bins of probability.
        least: how many rows, or what weight, of either kind a run holds if it holds any.

    >>> runs(np.array([0, 0, 4, 12]), np.array([11, 2, 9, 0]), np.array([0, 0.25, 0.5, 0.75, 1]))
    [[0.0, 0.25, 0.125, 0.0, 11.0], [0.25, 1.0, 0.717592593, 16.0, 11.0]]
    """
    middles = (edges[1:] + edges[:-1]) / 2
    found: list[_Run] = []
    run = _Run(0)
    for i in map(int, np.flatnonzero((positives > 0) | (negatives > 0))):
        p, n = float(positives[i]), float(negatives[i])
        run = _Run(run.start, i + 1, run.positives + p, run.negatives + n, run.middles + (p + n) * float(middles[i]))
        if run.enough(least):
            found.append(run)
            run = _Run(i + 1)
    while found and run.rows and not run.enough(least):  # too few are left: they belong to the run before
        last = found.pop()
        run = _Run(last.start, run.stop, *(a + b for a, b in zip(last[2:], run[2:], strict=True)))
    if run.enough(least):
        found.append(run)
    stops = [*(r.stop for r in found[:-1]), len(middles)]
    return [
        [float(edges[r.start]), float(edges[stop]), round(r.middles / r.rows, _PLACES), r.positives, r.negatives]
        for r, stop in zip(found, stops, strict=False)
    ]


def of_class(label: str, positives: Array, negatives: Array, rows: float | None = None) -> Json:
    """One class in the record of the step that measured it.

    Args:
        positives, negatives: (BINS,) rows of the class and others, or their weights.
        rows: how many rows these weights are of; None: they are rows.
    """
    if rows is None:
        return {"label": label, "runs": runs(positives, negatives)}
    each = float(positives.sum() + negatives.sum()) / rows if rows else 1.0  # what a row weighs in the mean
    return {"label": label, "runs": runs(positives, negatives, least=LEAST * each * (1 - 1e-9)), "weighted": True}


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

    def enough(self, least: float) -> bool:
        return self.rows > 0 and all(n == 0 or n >= least for n in (self.positives, self.negatives))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Of one class against all others, on the held-out rows of all sites.

    Args:
        label: the class.
        runs: as :func:`runs` gives them. Empty where there are too few rows.
        weighted: rows count by their weight, and no limits of a share are known.
    """

    label: str
    runs: Sequence[Sequence[float]]
    weighted: bool = False

    @staticmethod
    def of(said: Sequence[Mapping[str, Json]]) -> list[Thresholds]:
        """From the record of the step that measured them."""
        return [Thresholds(str(one["label"]), one["runs"], bool(one.get("weighted"))) for one in said]

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
        class (``observed``), and 95 % limits of that share (Wilson); of weighted rows there are none, as ``rows`` is
        then what they weigh."""
        none: dict[str, float | None] = {"low": None, "high": None}
        return [
            {
                "predicted": mean,
                "observed": _share(p, p + n),
                **(none if self.weighted else _wilson(p, p + n)),
                "rows": p + n,
            }
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
