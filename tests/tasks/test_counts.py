"""Counts: settled, learned by models that predict a number, fitted exactly by Poisson regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import d2_tweedie_score, mean_poisson_deviance

import hanse
from hanse.bundle import node_code
from hanse.config import RunConfig
from hanse.errors import ConfigError, DataError
from hanse.learning import evaluation
from hanse.task import Task


def visits(n: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(shift, 1, n), rng.normal(0, 1, n)
    return {"x": x, "z": z, "visits": rng.poisson(np.exp(1.2 + 0.6 * x - 0.2 * z)).astype(float)}


SITES = {"ulm": visits(400, 0), "bonn": visits(200, 1, 0.5), "kiel": visits(40, 2, -0.5)}
RUN = {"target": "visits", "task_type": "counts", "sample_id_column": None}


@pytest.mark.parametrize(
    "model", ["poisson_regression", "linear_regression", "mlp_regressor", "sgd_regressor", "ridge"]
)
def test_few_whole_numbers_are_no_classes_to_a_model_of_numbers(model: str) -> None:
    """Left to be settled by the sites, they became classes, and the run failed after its owners had agreed."""
    with hanse.simulate(SITES) as federation:
        run = federation.experiment(model=model, target="visits", rounds=2)
        assert "task_type = 'regression'" in run.preview()
        result = run.run(progress=False)
    assert "mae" in result.metrics
    assert result.warnings == []  # a number that one site alone has is nothing odd


def test_a_task_that_the_model_cannot_predict_is_refused_before_anybody_is_asked() -> None:
    with hanse.simulate(SITES) as federation:
        for model, task in (("ridge", "binary"), ("logistic_regression", "counts")):
            with pytest.raises(ConfigError, match=f"{model} does not predict what task_type {task} needs; it can "):
                federation.experiment(model=model, target="visits", task_type=task).preview()


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


@pytest.mark.parametrize("rate", [2e-4, 0.2, 3.0, 1e6])
def test_what_is_measured_is_what_scikit_learn_measures(rate: float) -> None:
    """What was held out, with sums about another mean, at each of two sites; and rows of somebody's own. The share that
    is explained was told beside a model of 0.001, so of rates of 3 it was 0.98 and not 0.60."""
    rng = np.random.default_rng(3)
    task = Task("counts", ("x",))
    mean = rate * np.exp(rng.normal(0, 0.5, 5000))
    y = rng.poisson(mean).astype(float)
    parts = [
        evaluation.evaluate(mean[rows], y[rows], task, np.array([1.1 * rate]))[0]
        for rows in (slice(99), slice(99, None))
    ]
    found = evaluation.report({"totals": parts[0]["totals"] + parts[1]["totals"]}, task)
    assert found["loss"] == pytest.approx(mean_poisson_deviance(y, mean), rel=1e-9)
    assert found["d2"] == pytest.approx(d2_tweedie_score(y, mean, power=1), rel=1e-9, abs=1e-12)


def test_counts_that_are_all_alike_explain_nothing() -> None:
    task = Task("counts", ("x",))
    for value in (0.0, 7.0, 1e9):
        for center in (0.0, 3.0, 1e5):
            sums, _ = evaluation.evaluate(np.full(50, value + 1), np.full(50, value), task, np.array([center]))
            assert evaluation.report(sums, task)["d2"] is None
    sums["totals"][5] -= 1e12
    assert evaluation.report(sums, task)["implausible"]


def test_rows_of_ones_own_are_measured_as_those_held_out() -> None:
    result = hanse.simulate(SITES).experiment(model="poisson_regression", **RUN).run(progress=False)
    own, predictor = visits(500, 7), result.predictor()
    assert predictor.evaluate(own)["d2"] == pytest.approx(predictor.score(own, own["visits"]), rel=1e-9)


def test_what_does_not_fit_the_task_is_refused() -> None:
    with (
        hanse.simulate(SITES) as federation,
        pytest.raises(Exception, match="does not predict what task_type counts needs"),
    ):
        federation.experiment(model="logistic_regression", rounds=1, **RUN).run(progress=False)
    halves = {name: {**site, "visits": np.asarray(site["visits"]) / 2} for name, site in SITES.items()}
    with hanse.simulate(halves) as federation, pytest.raises(Exception, match="no counts at some site"):
        federation.experiment(model="xgboost", rounds=1, **RUN).run(progress=False)
    with pytest.raises(ConfigError, match="one of auto, binary, counts, multiclass, regression, survival"):
        RunConfig.parse({"task_type": "surviving"})


def test_an_owner_reads_the_tasks_that_may_be_settled() -> None:
    code = node_code(RunConfig.parse({"task_type": "counts", "model_name": "xgboost"}))
    assert "class Counts" in code["hanse.tasks.counts"]
    assert "hanse.tasks.binary" not in code
    auto = node_code(RunConfig.parse({"model_name": "xgboost"}))
    assert {"hanse.tasks.auto", "hanse.tasks.binary", "hanse.tasks._classes", "hanse.tasks._labels"} <= set(auto)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_poisson_regression_equals_the_pooled_one(alpha: float) -> None:
    with hanse.simulate(SITES) as federation:
        run = federation.experiment("poisson_regression", test_fraction=0.0, model_options={"alpha": alpha}, **RUN)
        result = run.run(progress=False)
    rows = pd.concat([pd.DataFrame(site) for site in SITES.values()])
    X = result.predictor().design(rows)
    pooled = PoissonRegressor(alpha=alpha, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(X, rows["visits"])
    model = result.model()
    assert model.coef_ == pytest.approx(pooled.coef_, abs=1e-8)
    assert model.intercept_ == pytest.approx(pooled.intercept_, abs=1e-8)
    assert result.predictor().predict(rows) == pytest.approx(model.predict(X), rel=1e-12)
    assert len(result.rounds) <= 15
    if not alpha:
        table = {row["name"]: row for row in result.coefficients()}
        known = sm.GLM(rows["visits"], sm.add_constant(rows[["x", "z"]]), family=sm.families.Poisson()).fit(tol=1e-14)
        for name, theirs in {"intercept": "const", "x": "x", "z": "z"}.items():
            assert table[name]["coefficient"] == pytest.approx(known.params[theirs], abs=1e-8)
            assert table[name]["standard_error"] == pytest.approx(known.bse[theirs], abs=1e-8)
    expected = mean_poisson_deviance(rows["visits"], model.predict(X))
    assert result.evaluate(rows)["loss"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gathering", ["plain", "secure"])
@pytest.mark.parametrize(("mean", "free"), [(700.0, True), (1e7, True), (700.0, False)])
def test_poisson_regression_of_large_counts_equals_the_pooled_one(mean: float, free: bool, gathering: str) -> None:
    """The first step went to e to the power of the mean, which is no number from 700 on, and the run failed."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=300) if free else rng.choice([-1.0, 1.0], 300)
    y = rng.poisson(mean * np.exp(0.3 * x) if free else np.exp(np.log(mean) * x)).astype(float)
    sites = {"ulm": {"x": x[:200], "visits": y[:200]}, "bonn": {"x": x[200:], "visits": y[200:]}}
    options = {"alpha": 0.0, "fit_intercept": free}
    run = hanse.simulate(sites).experiment(
        "poisson_regression", test_fraction=0.0, model_options=options, gathering=gathering, **RUN
    )
    result = run.run(progress=False)
    X = result.predictor().design({"x": x})
    known = sm.GLM(y, sm.add_constant(X) if free else X, family=sm.families.Poisson()).fit(tol=1e-14)
    model = result.model()
    assert [*([model.intercept_] if free else []), *model.coef_] == pytest.approx(known.params, abs=1e-8)
    assert result.reason.startswith("converged")
    assert not free or len(result.rounds) <= 10


def test_poisson_regression_of_negative_numbers_is_refused() -> None:
    sites = {name: {**site, "visits": np.asarray(site["visits"]) - 1} for name, site in SITES.items()}
    with hanse.simulate(sites) as federation, pytest.raises(Exception, match="below zero"):
        federation.experiment("poisson_regression", target="visits", task_type="regression", sample_id_column=None).run(
            progress=False
        )
