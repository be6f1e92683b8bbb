"""The exponential function in operations that every processor rounds alike.

A library's exp is made for each kind of processor, so two nodes may differ in the last bit of it, and with it a
histogram, a split and the model. Here only +, * and a table of exact powers are used, in float64, as in glibc's
``expf``; each of them is rounded as IEEE 754 says, everywhere. With N = 32, k whole and r within half of 1/N::

    x / ln 2 = k/N + r/N,   exp(x) = 2^(k/N) 2^(r/N),   2^(r/N) ~ 1 + C2 r + C1 r² + C0 r³

The result is rounded to float32 once and is within 0.502 units of its last place, and what XGBoost computes with on
Linux. Reference: Szabolcs Nagy, ARM Optimized Routines, ``math/expf.c``.
"""

from __future__ import annotations

import math

import numpy as np

from hanse.boosting.compiled import compiled, worthwhile
from hanse.messages import Array

_WHOLE = 5
_N = 1 << _WHOLE
_LOW, _HIGH = float.fromhex("-0x1.9fe368p6"), float.fromhex("0x1.62e42ep6")  # beyond: 0, and infinity, in float32
_PER_LN2 = float.fromhex("0x1.71547652b82fep+0") * _N
_C0, _C1, _C2 = (
    float.fromhex("0x1.c6af84b912394p-5") / _N**3,
    float.fromhex("0x1.ebfce50fac4f3p-3") / _N**2,
    float.fromhex("0x1.62e42ff0c52d6p-1") / _N,
)


def _powers() -> Array:
    """(N,) the bits of 2^(i/N), correctly rounded: five square roots of whole numbers are exact to 100 digits."""
    found = np.zeros(_N)
    for i in range(_N):
        root = 1 << (100 * _N + i)  # (2^(i/N) 2^100)^N
        for _ in range(5):
            root = math.isqrt(root)
        found[i] = root / (1 << 100)
    return found.view(np.int64)


_POWERS = _powers()


def exp(x: Array) -> Array:
    """exp(x) as float32, of float32 ``x`` of any shape; the same bits on every processor.

    >>> exp(np.float32([0.0, 1.0, -200.0, 100.0, np.nan])).tolist()
    [1.0, 2.7182817459106445, 0.0, inf, nan]
    """
    x = np.asarray(x, np.float32)
    if worthwhile():
        result = np.empty(x.shape, np.float32)
        _exp_compiled(np.ascontiguousarray(x).reshape(-1), _POWERS, np.empty(x.size, np.int64), result.reshape(-1))
        return result
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):  # NaN has no whole part, and stays NaN by r
        found = _exp(x.reshape(-1)).astype(np.float32).reshape(x.shape)
    for beyond, value in ((x > np.float32(_HIGH), np.inf), (x < np.float32(_LOW), 0.0)):
        if beyond.any():
            found[beyond] = value
    return np.asarray(found)


@compiled
def _exp_compiled(x: Array, powers: Array, power: Array, found: Array) -> None:
    """The same as :func:`_exp` computes, and what is beyond, in one look at each number.

    Args:
        powers: of 2^(i/N), their bits.
        power: (n,) int64, overwritten.
        found: (n,) float32, written.
    """
    for i in range(len(x)):
        k = np.int64(np.rint(min(max(np.float64(x[i]), _LOW), _HIGH) * _PER_LN2))
        power[i] = powers[k & (_N - 1)] + ((k >> _WHOLE) << 52)
    exact = power.view(np.float64)
    for i in range(len(x)):
        scaled = min(max(np.float64(x[i]), _LOW), _HIGH) * _PER_LN2
        r = scaled - np.rint(scaled)
        found[i] = np.float32(((_C0 * r + _C1) * (r * r) + (_C2 * r + 1.0)) * exact[i])
        if x[i] != x[i]:
            found[i] = x[i]
        elif x[i] > np.float32(_HIGH):
            found[i] = np.inf
        elif x[i] < np.float32(_LOW):
            found[i] = 0.0


def _exp(x: Array) -> Array:
    """In float64; most is written over what was there, since memory is what it waits for."""
    scaled = np.clip(x.astype(np.float64), _LOW, _HIGH)
    scaled *= _PER_LN2
    nearest = np.rint(scaled)
    r = np.subtract(scaled, nearest, out=scaled)
    k = nearest.astype(np.int64)
    power = _POWERS[k & (_N - 1)]  # k modulo N
    k >>= _WHOLE  # k / N, rounded down
    k <<= 52
    power += k
    found = _C0 * r
    found += _C1
    found *= r * r
    found += _C2 * r + 1.0
    found *= power.view(np.float64)
    return found
