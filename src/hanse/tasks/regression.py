"""A number: loss is the mean squared error; rmse, mae and R² beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import DataError
from hanse.kinds import Shapes
from hanse.messages import Array, Json
from hanse.table import Column, ColumnKind
from hanse.task import NUMBER, ROUNDED, Settled, Task, count, each_row
from hanse.tasks import _labels


class Regression:
    predicts = NUMBER
    moments = 1
    metrics = ("loss", "rmse", "mae", "r2")
    counts: Mapping[str, int | None] = {"totals": 2}

    def columns(self, target: str) -> tuple[str, ...]:
        return (target,)

    def tell(self, columns: Sequence[Column], atleast: int) -> dict[str, Json]:
        return _labels.tell(columns[0], atleast, labels=False)

    def check(self, said: Mapping[str, Json]) -> None:
        _labels.check(said)

    def settle(self, target: str, said: Sequence[Mapping[str, Any]]) -> Settled:
        return _labels.settle("regression", target, said)

    def target(self, columns: Sequence[Column], task: Task) -> tuple[Array, Array]:
        column = columns[0]
        if column.kind is ColumnKind.CATEGORICAL:
            if np.all(column.values < 0):
                return np.zeros(0, np.int64), np.zeros(0)
            raise DataError("the target is text at this site; a regression needs numbers")
        kept = np.flatnonzero(np.isfinite(column.values))
        return kept, column.values[kept]

    def outputs(self, task: Task) -> int:
        return 1

    def shape(self, task: Task, rows: int) -> tuple[int, ...]:
        return (rows,)

    def sums(
        self, prediction: Array, y: Array, task: Task, center: Array, weight: Array | None = None
    ) -> dict[str, Array]:
        """``totals``: rows, those without a finite error, Σe², Σ|e|, Σ(y - c), Σ(y - c)²."""
        prediction, y = prediction - center[0], y - center[0]
        error = prediction - y
        fine = np.isfinite(error**2)
        each, error = each_row(y, weight), error[fine]
        own = each[fine]
        totals = [each.sum(), each[~fine].sum(), (own * error**2).sum(), (own * np.abs(error)).sum()]
        totals += [(each * y).sum(), (each * y**2).sum()]
        return {"totals": np.array(totals)}

    def shapes(self, task: Task) -> Shapes:
        return {"totals": ("float64", (6,))}

    def plausible(self, sums: Mapping[str, Array], task: Task) -> bool:
        n, invalid, loss, absolute, total, squares = (float(v) for v in sums["totals"])
        if not (0 <= invalid <= n * ROUNDED and n < 2**53 and loss >= 0):
            return False
        return absolute >= 0 and squares >= 0 and abs(total) <= math.sqrt(n) * math.sqrt(squares) * (1 + 1e-6)

    def report(self, sums: Mapping[str, Array], task: Task) -> dict[str, Json]:
        n, invalid, loss, absolute, total, squares = (float(v) for v in sums["totals"])
        out: dict[str, Json] = {"n": int(n), "loss": loss / n if n and not invalid else None}
        fine = bool(n) and not invalid
        spread = squares - total * total / n if n else 0.0
        out["rmse"] = math.sqrt(loss / n) if fine else None
        out["mae"] = absolute / n if fine else None
        out["r2"] = 1 - loss / spread if fine and n > 1 and spread > 1e-12 * squares else None
        return {**out, **({"invalid": count(invalid)} if invalid else {})}

    def answer(self, prediction: Array, task: Task) -> Array:
        return prediction

    def probabilities(self, prediction: Array, task: Task) -> Array:
        raise DataError("a regression gives values, not probabilities; use predict")

    def score(self, prediction: Array, columns: Sequence[Column], task: Task) -> float:
        """R², as scikit-learn's ``score``; rows without a target are left out."""
        kept, truth = self.target(columns, task)
        return float(1 - ((truth - prediction[kept]) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


TASK = Regression()
