"""How long until an event, of a target in two columns; loss is the mean exponential loss t λ - d log λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError, DataError
from hanse.kinds import Shapes
from hanse.messages import Array, Json
from hanse.table import Column, ColumnKind
from hanse.task import Settled, Task, named


class Lifetime:
    predicts = "rate"
    moments = 0
    metrics = ("loss", "events")
    counts: Mapping[str, int | None] = {"totals": 2}

    def columns(self, target: str) -> tuple[str, ...]:
        return named(target, "time", "event")

    def tell(self, columns: Sequence[Column], atleast: int) -> dict[str, Json]:
        time, event = columns
        there = time.given & event.given
        fits = time.kind is ColumnKind.NUMERIC and event.kind in (ColumnKind.NUMERIC, ColumnKind.BOOLEAN)
        fine = fits and bool(np.all(time.values[there] > 0) and np.all(np.isin(event.values[there], (0, 1))))
        return {"rows": bool(there.any()), "durations": fine}

    def check(self, said: Mapping[str, Json]) -> None:
        if not isinstance(said["rows"], bool) or not isinstance(said["durations"], bool):
            raise TypeError("rows and durations are true or false")

    def settle(self, target: str, said: Sequence[Mapping[str, Any]]) -> Settled:
        if not any(one["rows"] for one in said):
            raise ConfigError(f"no site has a row with a time and an event ({target})")
        if not all(one["durations"] for one in said if one["rows"]):
            raise ConfigError("a time is a number above 0 and an event true or false, which some site's are not")
        return Settled("lifetime")

    def target(self, columns: Sequence[Column], task: Task) -> tuple[Array, Array]:
        kept = np.flatnonzero(np.all([column.given for column in columns], axis=0))
        return kept, np.column_stack([np.asarray(column.values[kept], np.float64) for column in columns])

    def outputs(self, task: Task) -> int:
        return 1

    def shape(self, task: Task, rows: int) -> tuple[int, ...]:
        return (rows,)

    def sums(self, prediction: Array, y: Array, task: Task, center: Array) -> dict[str, Array]:
        fine = np.isfinite(prediction) & (prediction > 0)
        rate, (time, event) = prediction[fine], y[fine].T
        loss = float((time * rate - event * np.log(rate)).sum())
        return {"totals": np.array([len(y), (~fine).sum(), loss, y[:, 1].sum()], np.float64)}

    def shapes(self, task: Task) -> Shapes:
        return {"totals": ("float64", (4,))}

    def plausible(self, sums: Mapping[str, Array], task: Task) -> bool:
        n, invalid, _, events = (float(v) for v in sums["totals"])
        return 0 <= invalid <= n and 0 <= events <= n

    def report(self, sums: Mapping[str, Array], task: Task) -> dict[str, Json]:
        n, invalid, loss, events = (float(v) for v in sums["totals"])
        return {"n": int(n), "loss": loss / n if n and not invalid else None, "events": events}

    def answer(self, prediction: Array, task: Task) -> Array:
        return prediction

    def probabilities(self, prediction: Array, task: Task) -> Array:
        raise DataError("a rate is no probability; use predict")

    def score(self, prediction: Array, columns: Sequence[Column], task: Task) -> float:
        """Minus the mean loss."""
        kept, y = self.target(columns, task)
        totals = self.sums(prediction[kept], y, task, np.zeros(1))["totals"]
        return -float(totals[2] / totals[0])


TASK = Lifetime()
