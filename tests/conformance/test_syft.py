"""What syft-flwr's document states of a server, shown on Hanse (docs/conformance.md, rows S)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hanse
import hanse.experiment.federation
from hanse import algorithms, bundle, features
from hanse.answers import Answerer
from hanse.config import RunConfig
from hanse.errors import ConfigError, DataError, HanseError, NotFound, RunFailed, WireError
from hanse.experiment.connection import Connection
from hanse.experiment.credentials import Credentials
from hanse.experiment.results import Result, load_result
from hanse.messages import Record, digest
from hanse.prediction import Unfamiliar
from hanse.table import Table
from tests.coordinator.federation import Federation

from .conftest import HEART, World, approve

MODELS = ["logistic_regression", "mlp_classifier", "xgboost", "random_forest"]
PLAN = """
import torch

def build(task, options):
    return torch.nn.Linear(len(task.features), task.outputs)
"""


def patients(seed: int, rows: int = 80) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    age, marker = rng.normal(60, 9, rows), rng.normal(0, 1 + seed, rows)
    return {
        "age": age,
        "marker": marker,
        "smoker": rng.choice(["yes", "no"], rows),
        "disease": np.where((age - 60) / 9 + marker + rng.normal(0, 0.5, rows) > 0, "yes", "no"),
    }


def sites(*seeds: int) -> dict[str, dict[str, Any]]:
    return {f"site{seed}": patients(seed) for seed in seeds}


def settings(**more: Any) -> dict[str, Any]:
    return {"target": "disease", "rounds": 2, "sample_id_column": None, **more}


# ---------------------------------------------------------------- S11: hyper-parameters


def test_hyper_parameters_are_those_that_were_agreed_on() -> None:
    """S11: a node trains with what its owner read and agreed to. A task that brings others changes nothing,
    and a name that is not on the list of settings is refused by the node, whoever froze it."""
    table = Table.of(patients(1))
    config = algorithms.settled(
        RunConfig.parse({"model_name": "sgd_classifier", "learning_rate": 0.05, "num_rounds": 1})
    )
    alignment = features.align({"a": table.schema()}, "intersection", targets=["disease"])
    frozen = bundle.freeze(config, alignment.to_json(), {"a": {"name": "x", "version": "1"}})
    algorithm = algorithms.build(config)
    state, site = algorithm.init(config.to_json()), Answerer("a", lambda content: table)

    def answer(ask: Record, combine: str = "sum", **more: Any) -> Record:
        data = {
            "run": "r",
            "step": 9,
            "exchange": 0,
            "op": "answer",
            "combine": combine,
            "ask": {**ask.data, "of": {**ask.data["of"], **more}},
        }
        return site.answer(Record(data, ask.arrays), frozen.content)

    while state.data["stage"] == 0:  # until the preparation is done
        ask = algorithm.ask(state)
        reply = answer(ask.record, str(ask.combine))
        state = algorithm.tell(state, _gathered("a", reply, ask.combine))
    ask = algorithm.ask(state)
    agreed = answer(ask.record)
    for name, value in {"learning_rate": 1000.0, "batch_size": 1, "local_epochs": 99, "epochs": 99}.items():
        with pytest.raises(WireError, match=f"{name} of Question is not known"):
            answer(ask.record, **{name: value})
    for changed in ({"learning_rate": 0.5}, {"local_epochs": 2}):  # they do count where the owner agreed to them
        other = {**frozen.content, "config": {**frozen.content["config"], **changed}}
        reply = Answerer("a", lambda content: table).answer(
            Record(
                {"run": "r", "step": 9, "exchange": 0, "op": "answer", "combine": "sum", "ask": ask.record.data},
                ask.record.arrays,
            ),
            other,
        )
        assert digest(reply) != digest(agreed), changed
    foreign = {**frozen.content, "config": {**frozen.content["config"], "shell": "rm"}}
    with pytest.raises(ConfigError, match="no setting 'shell'"):
        Answerer("a", lambda content: table).answer(
            Record({"run": "r", "step": 0, "exchange": 0, "op": "answer", "combine": "sum", "ask": {}}), foreign
        )


def _gathered(node: str, reply: Record, combine: Any) -> Any:
    """What the loop makes of one node's reply."""
    from hanse.gather import Reply
    from hanse.kinds import Ask
    from hanse.registry import find

    async def exchange(asks: Mapping[str, Record], op: str = "answer", need: int | None = None) -> Any:
        yield Reply(node, 0, reply)

    gather = find("gathering", "plain").GATHER()
    return asyncio.run(gather.collect(Ask(Record(), combine, "x"), {node: Record()}, exchange))


# ---------------------------------------------------------------- S12: initial weights from a checkpoint


@pytest.mark.parametrize("model", MODELS)
def test_a_run_goes_on_from_the_model_of_another(model: str, tmp_path: Path) -> None:
    """S12, S13: before its first round the second run has exactly the first one's model; what it learns is
    better, or more trees; from a file it is the same."""
    averaged = {"federated_strategy": "fedavg"} if model == "logistic_regression" else {}  # else it is fitted exactly
    with hanse.simulate(sites(1, 2), seed=3) as federation:
        first = federation.experiment(model, **settings(**averaged)).run(progress=False)
        again = federation.experiment(model, initial_model=first, **settings(seed=9, **averaged))
        second = again.run(progress=False, global_evaluate=lambda number, result: result.evaluate(patients(5)))
    validation = first.evaluate(patients(5))
    assert second.central[0] == {"round": 0, **validation}  # the same predictions, to the last bit
    assert second.central[-1] != {**second.central[0], "round": 2}
    assert again.config.features == ["age", "marker", "smoker"]
    assert {s.round for s in second.rounds if s.label == "train"} == {1, 2}
    first.save(tmp_path / "model.safetensors")
    with hanse.simulate(sites(1, 2), seed=3) as elsewhere:
        loaded = load_result(tmp_path / "model.safetensors")
        third = elsewhere.experiment(model, initial_model=loaded, **settings(seed=9, **averaged)).run(progress=False)
    assert digest(third.record) == digest(second.record)


@pytest.mark.torch
def test_a_network_goes_on_from_its_weights() -> None:
    """S12: also where the nodes make the first weights, because only they run the plan."""
    pytest.importorskip("torch")
    with hanse.simulate(sites(1, 2)) as federation:
        made = settings(plan=PLAN)
        first = federation.experiment("torch_module", **made).run(progress=False)
        same = federation.experiment("torch_module", initial_model=first, **made, keep_models=True)
        seen: list[Result] = []
        same.run(progress=False, global_evaluate=lambda number, result: seen.append(result))
        before, after = first.record.arrays, seen[0].record.arrays
        assert all(np.array_equal(before[n], after[n]) for n in before if n.startswith("model."))
        wider = PLAN.replace("task.outputs)", "task.outputs, bias=False)")
        with pytest.raises(RunFailed, match="initial_model has other parameters"):
            federation.experiment("torch_module", initial_model=first, **settings(plan=wider)).run(progress=False)


def test_a_model_that_does_not_fit_is_refused() -> None:
    with hanse.simulate(sites(1, 2)) as federation:
        first = federation.experiment("logistic_regression", federated_strategy="fedavg", **settings()).run(
            progress=False
        )
        forest = federation.experiment("random_forest", **settings()).run(progress=False)
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"model": "mlp_classifier"}, "is a logistic_regression, but the run is to learn a mlp_classifier"),
            (
                {"model": "logistic_regression", "federated_strategy": "fedavg", "target": "smoker"},
                "predicts 'disease', not 'smoker'",
            ),
            (
                {"model": "logistic_regression", "federated_strategy": "fedavg", "features": ["age"]},
                "it differs in marker, smoker",
            ),
            ({"federated_strategy": "probe"}, "probe learns no model"),
        ]
        for changes, reason in wrong:
            with pytest.raises(ConfigError, match=reason):
                federation.experiment(**{**settings(initial_model=first), **changes})
        with pytest.raises(ConfigError, match="64 hexadecimal"):
            federation.experiment(
                "logistic_regression", federated_strategy="fedavg", initial_model="model.pkl", **settings()
            )
        with pytest.raises(NotFound, match="no model"):
            federation.experiment(
                "logistic_regression", federated_strategy="fedavg", initial_model="0" * 64, **settings()
            ).run(progress=False)
        for name, bad in (("model.coef", np.nan), ("model.coef", None)):
            arrays = {n: first.record.arrays[n] for n in first.record.arrays}
            arrays[name] = arrays[name][:, :1] if bad is None else np.full_like(arrays[name], bad)
            broken = Result(Record(first.record.data, arrays), first.config, [])
            with pytest.raises(RunFailed, match="not finite|has other parameters"):
                federation.experiment(
                    "logistic_regression", federated_strategy="fedavg", initial_model=broken, **settings()
                ).run(progress=False)
        arrays = {n: forest.record.arrays[n] for n in forest.record.arrays}
        arrays["model.left"] = np.full_like(arrays["model.left"], 10**6)  # points outside the tree
        broken = Result(Record(forest.record.data, arrays), forest.config, [])
        with pytest.raises(RunFailed, match="trees of initial_model cannot be continued"):
            federation.experiment("random_forest", initial_model=broken, **settings()).run(progress=False)
    three = {"a": {**patients(1), "disease": np.resize(["yes", "no", "maybe"], 80)}, "b": patients(2)}
    with hanse.simulate(three) as federation, pytest.raises(RunFailed, match="is for a binary task"):
        federation.experiment(
            "logistic_regression", federated_strategy="fedavg", initial_model=first, **settings()
        ).run(progress=False)


# ---------------------------------------------------------------- S21: evaluation on central rows


def test_the_model_after_each_round_is_evaluated_centrally(tmp_path: Path) -> None:
    """S21: round 0 too, in order, each once; the numbers are in the result and in its file."""
    calls: list[tuple[int, int]] = []

    def evaluate(number: int, result: Result) -> Mapping[str, float]:
        calls.append((number, result.record.data["round"]))
        return {**result.evaluate(patients(7)), "odd": float("nan")}

    with hanse.simulate(sites(1, 2, 3)) as federation:
        result = federation.experiment("logistic_regression", federated_strategy="fedavg", **settings(rounds=4)).run(
            progress=False, global_evaluate=evaluate
        )
        assert calls == [(n, n) for n in range(5)]
        assert [row["round"] for row in result.central] == [0, 1, 2, 3, 4]
        assert result.central[4]["accuracy"] == result.evaluate(patients(7))["accuracy"]
        assert result.central[4]["loss"] < result.central[0]["loss"]
        assert result.central[0]["odd"] is None
        result.save(tmp_path / "r")
        assert load_result(tmp_path / "r").central == result.central
        plain = federation.experiment("logistic_regression", federated_strategy="fedavg", **settings(rounds=4))
        assert digest(plain.run(progress=False).record) == digest(result.record)  # looking changes nothing
        with pytest.raises(ConfigError, match="keep_models=True"):
            plain.wait(progress=False, global_evaluate=evaluate)
        failing = federation.experiment("logistic_regression", federated_strategy="fedavg", **settings())
        with pytest.raises(DataError):
            failing.run(progress=False, global_evaluate=lambda n, r: r.evaluate({"age": [1.0]}))


def test_both_over_a_real_federation(world: World) -> None:
    """S12, S21 with processes: models of all rounds are kept, fetched and evaluated while the run goes on; the
    next run goes on from one of them, but nobody else's does."""
    from .conftest import write_csv

    validation = world.federation.home / "validation.csv"
    write_csv(validation, 77)
    import polars

    rows = polars.read_csv(validation)
    here = Connection(Credentials(world.federation.url, world.scientist, ""))
    try:
        federation = hanse.experiment.federation.Federation(here)
        seen: list[int] = []

        def evaluate(number: int, result: Result) -> Mapping[str, float]:
            seen.append(number)
            with pytest.warns(Unfamiliar, match="'town' of 1 of 80 rows"):  # a patient's, which no site told of
                return result.evaluate(rows)

        made = {**HEART, "auto_start": True, "num_rounds": 3, "target_column": "disease"}
        first = federation.experiment("logistic_regression", federated_strategy="fedavg", keep_models=True, **made)
        first.propose()
        approve(world, first.run_id)
        result = first.wait(progress=False, global_evaluate=evaluate)
        assert seen == [0, 1, 2, 3]
        assert result.central[3]["loss"] < result.central[0]["loss"]
        versions = here.versions(first.run_id)
        assert [v["round"] for v in versions] == [0, 1, 2, 3, 3]  # the last with its evaluation at the sites

        made["initial_model"] = versions[1]["sha"]
        second = federation.experiment("logistic_regression", federated_strategy="fedavg", keep_models=True, **made)
        second.propose()
        assert here.session(second.run_id)["config"]["features"] == ["age", "marker", "town"]
        approve(world, second.run_id)
        again = second.wait(progress=False, global_evaluate=evaluate)
        assert again.central[0] == {**result.central[1], "round": 0}

        other = Connection(Credentials(world.federation.url, world.federation.account("Otto", "data_scientist"), ""))
        with pytest.raises(NotFound, match="no model version"):
            other.start({"model_name": "logistic_regression", **made})
        other.close()
        with pytest.raises(NotFound):
            here.start({"model_name": "logistic_regression", **made, "initial_model": "0" * 64})
        with pytest.raises(HanseError, match="is a logistic_regression"):
            here.start({"model_name": "xgboost", **made})
    finally:
        here.close()


def test_a_continued_run_survives_a_restart_of_the_coordinator(tmp_path: Path) -> None:
    """S12: the coordinator is started again in the middle; the result has the same bytes."""

    async def body(interrupt: bool) -> str:
        home = tmp_path / str(interrupt)
        tables = {n: {"heart": Table.of(patients(seed))} for seed, n in enumerate("ab")}
        made = {"model_name": "logistic_regression", "federated_strategy": "auto", "num_rounds": 3, "seed": 1}
        async with Federation(home) as it:
            it.people("a", "b")
            for name in "ab":
                await it.node(name, tables[name], standing="accept")
            first = await it.propose(**made)
            await it.state(first["session_id"], "completed")
            sha = it.store.runs.get(first["session_id"]).result
            if interrupt:
                for node in it.nodes.values():
                    node.hold = asyncio.Event()  # no answer before the coordinator has gone
            second = await it.propose(**made, initial_model=sha)
            run = second["session_id"]
            await it.state(run, "running", "completed")
            if not interrupt:
                await it.state(run, "completed")
                return str(it.store.runs.get(run).result)
        async with Federation(home) as it:
            for name in "ab":
                node = await it.node(name, tables[name], standing="accept")
                node.approved[run] = second["code_hash"]
                node.proposals[run] = it.it.runs.consent.proposal(it.store.runs.get(run), name)
            assert await it.state(run, "completed", "failed") == "completed"
            return str(it.store.runs.get(run).result)

    assert asyncio.run(body(False)) == asyncio.run(body(True))
