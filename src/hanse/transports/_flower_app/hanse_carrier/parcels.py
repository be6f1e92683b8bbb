"""What both ends of the app do with parcels: bytes on a socket, and records of a message of Flower."""

from __future__ import annotations

import socket
import struct

from flwr.app import ConfigRecord, RecordDict

_LENGTH = struct.Struct("<Q")
_RECORD_BYTES = 8 << 20  # each record is a request of its own, and a request may take half a minute
_MOST_BYTES = 1 << 30


def records(parcel: bytes) -> RecordDict:
    """The content of a message with this parcel."""
    starts = range(0, max(1, len(parcel)), _RECORD_BYTES)
    return RecordDict({f"{n}": ConfigRecord({"": parcel[at : at + _RECORD_BYTES]}) for n, at in enumerate(starts)})


def parcel_in(content: RecordDict) -> bytes:
    """What :func:`records` made the content of."""
    return b"".join(content[f"{n}"][""] for n in range(len(content)))


def send(line: socket.socket, data: bytes) -> None:
    """One item into the line."""
    line.sendall(_LENGTH.pack(len(data)))
    line.sendall(data)


def receive(line: socket.socket) -> bytes:
    """The next item. Raises ``EOFError`` where the line was closed."""
    (length,) = _LENGTH.unpack(_exactly(line, _LENGTH.size))
    if length > _MOST_BYTES:
        raise ValueError(f"a parcel of {length} bytes")
    return bytes(_exactly(line, length))


def _exactly(line: socket.socket, size: int) -> bytearray:
    raw = bytearray(size)
    view, done = memoryview(raw), 0
    while done < size:
        count = line.recv_into(view[done:])
        if not count:
            raise EOFError("the line was closed")
        done += count
    return raw
