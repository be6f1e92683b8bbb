"""HTTP/2 for one call on one connection, as gRPC uses it (RFC 9113, and hpack for RFC 7541); no sockets here.

A general HTTP/2 is written for many short streams, and a small message costs it more than all else a node does. A
node keeps one stream open for as long as it lives: of HTTP/2 this needs the frames, flow control, pings and two
blocks of headers. What a peer may do beyond that is read and answered as the standard says; a second stream is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME = 2 << 20  # bytes of data in one frame that we read
WINDOW = 2 << 20  # bytes that a peer may send before they are taken: a line of 1 Gbit/s and 15 ms stays full
NO_ERROR, PROTOCOL, FLOW_CONTROL, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION, CALM = 0, 1, 3, 6, 7, 8, 9, 11

Fields = Sequence[tuple[str, str]]

_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PROMISE, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _WITH_PRIORITY = 1, 1, 4, 8, 32
_HEAD = struct.Struct(">BHBBL")  # length (high, low), type, flags, stream
_SETTING, _NUMBER, _TWO = struct.Struct(">HL"), struct.Struct(">L"), struct.Struct(">LL")
_TABLE, _PUSH, _STREAMS, _INITIAL, _LARGEST, _LIST = range(1, 7)  # settings
_FIRST_WINDOW, _MOST = 65_535, (1 << 31) - 1
_BLOCK_BYTES, _LIST_BYTES, _TABLE_BYTES = 64 << 10, 64 << 10, 4096
_ANSWERS, _IDLE_FRAMES = 1000, 10_000  # between two looks at whether a peer is there
_IDLE_BYTES = 64  # of one frame count as another one that brings nothing
_OTHER_BYTES = 64 << 10  # of a frame that is read when it is whole


class Broken(Exception):
    """The peer does not keep to HTTP/2; ``code`` is what GOAWAY says."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """One frame.

    >>> frame(6, 0, 0, b"12345678").hex(" ", 1)[:26]
    '00 00 08 06 00 00 00 00 00'
    """
    return _HEAD.pack(len(body) >> 16, len(body) & 0xFFFF, kind, flags, stream) + body


class Session:
    """One end of a connection with one call.

    Args:
        client: the end that opens the call.
        write: takes bytes for the peer.
        headers: told the fields of each block of headers of the call, and whether the peer says no more.
        data: told pieces of the call's body as they come; they are read before it returns.
        reset: told that the peer gave the call up (an error code), or will take no call (None).
        grown: told when ``room`` has grown.
    """

    def __init__(
        self,
        client: bool,
        write: Callable[[bytes], None],
        headers: Callable[[Fields, bool], None],
        data: Callable[[memoryview], None],
        reset: Callable[[int | None], None],
        grown: Callable[[], None],
    ) -> None:
        self._client, self._write = client, write
        self._headers, self._data, self._reset, self._grown = headers, data, reset, grown
        self.stream = 1 if client else 0  # the call's, as soon as there is one
        self.largest = 16_384  # bytes of a frame that the peer reads
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder(_LIST_BYTES)
        self._greeted, self._preface = False, len(PREFACE) if not client else 0
        self._half = bytearray()  # the beginning of a frame
        self.left, self._last = 0, False  # bytes of the DATA frame that is coming in
        self._block: tuple[int, bool, bytearray] | None = None  # headers that go on
        self._initial = _FIRST_WINDOW
        self._room_all, self._room = _FIRST_WINDOW, _FIRST_WINDOW  # bytes that may be sent
        self._credit, self._owed = WINDOW, 0  # bytes that the peer may send, and those that it gets back later
        self._answers = self._idle = 0  # frames that ask for an answer, and that bring nothing, of late

    # ------------------------------------------------------------ what we say

    def start(self) -> None:
        """What each end says first."""
        told = [(_STREAMS, 1)] if not self._client else [(_PUSH, 0)]
        told += [(_INITIAL, WINDOW), (_LARGEST, MAX_FRAME), (_LIST, _LIST_BYTES)]
        first = PREFACE if self._client else b""
        self._write(
            first
            + frame(_SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in told))
            + frame(_WINDOW, 0, 0, _NUMBER.pack(WINDOW - _FIRST_WINDOW))
        )

    def say(self, fields: Fields, end: bool = False) -> None:
        """A block of headers of the call; with ``end`` we say no more."""
        block = self._encoder.encode(list(fields), huffman=False)
        flags = _END_STREAM if end else 0
        pieces = [block[i : i + self.largest] for i in range(0, len(block), self.largest)]
        for number, piece in enumerate(pieces):
            kind = _CONTINUATION if number else _HEADERS
            last = _END_HEADERS if number == len(pieces) - 1 else 0
            self._write(frame(kind, last | (flags if kind == _HEADERS else 0), self.stream, piece))

    @property
    def room(self) -> int:
        """How many bytes of the body may be sent now."""
        return min(self._room, self._room_all)

    def body(self, nbytes: int) -> bytes:
        """What stands before the next ``nbytes`` of the body, at most ``room`` and ``largest``. Much of its window that
        the peer is to get back leaves with them: alone, it would cost a write, and wake the peer."""
        self._room -= nbytes
        self._room_all -= nbytes
        self._idle -= nbytes >> 10  # who gets much has much to say of windows
        head = _HEAD.pack(nbytes >> 16, nbytes & 0xFFFF, _DATA, 0, self.stream)
        return self._back() + head if 4 * self._owed >= WINDOW else head

    def taken(self, nbytes: int) -> None:
        """So many bytes of the body need no room here any more: the peer may send as many, now or soon."""
        self._owed += nbytes
        if 2 * self._owed >= WINDOW:
            self._write(self._back())

    def _back(self) -> bytes:
        owed = _NUMBER.pack(self._owed)
        self._credit += self._owed
        self._owed = 0
        return frame(_WINDOW, 0, 0, owed) + frame(_WINDOW, 0, self.stream, owed)

    def ping(self) -> None:
        """Asks for a sign of life."""
        self._write(frame(_PING, 0, 0, bytes(8)))

    def give_up(self, code: int) -> None:
        """Ends the call, if there is one."""
        if self.stream:
            self._write(frame(_RESET, 0, self.stream, _NUMBER.pack(code)))

    def go_away(self, code: int, reason: str = "") -> None:
        """There will be no other call; the last frame of a connection."""
        self._write(frame(_GOAWAY, 0, 0, _TWO.pack(self.stream, code) + reason.encode()[:200]))

    # ------------------------------------------------------------ what the peer says

    def receive(self, data: memoryview) -> None:
        """Bytes that came in. Raises ``Broken``."""
        if self._half:
            self._half += data
            data, self._half = memoryview(self._half), bytearray()
        place, end = 0, len(data)
        if self._preface:
            place = min(self._preface, end)
            if data[:place] != PREFACE[-self._preface :][:place]:
                raise Broken(PROTOCOL, "this is not HTTP/2")
            self._preface -= place
        while place < end:
            if self.left:
                size = min(self.left, end - place)
                self._data(data[place : place + size])
                place += size
                self.landed(size)
                continue
            if end - place < _HEAD.size:
                break
            high, low, kind, flags, stream = _HEAD.unpack_from(data, place)
            size, stream, begin = high << 16 | low, stream & _MOST, place + _HEAD.size
            if size > MAX_FRAME:
                raise Broken(FRAME_SIZE, f"a frame of {size} bytes")
            if kind == _DATA and stream == self.stream and not flags & _PADDED and self._greeted and not self._block:
                self._spend(size)
                self.left, self._last, place = size, bool(flags & _END_STREAM), begin
                if not size:
                    self._brings_nothing(0)
                if not size and self._last:
                    self._headers((), True)
            elif end - begin >= size:
                self._frame(kind, flags, stream, data[begin : begin + size])
                place = begin + size
            elif size > _OTHER_BYTES:
                raise Broken(CALM, f"a frame of kind {kind} with {size} bytes")
            else:
                break
        if place < end:
            self._half = bytearray(data[place:])

    def landed(self, size: int) -> None:
        """So many bytes of the ``left`` were read by somebody else."""
        self.left -= size
        if not self.left and self._last:
            self._headers((), True)

    def _spend(self, size: int) -> None:
        self._credit -= size
        if self._credit < 0:
            raise Broken(FLOW_CONTROL, "more data than there is room for")

    def _frame(self, kind: int, flags: int, stream: int, body: memoryview) -> None:
        if kind != _DATA:
            self._brings_nothing(len(body))
        if not self._greeted and kind != _SETTINGS:
            raise Broken(PROTOCOL, "the first frame is not SETTINGS")
        if (self._block is not None) != (kind == _CONTINUATION):
            raise Broken(PROTOCOL, "a block of headers is not continued where it should, or where it should not")
        if kind == _DATA:
            self._padded(flags, stream, body)
        elif kind == _HEADERS:
            block = _unpadded(body) if flags & _PADDED else body
            if flags & _WITH_PRIORITY:
                block = block[5:]
            self._fields(stream, bool(flags & _END_STREAM), bytearray(block), bool(flags & _END_HEADERS))
        elif kind == _CONTINUATION:
            assert self._block is not None
            of, last, block_so_far = self._block
            if stream != of or not body:
                raise Broken(PROTOCOL, "a block of headers is continued by another")
            self._fields(of, last, block_so_far + body, bool(flags & _END_HEADERS))
        elif kind == _SETTINGS:
            self._settings(flags, stream, body)
        elif kind == _PING:
            if len(body) != 8 or stream:
                raise Broken(FRAME_SIZE, "a PING of other than 8 bytes")
            if not flags & _ACK:
                self._answer(frame(_PING, _ACK, 0, bytes(body)))
        elif kind == _WINDOW:
            self._window(stream, body)
        elif kind == _RESET:
            if len(body) != 4 or not stream:
                raise Broken(FRAME_SIZE, "a RST_STREAM of other than 4 bytes")
            if stream == self.stream:
                self._reset(_NUMBER.unpack(body)[0])
        elif kind == _GOAWAY:
            if len(body) < 8 or stream:
                raise Broken(FRAME_SIZE, "a GOAWAY that is cut off")
            if self._client and _TWO.unpack_from(body)[0] & _MOST < self.stream:  # a client's is of calls of ours
                self._reset(None)
        elif kind == _PROMISE:
            raise Broken(PROTOCOL, "a PUSH_PROMISE, which nobody wants")

    def _padded(self, flags: int, stream: int, body: memoryview) -> None:
        """DATA with padding, or of a stream that was refused before its end had heard of that."""
        self._spend(len(body))
        if stream != self.stream:
            if not self.stream or stream < self.stream:
                raise Broken(PROTOCOL, f"data of stream {stream}, which is not open")
            self._credit += len(body)
            if body:
                self._answer(frame(_WINDOW, 0, 0, _NUMBER.pack(len(body))))
            return
        piece = _unpadded(body)
        self.taken(len(body) - len(piece))
        if piece:
            self._data(piece)
        else:
            self._brings_nothing(len(body))
        if flags & _END_STREAM:
            self._headers((), True)

    def _fields(self, stream: int, last: bool, block: bytearray, whole: bool) -> None:
        if len(block) > _BLOCK_BYTES:
            raise Broken(CALM, f"more than {_BLOCK_BYTES} bytes of headers")
        self._block = None if whole else (stream, last, block)
        if not whole:
            return
        try:
            read = self._decoder.decode(bytes(block), raw=True)
        except hpack.HPACKError as error:
            raise Broken(COMPRESSION, f"headers that cannot be read ({type(error).__name__})") from None
        if stream != self.stream:
            if self._client or not stream & 1 or stream < self.stream:
                raise Broken(PROTOCOL, f"headers of stream {stream}, which is not open")
            if self.stream:
                self._answer(frame(_RESET, 0, stream, _NUMBER.pack(REFUSED)))
                return
            self.stream = stream
        self._headers([(bytes(n).decode("latin-1"), bytes(v).decode("latin-1")) for n, v, *_ in read], last)

    def _settings(self, flags: int, stream: int, body: memoryview) -> None:
        if stream or len(body) % 6 or (flags & _ACK and (body or not self._greeted)):
            raise Broken(FRAME_SIZE, "SETTINGS that are cut off, or out of place")
        self._greeted = True
        if flags & _ACK:
            return
        for place in range(0, len(body), 6):
            what, value = _SETTING.unpack_from(body, place)
            if what == _TABLE:
                self._encoder.header_table_size = min(value, _TABLE_BYTES)
            elif what == _LARGEST:
                if not 16_384 <= value < 1 << 24:
                    raise Broken(PROTOCOL, f"frames of {value} bytes")
                self.largest = value
            elif what == _INITIAL:
                if value > _MOST:
                    raise Broken(FLOW_CONTROL, f"a window of {value} bytes")
                self._room += value - self._initial
                self._initial = value
                if self._room > _MOST:
                    raise Broken(FLOW_CONTROL, "a window over its limit")
        self._answer(frame(_SETTINGS, _ACK, 0))
        self._grown()

    def _window(self, stream: int, body: memoryview) -> None:
        if len(body) != 4:
            raise Broken(FRAME_SIZE, "a WINDOW_UPDATE of other than 4 bytes")
        more = _NUMBER.unpack(body)[0] & _MOST
        if not more:
            raise Broken(PROTOCOL, "a window that grows by nothing")
        if not stream:
            self._room_all += more
        elif stream == self.stream:
            self._room += more
        if max(self._room, self._room_all) > _MOST:
            raise Broken(FLOW_CONTROL, "a window over its limit")
        self._grown()

    def _brings_nothing(self, nbytes: int) -> None:
        self._idle += 1 + nbytes // _IDLE_BYTES  # to read headers, for one, takes longer the more there are
        if self._idle > _IDLE_FRAMES:
            raise Broken(CALM, "too many frames that bring nothing")

    def _answer(self, answer: bytes) -> None:
        """To what a peer that means well sends now and then. Who sends nothing else wants to keep us busy."""
        self._answers += 1
        if self._answers > _ANSWERS:
            raise Broken(CALM, "too many frames that only ask for an answer")
        self._write(answer)

    def calm(self, written: bool) -> None:
        """Some time has passed: what came until now is forgotten, and what was answered, if it has been ``written``:
        who asks and never reads would else have us keep ever more answers."""
        self._idle = 0
        if written:
            self._answers = 0


def _unpadded(body: memoryview) -> memoryview:
    if not body or body[0] >= len(body):
        raise Broken(PROTOCOL, "more padding than there are bytes")
    return body[1 : len(body) - body[0]]
