"""What a peer asks of us: what is in work, and the replies that it has not acknowledged.

A request that comes again is recognised by id and content, so it is computed once; the same id with other content
replaces the first. A reply is sent only on a connection on which its request arrived, hence a reply that nobody
waits for is somebody's fault and is recorded.

What recognises content (:attr:`Assembler.mark`) is not a cryptographic hash: a peer can make two requests
that count as the same. All it gets is the reply to its own first one, instead of another. A reply that waits
here passed all checks when it was made; who takes an approval back stops the next task, not this reply.

Whoever sends a large reply waits, after its first frame, for the signal ``go``: so what nobody can take yet
stays where it is, and what came over an earlier connection is not sent again. Nor is a large request that is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice

from hanse.errors import Conflict, HanseError, NodeFailed, TooLarge, WireError
from hanse.messages import METHOD, WHOLE, WHOLE_BYTES, Buffered, Message, Packer, edition_of, frames, head, rest
from hanse.pace import Pace
from hanse.transport import Handler
from hanse.transports._conduit import CHUNK_BYTES, LARGE_BYTES, Conduit
from hanse.transports._failures import failure
from hanse.transports._hearts import Heart, Hearts
from hanse.transports._outbox import Parcel

log = logging.getLogger(__name__)

_UNACKED = 64  # replies kept for a peer that has not acknowledged them
_UNACKED_BYTES = 1 << 30
_UNACKED_HEADERS = 32 << 20  # of these, names and numbers
_ANSWERING = 256  # requests of one peer that are worked on at once
_ANSWERING_LONG = 4  # of these, with long headers: JSON is larger in memory than on its way
_UNREAD, _UNREAD_BYTES = 512, 32 << 20  # replies that a peer has asked for and does not read
_FEW = 8  # replies whose size is nobody's concern


@dataclass(slots=True, eq=False)
class _Answer:
    mark: str
    connection: Conduit
    task: asyncio.Task[None] | None = None
    reply: Message | None = None
    long: bool = False  # the request's header
    header: int = -1  # bytes of the reply's, once somebody has counted them
    edition: int = 0  # of the request, where it is large, and its header's XXH3
    head: str = ""
    heart: Heart | None = None  # while a large reply may have to wait for its pace
    out: int = 0  # edition of the reply, where that is large


class Answers:
    """The requests of one peer and our replies to them.

    Args:
        me, peer: ids of both sides.
        handler: answers a request.
        refuse: told (what, detail) of what is not accepted.
        limit: largest payload of a reply, in bytes.
        hearts: say while the handler works that it does.
        pace: how replies leave. Large ones may wait: until the peer has one it is told that it is still being sent.
    """

    def __init__(
        self,
        me: str,
        peer: str,
        handler: Handler,
        refuse: Callable[[str, str], None],
        limit: int,
        hearts: Hearts,
        pace: Pace | None = None,
    ) -> None:
        self.me, self.peer, self.handler = me, peer, handler
        self._refuse, self._limit = refuse, limit
        self._hearts, self._pace = hearts, pace
        self._answers: OrderedDict[str, _Answer] = OrderedDict()

    def take(self, connection: Conduit, request: Message, long: bool) -> None:
        """Begins to answer a request that has just come in, whose mark is the assembler's; ``long`` is its header."""
        mark = connection.assembler.mark
        known = self._answers.get(request.id)
        if known is not None and known.mark == mark:
            if known.connection is connection:
                self._refuse("duplicate", f"request {request.id[:80]!r} came twice on one connection")
                return
            self._again(connection, known)
            return
        if known is not None:
            self.forget(request.id)
        if long or len(self._answers) >= _ANSWERING:
            working = [a for a in self._answers.values() if a.task is not None]
            if len(working) >= _ANSWERING or (long and sum(a.long for a in working) >= _ANSWERING_LONG):
                full = Conflict(f"{len(working)} requests are being worked on; wait for some of them")
                self._send(connection, failure(self.me, request.id, full))
                return
        answer = _Answer(mark, connection, long=long)
        answer.edition, answer.head = connection.assembler.edition, connection.assembler.head
        self._answers[request.id] = answer
        answer.task = connection.ended.get_loop().create_task(self._answer(answer, request))

    def knows(self, id: str, edition: int, head: str) -> bool:
        """Whether this very request came in on an earlier connection, wholly."""
        answer = self._answers.get(id)
        return answer is not None and answer.edition == edition and answer.head == head

    def again(self, connection: Conduit, id: str) -> None:
        """A request that is known was begun to be sent again; no more of it comes."""
        if (known := self._answers[id]).connection is connection:
            self._refuse("duplicate", f"request {id[:80]!r} came twice on one connection")
        else:
            self._again(connection, known)

    def _again(self, connection: Conduit, known: _Answer) -> None:
        known.connection = connection
        if known.reply is not None:
            self._send(connection, known.reply)

    def acknowledged(self, id: str) -> None:
        """The peer has the reply."""
        answer = self._answers.get(id)
        if answer is not None and answer.reply is not None:
            self.forget(id)

    def clear(self) -> None:
        """Stops all work for the peer."""
        for id in list(self._answers):
            self.forget(id)

    async def _answer(self, answer: _Answer, request: Message) -> None:
        id = request.id
        try:
            heart = self._hearts.at_work(partial(self._alive, answer, id))
            try:
                reply = await self.handler(self.peer, request, heart.beat)
            finally:
                self._hearts.open.discard(heart)
            if reply[:3] != ("reply", id, self.me):
                reply = Message("error" if reply.kind == "error" else "reply", id, self.me, reply.body)
            if (nbytes := reply.body.nbytes) > self._limit:
                raise TooLarge(f"a reply of {nbytes} bytes is over the limit of {self._limit}")
        except asyncio.CancelledError:
            if self._answers.get(id) is not answer:
                raise  # the peer does not want it any more
            reply, nbytes = failure(self.me, id, NodeFailed("the work was cancelled where it was done")), 0
        except Exception as error:
            if not isinstance(error, HanseError):
                log.exception("answering %s %s", request.kind, id)
            reply, nbytes = failure(self.me, id, error), 0
        if nbytes > LARGE_BYTES:
            if isinstance(reply.body.arrays, Buffered) and reply.body.arrays.receipt:  # it says the edition
                answer.out = edition_of(reply.body)
            else:
                answer.out = await asyncio.to_thread(edition_of, reply.body)
        if self._answers.get(id) is not answer:
            return
        answer.task, answer.reply = None, reply
        if len(self._answers) > 1:
            self._trim()
        self._send(answer.connection, reply)

    def _alive(self, answer: _Answer, id: str) -> None:
        if not answer.connection.ended.done():
            answer.connection.outbox.signal("alive", id)

    def _send(self, connection: Conduit, reply: Message) -> None:
        def failed(error: Exception) -> None:
            log.error("the reply to %s cannot be sent: %s", reply.id, error)
            excuse = failure(self.me, reply.id, error)
            answer = self._answers.get(reply.id)
            if answer is not None:
                answer.reply = excuse
            if reply.kind != "error":
                self._send(connection, excuse)

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
        stream, name = connection.next_stream(reply=True), ("reply", reply.id)
        if reply.body.nbytes <= LARGE_BYTES:
            whole = connection.takes.get(WHOLE, WHOLE_BYTES)
            made = frames(reply, stream, CHUNK_BYTES, 0, self._packer(connection), whole)
        else:
            answer = self._answers.get(reply.id)
            made = islice(frames(reply, stream, CHUNK_BYTES, 0 if answer is None else answer.out), 1)

            def go(place: int) -> None:
                if place >= reply.body.nbytes:
                    raise WireError(f"{place} bytes of {reply.id[:80]!r} are said to be there; it has no more")
                if self._pace is not None and answer is not None and answer.heart is None:
                    answer.heart = self._hearts.at_work(lambda: self._alive(answer, reply.id))
                made = rest(reply, stream, CHUNK_BYTES, place, self._packer(connection))
                connection.outbox.add(Parcel(name, made, lambda: None, failed, begun=True, large=True))

            connection.held[reply.id] = go
        connection.outbox.add(Parcel(name, made, lambda: None, failed, size=size))

    def _packer(self, connection: Conduit) -> Packer | None:
        """What compresses a reply, where the owner wants it and the peer can read it."""
        if self._pace is None or self._pace.saving is None or METHOD not in connection.takes:
            return None
        return Packer(self._pace.saving)

    def forget(self, id: str) -> None:
        """The peer does not want the reply any more, or has it; work on it is stopped."""
        answer = self._answers.pop(id, None)
        if answer is None:
            return
        answer.connection.held.pop(id, None)
        answer.connection.outbox.drop(("reply", id))
        if answer.task is not None:
            answer.task.cancel()
        self._still(answer)

    def _still(self, answer: _Answer) -> None:
        if answer.heart is not None:
            self._hearts.open.discard(answer.heart)
            answer.heart = None

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
            self._still(answer)
            del self._answers[id]
