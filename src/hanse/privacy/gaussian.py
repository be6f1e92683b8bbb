"""The analytic Gaussian mechanism: how much normal noise makes a sum (ε, δ)-differentially private, exactly.

With the most Δ that one unit (a person, a site) can change the sum by, and noise of standard deviation σ, the smallest
δ that holds for an ε is, with μ = Δ / σ and the normal distribution function Φ ::

    δ(ε) = Φ(μ/2 - ε/μ) - exp(ε) Φ(-μ/2 - ε/μ)

(Balle and Wang, theorem 8). It grows with μ, so the least σ follows by halving. Noises of several releases compose
exactly: μ² adds up (Dong, Roth and Su, corollary 2). For ε = 1, δ = 1e-5 and Δ = 1, σ is 3.73; the classical formula
σ = Δ √(2 log(1.25/δ)) / ε asks for 4.84 and holds for ε below 1 only.

References: Balle and Wang 2018, "Improving the Gaussian mechanism for differential privacy", theorem 8 and algorithm 1;
Dong, Roth and Su 2022, "Gaussian differential privacy".
"""

from __future__ import annotations

import math

from hanse.errors import ConfigError
from hanse.privacy.halving import ends


def delta_of(epsilon: float, mu: float) -> float:
    """δ(ε) of noise of standard deviation Δ / ``mu``.

    >>> f"{delta_of(1.0, 1 / 3.730632):.3g}"
    '1e-05'
    """
    if mu <= 0:
        return 0.0
    upper, lower = _log_phi(mu / 2 - epsilon / mu), _log_phi(-mu / 2 - epsilon / mu)
    return max(0.0, math.exp(upper) - math.exp(min(700.0, epsilon + lower)))


def epsilon_of(mu: float, delta: float) -> float:
    """The least ε from 0 for which δ(ε) is at most ``delta``."""
    _check(1.0, delta)
    if delta_of(0.0, mu) <= delta:
        return 0.0
    return ends(lambda epsilon: delta_of(epsilon, mu) > delta)[1]


def mu_of(epsilon: float, delta: float) -> float:
    """The largest μ = Δ / σ that is (ε, δ)-differentially private. Raises ``ConfigError`` for an impossible ε or δ."""
    _check(epsilon, delta)
    return ends(lambda mu: delta_of(epsilon, mu) <= delta)[0]


def sigma_of(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """The least σ for this ε, δ and sensitivity Δ.

    >>> round(sigma_of(1.0, 1e-5), 3)
    3.731
    """
    return sensitivity / mu_of(epsilon, delta)


def _check(epsilon: float, delta: float) -> None:
    if not (math.isfinite(epsilon) and epsilon > 0 and 0 < delta < 1):
        raise ConfigError(f"epsilon is {epsilon} and delta {delta}; expected an epsilon above 0 and a delta in (0, 1)")


def _log_phi(x: float) -> float:
    """log Φ(x), also far out, where Φ itself is no float64 any more."""
    if x > -30:
        return math.log(math.erfc(-x / math.sqrt(2)) / 2)
    square = 1 / x**2  # the asymptotic series: its next term is below 1e-9 here
    return -(x**2) / 2 - math.log(-x * math.sqrt(2 * math.pi)) + math.log1p(-square + 3 * square**2 - 15 * square**3)
