"""What a Gaussian release costs that takes each unit with a small probability, secretly: Rényi differential privacy.

A sum over a Poisson sample, each unit in it with probability q by a coin of its own, with noise of z times what one
unit changes it by, has for each whole order α from 2 on a Rényi divergence of at most ::

    ε(α) = 1/(α-1) · log Σ_{k=0..α} C(α,k) (1-q)^{α-k} q^k exp(k (k-1) / 2z²)

which adds up over releases, whatever is done in between; with q = 1 it is α ρ of :mod:`hanse.privacy.concentrated`. A
total is (ε, δ)-differentially private with the least over α of ::

    ε = ε(α) + (log(1/δ) + (α-1) log(1 - 1/α) - log α) / (α-1)

This holds for discrete noise as it does for continuous: the sum needs of it the divergence of whole orders between the
noise and its shift, which is at most k/2z² for both, and that a reflection swaps the two.

References: Mironov, Talwar and Zhang 2019, "Rényi differential privacy of the sampled Gaussian mechanism", section 3.3
(the sum) and theorem 5 (the reflection: the other direction is no larger); Canonne, Kamath and Steinke 2020, "The
discrete Gaussian for differential privacy", proposition 5 (the divergence of discrete noise) and 12 (ε and δ).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array
from hanse.privacy.halving import ends

ORDERS = (*range(2, 33), 36, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
"""α. Whole ones alone: for ε above 20, orders between 1 and 2 would prove as much with less noise."""


def divergence(sampling: float, multiplier: float, order: int) -> float:
    """ε(α) of one release.

    Args:
        sampling: q, from 0 to 1.
        multiplier: z, above 0.
        order: α, at least 2.

    >>> divergence(1.0, 2.0, 8) == 8 / (2 * 2.0**2)
    True
    """
    if sampling == 1.0 or sampling == 0.0:
        return sampling * order / (2 * multiplier**2)
    k = np.arange(order + 1)
    terms = (
        _log_binomials(order)
        + (order - k) * math.log1p(-sampling)
        + k * math.log(sampling)
        + k * (k - 1) / (2 * multiplier**2)
    )
    most = float(terms.max())
    return max(0.0, (most + math.log(float(np.exp(terms - most).sum()))) / (order - 1))


@functools.lru_cache(len(ORDERS))
def _log_binomials(order: int) -> Array:
    factorials = np.array([math.lgamma(i + 1) for i in range(order + 1)])
    return np.asarray(factorials[-1] - factorials - factorials[::-1])


def curve(sampling: float, multiplier: float) -> dict[int, float]:
    """Order to ε(α) of one release, for all of :data:`ORDERS`."""
    return {order: divergence(sampling, multiplier, order) for order in ORDERS}


def epsilon_of(total: Mapping[int, float], delta: float) -> float:
    """The least ε of all orders in ``total``, α to what releases cost together; 0 where they cost nothing."""
    if not 0 < delta < 1:
        raise ConfigError(f"delta is {delta}; expected a number above 0 and below 1")
    if not any(total.values()):
        return 0.0
    return max(
        0.0,
        min(
            cost + (math.log(1 / delta) + (order - 1) * math.log1p(-1 / order) - math.log(order)) / (order - 1)
            for order, cost in total.items()
        ),
    )


@functools.lru_cache(256)
def multiplier_of(epsilon: float, delta: float, steps: int, sampling: float) -> float:
    """The least z for which ``steps`` releases are (ε, δ)-differentially private together.

    Raises:
        ConfigError: ε or δ is none, or none of the orders here proves so small an ε.

    >>> round(multiplier_of(1.0, 1e-5, 1000, 0.01), 2), round(multiplier_of(1.0, 1e-5, 1000, 1.0), 1)
    (1.51, 127.9)
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ConfigError(f"epsilon is {epsilon}; expected a number above 0")

    def within(inverse: float) -> bool:  # of z
        if not inverse:
            return True
        return epsilon_of({a: steps * e for a, e in curve(sampling, 1 / inverse).items()}, delta) <= epsilon

    found = ends(within)[0]
    if not found > 1e-9:
        raise ConfigError(
            f"no noise is known to make {steps} sampled steps epsilon {epsilon:g} at delta {delta:g}; "
            "set epsilon or delta higher"
        )
    return 1 / found
