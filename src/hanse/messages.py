"""What crosses the wire and what rests on disk: named arrays and JSON, in one format.

A **record** is a plain value: JSON data and named arrays. A **message** is a record with an
envelope (kind, id, sender). Both are written as `safetensors
<https://huggingface.co/docs/safetensors>`_: eight bytes of header length, a JSON header (each
array's dtype, shape and place; our JSON in ``__metadata__``), then the raw little-endian buffers
without gaps. There is no pickle and no code in it, and any safetensors reader opens a model that
Hanse stored.

Arrays stand in a canonical order (larger items first, then by name), so the same record is always
the same bytes, and its SHA-256 names it.

On a stream a message travels as **frames**: one BEGIN with the header, then CHUNKs of about
2 MiB, each with its offset and an XXH3 checksum (accidents; TLS is what keeps attackers out).
The receiver decides where the bytes land: memory, a file (``Spool``), shared memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import xxhash

from hanse.errors import Tampered, TooLarge, WireError

WIRE_VERSION = 1
CHUNK_BYTES = 2 << 20
MAX_HEADER_BYTES = 16 << 20
MAX_MESSAGE_BYTES = 4 << 30
MAX_DEPTH = 64
_MAX_DIGITS = 40
_MAX_DIMENSIONS = 32

Json = Any
Array = np.ndarray[Any, np.dtype[Any]]

_NAMES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
    "BOOL": np.dtype("bool"),
}  # fmt: skip
_CODES = {dtype: name for name, dtype in _NAMES.items()}


# ---------------------------------------------------------------- records and messages


@dataclass(frozen=True, slots=True)
class Record:
    """Named arrays and JSON: a state, an ask, a contribution, a model.

    Args:
        data: JSON object (finite numbers only).
        arrays: name to array; dtypes bool, (u)int8..64, float16/32/64; any shape.
    """

    data: Mapping[str, Json] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays (not of the JSON)."""
        if isinstance(self.arrays, Buffered):
            return self.arrays.layout.nbytes
        return sum(a.nbytes for a in self.arrays.values())


@dataclass(frozen=True, slots=True)
class Message:
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
    body: Record = field(default_factory=Record)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one array lies in a payload: ``offset`` in bytes from its start."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of all arrays of a record, in the order of the bytes."""

    places: Mapping[str, Place]
    nbytes: int

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> Layout:
        if isinstance(arrays, Buffered):
            return arrays.layout
        places: dict[str, Place] = {}
        offset = 0
        for name in sorted(arrays, key=lambda n: (-arrays[n].dtype.itemsize, n)):
            array = arrays[name]
            dtype = array.dtype.newbyteorder("<")
            if dtype not in _CODES:
                raise WireError(
                    f"array {name!r} has dtype {array.dtype}, which does not travel; "
                    f"use one of {', '.join(str(d) for d in _CODES)}"
                )
            places[name] = Place(dtype, tuple(array.shape), offset)
            offset += places[name].nbytes
        return Layout(places, offset)


class Buffer(Protocol):
    """Where a payload lands. Writes may come in any order; reads come after ``seal``."""

    def write(self, offset: int, chunk: memoryview) -> None: ...
    def seal(self) -> None: ...
    def read(self, offset: int, nbytes: int) -> memoryview: ...


class Memory:
    """A payload in memory; ``read`` gives views without a copy."""

    __slots__ = ("_view",)

    def __init__(self, nbytes: int, storage: memoryview | None = None) -> None:
        self._view = np.empty(nbytes, np.uint8).data if storage is None else storage

    def write(self, offset: int, chunk: memoryview) -> None:
        self._view[offset : offset + len(chunk)] = chunk

    def seal(self) -> None:
        self._view = self._view.toreadonly()

    def read(self, offset: int, nbytes: int) -> memoryview:
        return self._view[offset : offset + nbytes]


class Spool:
    """A payload in an unlinked temporary file: bounded memory for any number of contributions.

    The bytes stay in the page cache while they are young, so this costs a copy, not a disk
    access, and the process does not grow.
    """

    __slots__ = ("_fd",)

    def __init__(self, nbytes: int, folder: str | os.PathLike[str] | None = None) -> None:
        self._fd, path = tempfile.mkstemp(prefix="hanse-", suffix=".spool", dir=folder)
        os.unlink(path)

    def write(self, offset: int, chunk: memoryview) -> None:
        while chunk:
            done = os.pwrite(self._fd, chunk, offset)
            offset, chunk = offset + done, chunk[done:]

    def seal(self) -> None:
        pass

    def read(self, offset: int, nbytes: int) -> memoryview:
        out = np.empty(nbytes, np.uint8)
        view, done = out.data, 0
        while done < nbytes:
            got = os.preadv(self._fd, [view[done:]], offset + done)
            if got == 0:
                raise WireError("a spooled payload is shorter than its header says")
            done += got
        return view

    def __del__(self) -> None:
        fd = getattr(self, "_fd", None)
        if fd is not None:
            os.close(fd)


Allocate = Callable[[int], Buffer]


class Buffered(Mapping[str, Array]):
    """Arrays that lie in a ``Buffer``; materialised only when asked for."""

    __slots__ = ("_buffer", "layout")

    def __init__(self, layout: Layout, buffer: Buffer) -> None:
        self.layout, self._buffer = layout, buffer

    @property
    def buffer(self) -> Buffer:
        """Where the payload lies."""
        return self._buffer

    def __getitem__(self, name: str) -> Array:
        place = self.layout.places[name]
        return self.block(name, 0, place.size).reshape(place.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.places)

    def __len__(self) -> int:
        return len(self.layout.places)

    def block(self, name: str, start: int, stop: int) -> Array:
        """Elements ``start:stop`` of the flattened array, without reading the rest."""
        place = self.layout.places[name]
        item = place.dtype.itemsize
        raw = self._buffer.read(place.offset + start * item, (stop - start) * item)
        return np.frombuffer(raw, place.dtype)

    def raw(self, offset: int, nbytes: int) -> memoryview:
        """Payload bytes, as they travel."""
        return self._buffer.read(offset, nbytes)


def block(arrays: Mapping[str, Array], name: str, start: int, stop: int) -> Array:
    """Elements ``start:stop`` of the flattened array ``name``, wherever it lies."""
    if isinstance(arrays, Buffered):
        return arrays.block(name, start, stop)
    return np.ascontiguousarray(arrays[name]).reshape(-1)[start:stop]


# ---------------------------------------------------------------- the header


def dumps(value: Json) -> str:
    """Canonical JSON: sorted keys, no spaces, finite numbers only."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False,
                          ensure_ascii=False, default=_plain)  # fmt: skip
    except (TypeError, ValueError) as error:
        raise WireError(f"this value is not JSON: {error}") from None


def _plain(value: object) -> Json:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON; use numbers, strings, lists and objects")


def loads(text: str | bytes | memoryview) -> Json:
    """Strict JSON: a repeated key, NaN, Infinity, a number out of range, half a character (a lone
    surrogate) or nesting deeper than ``MAX_DEPTH`` is an error, so whatever is read can be written again."""
    try:
        plain = text if isinstance(text, str) else bytes(text).decode()
        value = _DECODER.decode(plain)
        if "\\u" in plain:  # only an escape can smuggle in what UTF-8 cannot say
            json.dumps(value, ensure_ascii=False).encode()
    except WireError:
        raise
    except (ValueError, RecursionError) as error:
        raise WireError(f"this is not JSON: {error}") from None
    if plain.count("[") + plain.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Json) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        inside = (part.values() if isinstance(part, dict) else part for part in level)
        level = [v for values in inside for v in values if isinstance(v, (dict, list))]
        if not level:
            return
    raise WireError(f"this JSON is nested more than {MAX_DEPTH} deep")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(n for n in names if names.count(n) > 1)
        raise WireError(f"the name {twice!r} stands twice in one JSON object")
    return found


def _constant(name: str) -> float:
    raise WireError(f"{name} is not a JSON number; send null instead")


def _real(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise WireError(f"the number {text[:20]} is out of range; send null instead")
    return value


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise WireError(f"a whole number of {len(text)} digits is out of range")
    return int(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_constant, parse_float=_real, parse_int=_whole
)


def _header(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    table: dict[str, Json] = {"__metadata__": dict(metadata)}
    for name, place in layout.places.items():
        table[name] = {
            "dtype": _CODES[place.dtype],
            "shape": list(place.shape),
            "data_offsets": [place.offset, place.offset + place.nbytes],
        }
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise TooLarge(f"a header of {len(text)} bytes is over the limit of {MAX_HEADER_BYTES}; "
                       "put long lists into arrays")  # fmt: skip
    return text


def _read_header(text: bytes | memoryview) -> tuple[Layout, dict[str, str]]:
    table = loads(text)
    if not isinstance(table, dict):
        raise WireError("the header is not a JSON object")
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise WireError("__metadata__ in the header is not an object of strings")
    found: dict[str, Place] = {}
    for name, entry in table.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise WireError(f"array {name!r}: expected dtype, shape and data_offsets")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _NAMES:
            raise WireError(f"array {name!r} has unknown dtype {entry['dtype']!r}; "
                            f"known are {', '.join(_NAMES)}")  # fmt: skip
        shape, span = entry["shape"], entry["data_offsets"]
        if not _naturals(shape) or not _naturals(span) or len(span) != 2:
            raise WireError(f"array {name!r}: shape and data_offsets must be lists of whole numbers")
        place = Place(_NAMES[entry["dtype"]], tuple(shape), span[0])
        if place.nbytes != span[1] - span[0]:
            raise WireError(f"array {name!r}: {span[1] - span[0]} bytes, but dtype and shape "
                            f"need {place.nbytes}")  # fmt: skip
        if len(shape) > _MAX_DIMENSIONS or math.prod(max(1, n) for n in shape) >= 1 << 59:
            raise WireError(f"array {name!r} has a shape that no array has here")  # nor an empty one
        found[name] = place
    end = 0
    for name, place in sorted(found.items(), key=lambda pair: (pair[1].offset, pair[1].nbytes)):
        if place.offset != end:
            raise WireError(f"array {name!r} starts at byte {place.offset}, expected {end}")
        if place.offset % place.dtype.itemsize:
            raise WireError(f"array {name!r} is not aligned to its item size")
        end += place.nbytes
    return Layout(found, end), metadata


def _naturals(value: Json) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 62 for v in value
    )


def _envelope(message: Message) -> dict[str, str]:
    return {"hanse": str(WIRE_VERSION), "kind": message.kind, "id": message.id,
            "sender": message.sender, "data": dumps(message.body.data)}  # fmt: skip


def _open(layout: Layout, metadata: Mapping[str, str]) -> tuple[str, str, str, dict[str, Json]]:
    version = metadata.get("hanse")
    if version != str(WIRE_VERSION):
        raise WireError(f"wire version {version!r} is not known here (this is {WIRE_VERSION}); "
                        "bring both sides to the same release of hanse")  # fmt: skip
    data = loads(metadata.get("data", "{}"))
    if not isinstance(data, dict):
        raise WireError("the data of a record must be a JSON object")
    return metadata.get("kind", ""), metadata.get("id", ""), metadata.get("sender", ""), data


# ---------------------------------------------------------------- one buffer: disk, hash, pipe


def pieces(record: Record, chunk: int = CHUNK_BYTES) -> Iterator[bytes | memoryview]:
    """The bytes of a record, a piece at a time: for hashing and writing without a copy."""
    layout = Layout.of(record.arrays)
    text = _header(layout, {"hanse": str(WIRE_VERSION), "data": dumps(record.data)})
    yield struct.pack("<Q", len(text)) + text
    yield from _payload(record.arrays, layout, chunk)


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
    layout, metadata = _read_header(view[8 : 8 + length])
    body = view[8 + length :]
    if len(body) != layout.nbytes:
        raise WireError(f"expected {layout.nbytes} bytes of arrays, found {len(body)}")
    _, _, _, data = _open(layout, metadata)
    return Record(data, Buffered(layout, Memory(0, body.toreadonly())))


def digest(record: Record) -> str:
    """SHA-256 of the canonical bytes: the content hash that names a model or a state."""
    sha = hashlib.sha256()
    for piece in pieces(record):
        sha.update(piece)
    return sha.hexdigest()


def fingerprint(record: Record) -> str:
    """A fast 128-bit XXH3 of the canonical bytes: recognises a repeated ask; no protection."""
    state = xxhash.xxh3_128()
    for piece in pieces(record):
        state.update(piece)
    return state.hexdigest()


def _payload(arrays: Mapping[str, Array], layout: Layout, chunk: int) -> Iterator[memoryview]:
    if isinstance(arrays, Buffered):
        for start in range(0, layout.nbytes, chunk):
            yield arrays.raw(start, min(chunk, layout.nbytes - start))
        return
    for name, place in layout.places.items():
        if not place.nbytes:
            continue
        flat = np.ascontiguousarray(arrays[name], dtype=place.dtype).reshape(-1)
        view = flat.view(np.uint8).data
        for start in range(0, place.nbytes, chunk):
            yield view[start : start + chunk]


# ---------------------------------------------------------------- header and payload apart: shared memory


def head(message: Message) -> bytes:
    """The header of a message, for a carrier that moves the payload by itself."""
    return _header(Layout.of(message.body.arrays), _envelope(message))


def payload(record: Record, chunk: int = CHUNK_BYTES) -> Iterator[memoryview]:
    """The payload that belongs to :func:`head`, a piece at a time, without a copy."""
    return _payload(record.arrays, Layout.of(record.arrays), chunk)


def arrived(head: bytes | memoryview, land: Callable[[int], Buffer]) -> Message:
    """The message of a header; ``land(nbytes)`` gives its payload, complete. Raises ``WireError``."""
    layout, metadata = _read_header(head)
    kind, id, sender, data = _open(layout, metadata)
    return Message(kind, id, sender, Record(data, Buffered(layout, land(layout.nbytes))))


# ---------------------------------------------------------------- frames: streams

_BEGIN, _CHUNK, _SIGNAL = 1, 2, 3
_BEGIN_HEAD = struct.Struct("<BIQ")  # type, stream, payload bytes; then the header
_CHUNK_HEAD = struct.Struct("<BIQQ")  # type, stream, offset, checksum; then the bytes


@dataclass(frozen=True, slots=True)
class Signal:
    """A small frame without a body: ``ack`` (got your reply), ``go`` (send the rest of your large
    reply), ``alive`` (still working), ``cancel`` (do not bother). ``id`` is the exchange's."""

    what: str
    id: str


def signal(what: str, id: str) -> bytes:
    return bytes([_SIGNAL]) + dumps([what, id]).encode()


def frames(message: Message, stream: int, chunk: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The frames of a message; made lazily, so a large one is never held twice."""
    yield begin(message, stream)
    for offset, piece in parts(message.body.arrays, chunk):
        yield chunk_frame(stream, offset, piece)


def begin(message: Message, stream: int) -> bytes:
    """The first frame of a message."""
    layout = Layout.of(message.body.arrays)
    return _BEGIN_HEAD.pack(_BEGIN, stream, layout.nbytes) + _header(layout, _envelope(message))


def parts(arrays: Mapping[str, Array], chunk: int = CHUNK_BYTES) -> Iterator[tuple[int, memoryview]]:
    """The payload as it is cut into chunks: offset and bytes. Only what is packed together is copied."""
    offset, small, held = 0, bytearray(), 0
    for piece in _payload(arrays, Layout.of(arrays), chunk):
        if held or len(piece) < chunk:  # small arrays share a chunk
            small += piece
            held = len(small)
            if held < chunk:
                continue
            piece, small, held = memoryview(bytes(small)), bytearray(), 0
        yield offset, piece
        offset += len(piece)
    if held:
        yield offset, memoryview(bytes(small))


def chunk_frame(stream: int, offset: int, piece: memoryview) -> bytes:
    """The frame of one chunk."""
    return b"".join((_CHUNK_HEAD.pack(_CHUNK, stream, offset, xxhash.xxh3_64_intdigest(piece)), piece))


class Assembler:
    """Puts frames together again; messages of several streams may be interleaved.

    Args:
        allocate: where a payload of so many bytes shall land (default: memory).
        limit: the largest payload accepted, in bytes. Checked before anything is allocated.

    ``feed`` returns a finished ``Message``, a ``Signal``, or None. It raises ``WireError`` for
    anything that is not a well-formed frame; the stream concerned is dropped.
    """

    def __init__(self, allocate: Allocate = Memory, limit: int = MAX_MESSAGE_BYTES) -> None:
        self._allocate, self._limit = allocate, limit
        self._open: dict[int, _Partial] = {}

    @property
    def receiving(self) -> tuple[str, ...]:
        """Ids of the messages that are half in."""
        return tuple(p.id for p in self._open.values())

    def expected(self, stream: int) -> int:
        """Bytes of the payload of the message that is half in on ``stream``; 0 if there is none."""
        partial = self._open.get(stream)
        return 0 if partial is None else partial.layout.nbytes

    def drop(self, stream: int) -> None:
        """Forget the half of a message that is in; nobody waits for the rest."""
        self._open.pop(stream, None)

    def feed(self, frame: bytes) -> Message | Signal | None:
        if not frame:
            raise WireError("an empty frame")
        if frame[0] == _BEGIN:
            return self._begin(frame)
        if frame[0] == _CHUNK:
            return self._chunk(frame)
        if frame[0] == _SIGNAL:
            said = loads(frame[1:])
            if not isinstance(said, list) or len(said) != 2 or not all(isinstance(s, str) for s in said):
                raise WireError("a signal must be [what, id]")
            return Signal(*said)
        raise WireError(f"unknown frame type {frame[0]}; is this an older release of hanse?")

    def _begin(self, frame: bytes) -> Message | None:
        if len(frame) < _BEGIN_HEAD.size:
            raise WireError("a BEGIN frame is cut off")
        _, stream, nbytes = _BEGIN_HEAD.unpack_from(frame)
        if stream in self._open:
            raise WireError(f"stream {stream} begins twice")
        if nbytes > self._limit:
            raise TooLarge(f"a message of {nbytes} bytes is over the limit of {self._limit}")
        if len(self._open) >= 64:
            raise WireError("more than 64 messages are half in; finish some first")
        layout, metadata = _read_header(memoryview(frame)[_BEGIN_HEAD.size :])
        if layout.nbytes != nbytes:
            raise WireError(f"the frame announces {nbytes} bytes, its header {layout.nbytes}")
        kind, id, sender, data = _open(layout, metadata)
        partial = _Partial(kind, id, sender, data, layout, self._allocate(nbytes))
        if nbytes == 0:
            return partial.message()
        self._open[stream] = partial
        return None

    def _chunk(self, frame: bytes) -> Message | None:
        if len(frame) < _CHUNK_HEAD.size:
            raise WireError("a CHUNK frame is cut off")
        _, stream, offset, checksum = _CHUNK_HEAD.unpack_from(frame)
        partial = self._open.get(stream)
        if partial is None:
            raise WireError(f"a chunk for stream {stream}, which has not begun")
        body = memoryview(frame)[_CHUNK_HEAD.size :]
        try:
            if offset != partial.filled or offset + len(body) > partial.layout.nbytes or not body:
                raise WireError(f"{len(body)} bytes at {offset}; expected bytes from {partial.filled} "
                                f"of {partial.layout.nbytes}")  # fmt: skip
            if xxhash.xxh3_64_intdigest(body) != checksum:
                raise Tampered(f"the bytes at {offset} of message {partial.id!r} do not fit their checksum")
            partial.buffer.write(offset, body)
        except BaseException:
            del self._open[stream]
            raise
        partial.filled += len(body)
        if partial.filled < partial.layout.nbytes:
            return None
        del self._open[stream]
        return partial.message()


@dataclass(slots=True)
class _Partial:
    kind: str
    id: str
    sender: str
    data: dict[str, Json]
    layout: Layout
    buffer: Buffer
    filled: int = 0

    def message(self) -> Message:
        self.buffer.seal()
        return Message(self.kind, self.id, self.sender, Record(self.data, Buffered(self.layout, self.buffer)))
