"""Files of payloads that nobody reads any more, kept for a moment for the next payload.

A step leaves as many bytes in files as all its contributions have. The next step's go over them: pages that
are in the page cache already are quicker to fill than fresh ones, several times where the system has to ask a
host for them. Files that no step needs for ``IDLE_SECONDS`` go.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from hanse.errors import TooLarge
from hanse.messages import Spool

IDLE_SECONDS = 10.0
KEPT_FILES = 16
KEPT_BYTES = 1 << 30

File = TypeVar("File")


class Idle(Generic[File]):
    """Files that nobody reads now, as long as there is an event loop to let go of them. Letting go of a gigabyte of
    pages takes 0.1 s: a thread does it.

    Args:
        close: lets go of some.
        limits: for how many seconds, how many, and how many bytes are kept, now.
    """

    def __init__(self, close: Callable[[Sequence[File]], None], limits: Callable[[], tuple[float, int, int]]) -> None:
        self._close, self._limits = close, limits
        self._free: list[tuple[float, int, File]] = []  # since when, bytes; oldest first
        self._lock = threading.RLock()  # a payload may be freed in another thread, or inside these methods
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None  # for the next look at what is kept

    @property
    def kept_bytes(self) -> int:
        return sum(size for _, size, _ in self._free)

    def take(self, nbytes: int) -> File | None:
        """The smallest that has room for so many bytes, else the largest; None: there is none."""
        with self._lock:
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                self._loop = None
            if not self._free:
                return None
            found = min(self._free, key=lambda kept: (kept[1] < nbytes, abs(kept[1] - nbytes)))
            self._free.remove(found)
            return found[2]

    def give(self, file: File, size: int) -> None:
        """Nobody reads it any more."""
        with self._lock:
            kept = (time.monotonic(), size, file)
            self._free.append(kept)
            try:
                if self._loop is None:
                    raise RuntimeError("nobody would let go of it")
                if self._timer is None or self._over():
                    self._timer = self._loop.call_soon_threadsafe(self._look)
            except RuntimeError:  # the loop was closed
                self._free.remove(kept)
                self._close([file])

    def clear(self) -> None:
        """Lets go of all, at once."""
        with self._lock:
            gone, self._free = [file for _, _, file in self._free], []
        self._close(gone)

    def _over(self) -> bool:
        _, files, nbytes = self._limits()
        return len(self._free) > files or self.kept_bytes > nbytes

    def _look(self) -> None:
        """In the event loop: lets go of what is too old or too much, and looks again when the next will be too old."""
        loop, now, gone = asyncio.get_running_loop(), time.monotonic(), list[File]()
        seconds, _, _ = self._limits()
        with self._lock:
            while self._free and (self._over() or self._free[0][0] <= now - seconds):
                gone.append(self._free.pop(0)[2])
            later = self._free[0][0] + seconds - now if self._free else None
            self._timer = None if later is None else loop.call_later(later, self._look)
        if gone:
            try:
                loop.run_in_executor(None, self._close, gone)
            except RuntimeError:  # the loop ends, and lends no threads any more
                self._close(gone)


class Spools:
    """Makes spool files in ``folder`` (default: the system's temporary folder) and uses them again."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = folder
        self.idle: Idle[int] = Idle(_close, lambda: (IDLE_SECONDS, KEPT_FILES, KEPT_BYTES))

    @property
    def kept_bytes(self) -> int:
        return self.idle.kept_bytes

    def take(self, nbytes: int) -> Spool:
        """Room for a payload: the smallest file that has it, else the largest, else a new one. Raises ``TooLarge``
        where the disk has none: to fail at the end of the transfer would cost all of it, and others theirs."""
        spool = Spool(nbytes, self.folder, self.idle.take(nbytes), self._give)
        check_room(nbytes, os.fstatvfs(spool.fileno()), os.fstat(spool.fileno()).st_size)
        return spool

    def _give(self, fd: int) -> None:
        self.idle.give(fd, os.fstat(fd).st_size)

    def __del__(self) -> None:
        self.idle.clear()


def check_room(nbytes: int, disk: os.statvfs_result, own: int = 0) -> None:
    """Raises ``TooLarge`` where the disk has no room for a payload, of which it holds ``own`` bytes already."""
    free = disk.f_bavail * disk.f_frsize + own
    if nbytes > free:
        raise TooLarge(f"a payload of {nbytes} bytes is on its way, and there is room on disk for {free}")


def _close(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        os.close(fd)
