"""What waits to be sent on one connection, in a fair order.

Signals go first. Messages take turns, one frame each, so a small message overtakes a large one
and waits for no more than one chunk of each. Frames are made when they are sent, never before:
however many large messages wait, one chunk of one of them is in memory. Small frames that are
ready together share one write, because a write costs more than a kilobyte does.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hanse.errors import WireError
from hanse.messages import signal
from hanse.pace import Pace

PACK_BYTES = 64 << 10  # frames up to this size share a write
_PATIENCE = 30.0  # seconds: of an idle node the next heartbeat takes it along, and a write of its own is saved
_LEAST_SECONDS = 0.01  # timers are not more exact
_PACK = 0  # first byte of a write that holds several frames; a frame itself begins with 1 to 4
_LENGTH = struct.Struct("<I")


@dataclass(slots=True, eq=False)
class Parcel:
    """A message on its way out.

    Args:
        name: who may take it back (:meth:`Outbox.drop`).
        frames: made lazily.
        moved: called after each frame that left.
        failed: called when a frame could not be made.
        size: bytes that it holds while it waits, where somebody asked.
        large: it leaves at the pace of its owner.
    """

    name: tuple[str, str]
    frames: Iterator[bytes]
    moved: Callable[[], None]
    failed: Callable[[Exception], None]
    begun: bool = False
    size: int = 0
    large: bool = False


class Outbox:
    """The queue of one connection. What is put into it leaves at once, unless something else is on its way.

    Args:
        write: takes one write, and whether another one follows at once where it may; returns whether it may. If not,
            :meth:`ready` is called when it may.
        broken: called when a message that has begun cannot go on: the connection is of no use.
        pace: when a frame of a large message may leave; None: at once.
    """

    def __init__(
        self, write: Callable[[bytes, bool], bool], broken: Callable[[str], None], pace: Pace | None = None
    ) -> None:
        self._write, self._broken, self._pace = write, broken, pace
        self._paced: asyncio.TimerHandle | None = None  # for the next large frame
        self._free, self._sending = True, False
        self._signals: deque[bytes] = deque()
        self._parcels: deque[Parcel] = deque()
        self._large = b""  # a frame that is next
        self._since = 0.0  # when the oldest of the signals came
        self._timer: asyncio.TimerHandle | None = None

    def signal(self, what: str, id: str, place: int = 0, *, patient: bool = False) -> None:
        """``patient`` lets it ride with whatever is sent next, for a while: saves a write."""
        if patient and not self._signals:
            self._since = time.monotonic()
        self._signals.append(signal(what, id, place))
        if not patient:
            self.send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._hurry)

    def _hurry(self) -> None:
        self._timer = None
        left = self._since + _PATIENCE - time.monotonic()
        if self._signals and left > _LEAST_SECONDS:  # those that the timer was for have left
            self._timer = asyncio.get_running_loop().call_later(left, self._hurry)
        else:
            self.send()

    def add(self, parcel: Parcel) -> None:
        self._parcels.append(parcel)
        self.send()

    def add_soon(self, parcel: Parcel) -> None:
        """It begins to leave when whoever calls this is done."""
        self._parcels.append(parcel)
        asyncio.get_running_loop().call_soon(self.send)

    def __len__(self) -> int:
        return len(self._parcels)

    def waiting(self, kind: str) -> tuple[int, int]:
        """How many parcels whose name begins so have not left, and the bytes that they hold."""
        sizes = [p.size for p in self._parcels if p.name[0] == kind]
        return len(sizes), sum(sizes)

    def drop(self, name: tuple[str, str]) -> None:
        """Take back what of this name has not left yet."""
        if self._parcels:
            self._parcels = deque(p for p in self._parcels if p.name != name)

    def ready(self) -> None:
        """The next write may come."""
        self._free = True
        self.send()

    def close(self) -> None:
        """Nothing leaves any more."""
        self._free, self._large = False, b""
        self._signals.clear()
        self._parcels.clear()
        for timer in (self._timer, self._paced):
            if timer is not None:
                timer.cancel()

    def send(self) -> None:
        """What waits leaves now, as far as it may."""
        if self._sending:  # one of those that are told that something left has put something in
            return
        self._sending = True
        try:
            while self._free and (self._large or self._signals or self._parcels) and self._send_next():
                pass
        except Exception as error:
            self._broken(f"a message that had begun could not go on ({type(error).__name__})")
        finally:
            self._sending = False

    def _send_next(self) -> bool:
        """Returns False where all that is left waits for its pace."""
        # A method of its own, so that nothing of what was sent is held while the outbox is empty.
        small: list[bytes] = []
        movers: list[Callable[[], None]] = []
        if not self._large:
            self._large = self._fill(small, movers)
        some = bool(small or self._large or movers)
        if small:
            self._free = self._out(pack(small), bool(self._large))
        if self._large and self._free:
            large, self._large = self._large, b""
            self._free = self._out(large)
        for mover in movers:
            mover()
        return some

    def _out(self, data: bytes, more: bool = False) -> bool:
        if self._pace is not None:
            self._pace.left(len(data))
        return self._write(data, more)

    def _may_not_yet(self) -> bool:
        """Whether large messages have to wait now; then they are looked at again in time."""
        wait = 0.0 if self._pace is None else self._pace.wait()
        if wait and self._paced is None:
            self._paced = asyncio.get_running_loop().call_later(max(wait, _LEAST_SECONDS), self._go_on)
        return wait > 0

    def _go_on(self) -> None:
        self._paced = None
        self.send()

    def _fill(self, small: list[bytes], movers: list[Callable[[], None]]) -> bytes:
        """Puts the next frames into ``small``; returns at most one large one, which comes after them."""
        small += self._signals
        self._signals.clear()
        size = sum(map(len, small))
        waiting: list[Parcel] = []  # that may not leave yet
        try:
            while self._parcels and size < PACK_BYTES:
                parcel = self._parcels.popleft()
                if parcel.large and self._may_not_yet():
                    waiting.append(parcel)
                    continue
                try:
                    frame = next(parcel.frames, None)
                except Exception as error:
                    parcel.failed(error)
                    if parcel.begun:  # the peer holds half of it: only a new connection is clean
                        raise
                    continue
                if frame is None:
                    continue
                parcel.begun = True
                self._parcels.append(parcel)
                movers.append(parcel.moved)
                if len(frame) > PACK_BYTES:
                    return frame
                small.append(frame)
                size += len(frame)
            return b""
        finally:
            self._parcels.extendleft(reversed(waiting))


def pack(frames: list[bytes]) -> bytes:
    """Several frames as one write.

    >>> list(unpack(pack([b"\\x01a", b"\\x02b"])))
    [b'\\x01a', b'\\x02b']
    """
    if len(frames) == 1:
        return frames[0]
    parts = [bytes([_PACK])]
    for frame in frames:
        parts += (_LENGTH.pack(len(frame)), frame)
    return b"".join(parts)


def unpack(data: bytes) -> Iterator[bytes]:
    """The frames in one write. Raises ``WireError`` for one that is cut off."""
    if not data or data[0] != _PACK:
        yield data
        return
    place = 1
    while place < len(data):
        if place + _LENGTH.size > len(data):
            raise WireError("a pack of frames is cut off")
        (length,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        if length == 0 or place + length > len(data):
            raise WireError("a pack of frames is cut off")
        yield data[place : place + length]
        place += length
