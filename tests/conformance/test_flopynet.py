"""What FLOPY-NET's framework states of training, selection and metrics, and no other test shows (LEDGER D1)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse import algorithms
from hanse.config import RunConfig
from hanse.coordinator import course
from hanse.errors import ConfigError
from hanse.registry import names
from hanse.table import Column, Table
from tests.coordinator.federation import Federation

MODEL = {
    "model_name": "logistic_regression",
    "federated_strategy": "fedavg",
    "target_column": "disease",
    "sample_id_column": None,
    "num_rounds": 2,
    "local_epochs": 5,
}


def visits(seed: int, rows: int = 60) -> Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    return Table({"x": Column.numeric(x), "disease": Column.categorical(np.where(x > 0, "ill", "well").tolist())})


async def trained(f: Federation, *nodes: str, **more: Any) -> dict[str, Any]:
    """A run to its end."""
    f.people(*nodes)
    for seed, name in enumerate(nodes):
        await f.node(name, {"visits": visits(seed)})
    session = await f.ok("sci", "POST", "/api/training/start", {**MODEL, **more}, 201)
    for name in nodes:
        await f.consent(session, name)
    await f.state(session["session_id"], "completed")
    return session


def test_two_rounds_measure_what_the_model_does(tmp_path: Path) -> None:
    """F16, F17, F38 to F42, F134, F184, F188: lists as long as there are rounds, of numbers that were measured."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            session = await trained(f, "a", "b", num_rounds=6)
            told = await f.ok("sci", "GET", "/metrics")
            assert told["rounds"] == told["total_rounds"] == len(told["accuracy"]) == len(told["loss"]) == 6
            assert told["participants_per_round"] == [2] * 6
            assert told["loss"][-1] < told["loss"][0] < np.log(2)
            assert told["accuracy"][-1] > 0.9
            assert all(entry["communication_time"] > 0 for entry in told["round_metrics"])
            steps = await f.ok("sci", "GET", f"/api/runs/{session['session_id']}/rounds")
            step = next(s for s in steps["rounds"] if s["label"] == "train")
            assert step["bytes_up"] > 0
            assert set(step["participants"]) == {"a", "b"}
            seen = (await f.ok("sci", "GET", f"/api/analytics/session/{session['session_id']}"))["trends"]
            assert seen == told["convergence_metrics"]
            a = told["accuracy"]
            assert seen["convergence_rate"] == pytest.approx((a[-1] - a[-3]) / (1 - a[-3]) if a[-3] < 1 else None)
            assert seen["loss_trend"] == pytest.approx(max(-1, 10 * (told["loss"][-1] - told["loss"][0]) / 5))

    asyncio.run(body())


def test_the_estimate_is_the_mean_of_the_rounds_that_were(tmp_path: Path) -> None:
    """F32: nothing before a round is done, then a time that is still to come."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            node = await f.node("a", {"visits": visits(0)})
            session = await f.ok("sci", "POST", "/api/training/start", {**MODEL, "num_rounds": 300}, 201)
            await f.consent(session, "a")
            await f.until(lambda events: sum(e.kind == "round" and e.detail["label"] == "train" for e in events) > 3)
            node.hold = asyncio.Event()
            told = await f.ok("sci", "GET", "/status")
            ends, now = (datetime.fromisoformat(told[n]) for n in ("estimated_completion", "timestamp"))
            measured = await f.ok("sci", "GET", "/metrics")
            left = (told["max_rounds"] - told["rounds"]) * measured["average_round_time"]
            assert ends > now
            assert 0 < left < 300 * 60
            node.hold.set()
            await f.ok("sci", "POST", f"/api/training/sessions/{session['session_id']}/cancel")

    asyncio.run(body())


def test_a_client_lives_as_the_document_says(tmp_path: Path) -> None:
    """F56 to F62: registers, waits for consent, trains, sends, receives the new model, evaluates it."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            session = await trained(f, "a", "b")
            run = session["session_id"]
            events = await asyncio.to_thread(f.store.events.since, 0, 100_000, run=run)
            states = [e.detail["to"] for e in events if e.kind == "run.state"]
            assert states == ["awaiting_consent", "running", "completed"]
            labels = [e.detail["label"] for e in events if e.kind == "round"]
            assert labels == ["prepare"] * 3 + ["train", "train", "evaluate"]
            told = await f.ok("sci", "GET", f"/api/analytics/session/{run}")
            sites = [round["sites"] for round in told["rounds"]]
            assert [sorted(each) for each in sites] == [["a", "b"]] * 3  # round 0 to 2, on each site's own rows
            assert all(site["n_test"] == 15 for each in sites for site in each.values())  # a quarter is held out
            await f.until(lambda _: f.nodes["a"].finished == ["completed"])  # told after the run's own end

    asyncio.run(body())


def test_fedavg_is_the_default_of_what_is_averaged() -> None:
    """F63, F64: with the server's learning rate 1."""
    chosen = {
        model: algorithms.resolve(RunConfig(model_name=model, plan={"source": "", "name": "p"}))
        for model in names("models")
        if algorithms.fitting(model) and "fedavg" in algorithms.fitting(model)
    }
    averaged = {model for model in chosen if chosen[model] == "fedavg"}
    assert {"sgd_classifier", "mlp_classifier", "torch_module"} <= averaged
    for model in set(chosen) - averaged:
        assert algorithms.nearness(chosen[model]) == algorithms.EQUAL  # it can be had exactly
    config = algorithms.settled(RunConfig.parse({"model_name": "sgd_classifier"}))
    assert config.ingredient_settings["server_learning_rate"] == 1.0


@pytest.mark.parametrize("weights", [{"a": -1}, {"a": 0, "b": 0}, {"a": "1"}, {"a": float("nan")}, {}, [1, 2]])
def test_given_weights_are_checked(weights: Any) -> None:
    """F72: the document divides by their sum, whatever they are; and zips them with sites that may be more."""
    settings = {**MODEL, "site_weights": weights}
    with pytest.raises(ConfigError, match="site_weights"):
        algorithms.settled(RunConfig.parse(settings))
    with pytest.raises(ConfigError, match="no weight for b"):
        algorithms.settled(RunConfig.parse({**MODEL, "site_weights": {"a": 1}, "expected_client_ids": ["a", "b"]}))


def test_a_model_that_is_stuck_at_chance_has_not_converged() -> None:
    """F69, F70: the document calls any three accuracies within 0.01 converged."""
    stuck = [0.6931, 0.6932, 0.6931, 0.6931, 0.6931]
    assert course.convergence(stuck, range(1, 6))["status"] == "plateaued"
    assert course.convergence(stuck[:2], range(1, 3))["status"] == "insufficient_data"
    learned = [0.69, 0.4, 0.3, 0.2995, 0.2993, 0.2992]
    assert course.convergence(learned, range(1, 7))["status"] == "converged"


@pytest.mark.parametrize(("online", "asked"), [(1, 1), (2, 2), (3, 2), (5, 4), (10, 8)])
def test_as_many_are_asked_as_the_document_says(tmp_path: Path, online: int, asked: int) -> None:
    """F84, F85, F87: max(min_clients, int(0.8 n)) of n, never more than there are; the others are not waited for."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            nodes = [f"n{i}" for i in range(online)]
            least = {"min_fit_nodes": min(2, online), "fraction": 0.8, "evaluate_every": 0}
            session = await trained(f, *nodes, **least)
            steps = await asyncio.to_thread(f.store.rounds.list, session["session_id"])
            for step in (s for s in steps if s.label == "train"):
                assert len(step.record["asked"]) == asked
                assert sorted(step.record["participants"]) == sorted(step.record["asked"])

    asyncio.run(body())
