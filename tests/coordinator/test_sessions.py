"""The life of a run through REST: proposal, consent, rounds, and all the ways out (LEDGER M27 to M72)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse.bundle import Bundle
from hanse.coordinator import sessions
from hanse.messages import Json, Record, digest, load
from hanse.store import Store
from hanse.store.nodes import Node
from hanse.store.runs import StoredRun
from hanse.table import Column, Table
from tests.waiting import PATIENCE, eventually

from .federation import PROBE, Federation

pytestmark = pytest.mark.databases

START = "/api/training/start"
REAL = {
    "model_name": "logistic_regression",
    "federated_strategy": "fedavg",
    "num_rounds": 2,
    "sample_id_column": "Sample",
    "tags": ["heart"],
}


def patients(seed: int, rows: int = 60, extra: str = "") -> Table:
    rng = np.random.default_rng(seed)
    age, pressure = rng.normal(60, 9, rows), rng.normal(130, 15, rows)
    ill = (age + rng.normal(0, 5, rows) > 60).astype(float)
    columns = {
        "Sample": Column.categorical([f"p{i}" for i in range(rows)]),
        "age": Column.numeric(age),
        "pressure": Column.numeric(pressure),
        "disease": Column.numeric(ill),
    }
    if extra:
        columns[extra] = Column.numeric(rng.normal(size=rows))
    return Table(columns)


async def federation(f: Federation, *names: str, **how: Any) -> None:
    f.people(*names)
    for name in names:
        await f.node(name, **how)


# ---------------------------------------------------------------- proposal


def test_who_watches_a_run_does_not_have_its_proposal_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at a run took the time of reading a quarter of a megabyte and hashing it. What is remembered of the
    last proposals is what their hash binds, whatever else the database says beside a hash."""
    read: list[str] = []

    def noted(store: Store, run: StoredRun, frozen: Bundle | None) -> dict[str, Json]:
        read.append(run.id)  # not of who else reads it, to tell nodes of it
        return found(store, run, frozen)

    found = sessions._read
    monkeypatch.setattr(sessions, "_read", noted)
    monkeypatch.setattr(sessions, "_PROPOSALS", 2)

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a")
            proposed = [await f.propose(purpose=purpose) for purpose in ("first", "second", "third")]
            runs = [session["session_id"] for session in proposed]
            read.clear()

            async def look(run: str) -> Any:
                return (await f.call("sci", "GET", f"/api/training/sessions/{run}")).json()

            for _ in range(3):
                seen = await look(runs[2])
                assert seen["code_preview"] == proposed[2]["code_preview"]
                assert (seen["alignment"], seen["datasets"]) == (proposed[2]["alignment"], proposed[2]["datasets"])
            assert read.count(runs[2]) == 0
            assert (await look(runs[0]))["code_preview"] == proposed[0]["code_preview"]
            assert read.count(runs[0]) == 1  # two are remembered
            run = f.store.runs.get(runs[1])
            other = Bundle({**f.store.runs.bundle(runs[1]), "hanse": "0.0.0"})
            assert "hanse 0.0.0" in sessions.full(f.store, run, other)["code_preview"]
            assert (await look(runs[1]))["code_preview"] == proposed[1]["code_preview"]

    asyncio.run(body())


def test_a_proposal_and_its_code_preview(tmp_path: Path) -> None:
    """M28 to M33, M36, M54, M55: model, target, rounds and the code, bound by a hash that anybody can check."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a", "b")
            session = await f.propose(purpose="to see", num_rounds=10)
            assert session["state"] == "awaiting_consent"
            assert session["expected_clients"] == session["remaining"] == ["a", "b"]
            assert session["config"]["num_rounds"] == session["num_rounds"] == 10
            assert session["config"]["target_column"] == "disease"
            assert "class Probe" in session["code_preview"]
            path = f"/api/runs/{session['session_id']}/bundle"
            text = (await f.call("owner-a", "GET", path)).text
            assert hashlib.sha256(text.encode()).hexdigest() == session["code_hash"]
            await f.until(lambda _: all(session["session_id"] in n.proposals for n in f.nodes.values()))
            at_node = f.nodes["a"].proposals[session["session_id"]]
            assert (at_node["text"], at_node["sha256"], at_node["purpose"]) == (text, session["code_hash"], "to see")
            kinds = [e.kind for e in f.store.events.since(0, run=session["session_id"])]
            assert kinds[:2] == ["run.created", "run.state"]  # M67: pending, then proposed

    asyncio.run(body())


@pytest.mark.parametrize(
    "raw",
    [
        {"num_rounds": 0},
        {"num_rounds": "10"},
        {"num_round": 3},
        {"feature_strategy": "both"},
        {"task_type": "ternary"},
        {"model_name": "oracle", "federated_strategy": "auto"},
        {"federated_strategy": "magic"},
        {"expected_client_ids": []},
        {"min_available_nodes": 3},
        {"min_completed": 2, "min_fit_nodes": 1},
        {"seed": -1},
        {"model_options": {"bytes": 1}},
    ],
)
def test_wrong_settings_are_422(tmp_path: Path, raw: dict[str, Any]) -> None:
    """M27, M31, M52, M60: unknown values and names, and what cannot be built."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a")
            await f.refused("sci", "POST", START, {**PROBE, **raw}, 422)
            assert f.store.runs.count() == 0

    asyncio.run(body())


def test_nobody_to_ask(tmp_path: Path) -> None:
    """409 without nodes, 404 for an unknown one, 409 where no dataset has the tags."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.refused("sci", "POST", START, PROBE, 409)
            await f.refused("sci", "POST", START, {**PROBE, "expected_client_ids": ["ghost"]}, 404)
            await f.node("a")
            await f.refused("sci", "POST", START, REAL, 409)
            await f.refused("sci", "POST", START, {**REAL, "expected_client_ids": ["a"]}, 422)
            f.store.nodes.revoke("a", actor="op")
            await f.refused("sci", "POST", START, {**PROBE, "expected_client_ids": ["a"]}, 403)

    asyncio.run(body())


def test_feature_alignment(tmp_path: Path) -> None:
    """M56, M57, M63 to M65: intersection and union, order bound by hash; sample id and target are no features."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            await f.node("a", {"d": patients(1, extra="x")}, tags={"d": ["heart"]})
            await f.node("b", {"d": patients(2)}, tags={"d": ["heart"]})
            both = await f.ok("sci", "POST", START, REAL, 201)
            assert both["alignment"]["features"] == ["age", "pressure"]
            assert both["datasets"] == {n: {"name": "d", "version": "v1", "most_rows": 60} for n in ("a", "b")}
            union = await f.ok("sci", "POST", START, {**REAL, "feature_strategy": "union"}, 201)
            assert union["alignment"]["features"] == ["age", "pressure", "x"]
            assert union["alignment"]["filled"] == {"a": 0.0, "b": pytest.approx(1 / 3, abs=1e-6)}
            assert any("33%" in w for w in union["warnings"])
            assert both["code_hash"] != union["code_hash"]
            for wrong in ({"target_column": "nothing"}, {"features": ["x"]}, {"features": ["disease"]}):
                await f.refused("sci", "POST", START, {**REAL, **wrong}, 422)
            await f.node(
                "c",
                {"d": Table({"disease": Column.numeric([0, 1]), "other": Column.numeric([0, 1])})},
                tags={"d": ["heart"]},
            )
            assert "no feature" in await f.refused("sci", "POST", START, REAL, 422)

    asyncio.run(body())


def test_several_datasets_that_fit(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a", {"d": patients(1), "e": patients(2)}, tags={"d": ["heart"], "e": ["heart", "late"]})
            assert "tags that only one carries" in await f.refused("sci", "POST", START, REAL, 422)
            late = await f.ok("sci", "POST", START, {**REAL, "tags": ["late"]}, 201)
            assert late["datasets"]["a"]["name"] == "e"

    asyncio.run(body())


# ---------------------------------------------------------------- consent


def test_the_last_accept_starts_the_run(tmp_path: Path) -> None:
    """M34, M37, M38, M40 to M46, M59, M66, M69, M70: consents by REST, rounds, result."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a", "b")
            session = await f.propose()
            id = session["session_id"]
            first = await f.consent(session, "a")
            assert (first["state"], first["remaining"]) == ("awaiting_consent", ["b"])
            assert first["consents"]["a"]["via"] == "coordinator"
            assert f.nodes["a"].approved == {id: session["code_hash"]}
            assert (await f.consent(session, "a"))["remaining"] == ["b"]  # idempotent
            last = await f.consent(session, "b")
            assert last["state"] in ("running", "completed")
            assert await f.state(id, "completed", "failed") == "completed"
            await f.until(lambda _: f.nodes["a"].finished == ["completed"])
            done = await f.ok("sci", "GET", f"/api/training/sessions/{id}")
            assert (done["current_round"], done["reason"]) == (3, "3 rounds")
            rounds = (await f.ok("owner-a", "GET", f"/api/runs/{id}/rounds"))["rounds"]
            assert [r["step"] for r in rounds] == [0, 1, 2]
            assert set(rounds[0]["participants"]) == {"a", "b"}
            assert len((await f.ok("sci", "GET", f"/api/runs/{id}/rounds?after=1"))["rounds"]) == 1
            model = await f.call("sci", "GET", f"/api/runs/{id}/model")
            assert (
                model.headers["x-hanse-sha256"] == done["result"]["sha256"] == hashlib.sha256(model.content).hexdigest()
            )
            assert digest(load(model.content)) == done["result"]["sha256"]
            same = await f.call("sci", "GET", f"/api/runs/{id}/model", headers={"if-none-match": model.headers["etag"]})
            assert same.status_code == 304
            assert (await f.consent(session, "a"))["state"] == "completed"  # the same again, at any time

    asyncio.run(body())


def test_consent_codes(tmp_path: Path) -> None:
    """M34: 404, 403, 409 for another hash and another state, 422."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a", "b", "c")
            session = await f.propose(expected_client_ids=["a", "b"])
            path = f"/api/training/sessions/{session['session_id']}/consent"
            good = {"client_id": "a", "decision": "accept", "code_hash": session["code_hash"]}
            await f.refused("owner-a", "POST", "/api/training/sessions/nothing/consent", good, 404)
            await f.refused("owner-a", "POST", path, {**good, "client_id": "ghost"}, 404)
            await f.refused("owner-b", "POST", path, good, 403)  # not the own node
            await f.refused("owner-c", "POST", path, {**good, "client_id": "c"}, 403)  # not asked
            assert "read the proposal again" in await f.refused(
                "owner-a", "POST", path, {**good, "code_hash": "0" * 64}, 409
            )
            await f.refused("owner-a", "POST", path, {**good, "decision": "perhaps"}, 422)
            await f.refused("owner-a", "POST", path, {**good, "code_hash": "00"}, 422)
            unnamed = await f.ok("owner-a", "POST", path, {k: v for k, v in good.items() if k != "code_hash"})
            assert "code_hash" in unnamed["warnings"][0]
            assert unnamed["consents"]["a"]["reason"] == "it did not name the code (code_hash)"  # for good
            assert (await f.consent(session, "a"))["warnings"] == []
            await f.consent(session, "b")
            await f.state(session["session_id"], "completed")
            await f.refused("owner-a", "POST", path, {**good, "decision": "reject"}, 409)

    asyncio.run(body())


def test_any_rejection_ends_it(tmp_path: Path) -> None:
    """M72, and revoking before the first task."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a", "b")
            session = await f.propose()
            await f.consent(session, "a")
            assert (await f.consent(session, "a", "reject"))["state"] == "rejected"
            found = await f.ok("sci", "GET", f"/api/training/sessions/{session['session_id']}")
            assert found["reason"] == "rejected by a"
            path = f"/api/training/sessions/{session['session_id']}"
            await f.refused("sci", "POST", f"{path}/execute", None, 409)
            await f.refused("sci", "POST", f"{path}/cancel", None, 409)
            assert f.nodes["a"].tasks == []

    asyncio.run(body())


def test_execute_waits_for_all(tmp_path: Path) -> None:
    """M39, M42: auto_start false waits; execute without all consents is 409 and says whose."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a", "b")
            f.account("other", "data_scientist")
            session = await f.propose(auto_start=False)
            path = f"/api/training/sessions/{session['session_id']}/execute"
            await f.refused("sci", "POST", "/api/training/sessions/nothing/execute", None, 404)
            await f.consent(session, "a")
            assert "b did not accept" in await f.refused("sci", "POST", path, None, 409)
            assert (await f.consent(session, "b"))["state"] == "awaiting_consent"
            await f.refused("other", "POST", path, None, 403)
            assert (await f.ok("sci", "POST", path, status=202))["state"] == "running"
            assert await f.state(session["session_id"], "completed", "failed") == "completed"
            await f.refused("sci", "POST", path, None, 409)
            await f.refused("other", "GET", f"/api/runs/{session['session_id']}/model", None, 403)

    asyncio.run(body())


def test_a_node_that_takes_approvals_only_at_the_node(tmp_path: Path) -> None:
    """The relay is refused with the sentence that says what to do; the node's own word counts."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a", consent="node")
            session = await f.propose()
            body = {"client_id": "a", "decision": "accept", "code_hash": session["code_hash"]}
            path = f"/api/training/sessions/{session['session_id']}/consent"
            why = await f.refused("owner-a", "POST", path, body, 409)
            assert why == f"this node takes approvals only at the node: hanse node approve {session['session_id']}"
            await f.until(lambda _: session["session_id"] in f.nodes["a"].proposals)
            assert (await f.nodes["a"].decide(session["session_id"], "accept")).kind == "ok"
            assert await f.state(session["session_id"], "completed", "failed") == "completed"
            consent = (await f.ok("sci", "GET", path.removesuffix("/consent")))["consents"]["a"]
            assert (consent["via"], consent["actor"]) == ("node", "owner at a")

    asyncio.run(body())


def test_a_node_that_says_one_thing_and_does_another(tmp_path: Path) -> None:
    """It announced that it takes consent from here, but refuses the relay: nothing is recorded."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a")
            session = await f.propose()
            await f.until(lambda _: session["session_id"] in f.nodes["a"].proposals)
            f.nodes["a"].consent = "node"
            body = {"client_id": "a", "decision": "accept", "code_hash": session["code_hash"]}
            await f.refused("owner-a", "POST", f"/api/training/sessions/{session['session_id']}/consent", body, 409)
            assert f.store.consents.list(session["session_id"]) == []

    asyncio.run(body())


def test_a_standing_policy_and_a_wrong_hash(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a", "b", standing="accept")
            session = await f.propose()
            assert await f.state(session["session_id"], "completed", "failed") == "completed"
            other = await f.propose(expected_client_ids=["a"], auto_start=False)
            await f.until(lambda _: other["session_id"] in f.nodes["a"].proposals)
            said = await f.nodes["a"].decide(other["session_id"], "accept", sha256="f" * 64)
            assert (said.kind, said.body.data["code"]) == ("error", "conflict")
            said = await f.nodes["b"].say(
                "consent", run=other["session_id"], sha256=other["code_hash"], decision="accept"
            )
            assert (said.kind, said.body.data["code"]) == ("error", "not_allowed")

    asyncio.run(body())


def test_whoever_is_away_gets_it_at_hello(tmp_path: Path) -> None:
    """Proposal and consent wait for a node that is off line; it counts as on line when it knows both."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            node = await f.node("a", online=False)
            session = await f.propose(expected_client_ids=["a"])
            assert node.proposals == {}
            assert (await f.consent(session, "a"))["state"] == "running"  # waits for the node
            await f.connect("a")
            assert node.approved == {session["session_id"]: session["code_hash"]}
            node.proposals[session["session_id"]] = f.it.runs.consent.proposal(
                f.store.runs.get(session["session_id"]), "a"
            )
            assert await f.state(session["session_id"], "completed", "failed") == "completed"

    asyncio.run(body())


@pytest.mark.parametrize("decided", [False, True])
def test_what_comes_while_a_node_says_hello_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decided: bool
) -> None:
    """The coordinator has looked what there is for the node, and does not count it as on line yet."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            node, other = await f.node("a", online=False), await f.node("b")
            both = {"expected_client_ids": ["a", "b"]}
            earlier = await f.propose(**both) if decided else {}
            desk, looked, go = f.it.runs.consent, asyncio.Event(), threading.Event()
            real, loop = desk.at_hello, asyncio.get_running_loop()

            def slow(known: Node) -> Any:
                found = real(known)
                loop.call_soon_threadsafe(looked.set)
                assert go.wait(PATIENCE)
                return found

            monkeypatch.setattr(desk, "at_hello", slow)
            f.transport.attach("a", node.handle)
            hello = asyncio.ensure_future(node.hello())
            await looked.wait()
            if decided:
                run = earlier
                await f.consent(run, "a")
            else:
                run = await f.propose(**both)
                await eventually(lambda: run["session_id"] in other.proposals)
            monkeypatch.setattr(desk, "at_hello", real)
            go.set()
            await hello
            await eventually(lambda: run["session_id"] in node.proposals)
            if decided:
                await eventually(lambda: node.approved.get(run["session_id"]) == run["code_hash"])

    asyncio.run(body())


async def accepted_in_time(f: Federation, node: str, seconds: float) -> str:
    """A run that nobody starts, and that its owner accepted before its time was over: a busy machine takes longer."""
    while True:
        run = await f.propose(consent_timeout_s=seconds, auto_start=False)
        body = {"client_id": node, "decision": "accept", "code_hash": run["code_hash"]}
        path = f"/api/training/sessions/{run['session_id']}/consent"
        if (await f.call(f"owner-{node}", "POST", path, body)).status_code == 200:
            return str(run["session_id"])
        seconds *= 4


def test_proposals_expire_by_a_timer(tmp_path: Path) -> None:
    """M72: nobody answered, or nobody started it."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a")
            session = await f.propose(consent_timeout_s=0.1)
            assert await f.state(session["session_id"], "expired") == "expired"
            assert f.store.runs.get(session["session_id"]).reason == "no answer in time from a"
            late = await accepted_in_time(f, "a", 0.4)
            assert await f.state(late, "expired") == "expired"
            body = {"client_id": "a", "decision": "accept", "code_hash": session["code_hash"]}
            await f.refused("owner-a", "POST", f"/api/training/sessions/{session['session_id']}/consent", body, 409)

    asyncio.run(body())


# ---------------------------------------------------------------- rounds


def test_pause_resume_cancel(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a")
            f.nodes["a"].hold = asyncio.Event()
            session = await f.propose(num_rounds=5)
            id, path = session["session_id"], f"/api/training/sessions/{session['session_id']}"
            await f.refused("sci", "POST", f"{path}/pause", None, 409)
            await f.consent(session, "a")
            await f.until(lambda _: bool(f.nodes["a"].tasks))  # paused any earlier, no step would begin at all
            assert (await f.ok("sci", "POST", f"{path}/pause", {"reason": "lunch"}))["state"] == "paused"
            f.nodes["a"].hold.set()
            await f.until(lambda events: any(e.kind == "round" for e in events), id)
            await asyncio.sleep(0.1)
            assert len(f.store.rounds.list(id)) == 1  # the step on its way ends, no other begins
            await f.refused("sci", "POST", f"{path}/execute", None, 409)
            assert (await f.ok("sci", "POST", f"{path}/resume"))["state"] == "running"
            assert await f.state(id, "completed", "failed") == "completed"
            await f.refused("sci", "POST", f"{path}/resume", None, 409)
            f.nodes["a"].hold = asyncio.Event()
            second = await f.propose()
            await f.consent(second, "a")
            away = f"/api/training/sessions/{second['session_id']}/cancel"
            assert (await f.ok("op", "POST", away, {"reason": "changed my mind"}))["state"] == "cancelled"
            assert f.store.runs.get(second["session_id"]).reason == "changed my mind"
            await f.until(lambda _: "cancelled" in f.nodes["a"].finished)
            await f.refused("sci", "GET", f"/api/runs/{second['session_id']}/model", None, 404)

    asyncio.run(body())


def test_who_ends_between_the_last_step_and_the_result_does_that_step_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the last step only the record is kept: the state before it leads to the same bytes."""

    async def undisturbed() -> str | None:
        async with Federation(tmp_path / "whole") as f:
            await federation(f, "a", "b")
            return await result_of(f)

    async def result_of(f: Federation) -> str | None:
        session = await f.propose()
        for name in f.nodes:
            await f.consent(session, name)
        await f.state(session["session_id"], "completed", "failed")
        return f.store.runs.get(session["session_id"]).result

    async def first(home: Path) -> str:
        async with Federation(home) as f:
            await federation(f, "a", "b")
            ended = threading.Event()

            def end(*_: object, **__: object) -> None:
                ended.set()
                raise asyncio.CancelledError

            monkeypatch.setattr(f.store.models, "add", end)
            session = await f.propose()
            for name in f.nodes:
                await f.consent(session, name)
            assert await asyncio.to_thread(ended.wait, 20)
            run = session["session_id"]
            assert [r.step for r in f.store.rounds.list(run)] == [0, 1, 2]
            assert f.store.rounds.checkpoints(run) == (0, 1)
            return run

    async def second(home: Path, run: str) -> str | None:
        async with Federation(home) as f:
            for name in ("a", "b"):
                node = await f.node(name, online=False)
                frozen = f.it.runs.consent.proposal(f.store.runs.get(run), name)
                node.proposals[run], node.approved[run] = frozen, frozen["sha256"]
                await f.connect(name)
            assert await f.state(run, "completed", "failed") == "completed"
            assert all(f"{run}/2/" in task for node in f.nodes.values() for task in node.tasks)
            assert [r.step for r in f.store.rounds.list(run)] == [0, 1, 2]
            return f.store.runs.get(run).result

    whole = asyncio.run(undisturbed())
    run = asyncio.run(first(tmp_path / "killed"))
    monkeypatch.undo()
    assert whole is not None
    assert asyncio.run(second(tmp_path / "killed", run)) == whole


def test_what_a_run_needed_to_go_on_goes_when_it_has_ended(tmp_path: Path) -> None:
    """By itself, or, where the coordinator was killed as the run ended, at its next start."""

    async def body() -> None:
        async with Federation(tmp_path / "f") as f:
            await federation(f, "a")
            session = await f.propose()
            run = session["session_id"]
            await f.consent(session, "a")
            assert await f.state(run, "completed", "failed") == "completed"
            await f.until(lambda _: f.store.rounds.checkpoints(run) == ())
            assert len(f.store.rounds.list(run)) == 3
            killed = f.store.runs.create({}, proposer="sci")
            f.store.rounds.checkpoint(killed.id, 0, Record({"left": "behind"}), {})
            f.store.runs.transition(killed.id, "cancelled", "sci")
        async with Federation(tmp_path / "f") as f:
            assert f.store.rounds.checkpoints(killed.id) == ()

    asyncio.run(body())


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    """M71: the reason is stored, and the state is final."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a")
            session = await f.propose(max_failed_rounds=0)
            await f.until(lambda _: session["session_id"] in f.nodes["a"].proposals)
            await f.nodes["a"].say(
                "consent", run=session["session_id"], sha256=session["code_hash"], decision="accept", actor="owner"
            )
            assert await f.state(session["session_id"], "completed", "failed") == "failed"
            assert "not approved" in f.store.runs.get(session["session_id"]).reason
            found = await f.ok("sci", "GET", "/api/training/sessions?state=failed")
            assert found["total"] == 1

    asyncio.run(body())


def test_a_real_model_end_to_end(tmp_path: Path) -> None:
    """M1, M3, M45 to M47, F38: federated logistic regression over three sites, through REST; no row in any message."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b", "c")
            for i, name in enumerate("abc"):
                await f.node(name, {"d": patients(i)}, tags={"d": ["heart"]}, standing="accept")
            session = await f.ok("sci", "POST", START, REAL, 201)
            id = session["session_id"]
            assert await f.state(id, "completed", "failed") == "completed", f.store.runs.get(id).reason
            seen = await f.ok("sci", "GET", f"/api/analytics/session/{id}")
            assert [r["round"] for r in seen["rounds"]][-2:] == [1, 2]
            last = seen["rounds"][-1]
            assert 0.5 < last["accuracy"] <= 1
            assert last["spread"]["accuracy"]["min"] <= last["accuracy"] <= last["spread"]["accuracy"]["max"]
            assert set(seen["client_performance"]) == {"a", "b", "c"}
            shares = {r["feature"]: r["latest"] for r in seen["feature_importance"]}
            assert set(shares) == {"age", "pressure"}  # M48: the illness was made of age
            assert shares["age"] > 0.7
            assert sum(shares.values()) == pytest.approx(1)
            assert sum(c["share"] for c in seen["client_performance"].values()) == pytest.approx(1)
            flopy = await f.ok("sci", "GET", f"/metrics?run={id}")
            assert (
                flopy["rounds"]
                == len(flopy["accuracy"])
                == len(flopy["loss"])
                == len(flopy["participants_per_round"])
                == 2
            )
            models = (await f.ok("sci", "GET", f"/api/models?run={id}"))["models"]
            assert models[0]["metrics"]["accuracy"] == pytest.approx(last["accuracy"])
            same = await f.ok("sci", "GET", f"/api/models/compare?first={id}:1&second={id}:1")
            assert (same["accuracy_diff"], same["loss_diff"], same["size_diff"], same["round_diff"]) == (0, 0, 0, 0)
            await f.refused("sci", "GET", f"/api/models/compare?first={id}:1&second={id}:2", None, 404)
            await f.refused("sci", "GET", f"/api/models/compare?first={id}&second={id}:1", None, 422)

    asyncio.run(body())


def test_a_weight_that_the_dataset_does_not_allow(tmp_path: Path) -> None:
    """F66: a node that claims a thousand times its rows is left out of the step, with the reason. What it
    registers after the owners have read the proposal does not help it."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            for i, name in enumerate("ab"):
                await f.node(name, {"d": patients(i)}, tags={"d": ["heart"]}, standing="accept")
            f.nodes["b"].hold = asyncio.Event()
            session = await f.ok("sci", "POST", START, REAL, 201)
            assert session["datasets"]["b"] == {"name": "d", "version": "v1", "most_rows": 60}
            assert "d at b, version v1, at most 60 rows (50.0% of all)" in session["code_preview"]
            f.nodes["b"].inflate, f.nodes["b"].rows = 1000.0, 10**12
            await f.nodes["b"].say("datasets", datasets=f.nodes["b"].datasets())
            f.nodes["b"].hold.set()
            assert await f.state(session["session_id"], "completed", "failed") == "completed"
            rounds = [r.record for r in f.store.rounds.list(session["session_id"])]
            trained = [r for r in rounds if r["label"] == "train"]
            assert trained
            for record in trained:
                assert set(record["participants"]) == {"a"}
                assert "at most 60" in record["failures"]["b"]
            told = await f.ok("sci", "GET", f"/api/analytics/session/{session['session_id']}")
            assert told["client_performance"]["a"]["share"] == 1.0

    asyncio.run(body())


def test_a_node_that_declares_nearly_all_rows_is_pointed_out_before_anybody_accepts(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            await f.node("a", {"d": patients(0)}, tags={"d": ["heart"]})
            await f.node("b", {"d": patients(1)}, tags={"d": ["heart"]}, rows=10**12)
            session = await f.ok("sci", "POST", START, REAL, 201)
            assert any("b declares 100.0% of all rows" in text for text in session["warnings"])
            assert "1000000000000 rows" in session["code_preview"]
            fair = await f.ok("sci", "POST", START, {**REAL, "max_weight_share": 0.5}, 201)
            assert not any("declares" in text for text in fair["warnings"])

    asyncio.run(body())


def test_a_share_that_the_run_bounds(tmp_path: Path) -> None:
    """A node that declared 10^12 rows, and claims them, counts for no more than the run allows one node."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b", "c")
            for i, name in enumerate("abc"):
                rows = 10**12 if name == "c" else None
                await f.node(name, {"d": patients(i)}, tags={"d": ["heart"]}, standing="accept", rows=rows)
            f.nodes["c"].inflate = 1e10
            session = await f.ok("sci", "POST", START, {**REAL, "max_weight_share": 0.4}, 201)
            assert await f.state(session["session_id"], "completed", "failed") == "completed"
            told = await f.ok("sci", "GET", f"/api/analytics/session/{session['session_id']}")
            shares = {node: one["share"] for node, one in told["client_performance"].items()}
            assert shares == {"a": pytest.approx(0.3), "b": pytest.approx(0.3), "c": pytest.approx(0.4)}

    asyncio.run(body())


@contextlib.contextmanager
def timers() -> Iterator[list[float]]:
    """The delays of timers that are set in here and run out in here: whoever polls or pauses has some."""
    loop, found = asyncio.get_running_loop(), list[float]()
    original = loop.call_at

    def call_at(when: float, callback: Callable[..., Any], *arguments: Any, context: Any = None) -> asyncio.TimerHandle:
        delay = when - loop.time()

        def due(*given: Any) -> None:
            found.append(delay)
            callback(*given)

        return original(when, due, *arguments, context=context)

    loop.call_at = call_at  # type: ignore[method-assign]
    try:
        yield found
    finally:
        loop.call_at = original  # type: ignore[method-assign]


def test_from_consent_to_completed_nothing_waits_for_a_timer(tmp_path: Path) -> None:
    """What a person or a node does is followed by what it leads to, at once; so however slow the machine is, no
    timer runs out between the last consent and the first task, and none between the last reply and the end."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            for i, name in enumerate("ab"):
                await f.node(name, {"d": patients(i)}, tags={"d": ["heart"]})
            session = await f.ok("sci", "POST", START, REAL, 201)
            await f.consent(session, "a")
            with timers() as ran_out:
                await asyncio.sleep(0.001)
                assert len(ran_out) == 1  # one is noticed
                await f.consent(session, "b")
                while True:
                    news = f.it.chronicle.news()
                    if f.store.runs.get(session["session_id"]).state == "completed":
                        break
                    await news.wait()
                assert len(ran_out) == 1, ran_out
            assert f.nodes["a"].tasks

    asyncio.run(body())


def test_owners_see_what_concerns_their_nodes(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a", "b")
            only_a = await f.propose(expected_client_ids=["a"])
            both = await f.propose()
            listed = await f.ok("owner-b", "GET", "/api/training/sessions")
            assert [s["session_id"] for s in listed["sessions"]] == [both["session_id"]]
            await f.refused("owner-b", "GET", f"/api/training/sessions/{only_a['session_id']}", None, 403)
            every = await f.ok("op", "GET", "/api/training/sessions?limit=1&offset=1")
            assert (every["total"], len(every["sessions"])) == (2, 1)
            await f.refused("op", "GET", "/api/training/sessions?state=asleep", None, 422)

    asyncio.run(body())


def test_decisions_are_in_the_audit(tmp_path: Path) -> None:
    """Consents, transitions, refusals and logins, hash-chained."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await federation(f, "a")
            session = await f.propose()
            await f.consent(session, "a")
            await f.state(session["session_id"], "completed")
            f.it.refused("a", "late", "a reply that nobody waits for")
            await f.ok("sci", "GET", "/api/me")
            await f.until(lambda events: any(e.kind == "account.login" for e in events))
            while not any(e.action == "account.login" for e in f.store.audit.entries()):
                await asyncio.sleep(0.01)
            entries = (await f.ok("op", "GET", "/api/audit"))["entries"]
            actions = [e["action"] for e in entries]
            assert actions.count("run.state") == 3
            assert {"consent", "node.enrolled", "account.created", "node.refused", "model"} <= set(actions)
            consent = next(e for e in entries if e["action"] == "consent")
            assert (consent["actor"], consent["subject"], consent["detail"]["hash"]) == (
                "owner-a",
                session["session_id"],
                session["code_hash"],
            )
            numbers = [e["detail"]["event"] for e in entries]
            assert numbers == sorted(set(numbers))
            verdict = await f.ok("op", "GET", "/api/audit/verify")
            assert (verdict["ok"], verdict["head"][0]) == (True, len(f.store.audit.entries()))

    asyncio.run(body())


def test_a_misspelt_target_is_named_where_a_node_has_several_datasets(tmp_path: Path) -> None:
    """Not as a question of tags, which would not help."""
    from hanse.config import RunConfig
    from hanse.coordinator.proposals import choose_datasets
    from hanse.errors import ConfigError
    from hanse.store import Store
    from hanse.store.nodes import CertificateOnFile

    with Store(None, tmp_path) as store:
        store.nodes.register("a", CertificateOnFile("1", "f" * 64))
        sets = [
            {"name": n, "version": "1", "tags": [], "columns": {"age": "numeric", c: "categorical"}}
            for n, c in (("heart", "disease"), ("visits", "reason"))
        ]
        store.nodes.describe("a", datasets=sets)
        nodes: dict[str, Node] = {"a": store.nodes.get("a")}
        chosen = choose_datasets(RunConfig.parse({"target_column": "disease"}), nodes)
        assert chosen["a"]["name"] == "heart"
        with pytest.raises(
            ConfigError, match=r"'diseese' is in no dataset of node a that fits \(heart, visits\); did you"
        ):
            choose_datasets(RunConfig.parse({"target_column": "diseese"}), nodes)
