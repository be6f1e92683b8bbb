"""One peer, over any number of connections: requests, replies, and what is remembered between.

Both ends hold a :class:`Link`. Whoever asks keeps the request until its reply is in, and sends it
again on every new connection. Whoever answers remembers what it works on, and its replies until
the ``ack``: a request that comes again is recognised by id and content, so it is computed once;
the same id with other content replaces the first. A reply is sent only on a connection on which
its request arrived, hence a reply that nobody waits for is somebody's fault and is recorded.

What recognises content (:attr:`Assembler.mark`) is not a cryptographic hash: a peer can make two requests
that count as the same. All it gets is the reply to its own first one, instead of another. A reply that waits
here passed all checks when it was made; who takes an approval back stops the next task, not this reply.

Requests travel on even streams and replies on odd ones, so a reply is refused when it begins,
before a byte of its payload is stored.

Links to many peers share two rows of :class:`Turns`. A large request waits for its turn before it
begins. Whoever sends a large reply waits, after its first frame, for the signal ``go``: so what
nobody can take yet stays where it is. Waiting for a turn counts as progress.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from hanse.errors import Conflict, HanseError, NodeFailed, NodeLost, Tampered, TooLarge, WireError, from_code
from hanse.messages import (
    MAX_HEADER_BYTES,
    MAX_MESSAGE_BYTES,
    Allocate,
    Assembler,
    Buffer,
    Memory,
    Message,
    Record,
    Signal,
    frames,
    head,
)
from hanse.transport import Handler, Progress
from hanse.transports._broadcast import FIRST_STREAM, Broadcast, Shared
from hanse.transports._outbox import PACK_BYTES, Outbox, Parcel, unpack
from hanse.transports._turns import AT_ONCE, Turn, Turns

Refusal = Callable[[str, str, str], None]  # (node, what, detail)

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20  # a few are held for each node at once; larger ones are no faster
LARGE_BYTES = 2 << 20  # payloads above this take turns; both ends must agree on it
REQUEST_LIMIT = 64 << 20  # a request from a peer that was not asked for anything
_LONG_HEADER = 128 << 10  # is read beside the event loop
ALIVE_SECONDS = 2.0
_ALIVE_GAP = 0.25  # a handler that calls progress() in a tight loop sends this often
_STRIKES = 3  # broken connections by malformed bytes before waiting is given up
_REMEMBERED = 4096  # ids of finished exchanges, to tell duplicate and late from invented
_REPEATED = 256  # of these, told again on a new connection
_UNACKED = 64  # replies kept for a peer that has not acknowledged them
_UNACKED_BYTES = 1 << 30
_UNACKED_HEADERS = 32 << 20  # of these, names and numbers
_ANSWERING = 256  # requests of one peer that are worked on at once
_ANSWERING_LONG = 4  # of these, with long headers: JSON is larger in memory than on its way
_UNREAD, _UNREAD_BYTES = 512, 32 << 20  # replies that a peer has asked for and does not read
_FEW = 8  # replies whose size is nobody's concern
_IGNORED = 1024
_SIGNAL_BYTES = 1024
_ERROR_CHARACTERS = 2000
_BEGIN, _CHUNK, _SIGNAL = 1, 2, 3  # frame types, as in hanse.messages


class Wire(Protocol):
    """One open connection, which carries messages of some kilobytes to megabytes."""

    def listen(
        self, received: Callable[[bytes], None], ready: Callable[[], None], ended: Callable[[str], None]
    ) -> None:
        """From here on each message that comes is told, and once how it ended; ``ready`` when the next may be
        written after ``write`` said no."""
        ...

    def write(self, data: bytes) -> bool:
        """Takes a message. Returns whether the next may come at once; else it waits for ``ready``."""
        ...

    def hold(self) -> None:
        """No message is told until :meth:`go_on`."""
        ...

    def go_on(self) -> None:
        """Those that waited are told, and then as they come."""
        ...


@dataclass(slots=True, eq=False)
class _Asked:
    message: Message
    progress: Progress
    reply: asyncio.Future[Message]


@dataclass(slots=True, eq=False)
class _Answer:
    mark: str
    connection: _Connection | None
    task: asyncio.Task[None] | None = None
    reply: Message | None = None
    long: bool = False  # the request's header
    header: int = -1  # bytes of the reply's, once somebody has counted them


class Traffic:
    """What the links of one process to many peers share: turns each way, and payloads sent to many."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.sending, self.receiving = Turns(at_once), Turns(at_once)
        self.broadcast = Broadcast(CHUNK_BYTES)


class _Connection:
    """What is true of one connection only."""

    def __init__(self, wire: Wire, allocate: Allocate, limit: int, request_limit: int, request_header: int) -> None:
        self.wire, self.outbox = wire, Outbox(wire.write, self.end)
        self.reading: asyncio.Task[None] | None = None  # of a long header
        self.incoming: dict[int, str] = {}  # stream -> id of the message that is half in
        self.ignored: set[int] = set()  # streams whose rest is not wanted
        self.long: set[int] = set()  # streams of messages with long headers that are half in
        self.turns: dict[int, Turn] = {}  # of the large replies that are half in
        self.held: dict[str, Parcel] = {}  # the rest of the large replies that go out, until ``go``
        self.asking: dict[str, Turn] = {}  # of the large requests that go out or wait for it
        self.shared: weakref.WeakSet[Shared] = weakref.WeakSet()  # payloads that went out here
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._allocate, self._request_limit, self._request_header = allocate, request_limit, request_header
        self._is_request = False
        self.assembler = Assembler(self._land, limit)
        self._stream = 0

    def _land(self, nbytes: int) -> Buffer:
        if self._is_request and nbytes > self._request_limit:
            raise TooLarge(f"a request of {nbytes} bytes is over the limit of {self._request_limit}")
        return self._allocate(nbytes)

    def check_header(self, frame: bytes) -> None:
        """Before a long BEGIN frame is read: raises ``TooLarge``."""
        if not frame[1] & 1 and len(frame) > self._request_header:
            raise TooLarge(
                f"a request with {len(frame)} bytes of names and numbers is over the limit of "
                f"{self._request_header}; has a dataset too many columns?"
            )

    def feed(self, frame: bytes) -> tuple[int, Message | Signal | None]:
        stream = int.from_bytes(frame[1:5], "little")
        self._is_request = not stream & 1
        return stream, self.assembler.feed(frame)

    def next_stream(self, reply: bool) -> int:
        self._stream = (self._stream + 2) % FIRST_STREAM
        return self._stream | reply

    def ignore(self, stream: int) -> None:
        self.assembler.drop(stream)
        self.arrived(stream)
        self.ignored.add(stream)
        if len(self.ignored) > _IGNORED:
            raise WireError(f"more than {_IGNORED} messages that nobody asked for")

    def arrived(self, stream: int) -> None:
        """Nothing more of it is read."""
        self.incoming.pop(stream, None)
        self.long.discard(stream)
        if stream in self.turns:
            self.turns.pop(stream).release()

    def sent(self, id: str) -> None:
        """Nothing more of the request is sent."""
        self.outbox.drop(("request", id))
        turn = self.asking.pop(id, None)
        if turn is not None:
            turn.release()

    def clear(self) -> None:
        """Its end: others may move now."""
        self.outbox.close()
        if self.reading is not None:
            self.reading.cancel()
        for stream in list(self.turns):
            self.arrived(stream)
        for id in list(self.asking):
            self.sent(id)

    def ignore_id(self, id: str, reply: bool) -> None:
        for stream in [s for s, i in self.incoming.items() if i == id and (s & 1) == reply]:
            self.ignore(stream)

    def end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)


class Link:
    """All exchanges with one peer, in both directions.

    Args:
        me: our id, the sender of what we say.
        peer: the authenticated id of the other side; what claims another sender is refused.
        handler: answers the peer's requests.
        refused: told (peer, what, detail) of everything that was not accepted.
        allocate: where incoming payloads land.
        limit: largest payload in bytes, both ways.
        request_limit, request_header: largest payload and header of a request from the peer.
        alive_every: seconds between ``alive`` signals while a handler works.
        traffic: shared by the links of a process that has many peers.
    """

    def __init__(
        self,
        me: str,
        peer: str,
        handler: Handler,
        refused: Refusal,
        *,
        allocate: Allocate = Memory,
        limit: int = MAX_MESSAGE_BYTES,
        request_limit: int = REQUEST_LIMIT,
        request_header: int = MAX_HEADER_BYTES,
        alive_every: float = ALIVE_SECONDS,
        traffic: Traffic | None = None,
    ) -> None:
        self._traffic = traffic
        self.me, self.peer = me, peer
        self._handler, self._refused = handler, refused
        self._allocate, self._limit, self._request_limit = allocate, limit, request_limit
        self._request_header = request_header
        self._hearts = _Hearts(alive_every)
        self._asked: dict[str, _Asked] = {}
        self._over: OrderedDict[str, str] = OrderedDict()  # id -> what a further reply to it is called
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._connection: _Connection | None = None
        self._strikes = 0
        self._closed = ""

    # ------------------------------------------------------------ asking

    async def request(self, message: Message, progress: Progress = lambda: None) -> Message:
        """Send ``message`` on this or the next connections, until the reply to it is in.

        Ask again under the same id only what is the same; another ask takes a new id.
        Raises the peer's error, ``Conflict`` for an id that is being asked already, ``TooLarge``,
        ``NodeLost`` when the link is closed.
        """
        if self._closed:
            raise NodeLost(self._closed)
        if message.id in self._asked:
            raise Conflict(f"{message.id!r} is being asked already; take a new id")
        if message.body.nbytes > self._limit:
            raise TooLarge(f"a message of {message.body.nbytes} bytes is over the limit of {self._limit}")
        if not message.sender:
            message = Message(message.kind, message.id, self.me, message.body)
        asked = _Asked(message, progress, asyncio.get_running_loop().create_future())
        self._asked[message.id] = asked
        self._over.pop(message.id, None)
        if self._connection is not None:
            self._send_request(self._connection, asked)
        try:
            return await asked.reply
        except asyncio.CancelledError:
            self._finish(message.id, "late")
            if self._connection is not None:
                self._connection.sent(message.id)
                self._connection.ignore_id(message.id, reply=True)
                self._connection.outbox.signal("cancel", message.id)
            raise
        finally:
            if self._asked.get(message.id) is asked:
                del self._asked[message.id]

    def _send_request(self, connection: _Connection, asked: _Asked) -> None:
        def failed(error: Exception) -> None:
            if not asked.reply.done():
                asked.reply.set_exception(error)

        def moved() -> None:
            self._moved(asked)

        message, traffic = asked.message, self._traffic
        name = ("request", message.id)
        if traffic is None or message.body.nbytes <= LARGE_BYTES:
            made = frames(message, connection.next_stream(reply=False), CHUNK_BYTES)
            connection.outbox.add(Parcel(name, made, moved, failed))
            return
        shared = traffic.broadcast.share(message.body.arrays)
        if shared in connection.shared:  # a stream carries one message at a time
            made = frames(message, connection.next_stream(reply=False), CHUNK_BYTES)
        else:
            connection.shared.add(shared)
            made = shared.frames(message)

        def counted(made: Iterator[bytes] = made) -> Iterator[bytes]:
            try:
                for frame in made:
                    turn.moved(len(frame))
                    yield frame
            finally:
                turn.release()

        parcel = Parcel(name, counted(), moved, failed)
        turn = traffic.sending.take(lambda: connection.outbox.add_soon(parcel), moved)
        connection.asking[message.id] = turn

    def _moved(self, asked: _Asked) -> None:
        try:
            asked.progress()
        except Exception:
            log.exception("a progress callback failed")

    def _finish(self, id: str, further: str) -> None:
        self._over[id] = further
        self._over.move_to_end(id)
        while len(self._over) > _REMEMBERED:
            self._over.popitem(last=False)

    # ------------------------------------------------------------ connections

    async def run(self, wire: Wire) -> str:
        """Serve one connection until it ends; returns why. A newer one ends an older one."""
        if self._connection is not None:
            self._connection.end("a newer connection took over")
        connection = _Connection(wire, self._allocate, self._limit, self._request_limit, self._request_header)
        self._connection = connection
        for id, further in list(self._over.items())[-_REPEATED:]:
            # the last connection may have taken these with it
            connection.outbox.signal("cancel" if further == "late" else "ack", id, patient=True)
        for asked in list(self._asked.values()):
            self._send_request(connection, asked)
        connection.outbox.send()
        wire.listen(lambda data: self._received(connection, data), connection.outbox.ready, connection.end)
        try:
            return await connection.ended
        finally:
            connection.end("the connection was lost")
            connection.clear()
            if self._connection is connection:
                self._connection = None

    def hang_up(self, reason: str) -> None:
        """End the connection there is; exchanges wait for the next one."""
        if self._connection is not None:
            self._connection.end(reason)

    def close(self, reason: str) -> None:
        """End the connection, all asks (``NodeLost``) and all work for the peer."""
        self._closed = reason
        self.hang_up(reason)
        self._fail_all(NodeLost(reason))
        for id in list(self._answers):
            self._forget(id)

    def _fail_all(self, error: HanseError) -> None:
        for asked in self._asked.values():
            if not asked.reply.done():
                asked.reply.set_exception(type(error)(error.message))

    def _received(self, connection: _Connection, data: bytes) -> None:
        """One write of the peer."""
        try:
            self._read(connection, unpack(data))
        except WireError as error:
            self._mistake(connection, error)

    def _mistake(self, connection: _Connection, error: WireError) -> None:
        self._strikes += 1
        what = {Tampered: "tampered", TooLarge: "too large"}.get(type(error), "malformed")
        if isinstance(error, _WrongSender):
            what = "wrong sender"
        self._refuse(what, error.message)
        connection.end(f"{what}: {error.message}")
        if self._strikes >= _STRIKES:
            self._fail_all(
                NodeFailed(
                    f"{self.peer} sent {self._strikes} times in a row what cannot be accepted; "
                    f"the last was {what}: {error.message}"
                )
            )
            self._strikes = 0

    def _read(self, connection: _Connection, frames: Iterator[bytes]) -> bool:
        """Frame by frame; returns False where it goes on when a long header has been read."""
        for frame in frames:
            if connection.ended.done():
                return True
            if len(frame) > _LONG_HEADER and frame[0] == _BEGIN:
                connection.check_header(frame)
                connection.wire.hold()
                connection.reading = asyncio.create_task(self._read_long(connection, frame, frames))
                return False
            self._frame(connection, frame)
        return True

    async def _read_long(self, connection: _Connection, frame: bytes, frames: Iterator[bytes]) -> None:
        await asyncio.to_thread(connection.assembler.read_ahead, frame)
        try:
            if connection.ended.done():
                return
            self._frame(connection, frame)
            del frame
            if self._read(connection, frames):
                connection.wire.go_on()
        except WireError as error:
            self._mistake(connection, error)

    def _refuse(self, what: str, detail: str) -> None:
        try:
            self._refused(self.peer, what, detail)
        except Exception:
            log.exception("could not record that %s sent something %s: %s", self.peer, what, detail)

    # ------------------------------------------------------------ what comes in

    def _frame(self, connection: _Connection, frame: bytes) -> None:
        kind = frame[0] if frame else 0
        if kind == _SIGNAL and len(frame) > _SIGNAL_BYTES:
            raise WireError(f"a signal of {len(frame)} bytes")
        if kind == _CHUNK and connection.ignored and int.from_bytes(frame[1:5], "little") in connection.ignored:
            return
        stream, said = connection.feed(frame)
        if len(frame) > _LONG_HEADER and kind == _BEGIN:
            connection.long.add(stream)
        if isinstance(said, Signal):
            self._signal(connection, said)
        elif said is not None:
            long = stream in connection.long
            connection.arrived(stream)
            self._message(connection, stream & 1 == 1, said, long)
        elif stream in connection.incoming:
            if stream in connection.turns:
                connection.turns[stream].moved(len(frame))
            asked = self._asked.get(connection.incoming[stream])
            if asked is not None and stream & 1:
                self._moved(asked)
        else:
            id = connection.assembler.newest
            connection.incoming[stream] = id
            if stream & 1 and id not in self._asked:
                self._unwelcome(connection, id)
                connection.ignore(stream)
            elif stream & 1 and connection.assembler.expected(stream) > LARGE_BYTES:
                self._may_go(connection, stream, id)

    def _may_go(self, connection: _Connection, stream: int, id: str) -> None:
        """Lets the peer send the rest of a large reply, now or when its turn has come."""

        def go() -> None:
            connection.outbox.signal("go", id)

        if self._traffic is None:
            go()
            return
        asked = self._asked[id]
        connection.turns[stream] = self._traffic.receiving.take(go, lambda: self._moved(asked))

    def _signal(self, connection: _Connection, said: Signal) -> None:
        if said.what == "alive":
            if said.id in self._asked:
                self._moved(self._asked[said.id])
        elif said.what == "ack":
            answer = self._answers.get(said.id)
            if answer is not None and answer.reply is not None:
                self._forget(said.id)
        elif said.what == "go":
            rest = connection.held.pop(said.id, None)
            if rest is not None:
                connection.outbox.add(rest)
        elif said.what == "cancel":
            connection.ignore_id(said.id, reply=False)
            self._forget(said.id)
        else:
            raise WireError(f"unknown signal {said.what[:50]!r}; is this another release of hanse?")

    def _message(self, connection: _Connection, is_reply: bool, message: Message, long: bool) -> None:
        if message.sender != self.peer:
            raise _WrongSender(
                f"{message.kind!r} {message.id!r} claims to be from {message.sender[:80]!r}; "
                f"this connection is authenticated as {self.peer!r}"
            )
        if is_reply != (message.kind in ("reply", "error")):
            expected = "replies" if is_reply else "requests"
            raise WireError(f"a {message.kind[:50]!r} on a stream for {expected}")
        if not is_reply:
            self._on_request(connection, message, long)
            return
        asked = self._asked.get(message.id)
        if asked is None or asked.reply.done():
            self._unwelcome(connection, message.id)
            return
        if message.kind == "reply":
            asked.reply.set_result(message)
        else:
            asked.reply.set_exception(_read_error(message))
        del self._asked[message.id]
        self._strikes = 0
        self._finish(message.id, "duplicate")
        connection.sent(message.id)
        connection.ignore_id(message.id, reply=True)
        connection.outbox.signal("ack", message.id, patient=message.body.nbytes < PACK_BYTES)

    def _unwelcome(self, connection: _Connection, id: str) -> None:
        what = self._over.get(id, "wrong id")
        detail = {"duplicate": "was answered already", "late": "was cancelled"}.get(what, "was never asked")
        self._refuse(what, f"a reply to {id[:80]!r}, which {detail}")

    # ------------------------------------------------------------ answering

    def _on_request(self, connection: _Connection, request: Message, long: bool) -> None:
        mark = connection.assembler.mark
        known = self._answers.get(request.id)
        if known is not None and known.mark == mark:
            if known.connection is connection:
                self._refuse("duplicate", f"request {request.id[:80]!r} came twice on one connection")
                return
            known.connection = connection
            if known.reply is not None:
                self._send_reply(connection, known.reply)
            return
        if known is not None:
            self._forget(request.id)
        if long or len(self._answers) >= _ANSWERING:
            working = [a for a in self._answers.values() if a.task is not None]
            if len(working) >= _ANSWERING or (long and sum(a.long for a in working) >= _ANSWERING_LONG):
                full = Conflict(f"{len(working)} requests are being worked on; wait for some of them")
                self._send_reply(connection, _error(self.me, request.id, full))
                return
        answer = _Answer(mark, connection, long=long)
        self._answers[request.id] = answer
        answer.task = asyncio.create_task(self._answer(answer, request))

    async def _answer(self, answer: _Answer, request: Message) -> None:
        id = request.id
        try:
            heart = self._hearts.at_work(lambda: self._alive(answer, id))
            try:
                body = await self._handler(self.peer, request, heart.beat)
            finally:
                self._hearts.open.discard(heart)
            reply = Message("error" if body.kind == "error" else "reply", id, self.me, body.body)
            if reply.body.nbytes > self._limit:
                raise TooLarge(f"a reply of {reply.body.nbytes} bytes is over the limit of {self._limit}")
        except asyncio.CancelledError:
            if self._answers.get(id) is not answer:
                raise  # the peer does not want it any more
            reply = _error(self.me, id, NodeFailed("the work was cancelled where it was done"))
        except Exception as error:
            if not isinstance(error, HanseError):
                log.exception("answering %s %s", request.kind, id)
            reply = _error(self.me, id, error)
        if self._answers.get(id) is not answer:
            return
        answer.task, answer.reply = None, reply
        if len(self._answers) > 1:
            self._trim()
        if answer.connection is not None and answer.connection is self._connection:
            self._send_reply(self._connection, reply)

    def _alive(self, answer: _Answer, id: str) -> None:
        if self._connection is not None and answer.connection is self._connection:
            self._connection.outbox.signal("alive", id)

    def _send_reply(self, connection: _Connection, reply: Message) -> None:
        def failed(error: Exception) -> None:
            log.error("the reply to %s cannot be sent: %s", reply.id, error)
            excuse = _error(self.me, reply.id, error)
            answer = self._answers.get(reply.id)
            if answer is not None:
                answer.reply = excuse
            if reply.kind != "error" and connection is self._connection:
                self._send_reply(connection, excuse)

        if connection.ended.done():
            return
        size = 0
        if len(connection.outbox) >= _FEW:  # it does not read as fast as it asks
            size = len(head(reply))
            count, held = connection.outbox.waiting("reply")
            if count >= _UNREAD or held + size > _UNREAD_BYTES:
                said = f"{self.peer} asks and does not read: {count} replies of {held} bytes wait for it"
                self._refuse("not read", said)
                connection.end(said)
                return
        stream = connection.next_stream(reply=True)
        made, name = frames(reply, stream, CHUNK_BYTES), ("reply", reply.id)
        if reply.body.nbytes > LARGE_BYTES:
            connection.held[reply.id] = Parcel(name, made, lambda: None, failed, begun=True)
            made = islice(made, 1)
        connection.outbox.add(Parcel(name, made, lambda: None, failed, size=size))

    def _forget(self, id: str) -> None:
        answer = self._answers.pop(id, None)
        if answer is None:
            return
        if answer.connection is not None:
            answer.connection.held.pop(id, None)
            answer.connection.outbox.drop(("reply", id))
        if answer.task is not None:
            answer.task.cancel()

    def _trim(self) -> None:
        """Let go of the oldest replies that nobody acknowledged; asked again, they are recomputed."""

        kept = [(id, a, a.reply) for id, a in self._answers.items() if a.reply is not None]
        if len(kept) > _FEW:
            for _, answer, reply in kept:
                answer.header = len(head(reply)) if answer.header < 0 else answer.header
        held, count = sum(reply.body.nbytes for _, _, reply in kept), len(kept)
        headers = sum(max(0, answer.header) for _, answer, _ in kept)
        for id, answer, reply in kept[:-1]:
            if count <= _UNACKED and held <= _UNACKED_BYTES and headers <= _UNACKED_HEADERS:
                return
            count, held, headers = count - 1, held - reply.body.nbytes, headers - max(0, answer.header)
            del self._answers[id]


class _WrongSender(WireError):
    pass


class _Hearts:
    """Every ``period`` seconds calls those that are at work. One timer for all, which runs out where there is no work:
    most work takes so little time that a timer of its own would be a good part of what it costs."""

    def __init__(self, period: float) -> None:
        self.period = period
        self.open: set[_Heart] = set()
        self._timer: asyncio.TimerHandle | None = None

    def at_work(self, send: Callable[[], None]) -> _Heart:
        """Calls ``send`` now and then from here until the heart is taken out of ``open``."""
        heart = _Heart(self, send)
        self.open.add(heart)
        if self._timer is None:
            self._wait(self.period)
        return heart

    def beat(self, heart: _Heart) -> None:
        """Calls this one now, if it is still at work."""
        if heart in self.open:
            heart.send()

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self.open:
            return
        now = time.monotonic()
        for heart in self.open:
            if now >= heart.due:
                heart.due = now + self.period
                heart.send()
        self._wait(max(0.0, min(heart.due for heart in self.open) - now))


class _Heart:
    """Of one answer: ``beat`` says, from any thread, that the work goes on."""

    __slots__ = ("_hearts", "_loop", "_sent", "due", "send")

    def __init__(self, hearts: _Hearts, send: Callable[[], None]) -> None:
        self._hearts, self.send = hearts, send
        self._loop = asyncio.get_running_loop()
        self._sent = time.monotonic()  # the request itself has just moved
        self.due = self._sent + hearts.period

    def beat(self) -> None:
        now = time.monotonic()
        if now - self._sent >= _ALIVE_GAP:
            self._sent = now
            self._loop.call_soon_threadsafe(self._hearts.beat, self)


def _error(me: str, id: str, error: Exception) -> Message:
    """What crosses the wire of an error: code and sentence, never a traceback or a path."""
    if isinstance(error, HanseError):
        code, text = error.code, error.message
    else:
        code, text = "error", f"{type(error).__name__} while answering; the log of {me!r} has the details"
    return Message("error", id, me, Record({"code": code, "message": text[:_ERROR_CHARACTERS]}))


def _read_error(message: Message) -> HanseError:
    code, text = message.body.data.get("code"), message.body.data.get("message")
    if not isinstance(code, str) or not isinstance(text, str):
        return NodeFailed(f"{message.sender!r} sent an error without code and sentence")
    return from_code(code, text[:_ERROR_CHARACTERS])
