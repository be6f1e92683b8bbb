"""A large file written past the system's page cache.

Nobody reads a checkpoint soon, so its pages in memory serve nobody: they are made (in a virtual machine the host is
asked for them, at several times the cost of the bytes), written out, and given back, and meanwhile what the next round
needs may have had to go.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_BUFFER_BYTES = 4 << 20
_BLOCK = 4096  # disks want addresses, places and sizes that are multiples of it

Write = Callable[[bytes | memoryview], None]


@contextmanager
def past_cache(fd: int) -> Iterator[Write]:
    """Gives what writes bytes at the end of a new file, one after the other. They are all in the file when the block
    ends, on disk when it is synced. Where the file system cannot do it, they go through its cache."""
    file = _File(fd)
    with mmap.mmap(-1, _BUFFER_BYTES) as room:
        view, held = memoryview(room), 0

        def write(piece: bytes | memoryview) -> None:
            nonlocal held
            rest = memoryview(piece).cast("B")
            while rest:
                taken = min(len(rest), _BUFFER_BYTES - held)
                view[held : held + taken] = rest[:taken]
                held, rest = held + taken, rest[taken:]
                if held == _BUFFER_BYTES:
                    file.write(view)
                    held = 0

        try:
            yield write
            whole = held - held % _BLOCK
            file.write(view[:whole])
            file.through_cache()
            file.write(view[whole:held])
        finally:
            view.release()


class _File:
    def __init__(self, fd: int) -> None:
        self._fd, self._direct = fd, True
        try:
            self._set(os.O_DIRECT)
        except OSError:
            self._direct = False

    def _set(self, flag: int) -> None:
        fcntl.fcntl(self._fd, fcntl.F_SETFL, fcntl.fcntl(self._fd, fcntl.F_GETFL) & ~os.O_DIRECT | flag)

    def through_cache(self) -> None:
        if self._direct:
            self._set(0)
            self._direct = False

    def write(self, data: memoryview) -> None:
        while data:
            try:
                done = os.write(self._fd, data)
            except OSError as error:
                if not self._direct or error.errno != errno.EINVAL:
                    raise
                self.through_cache()
                continue
            data = data[done:]
            if done % _BLOCK:  # what follows has no place that the disk wants
                self.through_cache()
