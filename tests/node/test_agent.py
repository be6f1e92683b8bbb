"""The agent: greeting, proposals, decisions, and the owner's socket; over real gRPC too."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from one_node import FakeCoordinator, attack, enrol, probe, proposal, running

from hanse import algorithms, rounds
from hanse.decisions import proven
from hanse.errors import ConfigError, Conflict, NotAllowed, NotApproved, NotFound, StorageFailed, WireError
from hanse.identity import Authority, NodeIdentity, create_key, csr, load_identity, save_identity
from hanse.messages import Message, Record
from hanse.node import agent as running_agent
from hanse.node import control
from hanse.node.agent import Agent
from hanse.node.approvals import Approvals, Proposal
from hanse.node.catalogue import Catalogue
from hanse.node.settings import NodeSettings, Policy
from hanse.transport import Progress
from hanse.transports._grpc_channel import server_credentials
from hanse.transports._grpc_coordinator import GrpcCoordinator
from tests.clock import off_by
from tests.waiting import PATIENCE, eventually

X = {"x": np.zeros(16, np.float32)}


def test_it_says_hello_and_beats(tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text("age,disease\n" + "61,1\n47,0\n" * 10)
    Catalogue(tmp_path).add(tmp_path / "visits.csv", tags=["visits"])

    async def main() -> None:
        fake = FakeCoordinator()
        fake.interval = 0.05
        async with running(tmp_path, coordinator=fake):
            hello = (await fake.until("hello"))[0].body.data
            assert hello["consent"] == "node"
            assert [d["name"] for d in hello["datasets"]] == ["visits"]
            assert hello["capabilities"]["cpus"] == os.cpu_count()
            assert "logistic_regression" in hello["capabilities"]["model_types"]
            beats = await fake.until("heartbeat", 3)
            assert beats[0].body.data == {"busy": False, "run": None}
            fake.report("disconnected", "")
            fake.report("connected", "again")
            await fake.until("hello", 2)
            assert str(tmp_path).encode() not in bytes(fake.left)  # no path leaves

    asyncio.run(main())


@pytest.mark.parametrize("days", [600, 5, -4000])
@pytest.mark.parametrize("revoked", [False, True])
def test_a_decision_by_a_wrong_clock_is_dated_and_signed_anew(tmp_path: Path, days: int, revoked: bool) -> None:
    """A coordinator takes none that is dated when the node's certificate does not count, so its run waited for ever."""
    authority = Authority.open(tmp_path / "authority")
    home = tmp_path / "alpha"
    key = create_key(home)
    certificate = authority.issue_node(csr(key, "alpha"), "alpha")
    save_identity(home, NodeIdentity("alpha", key, certificate, authority.pem, "grpc://localhost:1"))
    bundle = probe()

    async def main() -> None:
        fake = FakeCoordinator()
        async with running(home, coordinator=fake) as node:
            await node.propose(bundle, expires=(datetime.now(UTC) + timedelta(days=2000)).isoformat())
            approvals = node.agent.approvals
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("hanse.node.approvals.datetime", off_by(timedelta(days=days)))
                given = approvals.approve("run-1", bundle.sha256, actor="owner", days=30)
                if revoked:
                    approvals.revoke("run-1", bundle.sha256, actor="owner")
            assert abs(datetime.fromisoformat(given.time) - datetime.now(UTC) - timedelta(days=days)) < timedelta(
                days=1
            )
            with loads_of_the_identity() as loads:
                await node.agent.tell()
            (told,) = await fake.until("consent")
            assert len(loads) == 1  # one look at the key dates and signs it
            said = proven(told.body.data["proof"], authority.pem)
            assert abs(datetime.fromisoformat(said.time) - datetime.now(UTC)) < timedelta(minutes=1)
            assert said.decision == ("reject" if revoked else "accept")
            kept = approvals.get("run-1", bundle.sha256)
            assert datetime.fromisoformat(kept.until) < datetime.now(UTC) + timedelta(days=30)
            if not revoked and days > 0:
                assert datetime.fromisoformat(kept.until) > datetime.now(UTC) + timedelta(days=29)
                assert approvals.approved("run-1", bundle.sha256).until == said.until == kept.until
            assert node.actions().count("decision.dated") == 1
            assert approvals.unsent() == []  # it was told as it is dated now
            approvals.mark_sent(kept, sent=False)
            await node.agent.tell()
            again = proven((await fake.until("consent", 2))[1].body.data["proof"], authority.pem)
            assert again == said  # once is enough

    asyncio.run(main())


@contextlib.contextmanager
def loads_of_the_identity() -> Iterator[list[Path]]:
    """The folders from which the agent has loaded its identity meanwhile."""
    loads: list[Path] = []

    def load(home: Path) -> NodeIdentity:
        loads.append(home)
        return load_identity(home)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hanse.node.agent.load_identity", load)
        yield loads


def test_what_its_owner_has_to_do_something_about(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "authority")
    home = tmp_path / "alpha"
    key = create_key(home)
    certificate = authority.issue_node(csr(key, "alpha"), "alpha", days=20.5)
    save_identity(home, NodeIdentity("alpha", key, certificate, authority.pem, "grpc://localhost:1"))

    async def main() -> None:
        fake = FakeCoordinator()
        fake.welcome = {"time": (datetime.now(UTC) - timedelta(hours=3)).isoformat(), "hanse": "9.1.0"}
        async with running(home, coordinator=fake) as node:
            hello = (await fake.until("hello"))[0].body.data
            assert datetime.fromisoformat(hello["time"]) > datetime.now(UTC) - timedelta(minutes=1)
            assert datetime.fromisoformat(hello["certificate_ends"]) > datetime.now(UTC) + timedelta(days=20)
            await eventually(lambda: node.agent.coordinator)
            said = (await asyncio.to_thread(control.ask, home, "status"))["warnings"]
            assert "this node's certificate ends on" in said[0]
            assert "in 20 days" in said[0]
            assert "3.0 h apart" in said[1]
            assert "hanse 9.1.0: this node takes part in no run" in said[2]

    asyncio.run(main())


def test_a_busy_node_still_beats_and_takes_proposals(tmp_path: Path) -> None:
    async def main() -> None:
        fake = FakeCoordinator()
        fake.interval = 0.05
        async with running(tmp_path, coordinator=fake, attacks=True) as node:
            await node.approved(attack())
            work = asyncio.create_task(node.task(attack(), {"do": "sleep", "seconds": 1.0}))
            while not any(m.body.data["busy"] for m in await fake.until("heartbeat", 1)):
                await asyncio.sleep(0.01)
            assert (await node.propose(probe(), "run-2")).data["decision"] == "pending"
            await fake.ask("finished", {"run": "gone", "state": "completed"})
            assert not work.done()
            busy = [m.body.data for m in fake.heard if m.kind == "heartbeat" and m.body.data["busy"]]
            assert busy[0]["run"] == "run-1"
            await work

    asyncio.run(main())


def test_what_happens_while_the_disk_is_full_stands_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:

            def full(*args: Any, **more: Any) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            monkeypatch.setattr(node.agent.audit, "append", full)
            node.agent._worker_died("killed by signal 9")
            node.agent._refused("stranger", "a greeting", "no certificate")

    asyncio.run(main())
    said = [record.message for record in caplog.records if "No space left" in record.message]
    assert ["worker.lost" in line or "message.refused" in line for line in said] == [True, True]


def test_a_decision_is_told_until_the_coordinator_knows(tmp_path: Path) -> None:
    async def main() -> None:
        bundle = probe()
        first = FakeCoordinator()
        first.pending = [proposal(bundle), {"run": "garbage"}, proposal(bundle, "run-2")]
        async with running(tmp_path, coordinator=first) as node:
            await first.until("hello")
            while len(node.agent.approvals.pending()) < 2:
                await asyncio.sleep(0)
            node.agent.state = "disconnected"
            done = await asyncio.to_thread(control.ask, tmp_path, "approve", run="run-1", actor="ada")
            assert done["state"] == "approved"
            assert not [m for m in first.heard if m.kind == "consent"]
        second = FakeCoordinator()
        second.pending = [proposal(bundle, "run-2")]
        async with running(tmp_path, coordinator=second) as node:
            consent = (await second.until("consent"))[0].body.data
            assert consent == {
                "run": "run-1",
                "sha256": bundle.sha256,
                "decision": "accept",
                "reason": "",
                "actor": "ada",
                "proof": None,  # this node has no key
            }
            await asyncio.to_thread(control.ask, tmp_path, "reject", run="run-2", actor="ada", reason="no")
            told = (await second.until("consent", 2))[1].body.data
            assert (told["run"], told["decision"], told["reason"]) == ("run-2", "reject", "no")
            await asyncio.to_thread(control.ask, tmp_path, "revoke", run="run-1", actor="ada", reason="enough")
            told = (await second.until("consent", 3))[2].body.data
            assert (told["decision"], told["reason"]) == ("reject", "revoked by ada: enough")
        third = FakeCoordinator()
        third.pending = [proposal(bundle)]  # it lost what it was told
        async with running(tmp_path, coordinator=third):
            await third.until("consent")

    asyncio.run(main())


def test_what_waits_is_taken_up_when_the_disk_has_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A node that comes on line with a full disk stays on line: no other greeting brings what was proposed, or tells
    what was decided."""
    monkeypatch.setattr(running_agent, "_RETRY_SECONDS", 0.02)
    receive, left = Approvals.receive, [3]

    def full(self: Approvals, proposal: Proposal) -> Proposal:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device", "/secret/place")
        return receive(self, proposal)

    monkeypatch.setattr(Approvals, "receive", full)

    async def main() -> None:
        fake = FakeCoordinator()
        fake.pending = [proposal(probe())]
        fake.interval = 0.05
        async with running(tmp_path, coordinator=fake, policy=Policy(standing="accept-allowed")):
            assert (await fake.until("consent"))[0].body.data["decision"] == "accept"
            await fake.until("heartbeat")
            assert left == [0]
            assert len([m for m in fake.heard if m.kind == "hello"]) == 1

    asyncio.run(main())
    assert "Traceback" not in caplog.text
    assert "secret" not in caplog.text


def test_what_a_coordinator_cannot_take_now_is_said_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its database is away, and the connection stays: a greeting or a decision that was given up would be lost."""
    monkeypatch.setattr(running_agent, "_AGAIN_SECONDS", 0.02)

    async def main() -> None:
        away = StorageFailed("the coordinator's storage fails; its log says how, and it is asked again in a while")
        fake = FakeCoordinator()
        fake.interval = 0.05
        fake.pending = [proposal(probe())]
        fake.refuse = {kind: away for kind in ("hello", "consent", "heartbeat", "datasets")}
        async with running(tmp_path, coordinator=fake) as node:
            await fake.until("hello", 3)
            assert not [m for m in fake.heard if m.kind == "heartbeat"]
            del fake.refuse["hello"]
            await fake.until("heartbeat", 3)  # one that is not taken is no reason to say no more
            await asyncio.to_thread(control.ask, tmp_path, "approve", run="run-1", actor="ada")
            await fake.until("consent", 3)
            assert [p.run for p in node.agent.approvals.unsent()] == ["run-1"]
            del fake.refuse["consent"]
            while node.agent.approvals.unsent():
                await asyncio.sleep(0.01)
            await asyncio.to_thread(control.ask, tmp_path, "datasets")
            await fake.until("datasets", 3)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_what_was_proposed_before_the_node_started_can_be_approved_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner was told that no such run was proposed, until the greeting had brought it."""
    bundle = probe()

    class Slow(FakeCoordinator):
        def __init__(self) -> None:
            super().__init__()
            self.asked = asyncio.Event()
            self.pending = [proposal(bundle, "run-1", "alpha")]

        async def request(self, message: Message, progress: Progress = lambda: None) -> Message:
            if message.kind == "hello":
                await self.asked.wait()
            return await super().request(message, progress)

    async def main() -> None:
        fake = Slow()
        async with running(tmp_path, coordinator=fake) as node:
            knows = node.agent.approvals.knows

            def looked(run: str) -> bool:
                found = knows(run)
                fake.asked.set()
                return found

            monkeypatch.setattr(node.agent.approvals, "knows", looked)
            done = await asyncio.to_thread(control.ask, tmp_path, "approve", run="run-1", actor="ada")
            assert (done["state"], done["refused"]) == ("approved", "")
            with pytest.raises(NotFound, match="hanse node proposals lists them"):
                await asyncio.to_thread(control.ask, tmp_path, "approve", run="run-2", actor="ada")
            fake.report("disconnected", "it is away")
            monkeypatch.setattr(running_agent, "_TELL_SECONDS", 0.01)
            with pytest.raises(NotFound, match="disconnected: it is away"):
                await asyncio.to_thread(control.ask, tmp_path, "examine", run="run-2")

    asyncio.run(main())


def test_a_coordinator_that_refuses_a_decision_is_not_asked_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        fake = FakeCoordinator()
        fake.refuse["consent"] = Conflict("the run is over")
        async with running(tmp_path, coordinator=fake) as node:
            await node.propose(probe())
            await asyncio.to_thread(control.ask, tmp_path, "approve", run="run-1")
            await fake.until("consent")
            while node.agent.approvals.unsent():
                await asyncio.sleep(0)

    asyncio.run(main())


def test_the_standing_policy_accepts_what_passes_all_rules(tmp_path: Path) -> None:
    async def main() -> None:
        policy = Policy(standing="accept-allowed", allowed_algorithms=("probe",))
        async with running(tmp_path, policy=policy, attacks=True) as node:
            assert (await node.propose(probe())).data["decision"] == "accept"
            assert not node.agent.approvals.unsent()
            await node.task(probe(), {"round": 1}, X)
            assert node.audit()[1].actor == "standing policy"
            assert (await node.propose(attack(), "run-2")).data["decision"] == "pending"  # a rule says no: ask
            said = await asyncio.to_thread(control.ask, tmp_path, "examine", run="run-2")
            assert [s["rule"] for s in said if not s["allowed"]] == ["approved_algorithms"]

    asyncio.run(main())


def test_consent_at_the_coordinator_only_where_the_owner_wants_it(tmp_path: Path) -> None:
    def relayed(**more: Any) -> dict[str, Any]:
        return {"run": "run-1", "sha256": probe().sha256, "decision": "accept", "account": "ada", "time": "now"} | more

    async def main() -> None:
        async with running(tmp_path / "a") as node:
            await node.propose(probe())
            with pytest.raises(NotAllowed, match="only at the node: hanse node approve run-1"):
                await node.coordinator.ask("consent", relayed())
            with pytest.raises(NotApproved):
                await node.task(probe(), {"round": 1}, X)
            assert "consent.refused" in node.actions()
        async with running(tmp_path / "b", consent="coordinator") as node:
            with pytest.raises(NotFound, match="was not proposed"):  # so the coordinator sends the proposal first
                await node.coordinator.ask("consent", relayed())
            await node.propose(probe())
            for wrong in ({"sha256": probe(128).sha256}, {"decision": "maybe"}, {"account": ""}, {"run": None}):
                with pytest.raises(NotFound if "sha256" in wrong else WireError):
                    await node.coordinator.ask("consent", relayed(**wrong))
            for _ in range(2):  # the second is no news
                await node.coordinator.ask("consent", relayed())
            assert node.actions().count("proposal.approved") == 1
            await node.task(probe(), {"round": 1}, X)
            assert "ada (at the coordinator)" in [e.actor for e in node.audit()]

    asyncio.run(main())


def test_unknown_requests_are_refused_and_recorded(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            with pytest.raises(WireError, match="is not asked 'shell'"):
                await node.coordinator.ask("shell", {"command": "ls"})
            assert node.actions() == ["message.refused"]

    asyncio.run(main())


# ---------------------------------------------------------------- the owner's socket


def test_the_socket_is_the_owners_alone(tmp_path: Path) -> None:
    async def main() -> None:
        home = tmp_path / ("deep" * 40)  # longer than a socket's path may be
        async with running(home) as node:
            mode = (home / control.FILE).stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert mode & 0o777 == 0o600
            with pytest.raises(NotFound, match="no run 'x'"):
                await asyncio.to_thread(control.ask, home, "approve", run="x")
            with pytest.raises(NotFound, match="cannot 'format'"):
                await asyncio.to_thread(control.ask, home, "format")
            status = await asyncio.to_thread(control.ask, home, "status")
            assert status["worker"] == node.agent.worker.pid
            with pytest.raises(Conflict, match="running in this folder already"):
                Agent(home, FakeCoordinator())
        assert not (home / control.FILE).exists()
        with pytest.raises(ConnectionError):
            control.ask(home, "status")

    asyncio.run(main())


def test_new_settings_count_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            await node.approved(probe())
            await node.task(probe(), {"round": 1}, X)
            before = node.agent.worker.pid
            await node.coordinator.until("hello")
            node.agent.settings.with_value("consent", "coordinator").save(tmp_path)
            await asyncio.to_thread(control.ask, tmp_path, "reload", actor="ada")
            assert (await node.coordinator.until("hello", 2))[1].body.data["consent"] == "coordinator"
            node.agent.settings.with_value("allowed_algorithms", "fedavg").save(tmp_path)
            await asyncio.to_thread(control.ask, tmp_path, "reload", actor="ada")
            with pytest.raises(NotAllowed, match="approved_algorithms"):
                await node.task(probe(), {"round": 1}, X)
            (tmp_path / "node.toml").write_text("node_id = 3")
            with pytest.raises(ConfigError):
                await asyncio.to_thread(control.ask, tmp_path, "reload")
            with pytest.raises(NotAllowed):  # what was valid before still is
                await node.task(probe(), {"round": 1}, X)
            NodeSettings("alpha").with_value("minimum_count", "7").save(tmp_path)
            await asyncio.to_thread(control.ask, tmp_path, "reload")
            await node.task(probe(), {"round": 1}, X)
            assert node.agent.worker.plain.owner["minimum_count"] == 7
            while node.agent.worker.pid in (before, None):  # what the node half reads changes with its process
                await asyncio.sleep(0)

    asyncio.run(main())


# ---------------------------------------------------------------- over gRPC, as processes


@contextlib.asynccontextmanager
async def coordinator(folder: Path, handler: Any, address: str = "localhost:0") -> Any:
    authority = Authority.open(folder)
    server = GrpcCoordinator(handler)
    credentials = server_credentials(*authority.issue_server(["localhost"]), authority.pem)
    where = await server.start(address, credentials)
    try:
        yield server, where, authority
    finally:
        await server.stop()


async def answer(peer: str, message: Message, progress: Progress) -> Message:
    data = {"node": peer, "heartbeat_interval_s": 10, "proposals": []} if message.kind == "hello" else {}
    return Message("reply", message.id, "coordinator", Record(data))


def test_a_run_over_grpc_with_node_processes_that_are_small_when_idle(tmp_path: Path) -> None:
    """`hanse node start` twice: idle memory, consent, rounds, a killed worker, a stopped node."""
    heard: list[tuple[str, Message]] = []
    greeted = asyncio.Event()

    async def handler(peer: str, message: Message, progress: Progress) -> Message:
        heard.append((peer, message))
        if len({p for p, m in heard if m.kind == "hello"}) == 2:
            greeted.set()
        return await answer(peer, message, progress)

    async def main() -> None:
        bundle = probe(1024, num_rounds=5, min_fit_nodes=2, min_available_nodes=2, min_completed=2)
        async with coordinator(tmp_path / "ca", handler) as (server, where, authority):
            agents = []
            try:
                for name in ("alpha", "beta"):
                    enrol(tmp_path / name, authority, where, name)
                    command = [sys.executable, "-m", "hanse.cli", "node", "start", "--home", str(tmp_path / name)]
                    agents.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
                async with asyncio.timeout(PATIENCE):
                    await greeted.wait()
                for name in ("alpha", "beta"):
                    while not (status := await asyncio.to_thread(control.ask, tmp_path / name, "status"))["worker"]:
                        await asyncio.sleep(0.05)
                    idle = [psutil.Process(status[k]).memory_info().rss for k in ("pid", "worker")]
                    assert sum(idle) < 150 << 20, [i >> 20 for i in idle]
                    if os.sched_getscheduler(0) == os.SCHED_OTHER:  # what somebody decided of these processes stays
                        assert {os.sched_getscheduler(status[k]) for k in ("pid", "worker")} == {os.SCHED_BATCH}
                    expires = (datetime.now(UTC) + timedelta(days=1)).isoformat()
                    data = proposal(bundle, expires=expires)
                    reply = await server.request(name, Message("proposal", f"p/{name}", "", Record(data)))
                    assert reply.body.data["decision"] == "pending"
                    await asyncio.to_thread(control.ask, tmp_path / name, "approve", run="run-1", actor="ada")

                def run() -> rounds.Loop:
                    return rounds.Loop(
                        algorithms.build(bundle.config),
                        bundle.config,
                        ["alpha", "beta"],
                        server,
                        rounds.Forgetful(),
                        "run-1",
                        bundle.sha256,
                    )

                first = await run().go()
                assert any(first.arrays["x"])
                os.kill(status["worker"], signal.SIGKILL)
                second = await run().go()
                assert first.arrays["x"].tobytes() == second.arrays["x"].tobytes()
                assert {p for p, m in heard if m.kind == "consent"} == {"alpha", "beta"}
                for agent in agents:
                    agent.send_signal(signal.SIGTERM)
                assert [await asyncio.to_thread(agent.wait, PATIENCE) for agent in agents] == [0, 0]
                assert not psutil.pid_exists(status["worker"])
            finally:
                for agent in agents:
                    agent.kill()
                    agent.wait()

    asyncio.run(main())


def test_an_approval_that_had_ended_when_the_audit_log_was_written_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The clock was put back while the node was off: by it, the approval went on."""

    async def main() -> None:
        bundle = probe()
        async with running(tmp_path) as node:
            await node.propose(bundle)
            await node.propose(bundle, "run-2")
            for run, days in (("run-1", 2), ("run-2", 4)):
                node.agent.gate.approve(run, bundle.sha256, actor="owner", days=days)
            given = node.agent.approvals.get("run-1")
            node.agent.gate.standing.give(given, datetime.now(UTC) + timedelta(days=2), "owner")
            with monkeypatch.context() as later:
                later.setattr("hanse.store.audit.datetime", off_by(timedelta(days=3)))
                node.agent.audit.append("owner", "something", "else")
        async with running(tmp_path) as node:
            assert "at the last line of the audit log: it was put back" in caplog.text
            assert node.agent.gate.standing.fitting(given) is None
            with pytest.raises(NotApproved, match="as it ended at .* before it was put back"):
                await node.task(bundle, {"round": 1}, {"x": np.zeros(16, np.float32)})
            assert await node.task(bundle, {"round": 1}, {"x": np.zeros(16, np.float32)}, run="run-2")

    asyncio.run(main())
