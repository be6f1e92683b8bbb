"""What a Parquet file says of its size before anything of it is decoded: rows, and bytes of each column's chunks.

The footer is Thrift's compact protocol (parquet.thrift, ``FileMetaData``); all that is not a size is skipped. A library
that decodes allocates what is declared, so a file of a few kilobytes could ask for gigabytes.

Structs as files have them by the ten thousand are found by regular expressions, which are for what the reader below
them does with each struct that they do not fit, byte by byte and many times as slow.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hanse.errors import DataError

MAGIC = b"PAR1"
LARGE_BYTES = 256 << 20  # of a column's chunk, decompressed; more may be that, if the file has its part of it
RATIO = 200  # codecs of Parquet do better on nothing that anybody measured
ROWS, ROWS_PER_BYTE = 1 << 20, 1000  # so many rows, and so many for each byte of the file, may be declared
_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 11, 12
_DEEPEST = 32
LONG = 1 << 18  # bytes of a footer that has structs by the thousand


@dataclass(slots=True)
class Declared:
    """``rows``: of all row groups; ``largest``: decompressed bytes, and bytes on disk, of the column's chunk that asks
    for most, of those that are large."""

    rows: int = 0
    largest: tuple[int, int] = (0, 0)

    def chunk(self, unpacked: int, packed: int) -> None:
        if unpacked > LARGE_BYTES:
            self.largest = max(self.largest, (unpacked, packed), key=lambda pair: pair[0] - RATIO * pair[1])


@dataclass(frozen=True, slots=True)
class _Usual:
    """``struct``: one with no other but small ones in it; ``chunk``: a column's as writers have it, with its sizes."""

    struct: re.Pattern[bytes]
    chunk: re.Pattern[bytes]


@functools.cache
def _patterns() -> _Usual:
    """Nothing is tried twice (``*+``), so a footer that is made to fit badly takes no longer than one that fits."""
    number = rb"(?:[\x80-\xff]{0,8}+[\x00-\x7f])"

    def head(*kinds: int) -> bytes:
        return b"[" + b"".join(b"\\x%02x" % (step << 4 | kind) for step in range(1, 16) for kind in kinds) + b"]"

    def several(count: int, kind: int) -> bytes:
        return b"\\x%02x" % (count << 4 | kind)

    def binary(longest: int) -> bytes:
        return b"(?:" + b"|".join(b"\\x%02x.{%d}" % (n, n) for n in range(longest + 1)) + b")"

    whole = b"|".join(several(n, kind) + number + b"{%d}+" % n for n in range(5) for kind in _INTEGERS)

    def fields(text: bytes, *more: bytes) -> bytes:
        plain = [
            head(*_BOOLEANS),
            head(_BYTE) + b".",
            head(*_INTEGERS) + number,
            head(_DOUBLE) + b".{8}",
            head(_BINARY) + text,
            head(9) + b"(?:" + whole + b"|" + several(1, _BINARY) + text + b")",
        ]
        return b"(?:" + b"|".join([*plain, *more]) + b")*+\\x00"

    inner = fields(binary(64))
    middle = fields(binary(64), head(_STRUCT) + inner)
    listed = b"|".join(several(n, _STRUCT) + b"(?:" + inner + b"){%d}+" % n for n in range(1, 4))
    struct = fields(binary(127), head(_STRUCT) + middle, head(9) + b"(?:" + listed + b")")
    before = (
        rb"\x26" + number + rb"\x1c\x15" + number
    )  # the offset; of its metadata: type, encodings, path, codec, values
    lists = rb"\x19(?:" + whole + rb")\x19" + several(1, _BINARY) + binary(127)
    chunk = before + lists + rb"\x15" + number + rb"\x16" + number + rb"\x16(" + number + rb")\x16(" + number + rb")"
    return _Usual(re.compile(struct, re.DOTALL), re.compile(chunk + struct + inner, re.DOTALL))


def check(path: Path) -> None:
    """Raises ``DataError`` where a file declares so much more than it holds that no table can be meant. One whose
    footer cannot be read is left to the library, which says so."""
    stat = path.stat()
    _check(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(64)
def _check(path: Path, size: int, _: int) -> None:
    """Once for each state of a file: the footer of a table of 40,000 columns takes half a second."""
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or length + 8 > size:
            return
        file.seek(size - 8 - length)
        footer = file.read(length)
    try:
        found = _Footer(footer).declared()
    except (IndexError, ValueError):
        return
    if found.rows > ROWS + ROWS_PER_BYTE * size:
        raise DataError(
            f"{path.name}: {size} bytes declare {found.rows} rows; no table is like that, and reading it would fill "
            "the memory"
        )
    unpacked, packed = found.largest
    if unpacked > LARGE_BYTES and unpacked > RATIO * max(packed, 1):
        raise DataError(
            f"{path.name}: a column declares {unpacked} bytes where the file has {packed}; no table is like that, and "
            "reading it would fill the memory"
        )


class _Footer:
    """Reads one footer. Raises ``IndexError`` or ``ValueError`` where it is none."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._usual = _patterns() if len(data) >= LONG else None  # making them takes as long as a shorter one

    def declared(self) -> Declared:
        found = Declared()
        for field, kind in self._fields():
            if field == 3 and kind in _INTEGERS:
                found.rows = self._integer()
            elif field == 4 and kind in _LISTS:
                for _ in range(self._list()):
                    self._row_group(found)
            else:
                self._skip(kind)
        return found

    def _row_group(self, found: Declared) -> None:
        for field, kind in self._fields():
            if field == 1 and kind in _LISTS:
                for _ in range(self._list()):
                    self._chunk(found)
            else:
                self._skip(kind)

    def _chunk(self, found: Declared) -> None:
        if self._usual and (usual := self._usual.chunk.match(self._data, self._at)):
            self._at = usual.end()
            if 1 << 7 * len(usual[1]) > LARGE_BYTES:  # else its bytes are too few for so large a number
                found.chunk(*(_Footer(size)._integer() for size in usual.groups()))
            return
        for field, kind in self._fields():
            if field == 3 and kind == _STRUCT:
                sizes = {6: 0, 7: 0}
                for inner, of in self._fields():
                    if inner in sizes and of in _INTEGERS:
                        sizes[inner] = self._integer()
                    else:
                        self._skip(of)
                found.chunk(sizes[6], sizes[7])
            else:
                self._skip(kind)

    def _fields(self) -> Iterator[tuple[int, int]]:
        """Number and kind of each field, until the struct ends."""
        last = 0
        while True:
            head = self._data[self._at]
            self._at += 1
            if head == 0:
                return
            step = head >> 4
            last = last + step if step else self._integer()
            yield last, head & 15

    def _list(self) -> int:
        """The number of entries; structs are expected."""
        head = self._data[self._at]
        self._at += 1
        if head & 15 != _STRUCT:
            raise ValueError("not a list of structs")
        return self._counted(head >> 4 if head >> 4 < 15 else self._unsigned())

    def _counted(self, count: int) -> int:
        if count > len(self._data) - self._at:
            raise ValueError("more entries than bytes")
        return count

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number that does not end")

    def _integer(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, kind: int, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise ValueError("too deep")
        if kind in _BOOLEANS:
            return
        if kind == _BYTE:
            self._at += 1
        elif kind in _INTEGERS:
            self._unsigned()
        elif kind == _DOUBLE:
            self._at += 8
        elif kind == _BINARY:
            length = self._counted(self._unsigned())  # moves, so it comes first
            self._at += length
        elif kind in _LISTS:
            head = self._data[self._at]
            self._at += 1
            inner = head & 15
            for _ in range(self._counted(head >> 4 if head >> 4 < 15 else self._unsigned())):
                if inner in _BOOLEANS:
                    self._at += 1
                else:
                    self._skip(inner, depth + 1)
        elif kind == _MAP:
            count = self._counted(self._unsigned())
            if count:
                head = self._data[self._at]
                self._at += 1
                for _ in range(count):
                    self._skip(head >> 4, depth + 1)
                    self._skip(head & 15, depth + 1)
        elif kind == _STRUCT:
            if self._usual and (usual := self._usual.struct.match(self._data, self._at)):
                self._at = usual.end()
                return
            for _, inner in self._fields():
                self._skip(inner, depth + 1)
        else:
            raise ValueError("no kind of Thrift")
