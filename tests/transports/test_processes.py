"""Killed processes: what was asked is answered once, by whoever comes back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from calling import caller
from grpc_federation import Federation, authority, identity

from hanse.identity import save_identity
from hanse.messages import Message, Record
from hanse.transport import Progress
from hanse.transports._grpc_channel import channel_credentials
from hanse.transports._grpc_node import GrpcNode
from tests.waiting import PATIENCE


def run(test: Coroutine[Any, Any, None]) -> None:
    async def body() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    asyncio.run(body())


@asynccontextmanager
async def process(*arguments: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    here = Path(__file__).parent
    started = await asyncio.create_subprocess_exec(
        sys.executable, str(here / "process.py"), *map(str, arguments), cwd=here, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def line(running: asyncio.subprocess.Process) -> str:
    assert running.stdout is not None
    return (await running.stdout.readline()).decode().strip()


def test_a_node_killed_in_the_middle_is_asked_again_when_it_is_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path / "authority") as federation:
            save_identity(tmp_path / "node", identity(federation.authority, "a"))
            body = Record({}, {"w": np.arange(1 << 20, dtype="f8")})
            asking = asyncio.create_task(federation.coordinator.request("a", Message("task", "1", body=body)))
            async with process("node", tmp_path / "node", "slow", federation.address) as first:
                assert await line(first) == "began 1"
                first.kill()  # kill -9: no goodbye
                await federation.coordinator.changed()
                assert federation.coordinator.online() == frozenset()
                assert not asking.done()
            async with process("node", tmp_path / "node", "fast", federation.address) as second:
                assert await line(second) == "began 1"
                reply = await asking
                assert reply.body.data == {"pace": "fast"}
                np.testing.assert_array_equal(reply.body.arrays["w"], body.arrays["w"])
                assert (await federation.coordinator.request("a", Message("task", "2"))).id == "2"
                assert await line(second) == "began 2"
            assert federation.recorded == []

    run(test())


def test_a_coordinator_killed_and_started_again_finds_its_nodes_and_their_work(tmp_path: Path) -> None:
    async def test() -> None:
        signer = authority(tmp_path)
        began, release = asyncio.Event(), asyncio.Event()
        handled: list[str] = []

        async def work(peer: str, request: Message, alive: Progress) -> Message:
            handled.append(request.id)
            began.set()
            await release.wait()
            return Message("reply", request.id, body=Record({"n": len(handled)}))

        async with process("coordinator", tmp_path, "localhost:0", "same") as first:
            address = (await line(first)).removeprefix("listening ")
            node = GrpcNode(caller("a", work), address, credentials=lambda: channel_credentials(identity(signer, "a")))
            node.start()
            await began.wait()
            first.kill()
        # the work that was going on is not done twice
        async with process("coordinator", tmp_path, address, "same") as second:
            assert await line(second) == f"listening {address}"
            await node.connected()
            release.set()
            assert await line(second) == "reply same 1"
            assert handled == ["same"]
            second.kill()
        # its reply was acknowledged, so the same id is computed anew; another id is other work
        async with process("coordinator", tmp_path, address, "other") as third:
            assert await line(third) == f"listening {address}"
            assert await line(third) == "reply other 2"
        await node.close()

    run(test())
