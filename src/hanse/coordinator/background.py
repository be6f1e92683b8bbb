"""Work of the coordinator that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hanse.store.faults import passing

T = TypeVar("T")
_RETRY_S, _LONGEST_RETRY_S = 1.0, 30.0  # between attempts
_log = logging.getLogger(__name__)


async def patiently(work: Callable[[], T], what: str) -> T:
    """What ``work`` returns, which is done in a thread: again and again, while the storage fails."""
    delay = _RETRY_S
    while True:
        try:
            return await asyncio.to_thread(work)
        except Exception as error:
            if not (fault := passing(error)):
                raise
            _log.warning("%s waits (%s)", what, fault)
        await asyncio.sleep(delay)
        delay = min(_LONGEST_RETRY_S, 2 * delay)


class Background:
    """Tasks on their own: an error in one is logged, and all end with the coordinator."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs ``work`` on its own."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                _log.exception("a background task of the coordinator failed")

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began

    async def stop(self) -> None:
        """Cancels what is under way, and waits for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
