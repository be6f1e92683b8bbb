"""One peer, over any number of connections: requests, replies, and what is remembered between.

Both ends hold a :class:`Link`. Whoever asks keeps the request until its reply is in, and sends it again on every new
connection. What is answered, and kept until the ``ack``, is in :mod:`hanse.transports._answers`; what belongs to one
connection alone in :mod:`hanse.transports._conduit`.

Links to many peers share two rows of :class:`Turns`. A large request waits for its turn before it begins, and the
rest of a large reply is sent for when its turn has come. Waiting for a turn counts as progress.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hanse.errors import Conflict, HanseError, NodeFailed, NodeLost, Tampered, TooLarge, WireError
from hanse.messages import (
    MAX_HEADER_BYTES,
    MAX_MESSAGE_BYTES,
    METHOD,
    WHOLE,
    Allocate,
    Memory,
    Message,
    Repeated,
    Signal,
    frames,
    signal_of,
)
from hanse.pace import Pace
from hanse.transport import Handler, Progress
from hanse.transports._answers import Answers
from hanse.transports._conduit import (
    BEGIN,
    CHUNK,
    CHUNK_BYTES,
    LARGE_BYTES,
    LONG_HEADER,
    PACKED,
    SIGNAL,
    WHOLE_FRAME,
    WHOLE_REPLY,
    Conduit,
    Wire,
)
from hanse.transports._failures import error_of
from hanse.transports._halves import Halves
from hanse.transports._hearts import Hearts
from hanse.transports._large_request import ALIVE_SECONDS, LargeRequest, Traffic
from hanse.transports._line import Speeds
from hanse.transports._outbox import Parcel, unpack

Refusal = Callable[[str, str, str], None]  # (node, what, detail)

log = logging.getLogger(__name__)

REQUEST_LIMIT = 64 << 20  # a request from a peer that was not asked for anything
_STRIKES = 3  # broken connections by malformed bytes before waiting is given up
_REMEMBERED = 512  # ids of finished exchanges, to tell duplicate and late from invented: a quarter of a kilobyte each
_REPEATED = 256  # of these, told again on a new connection
_SIGNAL_BYTES = 1024


@dataclass(slots=True, eq=False)
class _Asked:
    message: Message
    progress: Progress
    reply: asyncio.Future[Message]
    nbytes: int  # of its payload
    edition: int = 0  # of a large one
    ready: bool = False  # to be sent
    begun: bool = False  # to be sent, over some connection


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
        alive_every: seconds between ``alive`` signals while a handler works, where there is no ``traffic``.
        traffic: shared by the links of a process that has many peers.
        pace: when large payloads may leave; None: at once.
        halves: of messages that lost connections left; None: in memory.
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
        pace: Pace | None = None,
        halves: Halves | None = None,
    ) -> None:
        self._traffic, self._pace = traffic, pace
        self.speeds = Speeds()
        self.me, self.peer = me, peer
        self._refused = refused
        hearts = Hearts(alive_every) if traffic is None else traffic.hearts
        self._answers = Answers(me, peer, handler, self._refuse, limit, hearts, pace)
        self._allocate, self._limit, self._request_limit = allocate, limit, request_limit
        self._request_header = request_header
        self._asked: dict[str, _Asked] = {}
        self._halves = Halves() if halves is None else halves
        self._over: OrderedDict[str, str] = OrderedDict()  # id -> what a further reply to it is called
        self._connection: Conduit | None = None
        self._strikes = 0
        self._begun = False  # to send large requests
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
        if (nbytes := message.body.nbytes) > self._limit:
            raise TooLarge(f"a message of {nbytes} bytes is over the limit of {self._limit}")
        if not message.sender:
            message = Message(message.kind, message.id, self.me, message.body)
        asked = _Asked(message, progress, asyncio.get_running_loop().create_future(), nbytes)
        self._asked[message.id] = asked
        self._over.pop(message.id, None)
        try:
            if self._traffic is not None and nbytes > LARGE_BYTES:
                asked.edition = await self._traffic.broadcast.share(message.body.arrays).edition()
            asked.ready = True
            if self._connection is not None and not asked.reply.done():
                self._send_request(self._connection, asked)
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
            self._halves.drop((message.id, True))

    def _send_request(self, connection: Conduit, asked: _Asked) -> None:
        def failed(error: Exception) -> None:
            if not asked.reply.done():
                asked.reply.set_exception(error)

        message, traffic, moved = asked.message, self._traffic, functools.partial(self._moved, asked)
        name = ("request", message.id)
        large = asked.nbytes > LARGE_BYTES
        if traffic is None or not large:
            made = frames(message, connection.next_stream(reply=False), CHUNK_BYTES)
            connection.outbox.add(Parcel(name, made, moved, failed, large=large))
            return
        # The first on a link may be in at the peer: it may have been asked before this process was started anew
        again, asked.begun, self._begun = asked.begun or not self._begun, True, True
        sending = LargeRequest(message, asked.edition, again, connection, traffic, self.speeds)
        connection.asking[message.id] = sending.take_turn(self.peer, moved, failed)

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
            self._keep_halves(self._connection)
        connection = Conduit(
            wire,
            self._allocate,
            self._limit,
            self._request_limit,
            self._request_header,
            self._halves,
            self._answers.knows,
            self._pace,
        )
        self._connection = connection
        if self._traffic is not None:
            connection.outbox.signal("takes", METHOD, patient=True)  # with the first thing that is asked
            connection.outbox.signal("takes", WHOLE, WHOLE_REPLY, patient=True)
        self._say_what_is_wanted(connection)
        for id, further in list(self._over.items())[-_REPEATED:]:
            # the last connection may have taken these with it
            connection.outbox.signal("cancel" if further == "late" else "ack", id, patient=True)
        self._send_requests(connection)
        if self._over or self._asked:
            connection.outbox.send()
        wire.listen(functools.partial(self._received, connection), connection.outbox.ready, connection.end)
        try:
            return await connection.ended
        finally:
            connection.end("the connection was lost")
            connection.clear()
            self._keep_halves(connection)
            if self._connection is connection:
                self._connection = None

    def _say_what_is_wanted(self, connection: Conduit) -> None:
        """Of a node, whose owner wants tasks compressed or no more, where the coordinator has not heard that."""
        saving = None if self._pace is None else self._pace.saving
        wanted = 0 if saving is None else round(1000 * saving)
        if wanted != connection.wanted:
            connection.wanted = wanted
            connection.outbox.signal("takes", METHOD, wanted, patient=True)

    def _send_requests(self, connection: Conduit) -> None:
        # A method of its own, so that the connection holds none of them when it has its reply
        for asked in list(self._asked.values()):
            if asked.ready:
                self._send_request(connection, asked)

    def _keep_halves(self, connection: Conduit) -> None:
        """Of replies that are waited for, and at a node's end of what the coordinator asks."""
        found = connection.assembler.halves()
        if not self._closed:
            wanted = self._asked.__contains__
            of_requests = self._traffic is None
            self._halves.keep({key: half for key, half in found.items() if (wanted(key[0]) if key[1] else of_requests)})

    def hang_up(self, reason: str) -> None:
        """End the connection there is; exchanges wait for the next one."""
        if self._connection is not None:
            self._connection.end(reason)

    def close(self, reason: str) -> None:
        """End the connection, all asks (``NodeLost``) and all work for the peer."""
        self._closed = reason
        self.hang_up(reason)
        self._fail_all(NodeLost(reason))
        self._answers.clear()
        self._halves.clear()

    def _fail_all(self, error: HanseError) -> None:
        for asked in self._asked.values():
            if not asked.reply.done():
                asked.reply.set_exception(type(error)(error.message))

    def _received(self, connection: Conduit, data: bytes) -> None:
        """One write of the peer."""
        try:
            self._read(connection, unpack(data))
        except WireError as error:
            self._mistake(connection, error)

    def _mistake(self, connection: Conduit, error: WireError) -> None:
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

    def _read(self, connection: Conduit, frames: Iterator[bytes]) -> bool:
        """Frame by frame; returns False where it goes on when a long header has been read."""
        for frame in frames:
            if connection.ended.done():
                return True
            if frame and frame[0] == BEGIN and connection.takes_long(frame):
                connection.check_header(frame)
                connection.wire.hold()
                connection.reading = asyncio.create_task(self._read_long(connection, frame, frames))
                return False
            self._frame(connection, frame)
        return True

    async def _read_long(self, connection: Conduit, frame: bytes, frames: Iterator[bytes]) -> None:
        try:
            found = await asyncio.to_thread(connection.read_ahead, frame)
            if found is not None:
                self._halves.setdefault(*found)
            if connection.ended.done():
                return
            self._frame(connection, frame)
            del frame
            if self._read(connection, frames):
                connection.wire.go_on()
        except WireError as error:
            self._mistake(connection, error)
        except Exception as error:  # nobody else hears of it, and the wire is held
            log.exception("what %s sent could not be read", self.peer)
            connection.end(f"what came could not be read: {error}")

    def _refuse(self, what: str, detail: str) -> None:
        try:
            self._refused(self.peer, what, detail)
        except Exception:
            log.exception("could not record that %s sent something %s: %s", self.peer, what, detail)

    # ------------------------------------------------------------ what comes in

    def _frame(self, connection: Conduit, frame: bytes) -> None:
        if not frame:
            raise WireError("an empty frame")
        kind = frame[0]
        if kind == WHOLE_FRAME:  # nearly all: nothing is known of its stream but whose it is
            message = connection.assembler.whole(frame)
            self._message(connection, frame[1] & 1 == 1, message, False)
            return
        if kind == SIGNAL:
            if len(frame) > _SIGNAL_BYTES:
                raise WireError(f"a signal of {len(frame)} bytes")
            self._signal(connection, signal_of(frame))
            return
        if (
            kind in (CHUNK, PACKED)
            and connection.ignored
            and int.from_bytes(frame[1:5], "little") in connection.ignored
        ):
            return
        stream, said = connection.part(frame)
        if len(frame) > LONG_HEADER and kind == BEGIN:
            connection.long.add(stream)
        if isinstance(said, Repeated):
            connection.arrived(stream)
            connection.outbox.signal("resume", said.id, said.nbytes)
            self._answers.again(connection, said.id)
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
            elif not stream & 1 and connection.assembler.waits(stream):
                connection.outbox.signal("resume", id, connection.assembler.filled(stream))

    def _may_go(self, connection: Conduit, stream: int, id: str) -> None:
        """Lets the peer send the rest of a large reply, now or when its turn has come."""

        def go() -> None:
            filled = connection.assembler.filled(stream)
            connection.going[id] = time.monotonic(), connection.assembler.so_far(stream)
            connection.outbox.signal("go", id, filled)

        traffic = self._traffic
        if traffic is None:
            go()
            return
        asked = self._asked[id]
        connection.turns[stream] = traffic.receiving.take(
            go, lambda: self._moved(asked), lambda: traffic.moves(self.peer)
        )

    def _signal(self, connection: Conduit, said: Signal) -> None:
        if said.what == "alive":
            if said.id in self._asked:
                self._moved(self._asked[said.id])
        elif said.what == "takes":
            connection.takes[said.id] = said.place
        elif said.what == "ack":
            self._answers.acknowledged(said.id)
        elif said.what == "go":
            if (go := connection.held.pop(said.id, None)) is not None:
                go(said.place)
        elif said.what == "resume":
            if (resume := connection.resuming.pop(said.id, None)) is not None:
                resume(said.place)
        elif said.what == "cancel":
            self._halves.drop((said.id, False))
            connection.ignore_id(said.id, reply=False)
            self._answers.forget(said.id)
        else:
            raise WireError(f"unknown signal {said.what[:50]!r}; is this another release of hanse?")

    def _message(self, connection: Conduit, is_reply: bool, message: Message, long: bool) -> None:
        if message.sender != self.peer:
            raise _WrongSender(
                f"{message.kind!r} {message.id!r} claims to be from {message.sender[:80]!r}; "
                f"this connection is authenticated as {self.peer!r}"
            )
        if is_reply != (message.kind in ("reply", "error")):
            expected = "replies" if is_reply else "requests"
            raise WireError(f"a {message.kind[:50]!r} on a stream for {expected}")
        if not is_reply:
            self._say_what_is_wanted(connection)
            self._answers.take(connection, message, long)
            return
        asked = self._asked.get(message.id)
        if asked is None or asked.reply.done():
            self._unwelcome(connection, message.id)
            return
        if message.kind == "reply":
            asked.reply.set_result(message)
        else:
            asked.reply.set_exception(error_of(message))
        del self._asked[message.id]
        came, nbytes = connection.assembler.came, message.body.nbytes
        if (went := connection.going.pop(message.id, None)) is not None:
            self.speeds.note("up", came - went[1], went[0])
        self.speeds.took("up", came, nbytes)
        self._strikes = 0
        self._finish(message.id, "duplicate")
        connection.sent(message.id)
        connection.ignore_id(message.id, reply=True)
        # until it hears of it the peer keeps the reply: one that is not large waits for what is asked next
        connection.outbox.signal("ack", message.id, patient=nbytes <= LARGE_BYTES and not long)

    def _unwelcome(self, connection: Conduit, id: str) -> None:
        what = self._over.get(id, "wrong id")
        detail = {"duplicate": "was answered already", "late": "was cancelled"}.get(what, "was never asked")
        self._refuse(what, f"a reply to {id[:80]!r}, which {detail}")


class _WrongSender(WireError):
    pass
