"""Replies are compressed where the node's owner wants it and the coordinator says that it can read it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from test_turns import Pipe

from hanse.messages import Message, Record
from hanse.pace import Pace
from hanse.transport import Progress
from hanse.transports._large_request import Traffic
from hanse.transports._link import Link

ROUNDED = {"w": np.round(np.random.default_rng(1).normal(size=1 << 20), 1).astype("f4")}
SMALL = {"w": ROUNDED["w"][: 1 << 14]}


class Counted(Pipe):
    """Counts what is written."""

    nbytes = 0

    def write(self, data: bytes) -> bool:
        self.nbytes += len(data)
        return super().write(data)


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
