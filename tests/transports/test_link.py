"""What a peer that asks and never reads can make us keep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from hanse.messages import Message, Record, frames
from hanse.transport import Progress
from hanse.transports._link import Link
from tests.waiting import PATIENCE


class Deaf:
    """A wire whose other end sends and never reads."""

    def __init__(self, said: Iterator[bytes]) -> None:
        self.said, self.written, self.held = said, 0, True

    def listen(
        self, received: Callable[[bytes], None], ready: Callable[[], None], ended: Callable[[str], None]
    ) -> None:
        self.received = received
        self.go_on()

    def write(self, data: bytes, more: bool = False) -> bool:
        self.written += len(data)
        return False

    def hold(self) -> None:
        self.held = True

    def go_on(self) -> None:
        self.held = False
        asyncio.get_running_loop().call_soon(self.next)

    def next(self) -> None:
        found = None if self.held else next(self.said, None)
        if found is not None:
            self.received(found)
            asyncio.get_running_loop().call_soon(self.next)


def requests(count: int, text: str = "", id: Callable[[int], str] = "hello/{}".format) -> Iterator[bytes]:
    for number in range(count):
        yield from frames(Message("hello", id(number), "rogue", Record({"text": text})), 2 * number + 2)


async def served(said: Iterator[bytes], answer: str) -> tuple[str, list[tuple[str, str]], Link]:
    noted: list[tuple[str, str]] = []

    async def handle(peer: str, message: Message, progress: Progress) -> Message:
        await asyncio.sleep(0)
        return Message("welcome", message.id, "coordinator", Record({"text": answer}))

    link = Link("coordinator", "rogue", handle, lambda peer, what, detail: noted.append((what, detail)))
    wire = Deaf(said)
    reason = await asyncio.wait_for(link.run(wire), PATIENCE)
    return reason, noted, link


@pytest.mark.parametrize(("count", "answer"), [(2000, "x"), (200, "x" * (1 << 20))])
def test_a_peer_that_asks_and_never_reads_loses_its_stream(count: int, answer: str) -> None:
    async def body() -> None:
        reason, noted, link = await served(requests(count), answer)
        assert "rogue asks and does not read" in reason
        assert [what for what, _ in noted] == ["not read"]
        kept = [a.reply for a in link._answers._answers.values() if a.reply is not None]
        assert len(kept) <= 64
        assert sum(len(reply.body.data["text"]) for reply in kept) <= 33 << 20
        link.close("enough")

    asyncio.run(body())


def test_long_requests_are_worked_on_a_few_at_a_time() -> None:
    async def body() -> None:
        at_work, most = 0, 0
        done = asyncio.Event()

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            await done.wait()
            at_work -= 1
            return Message("welcome", message.id, "coordinator", Record({}))

        link = Link("coordinator", "rogue", handle, lambda *said: None)
        wire = Deaf(requests(20, "x" * (200 << 10)))
        running = asyncio.ensure_future(link.run(wire))
        await asyncio.sleep(0.5)
        assert most == 4
        done.set()
        link.close("enough")
        await running

    asyncio.run(body())
