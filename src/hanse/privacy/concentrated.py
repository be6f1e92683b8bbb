"""Concentrated differential privacy: what the noise of several releases costs together, and what (ε, δ) that is.

Gaussian noise of standard deviation σ, continuous or on whole numbers, on a sum that one unit changes by at most Δ is
ρ-concentrated differentially private with ρ = Δ² / 2σ², and ρ adds up over releases, whatever is asked in between. A
total of ρ is (ε, δ)-differentially private for every order α > 1 with ::

    ε = α ρ + (log(1/δ) + α log(1 - 1/α) - log(α - 1)) / (α - 1)

of which the least is taken. This holds for discrete noise of any number of dimensions, where the exact formula of
:mod:`hanse.privacy.gaussian` does not, and asks for somewhat more noise: σ 4.05 for ε = 1, δ = 1e-5, Δ = 1.

References: Bun and Steinke 2016, "Concentrated differential privacy"; Canonne, Kamath and Steinke 2020, "The discrete
Gaussian for differential privacy", theorem 4 (ρ of the discrete noise) and proposition 12 (its ε and δ).
"""

from __future__ import annotations

import functools
import math

from hanse.errors import ConfigError
from hanse.privacy.halving import ends

_STEPS = 200  # of golden sections, at most: float64 has no more


def rho_of_noise(sensitivity: float, sigma: float) -> float:
    """ρ of one release."""
    return sensitivity**2 / (2 * sigma**2)


def sigma_of(rho: float, sensitivity: float = 1.0) -> float:
    """The standard deviation that makes one release cost ``rho``."""
    return sensitivity / math.sqrt(2 * rho)


def epsilon_of(rho: float, delta: float) -> float:
    """The least ε of all orders; 0 where nothing was released.

    >>> round(epsilon_of(rho_of_noise(1.0, 4.045131), 1e-5), 3), epsilon_of(0.0, 1e-5)
    (1.0, 0.0)
    """
    if not 0 < delta < 1:
        raise ConfigError(f"delta is {delta}; expected a number above 0 and below 1")
    if rho <= 0:
        return 0.0

    def at(log_excess: float) -> float:
        excess = math.exp(log_excess)  # α - 1
        alpha = 1 + excess
        rest = math.log(1 / delta) + alpha * math.log(excess / alpha) - log_excess
        return alpha * rho + rest / excess

    low, high = math.log(1e-6), math.log(1e12)
    third = (math.sqrt(5) - 1) / 2
    for _ in range(_STEPS):  # one minimum: golden sections
        left, right = high - third * (high - low), low + third * (high - low)
        narrower = (low, right) if at(left) <= at(right) else (left, high)
        if narrower == (low, high):  # and so it would stay
            break
        low, high = narrower
    return max(0.0, at((low + high) / 2))


@functools.lru_cache(256)  # a run's owners, its nodes and its records all ask for the same one
def rho_of(epsilon: float, delta: float) -> float:
    """The largest ρ that is (ε, δ)-differentially private. Raises ``ConfigError`` for an ε or δ that is none."""
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ConfigError(f"epsilon is {epsilon}; expected a number above 0")
    return ends(lambda rho: epsilon_of(rho, delta) <= epsilon)[0]
