"""Adaptive clipping: what is sent is of length 1 at most, and the bound goes to the quantile of lengths."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hanse
from hanse.algorithms.adaptive_clipping import ALGORITHM
from hanse.errors import ConfigError
from hanse.learning.averaging import Averaging
from hanse.learning.local import Visit
from hanse.learning.server import ServerUpdate
from hanse.training import Learned

SETTINGS = {"first_bound": 0.1, "clipped_quantile": 0.5, "bound_rate": 0.2}
RANGES = {"age": [20, 90], "marker": [-4, 4]}


def strategy() -> Averaging:
    found = ALGORITHM.inner
    assert isinstance(found, Averaging)
    return found


def said(change: np.ndarray, bound: float) -> tuple[np.ndarray, float]:
    common = {"w": np.zeros_like(change)}
    visit = Visit(common, common, {"bound": {"bound": np.array([bound])}}, {}, SETTINGS)
    told = strategy().local.told(visit, Learned({"w": change}, []))
    return told.change["w"], told.numbers["within"]


def next_bound(numbers: list[float], bound: float, quantile: float = 0.5) -> float:
    settings = {**SETTINGS, "clipped_quantile": quantile}
    update = ServerUpdate({"w": np.zeros(2)}, {}, 1.0, settings, {"within": float(np.mean(numbers))})
    _, state = strategy().server.step(update, {"bound": {"bound": np.array([bound])}})
    return float(state["bound"]["bound"][0])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(1e-6, 1e6))
def test_what_is_sent_is_no_longer_than_one(change: list[float], bound: float) -> None:
    sent, number = said(np.array(change), bound)
    assert math.hypot(float(np.linalg.norm(sent)), number) <= 1 + 1e-12


def test_a_change_within_the_bound_comes_back_as_it_was() -> None:
    change = np.array([0.3, -0.4])
    sent, number = said(change, 2.0)
    assert number > 0
    update = ServerUpdate({"w": sent}, {}, 1.0, SETTINGS, {"within": number})
    moved, _ = strategy().server.step(update, {"bound": {"bound": np.array([2.0])}})
    np.testing.assert_allclose(moved["w"], change, rtol=1e-12)
    assert said(change, 0.4)[1] < 0


@pytest.mark.parametrize("first", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.8])
def test_the_bound_goes_to_the_quantile_wherever_it_begins(first: float, quantile: float) -> None:
    rng = np.random.default_rng(0)
    bound, late = first, []
    for step in range(300):
        lengths = rng.lognormal(size=50)
        bound = next_bound([said(np.array([length]), bound)[1] for length in lengths], bound, quantile)
        late += [bound] if step >= 250 else []
    expected = float(np.quantile(rng.lognormal(size=100_000), quantile))
    assert np.mean(late) == pytest.approx(expected, rel=0.1)


def adaptive_clipping(
    changes: np.ndarray, bound: float, quantile: float, rate: float
) -> tuple[np.ndarray, list[float]]:
    """The paper's algorithm 1 without its noise: the model after the rounds of ``changes`` (rounds, sites, n), and the
    bounds."""
    model, bounds = np.zeros(changes.shape[2]), [bound]
    for of_round in changes:
        lengths = np.linalg.norm(of_round, axis=1)
        model = model + np.mean([d * min(1, bound / at) for d, at in zip(of_round, lengths, strict=True)], axis=0)
        bound = bound * math.exp(-rate * (np.mean(lengths <= bound) - quantile))
        bounds.append(bound)
    return model, bounds


def test_rounds_are_those_of_the_paper() -> None:
    changes = np.random.default_rng(3).normal(size=(12, 7, 4)) * np.geomspace(1, 0.05, 12)[:, None, None]
    settings = {**SETTINGS, "clipped_quantile": 0.4}
    model, state = {"w": np.zeros(4)}, {"bound": {"bound": np.array([0.8])}}
    bounds = [0.8]
    for of_round in changes:
        told = [said(change, bounds[-1]) for change in of_round]
        mean = {"w": np.mean([sent for sent, _ in told], axis=0)}
        within = float(np.mean([number for _, number in told]))
        moved, state = strategy().server.step(ServerUpdate(mean, {}, 1.0, settings, {"within": within}), state)
        model = {"w": model["w"] + moved["w"]}
        bounds.append(float(state["bound"]["bound"][0]))
    expected, expected_bounds = adaptive_clipping(changes, 0.8, 0.4, 0.2)
    np.testing.assert_allclose(model["w"], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(bounds, expected_bounds, rtol=1e-12)
    assert len(set(bounds)) > 6


def sites(count: int = 20) -> dict[str, Any]:
    return {f"h{k:02}": patients(k, 150) for k in range(count)}


def patients(seed: int, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    age, marker = rng.uniform(20, 90, rows), rng.normal(size=rows)
    ill = np.where(marker + (age - 55) / 20 + rng.normal(size=rows) > 0, "yes", "no")
    return {"age": age, "marker": marker, "ill": ill}


def test_a_model_is_learned_where_a_fixed_bound_drowns_it_in_noise() -> None:
    """Twenty sites, epsilon 1 for a whole site: changes are a tenth as long as the usual bound of 1.

    Twenty columns have nothing to do with the target: the length of their coefficients is the noise, not luck."""
    chance, draw = [f"chance_{k}" for k in range(20)], np.random.default_rng(8)
    tables = {name: {**table, **{c: draw.normal(size=150) for c in chance}} for name, table in sites().items()}
    federation = hanse.simulate(tables)
    given = {"target": "ill", "features": ["age", "marker", *chance], "gathering": "secure", "rounds": 15}
    private = {"mode": "distributed", "epsilon": 1.0, "ranges": {**RANGES, **dict.fromkeys(chance, [-4, 4])}}
    noise = {}
    for name in ("fedavg", "adaptive_clipping"):
        run = federation.experiment("sgd_classifier", federated_strategy=name, privacy=private, **given)
        result = run.run(progress=False)
        assert (result.privacy.unit, result.privacy.releases, result.privacy.epsilon) == ("site", 15, 1.0)
        noise[name] = float(np.linalg.norm(result.record.arrays["model.coef"][0, 2:]))
    assert noise["adaptive_clipping"] < noise["fedavg"] / 2, noise


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "for runs with differential privacy"),
        ({"privacy": {"clip": 2.0, "ranges": RANGES}}, "finds its bound itself"),
        ({"privacy": {"ranges": RANGES}, "transforms": [{"name": "clip"}]}, "leave transforms out"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], said: str) -> None:
    run = hanse.simulate(sites(3)).experiment(
        "sgd_classifier", target="ill", federated_strategy="adaptive_clipping", **settings
    )
    with pytest.raises(ConfigError, match=said):
        run.run(progress=False)
