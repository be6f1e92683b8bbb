"""A task of one's own is one file: settled, learned, evaluated, predicted and scored by what that file says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import d2_tweedie_score, mean_poisson_deviance

import hanse
import hanse.tasks
from hanse import registry
from hanse.bundle import node_code
from hanse.config import RunConfig
from hanse.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _own_folder() -> Iterator[None]:
    places, known = list(hanse.tasks.__path__), list(registry._EXTENSIONS)
    registry.extend(Path(__file__).parent / "own")
    yield
    hanse.tasks.__path__[:] = places
    registry._EXTENSIONS[:] = known


def visits(n: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(shift, 1, n), rng.normal(0, 1, n)
    return {"x": x, "z": z, "visits": rng.poisson(np.exp(1.2 + 0.6 * x - 0.2 * z)).astype(float)}


SITES = {"ulm": visits(400, 0), "bonn": visits(200, 1, 0.5), "kiel": visits(40, 2, -0.5)}
RUN = {"target": "visits", "task_type": "counts", "sample_id_column": None}


@pytest.mark.parametrize("model", ["xgboost", "random_forest", "linear_regression", "mlp_regressor"])
def test_counts_are_learned_by_models_that_predict_a_number(model: str) -> None:
    more: dict[str, Any] = {"local_epochs": 3, "learning_rate": 0.02} if model == "mlp_regressor" else {}
    if model == "linear_regression":
        more = {"federated_strategy": "fedavg"}
    with hanse.simulate(SITES) as federation:
        result = federation.experiment(model=model, rounds=12, **RUN, **more).run(progress=False)
    own = visits(500, 7)
    predictor = result.predictor()
    found = predictor.predict({"x": own["x"], "z": own["z"]})
    assert (found >= 0).all()
    expected = mean_poisson_deviance(own["visits"], np.maximum(found, 1e-3))
    assert predictor.evaluate(own)["loss"] == pytest.approx(expected, rel=1e-9)
    score = predictor.score({"x": own["x"], "z": own["z"]}, own["visits"])
    assert score == pytest.approx(d2_tweedie_score(own["visits"], np.maximum(found, 1e-3), power=1), rel=1e-9)
    assert score > 0.1
    assert 0 < result.metrics["d2"] < 1
    assert result.history[-1]["spread"]["d2"][0] <= result.history[-1]["spread"]["d2"][1]
    assert result.record.data["task"]["kind"] == "counts"
    with pytest.raises(DataError, match="no probabilities"):
        predictor.predict_proba(own)


def test_what_does_not_fit_the_task_is_refused() -> None:
    with hanse.simulate(SITES) as federation, pytest.raises(Exception, match="predicts probabilities of classes"):
        federation.experiment(model="logistic_regression", rounds=1, **RUN).run(progress=False)
    halves = {name: {**site, "visits": np.asarray(site["visits"]) / 2} for name, site in SITES.items()}
    with hanse.simulate(halves) as federation, pytest.raises(Exception, match="no counts at some site"):
        federation.experiment(model="xgboost", rounds=1, **RUN).run(progress=False)
    with pytest.raises(ConfigError, match="one of auto, binary, counts, multiclass, regression"):
        RunConfig.parse({"task_type": "survival"})


def test_an_owner_reads_the_tasks_that_may_be_settled() -> None:
    code = node_code(RunConfig.parse({"task_type": "counts", "model_name": "xgboost"}))
    assert "class Counts" in code["hanse.tasks.counts"]
    assert "hanse.tasks.binary" not in code
    auto = node_code(RunConfig.parse({"model_name": "xgboost"}))
    assert {"hanse.tasks.auto", "hanse.tasks.binary", "hanse.tasks._classes", "hanse.tasks._labels"} <= set(auto)
