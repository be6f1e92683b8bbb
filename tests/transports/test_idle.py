"""What a node that is connected and asked nothing costs: its heartbeats, and nothing beside them."""

from __future__ import annotations

import asyncio
import struct
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hpack
import numpy as np
import pytest
from grpc_federation import Federation

from hanse import transports
from hanse.messages import MAX_MESSAGE_BYTES, Memory, Message, Record
from hanse.transport import Progress
from hanse.transports import Patience, _grpc_call, _outbox
from hanse.transports._grpc_call import RECEIVE_BYTES, Call
from hanse.transports._grpc_channel import MAX_FRAME, PATH
from hanse.transports._hearts import Hearts
from hanse.transports._http2 import PREFACE, frame
from hanse.transports._large_request import ALIVE_SECONDS, Traffic
from hanse.transports._link import Link
from hanse.transports._outbox import Outbox, Parcel
from tests.waiting import PATIENCE

HEADERS, SETTINGS, PING = 1, 4, 6
ASKED = frame(PING, 0, 0, bytes(8))
OPENS = [(":method", "POST"), (":path", PATH), ("content-type", "application/grpc")]


async def nobody(peer: str, request: Message, alive: Progress) -> Message:
    raise AssertionError("nobody is asked")


class Socket(asyncio.Transport):
    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call, self.written = call, bytearray()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.call.connection_lost(None)

    abort = close


class Line:
    """A coordinator's end of a call that was opened, and a clock that stands still."""

    def __init__(self, clock: SimpleNamespace, keepalive: float) -> None:
        self.clock, self.keepalive = clock, keepalive
        self.call = Call(memoryview(bytearray(RECEIVE_BYTES)), MAX_FRAME, lambda: self.keepalive)
        self.socket = Socket(self.call)
        self.call.connection_made(self.socket)
        self.hears(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, hpack.Encoder().encode(OPENS)))

    def hears(self, data: bytes) -> None:
        self.call.get_buffer(-1)[: len(data)] = data
        self.call.buffer_updated(len(data))

    def look(self, at: float) -> None:
        """The timer runs out."""
        assert self.call._timer is not None
        self.call._timer.cancel()
        self.clock.now = at
        self.call._look()

    @property
    def due(self) -> float:
        """In so many seconds it looks again."""
        assert self.call._timer is not None
        return self.call._timer.when() - asyncio.get_running_loop().time()

    @property
    def asked(self) -> int:
        return self.socket.written.count(ASKED)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = SimpleNamespace(now=0.0)
    monkeypatch.setattr(_grpc_call, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


def test_a_line_on_which_heartbeats_come_is_never_probed(clock: SimpleNamespace) -> None:
    async def main() -> None:
        line = Line(clock, 25.0)
        for beat in range(20, 200, 20):  # two looks between two beats, wherever they fall
            clock.now = float(beat)
            line.hears(frame(PING, 1, 0, bytes(8)))
            line.look(beat + 5.0)
            assert 19.5 < line.due < 21.5  # as long as is left of the patience, and up to the full second
        assert line.asked == 0
        line.call.cancel()

    asyncio.run(main())


def test_a_silent_line_is_probed_once_and_given_up_before_its_node_is_stale(clock: SimpleNamespace) -> None:
    async def main() -> None:
        line = Line(clock, 25.0)
        clock.now = 20.0
        line.hears(frame(PING, 1, 0, bytes(8)))  # its last heartbeat
        line.look(26.0)
        assert line.asked == 0
        line.look(46.0)
        assert line.asked == 1
        line.look(72.0)
        assert line.asked == 1
        assert line.call.closed.done()
        assert Patience().missed * 20.0 > 72.0 - 20.0

    asyncio.run(main())


def test_who_answers_the_probe_is_there_and_a_longer_interval_counts_at_once(clock: SimpleNamespace) -> None:
    async def main() -> None:
        line = Line(clock, 12.5)
        line.look(13.0)
        assert line.asked == 1
        clock.now = 13.1
        line.hears(frame(PING, 1, 0, bytes(8)))
        line.look(26.0)
        assert (line.asked, line.call.closed.done()) == (2, False)
        line.keepalive = 50.0  # there are many nodes now, and each was told to beat less often
        line.look(39.0)
        assert not line.call.closed.done()
        line.call.cancel()

    asyncio.run(main())


def test_lines_that_wait_long_wake_the_process_together() -> None:
    async def main() -> None:
        lines = []
        for _ in range(20):
            lines.append(Line(SimpleNamespace(now=0.0), 25.0))
            await asyncio.sleep(0.005)
        due = {line.call._timer.when() for line in lines if line.call._timer is not None}
        assert len(due) <= 2
        assert all(when % 1 == 0 for when in due)
        for line in lines:
            line.call.cancel()

    asyncio.run(main())


def test_one_timer_for_what_all_nodes_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        traffic = Traffic()
        links = [Link("coordinator", f"n{n}", nobody, print, traffic=traffic) for n in range(50)]
        timers = 0
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def counted(delay: float, *what: Any, **how: Any) -> asyncio.TimerHandle:
            nonlocal timers
            timers += 1
            return later(delay, *what, **how)

        monkeypatch.setattr(loop, "call_later", counted)
        for link in links:  # a heartbeat of each
            hearts: Hearts = link._answers._hearts
            hearts.open.discard(hearts.at_work(lambda: None))
        assert timers == 1
        assert traffic.hearts.period == ALIVE_SECONDS

    asyncio.run(main())


def test_what_can_wait_rides_with_the_next_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        written: list[bytes] = []
        outbox = Outbox(lambda data, more: written.append(data) is None, lambda why: None)
        outbox.signal("ack", "first", patient=True)
        assert written == []
        outbox.add(Parcel(("request", "second"), iter([b"\x01beat"]), lambda: None, lambda error: None))
        assert len(written) == 1
        assert b"first" in written[0]
        assert b"beat" in written[0]
        outbox.close()

    asyncio.run(main())


def test_what_waited_long_enough_leaves_alone_and_what_came_later_waits_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_outbox, "_PATIENCE", 0.2)

    async def main() -> None:
        left: dict[bytes, float] = {}
        outbox = Outbox(lambda data, more: left.setdefault(data[-5:], time.monotonic()) > 0, lambda why: None)
        outbox.signal("ack", "first", patient=True)
        outbox.send()  # something took it along; its timer is still there
        await asyncio.sleep(0.1)
        queued = time.monotonic()
        outbox.signal("ack", "later", patient=True)
        while len(left) < 2:
            await asyncio.sleep(0.01)
        assert min(when - queued for when in left.values() if when > queued) > 0.15
        outbox.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_both_ends_know_how_often_a_node_beats_now(tmp_path: Path) -> None:
    beat = 10.0

    async def main() -> None:
        nonlocal beat
        hub = transports.Hub(
            nobody, lambda *who: None, print, lambda hosts: (b"", b"", b""), tmp_path, beat_s=lambda: beat
        )
        listener: Any = transports.listener("grpc+plain://127.0.0.1:0", hub)
        caller = transports.Caller(
            "a",
            lambda: None,
            nobody,
            Memory,
            print,
            print,
            MAX_MESSAGE_BYTES,
            lambda: beat,  # type: ignore[arg-type,return-value]
        )
        line: Any = transports.line("grpc+plain://127.0.0.1:1", caller)
        for interval in (10.0, 20.0):
            beat = interval
            assert listener._inner._keepalive() == line._keepalive() == 1.25 * interval
        assert transports.Caller("a", *[lambda: None] * 5, 1).beat_s() == Patience().heartbeat_s  # type: ignore[arg-type]

    asyncio.run(main())


def test_an_idle_node_writes_once_for_each_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        writes = 0
        write = Call.write

        def counted(self: Call, data: bytes, more: bool = False) -> bool:
            nonlocal writes
            writes += 1
            return write(self, data, more)

        monkeypatch.setattr(Call, "write", counted)
        async with Federation(tmp_path) as federation:
            node = await federation.node("a")
            for number in range(5):
                await node.request(Message("heartbeat", f"a/{number}"))
                await asyncio.sleep(0.6)
            assert writes == 10  # a beat, which takes the acknowledgement of the one before along, and its reply

    asyncio.run(main())


def test_an_exchange_of_some_hundred_kilobytes_is_one_write_each_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame with which a reply begins leaves with its chunk, and that it came is told with what is asked next."""
    alone = list[int]()
    write = Call.write

    def counted(self: Call, data: bytes, more: bool = False) -> bool:
        alone.extend([] if more else [len(data)])
        return write(self, data, more)

    async def main() -> None:
        monkeypatch.setattr(Call, "write", counted)
        async with Federation(tmp_path) as federation:
            node = await federation.node("a")
            await node.request(Message("heartbeat", "a/0"))
            alone.clear()
            sent = Record({}, {"x": np.arange(100_000.0)})
            for number in range(5):
                reply = await federation.coordinator.request("a", Message("task", f"m/{number}", "", sent))
                assert np.array_equal(reply.body.arrays["x"], sent.arrays["x"])

    asyncio.run(main())
    assert len(alone) == 10


@pytest.mark.parametrize("room", [40_000, 3])
def test_a_message_that_may_leave_with_the_next_leaves_before_it(room: int) -> None:
    """And where the peer has no ``room`` for the next, by itself."""

    async def main() -> None:
        call = Call(memoryview(bytearray(RECEIVE_BYTES)), MAX_FRAME, lambda: 60.0, OPENS)
        call.connection_made(socket := Socket(call))
        first = frame(0, 0, 1, b"\0\0\0\0\5first")
        assert call.write(bytes(65_535 - 5 - 10 - room))
        socket.written.clear()
        assert call.write(b"first", True)
        assert not socket.written
        assert not call.write(bytes(100_000))
        assert socket.written.startswith(first)
        assert len(socket.written) - len(first) == (room > 5) * (room + 9 * -(-room // 16_384))
        call.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("nbytes", [200_000, 16_384 * 9 - 14])
def test_what_stands_before_a_message_is_encrypted_with_its_first_bytes(nbytes: int) -> None:
    """TLS encrypts 16 KB at once, and who reads takes as long for a record of a few bytes as for one of a kilobyte."""
    pieces, sent = list[int](), list[int]()

    async def main() -> None:
        call = Call(memoryview(bytearray(RECEIVE_BYTES)), MAX_FRAME, lambda: 60.0, OPENS)
        call.connection_made(socket := Socket(call))
        server_says = frame(SETTINGS, 0, 0, struct.pack(">HLHL", 4, 2 << 20, 5, 2 << 20)) + frame(
            8, 0, 0, b"\0\x10\0\0"
        )
        call.get_buffer(-1)[: len(server_says)] = server_says
        call.buffer_updated(len(server_says))
        socket.writelines = lambda parts: pieces.extend(map(len, parts))  # type: ignore[method-assign]
        socket.write = lambda data: pieces.append(len(data))  # type: ignore[method-assign]
        assert call.write(bytes(nbytes))
        sent.extend(pieces)
        call.cancel()

    asyncio.run(main())
    assert sum(sent) == nbytes + 5 + 9
    assert sum(-(-size // 16_384) for size in sent) == -(-(nbytes + 5 + 9) // 16_384)
