"""Numbers as whole multiples of a power of two, so that their sums over rows and sites are exact, in every order.

A number v with |v| <= 2^e becomes the whole number nearest to v / 2^(e - 30), which 31 bits and a sign hold; 2^32 of
them add up in 64 bits. The exponent e is the same at all sites: it is known where a gradient has a bound; else the
sites count their rows by the exponent of |v|, and the largest that is found is that of all rows. Bounded ones are told
apart as float32 tells those just below 1 apart, or coarser by as much as it takes that both sums of the fullest bin of
all sites are one number of 64 bits (:mod:`hanse.boosting.packed`), but no coarser than 2^-19: each is off by at most
2^-25, or 2^-20. XGBoost holds small ones finer. Where every row begins with the same small g and h, as where one class
is seldom, these are off alike: of a share of 10^-4 by 3 in 10,000 in units of 2^-24, by 1 in 100 in those of 2^-19.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from hanse.boosting import packed
from hanse.errors import DataError
from hanse.messages import Array

BITS = 30
FINEST = -24  # exponent of the unit of bounded numbers, where it is larger than what their bound allows
COARSEST = -19  # the same where it is chosen so that sums fit: one in 10,000 is told to 1 %
LOWEST, HIGHEST = -160, 160  # exponents that are told apart; float32 numbers have those from -148 to 128
SIZE = HIGHEST - LOWEST + 1


def magnitudes(values: Array) -> Array:
    """(columns, SIZE) int64: how many of the (n, columns) ``values`` have each exponent e, 2^(e - 1) <= |v| < 2^e.

    Raises ``DataError`` where one is NaN or infinite, which no unit holds.

    >>> np.flatnonzero(magnitudes(np.array([[0.5], [-3.0], [0.0]]))[0]) + LOWEST
    array([-160,    0,    2])
    """
    if not np.isfinite(values).all():
        raise DataError("the gradients of some targets are beyond float32; leave out or rescale the largest targets")
    exponents = np.where(values == 0, LOWEST, np.clip(np.frexp(values)[1], LOWEST, HIGHEST)) - LOWEST
    counts = [np.bincount(column, minlength=SIZE) for column in exponents.T]
    return np.array(counts, np.int64).reshape(values.shape[1], SIZE)


def settled(counts: Array) -> Array:
    """(columns,) int32: the exponent of the unit of each column, from the :func:`magnitudes` of all sites."""
    largest = SIZE - 1 - (counts[:, ::-1] > 0).argmax(axis=1)
    return np.where(counts.any(axis=1), largest + LOWEST - BITS, LOWEST - BITS).astype(np.int32)


def bounded(bound: float) -> int:
    """The exponent of the unit of numbers from -``bound`` to ``bound``.

    >>> bounded(1.0), bounded(0.25)
    (-30, -32)
    """
    fraction, exponent = math.frexp(bound)
    return exponent - (fraction == 0.5) - BITS


def unit(bound: float) -> int:
    """The same of gradients and Hessians of rows that weigh 1 each: no smaller than :data:`FINEST`.

    >>> unit(1.0), unit(0.25), unit(1000.0)
    (-24, -24, -20)
    """
    return max(bounded(bound), FINEST)


@functools.cache  # of the few of a run; each level of a tree asks it several times
def largest(bound: float, exponent: int) -> int:
    """What numbers from -``bound`` to ``bound`` are at most in units of 2^``exponent``.

    >>> largest(1.0, -24) == 1 << 24, largest(0.9, -2)
    (True, 4)
    """
    return math.ceil(math.ldexp(bound, -exponent))


def packable(bounds: Sequence[float], rows: int) -> tuple[int, int] | None:
    """The exponents of the units of gradients and Hessians of at most ``bounds``, no smaller than :func:`unit`, in
    which both sums of so many ``rows`` are one number (:func:`hanse.boosting.packed.fits`); None where they would be
    coarser than :data:`COARSEST`.

    Args:
        rows: of the fullest bin of all sites, however they lie there.

    >>> packable((1.0, 0.25), 100), packable((1.0, 0.25), 1954), packable((1.0, 0.25), 4095)
    ((-24, -24), (-20, -23), (-19, -22))
    >>> packable((1.0, 0.25), 4096), packable((1000.0, 250.0), 100)
    (None, None)
    """
    found = []
    for bound, most in zip(bounds, packed.MOST, strict=True):
        exponent = unit(bound)
        while exponent <= COARSEST and rows * largest(bound, exponent) > most:
            exponent += 1
        found.append(exponent)
    return (found[0], found[1]) if max(found) <= COARSEST else None


def room(bounds: Sequence[float]) -> int:
    """How many rows a bin may have whose sums are :func:`packable`; 0 where none may.

    >>> room((1.0, 0.25)), room((3.0, 0.75)), room((1000.0, 250.0))
    (4095, 1365, 4)
    """
    ends = (most // largest(bound, COARSEST) for bound, most in zip(bounds, packed.MOST, strict=True))
    return min(ends) if max(map(unit, bounds)) <= COARSEST else 0


def binned(place: Array, size: int, values: Array | None = None) -> Array:
    """(size,) int64: the sums of (n,) whole numbers from 0 to before 2^31 at each ``place``; None: how many there are.

    >>> binned(np.array([0, 2, 2]), 3, np.array([5, 1 << 30, 1])).tolist()
    [5, 0, 1073741825]
    """
    if values is None:
        return np.bincount(place, minlength=size).astype(np.int64)
    high, low = (np.bincount(place, part, size).astype(np.int64) for part in (values >> 16, values & 0xFFFF))
    return np.asarray((high << 16) + low)  # either part adds exactly in float64


def below(arrays: Mapping[str, Array], names: Sequence[str]) -> str:
    """What is wrong with those of ``arrays`` that are sums of numbers from 0; "" if nothing is.

    >>> below({"ranks": np.array([1, -2])}, ["ranks", "rows"])
    'its ranks are sums of numbers from 0, and some are below 0'
    """
    for name in names:
        if name in arrays and (np.asarray(arrays[name]) < 0).any():
            return f"its {name} are sums of numbers from 0, and some are below 0"
    return ""


def whole(values: Array, units: Array) -> Array:
    """(n, columns) float64 whole numbers: ``values`` in units of 2^``units``, to the nearest, of two the even one."""
    return np.asarray(np.rint(np.asarray(values, np.float64) * np.ldexp(1.0, -units)))  # a power of two: exact
