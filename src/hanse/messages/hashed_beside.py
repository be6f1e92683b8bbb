"""A hash of what comes in, made beside what brings it: of a large message it took a tenth of the time in which nothing
else could be decrypted or written."""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from blake3 import blake3

LARGE_BYTES = 64 << 20  # of a message; to hand a piece over takes a tenth of what it takes to hash it
_WAITING = 8  # pieces that are held at most


class HashedBeside:
    """As the BLAKE3 that it is made of; pieces are hashed in a thread, in their order, and must not change."""

    def __init__(self, state: blake3) -> None:
        self._state = state
        self._waiting: deque[Future[object]] = deque()

    def update(self, piece: bytes | memoryview) -> None:
        """These bytes more. Waits where it is far behind."""
        self._waiting.append(_thread().submit(self._state.update, piece))
        while len(self._waiting) > _WAITING:
            self._waiting.popleft().result()

    def hexdigest(self) -> str:
        """Of all that was handed over."""
        while self._waiting:
            self._waiting.popleft().result()
        return self._state.hexdigest()


@functools.cache
def _thread() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, "hanse-hashes")
