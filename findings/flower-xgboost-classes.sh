#!/usr/bin/env bash
# Flower's bagging of XGBoost models with several classes keeps one tree of each node and round, and counts all trees to
# the first class.
#
# Versions: flwr 1.42.0, xgboost-cpu 3.2.0, numpy 2.4.6, Python 3.11.
# Behaviour: a round of XGBoost with three classes is three trees, one of each class. FedXgbBagging takes as many trees of
#   a reply as `num_parallel_tree` says, which is one, and writes a 0, the first class, into `tree_info` of each. Classes
#   1 and 2 learn nothing after the model that the first round began with; nothing is said, and the model loads.
# Seen: two nodes, five rounds from the three trees of one node: the classes of the trees are 0, 1, 2 and then ten times 0;
#   scores of the classes 1 and 2 are those of the first round to the bit, and more rows are put into a wrong class than
#   by six rounds on all rows.
# Fails if that changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check flwr==1.42.0 xgboost-cpu==3.2.0 numpy==2.4.6
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
env/bin/python -W ignore - <<'PYTHON'
import json
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import xgboost
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedXgbBagging

rng = np.random.default_rng(0)
X = rng.normal(size=(400, 4)).astype(np.float32)
y = np.digitize(X[:, 0] + 0.3 * rng.normal(size=400), [-0.5, 0.5])
nodes = [xgboost.DMatrix(X[half], y[half]) for half in (slice(0, 200), slice(200, 400))]
rows = xgboost.DMatrix(X, y)
settings = {"objective": "multi:softprob", "num_class": 3, "max_depth": 3, "nthread": 1}


def loaded(raw):
    found = xgboost.Booster(settings)
    found.load_model(bytearray(raw))
    return found


def trained(raw, node):
    """What a node sends: the trees of one more round on its rows, as Flower's quickstart for XGBoost cuts them out."""
    model = loaded(raw)
    model.update(nodes[node], model.num_boosted_rounds())
    return model[model.num_boosted_rounds() - 1 :].save_raw("json")


def reply(raw, node):
    content = {"arrays": ArrayRecord([np.frombuffer(raw, np.uint8)]), "metrics": MetricRecord({"num-examples": 200})}
    return SimpleNamespace(content=RecordDict(content), has_error=lambda: False)  # a Message is made in a run alone


strategy = FedXgbBagging()
first = bytes(xgboost.train(settings, nodes[0], 1).save_raw("json"))
strategy.current_bst = first
for _ in range(5):
    strategy.aggregate_train(1, [reply(trained(strategy.current_bst, node), node) for node in range(2)])
classes = json.loads(strategy.current_bst)["learner"]["gradient_booster"]["model"]["tree_info"]
before, after = (loaded(raw).predict(rows, output_margin=True) for raw in (first, strategy.current_bst))
moved = np.abs(after - before).max(0)
pooled = xgboost.train(settings, rows, 6)
wrong = [float((m.predict(rows).argmax(1) != y).mean()) for m in (loaded(strategy.current_bst), pooled)]
print(f"flwr {version('flwr')}: classes of the trees {classes}; scores moved by {moved.round(2)} since the first round;")
print(f"wrong on the rows that it learned of: {wrong[0]:.3f} (6 rounds on all rows together: {wrong[1]:.3f})")
assert classes == [0, 1, 2] + [0] * 10 and moved[0] > 0.1 and (moved[1:] == 0).all()
PYTHON
