"""Learning without sampling: noise that adds up in a tree, in how many sums a row is, and what is learned."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from noised_runs import FEATURES, pooled_auc, same_noise, sites, table

import hanse
from hanse.algorithms._noised_steps import Walk
from hanse.algorithms.dp_ftrl import noised_steps, tree
from hanse.algorithms.dp_sgd import sampled
from hanse.errors import ConfigError
from hanse.privacy import guarantee
from hanse.privacy.drawing import key_for
from hanse.privacy.empirical import least_epsilon
from hanse.privacy.guarantee import Guarantee
from hanse.privacy.steps import Steps


def levels(parts: int) -> int:
    class Config:
        ingredient_settings = {"parts": parts}  # noqa: RUF012

    return noised_steps(Config())[0]  # type: ignore[arg-type]


def promised(parts: int, epsilon: float = 1.0) -> Guarantee:
    return guarantee.of(guarantee.settled({"epsilon": epsilon}), "row", 1, 1, levels(parts), 1.0)


class Silent:
    """Noise that is none, and keeps which rows were in each sum."""

    def __init__(self, part: Any) -> None:
        self.part, self.seen = part, list[Any]()

    def parts(self, rows: int, count: int) -> Any:
        return self.part

    def noised(self, arrays: Any, bound: float, rows: Any = None) -> Any:
        self.seen.append(rows)
        return arrays


def walk(noise: Any, gradients: Any, parts: int, **settings: Any) -> Walk:
    return Walk(
        rows=len(gradients),
        declared=float(len(gradients)),
        bound=1.0,
        noise=noise,
        clipped=lambda w, taken: {"w": gradients[taken].sum(0)},
        penalty=lambda w: {},
        settings={"parts": parts, "private_step_size": 1.0, **settings},
        step=lambda: None,
    )


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 8, 13, 64])
def test_a_row_is_in_no_more_sums_than_are_counted_and_some_row_is_in_all_of_them(parts: int) -> None:
    rng = np.random.default_rng(parts)
    gradients, part = rng.normal(size=(300, 2)), np.arange(300) % parts
    noise = Silent(part)
    found = tree(walk(noise, gradients, parts), {"w": np.zeros(2)})
    assert len(noise.seen) == parts
    most = np.bincount(np.concatenate(noise.seen), minlength=300)
    assert most.max() == levels(parts)
    assert most.min() >= 1
    np.testing.assert_allclose(found["w"], -gradients.sum(0) / 300 * parts, rtol=1e-9)  # of every row, once


def test_without_noise_it_is_a_step_of_each_part_in_turn() -> None:
    """θ - η Σ of the gradients where they were taken."""
    rng = np.random.default_rng(2)
    X, part = rng.normal(size=(60, 3)), np.arange(60) % 6
    expected = w = np.ones(3)
    for step in range(6):
        expected = expected - 0.25 * ((X[part == step] @ w)[:, None] * X[part == step]).sum(0) / 10
        w = expected
    one = Walk(
        rows=60,
        declared=60.0,
        bound=1.0,
        noise=Silent(part),  # type: ignore[arg-type]
        clipped=lambda w, taken: {"w": ((X[taken] @ w["w"])[:, None] * X[taken]).sum(0)},
        penalty=lambda w: {},
        settings={"parts": 6, "private_step_size": 0.25},
        step=lambda: None,
    )
    np.testing.assert_allclose(tree(one, {"w": np.ones(3)})["w"], expected, rtol=1e-12)


@pytest.mark.parametrize(("parts", "ones"), [(8, 1), (6, 2), (7, 3)])
def test_the_noise_of_all_steps_together_grows_with_the_logarithm_of_how_many_they_are(parts: int, ones: int) -> None:
    """One noise for each one in the binary number of steps; a run of steps that each have their own has S of them."""
    size, promise = 20_000, promised(parts)
    noise = Steps(promise, lambda found: key_for(b"k" * 32, found))
    found = tree(walk(noise, np.zeros((5, size)), parts), {"w": np.zeros(size)})["w"] * 5 / parts
    assert found.std() == pytest.approx(promise.multiplier * ones**0.5, rel=0.03)
    steps = guarantee.of(guarantee.settled({"epsilon": 1.0}), "row", 1, 1, parts, 1.0)
    rate = {"local_steps": parts, "sampling_rate": 1.0}
    own = Steps(steps, lambda found: key_for(b"k" * 32, found))
    each = sampled(walk(own, np.zeros((5, size)), parts, **rate), {"w": np.zeros(size)})["w"] * 5
    assert found.std() < 0.75 * each.std()


def test_a_row_more_or_less_moves_no_other_into_another_part() -> None:
    steps = Steps(promised(8), lambda found: key_for(b"k" * 32, found))
    many, fewer = steps.parts(400, 8), steps.parts(399, 8)
    assert (many[:399] == fewer).all()
    assert np.bincount(many, minlength=8).min() > 20


def test_an_attacker_finds_no_more_than_is_claimed() -> None:
    """The row that is in as many sums as any: in the first of eight steps. The best test adds up those that it is in.
    Each of many numbers stands for a run of its own."""
    size, seen = 100_000, []
    for there in (0.0, 1.0):
        secret = hashlib.sha256(str(there).encode()).digest()
        steps = Steps(promised(8), lambda found, secret=secret: key_for(secret, found))
        rows = np.array([0])
        sums = [steps.noised({"w": np.full(size, there)}, 1.0, rows)["w"] for _ in range(levels(8))]
        seen.append(np.sum(sums, axis=0))
    spread = seen[0].std()
    found = least_epsilon(*seen, 1e-5, np.linspace(-spread, 4 * spread, 30), 0.999)
    assert 0.2 < found < 1.0


# ---------------------------------------------------------------- over sites


def learn(**more: Any) -> Any:
    privacy = {"ranges": {"*": [-3, 3]}, **more.pop("privacy", {})}
    settings = {"features": FEATURES, "privacy": privacy, "rounds": 5, "private_step_size": 0.5, **more}
    experiment = hanse.simulate(sites(4, 300)).experiment(
        "logistic_regression", target="y", federated_strategy="dp_ftrl", **settings
    )
    with same_noise():
        return experiment.run(progress=False)


def test_four_hospitals_of_300_rows_learn_with_epsilon_2() -> None:
    held_out = table(4000, seed=4)
    found = learn(privacy={"epsilon": 2.0}, gathering="secure")
    assert found.evaluate(held_out)["auc"] > pooled_auc(1200, held_out) - 0.1
    promised = found.privacy
    assert (promised.unit, promised.releases, promised.steps, promised.sampling) == ("row", 5, 4, 1.0)
    assert "in each of the 4 sums inside a release that one row is in at most" in promised.words()
    assert not any(p["metrics"] for step in found.rounds for p in step.participants.values())


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="dp_ftrl has its noise in each step at a site"):
        learn(privacy={"mode": "central"})
    with pytest.raises(ConfigError, match="dp_ftrl is for runs with differential privacy"):
        hanse.simulate({"a": table(60), "b": table(60, 5)}).experiment(
            "logistic_regression", target="y", federated_strategy="dp_ftrl"
        ).run(progress=False)
