"""Flower's own simulation on Ray, for ``engines.py``: run by the Python of an environment with ``flwr[simulation]``.

Every site trains in every round: a linear classifier of 30 columns on 100 rows of its own, one pass of plain SGD in
batches of 20, in NumPy. It prints a JSON object: seconds of each round, and processor seconds of all rounds but the
first; and, when all has ended, another: seconds of the whole simulation, with the start of Ray and without imports.
"""

from __future__ import annotations

import json
import os
import sys
import time

ROWS, COLUMNS, BATCH = 100, 30, 20

os.environ.update(FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1", RAY_USAGE_STATS_ENABLED="0")

import numpy as np  # noqa: E402
import psutil  # noqa: E402
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import Grid, ServerApp  # noqa: E402
from flwr.serverapp.strategy import FedAvg  # noqa: E402
from flwr.simulation import run_simulation  # noqa: E402

client, server = ClientApp(), ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    rng = np.random.default_rng(int(context.node_config["partition-id"]))
    X, y = rng.normal(size=(ROWS, COLUMNS)), rng.integers(0, 2, ROWS)
    w, b = (array.copy() for array in message.content["arrays"].to_numpy_ndarrays())
    for rows in rng.permutation(ROWS).reshape(-1, BATCH):
        off = 1 / (1 + np.exp(-(X[rows] @ w + b))) - y[rows]
        w -= 0.1 * X[rows].T @ off / BATCH
        b -= 0.1 * off.mean()
    content = {"arrays": ArrayRecord([w, b]), "metrics": MetricRecord({"num-examples": ROWS})}
    return Message(RecordDict(content), reply_to=message)


def processor() -> float:
    """Of this process and all below it."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return total


@server.main()
def main(grid: Grid, context: Context) -> None:
    ends, cpu = [], []

    def after(number: int, arrays: ArrayRecord) -> MetricRecord:
        ends.append(time.perf_counter())
        cpu.append(processor())
        return MetricRecord({"at": 0.0})

    sites, rounds = int(sys.argv[1]), int(sys.argv[3])
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    strategy.start(grid, ArrayRecord([np.zeros(COLUMNS), np.zeros(())]), num_rounds=rounds, evaluate_fn=after)
    found = {"seconds": list(np.diff(ends)), "processor_seconds": cpu[-1] - cpu[1]}
    print("FOUND " + json.dumps(found), flush=True)


if __name__ == "__main__":
    actors, began = int(sys.argv[2]), time.perf_counter()
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": actors}}
    run_simulation(server, client, num_supernodes=int(sys.argv[1]), backend_config=resources)
    print("FOUND " + json.dumps({"whole": time.perf_counter() - began}), flush=True)
