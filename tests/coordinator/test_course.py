"""Analytics against values computed by hand (LEDGER M43, M48 to M51, F38 to F42, F130 to F144)."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hanse
from demo import hospitals
from demo.__main__ import MODELS
from hanse.coordinator import course, training_metrics
from hanse.coordinator.course import RoundView, convergence


def step(
    number: int, round: int | None, parts: dict[str, Any], metrics: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    participants = {n: {"seconds": s, "weight": w, "metrics": m, "asked": number} for n, (s, w, m) in parts.items()}
    return {
        "step": number,
        "label": "train",
        "round": round,
        "status": "ok",
        "ended": f"t{number}",
        "seconds": 2.0,
        "participants": participants,
        "failures": {},
        "metrics": metrics or {},
        "bytes_up": 30,
        "bytes_down": 10,
        **more,
    }


TWO = [
    step(0, 1, {"a": (1.0, 100, {"loss": 0.8, "accuracy": 0.6}), "b": (1.5, 300, {"loss": 0.4, "accuracy": 0.8})}),
    step(1, 2, {"a": (0.5, 100, {"loss": 0.4, "accuracy": 0.7})}, failures={"b": "it was late"}),
]


def test_curves_are_weighted_means_with_the_spread_over_sites() -> None:
    """M49: (100 * 0.8 + 300 * 0.4) / 400 = 0.5."""
    first, second = [r.public() for r in course.views(TWO)]
    assert first["loss"] == pytest.approx(0.5)
    assert first["accuracy"] == pytest.approx(0.75)
    assert first["spread"]["loss"] == {"min": 0.4, "max": 0.8}
    assert first["auc"] is None
    assert (second["loss"], second["n_clients"], second["failures"]) == (0.4, 1, {"b": "it was late"})
    assert first["clients"]["b"] == {"weight": 300, "seconds": 1.5, "metrics": {"loss": 0.4, "accuracy": 0.8}}


def test_the_global_metric_is_taken_where_there_is_one() -> None:
    view = course.views([step(0, 1, {"a": (1, 10, {"loss": 9.0})}, {"loss": 0.25, "spread": {"x": 1}})])[0].public()
    assert view["loss"] == 0.25
    assert "spread" not in view["metrics"]


def test_rounds_that_were_measured_on_other_sites_say_so_and_are_not_compared() -> None:
    some = {"answered": 1, "of": 2, "which": "a"}
    whole = [
        step(2 * r, r, {"a": (1, 10, {"loss": 9.0})}, {"loss": 9.0, "evaluated_round": r - 1, "sites": some})
        for r in range(1, 6)
    ]
    whole.append(step(20, None, {"a": (1, 10, {"loss": 0.3}), "b": (1, 10, {})}, {"loss": 0.3, "evaluated_round": 5}))
    rounds = [r.public() for r in course.views(whole)]
    assert [r["measured_on"] for r in rounds] == [{"answered": 1, "of": 2}] * 5 + [None]
    assert [r.round for r in course.comparable(course.views(whole))] == [5]
    assert course.session({}, whole, ["a", "b"])["convergence"]["status"] == "insufficient_data"


def test_an_evaluation_counts_for_the_round_whose_model_it_evaluated() -> None:
    steps = [
        step(0, 1, {"a": (1, 10, {"loss": 0.9})}, {"loss": 0.9, "evaluated_round": 0}),
        step(1, 2, {"a": (1, 10, {"loss": 0.5})}, {"loss": 0.5, "evaluated_round": 1}),
        step(2, None, {"a": (1, 10, {"loss": 0.3})}, {"loss": 0.3, "evaluated_round": 2}),
    ]
    assert [(r.round, r.metrics["loss"], len(r.clients)) for r in course.views(steps)] == [
        (0, 0.9, 0),
        (1, 0.5, 1),
        (2, 0.3, 1),
    ]
    assert [r.public()["sites"]["a"]["loss"] for r in course.views(steps)] == [0.9, 0.5, 0.3]


def test_what_all_sites_together_have_not_is_no_mean_of_those_that_have_it() -> None:
    """One site predicts no number, so there is no loss and no AUC; those of the other were told as the federation's."""
    parts = {"a": (1, 10, {"loss": 0.3, "auc": 0.9, "accuracy": 0.8}), "b": (1, 30, {"accuracy": 0.1})}
    known = {"loss": None, "auc": None, "accuracy": 0.275, "invalid": 25}
    [view] = course.views([step(0, 1, parts, known)])
    assert [view.public()[name] for name in ("loss", "auc", "accuracy")] == [None, None, 0.275]
    [view] = course.views([step(0, 1, parts, {"n": 0, "loss": None, "implausible": True})])
    assert [view.public()[name] for name in ("loss", "auc", "accuracy")] == [None] * 3


def test_trends_are_by_rounds_and_of_the_same_sites() -> None:
    def measured(round: int, accuracy: float | None, **more: Any) -> dict[str, Any]:
        return step(round, round, {"a": (1, 10, {})}, {"accuracy": accuracy, "loss": accuracy, **more})

    every_third = [measured(r, 0.5 + r / 100 if r % 3 == 1 else None) for r in range(1, 11)]
    found = training_metrics.metrics(every_third)
    assert found["convergence_metrics"]["accuracy_trend"] == pytest.approx(0.1)  # 0.01 a round; it was told as 0.3
    some = {"answered": 1, "of": 2, "which": "x"}
    other = [measured(1, 0.9, sites=some), measured(2, 0.95, sites=some), *(measured(r, 0.6) for r in (3, 4, 5, 6))]
    found = training_metrics.metrics(other)
    assert found["accuracy"] == [0.9, 0.95, 0.6, 0.6, 0.6, 0.6]
    assert found["convergence_metrics"] == {
        "accuracy_trend": 0,
        "loss_trend": 0,
        "convergence_rate": 0,
        "stability": None,  # of four
    }
    assert training_metrics.metrics(other[:4])["convergence_rate"] is None


def test_failed_steps_and_preparation_are_no_rounds() -> None:
    steps = [step(0, None, {"a": (1, 1, {"n": 5.0})}), step(1, 1, {}, status="failed", failures={"a": "x"}), *TWO]
    assert [r.round for r in course.views(steps)] == [1, 2]
    assert course.failures_of(steps) == {"a": 1, "b": 1}


def test_contribution() -> None:
    """M50: shares of all weight, participation, failures, improvement of the own loss."""
    found = course.contribution(course.views(TWO), course.failures_of(TWO), ["a", "b", "c"])
    assert found["a"] == {
        "rounds": 2,
        "failures": 0,
        "samples": 100,
        "share": pytest.approx(0.4),
        "seconds": 1.5,
        "metrics": {"loss": 0.4, "accuracy": 0.7},
        "loss_improvement": pytest.approx(0.4),
        "participation": 1.0,
    }
    told = [
        {**one, "metrics": {**one["metrics"], "contributions": {"a": {"cosine": c, "left_out": 0.2}}}}
        for one, c in zip(TWO, (1.0, 0.5, None), strict=False)
    ]
    means = course.contribution(course.views(told), {}, ["a", "b"])
    assert (means["a"]["cosine"], means["a"]["left_out"]) == (pytest.approx(0.75), pytest.approx(0.2))
    assert "cosine" not in means["b"]
    assert (found["b"]["share"], found["b"]["failures"], found["b"]["participation"]) == (pytest.approx(0.6), 1, 0.5)
    assert (found["c"]["samples"], found["c"]["seconds"], found["c"]["loss_improvement"]) == (None, None, None)


def test_sites_whose_sums_weigh_one_count_by_the_rows_that_they_learned_from() -> None:
    """A page said of exact boosting that each site had one sample and a third of the weight."""
    sums = [step(0, 1, {"a": (1.0, 1, {"n": 90.0}), "b": (1.0, 1, {"n": 10.0}), "c": (1.0, 1, {})})]
    found = course.contribution(course.views(sums), {}, ["a", "b", "c"])
    assert [found[n]["samples"] for n in "abc"] == [90, 10, 1]
    assert [found[n]["share"] for n in "abc"] == pytest.approx([90 / 101, 10 / 101, 1 / 101])
    steps = [step(0, 1, {"a": (1.0, 100, {"n": 7.0}), "b": (1.0, 1, {"n": 5.0})})]  # of an average weights count
    assert course.contribution(course.views(steps), {}, ["a", "b"])["a"]["samples"] == 100


def test_importance() -> None:
    """M48: per round Σ n_c imp_cf / Σ n_c, then mean, std, rank and stability."""

    def of(**shares: float) -> dict[str, Any]:
        return {"feature_importance": shares}

    sites = {
        "a": {"weight": 100, "seconds": 1, "metrics": of(x=3.0, y=1.0)},
        "b": {"weight": 300, "seconds": 1, "metrics": of(x=1.0, y=1.0)},
    }
    rounds = [RoundView(1, clients=sites), RoundView(2, metrics=of(x=1.0, y=3.0))]
    rows, stability = course.importance(rounds)
    x = (100 * 0.75 + 300 * 0.5) / 400
    assert [r["feature"] for r in rows] == ["y", "x"]
    assert rows[1] == {
        "feature": "x",
        "latest": 0.25,
        "mean": pytest.approx((x + 0.25) / 2),
        "std": pytest.approx(abs(x - 0.25) / 2),
        "rank": 2,
    }
    assert stability == pytest.approx(-1)
    assert course.importance([RoundView(1)]) == ([], None)


@pytest.mark.parametrize(
    ("losses", "status"),
    [
        ([], "insufficient_data"),
        ([1.0, 0.9, 0.8], "insufficient_data"),
        ([None] * 9, "insufficient_data"),
        ([1.0, 0.8, 0.6, 0.5], "improving"),
        ([1.0, 0.5, 0.3, 0.2995, 0.2994, 0.2993], "converged"),
        ([0.7, 0.7, 0.7, 0.7], "plateaued"),
        ([1.0, 0.3, 0.5, 0.5, 0.5, 0.5], "plateaued"),
        ([0.5, 0.6, 0.8, 1.2], "diverging"),
        ([0.69, 0.45, 0.40, 0.42, 0.44, 0.46], "past_best"),  # an earlier round was better; far from diverging
        ([1.0, 0.5, 0.9, 0.5, 0.9, 0.5], "oscillating"),
        ([1.0, 0.5, float("nan")], "diverging"),
        ([1.0, 0.5, float("inf")], "diverging"),
        ([0.0] * 6, "plateaued"),
    ],
)
def test_convergence(losses: list[float | None], status: str) -> None:
    """M51: window 3, tolerance 1 %."""
    assert convergence(losses, range(1, len(losses) + 1))["status"] == status


def test_what_the_demo_shows_first_does_not_diverge(tmp_path: Path) -> None:
    """XGBoost on its four hospitals was labelled so: the loss rises from its best, far below that of the start."""
    rows = {name: pandas.read_csv(file) for name, file in hospitals.write(tmp_path).items()}
    shown = MODELS["XGBoost"] | {"seed": 2026, "sample_id_column": hospitals.SAMPLE_ID}
    run = hanse.simulate(rows).experiment(target=hospitals.TARGET, **shown).run(progress=False)
    rounds = course.views([asdict(step) for step in run.rounds])
    losses = [course.number(view.metrics.get("loss")) for view in rounds]
    found = convergence(losses, [view.round for view in rounds])
    assert len([x for x in losses if x is not None]) > 15
    assert found["status"] not in ("diverging", "insufficient_data")


def test_convergence_says_since_when_and_by_how_much() -> None:
    found = convergence([1.0, 0.5, 0.3, 0.2995, 0.2994, 0.2993, 0.2992], range(1, 8))
    assert found["since_round"] == 6
    assert found["delta"] == pytest.approx((0.2995 - 0.2992) / 0.2995)
    assert (found["window"], found["tolerance"]) == (3, 0.01)


@given(st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True), max_size=30), st.integers(1, 5))
def test_convergence_always_has_an_answer(losses: list[float | None], window: int) -> None:
    known = {"insufficient_data", "improving", "converged", "plateaued", "past_best", "diverging", "oscillating"}
    assert convergence(losses, range(len(losses)), window)["status"] in known


def flopy(accuracies: list[float | None], losses: list[float], participants: list[int]) -> list[dict[str, Any]]:
    return [
        step(i, i + 1, {f"n{k}": (0.5 * (k + 1), 10, {}) for k in range(count)}, {"accuracy": a, "loss": x})
        for i, (a, x, count) in enumerate(zip(accuracies, losses, participants, strict=True))
    ]


def test_the_documents_own_series() -> None:
    """F38 to F42, F136, F137: the formulas give 0.1667 and 0.4167 for the document's example, not 0.85."""
    found = training_metrics.metrics(
        flopy([0.5, 0.55, 0.6, 0.65, 0.7, 0.72, 0.75], [1.0, 0.93, 0.87, 0.8, 0.73, 0.67, 0.6], [3, 3, 2, 3, 3, 2, 3])
    )
    assert found["accuracy"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.72, 0.75]
    assert found["rounds"] == len(found["accuracy"]) == len(found["loss"]) == 7
    assert found["participants_per_round"] == [3, 3, 2, 3, 3, 2, 3]
    assert found["convergence_rate"] == pytest.approx(0.1667, abs=5e-5)
    known = found["convergence_metrics"]
    assert known["accuracy_trend"] == pytest.approx(0.4167, abs=5e-5)
    assert known["loss_trend"] == pytest.approx(-0.6667, abs=5e-5)
    last = [0.6, 0.65, 0.7, 0.72, 0.75]
    mean = sum(last) / 5
    assert known["stability"] == pytest.approx(1 - math.sqrt(sum((a - mean) ** 2 for a in last) / 5) / mean)
    assert (found["total_participants"], found["average_round_time"]) == (3, 2.0)
    assert found["communication_efficiency"] == pytest.approx(0.75)
    assert (found["latest_accuracy"], found["latest_loss"], found["total_rounds"]) == (0.75, 0.6, 7)


def test_nothing_is_invented() -> None:
    """F16, F17, F131, F133, F138: no rounds, one round and rounds without an evaluation give null."""
    none = training_metrics.metrics([])
    assert none["accuracy"] == [] == none["round_metrics"]
    assert all(
        none[k] is None
        for k in (
            "latest_accuracy",
            "latest_loss",
            "convergence_rate",
            "average_round_time",
            "communication_efficiency",
        )
    )
    assert none["convergence_metrics"] == {}
    one = training_metrics.metrics([step(0, 1, {"a": (1.0, 10, {})})])
    assert (one["accuracy"], one["loss"], one["convergence_metrics"]) == ([None], [None], {})
    assert one["round_metrics"][0]["global_accuracy"] is None
    assert one["client_metrics"]["a"]["1"]["local_loss"] is None
    assert training_metrics.convergence_rate([0.2, 1.0, 1.0, 1.0]) is None
    assert training_metrics.stability([0.5] * 4) is None
    assert training_metrics.trend([0.5]) is None
    assert training_metrics.trend([0.0, 1.0]) == 1.0


def test_round_and_client_records() -> None:
    """F130, F132."""
    found = training_metrics.metrics(TWO)
    first = found["round_metrics"][0]
    assert first == {
        "round": 1,
        "timestamp": "t0",
        "participants": ["a", "b"],
        "global_accuracy": pytest.approx(0.75),
        "global_loss": pytest.approx(0.5),
        "communication_time": 1.5,
        "aggregation_time": 0.5,
    }
    assert found["client_metrics"]["b"]["1"] == {
        "local_accuracy": 0.8,
        "local_loss": 0.4,
        "training_time": 1.5,
        "data_samples": 300,
        "model_size": 15,
    }


def test_what_features_add_to_predictions_is_that_of_the_step_that_asked() -> None:
    told = [{"feature": "age", "mean_abs": 0.5, "error": 0.01, "mean": -0.1, "rank": 1}]
    steps = [
        {"step": 0, "round": 1, "status": "ok", "metrics": {"loss": 0.5}},
        {
            "step": 1,
            "round": None,
            "status": "ok",
            "label": "explain",
            "metrics": {"shap": {"rows": 9, "features": told}},
        },
        {"step": 2, "round": None, "status": "ok", "metrics": {}},
    ]
    assert course.session({}, steps, ["a"])["shap"] == told
    assert course.session({}, steps[:1], ["a"])["shap"] == []
