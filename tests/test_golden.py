"""The results of seventeen runs, byte for byte as they were: a change of the code's order must not change a number.

Last bits depend on processor and libraries, so the hashes are those of one environment, which stands beside
them; elsewhere the test is skipped. They are kept for each kernel of OpenBLAS, which it chooses by what this machine's
processor can do, whatever its name. Whoever changes results on purpose records them anew, and says so in the commit:
``python tests/test_golden.py``, and with ``OPENBLAS_CORETYPE`` set to each other kernel that is kept.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hanse
from hanse.messages import digest

RECORDED = Path(__file__).with_name("golden.json")
ROUNDS: dict[str, Any] = {"rounds": 3, "target": "y", "sample_id_column": None}
MLP = {"model_options": {"hidden_layer_sizes": [5]}, "learning_rate": 0.02}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "logistic_binary": ("binary", {"model": "logistic_regression", "federated_strategy": "fedavg"}),
    "logistic_multiclass": ("multiclass", {"model": "logistic_regression", "federated_strategy": "fedavg"}),
    "linear": ("regression", {"model": "linear_regression", "federated_strategy": "fedavg"}),
    "sgd_binary": ("binary", {"model": "sgd_classifier", "server_learning_rate": 0.5}),
    "sgd_multiclass": ("multiclass", {"model": "sgd_classifier", "test_fraction": 0.0}),
    "sgd_regression": ("regression", {"model": "sgd_regressor", "max_weight_share": 0.5}),
    "mlp_binary": ("binary", {"model": "mlp_classifier", **MLP}),
    "mlp_regression": ("regression", {"model": "mlp_regressor", **MLP}),
    "xgboost_binary": ("binary", {"model": "xgboost", "model_options": {"max_depth": 3}}),
    "bagging_binary": ("binary", {"model": "xgboost_bagging", "model_options": {"max_depth": 3}}),
    "xgboost_multiclass": ("multiclass", {"model": "xgboost", "model_options": {"max_depth": 2}}),
    "bagging_multiclass": ("multiclass", {"model": "xgboost_bagging", "model_options": {"max_depth": 2}}),
    "xgboost_regression": ("regression", {"model": "xgboost", "model_options": {"max_depth": 3}}),
    "bagging_regression": ("regression", {"model": "xgboost_bagging", "model_options": {"max_depth": 3}}),
    "forest_binary": ("binary", {"model": "random_forest", "model_options": {"n_estimators": 9}}),
    "forest_multiclass": ("multiclass", {"model": "random_forest", "model_options": {"n_estimators": 9}}),
    "forest_regression": ("regression", {"model": "random_forest", "model_options": {"n_estimators": 9}}),
}


def sites(kind: str) -> dict[str, dict[str, Any]]:
    """Three sites of unequal size with gaps, text and truth values."""
    found = {}
    for number, (name, n) in enumerate({"ulm": 90, "bonn": 60, "kiel": 30}.items()):
        rng = np.random.default_rng(number)
        a, b = rng.normal(50 + 5 * number, 10, n), rng.normal(0, 1, n)
        colour, smokes = rng.choice(["red", "green", "blue"], n), rng.random(n) < 0.4
        signal = (a - 50) / 10 + 1.5 * (colour == "red") - smokes + 0.3 * b + rng.normal(0, 0.5, n)
        y: Any = 300 + 40 * signal
        if kind != "regression":
            edges = [0.0] if kind == "binary" else [-0.7, 0.7]
            y = np.array(["low", "mid", "top"])[np.searchsorted(edges, signal)].tolist()
        b[rng.random(n) < 0.1] = np.nan
        found[name] = {"a": a, "b": b, "colour": colour.tolist(), "smokes": smokes, "y": y}
    return found


def learned(name: str) -> str:
    """The SHA-256 of the run's result."""
    kind, settings = RUNS[name]
    epochs = {} if settings["model"] in ("random_forest", "xgboost") else {"local_epochs": 2}
    with hanse.simulate(sites(kind), seed=3, workers=2) as federation:
        return digest(federation.experiment(**{**ROUNDS, **epochs, **settings}).run(progress=False).record)


def environment() -> dict[str, str]:
    """What last bits depend on."""
    import scipy
    import sklearn
    import xgboost

    found = {m.__name__: m.__version__ for m in (np, scipy, sklearn, xgboost)}
    return {**found, "python": platform.python_version(), "processor": _processor()}


def _processor() -> str:
    """Which instructions numpy and its linear algebra choose by."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def kernel() -> str:
    """How the linear algebra of this process computes, and so in which order it adds."""
    from threadpoolctl import threadpool_info

    return " ".join(sorted({found["architecture"] for found in threadpool_info() if found["user_api"] == "blas"}))


@pytest.mark.parametrize("name", RUNS)
def test_the_result_has_the_bytes_that_were_recorded(name: str) -> None:
    recorded = json.loads(RECORDED.read_text())
    if recorded["environment"] != environment():
        pytest.skip(f"recorded with {recorded['environment']}")
    if kernel() not in recorded["results"]:
        pytest.skip(f"recorded with the kernels {', '.join(recorded['results'])}; this is {kernel()}")
    assert learned(name) == recorded["results"][kernel()][name]


if __name__ == "__main__":
    here, before = environment(), json.loads(RECORDED.read_text())
    kept = before["results"] if before["environment"] == here else {}
    results = {**kept, kernel(): {name: learned(name) for name in RUNS}}
    RECORDED.write_text(json.dumps({"environment": here, "results": results}, indent=2) + "\n")
