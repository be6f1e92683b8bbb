"""Spool files that nobody reads any more, kept for a moment for the next payload.

A step leaves as many bytes in files as all its contributions have. The next step's go over them: pages that
are in the page cache already are quicker to fill than fresh ones, several times where the system has to ask a
host for them. Files that no step needs for ``IDLE_SECONDS`` go.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time

from hanse.messages import Spool

IDLE_SECONDS = 10.0
KEPT_FILES = 16
KEPT_BYTES = 1 << 30


class Spools:
    """Makes spool files in ``folder`` (default: the system's temporary folder) and uses them again, as long
    as there is an event loop to let go of them."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = folder
        self._free: list[tuple[float, int, int]] = []  # since when, bytes, descriptor
        self._lock = threading.RLock()  # a payload may be freed in another thread, or inside these methods
        self._timer: asyncio.TimerHandle | None = None

    @property
    def kept_bytes(self) -> int:
        return sum(size for _, size, _ in self._free)

    def take(self, nbytes: int) -> Spool:
        """Room for a payload: the smallest file that has it, else the largest, else a new one."""
        self._watch()
        with self._lock:
            if not self._free:
                return Spool(nbytes, self.folder, done=self._give)
            found = min(self._free, key=lambda kept: (kept[1] < nbytes, abs(kept[1] - nbytes)))
            self._free.remove(found)
        return Spool(nbytes, self.folder, found[2], self._give)

    def _give(self, fd: int) -> None:
        with self._lock:
            if self._timer is None:
                os.close(fd)
                return
            self._free.append((time.monotonic(), os.fstat(fd).st_size, fd))
            while len(self._free) > KEPT_FILES or self.kept_bytes > KEPT_BYTES:
                os.close(self._free.pop(0)[2])

    def _watch(self) -> None:
        if self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._look)
            except RuntimeError:  # no loop: nothing is kept
                return

    def _look(self) -> None:
        with self._lock:
            self._timer = None
            before = time.monotonic() - IDLE_SECONDS
            while self._free and self._free[0][0] <= before:
                os.close(self._free.pop(0)[2])
            if self._free:
                self._watch()

    def __del__(self) -> None:
        for _, _, fd in self._free:
            os.close(fd)
