"""One gRPC call on a connection of its own, from either end: messages in, messages out.

The protocol is gRPC over HTTP/2 (doc/PROTOCOL-HTTP2.md in the repository of gRPC): each message is a byte that says it
is not compressed, its length, and its bytes; the call ends with a status and a sentence in the trailers. Everything
happens in the event loop, where a message comes in and where it is written: each step into another thread
and back costs more than a kilobyte does.
"""

from __future__ import annotations

import asyncio
import logging
import math
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote, unquote

import numpy as np

from hanse.transports._http2 import CALM, CANCEL, NO_ERROR, PROTOCOL, Broken, Fields, Session

log = logging.getLogger(__name__)

OK, CANCELLED, UNKNOWN, PERMISSION_DENIED, UNIMPLEMENTED, INTERNAL = 0, 1, 2, 7, 12, 13  # as gRPC numbers them
ABORTED, UNAVAILABLE, UNAUTHENTICATED = 10, 14, 16
RECEIVE_BYTES = 256 << 10  # a process needs one buffer of this size, however many calls it has
_SLICE = 128 << 10  # bytes given to TLS at once: it holds as many, encrypted, at each connection
_RECORD = 16 << 10  # bytes that TLS encrypts at once
_DIRECT = 16 << 10  # bytes of a message to come, from which on they need not land elsewhere first
_BUFFERED = 64 << 10  # bytes that wait for the socket before we wait for it
_OPEN_SECONDS = 20.0  # who connects opens a call by then
_LAST_SECONDS = 1.0  # for the last words of a connection
_LEAST_SECONDS = 0.01  # timers are not more exact
_LONG_SECONDS = 5.0  # who waits so long waits for a full second: a thousand that do wake the process once
_NOTHING = memoryview(b"")
_PREFIX = struct.Struct(">BL")
_ANSWER = ((":status", "200"), ("content-type", "application/grpc"))
_PRINTABLE = " !#$&'()*+,/:;<=>?@[]^_`{|}~\"\\"


class Ended(Exception):
    """The call is over: its status and sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def _nothing(*_: Any) -> None:
    pass


class Call(asyncio.BufferedProtocol):
    """One end of a call: a :class:`hanse.transports._conduit.Wire`.

    Args:
        room: where bytes land before they are read; may be shared by all calls of one event loop.
        limit: largest message in bytes that is taken.
        keepalive: seconds of silence before the peer is asked for a sign of life, and for it to come; asked anew each
            time, as nodes beat less often the more of them there are.
        opens: the fields with which a client opens the call; None: this is the server.
        opened: a server is told (call, fields) when a client has opened it.
    """

    def __init__(
        self,
        room: memoryview,
        limit: int,
        keepalive: Callable[[], float],
        opens: Fields | None = None,
        opened: Callable[[Call, Fields], None] = _nothing,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = loop.create_future()  # by the server
        self.closed: asyncio.Future[None] = loop.create_future()  # the connection is no more
        self._into, self._limit, self._keepalive = room, limit, keepalive
        self._opens, self._opened = opens, opened
        self._session = Session(opens is not None, self._send, self._headers, self._body, self._reset, self._more)
        self.transport = cast(asyncio.Transport, None)  # until there is a connection
        self._received: Callable[[bytes], None] = _nothing
        self._ready: Callable[[], None] = _nothing
        self._gone: Callable[[str], None] | None = None
        self._half = bytearray()  # the beginning of a prefix
        self._coming: memoryview | None = None  # the message that is coming in, as long as it will be
        self._filled, self._direct = 0, False  # bytes of it that are there; whether the next land in it
        self._kept: deque[bytes] = deque()  # messages that nobody takes now
        self._held = True
        self._rest, self._head = _NOTHING, b""  # of the message that is going out
        self._before = b""  # bytes that leave with its first ones
        self._open = 0  # bytes that belong to the frame that is going out
        self._queue: list[bytes] = []  # frames that wait for its end
        self._paused = self._waited_for = False
        self._heard, self._probed = time.monotonic(), 0.0  # when something came, and when a sign of life was asked for
        self._timer: asyncio.TimerHandle | None = None
        self._over: Ended | None = None
        self._heads = 0  # blocks of headers that came
        self._taken = self._says_no_more = False  # a server has accepted the call; a client has said all

    # ------------------------------------------------------------ a wire

    def listen(
        self, received: Callable[[bytes], None], ready: Callable[[], None], ended: Callable[[str], None]
    ) -> None:
        """Tells each message, when the next may be written after ``write`` said no, and once how it ended."""
        self._received, self._ready, self._gone = received, ready, ended
        if self._says_no_more:
            self._end(Ended(CANCELLED, "the node says no more"))
        elif self._over is not None:
            ended(self._over.reason)
        else:
            self.go_on()

    def hold(self) -> None:
        """No message until :meth:`go_on`; the peer may send a little more."""
        self._held = True

    def go_on(self) -> None:
        """The messages that waited, and then as they come."""
        self._held = False
        while self._kept and not self._held:
            self._whole(self._kept.popleft())

    def write(self, data: bytes, more: bool = False) -> bool:
        """Takes a message; the one before must be out. Returns whether the next may come at once. With ``more`` it
        may leave with the next: a write for both, and the peer wakes once."""
        if self._over is not None:
            return False
        size, session = len(data) + _PREFIX.size, self._session
        if size <= session.room and size <= session.largest and size <= _SLICE:
            whole = b"".join((self._before, session.body(size), _PREFIX.pack(0, len(data)), data))
            if more and not self._paused:
                self._before = whole
                return True
            self._before = b""
            self.transport.write(whole)
            self._waited_for = self._paused
        else:
            self._rest, self._head = memoryview(data), _PREFIX.pack(0, len(data))
            self._waited_for = not self._push()
            if self._before:  # nothing of this one may leave yet
                before, self._before = self._before, b""
                self.transport.write(before)
        return not self._waited_for

    def _push(self) -> bool:
        """Sends of the message what may be sent now; returns whether all of it went and more may."""
        session = self._session
        while (self._rest or self._head) and not self._paused:
            first = b""
            if not self._open:
                self._open = min(session.room, session.largest, len(self._head) + len(self._rest))
                if self._open <= len(self._head) and self._rest:
                    self._open = 0
                    return False  # the peer has no room
                first, head, self._head = session.body(self._open) + self._head, self._head, b""
                self._open -= len(head)
                first, self._before = self._before + first, b""
            piece = self._rest[: min(self._open, max(_RECORD, _SLICE - len(first)))]
            self._rest = self._rest[len(piece) :]
            self._open -= len(piece)
            if first:  # with as much of the message as a record of TLS has room for
                room = max(0, _RECORD - len(first))
                self.transport.writelines([part for part in (first + piece[:room], piece[room:]) if part])
            else:
                self.transport.write(piece)
            if not self._open and self._queue:
                self.transport.write(b"".join(self._queue))
                self._queue.clear()
        if not self._rest:
            self._rest = _NOTHING  # an empty view would still hold the message
        return not self._paused and not self._rest

    def _more(self) -> None:
        """There may be room for more."""
        if self._waited_for and self._over is None and self._push():
            self._waited_for = False
            self._ready()

    # ------------------------------------------------------------ how it ends

    def accept(self) -> None:
        """A server takes the call."""
        self._taken = True
        self._session.say(_ANSWER)

    def finish(self, status: int, reason: str) -> None:
        """A server ends the call, with a sentence."""
        if self._over is not None:
            return
        told = [("grpc-status", str(status)), ("grpc-message", quote(reason, safe=_PRINTABLE))]
        self._session.say(told if self._taken else [*_ANSWER, *told], end=True)
        self._session.give_up(NO_ERROR)
        self._session.go_away(NO_ERROR)
        self._end(Ended(status, reason), linger=True)  # what the client sends meanwhile must not lose it the trailers

    def cancel(self) -> None:
        """A client does not want the call any more."""
        if self._over is None:
            if self.transport is not None:
                self._session.give_up(CANCEL)
            self._end(Ended(CANCELLED, "the call was cancelled"))

    def _end(self, how: Ended, linger: bool = False) -> None:
        if self._over is not None:
            return
        self._over = how
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._rest, self._head, self._before, self._open = _NOTHING, b"", b"", 0
        self._kept.clear()
        if not self.accepted.done():
            self.accepted.set_exception(how)
            self.accepted.exception()  # whoever waits for it is told; if nobody does, it is no error
        if self.transport is not None and not self.closed.done():
            if not linger:
                self.transport.close()
            asyncio.get_running_loop().call_later(_LAST_SECONDS, self.abort)
        if self._gone is not None:
            self._gone(how.reason)

    def abort(self) -> None:
        """Ends the connection, whatever waits to be sent."""
        if self.transport is not None and not self.closed.done():
            self.transport.abort()

    def _break(self, code: int, reason: str) -> None:
        if self._over is None:
            log.debug("a connection is ended: %s", reason)
            self._session.go_away(code, reason)
            self._end(Ended(INTERNAL, reason))

    # ------------------------------------------------------------ what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_BUFFERED)
        self._session.start()
        if self._opens is not None:
            self._session.say(self._opens)
        self._heard, seconds = time.monotonic(), self._keepalive()
        self._look_in(seconds if self._opens is not None else min(seconds, _OPEN_SECONDS))

    def get_buffer(self, sizehint: int) -> memoryview:
        self._direct = self._coming is not None and self._session.left >= _DIRECT
        if self._coming is None or not self._direct:
            return self._into
        return self._coming[self._filled :][: self._session.left]

    def buffer_updated(self, nbytes: int) -> None:
        self._heard = time.monotonic()
        try:
            if self._direct:
                self._session.taken(nbytes)
                self._fill(nbytes)
                self._session.landed(nbytes)
            else:
                self._session.receive(self._into[:nbytes])
        except Broken as error:
            self._break(error.code, error.reason)
        except Exception:
            log.exception("what a peer sent could not be handled")
            self._break(2, "an error where it was read")

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._more()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._end(Ended(UNAVAILABLE, "the connection was lost"))

    def _send(self, data: bytes) -> None:
        if self._open:
            self._queue.append(data)
        else:
            self.transport.write(data)

    def _look(self) -> None:
        """Is somebody there? Where frames come more often than every ``keepalive`` seconds, as heartbeats do, nobody
        is asked: of a thousand idle nodes that would be most of the work."""
        self._session.calm(not self._paused)
        if not self._session.stream:  # whatever it said instead
            self._break(NO_ERROR, "no call was opened")
            return
        now, patience = time.monotonic(), self._keepalive()
        left = self._heard + patience - now
        if left > _LEAST_SECONDS:
            self._look_in(left)
        elif self._probed > self._heard:
            self._end(Ended(UNAVAILABLE, "the peer is silent"))
            self.abort()
        else:
            self._probed = now
            self._session.ping()
            self._look_in(patience)

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        self._timer = loop.call_at(math.ceil(due) if seconds >= _LONG_SECONDS else due, self._look)

    # ------------------------------------------------------------ what the peer says

    def _headers(self, fields: Fields, last: bool) -> None:
        if self._over is not None:
            return
        self._heads += bool(fields)
        if self._opens is None:
            if fields and self._heads == 1:
                self._opened(self, fields)
            self._says_no_more = self._says_no_more or last
            if last and self._gone is not None:
                self._end(Ended(CANCELLED, "the node says no more"))
            return
        said = dict(fields)
        if self._heads == 1 and fields and (said.get(":status") != "200" or not _is_grpc(said)):
            self._end(Ended(UNAVAILABLE, f"this is no gRPC (HTTP status {said.get(':status', 'missing')[:20]!r})"))
        elif last:
            status = said.get("grpc-status", "")
            number = int(status) if status.isdigit() and len(status) < 4 else UNKNOWN
            self._end(Ended(number, unquote(said.get("grpc-message", ""))[:2000] or f"it ended with status {number}"))
        elif not self.accepted.done():
            self.accepted.set_result(None)

    def _reset(self, code: int | None) -> None:
        why = "it takes no calls any more" if code is None else f"it ended the call (code {code})"
        self._end(Ended(UNAVAILABLE, why))

    def _body(self, data: memoryview) -> None:
        if self._over is not None:
            return
        if self._coming is None and not self._half and len(data) > _PREFIX.size:  # nearly always: one message, whole
            length = self._check(data)
            if length == len(data) - _PREFIX.size:
                self._whole(bytes(data[_PREFIX.size :]))
                return
        self._session.taken(len(data))  # of a message that comes in pieces, at once: it may be larger than the window
        while data:
            if self._coming is None:
                take = _PREFIX.size - len(self._half)
                self._half += data[:take]
                if len(self._half) == _PREFIX.size:
                    self._coming, self._filled = np.empty(self._check(self._half), np.uint8).data, 0
                    self._half.clear()
                    self._fill(0)
            else:
                take = min(len(self._coming) - self._filled, len(data))
                self._coming[self._filled : self._filled + take] = data[:take]
                self._fill(take)
            data = data[take:]

    def _fill(self, nbytes: int) -> None:
        """So many bytes more are there of the message that is coming in."""
        assert self._coming is not None
        self._filled += nbytes
        if self._filled == len(self._coming):
            message, self._coming = self._coming, None
            self._session.taken(-len(message) - _PREFIX.size)
            self._whole(message)

    def _check(self, prefix: memoryview | bytearray) -> int:
        compressed, length = _PREFIX.unpack_from(prefix)
        if compressed:
            raise Broken(PROTOCOL, "a compressed message")
        if length > self._limit:
            raise Broken(CALM, f"a message of {length} bytes is over the limit of {self._limit}")
        return int(length)

    def _whole(self, message: bytes | memoryview) -> None:
        if self._held:
            self._kept.append(cast(bytes, message))
        elif self._over is None:
            self._session.taken(len(message) + _PREFIX.size)
            self._received(cast(bytes, message))


def _is_grpc(fields: dict[str, str]) -> bool:
    return fields.get("content-type", "").startswith("application/grpc")
