"""Curves, bands and tests of survival, from counts in time, and between what they lie where times are joined.

Of events, of censorings, and of both together it is known how many there are at most, and at least, up to each time:
cum(first) and cum(last) of :mod:`hanse.statistics._joined`. For each time t the product over events of
1 - 1 / (at risk) is least with

- as many events up to t as there can be, each as late as it can be,
- censorings as early as they can be, before the events of the same time,

and most the other way round: to put a censoring before an event instead of after it takes one from the event's risk
set, and an event more is a factor more. An event's risk set is bounded besides by all rows up to its time.
Greenwood's sum of 1 / (r (r - 1)) is largest where the product is least. So all of this is from sums over sites, and
holds whatever stands where at each.
"""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np

from hanse.messages import Array, Json
from hanse.queries import Arrays

MOST = 0.5  # how wide a range of survival may be where a value is given for it


def at_risk(events: Array, gone: Array) -> Array:
    """(k,) subjects at risk just before each time."""
    left = events + gone
    return np.asarray(left.sum() - np.cumsum(left) + left)


def curve(arrays: Arrays, grid: Array, level: float) -> dict[str, Json]:
    """The estimate and its band from counts that are taken for exact."""
    events = arrays["events"][: len(grid)].astype(float)
    risk = at_risk(arrays["events"], arrays["gone"])[: len(grid)].astype(float)
    keep = risk > 0
    grid, events, risk = grid[keep], events[keep], risk[keep]
    survival = np.cumprod((risk - events) / risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.cumsum(events / (risk * (risk - events)))
        log = np.cumsum(np.log1p(-events / risk))  # of a product near 1, the logarithm has few digits
    lower, upper = greenwood(survival, log, spread, level)
    below = np.flatnonzero(survival <= 0.5 * (1 + 1e-12))  # a product of shares that is one half, but for rounding
    return {
        "times": grid.tolist(),
        "survival": survival.tolist(),
        "lower": lower,
        "upper": upper,
        "at_risk": risk.astype(int).tolist(),
        "events": events.astype(int).tolist(),
        "median": float(grid[below[0]]) if len(below) else None,
    }


def greenwood(survival: Array, log: Array, spread: Array, level: float) -> tuple[list[Json], list[Json]]:
    """(k,) Greenwood's band on the log-log scale, from the logarithm of survival and the sum of d / (r (r - d)); None
    where nobody is left."""
    with np.errstate(divide="ignore", invalid="ignore"):
        width = quantile(level) * np.sqrt(spread) / np.abs(log)
        ends = (np.exp(log * np.exp(sign * width)) for sign in (1, -1))
        lower, upper = ([_or_none(v) for v in np.where(survival == 1, 1.0, end)] for end in ends)
    return lower, upper


def quantile(level: float) -> float:
    return -NormalDist().inv_cdf((1 - level) / 2)


def _or_none(value: float) -> Json:
    return float(value) if math.isfinite(value) else None


class Spans:
    """How many events, censorings, and rows of both sorts there are up to each of ``k`` times, at least and at most.

    Args:
        arrays: of one group, all sites together, (k + 1,) each: the last is after all times.
    """

    def __init__(self, arrays: Arrays, times: int) -> None:
        self.n = int(arrays["events"].sum() + arrays["gone"].sum())
        self.early, self.late, self.gone_early, self.gone_late, early, late = (
            np.cumsum(arrays[f"{kind}_{end}"][:times])
            for kind in ("events", "gone", "rows")
            for end in ("first", "last")
        )
        self.rows_early = np.minimum(early, self.early + self.gone_early)
        self.rows_late = np.maximum(late, self.late + self.gone_late)

    def most_at_risk(self) -> Array:
        """(k,) before each time."""
        return np.asarray(self.n - _before(self.rows_late))

    def least_at_risk(self) -> Array:
        """(k,) at an event that counts at each time: others that count there may have left before."""
        return np.asarray(self.n - self.rows_early)


def with_more(arrays: Arrays, rows: int) -> Arrays:
    """The same with so many rows more at most, which may leave at any time, by an event or without. One that is not
    there is as one that is censored before all events."""
    found = dict(arrays)
    for kind in ("events", "gone", "rows"):
        for end, at in (("first", 0), ("last", -1)):
            found[f"{kind}_{end}"] = arrays[f"{kind}_{end}"].copy()
            found[f"{kind}_{end}"][at] += rows
    found["gone"] = arrays["gone"].copy()
    found["gone"][-1] += rows  # by which it is known how many there are
    return found


def _before(upto: Array) -> Array:
    return np.concatenate([[0], upto[:-1]]) if len(upto) else upto


def ranges(arrays: Arrays, grid: Array, level: float) -> dict[str, Json]:
    """What replaces and joins :func:`curve` where counts may stand elsewhere: survival only where its range is useful,
    a band that holds for all that lies in the range, and the ranges themselves."""
    shown = curve(arrays, grid, level)
    spans = Spans(arrays, len(grid))
    (least, spread), most = _worst(spans), _best(spans)
    keep = np.searchsorted(grid, shown["times"])
    lower, upper = _band(least, most, spread, spans, quantile(level))
    survival = np.clip(_actuarial(arrays, len(grid))[keep], least[keep], most[keep])
    useful = most - least <= MOST
    reached = np.flatnonzero(least <= 0.5 * (1 + 1e-12)), np.flatnonzero(most <= 0.5 * (1 - 1e-12))
    at = int(reached[0][0]) if len(reached[0]) else len(grid)
    first = float(grid[at - 1]) if at else 0.0
    last = float(grid[reached[1][0]]) if len(reached[1]) else None
    median = halved(np.array(shown["times"]), survival) if shown["median"] is not None else None
    risk, events = np.stack([spans.n - _before(spans.rows_early), spans.most_at_risk()], 1)[keep], _events(spans)[keep]
    return {
        "survival": [v if fine else None for v, fine in zip(survival.tolist(), useful[keep], strict=True)],
        "survival_range": np.stack([least, most], 1)[keep].tolist(),
        "lower": lower[keep].tolist(),
        "upper": upper[keep].tolist(),
        "at_risk": np.clip(shown["at_risk"], *risk.T).tolist(),
        "events": np.clip(shown["events"], *events.T).tolist(),
        "at_risk_range": risk.tolist(),
        "events_range": events.tolist(),
        "events_so_far_range": np.stack([spans.late, spans.early], 1)[keep].tolist(),  # up to each time
        "median": None if last is None or median is None else min(max(median, first), last),
        "median_range": [first, last],
    }


def _events(spans: Spans) -> Array:
    """(k, 2) the fewest and the most that can count at each time."""
    return np.asarray(
        np.stack([np.maximum(spans.late - _before(spans.early), 0), spans.early - _before(spans.late)], 1)
    )


def _actuarial(arrays: Arrays, times: int) -> Array:
    """(k,) survival with half of the censorings of a time before its events, as it is not known how many are: all of
    them after, as where times are exact, is too much for long steps (Cutler and Ederer 1958)."""
    events, gone = (arrays[kind][:times].astype(float) for kind in ("events", "gone"))
    risk = np.maximum(at_risk(arrays["events"], arrays["gone"])[:times] - gone / 2, events)
    return np.asarray(np.cumprod(1 - events / np.maximum(risk, 0.5)))


def halved(times: Array, survival: Array) -> float:
    """Where the curve comes down to one half, evenly between two times of the grid."""
    at = int(np.argmax(survival <= 0.5 * (1 + 1e-12)))
    begin, before = (float(times[at - 1]), float(survival[at - 1])) if at else (0.0, 1.0)
    down = before - float(survival[at])
    return begin + (float(times[at]) - begin) * ((before - 0.5) / down if down > 0 else 1.0)


def _worst(spans: Spans) -> tuple[Array, Array]:
    """(k,) the least that survival can be, and Greenwood's sum then.

    Of ``d`` events that follow each other, with at least r at risk at the first, or at least a left after the last,
    the product is at least (r - d) / r, or a / (a + d), and the sum at most d / (r (r - d)), or d / (a (a + d)).
    """
    certain, unsure = np.diff(spans.late, prepend=0).astype(float), (spans.early - spans.late).astype(float)
    left = (spans.n - spans.rows_early).astype(float)
    risk = np.maximum(spans.n - _before(spans.late) - spans.gone_early, left + certain)
    after = np.maximum(spans.n - spans.late - spans.gone_early, left + unsure)
    product, total = _factors(certain, risk)
    last, more = _factors(unsure, after)
    return np.cumprod(product) * last, np.cumsum(total) + more


def _best(spans: Spans) -> Array:
    """(k,) the most that survival can be."""
    events = np.diff(spans.early, prepend=0).astype(float)
    risk = (spans.n - _before(spans.early) - _before(spans.gone_late)).astype(float)
    alike = spans.most_at_risk().astype(float)  # at each of the events of a time
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.minimum(np.log(_factors(events, risk)[0]), np.where(events > 0, events * np.log1p(-1 / alike), 0.0))
    at = np.searchsorted(spans.early, spans.late)  # where the earliest that can be all certain ones is reached
    last, _ = _factors((spans.late - _before(spans.early)[at]).astype(float), risk[at])
    return np.asarray(np.exp(np.concatenate([[0.0], np.cumsum(log)]))[at] * last)


def _factors(events: Array, risk: Array) -> tuple[Array, Array]:
    """The share that is left of ``risk`` after the events, and Greenwood's term."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(events > 0, (risk - events) / risk, 1.0)
        return share, np.where(events > 0, events / (risk * (risk - events)), 0.0)


def _band(least: Array, most: Array, spread: Array, spans: Spans, z: float) -> tuple[Array, Array]:
    """(k,) the lowest and the highest that the pooled band can be.

    With y = -ln S and c = z sqrt(V), the band is exp(-y exp(±c / y)). Its upper end falls in y and grows in c. The
    lower one falls in c; in y its exponent first falls, then grows, so it is largest at an end. Where y is
    small, so is c: V <= y / (r - 1) with r the fewest that are at risk, and without an event there is no band.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        low, high, c = -np.log(most), -np.log(np.maximum(least, 0.0)), z * np.sqrt(spread)
        upper = np.where(low > 0, np.exp(-low * np.exp(-c / low)), 1.0)
        first = np.maximum(low, 1.0 / max(spans.n, 1))  # if there is an event at all
        risk = (spans.n - spans.rows_early).astype(float)
        ends = [
            np.maximum(first * np.exp(c / first), high * np.exp(c / high)),
            np.maximum(*(y * np.exp(z / np.sqrt(y * (risk - 1))) for y in (first, high))),
        ]
        exponent = np.fmin(ends[0], np.where(risk > 1, ends[1], np.inf))
        lower = np.where(spans.early > 0, np.exp(-exponent), 1.0)
    return np.nan_to_num(np.minimum(lower, least), nan=0.0), np.nan_to_num(np.maximum(upper, most), nan=1.0)


def logrank(groups: tuple[Arrays, Arrays], times: int) -> tuple[list[float], list[float]]:
    """Between which numbers chi-square of two groups lies, and its p: the observed less the expected events, and their
    variance, each at its least and most over all places where events and leavers can be. Wider than what can be
    at once, and true.

    The i-th event of both groups, in the order of time, stands between the i-th of ``first`` and the i-th of ``last``.
    """
    from scipy import special

    one, two = (Spans(arrays, times) for arrays in groups)
    (low1, high1), (low2, high2) = (
        (s.least_at_risk().astype(float), s.most_at_risk().astype(float)) for s in (one, two)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest, highest = np.nan_to_num(low1 / (low1 + high2)), np.nan_to_num(high1 / (high1 + low2), nan=1.0)
    early, late = one.early + two.early, one.late + two.late
    crowd = (early - _before(late)).astype(float)  # events that can be at one time
    alive = np.maximum(low1 + low2, crowd)
    fewer = np.clip((alive - crowd) / np.maximum(alive - 1, 1), 0.0, 1.0)
    products = lowest * (1 - lowest), highest * (1 - highest)
    largest = np.where((lowest <= 0.5) & (highest >= 0.5), 0.25, np.maximum(*products))
    smallest = np.minimum(*products) * fewer
    certain = int(late[-1]) if len(late) else 0
    cuts = np.unique(np.concatenate([[0], np.minimum(early, certain), late]))
    expected, variance = [0.0, 0.0], [0.0, 0.0]
    for begin, end in itertools.pairwise([int(c) for c in cuts]):
        span = slice(int(np.searchsorted(early, begin, "right")), int(np.searchsorted(late, begin, "right")) + 1)
        n = end - begin
        expected = [expected[0] + n * float(lowest[span].min()), expected[1] + n * float(highest[span].max())]
        variance = [variance[0] + n * float(smallest[span].min()), variance[1] + n * float(largest[span].max())]
    open1, open2 = (int(s.early[-1] - s.late[-1]) if times else 0 for s in (one, two))
    observed = int(one.late[-1]) if times else 0
    z = observed - expected[1] - open2, observed + open1 - expected[0]
    variance[1] += 0.25 * (open1 + open2)
    near, far = 0.0 if z[0] <= 0 <= z[1] else min(abs(z[0]), abs(z[1])), max(abs(z[0]), abs(z[1]))
    chi2 = [near**2 / variance[1] if variance[1] else 0.0, far**2 / variance[0] if variance[0] else math.inf]
    return chi2, [
        float(special.chdtrc(1, chi2[1])) if math.isfinite(chi2[1]) else 0.0,
        float(special.chdtrc(1, chi2[0])),
    ]
