"""A node with a valid certificate, written by hand, against a coordinator that runs as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpc import aio

from hanse.errors import HanseError
from hanse.messages import Message, Record, frames
from hanse.signing import Signer
from hanse.transports._grpc_channel import PATH
from tests.coordinator.federation import proof_of
from tests.coordinator.live import GrpcSite, Live, until_online, until_state
from tests.transports.grpc_federation import grpc_credentials

Json = Any
PROBE = {"federated_strategy": "probe", "num_rounds": 3, "sample_id_column": None, "expected_client_ids": ["good"]}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    it = Live(tmp_path_factory.mktemp("wire") / "home").start()
    yield it
    assert it.stop() == 0
    log = (it.home.parent / "coordinator.err").read_text()
    assert "Traceback" not in log, log[-3000:]


class Rogue(GrpcSite):
    """Says what it likes."""

    async def greet(self) -> None:
        pass

    async def say(self, kind: str, **data: Json) -> Message:
        return await self.link.request(Message(kind, f"{kind}/{os.urandom(4).hex()}", "", Record(data)))

    async def hello(self, **changes: Json) -> Message:
        honest = {"hanse": "0", "capabilities": {}, "datasets": [], "consent": "node", "summary": {}}
        return await self.say("hello", **{**honest, **changes})

    async def raw(self, frame: bytes) -> None:
        """Sends a frame on a connection of its own, and waits until that is ended, or answers."""
        async with aio.secure_channel(
            self.identity.address.removeprefix("grpc://"), grpc_credentials(self.identity)
        ) as channel:
            call = channel.stream_stream(PATH)()
            try:
                await call.write(frame)  # which may be refused before all of it is sent
                async with asyncio.timeout(2):
                    while await call.read() is not aio.EOF:
                        pass
            except (TimeoutError, aio.AioRpcError):
                pass
            call.cancel()


async def consent(live: Live, node: GrpcSite, run: str, sha256: str = "") -> Message:
    """The node's yes, signed: to what is proposed, or to another hash."""
    session = await live.ok("GET", f"/api/training/sessions/{run}")
    said = {"run": run, "sha256": sha256 or session["code_hash"]}
    proof = proof_of(Signer(node.identity), node.name, {**said, "proposer": session["proposer"]}, "accept")
    body = {**said, "decision": "accept", "actor": "owner", "proof": proof}
    return await node.link.request(Message("consent", os.urandom(4).hex(), "", Record(body)))


def worked(live: Live) -> float:
    """Processor time of the coordinator, in seconds: others may keep the cores busy."""
    assert live.popen is not None
    times = psutil.Process(live.popen.pid).cpu_times()
    return times.user + times.system


def attacked(live: Live, attack: Callable[[Rogue, GrpcSite], Awaitable[None]]) -> None:
    """The attack; afterwards a run with the honest node completes, and every list can be read."""

    async def body() -> None:
        name = f"rogue-{os.urandom(3).hex()}"
        rogue = await Rogue.enrol(live, name)
        rogue.__class__ = Rogue
        rogue.link._report = lambda what, detail: None
        good = await GrpcSite.enrol(live, f"good-{os.urandom(3).hex()}")
        try:
            await rogue.connect()
            await good.connect()
            await until_online(live, 1)
            await attack(rogue, good)  # type: ignore[arg-type]
            before = worked(live)
            for path in (
                "/api/nodes",
                "/api/clients?include=features",
                f"/api/nodes/{name}",
                "/status",
                "/clients",
                "/api/events?limit=1000",
                "/api/training/sessions",
                "/api/audit",
                "/api/state",
            ):
                await live.ok("GET", path)
            assert worked(live) - before < 8
            settings = {**PROBE, "expected_client_ids": [good.name]}
            run = (await live.ok("POST", "/api/training/start", settings))["session_id"]
            while run not in good.proposals:
                await asyncio.sleep(0.02)
            await consent(live, good, run)
            assert (await until_state(live, run, "completed", "failed"))["state"] == "completed"
        finally:
            await rogue.link.close()
            await good.link.close()

    asyncio.run(body())


async def says_no(asked: Awaitable[Message], *codes: str) -> None:
    with pytest.raises(HanseError) as found:
        await asked
    assert found.value.code in codes, (found.value.code, found.value.message)
    assert "Traceback" not in found.value.message
    assert "site-packages" not in found.value.message


HELLOS: dict[str, dict[str, Json]] = {
    "datasets that are text": {"datasets": "all of them"},
    "ten thousand datasets": {"datasets": [{"name": str(i), "version": "1", "columns": {}} for i in range(10_000)]},
    "a dataset without a name": {"datasets": [{"version": "1", "columns": {}}]},
    "rows that are negative": {"datasets": [{"name": "a", "version": "1", "columns": {}, "rows": -5}]},
    "rows beyond belief": {"datasets": [{"name": "a", "version": "1", "columns": {}, "rows": 10**18}]},
    "capabilities that are a list": {"capabilities": [1]},
    "a summary that is text": {"summary": "x"},
    "a consent mode that there is not": {"consent": "everyone"},
    "columns of other kinds": {"datasets": [{"name": "a", "version": "1", "columns": {"x": {"deep": 1}}}]},
}


def test_greetings_that_are_none(live: Live) -> None:
    async def attack(rogue: Rogue, good: GrpcSite) -> None:
        for what, changes in HELLOS.items():
            try:
                await says_no(rogue.hello(**changes), "wire")
            except BaseException as error:
                error.add_note(what)
                raise

    attacked(live, attack)


ODD = "<img src=x onerror=alert(1)>\x00\x1b[2J\u202e\n'; DROP TABLE nodes; --"


def test_names_that_would_do_something_elsewhere(live: Live) -> None:
    """Control characters, HTML, SQL: kept as text or refused, and shown as text."""

    async def attack(rogue: Rogue, good: GrpcSite) -> None:
        dataset = {
            "name": ODD,
            "version": ODD,
            "columns": {ODD: "numeric", "y": "numeric"},
            "rows": 10,
            "tags": [ODD],
            "metadata_columns": [ODD],
            "kind": ODD,
            "categories": {ODD: [ODD]},
        }
        summary = {"class_distribution": {ODD: 5, "a": -3, "b": "x"}, "num_samples": ODD}
        with contextlib.suppress(HanseError):
            await rogue.hello(datasets=[dataset], capabilities={ODD: ODD}, summary=summary)
        await live.ok("GET", "/api/training/analyze")

    attacked(live, attack)


def test_a_very_wide_greeting_again_and_again(live: Live) -> None:
    async def attack(rogue: Rogue, good: GrpcSite) -> None:
        for i in range(3):
            columns = {f"column {i} {j}": "numeric" for j in range(60_000)}
            try:
                await rogue.hello(datasets=[{"name": "a", "version": "1", "columns": columns, "rows": 1}])
            except HanseError:
                pass
        await rogue.hello(datasets=[])

    attacked(live, attack)


def test_json_that_could_not_be_shown_again(live: Live) -> None:
    """Half a character, a number out of range, deep, many digits, NaN, NUL."""

    async def attack(rogue: Rogue, good: GrpcSite) -> None:
        for text in ("\\\\ud800", "1e999", "[" * 500 + "]" * 500, "1" * 5000, "NaN", "\\\\u0000"):
            quoted = not text.startswith(("[", "1", "N"))
            greeting: Json = {"hanse": "0", "capabilities": {"x": "PLACE"}, "datasets": [], "consent": "node"}
            (frame,) = frames(Message("hello", "h/1", rogue.name, Record(greeting)), 2)
            place = b"PLACE" if quoted else b'\\"PLACE\\"'
            assert place in frame
            await rogue.raw(frame.replace(place, text.encode()))

    attacked(live, attack)


def test_consents_that_are_not_this_nodes_to_give(live: Live) -> None:
    """For a run that asks another node, for a hash that is not proposed, for a run that there is not, and again."""

    async def attack(rogue: Rogue, good: GrpcSite) -> None:
        answers = good.link._link._answers.handler

        async def undecided(peer: str, message: Message, progress: Any) -> Message:
            return Message("reply", message.id, good.name, Record({"decision": "pending"}))

        good.link._link._answers.handler = undecided
        settings = {**PROBE, "expected_client_ids": [good.name]}
        run = (await live.ok("POST", "/api/training/start", settings))["session_id"]
        sha = (await live.ok("GET", f"/api/training/sessions/{run}"))["code_hash"]
        await says_no(consent(live, rogue, run), "not_allowed")
        await says_no(consent(live, rogue, run, "0" * 64), "not_allowed")
        await says_no(rogue.say("consent", run=run, sha256=sha, decision="accept"), "wire")  # not signed
        await says_no(rogue.say("consent", run="none", sha256=sha, decision="accept"), "not_found", "wire")
        await says_no(rogue.say("consent", run=[run], sha256=sha, decision="accept"), "wire")
        await says_no(rogue.say("consent", run=run, sha256=sha, decision="perhaps"), "wire")
        await says_no(consent(live, good, run, "f" * 64), "conflict")
        found = await live.ok("GET", f"/api/training/sessions/{run}")
        assert (found["state"], found["consents"]) == ("awaiting_consent", {})
        await live.ok("POST", f"/api/training/sessions/{run}/cancel", {})
        # a consent for the same bundle in another run does not count for this one
        await says_no(consent(live, good, run), "conflict")
        good.link._link._answers.handler = answers
        noted = await live.ok("GET", "/api/events?kind=node.refused&limit=1000")
        assert any(e["node"] == rogue.name and e["detail"]["what"] == "consent" for e in noted["events"])

    attacked(live, attack)


def test_unknown_kinds_and_floods(live: Live) -> None:
    """A thousand messages that nobody takes, and as many heartbeats: others are served meanwhile, and events and
    audit grow by no more than a bounded number a minute."""

    async def attack(rogue: Rogue, good: GrpcSite) -> None:
        await rogue.hello()

        async def ask(kind: str, count: int) -> None:
            for _ in range(count):
                try:
                    await rogue.say(kind, x=1)
                except HanseError:
                    pass

        flood = asyncio.gather(
            *(ask(k, 125) for k in ["explode", "task", "finished", "proposal"] * 2),
            *(ask("heartbeat", 125) for _ in range(8)),
        )
        served = 0
        while not flood.done():
            await live.ok("GET", "/health")
            served += not flood.done()
            await asyncio.sleep(0)
        await flood
        assert served >= 3  # not one by one behind it
        noted = (await live.ok("GET", "/api/events?kind=node.refused&limit=1000"))["events"]
        mine = [e for e in noted if e["node"] == rogue.name]
        assert 100 <= len(mine) <= 241  # at the turn of a minute, two of them
        assert "no further ones" in json.dumps(mine)

    attacked(live, attack)


def test_replies_to_other_nodes_tasks(live: Live) -> None:
    """An id that was asked of another node is nobody's here; the honest reply counts."""

    async def attack(rogue: Rogue, good: GrpcSite) -> None:
        settings = {**PROBE, "expected_client_ids": [good.name], "num_rounds": 2}
        good.slow = 0.3
        run = (await live.ok("POST", "/api/training/start", settings))["session_id"]
        while run not in good.proposals:
            await asyncio.sleep(0.02)
        await consent(live, good, run)
        while not good.tasks:
            await asyncio.sleep(0.02)
        seen: list[str] = []
        original = good.handle

        async def spy(peer: str, message: Message, progress: Any) -> Message:
            seen.append(message.id)
            return await original(peer, message, progress)

        good.link._link._answers.handler = spy
        while not seen:
            await asyncio.sleep(0.02)
        forged = Record({"weight": 1e12, "data": {}, "metrics": {}})
        for id in seen:
            for frame in frames(Message("reply", id, rogue.name, forged), 3):
                await rogue.raw(frame)
            for frame in frames(Message("reply", id, good.name, forged), 5):
                await rogue.raw(frame)
        done = await until_state(live, run, "completed", "failed")
        assert done["state"] == "completed"
        good.slow = 0.0
        noted = (await live.ok("GET", "/api/events?kind=node.refused&limit=1000"))["events"]
        kinds = {e["detail"]["what"] for e in noted if e["node"] == rogue.name}
        assert {"wrong id", "wrong sender"} <= kinds

    attacked(live, attack)


def test_the_log_of_the_coordinator_names_no_secret(live: Live, tmp_path: Path) -> None:
    log = (live.home.parent / "coordinator.err").read_text()
    assert live.operator not in log
    assert "PRIVATE KEY" not in log
