"""Averaging that ends early takes the model of the least loss; and settings that change from round to round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drive import Drive, shares, toy

from hanse import simulate
from hanse.algorithms import most_steps, settled
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.learning.schedule import Schedule
from hanse.learning.stopping import Stopping
from hanse.models import sgd_classifier
from hanse.table import Table

LEARNS = {"model_name": "sgd_classifier", "federated_strategy": "fedavg", "learning_rate": 0.05}


def tables() -> dict[str, Table]:
    return shares(toy(240), 90, 60, 50, 40)


def run(**more: Any) -> tuple[Any, Drive]:
    drive = Drive(tables(), **{**LEARNS, "num_rounds": 40, **more})
    return drive.run(), drive


def overfits() -> dict[str, Any]:
    """Steps so long that the loss soon rises."""
    return {"learning_rate": 0.5, "local_epochs": 3}


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "fedadam", "median"])
def test_it_ends_when_the_loss_has_not_fallen_and_has_the_model_of_the_least(strategy: str) -> None:
    more = {**overfits(), "federated_strategy": strategy, "num_rounds": 60}
    result, drive = run(**more, early_stopping_rounds=3)
    losses = [entry["loss"] for entry in result.data["history"]]
    best = result.data["round"]
    assert losses[best] == min(losses)
    assert result.data["best"] == best
    assert len(losses) == best + 3 + 1 + 1 < 62  # up to three more rounds, and the model that is taken once more
    assert losses[-1] == losses[best]
    short, _ = run(**{**more, "num_rounds": max(1, best)})
    if best:
        for name in ("model.coef", "model.intercept"):
            assert (result.arrays[name] == short.arrays[name]).all()
    assert drive.labels[-1] == "evaluate"
    assert drive.records[-1]["evaluated_round"] == best
    assert "thresholds" in drive.records[-1]
    said = drive.algorithm.ask(drive.state).reason  # type: ignore[union-attr]
    assert said == f"{best + 3} rounds; the loss was least after {best}"
    assert len(drive.records) <= most_steps(drive.config)


def test_whoever_does_not_ask_for_it_has_the_bytes_of_before_and_its_steps() -> None:
    plain, drive = run(num_rounds=4)
    patient, other = run(num_rounds=4, early_stopping_rounds=50)
    assert min(entry["loss"] for entry in plain.data["history"]) == plain.data["history"][-1]["loss"]  # it still falls
    assert {n: a.tobytes() for n, a in plain.arrays.items()} == {n: a.tobytes() for n, a in patient.arrays.items()}
    assert drive.labels == other.labels


def test_the_last_round_may_not_be_the_best_one() -> None:
    more = {**overfits(), "num_rounds": 60}
    best = run(**more, early_stopping_rounds=3)[0].data["round"]
    result, drive = run(**{**more, "num_rounds": best + 2}, early_stopping_rounds=50)  # patience is never out
    assert result.data["round"] == best
    assert drive.records[-1]["loss"] == min(entry["loss"] for entry in result.data["history"])
    assert len(drive.records) <= most_steps(drive.config)


def test_a_little_less_is_no_less() -> None:
    schedule = Schedule(9, True, 0, round=1)
    first = Stopping(2, 0.1).measured(schedule, {"round": 0, "loss": 1.0}, {"w": np.zeros(1)})
    assert first.measured(schedule, {"round": 1, "loss": 0.95}, {"w": np.ones(1)}) is first
    less = first.measured(schedule, {"round": 1, "loss": 0.8}, {"w": np.ones(1)})
    assert less.best == 1
    assert less.model["w"][0] == 1
    assert first.measured(schedule, {"round": 1, "loss": None}, {}) is first


def test_losses_of_other_sites_are_not_compared() -> None:
    fewer = {"answered": 2, "of": 3, "which": "x"}
    begun = Stopping(2).measured(Schedule(9, True, 0), {"round": 0, "loss": 0.1}, {})
    later = begun.measured(Schedule(9, True, 0, round=1), {"round": 1, "loss": 5.0, "sites": fewer}, {})
    assert later.best == 1
    assert later.loss == 5.0


def test_of_a_sample_what_everybody_measured_counts() -> None:
    drive = Drive(
        tables(),
        draw=lambda step: sorted(tables())[step % 2 :: 2],
        **{**LEARNS, **overfits(), "num_rounds": 60, "fraction": 0.5, "evaluate_every": 2},
        early_stopping_rounds=6,
    )
    result = drive.run()
    everybody = {entry["round"]: entry["loss"] for entry in result.data["history"] if not entry.get("sites")}
    assert result.data["round"] == min(everybody, key=lambda r: (everybody[r], r))
    assert max(everybody) == result.data["round"] + 6
    assert len(drive.records) <= most_steps(drive.config)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"test_fraction": 0.0}, "test_fraction above 0"),
        ({"federated_strategy": "ditto"}, "stays at its site"),
        ({"federated_strategy": "fedbuff"}, "each step has other ones"),
        ({"fraction": 0.5, "evaluate_every": 0}, "evaluate_every above 0"),
        ({"early_stopping_rounds": 0}, "expected a whole number from 1"),
        ({"early_stopping_tolerance": -1.0}, "expected a number from 0"),
        ({"by_round": {"local_epochs": {"0": 2}}}, "first round"),
        ({"by_round": {"local_epochs": {"2": 0}}}, "first round"),
        ({"by_round": {"proximal_mu": {"2": 1}}}, "first round"),
        ({"by_round": {"local_epochs": 2}}, "first round"),
    ],
)
def test_what_cannot_work_is_answered_at_the_proposal(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        settled(RunConfig.parse({**LEARNS, "early_stopping_rounds": 2, **given}))


def test_training_changes_in_the_rounds_that_were_agreed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, float]] = []
    real = sgd_classifier.SGDClassifier.train

    def noted(*given: Any) -> Any:
        seen.append((given[-1].epochs, given[-1].batch_size, given[-1].learning_rate))
        return real(*given)

    monkeypatch.setattr(sgd_classifier.SGDClassifier, "train", noted)
    by_round = {"local_epochs": {"2": 4, "4": 1}, "batch_size": {"3": 10}, "learning_rate": {"1": 0.3, "10": 9.0}}
    run(num_rounds=4, by_round=by_round, learning_rate_decay=0.5)
    sites = len(tables())
    assert seen[::sites] == [(1, 32, 0.3), (4, 32, 0.15), (4, 10, 0.075), (1, 10, 0.0375)]
    assert len(seen) == 4 * sites


def test_in_a_simulation_the_figures_are_those_of_the_model_that_was_taken() -> None:
    with simulate(tables()) as federation:
        result = federation.experiment(
            model="sgd_classifier",
            target="y",
            rounds=60,
            sample_id_column=None,
            federated_strategy="fedavg",
            early_stopping_rounds=3,
            **overfits(),
        ).run(progress=False)
    assert "the loss was least after" in result.reason
    rows = {row["round"]: row for row in result.history}
    best = result.record.data["round"]
    assert max(rows) == best + 3
    assert result.metrics["loss"] == rows[best]["loss"] == min(row["loss"] for row in rows.values())
    assert result.thresholds
