"""Between a SuperNode and its SuperLink: HTTP/1.1 that passes request by request, and each side says what passes.

At the coordinator nothing passes but what a SuperNode asks; with Flower all of its interfaces are on one port, and who
reaches one of the others can have sites run code. At a node no app passes but the one that belongs to Hanse.

Of answers, only what both sides read alike passes: status 200 with a body as it is, or an error. Flower's client takes
every status from 200 to 299 for a success, follows what leads elsewhere and undoes encodings, each of which would bring
something that was not looked at. Of the headers of an answer, those pass that say what its body is.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hanse.errors import ConfigError, HanseError

try:
    import h11
except ImportError:
    raise ConfigError("a flower:// address needs h11: pip install 'hanse[flower]'") from None

_READ = 256 << 10
_SILENT_S = 75.0  # longer than either side keeps a connection that nothing moves on
_ANSWER_S = 120.0
_LOCAL_BYTES = 64 << 10  # of a request that is answered here
_LOOKED_BYTES = 16 << 20  # of an answer that is looked at as a whole
_OWN_HEADERS = (b"connection", b"keep-alive", b"te", b"upgrade", b"proxy-connection", b"host", b"accept-encoding")
_ANSWERS_HEADERS = (b"content-type", b"content-length", b"transfer-encoding")
_SUCCESS, _ERRORS = 200, range(400, 600)


class Streams(NamedTuple):
    """Both directions of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


Connect = Callable[[], Awaitable[Streams]]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What is answered without asking further."""

    status: int
    text: str = ""


class HttpFilter:
    """What passes. This one: nothing."""

    headers: Mapping[str, str] = {}  # that each request goes on with
    longest_s = 86400.0  # then a new handshake

    async def asked(self, method: str, path: str, headers: Mapping[str, str]) -> HttpAnswer | None:
        """None lets the request pass."""
        return HttpAnswer(404, "nothing passes here")

    async def own(self, path: str, body: bytes) -> HttpAnswer | None:
        """Answers requests that are meant for this place; None for those that are not."""
        return None

    def looks_at(self, path: str) -> bool:
        """Whether the answer is looked at before it passes."""
        return False

    def answered(self, path: str, status: int, body: bytes) -> HttpAnswer | None:
        """None lets the answer pass; ``body`` is empty where it is not looked at."""
        return None

    def odd(self, path: str, what: str) -> None:
        """Told of an answer that did not pass, as it was no plain one."""


async def relay(client: Streams, connect: Connect, gate: HttpFilter) -> None:
    """Serves one connection until it ends, or speaks no HTTP, and closes it."""
    serving = _Relay(_End(h11.SERVER, client), connect, gate)
    try:
        while await serving.one():
            serving.here.machine.start_next_cycle()
    except (h11.ProtocolError, OSError, TimeoutError, EOFError):
        return
    finally:
        await serving.hang_up()
        await serving.here.close()


class Relays:
    """The connections of one port. ``gate`` says for each what passes; it may raise ``HanseError``, and none does."""

    def __init__(self, connect: Connect, gate: Callable[[asyncio.StreamWriter], HttpFilter]) -> None:
        self._connect, self._gate = connect, gate
        self._serving: set[asyncio.Task[None]] = set()

    async def came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For ``asyncio.start_server``."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            gate = self._gate(writer)
            async with asyncio.timeout(gate.longest_s):
                await relay(Streams(reader, writer), self._connect, gate)
        except (HanseError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def close(self) -> None:
        """Ends them all."""
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def ask(connect: Connect, path: str, body: bytes) -> tuple[int, str]:
    """Posts ``body``; status and text of the answer. Raises ``OSError`` where there is none."""
    end = _End(h11.CLIENT, await connect())
    try:
        async with asyncio.timeout(_ANSWER_S):
            await end.send(
                h11.Request(method="POST", target=path, headers=[("host", "x"), ("content-length", str(len(body)))]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            response = await _response(end)
            return int(response.status_code), (await _body(end, _LOCAL_BYTES)).decode(errors="replace")
    except (h11.ProtocolError, EOFError, TimeoutError) as error:
        raise ConnectionError(f"no answer: {error or type(error).__name__}") from None
    finally:
        await end.close()


class _End:
    """One side of the relay."""

    def __init__(self, role: Any, streams: Streams) -> None:
        self.machine = h11.Connection(role)
        self.reader, self.writer = streams

    async def next(self) -> Any:
        while True:
            event = self.machine.next_event()
            if event is h11.NEED_DATA:
                self.machine.receive_data(await self.reader.read(_READ))
            elif event is h11.PAUSED:
                raise EOFError
            elif not isinstance(event, h11.InformationalResponse):
                return event

    async def send(self, *events: Any) -> None:
        for event in events:
            data = self.machine.send(event)
            if data:
                self.writer.write(data)
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
            async with asyncio.timeout(2.0):
                await self.writer.wait_closed()


class _Relay:
    """One connection, and the one that leads onward, once it is needed."""

    def __init__(self, here: _End, connect: Connect, gate: HttpFilter) -> None:
        self.here, self._connect, self._gate = here, connect, gate
        self._onward: _End | None = None

    async def hang_up(self) -> None:
        """Nothing leads onward."""
        onward, self._onward = self._onward, None
        if onward is not None:
            await onward.close()

    async def one(self) -> bool:
        """One request and its answer; returns whether another one may come."""
        here, gate = self.here, self._gate
        async with asyncio.timeout(_SILENT_S):
            request = await here.next()
        if not isinstance(request, h11.Request):
            return False
        path = request.target.decode("ascii", "replace")
        said = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        if here.machine.they_are_waiting_for_100_continue:
            await here.send(h11.InformationalResponse(status_code=100, headers=[]))
        refused = await gate.asked(request.method.decode(), path, said)
        if refused is None:
            await self._pass(request, path)
        elif refused.status != 200:
            await self._answer(refused)
        else:
            found = await gate.own(path, await _body(here, _LOCAL_BYTES))
            await self._answer(found or HttpAnswer(404))
        return here.machine.our_state is h11.DONE and here.machine.their_state is h11.DONE

    async def _pass(self, request: Any, path: str) -> None:
        try:
            onward = await self._led_onward()
            await self._send_on(request, onward)
            async with asyncio.timeout(_ANSWER_S):
                response = await _response(onward)
        except (OSError, EOFError, TimeoutError, h11.RemoteProtocolError) as error:
            await self.hang_up()
            await self._answer(HttpAnswer(502, f"the other side cannot be reached: {type(error).__name__}"))
            return
        if what := _odd(response):
            await self.hang_up()
            self._gate.odd(path, what)
            await self._answer(HttpAnswer(502, f"the other side gave another kind of answer: {what}"))
            return
        looked = self._gate.looks_at(path)
        body = await _body(onward, _LOOKED_BYTES) if looked else b""
        refused = self._gate.answered(path, response.status_code, body)
        if refused is not None:
            await self.hang_up()
            await self._answer(refused)
            return
        described = [(name, value) for name, value in _passing(response.headers) if name in _ANSWERS_HEADERS]
        await self.here.send(h11.Response(status_code=response.status_code, headers=described))
        if looked:
            await self.here.send(h11.Data(data=body))
        else:
            while isinstance(event := await onward.next(), h11.Data):
                await self.here.send(event)
        await self.here.send(h11.EndOfMessage())
        if onward.machine.our_state is h11.DONE and onward.machine.their_state is h11.DONE:
            onward.machine.start_next_cycle()
        else:
            await self.hang_up()

    async def _led_onward(self) -> _End:
        if self._onward is not None and self._onward.reader.at_eof():
            await self.hang_up()
        if self._onward is None:
            self._onward = _End(h11.CLIENT, await self._connect())
        return self._onward

    async def _send_on(self, request: Any, onward: _End) -> None:
        own = [(name.encode(), value.encode()) for name, value in self._gate.headers.items()]
        theirs = [(name, value) for name, value in _passing(request.headers) if name not in dict(own)]
        headers = [(b"host", b"x"), (b"accept-encoding", b"identity"), *theirs, *own]
        await onward.send(h11.Request(method=request.method, target=request.target, headers=headers))
        while isinstance(event := await self.here.next(), h11.Data):
            await onward.send(event)
        await onward.send(h11.EndOfMessage())

    async def _answer(self, answer: HttpAnswer) -> None:
        raw = answer.text.encode()
        headers = [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(raw)))]
        if self.here.machine.their_state is not h11.DONE:  # what is left of the request is not read
            headers.append(("connection", "close"))
        await self.here.send(
            h11.Response(status_code=answer.status, headers=headers), h11.Data(data=raw), h11.EndOfMessage()
        )


def _passing(headers: Any) -> list[tuple[bytes, bytes]]:
    """The headers that go on. How the body ends is said in one way, as it was read."""
    names = {name for name, _ in headers}
    dropped = {*_OWN_HEADERS, *([b"content-length"] if b"transfer-encoding" in names else [])}
    return [(name, value) for name, value in headers if name not in dropped]


def _odd(response: Any) -> str:
    """What is not plain about an answer; "" where nothing is."""
    encodings = [value for name, value in response.headers if name == b"content-encoding"]
    if response.status_code != _SUCCESS and response.status_code not in _ERRORS:
        return f"status {response.status_code}, expected {_SUCCESS} or an error"
    if any(value.strip().lower() != b"identity" for value in encodings):
        return f"content-encoding {encodings[0].decode('latin-1')[:40]!r}, expected none"
    return ""


async def _response(end: _End) -> Any:
    event = await end.next()
    if not isinstance(event, h11.Response):
        raise EOFError
    return event


async def _body(end: _End, limit: int) -> bytes:
    parts = bytearray()
    while isinstance(event := await end.next(), h11.Data):
        parts += event.data
        if len(parts) > limit:
            raise EOFError
    return bytes(parts)
