"""Between what means and variances of all rows lie, where some of them are not told.

Of n rows with mean m and sum of squares SS about it, k more rows with deviations d from m make the mean
m + Σd / (n + k), and a sum of squares about the new mean of SS at least and SS + Σd² at most. Where the rows that are
not told are among N rows with D = Σd and Q = Σd², k of them have

    |Σd - k D / N| <= sqrt(k (N - k) / N (Q - D² / N))

(Cauchy-Schwarz; it is reached where all k are equal, and so are the others). Where values lie in [a, b], Σd lies in
[k (a - m), k (b - m)].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.queries import Arrays, Bounds, Item, Known, Lacking, same
from hanse.statistics._powers import moved

_MOST = 1 << 16  # numbers of rows that are tried one by one
_SLACK = 1e-9  # of the scale: what sums and differences are rounded by
Range = tuple[float | None, float | None]
Ends = tuple[float, float]
Rest = tuple[int, float, float]  # rows, sum and sum of squares about a point


def beside(item: Item) -> tuple[Item, ...]:
    """Of a grouped item: the sums of squares of all rows, and those by groups."""
    group = item.options.get("group")
    by = item.by or ((group,) if isinstance(group, str) else ())
    if not by:
        return ()
    return same(Item("variance", item.columns), "variance"), same(Item("variance", item.columns, by=by), "variance")


def rest(lacking: Lacking, pivot: float) -> Rest | None:
    """Number, sum and sum of squares about ``pivot`` of the rows among which those are that a value lacks."""
    if lacking.whole is None:
        return None
    n, s = int(lacking.whole["n"]), moved(lacking.whole, pivot)[:2]
    size = float(s[1])
    for part in lacking.told:
        n, s = n - int(part["n"]), s - moved(part, pivot)[:2]
    slack = _SLACK * size
    return n, float(s[0]), max(float(s[1]), 0.0) + slack


@dataclass(frozen=True, slots=True)
class Moments:
    """Of ``n`` rows, between what numbers of all rows lie.

    Args:
        rows: how many more there are at most.
        mean: ends of the mean.
        squares: ends of the sum of squares about the own mean.
    """

    n: int
    rows: int
    mean: Range
    squares: tuple[float, float | None]

    def variance(self, ddof: int = 1) -> Range:
        """Ends of the variance."""
        least, most = self.squares
        if self.n <= ddof:
            return None, None
        low, told = least / (self.n + self.rows - ddof), least / (self.n - ddof)
        return low, None if most is None else max(told, most / (self.n + 1 - ddof))


def moments(n: int, mean: float, squares: float, lacking: Lacking) -> Moments:
    """Of told rows and what is known of the others. Raises ``ConfigError`` where the mean is not in the range that was
    given."""
    k, span, others = _others(mean, lacking)
    if not k or not n:
        return Moments(n, 0, (mean, mean), (squares, squares))
    most = [] if span is None else [k * max(span[0] ** 2, span[1] ** 2)]
    most += [] if others is None else [others[2]]
    shift = _ends(n, k, span, others)
    around = (None, None) if shift is None else (mean + shift[0], mean + shift[1])
    return Moments(n, k, around, (squares, squares + min(most) if most else None))


def total(n: int, mean: float, lacking: Lacking) -> Range:
    """Ends of the sum of all rows, of those of ``n`` with this mean and the others."""
    k, span, others = _others(mean, lacking)
    if not k or not n:
        return n * mean, n * mean
    if k <= _MOST and (span is not None or others is not None):
        ks = np.arange(k + 1.0)
        low, high = _sums(ks, span, others)
        return n * mean + float((low + ks * mean).min()), n * mean + float((high + ks * mean).max())
    return None, None


def difference(a: Moments, b: Moments) -> Ends | None:
    """Ends of the first mean less the second."""
    (low, high), (least, most) = a.mean, b.mean
    if low is None or high is None or least is None or most is None:
        return None
    return low - most, high - least


def standardised(a: Moments, b: Moments) -> Range:
    """Ends of the difference of means in standard deviations, those of both groups alike."""
    ends, spreads = difference(a, b), (a.variance(), b.variance())
    low, high = (
        None if any(s[i] is None for s in spreads) else sum(float(s[i] or 0.0) for s in spreads) for i in (0, 1)
    )
    if ends is None or not low or high is None:
        return None, None
    widths = math.sqrt(low / 2), math.sqrt(high / 2)
    return ends[0] / widths[ends[0] > 0], ends[1] / widths[ends[1] < 0]


def counted(
    value: Json, arrays: Arrays, options: Mapping[str, Json], known: Known, lacking: Lacking
) -> tuple[Json, Bounds]:
    """Of a number of rows."""
    return value, (value, value + lacking.rows)


def _others(mean: float, lacking: Lacking) -> tuple[int, Ends | None, Rest | None]:
    """How many rows more there are at most, between what their deviations from the told mean lie, and ``rest``."""
    span, others = lacking.span, rest(lacking, mean)
    k = lacking.rows if others is None else min(lacking.rows, others[0])
    if span is not None and not span[0] <= mean <= span[1]:
        raise ConfigError(f"values are said to lie in {list(span)}, and the mean of those that are told is {mean:.6g}")
    return k, None if span is None else (span[0] - mean, span[1] - mean), others


def _sums(ks: Array, span: Ends | None, others: Rest | None) -> tuple[Array, Array]:
    """(k,) the least and the most that so many deviations add up to."""
    low, high = np.full(len(ks), -np.inf), np.full(len(ks), np.inf)
    if span is not None:
        low, high = ks * span[0], ks * span[1]
    if others is not None:
        n, d, q = others
        width = np.sqrt(ks * (n - ks) / n * max(q - d * d / n, 0.0)) + _SLACK * np.sqrt(ks * q)
        low, high = np.maximum(low, ks * d / n - width), np.minimum(high, ks * d / n + width)
    return low, high


def _ends(n: int, k: int, span: Ends | None, others: Rest | None) -> Ends | None:
    """Of Σd / (n + k) over all numbers of rows up to ``k``. Of many, |Σd| <= sqrt(k Q), which over n + k is largest
    at k = n."""
    if span is None and others is None:
        return None
    if k <= _MOST:
        ks = np.arange(k + 1.0)
        low, high = _sums(ks, span, others)
        return float((low / (n + ks)).min()), float((high / (n + ks)).max())
    ends = (-math.inf, math.inf) if span is None else (k * span[0] / (n + k), k * span[1] / (n + k))
    width = math.inf if others is None else math.sqrt(min(n, k) * others[2]) / (n + min(n, k))
    return max(ends[0], -width), min(ends[1], width)
