"""What is true of one connection only: which messages are half in, half out, or wait there for their turn.

Requests travel on even streams and replies on odd ones, so a reply is refused when it begins,
before a byte of its payload is stored.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Protocol

from hanse.errors import TooLarge, WireError
from hanse.messages import (
    WHOLE_HEADER_BYTES,
    Allocate,
    Assembler,
    Buffer,
    Half,
    HalfKey,
    Memory,
    Message,
    Repeated,
    announced,
)
from hanse.pace import Pace
from hanse.transports._broadcast import FIRST_STREAM, Shared
from hanse.transports._halves import Halves
from hanse.transports._outbox import Outbox
from hanse.transports._turns import Turn

CHUNK_BYTES = 1 << 20  # a few are held for each node at once; larger ones are no faster
LARGE_BYTES = 2 << 20  # payloads above this take turns; both ends must agree on it
LONG_HEADER = 128 << 10
WHOLE_REPLY = CHUNK_BYTES + WHOLE_HEADER_BYTES  # in one frame
BEGIN, CHUNK, SIGNAL, PACKED, WHOLE_FRAME = 1, 2, 3, 4, 5  # frame types, as in hanse.messages
_IGNORED = 1024

From = Callable[[int], None]  # sends the rest, from a byte on


class Wire(Protocol):
    """One open connection, which carries messages of some kilobytes to megabytes."""

    def listen(
        self, received: Callable[[bytes], None], ready: Callable[[], None], ended: Callable[[str], None]
    ) -> None:
        """From here on each message that comes is told, and once how it ended; ``ready`` when the next may be
        written after ``write`` said no."""
        ...

    def write(self, data: bytes, more: bool = False) -> bool:
        """Takes a message. Returns whether the next may come at once; else it waits for ``ready``. ``more``: the next
        is there, and follows at once where it may; who can brings both on their way together."""
        ...

    def hold(self) -> None:
        """No message is told until :meth:`go_on`."""
        ...

    def go_on(self) -> None:
        """Those that waited are told, and then as they come."""
        ...


class Conduit:
    """What is true of one connection only."""

    def __init__(
        self,
        wire: Wire,
        allocate: Allocate,
        limit: int,
        request_limit: int,
        request_header: int,
        halves: Halves,
        known: Callable[[str, int, str], bool],
        pace: Pace | None = None,
    ) -> None:
        self.wire, self.outbox = wire, Outbox(wire.write, self.end, pace)
        self.reading: asyncio.Task[None] | None = None  # of a long header
        self.incoming: dict[int, str] = {}  # stream -> id of the message that is half in
        self.ignored: set[int] = set()  # streams whose rest is not wanted
        self.long: set[int] = set()  # streams of messages with long headers that are half in
        self.turns: dict[int, Turn] = {}  # of the large replies that are half in
        self.going: dict[str, tuple[float, int]] = {}  # large reply to when its rest was asked for, and what had come
        self.held: dict[str, From] = {}  # what sends the rest of the large replies that go out, until ``go``
        self.resuming: dict[str, From] = {}  # and of large requests that an earlier connection began, until ``resume``
        self.asking: dict[str, Turn] = {}  # of the large requests that go out or wait for it
        self.shared: weakref.WeakSet[Shared] = weakref.WeakSet()  # payloads that went out here
        self.takes: dict[str, int] = {}  # ways to compress that the peer can read, and its least saving in thousandths
        self.wanted = 0  # what the peer was told of that, of tasks
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._allocate, self._request_limit, self._request_header = allocate, request_limit, request_header
        self._is_request, self._frame, self._halves = False, b"", halves
        lie = getattr(allocate, "lie", Memory.of)
        self.assembler = Assembler(self._land, limit, halves, known, True, halves.watch, WHOLE_REPLY, lie)
        self._stream = 0

    def _land(self, nbytes: int) -> Buffer:
        if self._is_request and nbytes > self._request_limit:
            raise TooLarge(f"a request of {nbytes} bytes is over the limit of {self._request_limit}")
        found = self._halves.land(self.assembler.newest, self._frame, nbytes)
        return self._allocate(nbytes) if found is None else found

    def takes_long(self, frame: bytes) -> bool:
        """Whether to begin what this BEGIN frame begins takes so long that it has to be done beside the event loop: its
        header is long, or half of it may lie on disk."""
        return len(frame) > LONG_HEADER or (self._halves.left and announced(frame) > LARGE_BYTES)

    def read_ahead(self, frame: bytes) -> tuple[HalfKey, Half] | None:
        """Beside the event loop, of a frame that is fed next; what an earlier process left of what begins with it."""
        id, reply = self.assembler.read_ahead(frame), bool(frame[1] & 1)
        half = self._halves.look(id, reply) if id and announced(frame) > LARGE_BYTES else None
        return None if half is None else ((id, reply), half)

    def check_header(self, frame: bytes) -> None:
        """Before a long BEGIN frame is read: raises ``TooLarge``."""
        if not frame[1] & 1 and len(frame) > self._request_header:
            raise TooLarge(
                f"a request with {len(frame)} bytes of names and numbers is over the limit of "
                f"{self._request_header}; has a dataset too many columns?"
            )

    def part(self, frame: bytes) -> tuple[int, Message | Repeated | None]:
        """The stream of a frame of a message of several, and the message where this one completes it."""
        stream = int.from_bytes(frame[1:5], "little")
        self._is_request, self._frame = not stream & 1, frame
        try:
            return stream, self.assembler.part(frame)
        finally:
            self._frame = b""

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
        self.resuming.pop(id, None)
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
        if self.incoming:
            for stream in [s for s, i in self.incoming.items() if i == id and (s & 1) == reply]:
                self.ignore(stream)

    def end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
