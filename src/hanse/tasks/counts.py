"""A count of events: loss is the mean Poisson deviance, d2 the share of the deviance that is explained.

References: McCullagh and Nelder 1989, "Generalized Linear Models", section 6.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.kinds import Shapes
from hanse.messages import Array, Json
from hanse.table import Column, ColumnKind
from hanse.task import NUMBER, ROUNDED, Settled, Task, each_row


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
        """``totals``: rows, those without a finite prediction, Σ deviance, Σ deviance of the common mean."""
        fine = np.isfinite(prediction)
        each = each_row(y, weight)
        here = (each[fine] * deviance(y[fine], np.maximum(prediction[fine], 1e-3))).sum()
        plain = (each * deviance(y, np.full(len(y), max(float(center[0]), 1e-3)))).sum()
        return {"totals": np.array([each.sum(), each[~fine].sum(), here, plain], np.float64)}

    def shapes(self, task: Task) -> Shapes:
        return {"totals": ("float64", (4,))}

    def plausible(self, sums: Mapping[str, Array], task: Task) -> bool:
        n, invalid, here, plain = (float(v) for v in sums["totals"])
        return 0 <= invalid <= n * ROUNDED and here >= 0 and plain >= 0

    def report(self, sums: Mapping[str, Array], task: Task) -> dict[str, Json]:
        n, invalid, here, plain = (float(v) for v in sums["totals"])
        fine = n > 0 and not invalid
        return {"n": int(n), "loss": here / n if fine else None, "d2": 1 - here / plain if fine and plain else None}

    def answer(self, prediction: Array, task: Task) -> Array:
        return np.maximum(prediction, 0.0)

    def probabilities(self, prediction: Array, task: Task) -> Array:
        raise DataError("counts have no probabilities of classes; use predict")

    def score(self, prediction: Array, columns: Sequence[Column], task: Task) -> float:
        """D², the share of the deviance that is explained."""
        y = columns[0].values
        plain = deviance(y, np.full(len(y), y.mean())).sum()
        return float(1 - deviance(y, np.maximum(prediction, 1e-3)).sum() / plain)


def deviance(y: Array, mean: Array) -> Array:
    """(n,) 2 (y log(y / μ) - y + μ)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(y > 0, y * np.log(y / mean), 0.0)
    return np.asarray(2 * (logs - y + mean))


TASK = Counts()
