"""Where incoming payloads land at the coordinator: in memory up to a budget, then in files."""

from __future__ import annotations

import os
import weakref
from typing import Any

import numpy as np

from hanse.messages import Array, Buffer, Memory
from hanse.transports._spools import Spools

MEMORY_BYTES = 4 << 20  # more is no faster: the page cache is memory too


class Budget:
    """Calling it allocates: memory while all payloads together stay within ``memory`` bytes,
    else an unlinked file, so that peak memory does not grow with the number of nodes.

    Bytes count until the last array that views them is gone.

    >>> budget = Budget(memory=100)
    >>> first = budget(80); type(first).__name__, type(budget(80)).__name__
    ('Memory', 'Spool')
    >>> del first
    >>> budget.held
    0
    """

    def __init__(self, memory: int = MEMORY_BYTES, folder: str | os.PathLike[str] | None = None) -> None:
        self.memory, self.held, self.spools = memory, 0, Spools(folder)
        self._storages: dict[int, tuple[weakref.ref[Any], int]] = {}  # with their bytes

    def __call__(self, nbytes: int) -> Buffer:
        if self.held + nbytes > self.memory:
            return self.spools.take(nbytes)
        return self._in_memory(np.empty(nbytes, np.uint8))

    def lie(self, payload: memoryview) -> Buffer:
        """Where one is from here on that came in memory of its own: there, or in a file."""
        if self.held + len(payload) > self.memory:
            spool = self.spools.take(len(payload))
            spool.write(0, payload)
            return spool
        return self._in_memory(np.frombuffer(payload, np.uint8))

    def _in_memory(self, storage: Array) -> Memory:
        unseen = weakref.ref(storage, self._gone)
        self._storages[id(unseen)] = unseen, len(storage)
        self.held += len(storage)
        return Memory(len(storage), storage.data)

    def _gone(self, unseen: weakref.ref[Any]) -> None:
        self.held -= self._storages.pop(id(unseen))[1]
