"""A node's large payloads leave at the pace of its owner, by the bytes that a clock without seconds has seen."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import numpy as np
import pytest
from test_turns import Pipe

from hanse.messages import Message, Record
from hanse.pace import Pace
from hanse.transport import Progress
from hanse.transports import _hearts, _line, _turns
from hanse.transports._conduit import CHUNK_BYTES as CHUNK
from hanse.transports._large_request import Traffic
from hanse.transports._link import Link
from tests.clock import Jumping, jumping

SMALL = 64 << 10  # signals and headers


class Counted(Pipe):
    """Notes when how many bytes left."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[tuple[float, int]] = []

    def write(self, data: bytes, more: bool = False) -> bool:
        self.left.append((asyncio.get_running_loop().time(), len(data)))
        return super().write(data, more)


class Federation:
    """A coordinator's link, and a node's with a pace, whose connection may be made anew."""

    def __init__(self, pace: Pace) -> None:
        async def work(peer: str, asked: Message, progress: Progress) -> Message:
            return Message("reply", asked.id, "", Record({}, {"w": np.ones(int(asked.body.data["bytes"]), "u1")}))

        def refused(*what: str) -> None:
            self.refused.append(what)

        self.refused: list[Any] = []
        self.progress: list[float] = []
        self.ours = Link("coordinator", "n", work, refused, traffic=Traffic(1))
        self.theirs = Link("n", "coordinator", work, refused, pace=pace)
        self.wires: list[Counted] = []
        self.running: list[asyncio.Task[str]] = []

    def connect(self) -> None:
        near, far = Counted(), Counted()
        near.other, far.other = far, near
        self.wires.append(far)
        self.running += [asyncio.create_task(self.ours.run(near)), asyncio.create_task(self.theirs.run(far))]

    async def ask(self, nbytes: int, id: str = "m") -> int:
        asked = Message("task", id, "coordinator", Record({"bytes": nbytes}))
        reply = await self.ours.request(asked, lambda: self.progress.append(asyncio.get_running_loop().time()))
        return reply.body.nbytes

    @property
    def left(self) -> list[tuple[float, int]]:
        return [one for wire in self.wires for one in wire.left]


def paced(body: Any, limit_mbit: float, hours: tuple[str, ...] = ()) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        evening = datetime.datetime(2026, 3, 1, 21)
        pace = Pace(loop.time, lambda: evening + datetime.timedelta(seconds=loop.time()))
        pace.set(limit_mbit, hours)
        federation = Federation(pace)
        federation.connect()
        try:
            await body(federation, loop)
        finally:
            for link in (federation.ours, federation.theirs):
                link.close("over")
            await asyncio.gather(*federation.running)
        assert not federation.refused
        assert not federation.theirs._answers._hearts.open

    jumping(asyncio.wait_for(main(), 1e6), _hearts, _line, _turns)


def test_no_more_bytes_leave_than_the_limit_and_none_are_left_waiting() -> None:
    """1 Mbit/s is 125,000 bytes each second; a chunk may be ahead."""

    async def body(federation: Federation, loop: Jumping) -> None:
        assert await federation.ask(16 * CHUNK) == 16 * CHUNK
        sent = 0
        for when, nbytes in federation.left:
            assert sent <= 125_000 * when + CHUNK + SMALL
            sent += nbytes
        assert loop.time() == pytest.approx(16 * CHUNK / 125_000, abs=2 * CHUNK / 125_000)
        assert sent <= 16 * CHUNK + SMALL

    paced(body, 1.0)


def test_who_waits_for_its_pace_is_not_late_and_what_is_small_overtakes() -> None:
    async def body(federation: Federation, loop: Jumping) -> None:
        asked = asyncio.create_task(federation.ask(16 * CHUNK))
        await asyncio.sleep(30)
        began = loop.time()
        assert await federation.ask(10, "small") == 10
        assert loop.time() - began < 1
        await asked
        gaps = np.diff([0.0, *federation.progress])
        assert max(gaps) <= 2 * federation.theirs._answers._hearts.period

    paced(body, 0.1)


def test_a_new_connection_is_no_new_allowance() -> None:
    async def body(federation: Federation, loop: Jumping) -> None:
        asked = asyncio.create_task(federation.ask(16 * CHUNK))
        for _ in range(6):
            await asyncio.sleep(10)
            federation.connect()
        assert await asked == 16 * CHUNK
        sent = 0
        for when, nbytes in federation.left:
            assert sent <= 125_000 * when + CHUNK + 2 * SMALL
            sent += nbytes

    paced(body, 1.0)


def test_large_payloads_leave_in_the_hours_and_small_ones_at_any_time() -> None:
    async def body(federation: Federation, loop: Jumping) -> None:
        asked = asyncio.create_task(federation.ask(16 * CHUNK))
        await asyncio.sleep(1000)
        assert await federation.ask(CHUNK, "small") == CHUNK
        assert loop.time() < 1010
        small = sum(nbytes for _, nbytes in federation.left)
        assert small <= CHUNK + SMALL
        assert await asked == 16 * CHUNK
        assert 3600 <= loop.time() < 3611  # at 21:00 it was computed, at 22:00 it left
        assert sum(n for when, n in federation.left if when < 3600) <= small + SMALL  # signs of life for an hour

    paced(body, 0.0, ("22:00-06:00",))
