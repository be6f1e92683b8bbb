"""Records and messages, and their bytes: one buffer for the disk and for hashes, or header and payload apart."""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from hanse.errors import WireError
from hanse.messages.buffers import Array, Buffer, Buffered, Layout, Memory, flat, stretches
from hanse.messages.header import MAX_HEADER_BYTES, header, placed, read_header
from hanse.messages.strict_json import Json, Received, as_it_travels, dumps, in_order, loads, quoted

if TYPE_CHECKING:
    from blake3 import blake3

WIRE_VERSION = 1
CHUNK_BYTES = 2 << 20
_KEPT_TEXT = 64 << 10  # characters; a longer one would double what a model of trees takes


@dataclass(frozen=True, slots=True)
class Record:
    """Named arrays and JSON: a state, an ask, a contribution, a model.

    Args:
        data: JSON object (finite numbers only).
        arrays: name to array; dtypes bool, (u)int8..64, float16/32/64; any shape.
    """

    data: Mapping[str, Json] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Names only: a log shows no values; and asyncio prints the result of each task that it ran."""
        data, arrays = (", ".join(map(str, names)) or "nothing" for names in (self.data, self.arrays))
        return f"Record(data: {data}; arrays: {arrays})"

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays (not of the JSON)."""
        if type(self.arrays) is Buffered:  # nearly all that travels
            return self.arrays.layout.nbytes
        if type(self.arrays) is not dict:
            layout: Layout | None = getattr(self.arrays, "layout", None)
            if layout is not None:
                return layout.nbytes
        total = 0
        for array in self.arrays.values():
            total += array.nbytes
        return total


class Message(NamedTuple):
    """A record with an envelope.

    Args:
        kind: what it is: ``task``, ``reply``, ``error``, ``hello``, ``proposal``, ...
        id: names the exchange; a reply carries the id of its request.
        sender: who says so; the receiver compares it with the authenticated peer.
        body: the content.
    """

    kind: str
    id: str
    sender: str = ""
    body: Record = Record()


def envelope(message: Message) -> dict[str, str]:
    """The strings of a message's header, but for its data."""
    return {
        "hanse": str(WIRE_VERSION),
        "kind": message.kind,
        "id": message.id,
        "sender": message.sender,
    }


def opened(metadata: Mapping[str, str]) -> tuple[str, str, str, dict[str, Json]]:
    """Kind, id, sender and data of a header that was read. Raises ``WireError``."""
    version = metadata.get("hanse")
    if version != str(WIRE_VERSION):
        raise WireError(
            f"wire version {version!r} is not known here (this is {WIRE_VERSION}); "
            "bring both sides to the same release of hanse"
        )
    text = metadata.get("data", "{}")
    data = loads(text)
    if not isinstance(data, dict):
        raise WireError("the data of a record must be a JSON object")
    return (
        metadata.get("kind", ""),
        metadata.get("id", ""),
        metadata.get("sender", ""),
        Received(data, text) if len(text) <= _KEPT_TEXT else data,
    )


# ---------------------------------------------------------------- one buffer: disk, hash, pipe


def pieces(record: Record, chunk: int = CHUNK_BYTES) -> Iterator[bytes | memoryview]:
    """The bytes of a record, a piece at a time: for hashing and writing without a copy."""
    layout = Layout.of(record.arrays)
    text = header(layout, {"hanse": str(WIRE_VERSION)}, in_order(dumps(record.data)))
    yield struct.pack("<Q", len(text)) + text
    yield from stretches(record.arrays, layout, chunk)


def dump(record: Record) -> bytes:
    """A record as one safetensors file in memory."""
    return b"".join(pieces(record))


def load(raw: bytes | memoryview) -> Record:
    """The record in ``raw``; its arrays are read-only views of it. Raises ``WireError``."""
    view = memoryview(raw)
    if len(view) < 8:
        raise WireError(f"{len(view)} bytes is too short for a record")
    (length,) = struct.unpack("<Q", view[:8])
    if length > MAX_HEADER_BYTES or 8 + length > len(view):
        raise WireError(f"the header says it has {length} bytes; the file has {len(view)}")
    layout, metadata = read_header(view[8 : 8 + length])
    body = view[8 + length :]
    if len(body) != layout.nbytes:
        raise WireError(f"expected {layout.nbytes} bytes of arrays, found {len(body)}")
    _, _, _, data = opened(metadata)
    return Record(data, Buffered(layout, Memory(0, body.toreadonly())))


def digest(record: Record) -> str:
    """SHA-256 of the canonical bytes: the content hash that names a model or a state."""
    sha = hashlib.sha256()
    for piece in pieces(record):
        sha.update(piece)
    return sha.hexdigest()


@functools.cache
def _blake3() -> type[blake3]:
    from blake3 import blake3  # half a megabyte, and the workers of a node hash nothing by it

    return blake3


def mark(record: Record) -> str:
    """BLAKE3 of the canonical bytes, 64 hex digits: nobody finds two records with one mark, as with :func:`digest`, at
    a third of the cost. For what is hashed in every round and named nowhere else.

    References: O'Connor, Aumasson, Neves and Wilcox-O'Hearn 2020, "BLAKE3: one function, fast everywhere".
    """
    found = _blake3()()
    for piece in pieces(record):
        found.update(piece)
    return found.hexdigest()


def bound(purpose: bytes, record: Record) -> str:
    """BLAKE3 of a record's canonical JSON, its arrays' places and their bytes, 64 hex digits, for one purpose: as
    :func:`mark`, without writing a header for it. For what is hashed in every round and named nowhere else.

    Args:
        purpose: in which there is no zero byte.
    """
    layout = Layout.of(record.arrays)
    found = _blake3()(b"\0".join((purpose, dumps(record.data).encode(), placed(layout).encode(), b"")))
    for piece in (
        (flat(record.arrays, layout),)
        if layout.nbytes <= CHUNK_BYTES
        else stretches(record.arrays, layout, CHUNK_BYTES)
    ):
        found.update(piece)
    return found.hexdigest()


def receipt(record: Record) -> str:
    """BLAKE3 of a record as it travels, 64 hex digits: its text, and its arrays with their names, types and shapes.
    Both ends of a line have the same, and neither writes anything anew for it. Of a reply that came over a line it was
    made of each chunk as that came in, and is not made again."""
    if isinstance(record.arrays, Buffered) and record.arrays.receipt:
        return record.arrays.receipt
    return placed_receipt("", record)


def placed_receipt(place: str, record: Record) -> str:
    """As :func:`receipt`, of a record at a place: JSON that stands before its text."""
    layout = Layout.of(record.arrays)
    found = receipt_of(record.data, layout, place)
    if layout.nbytes <= CHUNK_BYTES:
        found.update(flat(record.arrays, layout))
        return found.hexdigest()
    for piece in stretches(record.arrays, layout, CHUNK_BYTES):
        found.update(piece)
    return found.hexdigest()


def receipt_of(data: Mapping[str, Json], layout: Layout, place: str = "") -> blake3:
    """What makes a :func:`receipt`: it is to be given the payload, in the order of its bytes."""
    if not layout.named:
        named = (f"\0{name}\0{place.dtype.str}{place.shape}" for name, place in layout.places.items())
        layout.named.append("".join(named).encode())
    return _blake3()((place + as_it_travels(data)).encode() + layout.named[0])


def fingerprint(record: Record) -> str:
    """A fast 128-bit XXH3 of the canonical bytes: recognises a repeated ask; no protection."""
    state = xxhash.xxh3_128()
    for piece in pieces(record):
        state.update(piece)
    return state.hexdigest()


# ---------------------------------------------------------------- header and payload apart: shared memory


def head(message: Message) -> bytes:
    """The header of a message, for a carrier that moves the payload by itself."""
    return header(Layout.of(message.body.arrays), envelope(message), quoted(message.body.data))


def head_of(message: Message) -> bytes | memoryview:
    """As :func:`head`, for a carrier to whom id and sender say nothing: of what came and is passed on as it is, the
    header that it came with, which has those of that message."""
    arrays, body = message.body.arrays, message.body
    if type(arrays) is Buffered and (came := arrays.came) is not None:
        kind, data, text = came
        if data is body.data and kind == message.kind:
            return text
    return head(message)


def payload(record: Record, chunk: int = CHUNK_BYTES) -> Iterator[memoryview]:
    """The payload that belongs to :func:`head`, a piece at a time, without a copy."""
    return stretches(record.arrays, Layout.of(record.arrays), chunk)


def arrived(head: bytes | memoryview, land: Callable[[int], Buffer]) -> Message:
    """The message of a header; ``land(nbytes)`` gives its payload, complete. Raises ``WireError``."""
    layout, metadata = read_header(head)
    kind, id, sender, data = opened(metadata)
    return Message(kind, id, sender, Record(data, Buffered(layout, land(layout.nbytes))))
