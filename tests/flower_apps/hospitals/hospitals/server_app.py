"""FedAvg with a callback on central data, a configuration for all clients, and a strategy of its own that counts failures."""

import json

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from hospitals.task import loss

app = ServerApp()


class Counting(FedAvg):
    """FedAvg that keeps who answered and who failed."""

    told: list = []

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        failed = [reply.error.reason for reply in replies if reply.has_error()]
        content = [reply.content["metrics"] for reply in replies if reply.has_content()]
        self.told.append({"round": server_round, "failed": failed, "metrics": [dict(one) for one in content]})
        return super().aggregate_train(server_round, replies)


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    X, y = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0]]), np.array([1.0, 0.0])  # the central data

    def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"loss": loss(arrays.to_numpy_ndarrays()[0], X, y)})

    strategy = Counting(min_available_nodes=2, min_train_nodes=1, min_evaluate_nodes=1)
    strategy.told.clear()
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord([np.zeros(3)]),
        num_rounds=config["num-server-rounds"],
        train_config=ConfigRecord({"learning-rate": config["learning-rate"], "seeds": [1, 2], "note": "ä", "raw": b"\x00\xff"}),
        evaluate_fn=global_evaluate,
    )
    found = {
        "w": result.arrays.to_numpy_ndarrays()[0].tolist(),
        "central": [one["loss"] for _, one in sorted(result.evaluate_metrics_serverapp.items())],
        "evaluated": [one["loss"] for _, one in sorted(result.evaluate_metrics_clientapp.items())],
        "told": strategy.told,
    }
    with open(config["written"], "w") as file:
        json.dump(found, file)
