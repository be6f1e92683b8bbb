"""HTTP/2 and gRPC as we write them: against each other, against the grpcio library, and against peers that lie."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import hpack
import pytest
from calling import caller
from grpc import aio
from grpc_federation import Federation, authority, identity

from hanse.errors import ConfigError
from hanse.messages import Message, Record
from hanse.transports import _grpc_coordinator, _grpc_node
from hanse.transports._grpc_call import RECEIVE_BYTES, Call, Ended
from hanse.transports._grpc_channel import MAX_FRAME, PATH, channel_credentials
from hanse.transports._grpc_coordinator import GrpcCoordinator
from hanse.transports._grpc_node import GrpcNode
from hanse.transports._http2 import (
    CALM,
    COMPRESSION,
    FLOW_CONTROL,
    FRAME_SIZE,
    PREFACE,
    PROTOCOL,
    WINDOW,
    Broken,
    Fields,
    Session,
    frame,
)
from hanse.transports._way_out import proxy_for, tunnel
from tests.waiting import PATIENCE

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
OPENS = [(":method", "POST"), (":path", PATH), ("content-type", "application/grpc")]


def run(test: Coroutine[Any, Any, None], seconds: float = PATIENCE) -> None:
    asyncio.run(asyncio.wait_for(test, seconds))


class End:
    """A session, and what it was told and has written."""

    def __init__(self, client: bool) -> None:
        self.out = bytearray()
        self.body = bytearray()
        self.heads: list[tuple[Fields, bool]] = []
        self.resets: list[int | None] = []
        self.session = Session(
            client,
            self.out.extend,
            lambda fields, last: self.heads.append((list(fields), last)),
            self.body.extend,
            self.resets.append,
            lambda: None,
        )

    def hears(self, data: bytes) -> None:
        self.session.receive(memoryview(data))

    def send(self, body: bytes) -> None:
        self.out += self.session.body(len(body)) + body


def opened() -> End:
    """A server with a call."""
    server = End(False)
    server.hears(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, hpack.Encoder().encode(OPENS)))
    server.out.clear()
    return server


@pytest.mark.parametrize("seed", range(20))
def test_however_the_bytes_are_cut_the_same_is_said(seed: int) -> None:
    rng = random.Random(seed)
    client, server = End(True), End(False)
    client.session.start()
    client.session.say([*OPENS, ("x", "y" * rng.choice([1, 20_000, 40_000]))])  # the last ones in several frames
    pieces = [rng.randbytes(rng.choice([1, 100, 16_000])) for _ in range(20)]
    for piece in pieces:
        client.send(piece)
    client.session.say([("grpc-status", "0")], end=True)
    while client.out:
        size = rng.choice([1, 8, 9, 10, 100, 5000])
        server.hears(bytes(client.out[:size]))
        del client.out[:size]
    assert bytes(server.body) == b"".join(pieces)
    assert [last for _, last in server.heads] == [False, True]
    assert dict(server.heads[0][0])[":path"] == PATH


def test_what_a_peer_may_do_and_nobody_needs_is_read() -> None:
    server = opened()
    block = hpack.Encoder().encode([("a", "b")])
    server.hears(frame(2, 0, 1, bytes(5)))  # priority
    server.hears(frame(77, 255, 1, b"of a later standard"))
    server.hears(frame(DATA, 8, 1, b"\x03" + b"body" + bytes(3)))  # padded
    server.hears(frame(SETTINGS, 0, 0, struct.pack(">HLHL", 4, 100, 1, 0)) + frame(PING, 0, 0, b"are you?"))
    server.hears(frame(HEADERS, 1, 1, block[:1]) + frame(CONTINUATION, 4, 1, block[1:]))
    assert bytes(server.body) == b"body"
    assert server.heads[1:] == [([("a", "b")], True)]
    assert frame(SETTINGS, 1, 0) + frame(PING, 1, 0, b"are you?") in bytes(server.out)
    assert server.session.room == 100


def test_a_second_call_is_refused_and_the_first_goes_on() -> None:
    server = opened()
    server.hears(frame(HEADERS, 4, 3, hpack.Encoder().encode(OPENS)) + frame(DATA, 0, 3, b"other"))
    server.hears(frame(DATA, 0, 1, b"mine"))
    assert bytes(server.body) == b"mine"
    assert frame(RESET, 0, 3, struct.pack(">L", 7)) in bytes(server.out)


LIES = {
    "a block of headers that goes on for ever": (
        CALM,
        frame(HEADERS, 0, 3, bytes(100)) + frame(CONTINUATION, 0, 3, bytes(30_000)) * 3,
    ),
    "headers that cannot be read": (COMPRESSION, frame(HEADERS, 4, 3, b"\xff" * 20)),
    "a bomb of headers": (
        COMPRESSION,
        frame(HEADERS, 4, 3, hpack.Encoder().encode([("a", "b" * 4000)]) + b"\xbe" * 100),
    ),
    "other headers in between": (PROTOCOL, frame(HEADERS, 0, 3) + frame(PING, 0, 0, bytes(8))),
    "headers that go on from nowhere": (PROTOCOL, frame(CONTINUATION, 4, 1)),
    "an even stream": (PROTOCOL, frame(HEADERS, 4, 2, hpack.Encoder().encode(OPENS))),
    "data of nobody": (PROTOCOL, frame(DATA, 0, 0, b"x")),
    "more padding than bytes": (PROTOCOL, frame(DATA, 8, 1, b"\x09abc")),
    "a promise": (PROTOCOL, frame(5, 4, 1, bytes(4))),
    "a short ping": (FRAME_SIZE, frame(PING, 0, 0, bytes(7))),
    "a short reset": (FRAME_SIZE, frame(RESET, 0, 1, bytes(3))),
    "settings that are cut off": (FRAME_SIZE, frame(SETTINGS, 0, 0, bytes(5))),
    "a window that grows by nothing": (PROTOCOL, frame(WINDOW_UPDATE, 0, 0, bytes(4))),
    "a window without end": (FLOW_CONTROL, frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2),
    "a frame without end": (FRAME_SIZE, b"\xff\xff\xff" + frame(DATA, 0, 1)[3:]),
    "a large frame that is no data": (CALM, b"\x01\xff\xff" + frame(PING, 0, 0)[3:]),
    "more than there is room for": (FLOW_CONTROL, frame(DATA, 0, 1, bytes(1 << 20)) * 3),
    "pings without end": (CALM, frame(PING, 0, 0, bytes(8)) * 2000),
    "settings without end": (CALM, frame(SETTINGS, 0, 0) * 2000),
    "data without bytes, without end": (CALM, frame(DATA, 0, 1) * 20_000),
    "padding without end": (CALM, frame(DATA, 8, 3, b"\xff" + bytes(255)) * 20_000),
    "windows that grow for ever": (CALM, frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 20_000),
    "frames of later standards without end": (CALM, frame(99, 0, 0) * 20_000),
    "a window that settings make too large": (
        FLOW_CONTROL,
        frame(WINDOW_UPDATE, 0, 1, b"\x7f\0\0\0") + frame(SETTINGS, 0, 0, struct.pack(">HL", 4, (1 << 31) - 1)),
    ),
    "settings of frames that are too small": (PROTOCOL, frame(SETTINGS, 0, 0, struct.pack(">HL", 5, 100))),
    "settings of a stream": (FRAME_SIZE, frame(SETTINGS, 0, 1)),
    "a GOAWAY that is cut off": (FRAME_SIZE, frame(GOAWAY, 0, 0, bytes(7))),
    "resets of the call's own kind without end": (CALM, frame(RESET, 0, 3, bytes(4)) * 20_000),
    "calls that are given up at once, without end": (
        CALM,
        b"".join(frame(HEADERS, 4, n, b"\x83") + frame(RESET, 0, n, struct.pack(">L", 8)) for n in range(3, 5000, 2)),
    ),
    "acknowledged pings without end": (CALM, frame(PING, 1, 0, bytes(8)) * 20_000),
    "acknowledged settings without end": (CALM, frame(SETTINGS, 1, 0) * 20_000),
    "headers that go on without bytes": (PROTOCOL, frame(HEADERS, 0, 3) + frame(CONTINUATION, 0, 3)),
    "headers that go on a byte at a time": (CALM, frame(HEADERS, 0, 3) + frame(CONTINUATION, 0, 3, b"\x83") * 20_000),
    "long settings without end": (CALM, frame(SETTINGS, 0, 0, struct.pack(">HL", 3, 1) * 10_000) * 20),
    "long frames of later standards without end": (CALM, frame(99, 0, 0, bytes(60_000)) * 20),
    "long headers of the call without end": (CALM, frame(HEADERS, 4, 1, b"\x20" * 60_000) * 20),
    "padded data without bytes, without end": (CALM, frame(DATA, 8, 1, b"\0") * 20_000),
    "padding of the call's own, without end": (CALM, frame(DATA, 8, 1, b"\xff" + bytes(255)) * 20_000),
    "a window of the call that grows by nothing": (PROTOCOL, frame(WINDOW_UPDATE, 0, 1, bytes(4))),
    "priorities without end": (CALM, frame(2, 0, 1, bytes(5)) * 20_000),
    "farewells without end": (CALM, frame(GOAWAY, 0, 0, bytes(8)) * 20_000),
    "calls without end": (CALM, b"".join(frame(HEADERS, 4, n, b"\x83") for n in range(3, 5000, 2))),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named_and_ends_the_connection(lie: str) -> None:
    code, said = LIES[lie]
    with pytest.raises(Broken) as caught:
        opened().hears(said)
    assert caught.value.code == code


def reframed(data: bytes, rng: random.Random) -> bytes:
    """The frames of a client as a proxy may pass them on: data cut anew and padded, headers continued."""
    out, place = bytearray(PREFACE), len(PREFACE)
    while place < len(data):
        size, kind, flags = int.from_bytes(data[place : place + 3], "big"), data[place + 3], data[place + 4]
        stream = int.from_bytes(data[place + 5 : place + 9], "big")
        body, place = data[place + 9 : place + 9 + size], place + 9 + size
        if kind == DATA:
            while body:
                piece, body = body[: (cut := rng.choice([1, 5, 9, 1000, 16_000]))], body[cut:]
                padding = rng.choice([None, 0, 1, 200])
                padded = piece if padding is None else bytes([padding]) + piece + bytes(padding)
                out += frame(DATA, 0 if padding is None else 8, stream, padded)
            if flags & 1:
                out += frame(DATA, 1, stream)
        elif kind == HEADERS:
            out += frame(HEADERS, flags & ~4, stream, body[:3])
            for at in range(3, len(body), 7):
                out += frame(CONTINUATION, 4 if at + 7 >= len(body) else 0, stream, body[at : at + 7])
        else:
            out += frame(kind, flags, stream, body)
    return bytes(out)


@pytest.mark.parametrize("seed", range(10))
def test_a_proxy_may_put_all_into_other_frames(seed: int) -> None:
    rng = random.Random(seed)
    client, server = End(True), End(False)
    client.session.start()
    client.session.say(OPENS)
    pieces = [rng.randbytes(rng.choice([1, 100, 16_000])) for _ in range(10)]
    for piece in pieces:
        client.send(piece)
    client.session.say([("x", "y" * 100)], end=True)
    server.hears(reframed(bytes(client.out), rng))
    assert bytes(server.body) == b"".join(pieces)
    assert [last for _, last in server.heads] == [False, True]


def test_only_a_server_that_does_not_know_the_call_ends_it_by_going_away() -> None:
    server = opened()
    server.hears(frame(GOAWAY, 0, 0, bytes(8)) + frame(DATA, 0, 1, b"more"))
    assert (bytes(server.body), server.resets) == (b"more", [])
    client = End(True)
    client.hears(frame(SETTINGS, 0, 0) + frame(GOAWAY, 0, 0, struct.pack(">LL", 1, 0)))
    assert client.resets == []
    client.hears(frame(GOAWAY, 0, 0, struct.pack(">LL", 0, 0)))
    assert client.resets == [None]


def test_who_gets_much_may_say_much_of_windows() -> None:
    server = opened()
    for _ in range(100):
        server.hears(frame(WINDOW_UPDATE, 0, 0, b"\0\x10\0\0") + frame(WINDOW_UPDATE, 0, 1, b"\0\x10\0\0"))
        server.send(bytes(1 << 20))
        server.hears(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 500)


@pytest.mark.parametrize("said", [b"", PREFACE, PREFACE[:5], PREFACE + frame(SETTINGS, 0, 0), b"slowly"])
def test_who_opens_no_call_in_time_is_hung_up_on(said: bytes) -> None:
    async def test() -> None:
        coordinator = GrpcCoordinator(nobody, beat_s=lambda: 0.24)
        host, _, port = (await coordinator.start("127.0.0.1:0", insecure=True)).rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(ConnectionError):  # it is hung up on while it speaks
            for byte in PREFACE[:9] if said == b"slowly" else said:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05 if said == b"slowly" else 0)
            await asyncio.wait_for(reader.read(-1), PATIENCE)
        writer.close()
        await coordinator.stop()

    run(test())


def test_who_shows_no_certificate_in_time_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_grpc_coordinator, "HANDSHAKE_SECONDS", 0.3)

    async def test() -> None:
        async with Federation(tmp_path) as federation:
            host, _, port = federation.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"\x16\x03\x01")
            assert await asyncio.wait_for(reader.read(-1), PATIENCE) == b""
            writer.close()

    run(test())


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", PREFACE + frame(PING, 0, 0, bytes(8)), b"\x16\x03\x01"])
def test_who_does_not_begin_as_http2_does_is_not_heard(first: bytes) -> None:
    with pytest.raises(Broken):
        End(False).hears(first)


def test_room_is_given_back_as_bytes_are_taken() -> None:
    server, sent = opened(), 0
    for _ in range(50):
        server.hears(frame(DATA, 0, 1, bytes(WINDOW // 8)))
        sent += WINDOW // 8
        server.session.taken(WINDOW // 8)
    assert sent > 6 * WINDOW
    with pytest.raises(Broken):
        for _ in range(9):
            server.hears(frame(DATA, 0, 1, bytes(WINDOW // 8)))


def test_much_room_is_given_back_with_what_is_said_next() -> None:
    server = opened()
    del server.out[:]
    for _ in range(20):
        server.hears(frame(DATA, 0, 1, bytes(WINDOW // 3)))
        server.session.taken(WINDOW // 3)
        assert not server.out
        server.send(b"next")
        back = struct.pack(">L", WINDOW // 3)
        assert server.out == frame(WINDOW_UPDATE, 0, 0, back) + frame(WINDOW_UPDATE, 0, 1, back) + frame(
            DATA, 0, 1, b"next"
        )
        del server.out[:]
    server.hears(frame(DATA, 0, 1, bytes(WINDOW // 8)))
    server.session.taken(WINDOW // 8)
    server.send(b"next")
    assert server.out == frame(DATA, 0, 1, b"next")


# ------------------------------------------------------------ the library's server, our client


async def with_library(serve: Callable[[Any], Awaitable[None]], test: Callable[[Call], Awaitable[None]]) -> None:
    async def handle(_: Any, context: Any) -> None:
        await serve(context)

    class Method(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return grpc.stream_stream_rpc_method_handler(handle)

    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = aio.server(options=limits)
    server.add_generic_rpc_handlers((Method(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    room = memoryview(bytearray(RECEIVE_BYTES))
    opens = [(":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "x"), ("te", "trailers")]
    opens.append(("content-type", "application/grpc"))
    _, call = await asyncio.get_running_loop().create_connection(
        lambda: Call(room, MAX_FRAME, lambda: 10, opens), "127.0.0.1", port
    )
    try:
        await test(call)
    finally:
        call.cancel()
        await call.closed
        await server.stop(0)


@pytest.mark.parametrize("sizes", [[0, 1, 5, 1000], [70_000, 3, 5_000_000, 0, 1 << 20, (1 << 20) + 21, 16_384]])
def test_messages_of_any_size_go_to_the_library_and_come_back(sizes: list[int]) -> None:
    async def serve(context: Any) -> None:
        await context.send_initial_metadata(())
        while (data := await context.read()) is not aio.EOF:
            await context.write(data)

    async def test(call: Call) -> None:
        await call.accepted
        sent = [random.Random(size).randbytes(size) for size in sizes]
        back: list[bytes] = []
        ready, done = asyncio.Event(), asyncio.Event()

        def received(data: bytes) -> None:
            back.append(bytes(data))
            if len(back) == len(sent):
                done.set()

        call.listen(received, ready.set, lambda reason: done.set())
        for message in sent:
            ready.clear()
            if not call.write(message):
                await ready.wait()
        await done.wait()
        assert back == sent
        assert call._rest.obj == b""  # it holds nothing of what has left

    run(with_library(serve, test))


def test_answers_do_not_pile_up_for_who_asks_and_never_reads() -> None:
    """A few pings between two looks are fine for who reads; of who does not, all of them count."""

    async def main(reads: bool) -> int:
        class Socket(asyncio.Transport):
            def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
            def writelines(self, pieces: Any) -> None: ...
            def abort(self) -> None: ...

            def write(self, data: Any) -> None:
                written.extend(data)

            def close(self) -> None:
                call.connection_lost(None)

        written = bytearray()
        room = memoryview(bytearray(RECEIVE_BYTES))
        call = Call(room, MAX_FRAME, lambda: 100)
        call.connection_made(Socket())

        def says(data: bytes) -> None:
            call.get_buffer(-1)[: len(data)] = data
            call.buffer_updated(len(data))

        says(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, hpack.Encoder().encode(OPENS)))
        call.pause_writing()
        for look in range(50):
            says(frame(PING, 0, 0, bytes(8)) * 100)
            if call.closed.done():
                return look
            if reads:
                call.resume_writing()
            call._look()
        call.cancel()
        assert written.count(frame(PING, 1, 0, bytes(8))) == 5000
        return 50

    assert asyncio.run(main(reads=False)) < 11
    assert asyncio.run(main(reads=True)) == 50


def test_what_is_held_waits_and_comes_in_order() -> None:
    async def serve(context: Any) -> None:
        for number in range(2000):
            await context.write(b"%05d" % number * 400)
        await context.read()

    async def test(call: Call) -> None:
        await call.accepted
        got: list[int] = []
        call.listen(lambda data: got.append(int(bytes(data)[:5])), lambda: None, lambda reason: None)
        call.hold()
        await asyncio.sleep(0.3)
        assert sum(map(len, call._kept)) <= 2 * WINDOW
        while len(got) < 2000:
            call.go_on()
            await asyncio.sleep(0.001)
            call.hold()
        assert got == list(range(2000))

    run(with_library(serve, test))


def test_the_librarys_last_words_are_read() -> None:
    async def serve(context: Any) -> None:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not today: 100 % sure, Ümit")

    async def test(call: Call) -> None:
        with pytest.raises(Ended) as caught:
            await call.accepted
        assert (caught.value.status, caught.value.reason) == (7, "not today: 100 % sure, Ümit")

    run(with_library(serve, test))


@pytest.mark.parametrize(
    "answer",
    [
        [(":status", "404"), ("content-type", "text/html")],
        [(":status", "200"), ("content-type", "text/html")],
        [("grpc-status", "0")],
    ],
)
def test_a_server_that_is_no_grpc_is_told(answer: Fields) -> None:
    async def test() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, hpack.Encoder().encode(answer)))
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        said: list[tuple[str, str]] = []
        node = GrpcNode(caller("a", nobody, report=lambda *what: said.append(what)), f"127.0.0.1:{port}", insecure=True)
        node.start()
        while not said:
            await asyncio.sleep(0.01)
        await node.close()
        server.close()
        assert said[0][0] == "disconnected"
        assert "no gRPC" in said[0][1]

    run(test())


async def nobody(peer: str, asked: Message, progress: Any) -> Message:
    raise AssertionError("nobody asks here")


# ------------------------------------------------------------ a proxy


class Proxy:
    """Lets calls through to one place, whatever host they name."""

    def __init__(self, onward: str, answer: bytes = b"HTTP/1.1 200 fine\r\nVia: me\r\n\r\n") -> None:
        self.onward, self.answer, self.asked = onward, answer, b""

    async def __aenter__(self) -> Proxy:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"http://me:se%20cret@127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        if self.answer.startswith(b"HTTP/1.1 2"):
            host, _, port = self.onward.rpartition(":")
            there, onwards = await asyncio.open_connection(host, int(port))

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(1 << 16):
                    sink.write(data)
                sink.close()

            try:
                await asyncio.gather(pump(reader, onwards), pump(there, writer))
            finally:  # also where the test ends first
                onwards.transport.abort()
        writer.close()


def test_a_node_calls_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation, Proxy(federation.address) as proxy:
            monkeypatch.setenv("grpc_proxy", proxy.address)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.setattr(_grpc_node, "is_loopback", lambda host: False)
            await federation.node("a")
            reply = await federation.coordinator.request("a", Message("task", "1", body=Record({"x": 1})))
            assert reply.body.data == {"x": 1}
            assert proxy.asked.startswith(f"CONNECT {federation.address} HTTP/1.1\r\n".encode())
            assert b"Proxy-Authorization: Basic bWU6c2UgY3JldA==\r\n" in proxy.asked
            await federation.nodes[0].close()

    run(test())


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 who are you?\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200", b"x" * 20_000]
)
def test_a_proxy_that_says_no_is_told(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Proxy("", answer) as proxy:
            monkeypatch.setenv("grpc_proxy", proxy.address)
            found = proxy_for("coordinator.example")
            assert found is not None
            with pytest.raises(ConnectionError, match="the proxy"):
                await tunnel(found, "coordinator.example", 443)

    run(test())


def test_which_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for("a.example") is None
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    found = proxy_for("a.example")
    assert found is not None
    assert (found.hostname, found.port) == ("proxy.example", 3128)
    monkeypatch.setenv("no_proxy", "a.example")
    assert proxy_for("a.example") is None
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    monkeypatch.delenv("https_proxy")
    found = proxy_for("b.example")
    assert found is not None
    assert (found.scheme, found.port) == ("socks5", 1080)
    for wrong in ("ftp://secret:word@x:1", "http://x", "http://x:y"):
        monkeypatch.setenv("grpc_proxy", wrong)
        with pytest.raises(ConfigError, match="expected http://HOST:PORT or socks5://HOST:PORT") as caught:
            proxy_for("b.example")
        assert "word" not in str(caught.value)


def test_the_key_of_a_node_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    true = identity(authority(tmp_path / "authority"), "a")
    before = set(tmp_path.rglob("*"))
    channel_credentials(true)
    assert set(tmp_path.rglob("*")) == before
