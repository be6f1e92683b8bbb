"""Clipping, noise and what it costs: against the formulas, published values, another library, and an attacker."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hanse.errors import ConfigError
from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Combine, Contribution, Gathered
from hanse.messages import Record
from hanse.privacy import accounting, clipping, concentrated, gaussian
from hanse.privacy.central import NoisedSum
from hanse.privacy.discrete_gaussian import sample
from hanse.privacy.drawing import Draws, key_for
from hanse.privacy.empirical import least_epsilon
from hanse.privacy.guarantee import ROW, of
from hanse.privacy.guarantee import settled as agreed
from hanse.privacy.halving import ends
from hanse.privacy.release import released

KEY = b"the key of these tests, no other"
GRID = [(e, d, s) for e in (0.01, 0.3, 1.0, 4.0, 20.0) for d in (1e-9, 1e-5, 1e-2) for s in (0.1, 1.0, 70.0)]


# ---------------------------------------------------------------- clipping


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=6), min_size=1, max_size=4), st.floats(0.01, 1e3))
def test_the_bound_is_that_of_all_arrays_together(arrays: list[list[float]], bound: float) -> None:
    named = {str(i): np.array(values) for i, values in enumerate(arrays)}
    whole = clipping.length(named)
    assert whole == pytest.approx(np.linalg.norm(np.concatenate(list(named.values()))), rel=1e-12)
    if whole > bound:
        assert clipping.length(clipping.scaled(named, bound / whole)) == pytest.approx(bound, rel=1e-9)


def test_an_adaptive_bound_goes_to_the_quantile() -> None:
    """Andrew et al., figure 1: from far below and far above, the bound ends where half of the norms are within."""
    norms = np.exp(np.random.default_rng(1).normal(3, 1, 2000))
    for bound in (0.01, 1e5):
        for _ in range(300):
            bound = clipping.adapted(bound, float(np.mean(norms <= bound)))
        assert np.mean(norms <= bound) == pytest.approx(0.5, abs=0.05)


# ---------------------------------------------------------------- the analytic Gaussian


def balle_wang(epsilon: float, sensitivity: float, sigma: float) -> float:
    """Theorem 8, as it stands there."""
    phi, mu = stats.norm.cdf, sensitivity / sigma
    return float(phi(mu / 2 - epsilon / mu) - math.exp(epsilon) * phi(-mu / 2 - epsilon / mu))


@pytest.mark.parametrize(("epsilon", "delta", "sensitivity"), GRID)
def test_sigma_is_the_least_that_the_formula_allows(epsilon: float, delta: float, sensitivity: float) -> None:
    sigma = gaussian.sigma_of(epsilon, delta, sensitivity)
    assert balle_wang(epsilon, sensitivity, sigma) == pytest.approx(delta, rel=1e-6)
    assert balle_wang(epsilon, sensitivity, sigma * 0.999) > delta
    assert gaussian.epsilon_of(sensitivity / sigma, delta) == pytest.approx(epsilon, rel=1e-9)


def test_published_values_of_the_analytic_gaussian() -> None:
    """3.73 where the classical formula says 4.84; and what sigma = 1 is really worth, at once and after 10 and 50."""
    assert gaussian.sigma_of(1.0, 1e-5) == pytest.approx(3.730632, abs=1e-6)
    assert math.sqrt(2 * math.log(1.25 / 1e-5)) == pytest.approx(4.845, abs=1e-3)
    told = [gaussian.epsilon_of(math.sqrt(rounds), 1e-5) for rounds in (1, 10, 50)]
    assert told == pytest.approx([4.377178, 17.856587, 54.376639], abs=1e-6)


def test_far_out_nothing_is_lost_to_rounding() -> None:
    assert 0 < gaussian.delta_of(80.0, 2.0) < 1e-300 or gaussian.delta_of(80.0, 2.0) == 0.0
    assert gaussian.epsilon_of(1e-9, 1e-5) == 0.0
    assert gaussian.epsilon_of(100.0, 1e-12) == pytest.approx(100.0**2 / 2 + 100.0 * 7.0344, rel=1e-3)  # Φ⁻¹(1 - 1e-12)
    for wrong in ((0.0, 1e-5), (-1.0, 1e-5), (1.0, 0.0), (1.0, 1.0), (math.nan, 0.1)):
        with pytest.raises(ConfigError, match="expected an epsilon above 0"):
            gaussian.mu_of(*wrong)


# ---------------------------------------------------------------- composition


@settings(deadline=None)
@given(st.floats(0.01, 30.0), st.sampled_from([1e-9, 1e-5, 1e-2]))
def test_rho_and_epsilon_are_each_others_inverse_and_never_below_the_exact_value(epsilon: float, delta: float) -> None:
    rho = concentrated.rho_of(epsilon, delta)
    assert concentrated.epsilon_of(rho, delta) == pytest.approx(epsilon, rel=1e-9)
    assert concentrated.epsilon_of(rho, delta) >= gaussian.epsilon_of(math.sqrt(2 * rho), delta) * (1 - 1e-9)


@pytest.mark.parametrize("most", [0.3, 1.0, 12.0, 1e6])
def test_halving_ends_where_no_number_lies_between(most: float) -> None:
    asked: list[float] = []
    assert ends(lambda x: (asked.append(x), x <= most)[1])[:2] == (most, math.nextafter(most, math.inf))  # type: ignore[func-returns-value]
    assert len(asked) == len(set(asked)) < 80


@pytest.mark.parametrize("rounds", [1, 10, 200])
def test_composition_equals_what_dp_accounting_says(rounds: int) -> None:
    """Without sampling: concentrated as its Rényi accountant, exact as that of privacy losses."""
    pytest.importorskip("dp_accounting")
    for multiplier in (2.0, 8.0, 40.0):
        rho = rounds * concentrated.rho_of_noise(1.0, multiplier)
        renyi = accounting.epsilon_of(multiplier, rounds, 1e-5, by="rdp")
        assert concentrated.epsilon_of(rho, 1e-5) == pytest.approx(renyi, rel=2e-2)
        assert concentrated.epsilon_of(rho, 1e-5) <= renyi * 1.0001  # it tries some orders, we all
        losses = accounting.epsilon_of(multiplier, rounds, 1e-5, by="pld")
        assert gaussian.epsilon_of(math.sqrt(rounds) / multiplier, 1e-5) == pytest.approx(losses, rel=2e-3)


def test_rounds_of_samples_cost_what_was_published() -> None:
    """Abadi et al. 2016, section 3: q = 0.01, sigma = 4, 10,000 steps, delta = 1e-5 give epsilon 1.26 by moments (what
    composition without them makes 9.34); today's accountants find less."""
    pytest.importorskip("dp_accounting")
    renyi, losses = (accounting.epsilon_of(4.0, 10_000, 1e-5, 0.01, by) for by in ("rdp", "pld"))
    assert 0.9 < losses < renyi < 1.26
    for wrong in ({"multiplier": 0.0}, {"rounds": 0}, {"sampling": 1.5}, {"delta": 0.0}, {"by": "guess"}):
        with pytest.raises(ConfigError, match="expected noise above 0"):
            accounting.epsilon_of(**{"multiplier": 1.0, "rounds": 1, "delta": 1e-5, **wrong})  # type: ignore[arg-type]


# ---------------------------------------------------------------- discrete noise


def mass(sigma: float, far: int) -> np.ndarray:
    weights = np.exp(-(np.arange(-far, far + 1) ** 2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum())


@pytest.mark.parametrize("sigma", [Fraction(1, 2), Fraction(1), Fraction(5, 2), Fraction(7)])
def test_discrete_noise_has_the_distribution_of_its_definition(sigma: Fraction) -> None:
    far, size = int(8 * sigma) + 4, 200_000
    found = np.bincount(sample(size, sigma, Draws(KEY)) + far, minlength=2 * far + 1)
    expected = mass(float(sigma), far) * size
    likely = expected > 20
    assert stats.chisquare(found[likely], expected[likely] * found[likely].sum() / expected[likely].sum()).pvalue > 1e-4
    assert not found[expected < 1e-6].any()


def test_its_variance_is_what_it_is_and_not_the_square_of_sigma() -> None:
    values = np.arange(-12, 13) ** 2
    assert float(values @ mass(0.5, 12)) == pytest.approx(0.215, abs=5e-4)
    assert sample(400_000, Fraction(1, 2), Draws(KEY)).var() == pytest.approx(float(values @ mass(0.5, 12)), rel=0.01)


def test_large_noise_is_normal() -> None:
    sigma = 1 << 19
    found = sample(100_000, sigma, Draws(KEY)) / sigma
    assert stats.kstest(found, "norm").pvalue > 1e-4
    assert len(np.unique(found)) > 90_000


def test_what_it_draws_follows_from_the_key_alone() -> None:
    one = sample(1000, 9, Draws(key_for(KEY, b"a")))
    assert np.array_equal(one, sample(1000, 9, Draws(key_for(KEY, b"a"))))
    assert not np.array_equal(one, sample(1000, 9, Draws(key_for(KEY, b"b"))))
    assert key_for(KEY, b"ab", b"c") != key_for(KEY, b"a", b"bc")
    with pytest.raises(ConfigError, match="expected at least 16"):
        Draws(b"short")
    for wrong in (0, Fraction(-1, 2), 1 << 30, Fraction(10**9 + 7, 10**9 + 9)):
        with pytest.raises(ConfigError, match="deviation"):
            sample(1, wrong, Draws(KEY))


@pytest.mark.parametrize("bound", [1, 2, 3, 5, 1000, (1 << 40) + 1])
def test_whole_numbers_below_a_bound_are_uniform(bound: int) -> None:
    found = Draws(KEY).below(bound, 40_000)
    assert found.min() >= 0
    assert found.max() < bound
    bins = min(bound, 50)
    counts = np.bincount(found * bins // bound if bound < 1 << 50 else found, minlength=bins)
    width = np.diff([-(-bound * i // bins) for i in range(bins + 1)])
    assert bins == 1 or stats.chisquare(counts, 40_000 * width / width.sum()).pvalue > 1e-4


# ---------------------------------------------------------------- an attacker who tells two data sets apart


SIZE, DELTA = 100_000, 1e-5
_RHO = concentrated.rho_of(1.0, DELTA)
_SIGMA = concentrated.sigma_of(_RHO)


def analytic(x: float, draws: Draws) -> np.ndarray:
    uniform = (draws.words(SIZE) >> np.uint64(11)) * 2.0**-53
    return np.asarray(x + gaussian.sigma_of(1.0, DELTA) * stats.norm.ppf(np.clip(uniform, 2.0**-54, 1 - 2.0**-54)))


def discrete(x: float, draws: Draws) -> np.ndarray:
    return np.asarray(x + sample(SIZE, Fraction(_SIGMA).limit_denominator(16), draws))


def as_released(mode: str, nodes: int) -> Callable[[float, Draws], np.ndarray]:
    """What leaves all trusted hands, as runs make it: so many nodes, of which one has x and the others nothing. Each of
    many numbers stands for a release of its own, of which one row changes that one number by 1."""

    def mechanism(x: float, draws: Draws) -> np.ndarray:
        promised = of(agreed({"mode": mode, "epsilon": 1.0, "delta": DELTA}), ROW, 1, nodes)
        secret = draws.words(4).tobytes()
        answers = []
        for node in range(nodes):
            numbers = Record({}, {"x": np.full(SIZE, x if node == 0 else 0.0)})
            contribution = Contribution(numbers, sensitivity=1.0)
            found, _ = released(
                contribution, Combine.SUM, promised, lambda own, n=node: key_for(secret, own, bytes([n]))
            )
            answer = Answer(f"n{node}", found.weight, found.record.data, {}, 0, claimed=found.weight)
            answers.append((answer, Record({}, {"a.x": found.record.arrays["x"]})))
        together: Gathered = Contributions(tuple(answers), {}, Combine.SUM)
        if mode == "central":
            together = NoisedSum(together, promised, lambda own: key_for(secret, own))
        others = nodes - 1 if mode == "distributed" else 0  # one of the other nodes knows its own noise, and tells it
        return np.asarray(together.sum()["x"] - (answers[others][1].arrays["a.x"] if others else 0.0))

    mechanism.__name__ = mode
    return mechanism


@pytest.mark.parametrize(
    "mechanism", [analytic, discrete, as_released("local", 1), as_released("distributed", 4), as_released("central", 3)]
)
def test_an_attacker_finds_no_more_than_is_claimed(mechanism: Callable[[float, Draws], np.ndarray]) -> None:
    without, one = (mechanism(x, Draws(key_for(KEY, str(x).encode()))) for x in (0.0, 1.0))
    found = least_epsilon(without, one, DELTA, np.linspace(-2, 12, 30), 0.999)
    assert 0.2 < found < 1.0  # it does find something, so the attack is one


def test_the_attack_convicts_noise_that_is_too_small() -> None:
    """Sigma 1 for epsilon 1, as formulas without delta have it: the attacker proves more than 1."""
    draws = Draws(KEY)
    without, one = sample(SIZE, 1, draws), 1 + sample(SIZE, 1, draws)
    assert least_epsilon(without, one, DELTA, np.arange(-3, 6) + 0.5, 0.999) > 1.5
