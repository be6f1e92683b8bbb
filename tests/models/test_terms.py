"""What a strategy adds to a site's objective: every adapter honours it, and tells its own gradient without it.

The readable twins are NumPy: the objective written out, its gradient, its minimum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from hanse.registry import find
from hanse.task import Task
from hanse.training import Learned, ProximalTerm, Training

Arrays = dict[str, Any]
RNG = np.random.default_rng(7)
X = RNG.normal(size=(60, 3))
SCORE = X @ [1.0, -2.0, 0.5] + RNG.normal(0, 0.5, 60)
FEATURES = ("a", "b", "c")
BINARY, NUMBER = Task("binary", FEATURES, ("0", "1")), Task("regression", FEATURES)
Y = {"binary": (SCORE > 0).astype(int), "regression": SCORE}
PLAN = """
import torch
def loss(output, y):
    return torch.nn.functional.binary_cross_entropy_with_logits(output, y.double())
class Wide(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x.double())
def build(task, options):
    return Wide(len(task.features), 1).double()
"""
CONVEX = ["logistic_regression", "linear_regression"]
STEPS = ["sgd_classifier", "sgd_regressor"]
DEEP = ["mlp_classifier", "mlp_regressor"]


def adapter(name: str, **options: Any) -> tuple[Any, Any]:
    """The adapter and targets for it."""
    task = BINARY if name.endswith(("logistic_regression", "classifier", "module")) else NUMBER
    return find("models", name).build(task, options), Y[task.kind]


def train(model: Any, start: Arrays, y: Any, **more: Any) -> Learned:
    return model.train(start, X, y, np.random.default_rng(1), Training(**{"epochs": 3, **more}))


def like(parameters: Arrays, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.3, np.shape(a)) for name, a in sorted(parameters.items())}


def flat(parameters: Arrays) -> Any:
    return np.concatenate([np.ravel(parameters[name]) for name in ("coef", "intercept")])


def own(name: str, w: Any, y: Any) -> tuple[float, Any]:
    """f(w) and its gradient of the two convex models, w = (coef, intercept)."""
    z = X @ w[:-1] + w[-1]
    if name == "linear_regression":
        return float(((z - y) ** 2).mean() / 2), np.append(X.T @ (z - y), (z - y).sum()) / len(y)
    p = 1 / (1 + np.exp(-z))
    value = float((np.logaddexp(0, z) - y * z).mean() + (w[:-1] ** 2).sum() / (2 * len(y)))
    return value, np.append(X.T @ (p - y) + w[:-1], (p - y).sum()) / len(y)


@pytest.mark.parametrize("name", CONVEX)
def test_lbfgs_has_the_term_in_value_and_gradient(name: str) -> None:
    """Step by step the same path as SciPy's on the objective written out, and the same minimum."""
    model, y = adapter(name)
    start = like(model.init(np.random.default_rng(0)), 1)
    term = ProximalTerm(0.7, like(start, 2), like(start, 3))
    anchor, linear = flat(term.anchor), flat(term.linear)

    def whole(w: Any) -> tuple[float, Any]:
        value, gradient = own(name, w, y)
        added = 0.35 * ((w - anchor) ** 2).sum() + linear @ w
        return value + added, gradient + 0.7 * (w - anchor) + linear

    for iterations in (1, 4, 100):
        theirs = minimize(whole, flat(start), jac=True, method="L-BFGS-B", options={"maxiter": iterations}).x
        ours = train(model, start, y, epochs=iterations, term=term)
        np.testing.assert_allclose(flat(ours.parameters), theirs, atol=1e-10)
    assert abs(whole(flat(ours.parameters))[1]).max() < 1e-4


@pytest.mark.parametrize("name", CONVEX)
def test_lbfgs_tells_its_gradient_at_the_start(name: str) -> None:
    model, y = adapter(name)
    start = like(model.init(np.random.default_rng(0)), 1)
    told = train(model, start, y, gradient=True, term=ProximalTerm(9.0, like(start, 2))).gradient
    np.testing.assert_allclose(flat(told or {}), own(name, flat(start), y)[1], atol=1e-12)


@pytest.mark.parametrize("name", STEPS)
def test_sgd_takes_a_proximal_step_after_each_mini_batch(name: str) -> None:
    """One row a step: w ← w - η ∇f(w; row), then (w + s (μ a - h)) / (1 + s μ) with s = η · rows."""
    model, y = adapter(name, alpha=0.01, shuffle=False)
    start = like(model.init(np.random.default_rng(0)), 1)
    term, rate = ProximalTerm(0.7, like(start, 2), like(start, 3)), 0.05
    w, b, sums = np.ravel(start["coef"]).copy(), float(start["intercept"][0]), np.zeros(4)
    for _ in range(2):
        for low in range(0, 60, 7):
            before = np.append(w, b)
            for x, target in zip(X[low : low + 7], y[low : low + 7], strict=True):
                z = x @ w + b
                slope = z - target if name == "sgd_regressor" else 1 / (1 + np.exp(-z)) - target
                w, b = w * (1 - rate * 0.01) - rate * slope * x, b - rate * slope
            sums += before - np.append(w, b)
            s = rate * len(X[low : low + 7])
            w, b = (
                (np.append(w, b) + s * (0.7 * flat(term.anchor) - flat(term.linear)))[[0, 1, 2]] / (1 + s * 0.7),
                (b + s * (0.7 * term.anchor["intercept"][0] - term.linear["intercept"][0])) / (1 + s * 0.7),
            )
    found = train(model, start, y, epochs=2, batch_size=7, learning_rate=rate, term=term, gradient=True)
    np.testing.assert_allclose(flat(found.parameters), np.append(w, b), atol=1e-12)
    np.testing.assert_allclose(flat(found.gradient or {}), sums / (120 * rate), atol=1e-12)


@pytest.mark.parametrize("name", [*CONVEX, *STEPS, *DEEP])
def test_a_strong_pull_ends_at_the_anchor_and_a_weak_one_changes_little(name: str) -> None:
    options = {"hidden_layer_sizes": [4]} if "mlp" in name else {}
    model, y = adapter(name, **options)
    start = like(model.init(np.random.default_rng(0)), 1)
    anchor = like(start, 2)
    far = train(model, start, y, epochs=20, term=ProximalTerm(1e9, anchor)).parameters
    near = train(model, start, y, epochs=20, term=ProximalTerm(1e-12, anchor)).parameters
    free = train(model, start, y, epochs=20).parameters
    for part in start:
        np.testing.assert_allclose(far[part], anchor[part], atol=1e-6)
    if "mlp" not in name and "sgd" not in name:  # the others draw the order of rows in another way
        np.testing.assert_allclose(flat(near), flat(free), atol=1e-6)


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_perceptron_tells_its_gradient_at_the_start_whatever_its_solver(name: str, solver: str) -> None:
    """Against differences of the objective, which is scikit-learn's: mean loss + alpha |w|² / 2n."""
    model, y = adapter(name, hidden_layer_sizes=[4], activation="tanh", alpha=0.5, solver=solver)
    start = like(model.init(np.random.default_rng(0)), 1)
    told = train(model, start, y, gradient=True, batch_size=7).gradient or {}

    def objective(w: Arrays) -> float:
        found = model.predict(w, X)
        loss = (
            ((found - y) ** 2).mean() / 2 if name == "mlp_regressor" else -np.log(np.where(y, found, 1 - found)).mean()
        )
        return float(loss + sum((a**2).sum() for n, a in w.items() if n[0] == "w") * 0.5 / (2 * 60))

    for part in start:
        for place in np.ndindex(start[part].shape):
            up, down = ({n: np.array(a) for n, a in start.items()} for _ in range(2))
            up[part][place] += 1e-6
            down[part][place] -= 1e-6
            assert told[part][place] == pytest.approx((objective(up) - objective(down)) / 2e-6, abs=1e-7)


def test_a_perceptron_takes_a_proximal_step_after_each_mini_batch() -> None:
    """Without hidden layers, by plain steps, it is linear regression: written out."""
    model, y = adapter(
        "mlp_regressor", hidden_layer_sizes=[], solver="sgd", momentum=0.0, nesterovs_momentum=False, alpha=0
    )
    start = like(model.init(np.random.default_rng(0)), 1)
    term, rate = ProximalTerm(0.7, like(start, 2), like(start, 3)), 0.05
    w, b = start["w0"].copy(), start["b0"].copy()
    rng = np.random.default_rng(1)
    order = np.random.RandomState(rng.integers(2**31 - 1)).permutation(60)
    rows = order[:60]
    error = X[rows] @ w + b - y[rows, None]
    w, b = w - rate * X[rows].T @ error / 60, b - rate * error.mean(0)
    expected = {
        "w0": (w + rate * (0.7 * term.anchor["w0"] - term.linear["w0"])) / (1 + rate * 0.7),
        "b0": (b + rate * (0.7 * term.anchor["b0"] - term.linear["b0"])) / (1 + rate * 0.7),
    }
    found = train(model, start, y, epochs=1, batch_size=100, learning_rate=rate, term=term).parameters
    for part in expected:
        np.testing.assert_allclose(found[part], expected[part], atol=1e-12)


@pytest.mark.torch
def test_torch_adds_the_term_to_the_gradients_and_tells_its_own() -> None:
    pytest.importorskip("torch")
    model, y = adapter("torch_module", plan={"source": PLAN, "name": "wide"})
    first = model.init(np.random.default_rng(0))
    start = like(first, 1)
    term, rate = ProximalTerm(0.7, like(start, 2), like(start, 3)), 0.05
    w, b = start["weight"].copy(), start["bias"].copy()
    rng = np.random.default_rng(1)
    rng.integers(2**31 - 1)  # the seed of the library
    X32, sums = X.astype(np.float32).astype(float), np.zeros(4)
    for _ in range(2):
        order = rng.permutation(60)
        for low in range(0, 60, 7):
            rows = order[low : low + 7]
            slope = (1 / (1 + np.exp(-(X32[rows] @ w[0] + b))) - y[rows]) / len(rows)
            gw, gb = (slope @ X32[rows])[None], slope.sum(keepdims=True)
            sums += np.append(gw, gb)
            w = w - rate * (gw + 0.7 * (w - term.anchor["weight"]) + term.linear["weight"])
            b = b - rate * (gb + 0.7 * (b - term.anchor["bias"]) + term.linear["bias"])
    found = train(model, start, y, epochs=2, batch_size=7, learning_rate=rate, term=term, gradient=True)
    np.testing.assert_allclose(found.parameters["weight"], w, atol=1e-12)
    np.testing.assert_allclose(found.parameters["bias"], b, atol=1e-12)
    assert found.gradient is not None
    np.testing.assert_allclose(np.append(found.gradient["weight"], found.gradient["bias"]), sums / 18, atol=1e-12)


@pytest.mark.torch
def test_running_means_and_counters_of_a_module_have_no_term_and_no_gradient() -> None:
    pytest.importorskip("torch")
    plan = (
        "from torch import nn\ndef build(task, options):\n    return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))"
    )
    model, y = adapter("torch_module", plan={"source": plan, "name": "norm"})
    start = model.init(np.random.default_rng(0))
    kept = model.buffers(start)
    assert set(kept) == {"0.running_mean", "0.running_var", "0.num_batches_tracked"}
    term = ProximalTerm(1e3, {n: a + 5 for n, a in start.items()})
    plain = train(model, start, y, learning_rate=1e-9, epochs=1)
    found = train(model, start, y, learning_rate=1e-9, epochs=1, term=term, gradient=True)
    assert found.gradient is not None
    for name in kept:
        np.testing.assert_array_equal(found.parameters[name], plain.parameters[name])
        assert not found.gradient[name].any()
    assert found.gradient["1.weight"].any()
