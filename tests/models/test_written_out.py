"""The gradients that are written out for many sites are those that autograd finds at each of them."""

from __future__ import annotations

from typing import Any

import pytest

from hanse.task import Task

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from hanse.models._torch_written_out import written_out  # noqa: E402

SITES, ROWS, COLUMNS = 3, 7, 4
TASKS = {
    "numbers": Task("regression", ("a", "b", "c", "d")),
    "two classes": Task("binary", ("a", "b", "c", "d"), ("n", "y")),
    "classes": Task("multiclass", ("a", "b", "c", "d"), ("u", "v", "w")),
}
FUNCTIONS = ["ReLU", "Tanh", "Sigmoid", "Identity"]


def network(function: str, outputs: int) -> Any:
    nn = torch.nn
    inner = nn.Linear(5, 5, bias=False)
    return nn.Sequential(nn.Linear(COLUMNS, 5), getattr(nn, function)(), inner, nn.Tanh(), nn.Linear(5, outputs))


def loss_of(task: Task, scores: Any, y: Any) -> Any:
    functional = torch.nn.functional
    if task.outputs > 1:
        return functional.cross_entropy(scores, y)
    loss = functional.mse_loss if not task.classes else functional.binary_cross_entropy_with_logits
    return loss(scores[:, 0], y)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_losses_and_gradients_are_those_of_autograd_at_each_site(name: str, function: str) -> None:
    task = TASKS[name]
    torch.manual_seed(1)
    module = network(function, task.outputs).double()
    descent = written_out(torch, module, task)
    assert descent is not None
    w = {n: torch.randn(SITES, *p.shape, dtype=torch.float64) for n, p in module.named_parameters()}
    x = torch.randn(SITES, ROWS, COLUMNS, dtype=torch.float64)
    y = torch.randint(0, max(2, len(task.classes)), (SITES, ROWS))
    y = y if task.outputs > 1 else y.double()
    found: dict[str, Any] = {}

    def update(name: str, gradient: Any, times: Any, share: float) -> None:
        found[name] = share * (gradient if times is None else torch.bmm(gradient, times))
        w[name].fill_(float("nan"))  # whoever has the gradient may change the parameter

    with torch.no_grad():
        kept = {n: p.clone() for n, p in w.items()}
        losses = descent.losses(descent.begin(w, update)(x, y), y).mean(1)
    for site in range(SITES):
        own = {n: p[site].clone().requires_grad_() for n, p in kept.items()}
        loss = loss_of(task, torch.func.functional_call(module, own, (x[site],)), y[site])
        assert losses[site].item() == pytest.approx(loss.item(), rel=1e-12)
        for n, g in zip(own, torch.autograd.grad(loss, [*own.values()]), strict=True):
            torch.testing.assert_close(found[n][site], g, rtol=1e-10, atol=1e-12)


def tied() -> Any:
    layer = torch.nn.Linear(COLUMNS, COLUMNS)
    return torch.nn.Sequential(layer, torch.nn.Tanh(), layer, torch.nn.Linear(COLUMNS, 1))


@pytest.mark.parametrize(
    "make",
    [
        tied,
        lambda: torch.nn.Sequential(torch.nn.Linear(COLUMNS, 1), torch.nn.ELU()),
        lambda: torch.nn.Sequential(torch.nn.Linear(COLUMNS, COLUMNS), torch.nn.ReLU(inplace=True)),
        lambda: torch.nn.Linear(COLUMNS, 2),
        lambda: torch.nn.Sequential(torch.nn.Tanh()),
    ],
    ids=["one layer twice", "another function", "in its place", "other outputs", "no layer"],
)
def test_what_is_not_written_out_is_left_to_autograd(make: Any) -> None:
    assert written_out(torch, make(), TASKS["two classes"]) is None
