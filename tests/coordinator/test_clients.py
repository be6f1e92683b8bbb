"""Registration, liveness, lists and the analysis of features (LEDGER M7 to M26, F24 to F37)."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hanse.coordinator import presence
from hanse.coordinator.settings import CoordinatorSettings
from hanse.coordinator.summaries import hide_small
from hanse.store import Store
from hanse.table import Column, Table
from hanse.transports import Patience

from .federation import Federation, database, summary


def table(*features: str, rows: int = 20) -> Table:
    rng = np.random.default_rng(0)
    columns = {name: Column.numeric(rng.normal(size=rows)) for name in features}
    return Table({**columns, "disease": Column.numeric(np.arange(rows) % 2)})


@pytest.mark.databases
def test_register_codes(tmp_path: Path) -> None:
    """M7, M8, M10, M11, M15: 201, 200 again, 403, 409, 422, 413."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            register = "/api/clients/register"
            new = await f.ok("owner-a", "POST", register, {"client_id": "a", **summary()}, 201)
            assert new["status"] == "registered"
            assert new["client_id"] == "a"
            assert new["heartbeat_interval_s"] == 10
            again = await f.ok("owner-a", "POST", register, {"client_id": "a", **summary(data_sparsity=0.5)})
            assert again["registered_at"] == new["registered_at"]
            shown = (await f.ok("sci", "GET", "/api/clients"))["clients"][0]["summary"]
            assert shown["data_sparsity"] == 0.5
            assert shown["num_samples"] == 73
            assert "features" not in shown
            why = await f.refused("owner-b", "POST", register, {"client_id": "a", **summary()}, 409)
            assert "another owner" in why
            why = await f.refused("owner-b", "POST", register, {"client_id": "elsewhere", **summary()}, 403)
            assert "join token" in why
            await f.refused("owner-a", "POST", register, {"client_id": "../x", **summary()}, 422)

    asyncio.run(body())


@pytest.mark.parametrize(
    "changes",
    [
        {"num_samples": -1},
        {"num_samples": 1.5},
        {"num_samples": "73"},
        {"data_sparsity": 1.01},
        {"data_sparsity": -0.1},
        {"feature_coverage": 2},
        {"class_distribution": {"CD": 72}},
        {"class_distribution": {"CD": -1, "UC": 74}},
        {"num_features": 4},
        {"features": ["a", "a ", "b"]},
        {"num_samples": True},
        {"unheard": 1},
        {"class_distribution": {}},
        {"features": ["a", "b", ""]},
    ],
)
def test_wrong_summaries_are_422(tmp_path: Path, changes: dict[str, Any]) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.refused("owner-a", "POST", "/api/clients/register", {"client_id": "a", **summary(**changes)}, 422)
            assert f.store.nodes.list() == []

    asyncio.run(body())


def test_missing_fields_and_nan(tmp_path: Path) -> None:
    """M11: 422 for what is missing, 400 for what is not JSON."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            whole = {"client_id": "a", **summary()}
            for name in ("client_id", "num_samples", "data_sparsity", "class_distribution"):
                part = {k: v for k, v in whole.items() if k != name}
                assert name in await f.refused("owner-a", "POST", "/api/clients/register", part, 422)
            raw = json.dumps({**whole, "data_sparsity": float("nan")}).encode()
            assert (await f.call("owner-a", "POST", "/api/clients/register", raw=raw)).status_code == 400

    asyncio.run(body())


@pytest.mark.databases
def test_the_whitelist(tmp_path: Path) -> None:
    """M14, M15: with a whitelist, other ids are refused; enrolment is what binds an id to a key."""

    async def body() -> None:
        async with Federation(tmp_path, CoordinatorSettings(expected_client_ids=("a",))) as f:
            f.people("a", "b")
            await f.ok("owner-a", "POST", "/api/clients/register", {"client_id": "a", **summary()}, 201)
            why = await f.refused("owner-b", "POST", "/api/clients/register", {"client_id": "b", **summary()}, 403)
            assert "whitelist" in why
            await f.node("b")
            assert "may not take part" in await f.refused(
                "sci", "POST", "/api/training/start", {"federated_strategy": "probe", "expected_client_ids": ["b"]}, 403
            )

    asyncio.run(body())


def test_open_registration_is_a_choice(tmp_path: Path) -> None:
    """M15: without a whitelist any id is accepted, where the operator wants that."""

    async def body() -> None:
        async with Federation(tmp_path, CoordinatorSettings(open_registration=True)) as f:
            f.people("a")
            await f.ok("owner-a", "POST", "/api/clients/register", {"client_id": "whoever", **summary()}, 201)
            assert "whoever" in f.store.accounts.find("owner-a").nodes  # type: ignore[union-attr]

    asyncio.run(body())


@pytest.mark.databases
def test_an_enrolled_node_without_owner_cannot_be_taken(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("free")
            assert "no owner yet" in await f.refused(
                "owner-a", "POST", "/api/clients/register", {"client_id": "free", **summary()}, 409
            )

    asyncio.run(body())


@pytest.mark.databases
def test_small_cells_are_hidden(tmp_path: Path) -> None:
    """M9, M18: counts below five are not shown, nor one more that the total would give away."""
    assert hide_small({"a": 100, "b": 3, "c": 40}, 5) == {"a": 100, "b": None, "c": None}
    assert hide_small({"a": 1, "b": 2, "c": 40, "d": 9}, 5) == {"a": None, "b": None, "c": None, "d": 9}
    assert hide_small({"a": 1, "b": None, "c": 40}, 5) == {"a": None, "b": None, "c": None}
    assert hide_small({"a": 3}, 5) == {"a": None}

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            counts = {"CD": 4, "UC": 59, "Control": 10}
            sent = {"client_id": "a", **summary(class_distribution=counts)}
            await f.ok("owner-a", "POST", "/api/clients/register", sent, 201)
            for path in ("/api/clients", "/api/nodes", "/api/nodes/a"):
                assert '"CD":4' not in (await f.call("op", "GET", path)).text
            listed = await f.ok("sci", "GET", "/api/clients")
            assert listed["clients"][0]["summary"]["class_distribution"] == {"CD": None, "UC": 59, "Control": None}
            unlabelled = summary(class_distribution={"CD": 60, "unlabelled": 13})
            await f.ok("owner-a", "POST", "/api/clients/register", {"client_id": "a", **unlabelled})

    asyncio.run(body())


class Hand:
    """A clock that is moved by hand, of the presence of nodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0.0
        monkeypatch.setattr(presence, "time", SimpleNamespace(monotonic=lambda: 1e4 + self.passed, time=time.time))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Hand:
    return Hand(monkeypatch)


def test_heartbeat_and_staleness(tmp_path: Path, clock: Hand) -> None:
    """M13: 404 for unknown; stale after three missed intervals; offline later."""
    patience = Patience(heartbeat_s=0.05)

    async def body() -> None:
        async with Federation(tmp_path, CoordinatorSettings(patience=patience)) as f:
            f.people("a", "b")
            await f.refused("owner-a", "POST", "/api/clients/nobody/heartbeat", None, 404)
            await f.ok("owner-a", "POST", "/api/clients/register", {"client_id": "a", **summary()}, 201)
            await f.refused("owner-b", "POST", "/api/clients/a/heartbeat", None, 403)
            beat = await f.ok("owner-a", "POST", "/api/clients/a/heartbeat", {"busy": False})
            assert beat["pending_actions"] == []
            assert beat["last_heartbeat"]

            async def status() -> str:
                return str((await f.ok("sci", "GET", "/api/clients"))["clients"][0]["status"])

            for missed, said in ((0.0, "online"), (0.9, "online"), (1.1, "stale")):
                clock.passed = missed * patience.missed * patience.heartbeat_s
                assert await status() == said
            assert (await f.ok("sci", "GET", "/api/clients?status=online"))["total"] == 0
            for missed, said in ((0.9, "stale"), (1.1, "offline")):
                clock.passed = missed * patience.gone * patience.heartbeat_s
                assert await status() == said

    asyncio.run(body())


def test_a_silent_node_is_no_longer_counted(tmp_path: Path, clock: Hand) -> None:
    """S23: connected is not enough; three missed heartbeats take a node off line, the next one brings it back."""

    async def body() -> None:
        async with Federation(tmp_path, CoordinatorSettings(patience=Patience(heartbeat_s=0.05))) as f:
            node = await f.node("a")
            await f.until(lambda events: any(e.kind == "node.online" for e in events))
            assert f.it.presence.online() == {"a"}
            clock.passed = 1.0
            await f.until(lambda events: any(e.kind == "node.offline" for e in events))
            assert f.it.presence.online() == frozenset()
            assert f.it.presence.connected() == {"a"}
            await node.say("heartbeat", busy=False, run=None)
            await f.until(lambda events: sum(e.kind == "node.online" for e in events) == 2)
            assert f.it.presence.online() == {"a"}

    asyncio.run(body())


def test_many_nodes_beat_less_often(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            node = await f.node("a")
            assert (await node.hello()).body.data["heartbeat_interval_s"] == 10.0
            for number in range(1000):
                f.it.presence.greet(f"n{number}")
            assert (await node.say("heartbeat", busy=False, run=None)).body.data["heartbeat_interval_s"] >= 20.0
            assert f.it.presence.status("n7", None) == "online"
            f.it.presence._heard["n7"] -= 50  # with fewer nodes that would be too long
            assert f.it.presence.status("n7", None) == "online"
            f.it.presence._heard["n7"] -= 15
            assert f.it.presence.status("n7", None) == "stale"

    asyncio.run(body())


def test_pending_actions_tell_of_proposals(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a")
            session = await f.propose()
            beat = await f.ok("owner-a", "POST", "/api/clients/a/heartbeat")
            assert [a["session_id"] for a in beat["pending_actions"]] == [session["session_id"]]
            assert beat["pending_actions"][0]["code_hash"] == session["code_hash"]

    asyncio.run(body())


@pytest.mark.databases
def test_list_and_datasets(tmp_path: Path) -> None:
    """M12: lists with summaries; feature names only when asked for."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a", {"heart": table("x", "y")})
            listed = await f.ok("owner-a", "GET", "/api/clients")
            assert (listed["total"], listed["online"]) == (1, 1)
            assert listed["clients"][0]["connected"] is True
            assert "columns" not in listed["clients"][0]["datasets"][0]
            full = await f.ok("sci", "GET", "/api/clients?include=features")
            assert set(full["clients"][0]["datasets"][0]["columns"]) == {"x", "y", "disease"}

    asyncio.run(body())


@pytest.mark.databases
def test_analyze(tmp_path: Path) -> None:
    """M23 to M26: union, intersection, common metadata columns, per client."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("r")
            await f.refused("sci", "GET", "/api/training/analyze", None, 409)
            await f.node("a", {"d": table("x", "y", "only_a")}, tags={"d": ["heart"]})
            await f.node("b", {"d": table("x", "y"), "e": table("z")}, tags={"d": ["heart"]})
            found = await f.ok("sci", "GET", "/api/training/analyze?tags=heart&include=features")
            assert found["clients"] == ["a", "b"]
            assert found["union"] == {"count": 4, "features": ["disease", "only_a", "x", "y"]}
            assert found["intersection"] == {"count": 3, "features": ["disease", "x", "y"]}
            assert found["common_metadata_columns"] == []  # what may be a feature is none
            assert found["per_client"]["a"] == {"n_features": 4, "only_here": 1, "coverage": 1.0}
            assert found["per_client"]["b"]["coverage"] == 0.75
            assert "features" not in (await f.ok("sci", "GET", "/api/training/analyze?tags=heart"))["union"]
            one = await f.ok("sci", "GET", "/api/training/analyze?client_ids=b")
            assert one["clients"] == ["b"]
            await f.refused("sci", "GET", "/api/training/analyze?client_ids=b,nobody", None, 404)
            sent = {"client_id": "r", **summary(features=["x", "y", "z"])}
            await f.ok("owner-r", "POST", "/api/clients/register", sent, 201)
            registered = await f.ok("sci", "GET", "/api/training/analyze?client_ids=r&include=features")
            assert registered["union"]["features"] == ["x", "y", "z"]
            assert registered["common_metadata_columns"] == ["Sample", "Study.Group"]
            f.nodes["a"].metadata, f.nodes["b"].metadata = ["disease", "only_a"], ["disease", "y"]
            for name in "ab":
                await f.nodes[name].say("datasets", datasets=f.nodes[name].datasets())
            told = await f.ok("sci", "GET", "/api/training/analyze?tags=heart&include=features")
            assert told["common_metadata_columns"] == ["disease"]
            assert told["intersection"]["features"] == ["x"]
            assert registered["label_sets"]["r"] == ["CD", "Control", "UC"]

    asyncio.run(body())


def test_what_nodes_send_is_checked(tmp_path: Path) -> None:
    """Garbage from an authenticated node is refused and recorded, not stored."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people()
            node = await f.node("a", {"d": table("x")})
            before = f.store.nodes.get("a").datasets
            bad: list[tuple[str, dict[str, Any]]] = [
                ("hello", {}),
                ("hello", {"datasets": "x"}),
                ("hello", {"datasets": [{"name": 1}]}),
                ("datasets", {"datasets": [{"name": "d", "version": "v", "columns": {"x": 1}}]}),
                ("datasets", {"datasets": [{"name": "d", "version": "v", "columns": {}, "rows": -1}]}),
                ("datasets", {"datasets": [{"name": "d", "version": "v", "columns": {}, "tags": "t"}]}),
                ("hello", {"datasets": [], "consent": "anywhere"}),
                ("hello", {"datasets": [], "summary": [1]}),
                ("consent", {"run": "x"}),
                ("train", {}),
                ("consent", {"run": "x", "sha256": "y", "decision": "maybe"}),
            ]
            for kind, data in bad:
                assert (await node.say(kind, **data)).kind == "error", (kind, data)
            assert f.store.nodes.get("a").datasets == before
            events = await f.until(lambda found: sum(e.kind == "node.refused" for e in found) == len(bad))
            assert all(e.node == "a" for e in events if e.kind == "node.refused")

    asyncio.run(body())


def test_a_thousand_beats_are_few_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept in memory, told to the database together, and none is lost when it stops."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await f.node("a")
            commits: list[int] = []
            real = f.store.database.write
            monkeypatch.setattr(f.store.database, "write", lambda: commits.append(1) or real())  # type: ignore[func-returns-value]
            for _ in range(1000):
                await f.nodes["a"].say("heartbeat", busy=False)
            assert commits == []
            f.store.nodes.heartbeats({"a": 5.0})
        with Store(database(tmp_path), tmp_path) as store:
            assert (store.nodes.get("a").last_heartbeat or 0) > 1e9

    asyncio.run(body())


def test_consents_of_many_nodes_are_taken_one_by_one(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            names = [f"n{number:02}" for number in range(40)]
            f.people(*names)
            for name in names:
                await f.node(name)
            run = (await f.propose(num_rounds=1))["session_id"]
            await f.until(lambda _: all(run in f.nodes[name].proposals for name in names))
            for name in names[:-1]:
                await f.nodes[name].decide(run, "accept")
            tally = f.store.consents.tally(run)
            assert (len(tally.accepted), tally.remaining) == (39, ("n39",))
            assert str(f.store.runs.get(run).state) == "awaiting_consent"
            assert f.it.runs.consent.pending("n00") == []
            assert [r.id for r in f.it.runs.consent.pending("n39")] == [run]
            await f.nodes["n39"].decide(run, "accept")
            assert await f.state(run, "completed", "failed") == "completed"
            run = (await f.propose(num_rounds=1))["session_id"]
            await f.until(lambda _: run in f.nodes["n07"].proposals)
            await f.nodes["n07"].decide(run, "reject", "no")
            assert str(f.store.runs.get(run).state) == "rejected"
            assert "n07" in f.store.runs.get(run).reason

    asyncio.run(body())
