"""A large message goes on where a lost connection left it, and is never put together of two."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_federation import Federation
from test_turns import Pipe

from hanse.messages import Assembler, Memory, Message, Record, Signal, frames, signal
from hanse.messages.framing import parts, rest
from hanse.transport import Progress
from hanse.transports import _halves
from hanse.transports._conduit import CHUNK_BYTES as CHUNK
from hanse.transports._large_request import Traffic
from hanse.transports._link import Link
from tests.waiting import PATIENCE

CHUNKS = 8
FEW = 64 << 10  # bytes of headers and signals


def model(value: int = 0, chunks: int = CHUNKS) -> dict[str, Any]:
    """Of so many chunks; the last is not whole, and arrays do not end where chunks do."""
    random = np.random.default_rng(value)
    whole = random.integers(0, 255, chunks * CHUNK - 17, "u1")
    return {"a": whole[: 3 * CHUNK // 2 - 5], "b": whole[3 * CHUNK // 2 - 5 :]}


def task(arrays: dict[str, Any], id: str = "m") -> Message:
    return Message("task", id, "coordinator", Record({}, arrays))


class End(Pipe):
    """Of a connection that its line may cut."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def listen(
        self, received: Callable[[bytes], None], ready: Callable[[], None], ended: Callable[[str], None]
    ) -> None:
        self.ended = ended
        super().listen(received, ready, ended)

    def write(self, data: bytes, more: bool = False) -> bool:
        self._line.written(len(data))
        return super().write(data, more)


class Line:
    """Connections in memory between two links, each cut when so many writes have been made on it."""

    def __init__(self, ours: Link, theirs: Link) -> None:
        self.ours, self.theirs = ours, theirs
        self.bytes = self.connections = 0
        self.cut_after = self.left = 10**9
        self.now: tuple[End, End] | None = None

    async def run(self) -> None:
        """Connects, again and again."""
        while True:
            self.left = self.cut_after
            near, far = End(self), End(self)
            near.other, far.other = far, near
            self.now, self.connections = (near, far), self.connections + 1
            running = [asyncio.create_task(self.ours.run(near)), asyncio.create_task(self.theirs.run(far))]
            await asyncio.gather(*running)

    def written(self, nbytes: int) -> None:
        self.bytes += nbytes
        self.left -= 1
        if self.left == 0:
            asyncio.get_running_loop().call_soon(self.cut)

    def cut(self) -> None:
        assert self.now is not None
        for end in self.now:
            end._coming.clear()
            end._held = True
            end.ended("cut")


class Between:
    """A coordinator's link and a node's."""

    def __init__(self, answer: Callable[[Message], dict[str, Any]] = lambda asked: dict(asked.body.arrays)) -> None:
        self.said: list[tuple[str, str, str]] = []
        self.worked, self.answer = 0, answer
        self.may = asyncio.Event()
        self.may.set()
        self.ours, self.theirs = self.coordinator(), self.node()
        self.line = Line(self.ours, self.theirs)

    def coordinator(self) -> Link:
        async def never(peer: str, asked: Message, progress: Progress) -> Message:
            raise AssertionError("a node asked")

        return Link("coordinator", "n", never, lambda *what: self.said.append(what), traffic=Traffic(1))

    def node(self) -> Link:
        async def work(peer: str, asked: Message, progress: Progress) -> Message:
            self.worked += 1
            await self.may.wait()
            return Message("reply", asked.id, "", Record({}, self.answer(asked)))

        return Link("n", "coordinator", work, lambda *what: self.said.append(what), request_limit=1 << 30)

    def start_node_anew(self) -> None:
        """On a line that is not cut any more."""
        self.line.cut_after = 10**9
        self.line.theirs = self.node()
        self.line.cut()


def tried(body: Callable[[Between], Any], answer: Any = None) -> None:
    async def main() -> None:
        it = Between() if answer is None else Between(answer)
        running = asyncio.create_task(it.line.run())
        try:
            async with asyncio.timeout(PATIENCE):
                await body(it)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            for link in (it.ours, it.theirs, it.line.ours, it.line.theirs):
                link.close("over")

    asyncio.run(main())


def same(found: Any, expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("cut_after", [7, 8, 9, 12, 20])
def test_however_often_it_is_cut_each_chunk_travels_about_once(cut_after: int) -> None:
    """What was on its way when a connection ended is lost; nothing that had arrived is sent again."""

    async def body(it: Between) -> None:
        it.line.cut_after = cut_after
        arrays = model()
        reply = await it.ours.request(task(arrays))
        same(reply.body.arrays, arrays)
        assert it.worked == 1
        assert it.said == []
        cuts = it.line.connections - 1
        assert cuts >= 2 * CHUNKS // cut_after
        assert it.line.bytes <= 2 * reply.body.nbytes + cuts * (Pipe.HOLDS + 1) * CHUNK + FEW

    tried(body)


def test_undisturbed_nothing_is_sent_twice() -> None:
    async def body(it: Between) -> None:
        reply = await it.ours.request(task(model()))
        assert it.line.bytes <= 2 * reply.body.nbytes + FEW
        assert it.line.connections == 1

    tried(body)


async def half_in(link: Link, key: tuple[str, bool]) -> None:
    """Returns when a lost connection has left something of it."""
    while key not in link._halves:
        await asyncio.sleep(0)


async def answered_by_half(it: Between) -> asyncio.Task[Message]:
    """An ask, of whose answer a lost connection has left a part."""
    asked = asyncio.create_task(it.ours.request(task({"w": np.zeros(8)})))
    while not it.worked:
        await asyncio.sleep(0)
    it.line.cut_after = 6
    it.line.cut()
    await half_in(it.ours, ("m", True))
    return asked


def test_a_node_that_works_is_not_sent_its_task_again() -> None:
    async def body(it: Between) -> None:
        it.may.clear()
        asked = asyncio.create_task(it.ours.request(task(model())))
        while not it.worked:
            await asyncio.sleep(0)
        before = it.line.bytes
        for _ in range(3):
            it.line.cut()
            await asyncio.sleep(0.01)
        assert it.line.bytes - before < FEW
        assert it.ours._traffic is not None
        assert not it.ours._traffic.broadcast._open  # frames of what has gone are held by nobody
        it.may.set()
        same((await asked).body.arrays, model())
        assert it.worked == 1

    tried(body)


def test_another_coordinator_that_asks_the_same_with_other_numbers_is_not_mixed_in() -> None:
    """Its header is the same; half of the one and half of the other would be wrong without a word."""

    async def body(it: Between) -> None:
        it.line.cut_after = 5
        first = asyncio.create_task(it.ours.request(task(model(1))))
        await half_in(it.theirs, ("m", False))
        it.line.cut_after = 10**9
        first.cancel()
        it.line.ours = it.coordinator()
        it.line.cut()
        same((await it.line.ours.request(task(model(2)))).body.arrays, model(2))

    tried(body)


def test_a_node_that_was_started_anew_and_answers_otherwise_is_not_mixed_in() -> None:
    numbers = [1, 2]

    async def body(it: Between) -> None:
        asked = await answered_by_half(it)
        assert 0 < it.ours._halves["m", True].filled < CHUNKS * CHUNK
        it.start_node_anew()
        same((await asked).body.arrays, model(2))
        assert it.worked == 2

    tried(body, lambda asked: model(numbers.pop(0)))


def test_a_node_that_was_started_anew_and_answers_the_same_goes_on_with_its_answer() -> None:
    async def body(it: Between) -> None:
        asked = await answered_by_half(it)
        filled, before = it.ours._halves["m", True].filled, it.line.bytes
        assert 0 < filled < CHUNKS * CHUNK
        it.start_node_anew()
        same((await asked).body.arrays, model())
        assert it.worked == 2
        assert it.line.bytes - before <= CHUNKS * CHUNK - filled + 2 * CHUNK + FEW

    tried(body, lambda asked: model())


def test_a_coordinator_that_was_started_anew_does_not_send_again_what_is_there() -> None:
    async def body(it: Between) -> None:
        it.may.clear()
        first = asyncio.create_task(it.ours.request(task(model())))
        while not it.worked:
            await asyncio.sleep(0)
        it.line.ours = it.coordinator()  # the first was killed: it says nothing any more
        it.line.cut()
        before = it.line.bytes
        again = asyncio.create_task(it.line.ours.request(task(model())))
        await asyncio.sleep(0.05)
        it.may.set()
        same((await again).body.arrays, model())
        assert it.worked == 1
        assert it.line.bytes - before <= CHUNKS * CHUNK + 2 * CHUNK + FEW  # its answer, once
        first.cancel()

    tried(body)


def test_a_half_goes_when_nobody_waits_for_its_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(it: Between) -> None:
        it.line.cut_after = 5
        asked = asyncio.create_task(it.ours.request(task(model())))
        await half_in(it.theirs, ("m", False))
        it.line.cut_after = 10**9
        asked.cancel()
        while it.theirs._halves:
            await asyncio.sleep(0)  # the node is told on the next connection
        monkeypatch.setattr(_halves, "KEPT_SECONDS", 0.05)
        it.line.cut_after = 5
        it.line.cut()
        other = asyncio.create_task(it.ours.request(task(model(), "other")))
        await half_in(it.theirs, ("other", False))
        it.line.ours = it.coordinator()  # it never asks again
        while it.theirs._halves:
            await asyncio.sleep(0.01)
        other.cancel()

    tried(body)


def test_what_went_on_is_held_by_nobody_when_it_is_over() -> None:
    """Also not by what would have let go of it in an hour."""
    landed: list[Any] = []

    def land(nbytes: int) -> Memory:
        landed.append(weakref.ref(room := np.empty(nbytes, np.uint8)))
        return Memory(nbytes, room.data)

    async def body(it: Between) -> None:
        for link in (it.ours, it.theirs):
            link._allocate = land
        it.line.cut_after = 7
        reply = await it.ours.request(task(model()))
        same(reply.body.arrays, model())
        assert it.line.connections > 3
        it.theirs._answers.clear()
        del reply
        while any(room() is not None for room in landed):
            gc.collect()
            await asyncio.sleep(0.01)

    tried(body)


def test_who_says_that_more_is_there_than_there_is_loses_the_connection() -> None:
    async def body(it: Between) -> None:
        it.may.clear()
        asked = asyncio.create_task(it.ours.request(task(model())))
        while not it.worked:
            await asyncio.sleep(0)
        honest = it.theirs._answers.again

        def lies(connection: Any, id: str) -> None:
            it.theirs._answers.again = honest  # type: ignore[method-assign]
            connection.outbox.signal("resume", id, 10**9)

        it.theirs._answers.again = lies  # type: ignore[method-assign]
        it.theirs._answers.knows = lambda *of: False  # type: ignore[method-assign]
        it.line.cut()
        await asyncio.sleep(0.05)
        it.may.set()
        same((await asked).body.arrays, model())

    tried(body)


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize("lies", ["memory", "as it travels"])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_the_rest_is_the_end_of_the_whole(chunk: int, lies: str) -> None:
    arrays: Any = {"a": np.arange(13, dtype="f8"), "none": np.zeros(0), "b": np.arange(5, dtype="u1")}
    message = task(arrays)
    whole = list(frames(message, 1, chunk, 1))  # of an edition, which is never one frame
    if lies != "memory":
        assembler = Assembler()
        message = [assembler.feed(frame) for frame in whole][-1]  # type: ignore[assignment]
    for start in range(0, message.body.nbytes, chunk):
        assert list(rest(message, 1, chunk, start)) == whole[1 + start // chunk :]
    assert list(parts(message.body.arrays, chunk, message.body.nbytes)) == []


def test_a_half_goes_on_only_in_its_own_edition_and_with_its_own_header() -> None:
    halves: dict[Any, Any] = {}
    message = task({"w": np.arange(100, dtype="u1")})

    def left(edition: int) -> None:
        assembler = Assembler(halves=halves)
        begun = frames(message, 2, 10, edition)
        for _ in range(4):
            assembler.feed(next(begun))
        halves.update(assembler.halves())

    for edition, other, filled in ((5, message, 30), (6, message, 0), (5, task({"w": np.arange(100, dtype="i1")}), 0)):
        left(5)
        assert halves["m", False].filled == 30
        assembler = Assembler(halves=halves)
        assembler.feed(next(frames(other, 8, 10, edition)))
        assert assembler.filled(8) == filled
        assert halves == {}
    left(0)
    assert halves == {}  # it has no edition, so nothing is kept


def test_signals_have_a_place_or_none() -> None:
    assembler = Assembler()
    assert assembler.feed(signal("go", "m", 7)) == Signal("go", "m", 7)
    assert assembler.feed(signal("go", "m")) == Signal("go", "m", 0)


# ---------------------------------------------------------------- over a real line


class Proxy:
    """Relays, and cuts each connection when so many bytes have passed, either way."""

    def __init__(self, to: str, most: int) -> None:
        self._to, self._most, self.bytes, self.cuts = to.split(":"), most, 0, 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        return f"localhost:{self._server.sockets[0].getsockname()[1]}"

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("localhost", int(self._to[1]))
        for one in (writer, far_writer):  # as little as a network holds, else a cut would lose what this machine does
            for room in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, room, 128 << 10)
        left = self._most

        async def way(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            nonlocal left
            while data := await source.read(1 << 16):
                self.bytes, left = self.bytes + len(data), left - len(data)
                if left <= 0:
                    self.cuts += 1
                    break
                target.write(data)
                await target.drain()
            for one in (writer, far_writer):
                one.transport.abort()

        try:
            await asyncio.gather(way(reader, far_writer), way(far_reader, writer), return_exceptions=True)
        finally:  # also where the test ends first
            for one in (writer, far_writer):
                one.transport.abort()

    def close(self) -> None:
        self._server.close()


def test_thirty_megabytes_over_a_line_that_is_cut(tmp_path: Path) -> None:
    async def test() -> None:
        worked = []

        async def work(peer: str, asked: Message, progress: Progress) -> Message:
            worked.append(asked.id)
            return Message("reply", asked.id, body=asked.body)

        async with Federation(tmp_path) as federation:
            proxy = Proxy(federation.address, 12 << 20)
            federation.address = await proxy.start()
            await federation.node("a", work, backoff=(0.01, 0.02))
            arrays = model(chunks=32)
            reply = await federation.coordinator.request("a", task(arrays))
            same(reply.body.arrays, arrays)
            assert worked == ["m"]
            assert proxy.cuts >= 5
            lost = 3 << 20  # of each connection, a chunk and what is on its way at once
            assert proxy.bytes <= 2 * reply.body.nbytes * 1.02 + proxy.cuts * lost
            proxy.close()

    asyncio.run(asyncio.wait_for(test(), PATIENCE))
