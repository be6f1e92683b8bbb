"""Curves by threshold: what runs of bins hold, and the curves of scikit-learn on the pooled held-out rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

import hanse
from hanse.learning import evaluation
from hanse.table import Table
from hanse.task import ROWS, Task
from hanse.thresholds import BINS, EDGES, LEAST, Thresholds, bins, runs

COUNTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=40)


@given(COUNTS)
def test_every_run_holds_none_or_enough_of_either_kind(counts: list[tuple[int, int]]) -> None:
    p, n = (np.array(column, np.float64) for column in zip(*counts, strict=True))
    found = runs(p, n, np.linspace(0, 1, len(p) + 1))
    for low, high, mean, positives, negatives in found:
        assert low < high
        assert low <= mean <= high
        assert positives + negatives >= LEAST
    for _, _, _, positives, negatives in found:
        assert all(count == 0 or count >= LEAST for count in (positives, negatives))
    if found:
        assert found[0][0] == 0
        assert found[-1][1] == 1
        assert [run[1] for run in found[:-1]] == [run[0] for run in found[1:]]
        assert sum(run[3] for run in found) == p.sum()
        assert sum(run[4] for run in found) == n.sum()
    else:
        assert any(0 < total < LEAST for total in (p.sum(), n.sum())) or p.sum() + n.sum() == 0


@given(st.integers(0, 1000))
def test_the_curves_are_those_of_the_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.random(400)
    y = rng.random(400) < score**2
    if seed % 2:
        score[:50] = rng.choice(EDGES, 50)  # a row on an edge is above it
    found = Thresholds("yes", runs(*(np.bincount(bins(score[y == kind]), minlength=BINS) for kind in (True, False))))
    for point in found.roc():
        above = score >= point["threshold"] if point["threshold"] < 1 else np.zeros(400, bool)
        assert point["sensitivity"] == (above & y).sum() / y.sum()
        assert point["false_positive_rate"] == (above & ~y).sum() / (~y).sum()
    for point in found.decision():
        t = point["threshold"]
        above = score >= t
        assert point["net_benefit"] == pytest.approx(((above & y).sum() - (above & ~y).sum() * t / (1 - t)) / 400)
    assert sum(c["rows"] for c in found.calibration()) == 400
    for c in found.calibration():
        assert -1e-9 < c["low"] <= c["observed"] + 1e-9
        assert c["observed"] - 1e-9 <= c["high"] < 1 + 1e-9


def test_bins_hold_what_lies_between_their_edges_and_are_fine_where_a_class_is_rare() -> None:
    rng = np.random.default_rng(0)
    near = np.concatenate([np.nextafter(EDGES, -1), EDGES, np.nextafter(EDGES, 2)]).clip(0, 1)
    p = np.concatenate([near, rng.random(500), 10 ** -rng.uniform(0, 30, 500), 1 - 10 ** -rng.uniform(0, 12, 500)])
    wanted = np.minimum(np.searchsorted(EDGES, p, "right") - 1, BINS - 1)
    assert np.array_equal(bins(p), wanted)
    assert np.array_equal(bins(p[:4000].reshape(2, -1)[:, ::2]), wanted[:4000].reshape(2, -1)[:, ::2])
    assert BINS <= 1000
    assert np.diff(EDGES).max() == 1 / 512
    inner = EDGES[1 : BINS // 2]
    assert (np.diff(inner) <= inner[:-1] / 8).all()
    assert np.array_equal(EDGES, 1 - EDGES[::-1])


def test_weighted_rows_are_told_by_their_weight_and_without_limits_that_are_those_of_rows() -> None:
    rng = np.random.default_rng(3)
    p, task = rng.random(300), Task("binary", ("x",), ("no", "yes"))
    y = (rng.random(300) < p).astype(int)
    plain = Thresholds.of(task.of.thresholds(task.of.sums(p, y, task, np.zeros(1)), task))[0]
    for scale in (1e-9, 0.1, 1e6):  # what all weights are multiplied by changes no curve
        sums, _ = evaluation.evaluate(p, y, task, np.zeros(1), np.full(300, scale))
        assert sums[ROWS] == [300]
        found = Thresholds.of(task.of.thresholds(sums, task))[0]
        assert np.array(found.runs)[:, :3] == pytest.approx(np.array(plain.runs)[:, :3], abs=1e-8)
        assert [point["sensitivity"] for point in found.roc()] == pytest.approx(
            [point["sensitivity"] for point in plain.roc()]
        )
        for one, other in zip(found.calibration(), plain.calibration(), strict=True):
            assert one["observed"] == pytest.approx(other["observed"])
            assert (one["low"], one["high"]) == (None, None)
            assert one["rows"] == pytest.approx(other["rows"] * scale)


def sites(classes: int = 2) -> dict[str, dict[str, Any]]:
    found = {}
    for number, rows in enumerate((300, 500, 200)):
        rng = np.random.default_rng(number)
        x = rng.normal(size=rows)
        y = np.digitize(x + rng.normal(size=rows), np.linspace(-0.5, 0.5, classes - 1) if classes > 2 else [0.0])
        found[f"site-{number}"] = {"x": x, "z": rng.normal(size=rows), "y": [f"c{v}" for v in y]}
    return found


@pytest.mark.parametrize("model", ["logistic_regression", "sgd_classifier", "xgboost", "random_forest"])
def test_a_result_has_them_of_its_last_model(model: str) -> None:
    with hanse.simulate(sites()) as federation:
        result = federation.experiment(model=model, target="y", sample_id_column=None, rounds=3).run(progress=False)
    (found,) = result.thresholds
    assert found.label == "c1"
    points = found.roc()
    area = np.trapezoid([p["sensitivity"] for p in points], [p["false_positive_rate"] for p in points])
    assert area == pytest.approx(result.metrics["auc"], abs=0.04)  # of a curve in steps of ten rows
    assert sum(run[3] + run[4] for run in found.runs) == result.metrics["n"]
    assert sum("thresholds" in step.metrics for step in result.rounds) == 1
    assert all("thresholds" not in entry for entry in result.record.data["history"])


def test_they_are_those_of_the_pooled_held_out_rows() -> None:
    """Nine of ten rows are held out, so the curve is near scikit-learn's of all rows, predicted by the result."""
    with hanse.simulate(sites()) as federation:
        result = federation.experiment(
            model="logistic_regression", target="y", sample_id_column=None, test_fraction=0.9
        ).run(progress=False)
    pooled = {name: np.concatenate([np.asarray(s[name]) for s in sites().values()]) for name in ("x", "z", "y")}
    score = result.predictor().predict_proba(Table.of({k: pooled[k] for k in ("x", "z")}))[:, 1]
    false, true, _ = roc_curve(pooled["y"] == "c1", score, drop_intermediate=False)
    for point in result.thresholds[0].roc():
        near = np.abs(false - point["false_positive_rate"]) + np.abs(true - point["sensitivity"])
        assert near.min() < 0.06
    assert roc_auc_score(pooled["y"] == "c1", score) == pytest.approx(result.metrics["auc"], abs=0.02)


def test_several_classes_and_none() -> None:
    with hanse.simulate(sites(3)) as federation:
        given: dict[str, Any] = {"sample_id_column": None, "rounds": 2}
        result = federation.experiment(model="sgd_classifier", target="y", **given).run(progress=False)
        assert [found.label for found in result.thresholds] == ["c0", "c1", "c2"]
        assert federation.experiment(model="sgd_regressor", target="x", **given).run(progress=False).thresholds == []
