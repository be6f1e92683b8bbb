"""DP-SGD at each site: gradients of which a row has a bounded part, of every model that has them; what is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from noised_runs import FEATURES, pooled_auc, same_noise, sites, table

import hanse
from hanse.errors import ConfigError, HanseError
from hanse.registry import find, names
from hanse.task import Task

TASKS = {
    "binary": Task("binary", tuple(FEATURES), ("no", "yes")),
    "multiclass": Task("multiclass", tuple(FEATURES), ("a", "b", "c")),
    "regression": Task("regression", tuple(FEATURES)),
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "mlp_classifier": [{"hidden_layer_sizes": [5, 3], "activation": a} for a in ("relu", "tanh", "logistic")],
    "mlp_regressor": [{"hidden_layer_sizes": [5], "activation": "identity"}],
    "sgd_classifier": [{"loss": loss} for loss in ("log_loss", "modified_huber")],
    "sgd_regressor": [
        {"loss": loss, "epsilon": 0.3}
        for loss in ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")
    ],
    "logistic_regression": [{}, {"fit_intercept": False}],
}
SMALL = {"input_shape": [6, 6, 1], "channels": 2, "hidden": 4}


def able() -> list[Any]:
    found = []
    for name in names("models"):
        module = find("models", name)
        for kind, task in TASKS.items():
            if "row_gradients" in module.LEARNS_BY and task.predicts in module.PREDICTS:
                options = [SMALL] if getattr(module, "IMAGES", False) else OPTIONS.get(name, [{}])
                marks = [pytest.mark.torch] if getattr(module, "IMAGES", False) else []
                found += [
                    pytest.param(name, task, o, id=f"{name}-{kind}-{i}", marks=marks) for i, o in enumerate(options)
                ]
    return found


def made(name: str, task: Task, options: dict[str, Any], rows: int = 12) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(7)
    model = find("models", name).build(task, options)
    X = rng.normal(size=(rows, len(FEATURES)))
    if options is SMALL:
        X = rng.uniform(size=(rows, 6, 6, 1))
    y = rng.integers(0, len(task.classes), rows) if task.classes else rng.normal(size=rows)
    start = {n: a + 0.3 * rng.normal(size=a.shape).astype(a.dtype) for n, a in model.init(rng).items()}
    return model, start, X, y


def length(arrays: Any) -> float:
    return float(np.sqrt(sum(np.square(a).sum() for a in arrays.values())))


@pytest.mark.parametrize(("name", "task", "options"), able())
def test_each_row_adds_its_gradient_cut_to_the_bound(name: str, task: Task, options: dict[str, Any]) -> None:
    model, w, X, y = made(name, task, options)
    each = [model.clipped(w, X[i : i + 1], y[i : i + 1], 1e9) for i in range(len(y))]  # of a row alone, whole
    lengths = [length(g) for g in each]
    bound = float(np.median(lengths))
    assert min(lengths) < bound < max(lengths)
    expected = {n: sum(g[n] * min(1.0, bound / s) for g, s in zip(each, lengths, strict=True) if s) for n in w}
    found = model.clipped(w, X, y, bound)
    assert set(found) == set(w)
    for n in w:
        np.testing.assert_allclose(found[n], expected[n], rtol=1e-4, atol=1e-5 * bound)
        assert found[n].shape == np.shape(w[n])
    assert length({n: found[n] - model.clipped(w, X[1:], y[1:], bound)[n] for n in w}) <= bound * (1 + 1e-5)


@pytest.mark.parametrize(("name", "task", "options"), able())
def test_a_row_that_is_no_number_and_no_row_at_all_add_nothing(name: str, task: Task, options: dict[str, Any]) -> None:
    model, w, X, y = made(name, task, options)
    nothing = model.clipped(w, X[:0], y[:0], 1.0)
    assert {n: a.shape for n, a in nothing.items()} == {n: np.shape(a) for n, a in w.items()}
    assert not any(a.any() for a in nothing.values())
    with_it = X.copy()
    with_it[3] = np.inf
    kept = np.arange(len(y)) != 3
    with np.errstate(all="ignore"):  # as dp_sgd asks
        found, expected = model.clipped(w, with_it, y, 1.0), model.clipped(w, X[kept], y[kept], 1.0)
    for n in w:
        np.testing.assert_allclose(found[n], expected[n], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_the_gradients_of_a_perceptron_are_those_of_its_loss(kind: str, activation: str) -> None:
    """By differences; the linear models are of the same function, and the library's are its own."""
    task, name = TASKS[kind], "mlp_regressor" if kind == "regression" else "mlp_classifier"
    model, w, X, y = made(name, task, {"hidden_layer_sizes": [5, 3], "activation": activation})

    def loss(at: dict[str, Any]) -> float:
        p = model.predict(at, X)
        if kind == "regression":
            return float(((p - y) ** 2).sum() / 2)
        if kind == "binary":
            return float(-np.log(np.where(y == 1, p, 1 - p)).sum())
        return float(-np.log(p[np.arange(len(y)), y]).sum())

    found = model.clipped(w, X, y, 1e9)
    for n, a in w.items():
        for place in np.ndindex(a.shape):
            near = {sign: {**w, n: a.copy()} for sign in (1, -1)}
            for sign, moved in near.items():
                moved[n][place] += sign * 1e-6
            slope = (loss(near[1]) - loss(near[-1])) / 2e-6
            assert found[n][place] == pytest.approx(slope, rel=1e-3, abs=1e-4)


def learn(model: str, target: str = "y", rows: int = 300, **more: Any) -> Any:
    privacy = {"ranges": {"*": [-3, 3], "cost": [0, 20]}, **more.pop("privacy", {})}
    settings = {"features": FEATURES, "federated_strategy": "dp_sgd", "privacy": privacy, "rounds": 10, **more}
    with same_noise():
        return hanse.simulate(sites(4, rows)).experiment(model, target=target, **settings).run(progress=False)


def test_four_hospitals_of_300_rows_learn_with_epsilon_2() -> None:
    held_out = table(4000, seed=4)
    best = pooled_auc(1200, held_out)
    found = learn("logistic_regression", privacy={"epsilon": 2.0}, gathering="secure")
    assert found.evaluate(held_out)["auc"] > best - 0.08  # some twelve deviations of what the noise takes
    assert (found.privacy.epsilon, found.privacy.unit, found.privacy.releases, found.privacy.steps) == (
        2.0,
        "row",
        10,
        10,
    )
    assert "each takes every row with a probability of 0.1" in found.privacy.words()
    assert not any(p["metrics"] for step in found.rounds for p in step.participants.values())
    assert learn("mlp_classifier", privacy={"epsilon": 8.0}).evaluate(held_out)["auc"] > best - 0.12
    assert learn("linear_regression", "cost", privacy={"epsilon": 8.0}).evaluate(held_out)["r2"] > 0.4


def test_with_hardly_any_noise_and_all_rows_in_one_step_it_is_a_gradient_step() -> None:
    """θ - η Σ_i g_i / n, of all sites alike: the noise is the only other thing."""
    quiet = {"epsilon": 1000.0, "delta": 0.09, "clip": 1e3}
    found = learn(
        "sgd_classifier", rows=200, privacy=quiet, rounds=1, local_steps=1, sampling_rate=1.0, private_step_size=1.0
    )
    assert found.privacy.steps == 1
    whole, noise = table(800), found.privacy.multiplier * 1e3 / 200 / 2
    X = np.column_stack([whole[n] for n in FEATURES]) / 3
    expected = -((0.5 - (whole["y"] == "yes")) @ X) / 800
    assert np.abs(found.record.arrays["model.coef"][0] - expected).max() < 8 * noise


def test_what_it_cannot_do_is_refused_before_anybody_is_asked() -> None:
    two, plain = {"a": table(60), "b": table(60, 5)}, {"target": "y", "federated_strategy": "dp_sgd"}
    with pytest.raises(ConfigError, match="dp_sgd is for runs with differential privacy"):
        hanse.simulate(two).experiment("logistic_regression", **plain).run(progress=False)
    with pytest.raises(ConfigError, match="leave mode of privacy at local"):
        learn("logistic_regression", rows=60, privacy={"mode": "distributed"}, gathering="secure")
    with pytest.raises(ConfigError, match="class_weight follows from the rows"):
        learn("sgd_classifier", rows=60, model_options={"class_weight": "balanced"})
    with pytest.raises(HanseError, match="does not learn by dp_sgd"):
        learn("random_forest", rows=60)
