"""Where the arrays of a record lie: one payload, in memory, in a file, or wherever a carrier puts it.

The places of all arrays in the payload are its :class:`Layout`; the payload itself is a :class:`Buffer`, which the
receiver chooses, and :class:`Buffered` gives its arrays without reading the others.
"""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from hanse.errors import WireError

Array = np.ndarray[Any, np.dtype[Any]]

_FEW_BYTES = 16 << 10
KEPT_LAYOUTS = 256  # the messages of a run have the same: those of trees a hundred, by how many nodes a level has

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("bool"),
}
CODES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """Where one array lies in a payload: ``offset`` in bytes from its start."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    size: int = field(init=False, compare=False, repr=False)  # how many elements the array has
    nbytes: int = field(init=False, compare=False, repr=False)  # how many bytes these take

    def __post_init__(self) -> None:
        size = math.prod(self.shape)  # once: it is looked at far more often than a layout is made
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "nbytes", size * self.dtype.itemsize)


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of all arrays of a record, in the order of the bytes. ``text`` is kept by the header, ``named`` by
    receipts."""

    places: Mapping[str, ArrayPlace]
    nbytes: int
    text: list[str] = field(default_factory=list, compare=False, repr=False)
    named: list[bytes] = field(default_factory=list, compare=False, repr=False)

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> Layout:
        """Where these arrays lie in a payload that holds them in their order."""
        if type(arrays) is not dict:
            found: Layout | None = getattr(arrays, "layout", None)  # of those that are Placed
            if found is not None:
                return found
        return _arranged(tuple([(name, array.dtype, array.shape) for name, array in arrays.items()]))


@lru_cache(KEPT_LAYOUTS)
def _arranged(arrays: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]) -> Layout:
    places: dict[str, ArrayPlace] = {}
    offset = 0
    for name, given, shape in sorted(arrays, key=lambda array: (-array[1].itemsize, array[0])):
        dtype = given.newbyteorder("<")
        if dtype not in CODES:
            raise WireError(
                f"array {name!r} has dtype {given}, which does not travel; "
                f"use one of {', '.join(str(d) for d in CODES)}"
            )
        places[name] = ArrayPlace(dtype, shape, offset)
        offset += places[name].nbytes
    return Layout(places, offset)


class Buffer(Protocol):
    """Where a payload lands. Writes may come in any order; reads come after ``seal``."""

    def write(self, offset: int, chunk: memoryview) -> None:
        """Puts ``chunk`` at this byte. Raises ``WireError`` where it does not fit."""
        ...

    def seal(self) -> None:
        """All has been written; nothing changes any more."""
        ...

    def read(self, offset: int, nbytes: int) -> memoryview:
        """So many bytes from ``offset``, read-only. Raises ``WireError`` where there are not so many."""
        ...


class Memory:
    """A payload in memory; ``read`` gives views without a copy."""

    __slots__ = ("_view",)

    def __init__(self, nbytes: int, storage: memoryview | None = None) -> None:
        if storage is None:  # of a few bytes, an array costs more than they do
            storage = memoryview(bytearray(nbytes)) if nbytes <= _FEW_BYTES else np.empty(nbytes, np.uint8).data
        self._view = storage

    @classmethod
    def of(cls, payload: memoryview) -> Memory:
        """Of a payload that is all there."""
        return cls(len(payload), payload)

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

    Args:
        fd: a file that was used before; what it holds is written over.
        done: gets the descriptor when nobody reads the payload any more.
    """

    __slots__ = ("_done", "_fd", "_nbytes")

    def __init__(
        self,
        nbytes: int,
        folder: str | os.PathLike[str] | None = None,
        fd: int | None = None,
        done: Callable[[int], None] = os.close,
    ) -> None:
        self._nbytes, self._done = nbytes, done
        if fd is None:
            import tempfile  # with what it copies and packs files by; a node has no such file

            fd, path = tempfile.mkstemp(prefix="hanse-", suffix=".spool", dir=folder)
            os.unlink(path)
        self._fd = fd

    def fileno(self) -> int:
        """The descriptor of its file."""
        return self._fd

    def write(self, offset: int, chunk: memoryview) -> None:
        if offset < 0 or offset + len(chunk) > self._nbytes:
            raise WireError(f"{len(chunk)} bytes at {offset} do not fit into {self._nbytes}")
        while chunk:
            done = os.pwrite(self._fd, chunk, offset)
            offset, chunk = offset + done, chunk[done:]

    def seal(self) -> None:
        pass

    def read(self, offset: int, nbytes: int) -> memoryview:
        if offset < 0 or offset + nbytes > self._nbytes:  # behind it may lie what another payload left
            raise WireError(f"{nbytes} bytes at {offset} of a payload that has {self._nbytes}")
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
            self._done(fd)


Allocate = Callable[[int], Buffer]


class Placed(Mapping[str, Array]):
    """Arrays whose places in a payload are known (``layout``), and each of which is made only when it is looked at;
    who inherits it says how a part of one is."""

    __slots__ = ("layout",)

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def __getitem__(self, name: str) -> Array:
        place = self.layout.places[name]
        return self.block(name, 0, place.size).reshape(place.shape)

    def __contains__(self, name: object) -> bool:  # Mapping's own would make the array for it
        return name in self.layout.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.places)

    def __len__(self) -> int:
        return len(self.layout.places)

    @abstractmethod
    def block(self, name: str, start: int, stop: int) -> Array:
        """Elements ``start:stop`` of the flattened array, without reading the rest."""


class Buffered(Placed):
    """Arrays that lie in a ``Buffer``.

    Args:
        receipt: :func:`hanse.messages.receipt` of the record that they came in; "" where nobody has made it.
        came: the kind of the message that they came in, its data and its header, where that is kept: for whoever
            passes it on as it is (:func:`hanse.messages.head_of`).
    """

    __slots__ = ("_buffer", "came", "receipt")

    def __init__(
        self, layout: Layout, buffer: Buffer, receipt: str = "", came: tuple[str, object, memoryview] | None = None
    ) -> None:
        self.layout, self._buffer, self.receipt, self.came = layout, buffer, receipt, came

    @property
    def buffer(self) -> Buffer:
        """Where the payload lies."""
        return self._buffer

    def __getitem__(self, name: str) -> Array:
        place = self.layout.places[name]
        whole = np.frombuffer(self._buffer.read(place.offset, place.nbytes), place.dtype)
        return whole if len(place.shape) == 1 else whole.reshape(place.shape)

    def every(self) -> dict[str, Array]:
        """All of them, for who looks at each anyway."""
        buffer = self._buffer
        if type(buffer) is not Memory:
            return {name: self[name] for name in self.layout.places}
        found, view = {}, buffer._view
        for name, place in self.layout.places.items():
            flat = np.frombuffer(view, place.dtype, place.size, place.offset)
            found[name] = flat if len(place.shape) == 1 else flat.reshape(place.shape)
        return found

    def block(self, name: str, start: int, stop: int) -> Array:
        """Elements ``start:stop`` of the flattened array, without reading the rest."""
        place = self.layout.places[name]
        item = place.dtype.itemsize
        raw = self._buffer.read(place.offset + start * item, (stop - start) * item)
        return np.frombuffer(raw, place.dtype)

    def raw(self, offset: int, nbytes: int) -> memoryview:
        """Payload bytes, as they travel."""
        return self._buffer.read(offset, nbytes)


class Under(Mapping[str, Array]):
    """The arrays whose names begin with ``prefix``, without it; read only when asked for."""

    __slots__ = ("_arrays", "_names", "_prefix")

    def __init__(self, arrays: Mapping[str, Array], prefix: str) -> None:
        self._arrays, self._prefix = arrays, prefix
        self._names = [name[len(prefix) :] for name in arrays if name.startswith(prefix)]

    def __getitem__(self, name: str) -> Array:
        return self._arrays[self._prefix + name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def block(self, name: str, start: int, stop: int) -> Array:
        """Elements ``start:stop`` of the flattened array, without reading the rest where it is spooled."""
        return block(self._arrays, self._prefix + name, start, stop)


def block(arrays: Mapping[str, Array], name: str, start: int, stop: int) -> Array:
    """Elements ``start:stop`` of the flattened array ``name``, wherever it lies."""
    if type(arrays) is not dict:
        own: Callable[[str, int, int], Array] | None = getattr(arrays, "block", None)
        if own is not None:
            return own(name, start, stop)
    return np.ascontiguousarray(arrays[name]).reshape(-1)[start:stop]


def stretches(arrays: Mapping[str, Array], layout: Layout, chunk: int, begin: int = 0) -> Iterator[memoryview]:
    """The payload from its byte ``begin`` on, in the order of its bytes, at most ``chunk`` at a time and never across
    two arrays of memory; only an array that does not lie as it travels is copied."""
    if type(arrays) is Buffered:
        for start in range(begin, layout.nbytes, chunk):
            yield arrays.raw(start, min(chunk, layout.nbytes - start))
        return
    for name, place in layout.places.items():
        if not place.nbytes or place.offset + place.nbytes <= begin:
            continue
        flat = np.ascontiguousarray(arrays[name], dtype=place.dtype).reshape(-1)
        view = flat.view(np.uint8).data
        for start in range(max(0, begin - place.offset), place.nbytes, chunk):
            yield view[start : start + chunk]


def flat(arrays: Mapping[str, Array], layout: Layout) -> bytes | memoryview:
    """All of the payload as one piece, for one that is small."""
    if type(arrays) is Buffered:
        return arrays._buffer.read(0, layout.nbytes)
    return b"".join(stretches(arrays, layout, max(1, layout.nbytes)))
