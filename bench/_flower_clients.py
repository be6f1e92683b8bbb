"""Flower's own simulation on Ray for ``simulation.py``: run by the Python of an environment with ``flwr[simulation]``
and PyTorch.

The same sizes, module and steps: 50 of 100 nodes a round, 100 rows each, one pass of plain SGD in batches of 20, one
thread an actor. It prints a JSON object: client updates a second by the clock, and a second of the processor time of
this process and all below it.

    python bench/_flower_clients.py KIND ROUNDS BEFORE ACTORS
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
os.environ.update(FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1", RAY_USAGE_STATS_ENABLED="0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets everything else on the machine go first

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import Grid, ServerApp  # noqa: E402
from flwr.serverapp.strategy import FedAvg  # noqa: E402
from flwr.simulation import run_simulation  # noqa: E402

KIND, ROUNDS, BEFORE, ACTORS = sys.argv[1], *map(int, sys.argv[2:5])
SOURCE, COLUMNS, CLASSES = PLANS["KINDS"][KIND]
SITES, ROWS, OUTPUTS = PLANS["SITES"], PLANS["ROWS"], 1 if CLASSES == 2 else CLASSES
client, server = ClientApp(), ServerApp()


def module() -> torch.nn.Module:
    names: dict[str, object] = {}
    exec(SOURCE, names)
    task = types.SimpleNamespace(features=range(COLUMNS), outputs=OUTPUTS)
    return names["build"](task, {})  # type: ignore[operator]


@client.train()
def train(message: Message, context: Context) -> Message:
    torch.set_num_threads(1)
    rng = np.random.default_rng(int(context.node_config["partition-id"]))
    shape = (ROWS, COLUMNS) if COLUMNS else (ROWS, 1, 28, 28)
    X = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    y = torch.from_numpy(rng.integers(0, CLASSES, ROWS))
    model, functional = module(), torch.nn.functional
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for at in torch.randperm(ROWS).split(20):
        optimizer.zero_grad()
        output = model(X[at])
        if OUTPUTS > 1:
            loss = functional.cross_entropy(output, y[at])
        else:
            loss = functional.binary_cross_entropy_with_logits(output[:, 0], y[at].float())
        loss.backward()
        optimizer.step()
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": ROWS})}
    return Message(RecordDict(content), reply_to=message)


def processor() -> float:
    """Of this process and all below it."""
    own, total = psutil.Process(), 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return total


@server.main()
def main(grid: Grid, context: Context) -> None:
    at: dict[int, tuple[float, float]] = {}

    def after(number: int, arrays: ArrayRecord) -> MetricRecord:
        if number in (BEFORE, BEFORE + ROUNDS):
            at[number] = time.perf_counter(), processor()
        return MetricRecord({"at": 0.0})

    strategy = FedAvg(fraction_train=0.5, fraction_evaluate=0.0, min_train_nodes=SITES // 2, min_available_nodes=SITES)
    strategy.start(grid, ArrayRecord(module().state_dict()), num_rounds=BEFORE + ROUNDS, evaluate_fn=after)
    wall, cpu = (b - a for a, b in zip(at[BEFORE], at[BEFORE + ROUNDS], strict=True))
    print("FOUND " + json.dumps([ROUNDS * SITES / 2 / wall, ROUNDS * SITES / 2 / cpu]), flush=True)


if __name__ == "__main__":
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": ACTORS}}
    run_simulation(server, client, num_supernodes=SITES, backend_config=resources)
