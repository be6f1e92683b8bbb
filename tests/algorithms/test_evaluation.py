"""Metrics from sums over sites equal scikit-learn's on the pooled rows."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_squared_error, r2_score, roc_auc_score

from hanse.learning import evaluation
from hanse.learning.evaluation import evaluate, over_sites, report
from hanse.task import Task
from hanse.thresholds import BINS, EDGES

BINARY = Task("binary", ("x",), ("no", "yes"))
THREE = Task("multiclass", ("x",), ("a", "b", "c"))
NUMBER = Task("regression", ("x",))


def summed(prediction: Any, y: Any, task: Task, edges: list[int], center: float = 0.0) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for low, high in zip([0, *edges], [*edges, len(y)], strict=True):
        sums, _ = evaluate(prediction[low:high], y[low:high], task, np.array([center]))
        total = {n: total.get(n, 0) + a for n, a in sums.items()}
    return report(total, task)


@pytest.mark.parametrize("edges", [[], [100], [0, 1, 400]])
@pytest.mark.parametrize("seed", range(3))
def test_binary(edges: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = (rng.random(500) < 0.3).astype(int)
    p = np.clip(0.3 * y + rng.random(500) * 0.7, 0, 1)
    p[:5] = [0, 1, 0.5, 1, 0]
    found = summed(p, y, BINARY, edges)
    assert found["n"] == 500
    assert found["class_counts"] == [int((y == 0).sum()), int(y.sum())]
    assert found["loss"] == pytest.approx(log_loss(y, p), abs=1e-12)
    assert found["accuracy"] == pytest.approx(accuracy_score(y, p > 0.5), abs=1e-12)
    assert found["auc"] == pytest.approx(roc_auc_score(y, p), abs=1 / BINS)


@pytest.mark.parametrize("edges", [[], [10, 450]])
def test_multiclass(edges: list[int]) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 600)
    p = rng.dirichlet([1, 1, 1], 600) + 0.5 * np.eye(3)[y]
    p /= p.sum(1, keepdims=True)
    found = summed(p, y, THREE, edges)
    assert found["loss"] == pytest.approx(log_loss(y, p), abs=1e-12)
    assert found["accuracy"] == pytest.approx(accuracy_score(y, p.argmax(1)), abs=1e-12)
    assert found["auc"] == pytest.approx(roc_auc_score(y, p, multi_class="ovr", average="macro"), abs=1 / BINS)
    assert found["class_counts"] == np.bincount(y).tolist()


def test_auc_is_exact_for_scores_of_as_many_values_as_there_are_bins() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 400)
    p = rng.choice((EDGES[1:] + EDGES[:-1]) / 2, 400)
    assert summed(p, y, BINARY, [7])["auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-14)


@pytest.mark.parametrize("middle", [-9.0, -7.0, 0.0, 7.0])
def test_auc_of_a_rare_class_is_near_that_of_the_rows_and_says_how_near(middle: float) -> None:
    """Of one row in a thousand: bins of equal width told 0.83 where it is 0.86."""
    rng = np.random.default_rng(5)
    margin = rng.normal(middle, 1.5, 50_000)
    p = 1 / (1 + np.exp(-margin))
    y = (rng.random(len(p)) < p).astype(int)
    for task, predicted in ((BINARY, p), (Task("multiclass", ("x",), ("a", "b")), np.column_stack([1 - p, p]))):
        found = summed(predicted, y, task, [100, 9000])
        assert found["auc"] == pytest.approx(roc_auc_score(y, p), abs=5e-4)
        assert abs(found["auc"] - roc_auc_score(y, p)) <= found["auc_error"] < 0.02


@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_regression(offset: float) -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(offset, 2, 300)
    guess = y + rng.normal(0, 1, 300)
    found = summed(guess, y, NUMBER, [100, 100], center=offset)
    assert found["loss"] == pytest.approx(mean_squared_error(y, guess), rel=1e-12)
    assert found["rmse"] == pytest.approx(mean_squared_error(y, guess) ** 0.5, rel=1e-12)
    assert found["mae"] == pytest.approx(mean_absolute_error(y, guess), rel=1e-12)
    assert found["r2"] == pytest.approx(r2_score(y, guess), rel=1e-10)


def test_what_is_undefined_is_null() -> None:
    empty = summed(np.zeros(0), np.zeros(0, int), BINARY, [])
    assert [empty[k] for k in ("n", "loss", "accuracy", "auc", "auc_error")] == [0, None, None, None, None]
    one_class = summed(np.array([0.2, 0.7]), np.array([1, 1]), BINARY, [])
    assert one_class["auc"] is None
    assert one_class["accuracy"] == 0.5
    unseen = summed(np.eye(3)[[0, 1, 1]], np.array([0, 1, 1]), THREE, [])
    assert unseen["auc"] is None
    assert unseen["accuracy"] == 1.0
    same = summed(np.array([1.0, 2.0]), np.array([5.0, 5.0]), NUMBER, [])
    assert same["r2"] is None
    assert same["mae"] == 3.5
    none = summed(np.zeros(0), np.zeros(0), NUMBER, [])
    assert none == {"n": 0, "loss": None, "rmse": None, "mae": None, "r2": None}
    assert evaluate(np.zeros((0, 3)), np.zeros(0, int), THREE)[1] == {"n": 0.0}


def test_a_broken_prediction_is_no_prediction() -> None:
    found = summed(np.array([np.nan, 0.9, 0.1]), np.array([1, 1, 0]), BINARY, [])
    assert (found["loss"], found["auc"], found["invalid"]) == (None, None, 1)
    assert found["accuracy"] == pytest.approx(2 / 3)
    number = summed(np.array([np.inf, 1.0]), np.array([1.0, 1.0]), NUMBER, [])
    assert (number["loss"], number["rmse"], number["invalid"]) == (None, None, 1)
    sums, _ = evaluate(np.array([np.nan, 0.9]), np.array([1, 1]), BINARY)
    assert all(np.isfinite(a).all() for a in sums.values())


def test_spread_ignores_what_sites_do_not_report() -> None:
    assert over_sites(lambda: [{"auc": 0.5}, {"auc": None}, {"auc": "high"}], ["auc"]) == {}
    assert over_sites(lambda: [{"auc": 0.5}, {"auc": 0.7}, {}], ["auc"])["auc"]["sites"] == 2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", [BINARY, THREE, NUMBER])
def test_rows_that_are_measured_some_at_a_time_add_up(
    task: Task, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    y, wide = rng.integers(0, len(task.classes) or 9, 100), rng.random((100, 3))
    prediction = wide / wide.sum(1, keepdims=True) if task is THREE else wide[:, 0]
    given = prediction, y, task, np.zeros(1), rng.random(100) if weighted else None
    whole = evaluate(*given)[0]
    monkeypatch.setattr(evaluation, "_ROWS", 7)
    found = evaluate(*given)[0]
    assert list(found) == list(whole)
    for name, own in found.items():
        np.testing.assert_allclose(own, whole[name], rtol=1e-12)


def test_many_rows_are_measured_in_a_few_bytes_each() -> None:
    """It took 100 of them."""
    rows = 1 << 18
    p = np.random.default_rng(4).random(rows)
    y = (p > 0.4).astype(np.uint8)
    tracemalloc.start(1)
    try:
        evaluate(p, y, BINARY)
        assert 0 < tracemalloc.get_traced_memory()[1] < 20 * rows
    finally:
        tracemalloc.stop()
