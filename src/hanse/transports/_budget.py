"""Where incoming payloads land at the coordinator: in memory up to a budget, then in files."""

from __future__ import annotations

import os

from hanse.messages import Buffer, Memory
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

    def __call__(self, nbytes: int) -> Buffer:
        if self.held + nbytes > self.memory:
            return self.spools.take(nbytes)
        self.held += nbytes
        return Memory(nbytes, memoryview(_Storage(self, nbytes)))


class _Storage(bytearray):
    """Memory that says when nobody views it any more."""

    __slots__ = ("_budget",)

    def __init__(self, budget: Budget, nbytes: int) -> None:
        super().__init__(nbytes)
        self._budget = budget

    def __del__(self) -> None:
        self._budget.held -= len(self)
