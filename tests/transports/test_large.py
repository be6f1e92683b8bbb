"""More than four gigabytes in one message: no length or place is kept in 32 bits, and no half of it in memory."""

from __future__ import annotations

import asyncio
import resource
import tempfile

import numpy as np
import pytest
from test_turns import Pipe

from hanse.messages import Message, Record, Spool
from hanse.transport import Progress
from hanse.transports._large_request import Traffic
from hanse.transports._link import Link

NBYTES = (4 << 30) + 12_345


def record(there: bool) -> Record:
    """Zeros, of which the system holds no page, with a few numbers at the end."""
    if not there:
        return Record({"there": False})
    numbers = np.zeros(NBYTES, "u1")
    numbers[-5:] = [1, 2, 3, 4, 5]
    return Record({"there": True}, {"w": numbers})


@pytest.mark.long
@pytest.mark.timeout(560)
@pytest.mark.parametrize("way", ["to a node", "to the coordinator"])
def test_a_message_of_more_than_four_gigabytes(way: str) -> None:
    async def main(folder: str) -> None:
        def land(nbytes: int) -> Spool:
            return Spool(nbytes, folder)

        def refused(*what: str) -> None:
            raise AssertionError(what)

        async def work(peer: str, asked: Message, progress: Progress) -> Message:
            if way == "to a node":
                check(asked)
            return Message("reply", asked.id, "", record(way == "to the coordinator"))

        def check(message: Message) -> None:
            assert message.body.nbytes == NBYTES
            last = message.body.arrays.block("w", NBYTES - 6, NBYTES)  # type: ignore[attr-defined]
            assert last.tolist() == [0, 1, 2, 3, 4, 5]

        ours = Link("coordinator", "n", work, refused, allocate=land, traffic=Traffic(1))
        theirs = Link("n", "coordinator", work, refused, allocate=land, request_limit=1 << 40)
        near, far = Pipe.pair()
        running = [asyncio.create_task(ours.run(near)), asyncio.create_task(theirs.run(far))]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reply = await ours.request(Message("task", "m", "coordinator", record(way == "to a node")))
        if way == "to the coordinator":
            check(reply)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kilobytes
        for link in (ours, theirs):
            link.close("over")
        await asyncio.gather(*running)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
