"""Frozen parameters stay as they are, bit for bit, and the others train as if these were constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from test_terms import CONVEX, DEEP, FEATURES, STEPS, X, adapter, flat, like, own, train

from hanse.errors import NodeFailed
from hanse.models._torch import TorchModule
from hanse.task import Task

TWO = """
import torch
def build(task, options):
    return torch.nn.Sequential(torch.nn.Linear(len(task.features), 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
"""


@pytest.mark.parametrize("name", CONVEX)
def test_lbfgs_goes_the_path_of_the_free_parameters_alone(name: str) -> None:
    model, y = adapter(name)
    start = like(model.init(np.random.default_rng(0)), 1)
    fixed = np.ravel(start["intercept"])

    def free(coef: Any) -> tuple[float, Any]:
        value, gradient = own(name, np.append(coef, fixed), y)
        return value, gradient[:-1]

    found = train(model, start, y, epochs=200, frozen=frozenset({"intercept"}))
    expected = minimize(free, np.ravel(start["coef"]), jac=True, method="L-BFGS-B", options={"ftol": 1e-15}).x
    np.testing.assert_array_equal(found.parameters["intercept"], start["intercept"])
    np.testing.assert_allclose(flat(found.parameters)[:-1], expected, atol=1e-4)
    assert found.steps > 1


@pytest.mark.parametrize("name", DEEP)
def test_perceptrons_hold_a_layer_fast(name: str) -> None:
    model, y = adapter(name, hidden_layer_sizes=[4])
    start = model.init(np.random.default_rng(0))
    found = train(model, start, y, batch_size=16, frozen=frozenset({"w0", "b0"}))
    for part in ("w0", "b0"):
        np.testing.assert_array_equal(found.parameters[part], start[part])
    assert not np.array_equal(found.parameters["w1"], start["w1"])
    assert found.steps == 3 * 4  # epochs of ceil(60 / 16) batches


@pytest.mark.torch
def test_pytorch_holds_a_layer_fast_and_trains_the_rest_as_a_module_that_has_it_as_a_constant() -> None:
    torch = pytest.importorskip("torch")
    task, y = Task("regression", FEATURES), (X @ [1.0, -2.0, 0.5]).astype(np.float32)
    model = TorchModule(task, TWO, {})
    start = model.init(np.random.default_rng(0))
    found = train(model, start, y, batch_size=60, learning_rate=0.1, frozen=frozenset({"0.weight", "0.bias"}))
    for part in ("0.weight", "0.bias"):
        np.testing.assert_array_equal(found.parameters[part], start[part])
    hidden = torch.tanh(torch.from_numpy(X.astype(np.float32) @ start["0.weight"].T + start["0.bias"])).numpy()
    w, b = start["2.weight"].astype(np.float64), start["2.bias"].astype(np.float64)
    for _ in range(3):
        off = hidden @ w[0] + b - y
        w, b = w - 0.1 * 2 * (off @ hidden)[None] / len(y), b - 0.1 * 2 * off.mean()
    np.testing.assert_allclose(found.parameters["2.weight"], w, atol=1e-5)
    np.testing.assert_allclose(found.parameters["2.bias"], b, atol=1e-5)
    assert found.steps == 3


@pytest.mark.parametrize("name", STEPS)
def test_models_that_step_everything_refuse(name: str) -> None:
    model, y = adapter(name)
    with pytest.raises(NodeFailed, match="choose another model"):
        train(model, model.init(np.random.default_rng(0)), y, frozen=frozenset({"coef"}))


def test_the_steps_of_row_by_row_training_are_the_rows() -> None:
    model, y = adapter("sgd_classifier")
    assert train(model, model.init(np.random.default_rng(0)), y).steps == 3 * len(y)
