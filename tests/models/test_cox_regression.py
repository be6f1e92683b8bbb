"""Cox regression: equal to the pooled one stratified by site, with its table; what cannot be fitted is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from experiment.federation import living
from hypothesis import given
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from scipy.optimize import minimize

import hanse
from hanse.errors import ConfigError, DataError, HanseError, RunFailed
from hanse.experiment.connection import Connection
from hanse.experiment.credentials import Credentials
from hanse.experiment.results import Result
from hanse.learning.partial_likelihood import PartialLikelihood, alone
from hanse.messages import Array, dump
from tests.examples import examples

TERMS = {"age": "age", "flag": "flag", "sex=m": "sex_m", "stage=ii": "stage_ii", "stage=iii": "stage_iii"}
RUN: dict[str, Any] = {"target": "time, event", "sample_id_column": None}


def patients(rows: int, seed: int, whole: bool = True) -> pd.DataFrame:
    """Times of whole months, of which many are tied, where ``whole``; each seed is older and more at risk."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.normal(60 + 3 * seed, 10, rows), "sex": rng.choice(["f", "m"], rows)})
    frame["stage"], frame["flag"] = rng.choice(["i", "ii", "iii"], rows), rng.random(rows) < 0.5
    score = 0.03 * (frame["age"] - 60) + 0.5 * (frame["sex"] == "m") + 0.4 * (frame["stage"] == "iii")
    time, end = rng.exponential(20 / (1 + seed) * np.exp(-score)), rng.uniform(5, 30, rows) / (1 + seed)
    frame["time"], frame["event"] = np.minimum(time, end), (time <= end).astype(int)
    if whole:
        frame["time"] = np.ceil(2 * frame["time"])
    return frame


def sites(whole: bool = True) -> dict[str, pd.DataFrame]:
    return {f"s{i}": patients(rows, i, whole) for i, rows in enumerate((90, 150, 220, 300))}


def learn(frames: Any, test_fraction: float = 0.0, policy: Any = None, **settings: Any) -> Result:
    federation = hanse.simulate(frames, policy=policy or {})
    experiment = federation.experiment("cox_regression", test_fraction=test_fraction, **{**RUN, **settings})
    return experiment.run(progress=False)


def together(frames: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = pd.concat([frame.assign(site=name) for name, frame in frames.items()], ignore_index=True)
    return rows, pd.get_dummies(rows[["age", "sex", "stage", "flag"]], drop_first=True).astype(float)


def pooled(frames: dict[str, pd.DataFrame], ties: str = "efron") -> Any:
    rows, X = together(frames)
    return sm.PHReg(rows["time"], X, status=rows["event"], strata=rows["site"], ties=ties).fit(tol=1e-14)


def check(result: Result, expected: Any) -> None:
    names, interval = list(expected.model.exog_names), expected.conf_int()
    rows = result.coefficients()
    assert {row["name"] for row in rows} == set(TERMS)
    for row in rows:
        place = names.index(TERMS[row["name"]])
        assert row["coefficient"] == pytest.approx(expected.params[place], abs=1e-8)
        assert row["standard_error"] == pytest.approx(expected.bse[place], abs=1e-8)
        assert row["p_value"] == pytest.approx(expected.pvalues[place], abs=1e-8)
        assert (row["low"], row["high"]) == pytest.approx(tuple(interval[place]), abs=1e-7)
        assert row["statistic"] == pytest.approx(expected.tvalues[place], abs=1e-6)


def twin(beta: Array, X: Array, y: Array, ties: str) -> tuple[float, Array, Array]:
    """As the definition stands: loss, gradient and Hessian, one event after the other."""
    loss, gradient, hessian = 0.0, np.zeros(len(beta)), np.zeros((len(beta), len(beta)))
    time, event = y.T
    for t in np.unique(time[event == 1]):
        dead, at_risk = (time == t) & (event == 1), time >= t
        for place in range(int(dead.sum())):
            share = np.where(dead, 1 - place / dead.sum() if ties == "efron" else 1.0, 1.0) * at_risk
            most = (X @ beta)[at_risk].max()
            w = share * np.exp(np.where(at_risk, X @ beta - most, 0))
            mean = w @ X / w.sum()
            loss += np.log(w.sum()) + most
            gradient += mean
            hessian += (X.T * w) @ X / w.sum() - np.outer(mean, mean)
        loss -= X[dead].sum(0) @ beta
        gradient -= X[dead].sum(0)
    return float(loss), gradient, hessian


@examples(60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 12), st.sampled_from(["efron", "breslow"]))
def test_the_sums_are_those_of_the_definition(seed: int, rows: int, times: int, ties: str) -> None:
    rng = np.random.default_rng(seed)
    X, beta = rng.normal(size=(rows, 3)), rng.normal(size=3)
    X[:, 2] = rng.random(rows) < 0.3
    y = np.column_stack([rng.integers(0, times, rows), rng.random(rows) < rng.random()]).astype(float)
    found = PartialLikelihood(alone, 1, 3, ties=ties).sums(np.append(beta, 0)[None], X, y)
    loss, gradient, hessian = twin(beta, X, y, ties)
    assert found["loss"][0] == pytest.approx(loss, abs=1e-9)
    assert found["gradient"] == pytest.approx(np.append(gradient, 0), abs=1e-9)
    assert found["hessian"][:-1, :-1] == pytest.approx(hessian, abs=1e-9)
    assert not found["hessian"][-1].any()
    assert np.linalg.eigvalsh(found["hessian"]).min() > -1e-12


def test_where_nobody_differs_there_is_no_curvature_at_all() -> None:
    """Of rounding it would be some, which a method takes for a direction to go far in."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 3))
    X[:, 1] = 0.1234567  # alike in all rows
    y = np.column_stack([rng.exponential(size=200), rng.random(200) < 0.5])
    X[:, 2] = np.where(y[:, 0] < y[y[:, 1] == 1, 0].min(), 0.7, 0.1)  # differs only before the first event
    found = PartialLikelihood(alone, 1, 3).sums(np.array([[0.5, 0.2, -0.3, 0]]), X, y)
    assert (found["hessian"][0, 0] > 1, *found["hessian"][1], *found["hessian"][2]) == (True, *[0.0] * 8)
    assert found["gradient"][1:] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_scores_of_which_exp_is_no_number_are_none_the_worse(ties: str) -> None:
    """A step of Newton's method may lead there, and is taken back by the loss that it has there."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(60, 2)), np.column_stack([rng.integers(0, 9, 60), rng.random(60) < 0.6]).astype(float)
    beta = np.array([900.0, -400.0])
    found = PartialLikelihood(alone, 1, 2, ties=ties).sums(np.append(beta, 0)[None], X, y)
    loss, gradient, hessian = twin(beta, X, y, ties)
    assert found["loss"][0] == pytest.approx(loss, rel=1e-12)
    assert found["gradient"][:-1] == pytest.approx(gradient, abs=1e-9)
    assert found["hessian"][:-1, :-1] == pytest.approx(hessian, abs=1e-9)


def test_its_rows_do_not_count_one_by_one() -> None:
    with pytest.raises(TypeError, match="one by one"):
        PartialLikelihood(alone, 1, 1).family(np.zeros((1, 1)), np.zeros(1))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_it_equals_the_pooled_one_stratified_by_site(ties: str, whole: bool) -> None:
    frames = sites(whole)
    result = learn(frames, model_options={"ties": ties})
    check(result, pooled(frames, ties))
    assert result.record.data["fit"]["converged"] is True
    assert len(result.rounds) <= 12
    assert len(result.failures) == 0
    assert result.nearness.startswith("exact: equals the pooled fit stratified by site")
    assert result.nearness in repr(result)


def test_it_equals_that_of_lifelines_and_its_ratios_are_of_hazards() -> None:
    frames = sites()
    rows, X = together(frames)
    theirs = CoxPHFitter().fit(
        X.assign(site=rows["site"], time=rows["time"], event=rows["event"]),
        "time",
        "event",
        strata=["site"],
        fit_options={"precision": 1e-12},
    )
    for row in learn(frames).coefficients(ratios=True):
        name = TERMS[row["name"]]
        assert row["hazard_ratio"] == pytest.approx(theirs.hazard_ratios_[name], rel=1e-6)
        assert row["p_value"] == pytest.approx(theirs.summary["p"][name], abs=1e-6)
        assert row["reference"] == {"sex": "f", "stage": "i"}.get(row["name"].partition("=")[0], "")


def test_a_site_without_events_adds_nothing_and_one_with_few_takes_no_part_by_name() -> None:
    """Sums over a single event would tell of the person who had it."""
    frames = {**sites(), "quiet": patients(40, 7).assign(event=0), "few": patients(80, 8), "most": patients(80, 9)}
    frames["few"]["event"] = np.arange(80) < 9
    frames["most"]["event"] = np.arange(80) >= 9
    result = learn(frames)
    others = {name: frame for name, frame in frames.items() if name not in ("few", "most")}
    check(result, pooled(others))
    assert result.record.data["fit"]["nodes"] == sorted(others)
    assert {row["node"] for row in result.failures} == {"few", "most"}
    assert all("minimum_cell" in row["reason"] and "fewer than 10" in row["reason"] for row in result.failures)
    check(learn(frames, policy={"minimum_cell": 9}), pooled(frames))


def test_the_rows_held_out_are_measured_and_predicted() -> None:
    frames = sites(False)
    result = learn(frames, test_fraction=0.25)
    assert 0.55 < result.metrics["c_index"] < 0.8
    rows = together(frames)[0]
    predictor, model = result.predictor(), result.model()
    hazards = predictor.predict(rows)
    assert hazards == pytest.approx(model.predict(predictor.design(rows)), rel=1e-12)
    assert model.predict_partial_hazard(predictor.design(rows)) == pytest.approx(hazards, rel=1e-12)
    assert list(model.params_) == list(model.feature_names_in_) == list(result.record.data["task"]["features"])
    older = predictor.predict(rows.assign(age=rows["age"] + 10)) / hazards
    ratio = next(row["coefficient"] for row in result.coefficients() if row["name"] == "age")
    assert older == pytest.approx(np.exp(10 * ratio), rel=1e-9)
    assert abs(predictor.score(rows, rows[["time", "event"]]) - 0.65) < 0.1


def test_a_penalty_is_that_of_all_rows_together() -> None:
    frames = sites()
    result = learn(frames, model_options={"alpha": 25.0})
    rows = together(frames)[0]
    X, y = result.predictor().design(rows), rows[["time", "event"]].to_numpy(float)
    parts = [np.flatnonzero(rows["site"] == name) for name in frames]

    def objective(beta: Array) -> tuple[float, Array]:
        found = [twin(beta, X[part], y[part], "efron") for part in parts]
        return sum(f[0] for f in found) + 12.5 * beta @ beta, sum(f[1] for f in found) + 25 * beta

    theirs = minimize(objective, np.zeros(X.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-6})
    assert result.model().coef_ == pytest.approx(theirs.x, abs=1e-6)
    assert all("penalised" in row["note"] for row in result.coefficients())


@pytest.mark.parametrize("missing", [True, False])
def test_missing_values_and_columns_that_follow_from_others(missing: bool) -> None:
    frames = sites()
    for i, frame in enumerate(frames.values()):
        frame["beds"] = 100.0 * (i + 1)  # of the site: the baseline hazard has it
        frame["months"] = 12 * frame["age"]
        if missing:
            frame["flag"] = frame["flag"].astype(object).where(np.arange(len(frame)) % 9 > 0, None)
    rows = {row["name"]: row for row in learn(frames).coefficients()}
    for name in ("beds", "age", "months"):
        assert rows[name]["coefficient"] is None
        assert "not estimable" in rows[name]["note"]
    assert rows["sex=m"]["note"] == rows["stage=iii"]["note"] == ""
    assert ("flag is missing" in rows or "flag=True" in rows) or not missing


def test_sums_that_nobody_sees_in_parts_give_the_same() -> None:
    frames = sites()
    check(learn(frames, gathering="secure"), pooled(frames))


def test_a_federation_learns_what_a_simulation_does(tmp_path: Path) -> None:
    frames = {name: frame for name, frame in sites().items() if name != "s3"}
    run = {"model": "cox_regression", **RUN}
    with living(tmp_path, frames) as real, hanse.connect(real.url, real.tokens["scientist"]) as federation:
        experiment = federation.experiment(**run, seed=5)
        assert "time" not in experiment.analyze().features
        experiment.propose()
        for name in real.hospitals:
            here = Connection(Credentials(real.url, real.tokens[name]))
            session = here.session(experiment.run_id)
            here.consent(experiment.run_id, name, "accept", session["code_hash"])
            here.close()
        assert "# ---- hanse.learning.partial_likelihood" in session["code_preview"]
        assert "stratified by site" in session["nearness"]
        far = experiment.wait(progress=False)
    near = hanse.simulate(frames, seed=5).experiment(**run).run(progress=False)
    assert dump(far.record) == dump(near.record)


def test_a_value_that_decides_has_no_finite_coefficient_and_that_is_said() -> None:
    frames = sites()
    for frame in frames.values():
        frame["ward"] = np.where(
            np.arange(len(frame)) % 8 == 0, "spared", np.where(np.arange(len(frame)) % 2, "a", "b")
        )
        frame.loc[frame["ward"] == "spared", "event"] = 0
    result = learn(frames, policy={"minimum_cell": 1}, features=["age", "sex", "ward"])
    assert sum("no finite fit" in warning for warning in result.warnings) == 1
    rows = {row["name"]: row for row in result.coefficients()}
    assert {name for name, row in rows.items() if "no finite estimate" in row["note"]} == {"ward=spared"}
    assert rows["ward=spared"]["coefficient"] is None
    without = {name: frame[frame["ward"] != "spared"] for name, frame in frames.items()}
    sound = {
        row["name"]: row
        for row in learn(without, policy={"minimum_cell": 1}, features=["age", "sex", "ward"]).coefficients()
    }
    for name in ("age", "sex=m", "ward=b"):
        assert (rows[name]["coefficient"], rows[name]["standard_error"]) == pytest.approx(
            (sound[name]["coefficient"], sound[name]["standard_error"]), abs=1e-5
        )


def test_features_that_tell_whose_event_is_next_have_no_fit() -> None:
    frames = {name: frame.assign(rank=-frame["time"].rank()) for name, frame in sites(False).items()}
    with pytest.raises(RunFailed, match="no unpenalised fit exists; set a penalty"):
        learn(frames, features=["rank"])


def test_without_events_or_differences_there_is_nothing_to_fit() -> None:
    with pytest.raises(RunFailed, match="no site that answered has an event"):
        learn({name: frame.assign(event=0) for name, frame in sites().items()})
    with pytest.raises(RunFailed, match="no feature differs"):
        learn({name: frame.assign(x=float(i)) for i, (name, frame) in enumerate(sites().items())}, features=["x"])


@pytest.mark.parametrize(
    ("column", "values"),
    [("event", ["yes", "no"]), ("time", ["soon", "late"]), ("event", [1, 2]), ("time", [-1.0, 2.0])],
)
def test_times_and_events_that_are_none_are_refused(column: str, values: list[Any]) -> None:
    frames = sites()
    frames["s1"][column] = np.resize(np.array(values, object if isinstance(values[0], str) else float), 150)
    with pytest.raises(HanseError, match="expected a time, a number from 0, and an event|survival takes numbers"):
        learn(frames)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"federated_strategy": "fedavg"}, "cox_regression does not learn by fedavg; it learns by newton"),
        (
            {"federated_strategy": "noisy_gradients", "privacy": {"ranges": {"*": [-3, 3]}}},
            "no sum over rows, so no noise hides one",
        ),
        ({"task_type": "binary"}, "does not predict what task_type binary needs; it can survival"),
        ({"model_options": {"ties": "exact"}}, "ties of cox_regression is 'exact'; expected one of efron, breslow"),
        ({"model_options": {"alpha": -1}}, "alpha of cox_regression is -1; expected a number from 0"),
        ({"target": "time"}, "expected 2 columns with a comma between: time, event"),
        ({"weight_column": "age"}, "weight_column is a setting of"),
    ],
)
def test_what_does_not_fit_is_refused_before_anybody_is_asked(settings: dict[str, Any], said: str) -> None:
    with hanse.simulate(sites()) as federation, pytest.raises(ConfigError, match=said):
        federation.experiment("cox_regression", **{**RUN, **settings}).preview()


def test_what_a_site_has_that_is_no_time_is_refused_there_too() -> None:
    of = PartialLikelihood(alone, 1, 1)
    assert of.unfit(np.array([[-1.0, 1]]), 1) == "a time is below 0"
    assert of.unfit(np.array([[np.nan, 1]]), 1) == "a time is below 0"
    assert of.unfit(np.array([[1.0, 2]]), 1) == "an event is neither true nor false"
    assert of.unfit(np.zeros((0, 2)), 10) == ""


def test_it_is_no_estimator_to_write_as_onnx(tmp_path: Path) -> None:
    result = learn(sites())
    with pytest.raises(ConfigError, match="no estimator of scikit-learn's"):
        result.export(tmp_path / "cox.onnx")
    with pytest.raises(DataError, match="a hazard is no probability"):
        result.predictor().predict_proba(sites()["s0"])
