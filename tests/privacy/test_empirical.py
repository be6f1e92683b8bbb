"""Empirical bounds: they hold as often as they say, and find what is there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hanse.privacy.empirical import at_least, least_epsilon, least_epsilon_of_guesses


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (1, 10), (7, 10), (10, 10), (950, 1000)])
def test_the_lower_end_is_clopper_and_pearsons(hits: int, trials: int) -> None:
    expected = stats.binomtest(hits, trials, alternative="greater").proportion_ci(0.95, "exact").low
    assert at_least(hits, trials, 0.05) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("guesses", [20, 200, 2000])
def test_of_coins_as_good_as_epsilon_the_bound_is_beyond_it_in_one_case_of_twenty(epsilon: float, guesses: int) -> None:
    right = np.arange(guesses + 1)
    wrong = np.array([least_epsilon_of_guesses(int(r), guesses, 0.95) > epsilon for r in right])
    chances = stats.binom.pmf(right, guesses, math.exp(epsilon) / (1 + math.exp(epsilon)))
    assert chances[wrong].sum() <= 0.05


def test_randomised_response_is_found_nearly_as_it_is() -> None:
    rng, size, epsilon = np.random.default_rng(0), 100_000, 1.0
    told = rng.random(size) < math.exp(epsilon) / (1 + math.exp(epsilon))
    found = least_epsilon((~told).astype(float), told.astype(float), 0.0, np.array([0.5]), 0.999)
    assert 0.95 < found < epsilon
