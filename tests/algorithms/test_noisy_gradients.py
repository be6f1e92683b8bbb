"""Gradients with a bound for each row: what a row can change, and that models learned so are of use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noised_runs import FEATURES, pooled_auc, same_noise, sites, table
from sklearn.linear_model import LogisticRegression

import hanse
from hanse.algorithms.noisy_gradients import clipped_gradient
from hanse.convex import Convex, logistic, multinomial, poisson, squared
from hanse.errors import ConfigError
from tests.examples import examples

FAMILIES = {
    "logistic": (logistic, 1),
    "multinomial": (multinomial, 3),
    "poisson": (poisson, 1),
    "squared": (squared, 1),
}


@examples(25)
@given(st.sampled_from(sorted(FAMILIES)), st.integers(0, 10**6), st.floats(1e-3, 1e3), st.floats(0, 300))
def test_one_row_changes_the_sum_by_at_most_the_bound(name: str, seed: int, bound: float, scale: float) -> None:
    family, outputs = FAMILIES[name]
    rng, convex = np.random.default_rng(seed), Convex(family, outputs, 4)
    X, theta = rng.normal(size=(30, 4)) * scale, rng.normal(size=(outputs, 5)) * scale
    y = rng.integers(0, 2, 30) if name != "squared" else rng.normal(size=30) * scale
    with_it, without = (clipped_gradient(convex, theta, X[:n], y[:n], bound) for n in (30, 29))
    assert np.linalg.norm(with_it - without) <= bound * (1 + 1e-9) + 1e-9 * np.linalg.norm(with_it)
    if bound > 1e2 and scale < 1:  # nothing is cut: it is the gradient
        whole = convex.sums(theta, X, y)["gradient"].reshape(theta.shape)
        rows = [np.linalg.norm(convex.sums(theta, X[i : i + 1], y[i : i + 1])["gradient"]) for i in range(30)]
        if max(rows) < bound:
            np.testing.assert_allclose(with_it, whole, rtol=1e-9, atol=1e-9)


def learn(target: str = "y", model: str = "logistic_regression", count: int = 4, rows: int = 300, **more: Any) -> Any:
    privacy = {"ranges": {"*": [-3, 3], "cost": [0, 20], "visits": [0, 10]}, **more.pop("privacy", {})}
    asked = {"features": FEATURES, "federated_strategy": "noisy_gradients", "privacy": privacy, "rounds": 20, **more}
    with same_noise():
        return hanse.simulate(sites(count, rows)).experiment(model, target=target, **asked).run(progress=False)


def test_four_hospitals_of_300_rows_learn_with_epsilon_1() -> None:
    """What hides rows is of use where what hides sites is not: the pooled fit without noise is beside it."""
    held_out = table(4000, seed=4)
    best = pooled_auc(1200, held_out)
    local, distributed = learn(), learn(gathering="secure", privacy={"mode": "distributed"})
    assert local.evaluate(held_out)["auc"] > best - 0.06
    assert distributed.evaluate(held_out)["auc"] > best - 0.03
    assert not any(p["metrics"] for step in local.rounds for p in step.participants.values())


def test_other_families_learn_too() -> None:
    held_out = table(2000, seed=4)
    linear = learn("cost", "ridge", gathering="secure", privacy={"mode": "distributed", "epsilon": 4.0})
    assert linear.evaluate(held_out)["r2"] > 0.7
    privacy = {"mode": "distributed", "epsilon": 4.0}
    counts = learn("visits", "poisson_regression", gathering="secure", privacy=privacy, task_type="regression")
    assert np.corrcoef(counts.predictor().predict(held_out), held_out["visits"])[0, 1] > 0.2


def test_with_hardly_any_noise_it_is_the_pooled_fit() -> None:
    found = learn(privacy={"epsilon": 1000.0, "delta": 0.09, "clip": 10.0}, count=2, rows=2000, step_size=3.0)
    whole = table(4000)
    pooled = LogisticRegression(tol=1e-10).fit(np.column_stack([whole[n] for n in FEATURES]) / 3, whole["y"])
    cosine = float(found.record.arrays["model.coef"][0] @ pooled.coef_[0]) / (
        np.linalg.norm(found.record.arrays["model.coef"]) * np.linalg.norm(pooled.coef_)
    )
    assert cosine > 0.99


def test_without_privacy_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="is for runs with differential privacy"):
        hanse.simulate(sites(2, 50)).experiment(
            "logistic_regression", target="y", federated_strategy="noisy_gradients", rounds=2
        ).run(progress=False)


def test_what_it_promises_is_for_rows() -> None:
    text = (
        hanse.simulate(sites(2, 50))
        .experiment(
            "logistic_regression",
            target="y",
            features=["x0"],
            federated_strategy="noisy_gradients",
            privacy={"ranges": {"*": [-3, 3]}},
        )
        .preview()
    )
    assert "one row more or less in a node's data" in text
