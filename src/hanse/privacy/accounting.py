"""What many rounds cost together where each takes a random sample of the units, by Google's ``dp-accounting``.

A round that takes each unit with probability q, secretly and independently, and adds Gaussian noise of z times the
sensitivity, tells less than one that takes everybody. How much less over T rounds, two accountants say: ``pld``, by
the distributions of privacy losses, nearly exactly; ``rdp``, by Rényi divergences, coarser and quicker. Without
sampling the Gaussian's own formula (:mod:`hanse.privacy.gaussian`) is exact, and both come close to it.

It does **not** hold for the sampling of sites by a run (``fraction``): whom a round asks follows from the seed of the
proposal, which everybody reads, so nothing of it is secret.

References: Mironov, Talwar and Zhang 2019, "Rényi differential privacy of the sampled Gaussian mechanism"; Koskela et
al. 2020, "Computing tight differential privacy guarantees using FFT".
"""

from __future__ import annotations

from typing import Any

from hanse.errors import ConfigError

ACCOUNTANTS = ("pld", "rdp")


def epsilon_of(multiplier: float, rounds: int, delta: float, sampling: float = 1.0, by: str = "pld") -> float:
    """ε of ``rounds`` rounds.

    Args:
        multiplier: z, the standard deviation of the noise over the sensitivity, above 0.
        rounds: T, at least 1.
        delta: in (0, 1).
        sampling: q, in (0, 1].
        by: ``pld`` or ``rdp``.

    Raises:
        ConfigError: dp-accounting is not installed, or a value is out of range.
    """
    if not (multiplier > 0 and rounds >= 1 and 0 < delta < 1 and 0 < sampling <= 1 and by in ACCOUNTANTS):
        raise ConfigError(
            f"noise {multiplier}, {rounds} rounds, delta {delta}, sampling {sampling}, {by!r}; expected noise above 0, "
            f"at least one round, delta in (0, 1), sampling in (0, 1], and one of {', '.join(ACCOUNTANTS)}"
        )
    library = _library()
    event = library.GaussianDpEvent(multiplier)
    if sampling < 1:
        event = library.PoissonSampledDpEvent(sampling, event)
    accountant = library.pld.PLDAccountant() if by == "pld" else library.rdp.RdpAccountant()
    return float(accountant.compose(event, rounds).get_epsilon(delta))


def _library() -> Any:
    try:
        import dp_accounting
        import dp_accounting.pld
        import dp_accounting.rdp
    except ImportError:
        raise ConfigError(
            "accounting for sampling needs dp-accounting; install it with pip install 'hanse[privacy]'"
        ) from None
    return dp_accounting
