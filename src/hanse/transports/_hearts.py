"""Signs of life: whoever works on a request of a peer says now and then that the work goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_GAP = 1 / 8  # of the period: a handler that calls progress() in a tight loop sends this often


class Hearts:
    """Every ``period`` seconds calls those that are at work. One timer for all, which runs out where there is no work:
    most work takes so little time that a timer of its own would be a good part of what it costs."""

    def __init__(self, period: float) -> None:
        self.period = period
        self.open: set[Heart] = set()
        self.loop: asyncio.AbstractEventLoop | None = None  # in which they beat
        self._timer: asyncio.TimerHandle | None = None

    def at_work(self, send: Callable[[], None]) -> Heart:
        """Calls ``send`` now and then from here until the heart is taken out of ``open``."""
        heart = Heart(self, send)
        self.open.add(heart)
        if self._timer is None:
            self._wait(self.period)
        return heart

    def beat(self, heart: Heart) -> None:
        """Calls this one now, if it is still at work."""
        if heart in self.open:
            heart.send()

    def _wait(self, seconds: float) -> None:
        self.loop = asyncio.get_running_loop()
        self._timer = self.loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self.open:
            return
        now = time.monotonic()
        for heart in self.open:
            if now >= heart.due:
                heart.due = now + self.period
                heart.send()
        self._wait(max(0.0, min(heart.due for heart in self.open) - now))


class Heart:
    """Of one answer: ``beat`` says, from any thread, that the work goes on."""

    __slots__ = ("_hearts", "_sent", "due", "send")

    def __init__(self, hearts: Hearts, send: Callable[[], None]) -> None:
        self._hearts, self.send = hearts, send
        self._sent = time.monotonic()  # the request itself has just moved
        self.due = self._sent + hearts.period

    def beat(self) -> None:
        now = time.monotonic()
        if now - self._sent >= _GAP * self._hearts.period:
            self._sent = now
            assert self._hearts.loop is not None
            self._hearts.loop.call_soon_threadsafe(self._hearts.beat, self)
