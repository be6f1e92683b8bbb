"""Numbers as whole multiples of a power of two, so that their sums over rows and sites are exact, in every order.

A number v with |v| <= 2^e becomes the whole number nearest to v / 2^(e - 30), which 31 bits and a sign hold; 2^32 of
them add up in 64 bits. The exponent e is the same at all sites: it is known where a gradient has a bound; else the
sites count their rows by the exponent of |v|, and the largest that is found is that of all rows. Bounded ones are told
apart as float32 tells those just below 1 apart, so that sums of four bytes in place of five travel: each is off by at
most 2^-25. XGBoost holds small ones finer. Where every row begins with the same small g and h, as where one class is
seldom, these are off alike: of a share of 10^-4 by 3 in 10,000, of 10^-5 by 3 in 1,000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hanse.errors import DataError
from hanse.messages import Array

BITS = 30
FINEST = -24  # exponent of the unit of bounded numbers, where it is larger than what their bound allows
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


def bits(bound: float) -> int:
    """How many bits those of numbers from -``bound`` to ``bound`` have in units of :func:`unit`.

    >>> bits(1.0), bits(0.25), bits(3.0), bits(1000.0)
    (24, 22, 26, 30)
    """
    return bounded(bound) + BITS - unit(bound)


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
