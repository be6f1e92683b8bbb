"""Survival: what sites' sums say of predicted hazards is what the pooled rows say, within what is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost

import hanse
from hanse.errors import ConfigError, DataError
from hanse.messages import Array
from hanse.table import Column, Table
from hanse.task import Task
from hanse.tasks.survival import TASK

OF = Task("survival", ("x",))


def rows(n: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    margin = rng.normal(size=n)
    time, end = rng.exponential(np.exp(-margin)), rng.uniform(0, 3, n)
    return np.exp(margin), np.column_stack([np.minimum(time, end), time <= end]).astype(np.float64)


def reported(hazard: Array, y: Array, parts: int) -> dict[str, Any]:
    center, pieces = y[:, :1].sum(0) / max(1, len(y)), np.array_split(np.arange(len(y)), parts)
    found = [TASK.sums(hazard[p], y[p], OF, center) for p in pieces]
    total = {name: np.sum([one[name] for one in found], axis=0) for name in found[0]}
    assert {n: (str(a.dtype), a.shape) for n, a in found[0].items()} == dict(TASK.shapes(OF))
    assert TASK.plausible(total, OF)
    return dict(TASK.report(total, OF))


@pytest.mark.parametrize("n", [2, 20, 600])
def test_the_true_concordance_is_within_its_error(n: int) -> None:
    for seed in range(20):
        hazard, y = rows(n, seed)
        whole = reported(hazard, y, 1)
        assert reported(hazard, y, 4) == pytest.approx(whole)
        truth = TASK.score(hazard, [Column.numeric(y[:, 0]), Column.numeric(y[:, 1])], OF)
        if np.isnan(truth) or whole["c_index"] is None:
            continue
        assert abs(whole["c_index"] - truth) <= whole["c_index_error"] + 1e-12
    if n == 600:
        assert whole["c_index_error"] < 0.02
        assert whole["c_index"] > 0.7


def test_the_loss_is_the_partial_likelihood_of_each_event() -> None:
    hazard, y = rows(400, 1)
    time, event = y.T
    truth = sum(
        np.log(hazard[time >= t].sum()) - np.log(r) for t, r in zip(time[event == 1], hazard[event == 1], strict=True)
    )
    assert reported(hazard, y, 3)["loss"] == pytest.approx(truth / event.sum(), rel=0.005)
    assert reported(np.ones(400), y, 3)["loss"] > reported(hazard, y, 3)["loss"] + 0.3


def test_nothing_is_said_of_no_events_or_of_predictions_that_are_none() -> None:
    hazard, y = rows(30, 2)
    assert reported(hazard, y * [1, 0], 2)["loss"] is None
    hazard[3] = np.nan
    assert reported(hazard, y, 2)["loss"] is None
    assert reported(hazard, y, 2)["invalid"] == 1
    assert reported(hazard[:0], y[:0], 1)["n"] == 0


def test_sums_that_cannot_be_true_are_said() -> None:
    hazard, y = rows(30, 3)
    honest = TASK.sums(hazard, y, OF, np.ones(1))
    for name, change in (("risk", -1), ("events", 0.5), ("others", -1)):
        wrong = {**honest, name: honest[name] * change}
        assert not TASK.plausible(wrong, OF), name
    assert not TASK.plausible({**honest, "risk": honest["risk"] * 0}, OF)


def test_a_run_learns_it_and_its_result_predicts_hazards() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 2))
    time, end = rng.exponential(np.exp(-x[:, 0])), rng.uniform(0, 3, 240)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "time": np.minimum(time, end), "event": time <= end})
    federation = hanse.simulate({f"site {i}": frame.iloc[i::3] for i in range(3)})
    given = {"target": "time, event", "task_type": "survival", "rounds": 8, "early_stopping_rounds": 4}
    result = federation.experiment("xgboost", **given).run(progress=False)
    assert "C-index 0." in repr(result)
    told, predictor = result.evaluate(frame), result.predictor()
    hazards = predictor.predict(frame)
    assert (hazards > 0).all()
    assert abs(predictor.score(frame, frame[["time", "event"]]) - told["c_index"]) <= told["c_index_error"]
    assert told["c_index"] > 0.75
    rows = xgboost.DMatrix(predictor.design(frame), feature_names=["a", "b"], feature_types=["float"] * 2)
    assert (result.model().predict(rows) == hazards).all()
    with pytest.raises(DataError, match="a hazard is no probability"):
        predictor.predict_proba(frame)
    with pytest.raises(ConfigError, match="ridge does not predict what task_type survival needs"):
        federation.experiment("ridge", target="time, event", task_type="survival", rounds=1).run(progress=False)


@pytest.mark.parametrize("event", [[1.0, 2.0], ["yes", "no"]])
def test_an_event_that_is_neither_true_nor_false_is_refused(event: Any) -> None:
    table = Table.of({"time": [1.0, 2.0], "event": event})
    told = TASK.tell([table["time"], table["event"]], 1)
    with pytest.raises(ConfigError, match="expected a time, a number from 0, and an event, true or false"):
        TASK.settle("time, event", [told])
