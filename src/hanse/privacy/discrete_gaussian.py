"""Discrete Gaussian noise: whole numbers x with probability proportional to exp(-x² / 2σ²), drawn exactly.

Sampling uses whole numbers alone, so no rounding of floating-point numbers makes one value likelier than it should be,
which has told what Gaussian noise of float64 was added to (Mironov 2012). The noise has mean 0 and a variance of at
most σ²; where σ is small it is less (0.215 at σ = 0.5, not 0.25).

A proposal Y from the discrete Laplace distribution of scale t is taken with probability
exp(-(|Y| - σ²/t)² / 2σ²), and the coins of probability exp(-γ) that both need are tossed by von Neumann's method: toss
coins of probability γ/1, γ/2, γ/3, ... until one fails; the number of the toss is odd with probability exp(-γ).

References: Canonne, Kamath and Steinke 2020, "The discrete Gaussian for differential privacy", algorithms 1 to 3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array
from hanse.privacy.drawing import Draws

if TYPE_CHECKING:
    from fractions import Fraction

_FAR = 64  # times t: a Laplace proposal this far out has probability exp(-64), and is never taken
_BATCH = 1 << 16


def sample(size: int, sigma: Fraction | int, draws: Draws) -> Array:
    """(size,) int64 of independent discrete Gaussian noise.

    Args:
        sigma: σ, a whole number up to 2²⁴ or a small fraction such as 1/2.
        draws: where its random numbers come from.

    Raises:
        ConfigError: σ is not above 0, or its numerator and denominator are too large for 64 bits.
    """
    coins = _Acceptance(sigma)
    found = np.empty(size, np.int64)
    done = 0
    while done < size:
        batch = min(_BATCH, 2 * (size - done) + 64)
        proposed = _laplace(batch, coins.scale, draws)
        taken = proposed[coins.toss(np.abs(proposed), draws)][: size - done]
        found[done : done + taken.size] = taken
        done += taken.size
    return found


class _Acceptance:
    """Whether a proposal is taken: γ = (|Y| t b² - a²)² / 2 a² b² t² for σ = a/b, without common factors."""

    def __init__(self, sigma: Fraction | int) -> None:
        a, b = int(sigma.numerator), int(sigma.denominator)
        if a <= 0:
            raise ConfigError(f"the deviation of noise is {sigma}; expected a number above 0")
        self.scale = t = a if b == 1 else a // b + 1
        common = math.gcd(t * b * b, a * a)
        self._times, self._less = t * b * b // common, a * a // common
        over, under = common * common, 2 * a * a * b * b * t * t
        shared = math.gcd(over, under)
        self._over, self._under = over // shared, under // shared
        if (self._times * _FAR * t) ** 2 * self._over >= 1 << 62 or self._under * _FAR >= 1 << 62:
            raise ConfigError(f"the deviation {sigma} of discrete noise is too large, or too fine, for exact sampling")

    def toss(self, far: Array, draws: Draws) -> Array:
        distance = far * self._times - self._less
        return _exponential(distance * distance * self._over, self._under, draws)


def _laplace(size: int, t: int, draws: Draws) -> Array:
    """Fewer than ``size`` numbers of the discrete Laplace distribution, proportional to exp(-|y|/t) (algorithm 2)."""
    low = draws.below(t, size)
    low = low[_exponential(low, t, draws)]
    high = np.zeros(low.size, np.int64)
    going = np.arange(low.size)
    while going.size:
        going = going[_exponential(np.ones(going.size, np.int64), 1, draws)]
        high[going] += 1
    found = low + t * np.minimum(high, _FAR - 1)
    negative = draws.bits(found.size)
    return np.asarray(np.where(negative, -found, found)[~(negative & (found == 0))])


def _exponential(numerator: Array, denominator: int, draws: Draws) -> Array:
    """(n,) bool, each true with probability exp(-numerator / denominator), from 0 on (algorithm 1)."""
    whole, rest = numerator // denominator, numerator % denominator
    fine = np.ones(numerator.size, bool)
    left = np.flatnonzero(whole > 0)
    while left.size:  # exp(-1) as often as γ has whole parts
        passed = _below_one(np.ones(left.size, np.int64), 1, draws)
        fine[left[~passed]] = False
        whole[left] -= 1
        left = left[passed & (whole[left] > 0)]
    going = np.flatnonzero(fine & (rest > 0))
    fine[going] = _below_one(rest[going], denominator, draws)
    return fine


def _below_one(numerator: Array, denominator: int, draws: Draws) -> Array:
    """The same for γ = numerator / denominator up to 1: the number of the first toss that fails is odd."""
    odd = np.zeros(numerator.size, bool)
    going, toss = np.arange(numerator.size), 1
    while going.size:
        failed = draws.below(denominator * toss, going.size) >= numerator[going]
        odd[going[failed]] = toss % 2 == 1
        going, toss = going[~failed], toss + 1
    return odd
