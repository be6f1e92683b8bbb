"""Payloads that agent and worker share: memory without a name (``memfd``), passed by descriptor.

A model of 100 MB that came over the network lies in such memory from its first byte, and the worker
maps it: it is never copied through a pipe. Pages that exist already and are mapped are several times
as fast to fill as fresh ones, so memory that nobody looks at any more is kept, with its mapping, for the
next payload; at both ends, until the run is over. What is kept and what is in use are never more together than was in
use at once before, so a node needs no more for it than one step takes; and where memory is short, it goes at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
import weakref
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from hanse.errors import WireError
from hanse.messages import Buffer, Memory

INLINE_BYTES = 64 << 10  # up to here a copy through the socket is cheaper than mapping
_KEPT = 3
_KEPT_BYTES = 1 << 30  # or what was in use at once, where that is not too much of the machine's
_SHARE = 3  # a third of what would be available
_WASTE = 4  # reuse memory of at most so many times the size that is needed

Window = np.ndarray[Any, np.dtype[np.uint8]]  # memory that is looked at: alive as long as any view of it


class _Kept(NamedTuple):
    capacity: int
    fd: int
    mapping: mmap.mmap | None


class SharedBuffer:
    """A payload in shared memory (:class:`hanse.messages.Buffer`); ``fd`` is its descriptor.

    ``lent`` is True while the worker may still look at it; then its memory is not used again.
    """

    __slots__ = ("_mapping", "_pool", "_used", "_window", "capacity", "fd", "lent", "nbytes")

    def __init__(
        self,
        nbytes: int,
        fd: int,
        capacity: int,
        pool: SharedPool | None = None,
        *,
        used: bool = False,
        mapping: mmap.mmap | None = None,
    ) -> None:
        self.nbytes, self.fd, self.lent = nbytes, fd, False
        self.capacity, self._pool = capacity, pool
        self._used, self._mapping = used, mapping
        self._window: Window | None = None

    def write(self, offset: int, chunk: memoryview) -> None:
        if offset < 0 or offset + len(chunk) > self.nbytes:
            raise WireError(f"{len(chunk)} bytes at {offset} do not fit into {self.nbytes}")
        if self._used:
            self._map()[offset : offset + len(chunk)] = chunk
        else:
            fill(self.fd, offset, chunk)

    def seal(self) -> None:
        pass

    def fileno(self) -> int:
        """The descriptor of its memory."""
        return self.fd

    def read(self, offset: int, nbytes: int) -> memoryview:
        if self._window is None:
            self._window = np.frombuffer(self._map(), np.uint8, self.capacity)
        return self._window.data[offset : min(offset + nbytes, self.nbytes)].toreadonly()

    def answered(self, fd: int, nbytes: int) -> bool:
        """Whether ``fd`` is this memory too: then its payload is another one from here on, of so many bytes. Raises
        ``WireError`` if it has no room for them."""
        if not os.path.sameopenfile(fd, self.fd):
            return False
        if nbytes > self.capacity:
            raise WireError(f"the worker announced {nbytes} bytes in memory of {self.capacity}")
        self.nbytes = nbytes
        return True

    def _map(self) -> mmap.mmap:
        if self._mapping is None:
            self._mapping = attach(self.fd, self.capacity)
        return self._mapping

    def __del__(self) -> None:
        window = None if self._window is None else weakref.ref(self._window)
        self._window = None
        # if somebody still looks at an array of it, never write there again
        unseen = window is None or window() is None
        if self._pool is not None and self._pool.taken_back(
            self.fd, self.capacity, self._mapping, again=unseen and not self.lent
        ):
            return
        with contextlib.suppress(OSError):
            os.close(self.fd)


class SharedPool:
    """Makes shared memory and keeps a little of it for reuse. ``allocate`` is what an Assembler takes."""

    def __init__(self) -> None:
        self._free: list[_Kept] = []
        self._spare = 0  # bytes of these
        self._in_use = self._most = 0  # bytes, now and at once
        self._lock = threading.RLock()  # a buffer may be freed in another thread, or inside these methods

    def allocate(self, nbytes: int) -> Buffer:
        """Ordinary memory for a small payload, shared memory for a large one."""
        return Memory(nbytes) if nbytes <= INLINE_BYTES else self.shared(nbytes)

    def shared(self, nbytes: int) -> SharedBuffer:
        """Memory for so many bytes: kept from before where some is large enough, else new."""
        if (spare := self.spare(nbytes)) is not None:
            return spare
        fd = make(nbytes)
        with self._lock:
            self._count(nbytes)
            self._trim()  # none of it fitted
        return SharedBuffer(nbytes, fd, nbytes, self)

    def spare(self, nbytes: int) -> SharedBuffer | None:
        """Memory that was used before and fits, if there is any."""
        with self._lock:
            kept = min([kept for kept in self._free if nbytes <= kept.capacity <= _WASTE * nbytes], default=None)
            if kept is None:
                return None
            self._free.remove(kept)
            self._spare -= kept.capacity
            self._count(kept.capacity)
        return SharedBuffer(nbytes, kept.fd, kept.capacity, self, used=True, mapping=kept.mapping)

    def adopt(self, fd: int, nbytes: int) -> SharedBuffer:
        """A buffer around a descriptor that came from the worker. It can no longer shrink, so that no
        read of it can fail half way. Raises ``WireError`` if it is too small or cannot be written to."""
        with self._lock:
            self._count(nbytes)
        buffer = SharedBuffer(nbytes, fd, nbytes, self, used=True)
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError:
            buffer.lent = True
            raise WireError("the worker shared something else than memory") from None
        if os.fstat(fd).st_size < nbytes:
            buffer.lent = True
            raise WireError(f"the worker announced {nbytes} bytes and shared {os.fstat(fd).st_size}")
        if seals & ~(fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL | fcntl.F_SEAL_GROW):
            buffer.lent = True
            raise WireError("the worker shared memory that cannot be written to")
        return buffer

    def _count(self, nbytes: int) -> None:
        """So many bytes more are in use."""
        self._in_use += nbytes
        if self._in_use > self._most:
            self._most = self._in_use

    def taken_back(self, fd: int, capacity: int, mapping: mmap.mmap | None, again: bool) -> bool:
        """This memory is not in use any more; whether it is kept, which it is where it may be used ``again``. The
        oldest is freed where too much is kept."""
        with self._lock:
            self._in_use -= capacity
            if again:
                self._free.append(_Kept(capacity, fd, mapping))
                self._spare += capacity
                if len(self._free) > _KEPT or self._spare > _KEPT_BYTES:
                    self._trim()
        return again

    def _trim(self) -> None:
        most = _KEPT_BYTES
        if self._spare > most:
            would = available() + self._spare  # be available, were nothing kept
            most = max(most, min(self._most - self._in_use, would // _SHARE))
        while len(self._free) > _KEPT or self._spare > most:
            self._spare -= (oldest := self._free.pop(0)).capacity
            os.close(oldest.fd)

    def clear(self) -> None:
        """Give all memory that is kept back to the system."""
        with self._lock:
            self._most, self._spare = self._in_use, 0
            while self._free:
                os.close(self._free.pop().fd)


class Mappings:
    """The worker's end: memory that the agent lends again and again is mapped once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], mmap.mmap] = OrderedDict()

    def window(self, fd: int, nbytes: int) -> Window:
        """The first ``nbytes`` of a descriptor's memory, to be read and written. Raises ``WireError`` if
        there are fewer. It may be used again when the array that this returns is gone, with all its views."""
        return np.frombuffer(self.mapping(fd, nbytes), np.uint8, nbytes)

    def mapping(self, fd: int, nbytes: int) -> mmap.mmap:
        """At least the first ``nbytes`` of a descriptor's memory. Raises ``WireError`` if there are fewer."""
        status = os.fstat(fd)
        key = (status.st_dev, status.st_ino)  # unique as long as the memory is mapped
        mapping = self._kept.pop(key, None)
        if mapping is None or len(mapping) < nbytes:
            mapping = attach(fd, nbytes)
        self._kept[key] = mapping
        while len(self._kept) > _KEPT or sum(map(len, self._kept.values())) > _KEPT_BYTES:
            self._kept.popitem(last=False)
        return mapping

    def clear(self) -> None:
        """Let go of everything; what is still looked at goes with the last look."""
        self._kept.clear()


def available() -> int:
    """Bytes of this machine's memory that can be had without taking anything from a process; 0: it does not say."""
    try:
        with open("/proc/meminfo") as file:
            found = next(line for line in file if line.startswith("MemAvailable:"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return 0


def make(nbytes: int) -> int:
    """The descriptor of fresh shared memory; it may grow, never shrink."""
    fd = os.memfd_create("hanse", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, nbytes)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def fill(fd: int, offset: int, chunk: memoryview) -> None:
    """Writes ``chunk`` at byte ``offset`` of the file ``fd``, wholly."""
    while chunk:  # a write avoids the page faults that filling a mapping would cost
        done = os.pwrite(fd, chunk, offset)
        offset, chunk = offset + done, chunk[done:]


def attach(fd: int, nbytes: int) -> mmap.mmap:
    """A mapping, its pages present. Raises ``WireError`` if there are fewer bytes."""
    if os.fstat(fd).st_size < nbytes:
        raise WireError(f"shared memory of {os.fstat(fd).st_size} bytes; expected {nbytes}")
    return mmap.mmap(fd, nbytes, mmap.MAP_SHARED | mmap.MAP_POPULATE)
