"""Replies are compressed where the node's owner wants it and the coordinator says that it can read it; and large tasks
where the node's owner wants it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from test_turns import Pipe

from hanse.messages import Message, Record
from hanse.pace import Pace
from hanse.transport import Progress
from hanse.transports._broadcast import Broadcast
from hanse.transports._large_request import Traffic
from hanse.transports._link import Link

ROUNDED = {"w": np.round(np.random.default_rng(1).normal(size=1 << 20), 1).astype("f4")}
SMALL = {"w": ROUNDED["w"][: 1 << 14]}


class Counted(Pipe):
    """Counts what is written."""

    nbytes = 0

    def write(self, data: bytes, more: bool = False) -> bool:
        self.nbytes += len(data)
        return super().write(data, more)


async def asked(saving: float | None, arrays: dict[str, Any], speaks: bool = True) -> tuple[int, dict[str, Any]]:
    """Bytes that a node wrote for a reply with these arrays, and what is known of its line."""

    async def work(peer: str, task: Message, progress: Progress) -> Message:
        return Message("reply", task.id, "", Record({}, arrays))

    def refused(*what: str) -> None:
        raise AssertionError(what)

    pace = Pace()
    pace.set(0.0, (), saving)
    ours = Link("coordinator", "n", work, refused, traffic=Traffic(1) if speaks else None)
    theirs = Link("n", "coordinator", work, refused, pace=pace)
    near, far = Counted(), Counted()
    near.other, far.other = far, near
    running = [asyncio.create_task(ours.run(near)), asyncio.create_task(theirs.run(far))]
    try:
        for k in range(2):
            reply = await ours.request(Message("task", f"m{k}", "coordinator", Record({})))
            assert np.array_equal(reply.body.arrays["w"], arrays["w"])
        return far.nbytes // 2, ours.speeds.told()
    finally:
        for link in (ours, theirs):
            link.close("over")
        await asyncio.gather(*running)


@pytest.mark.parametrize("arrays", [ROUNDED, SMALL], ids=["large", "small"])
def test_a_reply_that_gains_by_it_is_compressed_and_its_bytes_are_told(arrays: dict[str, Any]) -> None:
    whole = arrays["w"].nbytes
    nbytes, line = asyncio.run(asked(0.3, arrays))
    assert nbytes < 0.4 * whole
    assert 0.9 * nbytes < line["up_bytes"] <= nbytes


@pytest.mark.parametrize(("saving", "speaks"), [(None, True), (0.3, False)])
def test_without_the_owners_will_or_the_coordinators_word_it_goes_as_it_is(saving: float | None, speaks: bool) -> None:
    nbytes, line = asyncio.run(asked(saving, SMALL, speaks))
    assert nbytes >= SMALL["w"].nbytes
    assert "up_bytes" not in line


async def sent(savings: list[float | None], random: bool = False) -> list[tuple[int, dict[str, Any]]]:
    """For each wish of the owner in turn: bytes that the coordinator wrote for a task, and what is told of the line."""
    raw = np.random.default_rng(2).normal(size=1 << 20).astype("f4") if random else ROUNDED["w"]
    got: list[bool] = []

    async def work(peer: str, task: Message, progress: Progress) -> Message:
        got.append(np.array_equal(task.body.arrays["w"], raw))
        return Message("reply", task.id, "", Record({}))

    def refused(*what: str) -> None:
        raise AssertionError(what)

    pace, found = Pace(), []
    ours = Link("coordinator", "n", work, refused, traffic=Traffic(1))
    theirs = Link("n", "coordinator", work, refused, pace=pace, request_limit=1 << 30)
    near, far = Counted(), Counted()
    near.other, far.other = far, near
    running = [asyncio.create_task(ours.run(near)), asyncio.create_task(theirs.run(far))]
    try:
        for k, saving in enumerate(savings):
            pace.set(0.0, (), saving)
            await ours.request(small(k))
            before = near.nbytes
            await ours.request(Message("task", f"m{k}", "coordinator", Record({}, {"w": raw})))
            found.append((near.nbytes - before, ours.speeds.told()))
        assert got == [False, True] * len(savings)
        return found
    finally:
        for link in (ours, theirs):
            link.close("over")
        await asyncio.gather(*running)


def small(k: int) -> Message:
    """With its answer comes what the owner wants."""
    return Message("task", f"small {k}", "coordinator", Record({}, {"w": np.zeros(2)}))


def test_a_task_is_compressed_as_long_as_the_owner_of_its_node_wants_it() -> None:
    plain, packed, again = asyncio.run(sent([None, 0.3, None]))
    whole = ROUNDED["w"].nbytes
    assert plain[0] >= whole
    assert "down_bytes" not in plain[1]
    assert packed[0] < 0.4 * whole
    assert 0.9 * packed[0] < packed[1]["down_bytes"] <= packed[0]
    assert again[0] >= whole
    assert "down_bytes" not in again[1]


def test_a_task_that_gains_nothing_goes_as_it_is() -> None:
    ((nbytes, line),) = asyncio.run(sent([0.3], random=True))
    assert nbytes >= ROUNDED["w"].nbytes
    assert "down_bytes" not in line


def test_nodes_that_want_as_much_share_what_was_compressed() -> None:
    shared = Broadcast(1 << 18).share(ROUNDED)
    for row in zip(shared.rest(0, 0.3), shared.rest(0, 0.3), shared.rest(), shared.rest(), strict=True):
        assert row[0] is row[1]
        assert row[2] is row[3]
        assert len(row[0]) < 0.5 * len(row[2])
    assert shared.made == 2 * 16
