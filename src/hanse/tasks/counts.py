"""A count of events: loss is the mean Poisson deviance, d2 the share of the deviance that is explained.

d2 is 1 - Σ D(y, μ) / Σ D(y, ȳ), with ȳ the mean of the rows that are measured. Which that is, their sums tell: with any
c > 0 that all sites know, Σ D(y, ȳ) / 2 = Σ y log(y / c) - Σ y log(Σ (y / c) / n), and near ȳ little of it cancels.

A model of any number may predict none that a count can have as its mean. What is below a thousandth, and below a
thousandth of c, is measured as that.

References: McCullagh and Nelder 1989, "Generalized Linear Models", section 6.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.kinds import Shapes
from hanse.messages import Array, Json
from hanse.table import Column, ColumnKind
from hanse.task import NUMBER, ROUNDED, Settled, Task, count, each_row

_LEAST = 1e-3
_NOTHING = 1e-12  # of what cancels in the deviance of the mean; it is rounding


class Counts:
    predicts = NUMBER
    moments = 1
    metrics = ("loss", "d2")
    counts: Mapping[str, int | None] = {"totals": 2}

    def columns(self, target: str) -> tuple[str, ...]:
        return (target,)

    def tell(self, columns: Sequence[Column], atleast: int) -> dict[str, Json]:
        values = columns[0].values[columns[0].given]
        numbers = columns[0].kind is ColumnKind.NUMERIC
        return {"rows": bool(len(values)), "counts": bool(numbers and np.all((values >= 0) & (values % 1 == 0)))}

    def check(self, said: Mapping[str, Json]) -> None:
        if not isinstance(said["rows"], bool) or not isinstance(said["counts"], bool):
            raise TypeError("rows and counts are true or false")

    def settle(self, target: str, said: Sequence[Mapping[str, Any]]) -> Settled:
        if not any(one["rows"] for one in said):
            raise ConfigError(f"no site has a row with a value of the target {target!r}")
        if not all(one["counts"] for one in said if one["rows"]):
            raise ConfigError(f"the target {target!r} has values that are no counts at some site; use regression")
        return Settled("counts")

    def target(self, columns: Sequence[Column], task: Task) -> tuple[Array, Array]:
        kept = np.flatnonzero(columns[0].given)
        return kept, columns[0].values[kept]

    def outputs(self, task: Task) -> int:
        return 1

    def shape(self, task: Task, rows: int) -> tuple[int, ...]:
        return (rows,)

    def sums(
        self, prediction: Array, y: Array, task: Task, center: Array, weight: Array | None = None
    ) -> dict[str, Array]:
        """``totals``: rows, those without a finite prediction, Σ deviance, Σ y, Σ y / c, Σ y log(y / c)."""
        fine, middle = np.isfinite(prediction), _middle(center)
        each, part = each_row(y, weight), y / middle
        here = (each[fine] * deviance(y[fine], _mean(prediction[fine], middle))).sum()
        totals = [each.sum(), each[~fine].sum(), here, (each * y).sum(), (each * part).sum()]
        return {"totals": np.array([*totals, (each * _times_log(y, part)).sum()], np.float64)}

    def shapes(self, task: Task) -> Shapes:
        return {"totals": ("float64", (6,))}

    def plausible(self, sums: Mapping[str, Array], task: Task) -> bool:
        n, invalid, here, total, parts, _ = (float(v) for v in sums["totals"])
        if not (0 <= invalid <= n * ROUNDED and n < 2**53 and here >= 0 and total >= 0 and parts >= 0):
            return False
        plain, rounding = _of_the_mean(sums["totals"])
        return (total > 0) == (parts > 0) and plain >= -rounding

    def report(self, sums: Mapping[str, Array], task: Task) -> dict[str, Json]:
        n, invalid, here = (float(v) for v in sums["totals"][:3])
        fine, (plain, rounding) = n > 0 and not invalid, _of_the_mean(sums["totals"])
        out: dict[str, Json] = {"n": int(n), "loss": here / n if fine else None}
        out["d2"] = 1 - here / plain if fine and plain > rounding else None
        return {**out, **({"invalid": count(invalid)} if invalid else {})}

    def answer(self, prediction: Array, task: Task) -> Array:
        return np.maximum(prediction, 0.0)

    def probabilities(self, prediction: Array, task: Task) -> Array:
        raise DataError("counts have no probabilities of classes; use predict")

    def score(self, prediction: Array, columns: Sequence[Column], task: Task) -> float:
        """D², the share of the deviance that is explained."""
        kept, y = self.target(columns, task)
        center = np.array([y.mean()])
        plain = deviance(y, np.full(len(y), center[0])).sum()
        return float(1 - deviance(y, _mean(prediction[kept], _middle(center))).sum() / plain)


def deviance(y: Array, mean: Array) -> Array:
    """(n,) 2 (y log(y / μ) - y + μ)."""
    return np.asarray(2 * (_times_log(y, y / mean) - y + mean))


def _times_log(y: Array, part: Array) -> Array:
    """(n,) y log(part), 0 where y is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(y > 0, y * np.log(part), 0.0)


def _middle(center: Array) -> float:
    """c, near the mean."""
    return float(center[0]) if center[0] > 0 else 1.0


def _mean(prediction: Array, middle: float) -> Array:
    """What can be the mean of a count."""
    return np.maximum(prediction, _LEAST * min(1.0, middle))


def _of_the_mean(totals: Array) -> tuple[float, float]:
    """The deviance of the mean, and how far off rounding may make it."""
    n, _, _, total, parts, logs = (float(v) for v in totals)
    if not (n > 0 and parts > 0):
        return 0.0, 0.0
    taken = total * math.log(parts / n)
    return 2 * (logs - taken), 2 * _NOTHING * (abs(logs) + abs(taken) + total)


TASK = Counts()
