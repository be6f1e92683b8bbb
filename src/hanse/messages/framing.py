"""Messages on a stream: frames, and how they are put together again.

A message is one BEGIN with the header, then CHUNKs, each with its offset and an XXH3 checksum. Messages of several
streams may be interleaved. A chunk may be compressed on its way (PACKED); its checksum is of the bytes that it has. A
message of a few kilobytes, and a reply as large as the other end says that it takes so, is one frame (WHOLE): most that
is done for a frame is done for each of them.

A message whose transfer is to go on where a lost connection left it has an **edition**: the digest of its payload. A
half that is in is kept (:class:`Half`), and goes on if the same message comes again in the same edition, also from a
sender that was started anew and has computed it again; in another one, as it has computed something else, it begins
anew. So what arrives is never put together of two.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import xxhash

from hanse.errors import HanseError, Tampered, TooLarge, WireError
from hanse.messages.buffers import Allocate, Array, Buffer, Buffered, Layout, Memory, stretches
from hanse.messages.compression import LEAST_BYTES, Packer, unpacked
from hanse.messages.hashed_beside import LARGE_BYTES, HashedBeside
from hanse.messages.header import header, read_header
from hanse.messages.records import CHUNK_BYTES, Message, Record, envelope, opened, payload, receipt_of
from hanse.messages.strict_json import Json, quoted

if TYPE_CHECKING:
    from blake3 import blake3

MAX_MESSAGE_BYTES = 64 << 30  # more is no model that is known; what there is room for is less, and asked before

_BEGIN, _CHUNK, _SIGNAL, _PACKED, _WHOLE = 1, 2, 3, 4, 5
WHOLE = "whole"  # what an end says that it takes larger replies in one frame by, with how large
WHOLE_BYTES = 16 << 10  # of any message that is one frame, with its header: a peer keeps it in memory, come what may
WHOLE_HEADER_BYTES = 64 << 10  # of its header: to read a longer one would hold up all others
_BEGIN_HEAD = struct.Struct("<BIQQ")  # type, stream, payload bytes, edition; then the header
_AGAIN = 1 << 63  # in an edition: its sender waits to be told from which byte on
_CHUNK_HEAD = struct.Struct("<BIQQ")  # type, stream, offset, checksum; then the bytes
_CHECKSUM = struct.Struct("<Q")  # the end of a chunk's head
# Type, stream, bytes of the header, XXH3 of all that follows: header and payload, which numbers lie aligned in
_WHOLE_HEAD = struct.Struct("<BI3xI4x16s")
_SIGNAL_HEAD = struct.Struct("<BBQ")  # type, letters of what it says, place; then what it says, and the id


@dataclass(frozen=True, slots=True)
class Signal:
    """A small frame without a body: ``ack`` (got your reply), ``go`` (send the rest of your large
    reply), ``resume`` (send the rest of your large request, which you sent before), ``alive`` (still working),
    ``cancel`` (do not bother). ``id`` is the exchange's, ``place`` the byte from which on the rest is sent. Of
    ``takes`` the ``id`` is a way to compress that I can read, and ``place`` the least that it has to save for me to
    want it, in thousandths; 0: as you like."""

    what: str
    id: str
    place: int = 0


@dataclass(frozen=True, slots=True)
class Repeated:
    """The beginning of a message that is in already."""

    id: str
    nbytes: int


class Keeper(Protocol):
    """Keeps a half beyond the process that it comes to."""

    def came(self, nbytes: int, checksum: int) -> None:
        """So many bytes more are in their buffer, with this XXH3."""
        ...

    def over(self) -> None:
        """All of it is in: what was kept is of no use any more."""
        ...


@dataclass(slots=True)
class Half:
    """What is in of a message. ``again``: its sender waits to be told from where to go on. ``receipt``: what makes that
    of a reply (:func:`hanse.messages.receipt`), while it is in the cache of a processor anyway."""

    kind: str
    id: str
    sender: str
    data: dict[str, Json]
    layout: Layout
    buffer: Buffer
    marks: xxhash.xxh3_128
    edition: int
    head: str
    filled: int = 0
    again: bool = False
    came: int = 0  # bytes of it on their way
    receipt: blake3 | HashedBeside | None = None
    keeper: Keeper | None = None

    def add(self, chunk: memoryview, checksum: int) -> None:
        """These bytes more are in."""
        if self.keeper is not None:
            self.keeper.came(len(chunk), checksum)
        self.marks.update(_CHECKSUM.pack(checksum))
        if self.receipt is not None:
            self.receipt.update(chunk)
        self.filled += len(chunk)


HalfKey = tuple[str, bool]


def half_of(frame: bytes, land: Allocate) -> Half:
    """What begins with this frame, nothing of which is in. Raises ``WireError`` where it is none, or has no edition."""
    if len(frame) < _BEGIN_HEAD.size or frame[0] != _BEGIN:
        raise WireError("no frame with which a message begins")
    _, stream, _, number = _BEGIN_HEAD.unpack_from(frame)
    layout, (kind, id, sender, data) = _opened(frame)
    marks = xxhash.xxh3_128(memoryview(frame)[_BEGIN_HEAD.size :])
    if not number & ~_AGAIN:
        raise WireError("a message without an edition does not go on")
    half = Half(kind, id, sender, data, layout, land(layout.nbytes), marks, number & ~_AGAIN, marks.hexdigest())
    if stream & 1:
        half.receipt = _receipt(data, layout)
    return half


def announced(frame: bytes) -> int:
    """Bytes of the payload that a frame says will come, if it is one with which a message begins; else 0."""
    begins = len(frame) >= _BEGIN_HEAD.size and frame[0] == _BEGIN
    return int(_BEGIN_HEAD.unpack_from(frame)[2]) if begins else 0


def signal(what: str, id: str, place: int = 0) -> bytes:
    """The frame of a signal about the message ``id``, such as that it is cancelled."""
    return _SIGNAL_HEAD.pack(_SIGNAL, len(what), place) + f"{what}{id}".encode()


def edition_of(record: Record) -> int:
    """The edition of a message with this body: 63 bits of its receipt, where somebody has made that
    (:func:`hanse.messages.receipt`); else of the XXH3 of its payload, which takes a pass over all of it."""
    if isinstance(record.arrays, Buffered) and record.arrays.receipt:
        return int(record.arrays.receipt[:16], 16) & (_AGAIN - 1) or 1
    state = xxhash.xxh3_64()
    for piece in payload(record):
        state.update(piece)
    return state.intdigest() & (_AGAIN - 1) or 1


def frames(
    message: Message,
    stream: int,
    chunk: int = CHUNK_BYTES,
    edition: int = 0,
    pack: Packer | None = None,
    whole: int = WHOLE_BYTES,
) -> Iterator[bytes]:
    """The frames of a message; made lazily, so a large one is never held twice.

    Args:
        whole: so many bytes with the header, and at most a chunk, are one frame; of those that are compressed, 16 KB.
    """
    arrays = message.body.arrays
    layout = Layout.of(arrays)
    text = header(layout, envelope(message), quoted(message.body.data))
    most = min(chunk, (whole if pack is None else WHOLE_BYTES) - len(text))
    if not edition and 0 < layout.nbytes <= most and len(text) <= WHOLE_HEADER_BYTES:
        found: list[bytes | memoryview] = [text, *stretches(arrays, layout, chunk)]
        digest = _digest_of(found)
        yield b"".join((_WHOLE_HEAD.pack(_WHOLE, stream, len(text), digest), *found))
        return
    yield _BEGIN_HEAD.pack(_BEGIN, stream, layout.nbytes, edition) + text
    if pack is None and 0 < layout.nbytes <= chunk:  # one frame, whether it lies so or is put together
        yield chunk_frame(stream, 0, [*stretches(arrays, layout, chunk)])
        return
    yield from rest(message, stream, chunk, 0, pack)


def rest(
    message: Message, stream: int, chunk: int = CHUNK_BYTES, start: int = 0, pack: Packer | None = None
) -> Iterator[bytes]:
    """The frames of its payload, from the byte ``start`` on; compressed, where ``pack`` is for that."""
    arrays = message.body.arrays
    if pack is None or message.body.nbytes < LEAST_BYTES:
        for offset, found in parts(arrays, chunk, start):
            yield chunk_frame(stream, offset, found)
        return
    widths = Widths(Layout.of(arrays))
    for offset, found in parts(arrays, chunk, start):
        yield packed_frame(stream, offset, found, pack, widths.at(offset))


class Widths:
    """How many bytes a number has at each place of a payload.

    >>> import numpy as np
    >>> widths = Widths(Layout.of({"a": np.zeros(2), "b": np.zeros(4, "u1")}))
    >>> widths.at(0), widths.at(15), widths.at(16)
    (8, 8, 1)
    """

    def __init__(self, layout: Layout) -> None:
        found = sorted((place.offset + place.nbytes, place.dtype.itemsize) for place in layout.places.values())
        self._ends, self._widths = [end for end, _ in found], [width for _, width in found]

    def at(self, offset: int) -> int:
        """Of the number at this byte."""
        return self._widths[bisect.bisect_right(self._ends, offset)]


def packed_frame(stream: int, offset: int, found: Sequence[memoryview], pack: Packer, width: int) -> bytes:
    """The frame of one chunk, compressed where ``pack`` finds that it saves enough.

    Args:
        width: bytes of a number in it.
    """
    raw = found[0] if len(found) == 1 else b"".join(found)
    smaller = pack(raw, width)
    if smaller is None:
        return chunk_frame(stream, offset, found)
    head = _CHUNK_HEAD.pack(_PACKED, stream, offset, xxhash.xxh3_64_intdigest(raw))
    return b"".join((head, bytes([smaller[0]]), smaller[1]))


def begin(message: Message, stream: int, edition: int = 0, again: bool = False) -> bytes:
    """The first frame of a message.

    Args:
        edition: 0: what a lost connection leaves of it is of no use.
        again: it began before, and the rest waits for a signal (``resume``).
    """
    layout = Layout.of(message.body.arrays)
    edition |= _AGAIN if again else 0
    return _BEGIN_HEAD.pack(_BEGIN, stream, layout.nbytes, edition) + header(
        layout, envelope(message), quoted(message.body.data)
    )


def parts(
    arrays: Mapping[str, Array], chunk: int = CHUNK_BYTES, start: int = 0
) -> Iterator[tuple[int, list[memoryview]]]:
    """The payload as it is cut into chunks: offset and bytes, which may lie in several places. Each chunk but
    the last has ``chunk`` bytes, so the same arrays are the same chunks wherever they lie, and from a multiple of
    ``chunk`` on the same as from the start."""
    offset, found, held = start, list[memoryview](), 0
    for stretch in stretches(arrays, Layout.of(arrays), chunk, start):
        while stretch:
            piece, stretch = stretch[: chunk - held], stretch[chunk - held :]
            found.append(piece)
            held += len(piece)
            if held == chunk:
                yield offset, found
                offset, found, held = offset + held, [], 0
    if held:
        yield offset, found


def checksum_of(found: Sequence[memoryview]) -> int:
    """Of the bytes of one chunk, which may lie in several places."""
    if len(found) == 1:
        return xxhash.xxh3_64_intdigest(found[0])
    state = xxhash.xxh3_64()
    for piece in found:
        state.update(piece)
    return state.intdigest()


def _digest_of(found: Sequence[bytes | memoryview]) -> bytes:
    state = xxhash.xxh3_128()
    for piece in found:
        state.update(piece)
    return state.digest()


def edition_by(checksums: Iterable[int]) -> int:
    """The edition of a message whose chunks have these checksums: who makes these anyway needs no pass for it."""
    return xxhash.xxh3_64_intdigest(b"".join(map(_CHECKSUM.pack, checksums))) & (_AGAIN - 1) or 1


def chunk_frame(stream: int, offset: int, found: Sequence[memoryview], checksum: int | None = None) -> bytes:
    """The frame of one chunk; its ``checksum`` where that is known."""
    if checksum is None:
        checksum = checksum_of(found)
    return b"".join((_CHUNK_HEAD.pack(_CHUNK, stream, offset, checksum), *found))


class Assembler:
    """Puts frames together again; messages of several streams may be interleaved.

    Args:
        allocate: where a payload of so many bytes shall land (default: memory).
        limit: the largest payload accepted, in bytes. Checked before anything is allocated.
        halves: of earlier streams, by id and whether it is a reply; what goes on is taken out.
        known: whether the message of an id, edition and header (its XXH3) is in already, wholly.
        receipts: whether the receipt of each reply is made as it comes in.
        keep: what keeps a half that begins with this frame beyond this process, if anything does.
        whole: bytes of a reply in one frame, at most.
        lie: where the payload of one is from here on, which came in memory of its own.

    ``feed`` returns a finished ``Message``, a ``Signal``, ``Repeated``, or None. It raises ``WireError`` for
    anything that is not a well-formed frame; the stream concerned is dropped.

    Attributes:
        mark: recognises the message that was finished last if it comes again: 128 bits over its header
            and the checksums of its chunks, so that nobody needs to read its payload for it.
        newest: the id of the message that began last.
        edition, head: of the message that was finished last, where it has an edition.
        came: bytes of its payload on their way, fewer than it has where they were compressed.
    """

    def __init__(
        self,
        allocate: Allocate = Memory,
        limit: int = MAX_MESSAGE_BYTES,
        halves: MutableMapping[HalfKey, Half] | None = None,
        known: Callable[[str, int, str], bool] = lambda id, edition, head: False,
        receipts: bool = False,
        keep: Callable[[Half, bytes], Keeper | None] = lambda half, frame: None,
        whole: int = WHOLE_BYTES,
        lie: Callable[[memoryview], Buffer] = Memory.of,
    ) -> None:
        self._whole_bytes, self._lie = whole, lie
        self._allocate, self._limit, self._known, self._receipts = allocate, limit, known, receipts
        self._halves, self._keep = {} if halves is None else halves, keep
        self._open: dict[int, Half] = {}
        self._read: tuple[bytes, _Opened | HanseError] | None = None
        self.mark = self.newest = self.head = ""
        self.edition = self.came = 0

    def expected(self, stream: int) -> int:
        """Bytes of the payload of the message that is half in on ``stream``; 0 if there is none."""
        partial = self._open.get(stream)
        return 0 if partial is None else partial.layout.nbytes

    def filled(self, stream: int) -> int:
        """Bytes of it that are in."""
        half = self._open.get(stream)
        return 0 if half is None else half.filled

    def so_far(self, stream: int) -> int:
        """Bytes that it took on their way until now."""
        half = self._open.get(stream)
        return 0 if half is None else half.came

    def waits(self, stream: int) -> bool:
        """Whether its sender waits to be told from which byte on."""
        half = self._open.get(stream)
        return half is not None and half.again

    def halves(self) -> dict[HalfKey, Half]:
        """What can go on with another stream; it is no more in here."""
        found = {(half.id, bool(stream & 1)): half for stream, half in self._open.items() if half.edition}
        self._open.clear()
        return found

    def drop(self, stream: int) -> None:
        """Forget the half of a message that is in; nobody waits for the rest."""
        self._open.pop(stream, None)

    def read_ahead(self, frame: bytes) -> str:
        """Reads the header of a BEGIN frame that is fed next, and returns the id in it; what is wrong with it is told
        then, and the id is "". For a long header, which takes a while, and may be read in another thread."""
        try:
            found = _opened(frame)
            self._read = frame, found
            return found[1][1]
        except HanseError as error:
            self._read = frame, error
            return ""

    def feed(self, frame: bytes) -> Message | Signal | Repeated | None:
        """The message that this frame completes, or a signal; None while more is to come. Raises ``WireError`` for a
        frame that is wrong or out of place, ``Tampered`` where a checksum does not fit."""
        if not frame:
            raise WireError("an empty frame")
        if frame[0] == _WHOLE:
            return self.whole(frame)
        return signal_of(frame) if frame[0] == _SIGNAL else self.part(frame)

    def part(self, frame: bytes) -> Message | Repeated | None:
        """As :meth:`feed`, of a frame that begins a message or goes on with one."""
        if frame[0] == _BEGIN:
            return self._begin(frame)
        if frame[0] in (_CHUNK, _PACKED):
            return self._chunk(frame)
        raise WireError(f"unknown frame type {frame[0]}; is this an older release of hanse?")

    def whole(self, frame: bytes) -> Message:
        """As :meth:`feed`, of a frame that is a message."""
        if len(frame) < _WHOLE_HEAD.size:
            raise WireError("a message in one frame is cut off")
        _, stream, length, checksum = _WHOLE_HEAD.unpack_from(frame)
        if length > WHOLE_HEADER_BYTES or length % 8:  # behind it numbers lie aligned
            raise WireError(
                f"a message in one frame has a header of {length} bytes; at most {WHOLE_HEADER_BYTES}, in eights"
            )
        most = self._whole_bytes if stream & 1 else WHOLE_BYTES
        if len(frame) > most + _WHOLE_HEAD.size:
            raise WireError(f"a message in one frame of {len(frame)} bytes; the largest has {most}")
        content = _aligned(frame)[_WHOLE_HEAD.size :]
        if stream in self._open:
            raise WireError(f"stream {stream} begins twice")
        if xxhash.xxh3_128_digest(content) != checksum:
            raise Tampered("the bytes of a message do not fit their checksum")
        layout, metadata = read_header(content[:length])
        kind, id, sender, data = opened(metadata)
        self.newest, nbytes = id, layout.nbytes
        if nbytes != len(content) - length or nbytes > self._limit:
            raise WireError(f"a message in one frame has {len(content) - length} bytes, its header announces {nbytes}")
        payload, receipt = content[length:], ""
        buffer = Memory.of(payload) if len(frame) <= WHOLE_BYTES else self._lie(payload)
        if stream & 1 and self._receipts:
            made = receipt_of(data, layout)
            made.update(payload)
            receipt = made.hexdigest()
        self.mark, self.edition, self.head, self.came = checksum.hex(), 0, "", nbytes
        came = None if stream & 1 else (kind, data, content[:length])
        return Message(kind, id, sender, Record(data, Buffered(layout, buffer, receipt, came)))

    def _begin(self, frame: bytes) -> Message | Repeated | None:
        if len(frame) < _BEGIN_HEAD.size:
            raise WireError("a BEGIN frame is cut off")
        _, stream, nbytes, number = _BEGIN_HEAD.unpack_from(frame)
        edition, again = number & ~_AGAIN, number >= _AGAIN
        if stream in self._open:
            raise WireError(f"stream {stream} begins twice")
        if nbytes > self._limit:
            raise TooLarge(f"a message of {nbytes} bytes is over the limit of {self._limit}")
        if len(self._open) >= 64:
            raise WireError("more than 64 messages are half in; finish some first")
        ahead, self._read = self._read, None
        found = ahead[1] if ahead is not None and ahead[0] is frame else _opened(frame)
        if isinstance(found, HanseError):
            raise found
        layout, (kind, id, sender, data) = found
        if layout.nbytes != nbytes:
            raise WireError(f"the frame announces {nbytes} bytes, its header {layout.nbytes}")
        marks = xxhash.xxh3_128(memoryview(frame)[_BEGIN_HEAD.size :])
        head = marks.hexdigest() if edition else ""
        self.newest = id
        if again and edition and not stream & 1 and self._known(id, edition, head):
            return Repeated(id, nbytes)
        half = self._halves.pop((id, bool(stream & 1)), None) if edition else None
        if half is None or half.edition != edition or half.head != head:
            half = None  # its room may be needed
            half = Half(kind, id, sender, data, layout, self._allocate(nbytes), marks, edition, head)
            if stream & 1 and self._receipts:
                half.receipt = _receipt(data, layout)
            if edition:
                half.keeper = self._keep(half, frame)
        half.again = again
        if nbytes == 0:
            return self._finished(half)
        self._open[stream] = half
        return None

    def _chunk(self, frame: bytes) -> Message | None:
        if len(frame) < _CHUNK_HEAD.size:
            raise WireError("a CHUNK frame is cut off")
        kind, stream, offset, checksum = _CHUNK_HEAD.unpack_from(frame)
        partial = self._open.get(stream)
        if partial is None:
            raise WireError(f"a chunk for stream {stream}, which has not begun")
        body = memoryview(frame)[_CHUNK_HEAD.size :]
        partial.came += len(body)
        try:
            if kind == _PACKED and body:
                most = min(CHUNK_BYTES, partial.layout.nbytes - partial.filled)
                body = memoryview(unpacked(body[0], body[1:], most))
            if offset != partial.filled or offset + len(body) > partial.layout.nbytes or not body:
                raise WireError(
                    f"{len(body)} bytes at {offset}; expected bytes from {partial.filled} of {partial.layout.nbytes}"
                )
            if xxhash.xxh3_64_intdigest(body) != checksum:
                raise Tampered(f"the bytes at {offset} of message {partial.id!r} do not fit their checksum")
            partial.buffer.write(offset, body)
        except BaseException:
            del self._open[stream]
            raise
        partial.add(body, checksum)
        if partial.filled < partial.layout.nbytes:
            return None
        del self._open[stream]
        return self._finished(partial)

    def _finished(self, partial: Half) -> Message:
        self.mark, self.edition, self.head = partial.marks.hexdigest(), partial.edition, partial.head
        self.came = partial.came
        partial.buffer.seal()
        if partial.keeper is not None:
            partial.keeper.over()
        receipt = "" if partial.receipt is None else partial.receipt.hexdigest()
        body = Record(partial.data, Buffered(partial.layout, partial.buffer, receipt))
        return Message(partial.kind, partial.id, partial.sender, body)


def _aligned(frame: bytes | memoryview) -> memoryview:
    """A frame whose numbers lie where arrays may: a part of something else may lie anywhere, and is copied."""
    alone = type(frame) is bytes or (isinstance(frame, memoryview) and frame.nbytes == memoryview(frame.obj).nbytes)
    return memoryview(frame if alone else bytes(frame)).toreadonly()


def _receipt(data: Mapping[str, Json], layout: Layout) -> blake3 | HashedBeside:
    made = receipt_of(data, layout)
    return HashedBeside(made) if layout.nbytes >= LARGE_BYTES else made


_Opened = tuple[Layout, tuple[str, str, str, dict[str, Json]]]


def _opened(frame: bytes) -> _Opened:
    layout, metadata = read_header(memoryview(frame)[_BEGIN_HEAD.size :])
    return layout, opened(metadata)


def signal_of(frame: bytes) -> Signal:
    """The signal that a frame is. Raises ``WireError``."""
    if len(frame) < _SIGNAL_HEAD.size:
        raise WireError("a signal is cut off")
    _, letters, place = _SIGNAL_HEAD.unpack_from(frame)
    try:
        said = str(memoryview(frame)[_SIGNAL_HEAD.size :], "utf-8")
    except ValueError:
        raise WireError("a signal is no text") from None
    return Signal(said[:letters], said[letters:], place)
