"""A training plan that asks for a graphics card: where there is none it runs on the processor, and says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hanse
from hanse.errors import ConfigError
from hanse.models import _torch_device
from hanse.models._torch_device import Device

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
PLAIN = """
from torch import nn
def build(task, options):
    return nn.Sequential(nn.Linear(len(task.features), 4), nn.Dropout(0.2), nn.Linear(4, task.outputs))
"""


def run(source: str, **how: Any) -> Any:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2, 60, 3))
    sites = {
        name: {**{f"x{i}": x[:, i] for i in range(3)}, "y": np.where(x[:, 0] > 0, "a", "b")}
        for name, x in zip("ab", X, strict=True)
    }
    with hanse.simulate(sites, **how) as federation:
        return federation.experiment(
            model="torch_module", plan={"source": source, "name": "p"}, target="y", rounds=2, sample_id_column=None
        ).run(progress=False)


def none_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("how", [{}, {"batched": True}])
def test_where_there_is_none_it_falls_back_and_says_so(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    none_there(monkeypatch)
    usual, found = run(PLAIN), run(PLAIN + "\ndevice = 'cuda'\n", **how)
    for name, array in usual.record.arrays.items():
        assert array.tobytes() == found.record.arrays[name].tobytes()
    assert not usual.warnings
    assert found.warnings == ["a, b had no device such as the training plan asks for, and trained on the processor"]


def test_what_is_no_device_is_an_error_that_says_so() -> None:
    for wrong in ("'kitchen'", "3", "None"):
        with pytest.raises(hanse.errors.RunFailed, match="device of the training plan is none that PyTorch knows"):
            run(PLAIN + f"\ndevice = {wrong}\n")


def test_it_is_the_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    chosen = [_torch_device.chosen(torch, {"device": name}, "plan") for name in ("cuda", "cuda:0", "cuda:1", "cpu")]
    assert [(str(device.place), device.missing) for device in chosen] == [
        ("cuda", False),
        ("cuda:0", False),
        ("cpu", True),
        ("cpu", False),
    ]
    with pytest.raises(ConfigError, match="such as 'cuda'"):
        _torch_device.chosen(torch, {"device": "kitchen"}, "plan")


def test_what_is_computed_is_brought_there_and_the_device_draws_by_the_seed() -> None:
    brought, drawn = [], []
    there = SimpleNamespace(type="toy", index=None)
    fake = SimpleNamespace(toy=SimpleNamespace(manual_seed=drawn.append), initial_seed=lambda: 7)
    device = Device(there)
    assert device.brought(SimpleNamespace(to=lambda place: brought.append(place) or "there")) == "there"
    _torch_device.seeded(fake, device)
    assert (brought, drawn) == ([there], [7])
