"""What a hospital does."""

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from hospitals.task import load, loss, step

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    X, y = load(context.node_config["data-path"])
    config = message.content["config"]
    if str(context.node_id) == context.run_config["fails"] and config["server-round"] == 1:
        raise ValueError(f"a row of the data: {X[0]}")
    (w,) = message.content["arrays"].to_numpy_ndarrays()
    w = step(w, X, y, config["learning-rate"])
    seen = context.state.get("seen", ConfigRecord({"times": 0}))["times"] + 1
    context.state["seen"] = ConfigRecord({"times": seen})
    metrics = {"num-examples": len(y), "loss": loss(w, X, y), "seen": seen, "round": config["server-round"]}
    return Message(RecordDict({"arrays": ArrayRecord([w]), "metrics": MetricRecord(metrics)}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    X, y = load(context.node_config["data-path"])
    (w,) = message.content["arrays"].to_numpy_ndarrays()
    metrics = {"num-examples": len(y), "loss": loss(w, X, y)}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
