"""Payloads that agent and worker share: memory without a name (``memfd``), passed by descriptor.

A model of 100 MB that came over the network lies in such memory from its first byte, and the worker
maps it: it is never copied through a pipe. Pages that exist already are about twice as fast to fill
as fresh ones, so memory that nobody looks at any more is kept for the next payload.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading

from hanse.errors import WireError
from hanse.messages import Buffer, Memory

INLINE_BYTES = 64 << 10  # up to here a copy through the socket is cheaper than mapping
_KEPT = 3
_KEPT_BYTES = 1 << 30
_WASTE = 4  # reuse memory of at most so many times the size that is needed


class SharedBuffer:
    """A payload in shared memory (:class:`hanse.messages.Buffer`); ``fd`` is its descriptor.

    ``lent`` is True while the worker may still look at it; then its memory is not used again.
    """

    __slots__ = ("_map", "_pool", "capacity", "fd", "lent", "nbytes")

    def __init__(self, nbytes: int, fd: int, capacity: int, pool: SharedPool | None = None) -> None:
        self.nbytes, self.fd, self.lent = nbytes, fd, False
        self.capacity, self._pool = capacity, pool
        self._map: mmap.mmap | None = None

    def write(self, offset: int, chunk: memoryview) -> None:
        if offset < 0 or offset + len(chunk) > self.nbytes:
            raise WireError(f"{len(chunk)} bytes at {offset} do not fit into {self.nbytes}")
        fill(self.fd, offset, chunk)

    def seal(self) -> None:
        pass

    def read(self, offset: int, nbytes: int) -> memoryview:
        if self._map is None:
            self._map = attach(self.fd, self.nbytes)
        return memoryview(self._map)[offset : offset + nbytes]

    def __del__(self) -> None:
        pool = self._pool
        if self._map is not None:
            try:
                self._map.close()
            except BufferError:  # somebody still looks at an array of it: never write there again
                pool = None
        if pool is not None and not self.lent:
            pool.give(self.fd, self.capacity)
        else:
            with contextlib.suppress(OSError):
                os.close(self.fd)


class SharedPool:
    """Makes shared memory and keeps a little of it for reuse. ``allocate`` is what an Assembler takes."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []  # capacity, descriptor
        self._lock = threading.RLock()  # a buffer may be freed in another thread, or inside these methods

    def allocate(self, nbytes: int) -> Buffer:
        """Ordinary memory for a small payload, shared memory for a large one."""
        return Memory(nbytes) if nbytes <= INLINE_BYTES else self.shared(nbytes)

    def shared(self, nbytes: int) -> SharedBuffer:
        return self.spare(nbytes) or SharedBuffer(nbytes, make(nbytes), nbytes, self)

    def spare(self, nbytes: int) -> SharedBuffer | None:
        """Memory that was used before and fits, if there is any."""
        with self._lock:
            fitting = [entry for entry in self._free if nbytes <= entry[0] <= _WASTE * nbytes]
            if not fitting:
                return None
            capacity, fd = min(fitting)
            self._free.remove((capacity, fd))
        return SharedBuffer(nbytes, fd, capacity, self)

    def adopt(self, fd: int, nbytes: int) -> SharedBuffer:
        """A buffer around a descriptor that came from the worker. It can no longer shrink, so that no
        read of it can fail half way. Raises ``WireError`` if it is too small."""
        buffer = SharedBuffer(nbytes, fd, os.fstat(fd).st_size, self)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        if os.fstat(fd).st_size < nbytes:
            raise WireError(f"the worker announced {nbytes} bytes and shared {os.fstat(fd).st_size}")
        return buffer

    def give(self, fd: int, capacity: int) -> None:
        with self._lock:
            self._free.append((capacity, fd))
            while len(self._free) > _KEPT or sum(c for c, _ in self._free) > _KEPT_BYTES:
                os.close(self._free.pop(0)[1])

    def clear(self) -> None:
        """Give all memory that is kept back to the system."""
        with self._lock:
            while self._free:
                os.close(self._free.pop()[1])


def make(nbytes: int) -> int:
    """The descriptor of fresh shared memory; it may grow, never shrink."""
    fd = os.memfd_create("hanse", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, nbytes)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def fill(fd: int, offset: int, chunk: memoryview) -> None:
    while chunk:  # a write avoids the page faults that filling a mapping would cost
        done = os.pwrite(fd, chunk, offset)
        offset, chunk = offset + done, chunk[done:]


def attach(fd: int, nbytes: int) -> mmap.mmap:
    """A read-only mapping, its pages present. Raises ``WireError`` if there are fewer bytes."""
    if os.fstat(fd).st_size < nbytes:
        raise WireError(f"shared memory of {os.fstat(fd).st_size} bytes; expected {nbytes}")
    return mmap.mmap(fd, nbytes, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ)
