"""What waits to be sent on one connection, in a fair order.

Signals go first. Messages take turns, one frame each, so a small message overtakes a large one
and waits for no more than one chunk of each. Frames are made when they are sent, never before:
however many large messages wait, one chunk of one of them is in memory. Small frames that are
ready together share one write, because a write costs more than a kilobyte does.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from hanse.errors import WireError
from hanse.messages import signal

PACK_BYTES = 64 << 10  # frames up to this size share a write
_PATIENCE = 0.5  # seconds
_PACK = 0  # first byte of a write that holds several frames; a frame itself begins with 1, 2 or 3
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
    """

    name: tuple[str, str]
    frames: Iterator[bytes]
    moved: Callable[[], None]
    failed: Callable[[Exception], None]
    begun: bool = False
    size: int = 0


class Outbox:
    """The queue of one connection; ``drain`` empties it until the connection ends."""

    def __init__(self) -> None:
        self._signals: deque[bytes] = deque()
        self._parcels: deque[Parcel] = deque()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def signal(self, what: str, id: str, patient: bool = False) -> None:
        """``patient`` lets it ride with whatever is sent next, for a short while: saves a write."""
        self._signals.append(signal(what, id))
        if not patient:
            self._wake.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._hurry)

    def _hurry(self) -> None:
        self._timer = None
        self._wake.set()

    def add(self, parcel: Parcel) -> None:
        self._parcels.append(parcel)
        self._wake.set()

    def __len__(self) -> int:
        return len(self._parcels)

    def waiting(self, kind: str) -> tuple[int, int]:
        """How many parcels whose name begins so have not left, and the bytes that they hold."""
        sizes = [p.size for p in self._parcels if p.name[0] == kind]
        return len(sizes), sum(sizes)

    def drop(self, name: tuple[str, str]) -> None:
        """Take back what of this name has not left yet."""
        self._parcels = deque(p for p in self._parcels if p.name != name)

    async def drain(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Send for ever. Raises what ``write`` raises, and what breaks a message that has begun."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while await self._send(write):
                pass

    async def _send(self, write: Callable[[bytes], Awaitable[None]]) -> bool:
        # A method of its own, so that nothing of what was sent is held while the outbox is empty.
        small, large, movers = self._take()
        if small:
            await write(pack(small))
        if large:
            await write(large)
        for mover in movers:
            mover()
        return bool(small or large)

    def _take(self) -> tuple[list[bytes], bytes, list[Callable[[], None]]]:
        """The next small frames, and after them at most one large one."""
        small, size = list(self._signals), sum(map(len, self._signals))
        self._signals.clear()
        movers: list[Callable[[], None]] = []
        while self._parcels and size < PACK_BYTES:
            parcel = self._parcels.popleft()
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
                return small, frame, movers
            small.append(frame)
            size += len(frame)
        return small, b"", movers


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
