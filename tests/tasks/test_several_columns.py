"""A target of several columns: a time and an event are named together, aligned, checked, learned, never features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hanse
import hanse.models
import hanse.tasks
from hanse import registry
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.features import align

RUN: dict[str, Any] = {
    "model": "exponential",
    "task_type": "lifetime",
    "target": "time, event",
    "sample_id_column": None,
}


@pytest.fixture(autouse=True)
def _own_folder() -> Iterator[None]:
    packages, known = (hanse.tasks, hanse.models), list(registry._EXTENSIONS)
    places = [list(package.__path__) for package in packages]
    registry.extend(Path(__file__).parent / "several")
    yield
    for package, before in zip(packages, places, strict=True):
        package.__path__[:] = before
    registry._EXTENSIONS[:] = known


def followed(n: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    """Patients followed until an event or the end of the study; of some a time or an event is not known."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(shift, 1, n), rng.normal(0, 1, n)
    time, end = rng.exponential(1 / np.exp(-1 + 0.7 * x - 0.3 * z)), rng.uniform(1, 6, n)
    event: list[bool | None] = [bool(t <= e) for t, e in zip(time, end, strict=True)]
    time = np.minimum(time, end)
    time[0], event[1] = np.nan, None
    return {"time": time, "x": x, "event": event, "z": z}


SITES = {"ulm": followed(300, 0), "bonn": followed(120, 1, 0.5), "kiel": followed(25, 2, -0.5)}


def pooled(sites: dict[str, dict[str, Any]]) -> np.ndarray[Any, Any]:
    """(3,) intercept and coefficients of all rows together, by Newton's method."""
    known = [[r for r in zip(s["x"], s["z"], s["time"], s["event"], strict=True)] for s in sites.values()]
    rows = np.array([r for site in known for r in site if np.isfinite(r[2]) and r[3] is not None], float)
    X, time, event = np.column_stack([np.ones(len(rows)), rows[:, :2]]), rows[:, 2], rows[:, 3]
    theta = np.zeros(3)
    for _ in range(50):
        expected = time * np.exp(X @ theta)
        theta = theta - np.linalg.solve((X * expected[:, None]).T @ X, X.T @ (expected - event))
    return theta


def test_what_two_columns_say_is_learned_as_from_pooled_rows() -> None:
    with hanse.simulate(SITES) as federation:
        result = federation.experiment(**RUN, test_fraction=0.0).run(progress=False)
    theta, new = pooled(SITES), followed(50, 9)
    expected = np.exp(theta[0] + theta[1] * new["x"] + theta[2] * new["z"])
    found = result.predictor().predict({"x": new["x"], "z": new["z"]})
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    prepared = result.record.data["prepared"]
    assert [c["name"] for c in prepared["columns"]] == ["x", "z"]
    assert prepared["rows"] == sum(len(s["x"]) - 2 for s in SITES.values())
    assert prepared["dropped"] == 6
    assert prepared["target"] == "time, event"


def test_rows_are_held_out_and_measured() -> None:
    with hanse.simulate(SITES, wire="exact") as federation:
        result = federation.experiment(**RUN).run(progress=False)
    assert 80 < result.metrics["n"] < 140
    assert np.isfinite(result.metrics["loss"])
    predictor, new = result.predictor(), followed(200, 5)
    measured = predictor.evaluate(new)
    assert measured["n"] == 198
    target = {"event": new["event"], "time": new["time"]}  # by their names, in any order
    assert predictor.score({"x": new["x"], "z": new["z"]}, target) == pytest.approx(-measured["loss"], rel=1e-12)


def test_all_of_them_are_aligned_and_none_is_a_feature() -> None:
    schemas = {
        "ulm": {"time": "numeric", "event": "boolean", "x": "numeric"},
        "bonn": {"time": "numeric", "x": "numeric"},
    }
    with pytest.raises(ConfigError, match="target column 'event' is missing at bonn"):
        align(schemas, "intersection", targets=("time", "event"))
    schemas["bonn"]["event"] = "boolean"
    assert align(schemas, "union", targets=("time", "event")).features == ("x",)
    config = {"task_type": "lifetime", "target_column": " time,event "}
    assert RunConfig.parse(config).targets == ("time", "event")
    with pytest.raises(ConfigError, match="target 'event' cannot also be a feature"):
        RunConfig.parse({**config, "features": ["x", "event"]})


@pytest.mark.parametrize("target", ["time", "time,event,x", "time,time", "time,"])
def test_other_columns_than_the_task_takes_are_refused(target: str) -> None:
    with hanse.simulate(SITES) as federation, pytest.raises(ConfigError, match="expected 2 columns with a comma"):
        federation.experiment(**{**RUN, "target": target}).run(progress=False)


def test_a_column_with_a_comma_in_its_name_is_one_for_the_tasks_of_one() -> None:
    assert RunConfig.parse({"target_column": "blood, pressure"}).targets == ("blood, pressure",)
    sites = {n: {"x": s["x"], "blood, pressure": s["x"] * 2 + s["z"]} for n, s in SITES.items()}
    with hanse.simulate(sites) as federation:
        experiment = federation.experiment(model="linear_regression", target="blood, pressure", sample_id_column=None)
        assert [c["name"] for c in experiment.run(progress=False).record.data["prepared"]["columns"]] == ["x"]


def test_sites_that_hold_something_else_are_refused() -> None:
    wrong = {n: {**s, "time": -np.asarray(s["time"])} for n, s in SITES.items()}
    with hanse.simulate(wrong) as federation, pytest.raises(Exception, match="a time is a number above 0"):
        federation.experiment(**RUN).run(progress=False)
