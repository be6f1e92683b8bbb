"""A coordinator that turned bad, against a node: whatever it asks, nothing unapproved leaves, and the node stays."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse import features
from hanse.bundle import Bundle, freeze
from hanse.codec import encode
from hanse.config import RunConfig
from hanse.errors import HanseError, TooMany
from hanse.learning import averaging, pooling
from hanse.messages import Record
from hanse.node import approvals
from hanse.node.catalogue import Catalogue
from tests.node.one_node import Node, kept, probe, proposal, running

from .test_lying_node import chain

Json = Any
Shared = tuple[asyncio.Runner, Node]


def with_data(home: Path) -> None:
    rng = np.random.default_rng(5)
    lines = ["Sample,age,marker,town,disease"]
    for i in range(60):
        age, town = int(rng.integers(20, 90)), rng.choice(["Luebeck", "Bremen"])
        lines.append(f"PATIENT-{i:04d},{age},{rng.normal(900, 300):.6f},{town},{int(age + rng.normal(0, 12) > 55)}")
    (home / "visits.csv").write_text("\n".join(lines) + "\n")
    Catalogue(home).add(home / "visits.csv", "visits")


def data_bundle(home: Path, model: str = "logistic_regression", **settings: Json) -> Bundle:
    dataset = Catalogue(home).get("visits")
    config = RunConfig.parse({"model_name": model, "num_rounds": 2, "target_column": "disease", **settings})
    alignment = features.align(
        {"alpha": dict(dataset.schema)}, "intersection", targets=config.targets, not_features=["Sample"]
    )
    return freeze(config, alignment.to_json(), {"alpha": {"name": dataset.name, "version": dataset.version}})


async def fine(node: Node, pid: int | None) -> None:
    """The node still answers an approved task, with the worker that it had."""
    bundle, run = probe(64), f"fine-{len(node.actions())}"
    await node.approved(bundle, run)
    body = await node.task(bundle, {"round": 1}, {"x": np.ones(16, np.float32)}, run=run)
    assert body.nbytes == 64
    if pid is not None:
        assert node.agent.worker.pid == pid
    assert node.agent.audit.verify().ok


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A node that has met every attack before the one that is tried."""
    home = tmp_path_factory.mktemp("rogue")
    with_data(home)
    with kept(home) as found:
        yield found


def test_a_flood_of_proposals_fills_neither_disk_nor_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many wait for the owner (a thousand; fewer here); more are refused until some are decided or expire."""
    monkeypatch.setattr(approvals, "_UNDECIDED", 40)

    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            refused = 0
            for i in range(60):
                try:
                    await node.propose(bundle, f"flood-{i}")
                except TooMany:
                    refused += 1
            assert refused == 20
            assert len(node.agent.approvals.pending()) == 40
            node.agent.gate.reject("flood-1", actor="owner")
            await node.propose(bundle, "one more")
            with pytest.raises(TooMany):
                await node.propose(bundle, "two more")
            await node.propose(bundle, "flood-2")  # one that is known is told again at every connection

    asyncio.run(main())


def test_expired_proposals_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "_UNDECIDED", 10)

    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            soon = (datetime.now(UTC) + timedelta(seconds=-1)).isoformat()
            for i in range(10):
                await node.propose(bundle, f"old-{i}", expires=soon)
            await node.propose(bundle, "new")
            assert [p.run for p in node.agent.approvals.proposals()] == ["new"]

    asyncio.run(main())


WELCOMES: list[Json] = [5, "x", {"a": 1}, [5, None, "x", []], [{}], [{"run": 5}], [[["deep"]]], None, True]


@pytest.mark.parametrize("proposals", WELCOMES, ids=str)
def test_a_welcome_that_is_none(shared: Shared, proposals: Json) -> None:
    """The node goes on greeting and telling what its owner decided."""
    runner, node = shared
    fake = node.coordinator

    async def main() -> None:
        greeted = len([m for m in fake.heard if m.kind == "hello"])
        fake.pending = proposals
        fake.report("connected", "here")
        await fake.until("hello", greeted + 1)
        bundle, run = probe(), f"run-{len(node.actions())}"
        told = len([m for m in fake.heard if m.kind == "consent"])
        await node.propose(bundle, run)
        node.agent.gate.approve(run, bundle.sha256, actor="owner")
        fake.report("connected", "here")
        consents = await fake.until("consent", told + 1)
        assert [m.body.data["decision"] for m in consents if m.body.data["run"] == run] == ["accept"]
        await fine(node, node.agent.worker.pid)

    try:
        runner.run(main())
    finally:
        fake.pending = []


PROPOSALS: dict[str, dict[str, Json]] = {
    "a text that is a list": {"text": "[]"},
    "a text that is a number": {"text": "1"},
    "a text of nothing": {"text": ""},
    "deep": {"text": "[" * 500 + "]" * 500},
    "a run that steers": {"run": "\x1b[2J"},
    "a run of nothing": {"run": ""},
    "a run that is long": {"run": "r" * 1000},
    "a time that is none": {"expires": "tomorrow"},
    "a time without a zone": {"expires": "2030-01-01T00:00:00"},
    "a dataset that is text": {"dataset": "../../etc/passwd"},
    "a proposer that is a list": {"proposer": ["Ada"]},
    "a purpose without end": {"purpose": "x" * 100_000},
}


@pytest.mark.parametrize("what", list(PROPOSALS))
def test_a_proposal_that_is_none_is_not_kept_and_audited(shared: Shared, what: str) -> None:
    runner, node = shared

    async def main() -> None:
        kept_before, done = node.agent.approvals.proposals(), len(node.actions())
        changes = dict(PROPOSALS[what])
        if "text" in changes:
            changes["sha256"] = hashlib.sha256(changes["text"].encode()).hexdigest()
        with pytest.raises(HanseError):
            await node.coordinator.ask("proposal", {**proposal(probe(), f"none-{done}"), **changes})
        assert node.agent.approvals.proposals() == kept_before
        assert node.actions()[done:] == ["proposal.refused"]
        await fine(node, node.agent.worker.pid)

    runner.run(main())


def test_datasets_are_names_and_never_paths(tmp_path: Path) -> None:
    """A bundle that names a file instead of a dataset gets nothing, even when the owner approves it."""

    async def main() -> None:
        with_data(tmp_path)
        honest = data_bundle(tmp_path)
        (tmp_path / "secret.csv").write_text("Sample,age,marker,town,disease\n" + "s,1,1,a,1\n" * 50)
        async with running(tmp_path) as node:
            for i, name in enumerate(("../secret.csv", str(tmp_path / "secret.csv"), "visits/../secret", "visits\0")):
                version = honest.content["datasets"]["alpha"]["version"]
                bound = {"alpha": {"name": name, "version": version}}
                bundle = freeze(honest.config, honest.content["alignment"], bound)
                with pytest.raises(HanseError):
                    await node.approved(bundle, f"run-{i}")
                    await node.task(bundle, {"step": "merge"}, run=f"run-{i}")
            assert "task.answered" not in node.actions()
            await fine(node, node.agent.worker.pid)

    asyncio.run(main())


ASKS: dict[str, tuple[dict[str, Json], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "a stage that there is not": ({"stage": 99, "of": {}}, {}),
    "a negative stage": ({"stage": -1, "of": {"phase": "train"}}, {}),
    "a stage that is text": ({"stage": "0", "of": []}, {}),
    "a step that there is not": ({"stage": 0, "of": {"step": "rows"}}, {}),
    "prepared of nothing": ({"stage": 1, "of": {"prepared": {}}}, {"theta": np.zeros((1, 4))}),
    "a column that was not approved": (
        {
            "stage": 0,
            "of": {
                "step": "sum",
                "agreed": {
                    "task": {"kind": "binary", "features": ["Sample"], "classes": ["PATIENT-0007", "x"]},
                    "target": "Sample",
                    "columns": [{"name": "Sample", "kind": "categorical", "categories": ["a"], "missing": False}],
                    "needs": "raw",
                },
            },
        },
        {"mean": np.zeros(0)},
    ),
}


@pytest.mark.parametrize("what", list(ASKS))
def test_asks_that_are_none_get_an_error_and_the_worker_lives(shared: Shared, what: str) -> None:
    runner, node = shared

    async def main() -> None:
        bundle, done = data_bundle(node.home), len(node.actions())
        run = f"asked-{done}"
        await node.approved(bundle, run)
        pid = node.agent.worker.pid
        ask, arrays = ASKS[what]
        data = {
            "run": run,
            "step": 0,
            "exchange": 0,
            "op": "answer",
            "combine": "sum",
            "bundle": bundle.sha256,
            "ask": ask,
        }
        before = len(node.coordinator.left)
        with pytest.raises(HanseError) as found:
            await node.coordinator.ask("task", data, arrays)
        assert str(node.home) not in found.value.message
        assert "Traceback" not in found.value.message
        assert b"PATIENT-" not in bytes(node.coordinator.left[before:])
        assert "task.answered" not in node.actions()[done:]
        await fine(node, pid)

    runner.run(main())


@pytest.mark.parametrize("model", ["xgboost_bagging", "random_forest", "sgd_regressor"])
def test_a_crafted_model_ends_no_worker(shared: Shared, model: str) -> None:
    """What goes into native code is proven first, so the worker that a bad ask meets is there afterwards."""
    runner, node = shared

    async def main() -> None:
        settings = {"task_type": "regression", "target_column": "marker"} if model == "sgd_regressor" else {}
        bundle, done = data_bundle(node.home, model, **settings), len(node.actions())
        run = f"crafted-{done}"
        numeric = model == "sgd_regressor"
        task: Json = {"kind": "binary", "features": ["age", "marker"], "classes": ["0", "1"]}
        columns = [{"name": n, "kind": "numeric", "categories": [], "missing": False} for n in ("age", "marker")]
        if numeric:
            task, columns = {"kind": "regression", "features": ["age"], "classes": []}, columns[:1]
        told: dict[str, Json] = {
            "task": task,
            "target": settings.get("target_column", "disease"),
            "columns": columns,
            "rows": 60,
            "needs": "standardised" if numeric else "raw",
            "class_counts": [30, 30],
        }
        sizes: dict[str, Any] = {n: np.ones(len(columns)) for n in ("count", "mean", "scale")}
        prepared = Record(told, sizes | {"target_mean": np.zeros(1), "target_scale": np.ones(1)})

        def asked(of: dict[str, Any]) -> Record:
            if numeric:
                return encode(averaging.Question("train", 1, True, prepared, of))
            return encode(pooling.Question("train", 1, 2, True, prepared, 0.5, of))

        if numeric:
            honest: dict[str, Any] = {"coef": np.zeros(1), "intercept": np.zeros(1)}
            crafted: dict[str, Any] = {"coef": np.zeros((50, 50)), "intercept": np.zeros(0)}
        else:
            adapter, crafted = chain(model, 200_000)
            honest = dict(adapter.empty())
        await node.approved(bundle, run)

        async def ask(step: int, of: dict[str, Any]) -> Record:
            data = {
                "run": run,
                "step": step,
                "exchange": 0,
                "op": "answer",
                "combine": "sum" if numeric else "each",
                "bundle": bundle.sha256,
                "ask": {"stage": 1, "of": asked(of).data},
            }
            return await node.coordinator.ask("task", data, asked(of).arrays)

        await ask(0, honest)  # so that it is the model for which the other is refused
        pid = node.agent.worker.pid
        with pytest.raises(HanseError) as found:
            await ask(1, crafted)
        assert found.value.code == "wire", found.value.message
        assert "worker.lost" not in node.actions()[done:]
        await fine(node, pid)

    runner.run(main())


def test_random_asks(tmp_path: Path) -> None:
    """Two hundred random changes of an honest ask: an answer or an error, and the same worker at the end."""
    rng = np.random.default_rng(3)
    odd = [None, True, -1, 2**40, "x", "", [], {}, 1e308, ["a", 1], "../../x"]

    def twisted(value: Json) -> Json:
        if rng.random() < 0.15:
            return odd[int(rng.integers(len(odd)))]
        if isinstance(value, dict):
            return {k: twisted(v) for k, v in value.items()}
        return [twisted(v) for v in value] if isinstance(value, list) else value

    async def main() -> None:
        with_data(tmp_path)
        bundle = data_bundle(tmp_path)
        async with running(tmp_path) as node:
            await node.approved(bundle)
            pid = node.agent.worker.pid
            report = await node.task(bundle, {"step": "merge"})
            columns = report.data["data"]["columns"]
            task = {"kind": "binary", "features": ["age", "marker", "town=Bremen"], "classes": ["0", "1"]}
            honest = {
                "step": "sum",
                "agreed": {"task": task, "target": "disease", "columns": columns, "needs": "standardised"},
            }
            await node.task(bundle, honest)
            for i in range(200):
                data = {
                    "run": "run-1",
                    "step": twisted(i % 90 + 1),
                    "exchange": 0,
                    "op": twisted("answer"),
                    "combine": "sum",
                    "bundle": bundle.sha256,
                    "ask": twisted(json.loads(json.dumps({"stage": 0, "of": honest}))),
                }
                try:
                    await node.coordinator.ask("task", data, {"mean": np.ones(int(rng.integers(4)))})
                except HanseError as error:
                    assert str(tmp_path) not in error.message  # noqa: PT017
            assert b"PATIENT-" not in bytes(node.coordinator.left)
            await fine(node, pid)

    asyncio.run(main())


def test_messages_of_other_kinds(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            for kind in ("shell", "welcome", "hello", "datasets", "", "x" * 500):
                with pytest.raises(HanseError):
                    await node.coordinator.ask(kind, {"run": "x"})
            with pytest.raises(HanseError):
                await node.coordinator.ask("finished", {"run": ["x"]})
            await node.coordinator.ask("finished", {"run": "never heard of"})
            await fine(node, node.agent.worker.pid)

    asyncio.run(main())
