"""What tasks sum up of rows with weights: a row of weight three as three rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hanse.errors import DataError
from hanse.learning import evaluation
from hanse.messages import Array
from hanse.task import ROWS, Task

N = 200
TASKS = {
    "binary": Task("binary", ("x",), ("a", "b")),
    "multiclass": Task("multiclass", ("x",), ("a", "b", "c")),
    "regression": Task("regression", ("x",)),
    "counts": Task("counts", ("x",)),
    "survival": Task("survival", ("x",)),
}
every = pytest.mark.parametrize("kind", TASKS)


def measured(kind: str) -> tuple[Array, Array]:
    """Predictions, one of which is no number, and targets."""
    rng = np.random.default_rng(0)
    raw: Array = rng.random((N, 3))
    predictions: dict[str, Array] = {"binary": raw[:, 0], "multiclass": raw / raw.sum(axis=1, keepdims=True)}
    found = predictions.get(kind, 3 * raw[:, 0]).copy()
    found[7] = np.nan
    targets: dict[str, Array] = {
        "binary": rng.integers(0, 2, N),
        "multiclass": rng.integers(0, 3, N),
        "regression": rng.normal(size=N),
        "counts": rng.poisson(2, N).astype(float),
        "survival": np.column_stack([rng.exponential(5, N), rng.random(N) < 0.6]).astype(float),
    }
    return found, targets[kind]


@every
def test_whole_weights_count_as_so_many_rows(kind: str) -> None:
    prediction, y = measured(kind)
    weight = np.random.default_rng(1).integers(0, 4, N)
    many = np.repeat(np.arange(N), weight)
    sums, _ = evaluation.evaluate(prediction, y, TASKS[kind], np.array([1.5]), weight.astype(float))
    repeated, _ = evaluation.evaluate(prediction[many], y[many], TASKS[kind], np.array([1.5]))
    for name, wanted in repeated.items():
        assert np.allclose(sums[name], wanted, rtol=1e-12), name
    assert sums[ROWS].tolist() == [N]


@every
def test_without_weights_sums_are_those_of_weight_one_to_the_last_bit(kind: str) -> None:
    prediction, y = measured(kind)
    plain, _ = evaluation.evaluate(prediction, y, TASKS[kind])
    ones, _ = evaluation.evaluate(prediction, y, TASKS[kind], weight=np.ones(N))
    assert ROWS not in plain
    for name, wanted in plain.items():
        assert np.array_equal(ones[name], wanted), name


@every
def test_small_weights_are_believed_and_the_rows_stay_counted(kind: str) -> None:
    prediction, y = measured(kind)
    prediction[7] = prediction[8]
    for scale in (1e-6, 0.1, 1.0, 1e6):
        sums, _ = evaluation.evaluate(prediction, y, TASKS[kind], weight=np.full(N, scale))
        found, plain = evaluation.report(sums, TASKS[kind]), evaluation.evaluate(prediction, y, TASKS[kind])
        assert "implausible" not in found
        assert found["n"] == N
        assert found["weight"] == pytest.approx(N * scale)
        risk = np.log(scale) if kind == "survival" else 0.0  # who is at risk weighs so much more
        assert found["loss"] == pytest.approx(plain[1]["loss"] + risk)


@every
def test_what_is_not_predicted_is_told_by_its_weight(kind: str) -> None:
    """Rows of a weight of 0.3 in all were told as none."""
    prediction, y = measured(kind)
    sums, _ = evaluation.evaluate(prediction, y, TASKS[kind], weight=np.full(N, 0.3))
    assert evaluation.report(sums, TASKS[kind])["invalid"] == pytest.approx(0.3)


@every
def test_sums_of_weights_that_are_rounded_are_believed(kind: str) -> None:
    """No prediction is a number, so the weights of such rows, added up in another order, may exceed those of all."""
    prediction, y = measured(kind)
    sums, _ = evaluation.evaluate(np.full_like(prediction, np.nan), y, TASKS[kind], weight=np.full(N, 0.1))
    sums["totals"][1] = np.nextafter(sums["totals"][0], np.inf)
    assert "implausible" not in evaluation.report(sums, TASKS[kind])
    sums["totals"][1] = 1.01 * sums["totals"][0]
    assert evaluation.report(sums, TASKS[kind])["implausible"]


def test_events_that_are_rounded_are_believed() -> None:
    """Everybody dies: the sum of the weights of events is that of all, but for the order in which they are added."""
    weight = np.random.default_rng(2).random(N)
    y = np.column_stack([np.arange(1.0, N + 1), np.ones(N)])
    sums, _ = evaluation.evaluate(np.linspace(1, 2, N), y, TASKS["survival"], weight=weight)
    sums["totals"][2] = np.nextafter(sums["totals"][0], np.inf)
    assert "implausible" not in evaluation.report(sums, TASKS["survival"])


def test_a_task_that_takes_no_weights_is_not_measured_without_them() -> None:
    class Plain:
        moments = 0

        def sums(self, prediction: Array, y: Array, task: Any, center: Array) -> dict[str, Array]:
            raise AssertionError

    class Odd:
        kind, of = "odd", Plain()

    odd: Any = Odd()
    with pytest.raises(DataError, match="a odd task is not measured with weights; set test_fraction to 0"):
        evaluation.evaluate(np.zeros(1), np.zeros(1), odd, weight=np.ones(1))
