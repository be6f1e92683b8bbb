"""The number of threads of a simulation changes no byte, whatever a site's training draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hanse
from hanse.messages import digest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

PLAIN = """
import torch

def build(task, options):
    first = torch.nn.Linear(len(task.features), 5)
    return torch.nn.Sequential(first, torch.nn.Tanh(), torch.nn.Linear(5, task.outputs))
"""


def result(source: str, workers: int) -> Any:
    sites = {}
    for number in range(12):
        rng = np.random.default_rng(number)
        X = rng.normal(size=(30, 4))
        sites[f"site-{number:02d}"] = {**{f"x{i}": X[:, i] for i in range(4)}, "y": np.where(X[:, 0] > 0, "a", "b")}
    given: dict[str, Any] = {"target": "y", "sample_id_column": None, "rounds": 2, "local_epochs": 2, "batch_size": 8}
    plan = {"source": source, "name": "plan"}
    with hanse.simulate(sites, workers=workers) as federation:
        return federation.experiment(model="torch_module", plan=plan, **given).run(progress=False).record


@pytest.mark.parametrize("source", [PLAIN, PLAIN.replace("Tanh()", "Dropout(0.5)")], ids=["plain", "dropout"])
def test_the_number_of_threads_changes_no_byte(source: str) -> None:
    """PyTorch has one sequence of random numbers in a process; threads drew from it by turns."""
    assert digest(result(source, 1)) == digest(result(source, 4))
