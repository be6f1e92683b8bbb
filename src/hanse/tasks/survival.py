"""How long until an event, of a target in two columns: the time, and whether it was that of the event (else nobody has
looked since then); loss is the negative logarithm of the partial likelihood, of each event.

Neither the loss nor the concordance is a sum over rows, so a site sends what both follow from: Σ exp(F) in each of 128
intervals of time, and there how many rows with and without an event have a predicted hazard in each of 128 intervals.
Rows of one interval of time count as tied in the loss. ``c_index`` (Harrell's) is of all pairs whose intervals of time
differ; those of one interval of hazards count half, and the true one is within ``c_index_error``.

References: Breslow 1974, Biometrics 30; Harrell et al. 1982, "Evaluating the Yield of Medical Tests", JAMA 247.
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
from hanse.task import HAZARD, ROUNDED, ROWS, Settled, Task, count, each_row, named

INTERVALS = 128


class Survival:
    predicts = HAZARD
    moments = 1  # times
    metrics = ("loss", "c_index")
    counts: Mapping[str, int | None] = {"totals": 3, "events": None, "others": None}

    def columns(self, target: str) -> tuple[str, ...]:
        return named(target, "time", "event")

    def tell(self, columns: Sequence[Column], atleast: int) -> dict[str, Json]:
        time, event = columns
        there = time.given & event.given
        fits = time.kind is ColumnKind.NUMERIC and event.kind in (ColumnKind.NUMERIC, ColumnKind.BOOLEAN)
        fine = fits and bool((time.values[there] >= 0).all() and np.isin(event.values[there], (0, 1)).all())
        return {"rows": bool(there.any()), "times": fine}

    def check(self, said: Mapping[str, Json]) -> None:
        if not isinstance(said["rows"], bool) or not isinstance(said["times"], bool):
            raise TypeError("rows and times are true or false")

    def settle(self, target: str, said: Sequence[Mapping[str, Any]]) -> Settled:
        if not any(one["rows"] for one in said):
            raise ConfigError(f"no site has a row with a time and an event ({target})")
        if not all(one["times"] for one in said if one["rows"]):
            raise ConfigError(
                f"the target is {target!r}; expected a time, a number from 0, and an event, true or false (1 or 0), "
                "which some site's are not"
            )
        return Settled("survival")

    def target(self, columns: Sequence[Column], task: Task) -> tuple[Array, Array]:
        if any(column.kind is ColumnKind.CATEGORICAL and column.given.any() for column in columns):
            raise DataError("a time or an event is text at this site; survival needs a number, and true or false")
        kept = np.flatnonzero(np.all([column.given for column in columns], axis=0))
        return kept, np.column_stack([np.asarray(column.values[kept], np.float64) for column in columns])

    def outputs(self, task: Task) -> int:
        return 1

    def shape(self, task: Task, rows: int) -> tuple[int, ...]:
        return (rows,)

    def sums(
        self, prediction: Array, y: Array, task: Task, center: Array, weight: Array | None = None
    ) -> dict[str, Array]:
        """``totals``: rows, those without a usable prediction, events, Σ of the logarithms of their hazards; ``risk``
        (k,) Σ of hazards by time; ``events`` and ``others`` (k, k) rows with an event and without, by time and hazard.
        """
        fine = np.isfinite(prediction) & (prediction > 0)
        hazard, (time, event) = prediction[fine], y[fine].T
        middle = float(center[0]) if center[0] > 0 else 1.0
        when, high = _interval(time / middle), _interval(hazard)
        happened, cells = event == 1, when * INTERVALS + high
        each = each_row(y, weight)
        own = each[fine]
        parts = (np.bincount(cells[rows], own[rows], INTERVALS**2) for rows in (happened, ~happened))
        events, others = (part.reshape(INTERVALS, INTERVALS).astype(np.float64) for part in parts)
        logs = (own[happened] * np.log(hazard[happened])).sum()
        totals = [each.sum(), each[~fine].sum(), own[happened].sum(), logs]
        risk = np.bincount(when, own * hazard, INTERVALS).astype(np.float64)
        return {"totals": np.array(totals, np.float64), "risk": risk, "events": events, "others": others}

    def shapes(self, task: Task) -> Shapes:
        cells = ("float64", (INTERVALS, INTERVALS))
        return {"totals": ("float64", (4,)), "risk": ("float64", (INTERVALS,)), "events": cells, "others": cells}

    def plausible(self, sums: Mapping[str, Array], task: Task) -> bool:
        n, invalid, happened, _ = (float(v) for v in sums["totals"])
        if not (0 <= invalid <= n * ROUNDED and n < 2**53 and 0 <= happened <= n * ROUNDED) or any(
            (sums[k] < 0).any() for k in _CELLS
        ):
            return False
        at = np.cumsum(sums["risk"][::-1])[::-1]
        there = sums["events"].sum(axis=1) > 0
        alike = math.isclose(float(sums["events"].sum()), happened, rel_tol=1e-9)
        return bool(alike and (at[there] > 0).all())

    def report(self, sums: Mapping[str, Array], task: Task) -> dict[str, Json]:
        n, invalid, happened, logs = (float(v) for v in sums["totals"])
        out: dict[str, Json] = {"n": int(n), "events": count(happened), "loss": None, "c_index": None}
        if invalid:
            return {**out, "invalid": count(invalid)}
        if not happened:
            return out
        here = sums["events"].sum(axis=1)
        at = np.cumsum(sums["risk"][::-1])[::-1]
        out["loss"] = float((here[here > 0] * np.log(at[here > 0])).sum() - logs) / happened
        return {**out, **_concordance(sums["events"], sums["others"], ROWS in sums)}

    def answer(self, prediction: Array, task: Task) -> Array:
        return prediction

    def probabilities(self, prediction: Array, task: Task) -> Array:
        raise DataError("a hazard is no probability; use predict")

    def score(self, prediction: Array, columns: Sequence[Column], task: Task) -> float:
        """Harrell's C."""
        kept, y = self.target(columns, task)
        hazard, (time, event) = prediction[kept], y.T
        better = pairs = 0.0
        for i in np.flatnonzero(event == 1):
            later = (time > time[i]) | ((time == time[i]) & (event == 0))
            pairs += later.sum()
            better += (hazard[i] > hazard[later]).sum() + 0.5 * (hazard[i] == hazard[later]).sum()
        return float(better / pairs) if pairs else math.nan


_CELLS = ("risk", "events", "others")


def _interval(ratio: Array) -> Array:
    """(n,) of numbers from 0, with as many below 1 as above; in operations that every processor rounds alike."""
    return np.asarray(np.minimum((ratio / (1 + ratio) * INTERVALS).astype(np.int64), INTERVALS - 1))


def _concordance(events: Array, others: Array, weighted: bool) -> dict[str, Json]:
    """Of pairs of an event and a row of a later interval: the share in which the event has the higher hazard. A pair
    of ``weighted`` rows counts by the product of their weights."""
    everybody = events + others
    after = np.cumsum(everybody[::-1], axis=0)[::-1] - everybody  # of later intervals, by hazard
    below = np.cumsum(after, axis=1) - after
    better, tied, pairs = (float((events * part).sum()) for part in (below, after, after.sum(axis=1, keepdims=True)))
    here, rest = events.sum(axis=1), others.sum(axis=1)
    less = 0 if weighted else 1  # a row is no pair with itself; what its weight takes off is not known, so it is more
    unknown = float((here * (here - less) / 2 + here * rest).sum())  # pairs of one interval of time
    if not pairs:
        return {"c_index": None}
    found = (better + tied / 2) / pairs
    most, least = (better + tied + unknown) / (pairs + unknown), better / (pairs + unknown)
    return {"c_index": found, "c_index_error": max(most - found, found - least)}


TASK = Survival()
