"""Turns of large transfers: one at a time each way, so that memory does not grow with the number of nodes.

What a transfer holds in memory (a chunk being encrypted, a window being read) is 4 MB, so fifty of them
at once are a model or more. Where this process is the bottleneck, one at a time is also no slower than
all at once, and the first nodes can begin to compute.

Where the nodes' lines are the bottleneck, waiting would be a loss: as long as those whose turn it is move
less than ``RATE`` together, one more begins every ``PATIENCE`` seconds. A node that moved nothing for as
long has lost its turn: it may go on, but nobody waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

AT_ONCE = 1
RATE = 96 << 20  # bytes per second; a line of 1 Gbit/s moves a little more
PATIENCE = 0.1  # seconds


Moves = Callable[[], Callable[[], None]]  # called when a payload begins to move; what it returns, when it does no more


class Turn:
    """The right to move one payload. ``release`` it in the end."""

    __slots__ = ("_begin", "_moves", "_progress", "_seen", "_still", "_turns")

    def __init__(self, turns: Turns, begin: Callable[[], None], progress: Callable[[], None], moves: Moves) -> None:
        self._turns, self._begin, self._progress, self._moves = turns, begin, progress, moves
        self._still = _nothing
        self._seen = 0.0  # when it began or moved last

    def moved(self, nbytes: int) -> None:
        """So many bytes went."""
        self._seen = time.monotonic()
        self._turns.moved += nbytes

    def release(self) -> None:
        """It is over, or not wanted any more. Calling it again changes nothing."""
        still, self._still = self._still, _nothing
        still()
        self._turns._over(self)


class Turns:
    """Who may move a large payload in one direction, first come, first served.

    Args:
        at_once: how many move at a time, as long as they move quickly.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.at_once, self.moved = at_once, 0
        self._holders: set[Turn] = set()
        self._waiting: deque[Turn] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._looked, self._moved = 0.0, 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self, begin: Callable[[], None], progress: Callable[[], None], moves: Moves = lambda: _nothing) -> Turn:
        """A place in the row. ``begin`` is called when its turn has come, perhaps at once; ``progress``
        now and then before, because who waits here is not late. ``moves`` is told from then until the release."""
        turn = Turn(self, begin, progress, moves)
        self._waiting.append(turn)
        self._admit()
        return turn

    def _admit(self) -> None:
        while self._waiting and len(self._holders) < self.at_once:
            self._let(self._waiting.popleft())
        if self._waiting and self._timer is None:
            self._look_later()

    def _let(self, turn: Turn) -> None:
        self._holders.add(turn)
        turn._seen = time.monotonic()
        turn._still = turn._moves()
        begin, turn._begin = turn._begin, _nothing  # what it would begin is not held longer than needed
        begin()

    def _over(self, turn: Turn) -> None:
        if turn in self._holders:
            self._holders.remove(turn)
            self._admit()
        elif turn in self._waiting:
            self._waiting.remove(turn)

    def _look_later(self) -> None:
        self._looked, self._moved = time.monotonic(), self.moved
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._look)

    def _look(self) -> None:
        self._timer = None
        for turn in list(self._waiting):
            turn._progress()
        now = time.monotonic()
        silent = {turn for turn in self._holders if now - turn._seen >= PATIENCE}
        self._holders -= silent
        if self._waiting and (silent or self.moved - self._moved < RATE * (now - self._looked)):
            self._let(self._waiting.popleft())
        if self._waiting and self._timer is None:
            self._look_later()


def _nothing() -> None:
    pass
