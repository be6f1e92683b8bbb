"""The coordinator's halves need no learning library, and a missing one is named."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hanse.errors import ConfigError
from hanse.registry import find
from hanse.task import Task

TASK = Task("binary", ("a", "b"), ("n", "y"))
COORDINATOR = """
import sys
import numpy as np
from hanse.algorithms import build, settled
from hanse.config import RunConfig
from hanse.messages import Record
prepared = Record(
    {"task": {"kind": "binary", "features": ["a"], "classes": ["n", "y"]}, "class_counts": [3, 4], "rows": 7,
     "columns": [{"name": "a", "kind": "numeric", "missing": False, "categories": []}], "needs": "raw", "target": "y"},
    {"mean": np.zeros(1), "scale": np.ones(1), "target_mean": np.zeros(1), "target_scale": np.ones(1)})
trees = ("xgboost", "xgboost_bagging", "random_forest")
for model in ("sgd_classifier", "mlp_classifier", "logistic_regression", *trees, "torch_module"):
    plan = {"source": ""} if model == "torch_module" else None
    config = settled(RunConfig.parse({"model_name": model, "plan": plan}))
    stages = build(config).stages
    stages[0].ask(stages[0].init(config.to_json()))
    state = stages[1].init(config.to_json(), prepared)
    stages[1].ask(state), stages[1].result(state), stages[1].metrics(state)
heavy = {"sklearn", "scipy", "xgboost", "numba", "torch", "polars", "pandas"}
print(*sorted({m.split(".")[0] for m in sys.modules} & heavy))
"""


def test_the_coordinators_halves_load_no_learning_library() -> None:
    done = subprocess.run([sys.executable, "-c", COORDINATOR], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


SITES = """
import sys
import numpy as np
import hanse

def site(seed, outputs):
    x = np.random.default_rng(seed).normal(size=(60, 3))
    y = x @ [1, -2, 0.5]
    return {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": np.digitize(y, [0, 1][: outputs - 1]) if outputs else y}

for model, outputs in ("logistic_regression", 2), ("logistic_regression", 3), ("linear_regression", 0), ("ridge", 0):
    federation = hanse.simulate({"p": site(1, outputs), "q": site(2, outputs)})
    result = federation.experiment(model=model, target="y").run(progress=False)
    assert result.metrics["n"] > 0
print(*sorted({m.split(".")[0] for m in sys.modules} & {"sklearn", "pandas", "polars", "torch"}))
"""


def test_sites_fit_and_measure_linear_models_without_scikit_learn() -> None:
    done = subprocess.run([sys.executable, "-c", SITES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("name", "blocked", "says"),
    [
        ("xgboost_bagging", "xgboost", r"hanse\[xgboost\]"),
        ("torch_module", "torch", r"hanse\[torch\]"),
        ("sgd_classifier", "sklearn.linear_model", r"hanse\[node\]"),
        ("mlp_classifier", "sklearn.neural_network", r"hanse\[node\]"),
        ("random_forest", "sklearn.ensemble", r"hanse\[node\]"),
    ],
)
def test_a_missing_library_is_named(name: str, blocked: str, says: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, blocked, None)
    model = find("models", name).build(TASK, {"plan": {"source": ""}} if name == "torch_module" else {})
    X, y, rng = np.zeros((4, 2)), np.array([0, 1, 0, 1]), np.random.default_rng(0)
    with pytest.raises(ConfigError, match=says):
        if name == "xgboost_bagging":
            model.grow(model.empty(), 0.5, X, y, rng, rounds=1, progress=lambda: None, losses=[])
        elif name == "random_forest":
            model.grow(1, X, y, rng, min_leaf=1, progress=lambda: None)
        elif name == "torch_module":
            model.init(rng)
        else:
            model.predict(model.init(rng), X)
