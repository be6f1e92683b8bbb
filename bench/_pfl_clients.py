"""pfl-research's simulation for ``simulation.py``: run by the Python of an environment with ``pfl`` and PyTorch, in one
process, or in several by ``torch.distributed.run``.

The same sizes, module and steps: 50 of 100 users a round, 100 rows each, one pass of plain SGD in batches of 20, one
thread a process. It prints, of the process of rank 0, a JSON object: client updates a second by the clock, and a
second of the processor time of all its processes.

    python bench/_pfl_clients.py KIND ROUNDS BEFORE
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
import types
from pathlib import Path

FOLDER = str(Path(__file__).resolve().parent)
sys.path[:] = [place for place in sys.path if place != FOLDER]  # its statistics.py is not Python's
PLANS = runpy.run_path(str(Path(FOLDER) / "_plans.py"))

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
from pfl.aggregate.simulate import SimulatedBackend  # noqa: E402
from pfl.algorithm import NNAlgorithmParams  # noqa: E402
from pfl.algorithm.federated_averaging import FederatedAveraging  # noqa: E402
from pfl.callback.base import TrainingProcessCallback  # noqa: E402
from pfl.data.federated_dataset import FederatedDataset  # noqa: E402
from pfl.data.pytorch import PyTorchTensorDataset  # noqa: E402
from pfl.data.sampling import get_user_sampler  # noqa: E402
from pfl.hyperparam import NNTrainHyperParams  # noqa: E402
from pfl.metrics import Metrics  # noqa: E402
from pfl.model.pytorch import PyTorchModel  # noqa: E402


def module(source: str, columns: int, classes: int) -> torch.nn.Module:
    """The module of the bench, with the loss that pfl asks it for."""
    names: dict[str, object] = {}
    exec(source, names)
    outputs = 1 if classes == 2 else classes
    inner = names["build"](types.SimpleNamespace(features=range(columns), outputs=outputs), {})  # type: ignore[operator]
    functional = torch.nn.functional

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            output = self.inner(x)
            if outputs > 1:
                return functional.cross_entropy(output, y)
            return functional.binary_cross_entropy_with_logits(output[:, 0], y.float())

        def metrics(self, x: torch.Tensor, y: torch.Tensor, eval: bool = False) -> dict[str, object]:
            return {}

    return Module()


class Clock(TrainingProcessCallback):
    """When the rounds ``before`` and ``before + rounds`` had ended, and what was used by then."""

    def __init__(self, before: int, rounds: int) -> None:
        self.at: dict[int, tuple[float, float]] = {}
        self._rounds = (before, before + rounds)

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):  # type: ignore[no-untyped-def]
        if central_iteration + 1 in self._rounds:
            own = psutil.Process()
            of = [own]
            if "WORLD_SIZE" in os.environ:  # all that one launcher started
                of = own.parent().children()
            self.at[central_iteration + 1] = time.perf_counter(), sum(sum(p.cpu_times()[:2]) for p in of)
        return False, Metrics()


def main() -> None:
    sites, rows = PLANS["SITES"], PLANS["ROWS"]
    kind, rounds, before = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    source, columns, classes = PLANS["KINDS"][kind]
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    shape = (sites, rows, columns) if columns else (sites, rows, 1, 28, 28)
    X = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    y = torch.from_numpy(rng.integers(0, classes, (sites, rows)))
    users = FederatedDataset(
        lambda user: PyTorchTensorDataset((X[user], y[user])), get_user_sampler("random", list(range(sites)))
    )
    made = module(source, columns, classes)
    model = PyTorchModel(made, torch.optim.SGD, torch.optim.SGD(made.parameters(), 1.0))
    clock = Clock(before, rounds)
    FederatedAveraging().run(
        NNAlgorithmParams(before + rounds + 1, 10**9, sites // 2, 0),
        SimulatedBackend(users, users),
        model,
        NNTrainHyperParams(20, 1, 0.1),
        None,
        [clock],
        send_metrics_to_platform=False,
    )
    if os.environ.get("RANK", "0") == "0":
        wall, cpu = (b - a for a, b in zip(clock.at[before], clock.at[before + rounds], strict=True))
        print("FOUND " + json.dumps([rounds * sites / 2 / wall, rounds * sites / 2 / cpu]), flush=True)


if __name__ == "__main__":
    main()
