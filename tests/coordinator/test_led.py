"""A run that is led from outside: what is said of a step counts once, and is answered to whoever may hear it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse.codec import decode, encode
from hanse.errors import NodeFailed
from hanse.flower.folder import read
from hanse.flower.sending import FlowerMessage, FlowerReplies, Sending
from hanse.messages import Record, dump, load
from hanse.table import Column, Table

from .federation import Federation, SiteNode

APP = Path(__file__).parents[1] / "flower_apps" / "hospitals"
TABLE = {"d": Table({"x": Column.numeric(np.arange(5.0))})}


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ClientApp without Flower: it answers with its number and the bytes in reverse, and fails where asked to."""

    def answered(plan: Any, kind: str, group: str, parcel: Any, node: int, data: Path, state: Any, alive: Any) -> Any:
        if kind == "train.fail" and node == 2:
            raise NodeFailed("the ClientApp failed")
        times = 0 if state is None else int(state[0])
        return np.array([node, times, *parcel[::-1]], np.uint8), {"n": 5}, np.array([times + 1], np.uint8)

    monkeypatch.setattr("hanse.flower.client_side.answered", answered)
    monkeypatch.setattr("hanse.answers.no_place", lambda: Path("data.csv"))


def sending(*bytes_: bytes, to: dict[str, int] | None = None, kind: str = "train", over: bool = False) -> bytes:
    messages = tuple(FlowerMessage(kind, "", np.frombuffer(raw, np.uint8)) for raw in bytes_)
    return dump(encode(Sending(over, None, {"a": 0, "b": 0} if to is None else to, messages)))


def proposal(**more: Any) -> dict[str, Any]:
    plan = read(APP).plan()
    return {"federated_strategy": "flower_app", "plan": plan, "target_column": "", "sample_id_column": None, **more}


async def started(f: Federation, **more: Any) -> str:
    f.people("a", "b")
    f.account("eve", "data_scientist")
    for node in ("a", "b"):
        await f.node(node, TABLE, standing="accept")
    run = str((await f.ok("sci", "POST", "/api/training/start", proposal(**more), 201))["session_id"])
    assert await f.state(run, "running", "failed") == "running"
    return run


async def say(f: Federation, run: str, step: int, raw: bytes, who: str = "sci") -> Any:
    headers = {"Authorization": f"Bearer {f.tokens[who]}"}
    return await f.http.post(f"/api/runs/{run}/messages/{step}", content=raw, headers=headers)


async def hear(f: Federation, run: str, step: int, who: str = "sci", wait: float = 20) -> Any:
    headers = {"Authorization": f"Bearer {f.tokens[who]}"}
    return await f.http.get(f"/api/runs/{run}/messages/{step}", params={"wait": str(wait)}, headers=headers)


def replies(response: Any) -> FlowerReplies:
    assert response.status_code == 200, response.text
    return decode(FlowerReplies, load(response.content))


def bytes_of(found: FlowerReplies) -> dict[str, bytes]:
    return {node: reply.tobytes() for node, reply in found.replies.items()}


async def waits(f: Federation, run: str, step: int) -> None:
    while (await f.ok("sci", "GET", f"/api/runs/{run}/messages"))["step"] != step:
        await asyncio.sleep(0.01)


def test_messages_go_to_whom_they_are_for_and_replies_come_back_one_by_one(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            run = await started(f)
            await waits(f, run, 0)
            assert (await say(f, run, 0, sending(b"abc"))).status_code == 202
            assert bytes_of(replies(await hear(f, run, 0))) == {"a": b"\x02\x00cba", "b": b"\x03\x00cba"}
            assert (await say(f, run, 0, sending(b"other"))).status_code == 202  # was said; the first counts
            await waits(f, run, 1)
            assert (await say(f, run, 1, sending(b"x", b"y", to={"a": 1, "b": 0}))).status_code == 202
            assert bytes_of(replies(await hear(f, run, 1))) == {"a": b"\x02\x01y", "b": b"\x03\x01x"}
            assert bytes_of(replies(await hear(f, run, 0))) == {"a": b"\x02\x00cba", "b": b"\x03\x00cba"}  # again
            await waits(f, run, 2)
            assert (await say(f, run, 2, sending(b"z", to={"b": 0}, kind="evaluate"))).status_code == 202
            assert bytes_of(replies(await hear(f, run, 2))) == {"b": b"\x03\x02z"}
            await waits(f, run, 3)
            assert (await say(f, run, 3, sending(to={}, over=True))).status_code == 202
            assert await f.state(run, "completed", "failed") == "completed"
            rounds = (await f.ok("sci", "GET", f"/api/runs/{run}/rounds"))["rounds"]
            assert [(r["label"], sorted(r["participants"])) for r in rounds] == [
                ("train", ["a", "b"]),
                ("train", ["a", "b"]),
                ("evaluate", ["b"]),
            ]
            assert rounds[0]["participants"]["a"]["metrics"] == {"n": 5}
            assert (await say(f, run, 4, sending(b"late"))).status_code == 409
            ended = await hear(f, run, 4, wait=30)
            assert (ended.status_code, ended.json()["state"]) == (202, "completed")  # at once

    asyncio.run(body())


def test_a_node_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            run = await started(f)
            await waits(f, run, 0)
            await say(f, run, 0, sending(b"q", kind="train.fail"))
            found = replies(await hear(f, run, 0))
            assert bytes_of(found) == {"b": b"\x03\x00q"}
            assert found.failures == {"a": "the ClientApp failed"}

    asyncio.run(body())


def test_what_cannot_be_asked_is_refused_and_the_run_waits_on(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            run = await started(f, most_messages=1)
            await waits(f, run, 0)
            for raw, status in (
                (b"nonsense", 400),
                (dump(Record({})), 400),
                (sending(to={}), 400),
                (sending(b"x", to={"a": 1}), 400),
                (sending(b"x", to={"stranger": 0}), 422),
            ):
                answer = await say(f, run, 0, raw)
                assert answer.status_code == status, answer.text
            assert (await say(f, run, 1, sending(b"x"))).status_code == 409  # not its turn
            for who in ("eve", "owner-a"):
                assert (await say(f, run, 0, sending(b"x"), who)).status_code == 403
                assert (await hear(f, run, 0, who, 0)).status_code == 403
            await say(f, run, 0, sending(b"x"))
            assert replies(await hear(f, run, 0)).failures == {}
            await waits(f, run, 1)
            assert "agreed to messages at most 1 times" in (await say(f, run, 1, sending(b"x"))).text
            other = await f.ok("sci", "POST", "/api/training/start", {"federated_strategy": "probe"}, 201)
            assert (await say(f, other["session_id"], 0, sending(b"x"))).status_code == 409

    asyncio.run(body())


def test_a_coordinator_that_is_started_anew_waits_for_the_step_again(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            run = await started(f)
            await waits(f, run, 0)
            await say(f, run, 0, sending(b"abc"))
            first = bytes_of(replies(await hear(f, run, 0)))
            await waits(f, run, 1)
            for node in f.nodes.values():
                node.hold = asyncio.Event()
            await say(f, run, 1, sending(b"lost"))
            while not all(len(node.tasks) == 2 for node in f.nodes.values()):
                await asyncio.sleep(0.01)
            before = f.nodes
        async with Federation(tmp_path) as f:
            f.account("sci", "data_scientist")
            for name, old in before.items():
                node = f.nodes[name] = SiteNode(f.it, name, TABLE, standing="accept")
                node.proposals, node.approved, node.answerer = old.proposals, old.approved, old.answerer
                await f.connect(name)
            again = await hear(f, run, 1)
            assert (again.status_code, again.json()["step"]) == (202, 1)  # at once: it is to be said again
            await say(f, run, 1, sending(b"said again"))
            assert bytes_of(replies(await hear(f, run, 1)))["a"] == b"\x02\x01niaga dias"
            assert bytes_of(replies(await hear(f, run, 0))) == first

    asyncio.run(body())


def test_a_program_that_is_gone_ends_its_run(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            run = await started(f, wait_timeout_s=0.3)
            assert await f.state(run, "completed", "failed") == "failed"
            assert "said nothing for 0.3 s" in str(f.store.runs.get(run).reason)

    asyncio.run(body())
