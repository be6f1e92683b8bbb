"""The least ε that what an attacker got can come from.

A test that says "with" of values above a cut is right of what was made with a unit with probability p, and wrong of
what was made without it with probability q. Of an (ε, δ)-differentially private mechanism p ≤ exp(ε) q + δ holds for
every test, so ::

    ε ≥ log((p - δ) / q)

With p and q from their Clopper-Pearson bounds, over all cuts together, this is a bound of a stated confidence: a claim
below it is wrong. It says nothing of how private something is, as another attack may find more.

Where rows were taken into one run each by a fair coin of its own, guesses of the coins are right no more often than
coins of probability exp(ε) / (1 + exp(ε)) would be (δ = 0), however the guesses depend on each other. So of r right
ones out of m, with p the lower bound of r / m, ε ≥ log(p / (1 - p)).

References: Jagielski, Ullman and Oprea 2020, "Auditing differentially private machine learning: how private is private
SGD?", section 3; Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", theorem 5.1.
"""

from __future__ import annotations

import math

from hanse.messages import Array


def least_epsilon(without: Array, one: Array, delta: float, cuts: Array, confidence: float) -> float:
    """ε is at least so much; 0 where nothing was found.

    Args:
        without, one: (n,) and (m,) values of runs without the unit, and with it; the latter are said to be larger.
        delta: that is granted, from 0.
        cuts: (k,) thresholds, chosen beforehand.
        confidence: that the bound is true, in (0, 1).

    >>> import numpy as np
    >>> round(least_epsilon(np.zeros(1000), np.ones(1000), 0.0, np.array([0.5]), 0.95), 2)
    5.6
    """
    best, level = 0.0, (1 - confidence) / (2 * len(cuts))
    for cut in cuts:
        true, false = int((one > cut).sum()), int((without > cut).sum())
        surely = at_least(true, len(one), level)
        at_most = 1 - at_least(len(without) - false, len(without), level)
        if surely > delta:
            best = max(best, math.log((surely - delta) / at_most))
    return best


def least_epsilon_of_guesses(right: int, guesses: int, confidence: float) -> float:
    """ε is at least so much, where ``right`` of so many guesses of fair coins were right.

    >>> round(least_epsilon_of_guesses(90, 100, 0.95), 2), least_epsilon_of_guesses(50, 100, 0.95)
    (1.63, 0.0)
    """
    p = at_least(right, guesses, 1 - confidence)
    return max(0.0, math.log(p / (1 - p))) if p > 0 else 0.0


def at_least(hits: int, trials: int, level: float) -> float:
    """The lower end of Clopper and Pearson's interval of a probability: with 1 - ``level`` it is not below."""
    from scipy import special

    return float(special.betaincinv(hits, trials - hits + 1, level)) if hits else 0.0
