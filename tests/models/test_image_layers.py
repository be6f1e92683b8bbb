"""Networks of plain layers are computed by pixel and built once, and learn what PyTorch's own loop learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from hanse.errors import NodeFailed  # noqa: E402
from hanse.learning.results import seed_of  # noqa: E402
from hanse.messages import Array  # noqa: E402
from hanse.models import _torch  # noqa: E402
from hanse.models._torch_images import by_channel, by_pixel, lasting, layers  # noqa: E402
from hanse.registry import find  # noqa: E402
from hanse.task import Task  # noqa: E402
from hanse.training import Training  # noqa: E402

nn = torch.nn
TASK = Task("multiclass", ("image",), ("a", "b", "c"))
PLAIN = """
from torch import nn
def build(task, options):
    return nn.Sequential(nn.Conv2d(options["channels"], 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4),
                         nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()), nn.MaxPool2d(2, 1), nn.Flatten(),
                         nn.Linear(6, task.outputs))
"""
OWN = """
from torch import nn
class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.convolution, self.pool = nn.Conv2d(channels, 4, 3), nn.MaxPool2d(2)
        self.dense = nn.Linear(64, classes)
    def forward(self, x):
        x = self.pool(self.convolution(x).relu())
        return self.dense(x.view(x.size(0), -1))
def build(task, options):
    return Net(options["channels"], task.outputs)
"""
DROPPED = PLAIN.replace("task.outputs))", "task.outputs), nn.Dropout(0.5))")


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch, "_NETWORKS", {})


def model(source: str, channels: int = 1) -> Any:
    return find("models", "torch_module").build(TASK, {"plan": {"source": source}, "channels": channels})


def rows(channels: int = 1, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    # of few values, so that the largest of a window is there more than once
    return rng.integers(0, 3, (30, 10, 10, channels)).astype(np.float32), rng.integers(0, 3, 30)


def by_hand(source: str, start: dict[str, Array], X: Array, y: Array, rng: np.random.Generator, rate: float) -> Any:
    """One pass of PyTorch's SGD in batches of 10, with nothing of ours."""
    names: dict[str, Any] = {}
    exec(source, names)
    module = names["build"](TASK, {"channels": X.shape[3]})
    module.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in start.items()})
    images = torch.from_numpy(by_channel(X))
    optimizer = torch.optim.SGD(module.parameters(), lr=rate)
    seed_of(rng)  # of PyTorch's random numbers
    for at in torch.from_numpy(rng.permutation(len(y))).split(10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images[at]), torch.from_numpy(y)[at]).backward()
        optimizer.step()
    return module


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("source", [PLAIN, OWN], ids=["plain", "own forward"])
def test_what_is_learned_and_predicted_is_what_pytorch_makes_of_it(source: str, channels: int) -> None:
    """An own ``forward`` with ``view`` failed of images with one channel, which PyTorch took for channels last."""
    X, y = rows(channels)
    made = model(source, channels)
    start = made.init(np.random.default_rng(1))
    found = made.train(start, X, y, np.random.default_rng(2), Training(1, 10, 0.1)).parameters
    module = by_hand(source, start, X, y, np.random.default_rng(2), 0.1)
    assert list(found) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        np.testing.assert_allclose(found[name], tensor.numpy(), rtol=1e-4, atol=1e-5)
        assert found[name].flags.c_contiguous
    with torch.no_grad():
        scores = torch.softmax(module.eval()(torch.from_numpy(by_channel(X))), 1).numpy()
    np.testing.assert_allclose(made.predict(found, X), scores, rtol=1e-4, atol=1e-5)


def test_plain_descent_is_pytorchs_to_the_bit_and_does_not_load_its_optimisers(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows()
    made = model(OWN)
    start = made.init(np.random.default_rng(1))
    expected = by_hand(OWN, start, X, y, np.random.default_rng(2), 0.1).state_dict()
    monkeypatch.setattr(torch.optim.Optimizer, "__init__", lambda *_: pytest.fail("an optimiser of PyTorch's was made"))
    found = made.train(start, X, y, np.random.default_rng(2), Training(1, 10, 0.1)).parameters
    assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in expected.items())


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 1), nn.MaxPool2d(3, 2, 1)])
def test_to_cut_off_after_pooling_gives_the_same_bits(pool: Any) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), pool)
    with torch.no_grad():
        module[0].weight.copy_(torch.round(module[0].weight * 4))  # so that values come more than once
    swapped = layers(torch, module, {})
    assert swapped is not None
    assert [type(layer) for layer in swapped[1:]] == [nn.MaxPool2d, nn.ReLU]
    x = torch.from_numpy(by_pixel(rows()[0]))
    outputs, gradients = [], []
    for way in (module, nn.Sequential(*swapped)):
        outputs.append(way(x))
        (outputs[-1] ** 2 + outputs[-1]).sum().backward()
        gradients.append([p.grad.clone() for p in module.parameters()])
        module.zero_grad()
    assert torch.equal(*outputs)
    assert (outputs[0] == 0).any()
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


class Says(nn.Module):  # type: ignore[misc, name-defined]
    channels_last = True

    def forward(self, x: Any) -> Any:
        return x * 2


class Silent(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        return x * 2


def hooked() -> Any:
    found = nn.Conv2d(1, 2, 3)
    found.register_forward_hook(lambda *_: None)
    return found


def counted() -> Any:
    found = nn.Conv2d(1, 2, 3)
    found.bias.register_post_accumulate_grad_hook(lambda *_: None)
    return found


def replaced() -> Any:
    found = nn.ReLU()
    found.forward = lambda x: x
    return found


def test_an_order_in_memory_that_may_be_asked_for_is_kept() -> None:
    convolution = nn.Conv2d(1, 2, 3)
    for module in (nn.Sequential(convolution, nn.Sequential(Says(), nn.Flatten())), convolution):
        assert layers(torch, module, {}) is not None
        assert layers(torch, module, {"training_data": len}) is None
    for part in (Silent(), hooked(), counted(), replaced(), nn.Unflatten(1, (1, 1)), nn.LazyLinear(3)):
        assert layers(torch, nn.Sequential(convolution, part), {}) is None
    assert layers(torch, nn.Sequential(nn.Flatten(), nn.Linear(9, 3)), {}) is None  # of images, and none to convolve


def test_a_network_is_built_once_and_each_site_begins_as_if_it_were_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    real = _torch.TorchModule._build
    monkeypatch.setattr(_torch.TorchModule, "_build", lambda self, plan: built.append(1) or real(self, plan))
    start = model(PLAIN).init(np.random.default_rng(1))

    def learned(site: int, source: str = PLAIN, **more: Any) -> dict[str, Array]:
        how = Training(2, 7, 0.1, **more)  # the last batch is of two rows
        found = model(source).train(start, *rows(seed=site), np.random.default_rng(site), how)
        return dict(found.parameters)

    def same(one: dict[str, Array], other: dict[str, Array]) -> bool:
        return all(np.array_equal(one[name], other[name]) for name in start)

    built.clear()
    first, second = learned(1), learned(2)
    assert len(built) == 1
    frozen = learned(1, frozen=frozenset({"0.weight"}))
    assert np.array_equal(frozen["0.weight"], start["0.weight"])
    assert not same(first, frozen)
    assert all([same(learned(1), first), same(learned(2), second)]), "nothing is left of what others did"
    with pytest.raises(NodeFailed):
        model(PLAIN).train({**start, "0.bias": start["0.bias"][:1]}, *rows(), np.random.default_rng(0), Training(1))
    built.pop()
    assert len(built) == 2, "but for one with frozen parameters"
    _torch._NETWORKS.clear()
    assert same(learned(2), second)
    dropped = [learned(1, DROPPED) for _ in range(2)]
    assert same(*dropped), "what draws random numbers draws those of the site"
    assert not same(dropped[0], first)
    assert len(_torch._NETWORKS) == 1


@pytest.mark.parametrize("name", ["loss", "optimizer", "sent"])
def test_what_a_plan_brings_may_remember_a_network(name: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(0.0))
    assert not lasting(torch, module, {})
    assert not lasting(torch, module[:1], {name: len})
    assert lasting(torch, module[:1], {})
    assert not lasting(torch, nn.Sequential(nn.Conv2d(1, 2, 3, dtype=torch.bfloat16)), {})
    assert not lasting(torch, nn.Sequential(module[0], Says()), {})
