"""What the statistics are, exactly: rational numbers from the rows as they stand, and 60 digits where
a root, a logarithm or a tail of a distribution is needed. Slow, and for tests alone.

A float64 is a whole number times a power of two, so sums of powers of rows are whole numbers too;
nothing here is rounded before the last step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

mp = mpmath.mp.clone()
mp.dps = 60


def whole(x: Iterable[float]) -> tuple[list[int], Fraction]:
    """Whole numbers and the unit they are counted in."""
    ratios = [float(v).as_integer_ratio() for v in x]
    unit = max((d for _, d in ratios), default=1)  # all are powers of two
    return [n * (unit // d) for n, d in ratios], Fraction(1, unit)


def real(value: Fraction | int) -> Any:
    """A number of 60 digits."""
    return mp.mpf(value.numerator) / value.denominator


def total(x: Sequence[float]) -> Fraction:
    numbers, unit = whole(x)
    return sum(numbers) * unit


def mean(x: Sequence[float]) -> Fraction:
    return total(x) / len(x)


def powers(x: Sequence[float], order: int) -> list[Fraction]:
    """Central moments m_1 to m_order, each divided by n; the odd ones' absolute values besides."""
    numbers, unit = whole(x)
    n, s = len(numbers), sum(numbers)
    found = []
    for k in range(1, order + 1):
        found.append(Fraction(sum((n * v - s) ** k for v in numbers), n ** (k + 1)) * unit**k)
    return found


def absolute(x: Sequence[float], k: int) -> Fraction:
    """The absolute central moment of order k."""
    numbers, unit = whole(x)
    n, s = len(numbers), sum(numbers)
    return Fraction(sum(abs(n * v - s) ** k for v in numbers), n ** (k + 1)) * unit**k


def variance(x: Sequence[float], ddof: int = 1) -> Fraction:
    return powers(x, 2)[1] * len(x) / (len(x) - ddof)


def covariance(x: Sequence[float], y: Sequence[float], ddof: int = 1) -> Fraction:
    (a, u), (b, v), n = whole(x), whole(y), len(x)
    sa, sb = sum(a), sum(b)
    return Fraction(n * sum(p * q for p, q in zip(a, b, strict=True)) - sa * sb, n * (n - ddof)) * u * v


def skewness(x: Sequence[float], adjusted: bool = True) -> Any:
    n, (_, m2, m3) = len(x), powers(x, 3)
    found = real(m3) / mp.power(real(m2), 1.5)
    return found * mp.sqrt(n * (n - 1)) / (n - 2) if adjusted else found


def kurtosis(x: Sequence[float], adjusted: bool = True) -> Fraction:
    n, (_, m2, _, m4) = len(x), powers(x, 4)
    found = m4 / m2**2 - 3
    return Fraction(n - 1, (n - 2) * (n - 3)) * ((n + 1) * found + 6) if adjusted else found


def t_tail(t: Any, dof: Any) -> Any:
    """Both tails of Student's t."""
    return mp.betainc(dof / 2, mp.mpf(1) / 2, 0, dof / (dof + t * t), regularized=True)


def chi_square_tail(chi2: Any, dof: int) -> Any:
    return mp.gammainc(mp.mpf(dof) / 2, chi2 / 2, mp.inf, regularized=True)


def t_test(x: Sequence[float], y: Sequence[float], equal: bool) -> dict[str, Any]:
    n1, n2, v1, v2 = len(x), len(y), variance(x), variance(y)
    difference = mean(x) - mean(y)
    if equal:
        dof = Fraction(n1 + n2 - 2)
        error = ((n1 - 1) * v1 + (n2 - 1) * v2) / dof * (Fraction(1, n1) + Fraction(1, n2))
    else:
        a, b = v1 / n1, v2 / n2
        dof, error = (a + b) ** 2 / (a**2 / (n1 - 1) + b**2 / (n2 - 1)), a + b
    t = real(difference) / mp.sqrt(real(error))
    return {"difference": difference, "t": t, "dof": dof, "p": t_tail(t, real(dof))}


def chi_square(table: np.ndarray[Any, Any]) -> tuple[Fraction, Any]:
    counts = [[int(v) for v in row] for row in table]
    rows, columns = [sum(row) for row in counts], [sum(c) for c in zip(*counts, strict=True)]
    n, found = sum(rows), Fraction(0)
    for i, j in itertools.product(range(len(rows)), range(len(columns))):
        found += Fraction((counts[i][j] * n - rows[i] * columns[j]) ** 2, n * rows[i] * columns[j])
    return found, chi_square_tail(real(found), (len(rows) - 1) * (len(columns) - 1))


def mann_whitney(x: Sequence[float], y: Sequence[float]) -> tuple[Fraction, Any]:
    """U of x and the p-value with corrections for ties and continuity."""
    a, b = np.asarray(x), np.asarray(y)
    twice = sum(2 * int((b < v).sum()) + int((b == v).sum()) for v in a)
    n1, n2 = len(a), len(b)
    n, ties = n1 + n2, [int(c) for c in np.unique(np.concatenate([a, b]), return_counts=True)[1]]
    spread = Fraction(n1 * n2, 12) * (n + 1 - Fraction(sum(t**3 - t for t in ties), n * (n - 1)))
    u = Fraction(twice, 2)
    z = real(abs(u - Fraction(n1 * n2, 2)) - Fraction(1, 2)) / mp.sqrt(real(spread))
    return u, min(mp.mpf(1), mp.erfc(z / mp.sqrt(2)))


def kaplan_meier(time: Sequence[float], event: Sequence[float], level: float) -> list[tuple[Any, ...]]:
    """(time, survival, lower, upper) at each time at which somebody leaves."""
    t, e = np.asarray(time), np.asarray(event) != 0
    z = mp.sqrt(2) * mp.erfinv(mp.mpf(level))
    survival, spread, found = Fraction(1), Fraction(0), []
    for at in np.unique(t):
        risk, events = int((t >= at).sum()), int(((t == at) & e).sum())
        survival *= Fraction(risk - events, risk)
        lower, upper = (mp.mpf(1),) * 2 if survival == 1 else (None,) * 2
        if 0 < survival < 1:
            spread += Fraction(events, risk * (risk - events))
            log = mp.log(real(survival))
            width = z * mp.sqrt(real(spread)) / abs(log)
            lower, upper = (mp.exp(log * mp.exp(sign * width)) for sign in (1, -1))
        found.append((float(at), survival, lower, upper))
    return found


def logrank(time: Sequence[float], event: Sequence[float], group: Sequence[Any]) -> tuple[Fraction, Any, int] | None:
    """(chi2, p, rank) on a generalised inverse: groups that never meet another add no degree of freedom."""
    t, e, g = np.asarray(time), np.asarray(event) != 0, np.asarray(group)
    names = sorted(set(g.tolist()))
    k = len(names)
    z, v = [Fraction(0)] * k, [[Fraction(0)] * k for _ in range(k)]
    for at in np.unique(t[e]):
        risk = [int(((t >= at) & (g == name)).sum()) for name in names]
        events = [int(((t == at) & e & (g == name)).sum()) for name in names]
        n, d = sum(risk), sum(events)
        if n < 2:
            continue
        for i in range(k):
            z[i] += events[i] - Fraction(d * risk[i], n)
            for j in range(k):
                v[i][j] += Fraction(d * (n - d) * risk[i] * ((n if i == j else 0) - risk[j]), n * n * (n - 1))
    return _form(z, v)


def _form(z: list[Fraction], v: list[list[Fraction]]) -> tuple[Fraction, Any, int] | None:
    """z' v^- z of a singular v in whose range z lies: by elimination, without rounding."""
    rows = [[*row, value] for row, value in zip(v, z, strict=True)]
    k, found, rank = len(z), Fraction(0), 0
    for i in range(k):  # v is positive semidefinite: a zero on the diagonal is a zero row
        if rows[i][i] == 0:
            continue
        rank += 1
        found += rows[i][k] ** 2 / rows[i][i]
        for j in range(i + 1, k):
            factor = rows[j][i] / rows[i][i]
            rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return (found, chi_square_tail(real(found), rank), rank) if rank else None


def shift(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The rows about one of them where that loses nothing, for references that lose digits far from 0;
    else the rows as they are."""
    if not len(x):
        return x
    pivot = float(np.sort(x)[len(x) // 2])
    numbers, unit = whole(x)
    moved = x - pivot
    return (
        moved
        if all(Fraction(float(m)) == n * unit - Fraction(pivot) for m, n in zip(moved, numbers, strict=True))
        else x
    )
