"""Survival where the minimum holds on the total: counted in cells that add over sites, told at the ends of runs.

Every site counts events and censorings in the same cells (:data:`ENDS`). Whoever has the sum computes the curve of all
rows, and tells it at those times alone between which there are the minimum of events and of censorings, or none: what
stands between two of them is nobody's own. There it is the pooled curve, but for the order of rows inside a cell, which
is a four-thousandth of its time wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hanse.errors import DataError
from hanse.messages import Array, Json
from hanse.queries import Arrays, Known, Withheld
from hanse.statistics import _survival
from hanse.statistics._times import BITS, HELD, KINDS, TimeCells, cell_end, runs

_SHIFT = 53 - BITS
_LOW, _HIGH = -8, 26  # powers of two: from a day in years to two years in seconds; what is earlier counts in the first
_FIRST = (1023 + _LOW) << (BITS - 1)
_KEYS = (_HIGH - _LOW) << (BITS - 1)
ENDS = np.concatenate([[0.0], ((np.arange(_KEYS + 1) + _FIRST) << _SHIFT).view(np.float64)])


def whole(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    """Events and censorings in the cells that all sites have, and the rows that other statistics of the two columns
    count and a curve does not."""
    ends = cell_end(arrays["times"])
    if np.any(ends[arrays["events"] + arrays["gone"] > 0] > ENDS[-1]):
        raise DataError(f"there are survival times beyond {ENDS[-1]:.3g} here; take another unit, such as days")
    place = np.where(ends > 0, np.maximum((ends.view(np.int64) >> _SHIFT) - _FIRST, 0) + 1, 0)
    place = np.minimum(place, len(ENDS) - 1)
    out: dict[str, Array] = {"n": arrays["n"], "timeless": arrays["timeless"]}
    for kind in HELD:
        out[kind] = np.zeros(len(ENDS), np.int64)
        np.add.at(out[kind], place, arrays[kind])
    return out


def of_whole(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    """What one site with all rows would have counted: at the ends of cells that are not empty."""
    full = np.flatnonzero(sum(arrays[kind] for kind in HELD))
    found = {kind: arrays[kind][full] for kind in HELD}
    besides = {"timeless": arrays["timeless"], "off": np.zeros((), np.int64)}
    return {"n": arrays["n"], "times": ENDS[full], **found, **besides}


def empty(n: Array) -> dict[str, Array]:
    """What is told of no rows."""
    numbers = {name: np.zeros(0) for name in ("times", "survival", "spread")}
    return {"n": n, **numbers, **{name: np.zeros(0, np.int64) for name in ("at_risk", *KINDS)}}


def told(
    mine: Sequence[Arrays], here: TimeCells, parts: Array, margins: Sequence[Array], minimum: int
) -> list[dict[str, Array]]:
    """The curves of ``mine`` at the ends of runs of ``parts``. Raises ``Withheld`` where there is not one.

    Of each (r,): ``times``; ``survival``, and Greenwood's sum (``spread``) there; how many are ``at_risk`` when the run
    begins, and its ``events`` and censorings (``gone``). The end of the last run is not told: the last row is
    there.
    """
    both, _ = runs(parts, margins, minimum)
    ends = both[:, 1] if minimum <= 1 else both[:-1, 1]
    if not len(ends):
        raise Withheld(
            "fewer events, or fewer censorings, than the minimum of their owners, or too few rows that have one of "
            "time and event and lack the other"
        )
    times = np.where(both[:, 0] == both[:, 1], here.ends[both[:, 1]], here.borders()[both[:, 1]])[: len(ends)]
    found = []
    for part in mine:
        events, gone = here.counts(part)
        risk = _survival.at_risk(events, gone).astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(events > 0, (risk - events) / risk, 1.0)
            spread = np.where(events > 0, events / (risk * (risk - events)), 0.0)
        before = np.concatenate([[0], np.cumsum(events + gone)[ends[:-1]]])
        found.append(
            {
                "n": part["n"],
                "times": times,
                "survival": np.cumprod(share)[ends],
                "spread": np.minimum(np.cumsum(spread)[ends], np.finfo(float).max),
                "at_risk": (int(part["n"]) - before).astype(np.int64),
                "events": np.diff(np.cumsum(events)[ends], prepend=0).astype(np.int64),
                "gone": np.diff(np.cumsum(gone)[ends], prepend=0).astype(np.int64),
            }
        )
    return found


def final(arrays: Arrays, options: Mapping[str, Json]) -> dict[str, Json]:
    """The curve at the times that are told; on a grid of one's own, between which of them it lies."""
    keep = arrays["at_risk"] > 0  # zeros follow where other groups have more times
    times, survival, spread, risk, events, gone = (
        arrays[name][keep] for name in ("times", "survival", "spread", "at_risk", *KINDS)
    )
    with np.errstate(divide="ignore"):
        lower, upper = _survival.greenwood(survival, np.log(survival), spread, options["level"])
    median, ends = _median(times, survival)
    found: dict[str, Json]
    if options["grid"] is None:
        found = {
            "times": times.tolist(),
            "survival": survival.tolist(),
            "lower": lower,
            "upper": upper,
            "at_risk": risk.tolist(),
            "events": events.tolist(),
        }
    else:
        found = _on_grid(
            np.array(options["grid"]),
            times,
            survival,
            lower,
            upper,
            np.append(risk, risk[-1:] - events[-1:] - gone[-1:]),
        )
    return {**found, "median": median, "median_range": ends}


def _median(times: Array, survival: Array) -> tuple[Json, Json]:
    """Where the curve comes down to one half, evenly between two times; and between which it does."""
    below = np.flatnonzero(survival <= 0.5 * (1 + 1e-12))
    if not len(below):
        return None, [float(times[-1]) if len(times) else 0.0, None]
    at = int(below[0])
    return _survival.halved(times, survival), [float(times[at - 1]) if at else 0.0, float(times[at])]


def _on_grid(
    grid: Array, times: Array, survival: Array, lower: Sequence[Json], upper: Sequence[Json], risk: Array
) -> dict[str, Json]:
    """At other times than are told: the curve never rises, so it lies between its values before and after, and is given
    as with a constant hazard between the two. ``risk`` is of one time more."""
    after = np.searchsorted(times, grid)  # the first that is not earlier
    exact = np.append(times, np.nan)[after] == grid
    before = np.where(exact, after, after - 1)
    most = np.where(before >= 0, survival[before], 1.0)
    least = np.append(survival, 0.0)[after]
    between = _with_constant_hazard(grid, np.concatenate([[0.0], times]), np.concatenate([[1.0], survival]))
    between = np.clip(between, least, most)  # where it is told, it is what is told, and no logarithm's rounding beside
    useful = (most - least <= _survival.MOST) & (after < len(times))
    most_left, least_left = np.append(risk, 0)[after], np.append(risk, [0, 0])[after + 1]
    return {
        "times": grid.tolist(),
        "survival": [float(v) if fine else None for v, fine in zip(between, useful, strict=True)],
        "survival_range": np.stack([least, most], 1).tolist(),
        "lower": [lower[i] if i < len(times) else 0.0 for i in after],
        "upper": [upper[i] if i >= 0 else 1.0 for i in before],
        "at_risk": most_left.tolist(),
        "at_risk_range": np.stack([least_left, most_left], 1).tolist(),
        "events": [None] * len(grid),
    }


def _with_constant_hazard(grid: Array, times: Array, survival: Array) -> Array:
    """Survival at the ``grid``, S(a) (S(b) / S(a))^((t - a) / (b - a)) from each of the ``times`` a to the next, b; in
    between evenly where nobody is left at b.
    (A line lies too high where many go.)

    >>> times, survival = np.array([0.0, 10.0, 20.0]), np.array([1.0, 0.25, 0.0])
    >>> _with_constant_hazard(np.array([5.0, 10.0, 15.0]), times, survival).tolist()
    [0.5, 0.25, 0.125]
    """
    left = survival > 0
    with np.errstate(divide="ignore"):
        found = np.exp(np.interp(grid, times[left], np.log(survival[left])))
    last = times[left][-1]
    return np.asarray(np.where(grid <= last, found, np.interp(grid, times, survival)))
