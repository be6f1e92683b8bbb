"""How agent and worker talk: messages on a Unix socket, large payloads beside it as descriptors.

One packet: what it is, its lengths, the rows that an answer rests on, the header of a message
(:func:`hanse.messages.head_of`), and the payload if it is small. Descriptors travel with the first byte of the
packet that they belong to.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from hanse.errors import TooLarge, WireError
from hanse.messages import MAX_HEADER_BYTES, Layout, Message, Record, flat, head_of
from hanse.node.shared_memory import INLINE_BYTES

MESSAGE, PROGRESS, FREED = range(3)  # the last one: a message too, and the memory of its ask may be used again
_LENGTHS = struct.Struct("<BIIBq")  # what, header, inline payload, descriptors, rows
NO_ROWS = -1
_MOST_FDS = 2
KEPT_BUNDLES = 16  # that a worker has checked; agent and worker forget them in the same order
_READ_BYTES = 128 << 10
_FDS_BYTES = socket.CMSG_SPACE(_MOST_FDS * array.array("i").itemsize)


class Packet(NamedTuple):
    """One packet between agent and worker: what it is (``what``), JSON (``head``), bytes of small arrays, the
    descriptors of shared memory that came along, and ``rows`` of the table that an answer rests on; ``NO_ROWS`` where
    there is none."""

    what: int
    head: bytes
    inline: bytes
    fds: tuple[int, ...]
    rows: int = NO_ROWS


def packed(message: Message, fds: int, inline: bool, rows: int = NO_ROWS) -> bytearray:
    """The bytes of a packet; with ``inline`` the arrays are part of it. The first one is what it is."""
    header = head_of(message)
    body: bytes | memoryview = b""
    if inline:
        layout = Layout.of(message.body.arrays)
        if layout.nbytes > INLINE_BYTES:
            raise TooLarge(f"{layout.nbytes} bytes go into shared memory, not through the socket")
        body = flat(message.body.arrays, layout)
    return bytearray().join((_LENGTHS.pack(MESSAGE, len(header), len(body), fds, rows), header, body))


def note(what: int) -> bytes:
    """A packet that says one thing."""
    return _LENGTHS.pack(what, 0, 0, 0, NO_ROWS)


def small(kind: str, id: str = "", **data: object) -> Message:
    """A message without arrays."""
    return Message(kind, id, "", Record(data))


class Receiver:
    """Puts packets together from what a socket gives."""

    def __init__(self) -> None:
        self._bytes, self._room = bytearray(), memoryview(bytearray(_READ_BYTES))  # what came, and where it lands
        self._fds: deque[int] = deque()

    def read(self, sock: socket.socket) -> bool:
        """Takes what is there; False at the end of the stream."""
        got, ancillary, _, _ = sock.recvmsg_into([self._room], _FDS_BYTES, socket.MSG_CMSG_CLOEXEC)
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(raw[: len(raw) - len(raw) % found.itemsize])
                self._fds.extend(found)
        self._bytes += self._room[:got]
        return got > 0

    def packet(self) -> Packet | None:
        """The next packet; None where it is not complete. Raises ``WireError`` for impossible lengths."""
        came = self._bytes
        if len(came) < _LENGTHS.size:
            return None
        what, header, inline, fds, rows = _LENGTHS.unpack_from(came)
        if what > FREED or header > MAX_HEADER_BYTES or inline > INLINE_BYTES or fds > _MOST_FDS:
            raise WireError("a packet with impossible lengths")
        middle = _LENGTHS.size + header
        end = middle + inline
        if len(came) < end:
            return None
        if len(self._fds) < fds:
            raise WireError("a packet without the descriptors that it announces")
        told = bytes(came[_LENGTHS.size : end])
        del came[:end]
        beside = tuple([self._fds.popleft() for _ in range(fds)]) if fds else ()
        return Packet(what, told[:header], told[header:] if inline else b"", beside, rows)

    def close(self) -> None:
        """Closes descriptors that belong to no packet."""
        while self._fds:
            os.close(self._fds.popleft())


def send(sock: socket.socket, raw: bytes | bytearray, fds: Sequence[int] = ()) -> int:
    """Begins a packet; returns how many of its bytes left."""
    if not fds:
        return sock.send(raw)
    return sock.sendmsg([raw], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
