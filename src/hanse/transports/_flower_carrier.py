"""When parcels go to a node: Flower carries a question and its answer, so a node's own words come when it is asked.

An exchange costs Flower some seconds and a new process at the site. So one begins when something is urgent and there is
something to carry, and else more and more rarely.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from hanse.errors import HanseError
from hanse.transports._flower_parcels import Mirror

QUIET_S = 0.1  # after the last file: what belongs together comes together
HOLD_S = 10.0  # an answer waits so long for what the node works on
_LINGER_S = 1.0  # and so long for what a node says at once
_SOONEST_S, _RAREST_S = 2.0, 20.0


async def settled(news: asyncio.Event, seconds: float = QUIET_S, longest: float = 20 * QUIET_S) -> None:
    """Returns when no news has come for so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(longest):
            while True:
                news.clear()
                try:
                    async with asyncio.timeout(seconds):
                        await news.wait()
                except TimeoutError:
                    return


class Carrier:
    """One node's.

    Args:
        mirror: its files.
        exchange: carries a parcel to it; returns its answer. Raises ``HanseError``.
        lost: told why a parcel was not answered, or its answer cannot be used.
        waiting: whether the node was asked something that it has not answered yet.
    """

    def __init__(
        self,
        mirror: Mirror,
        exchange: Callable[[bytes], Awaitable[bytes]],
        lost: Callable[[str], None],
        waiting: Callable[[], bool],
    ) -> None:
        self._mirror, self._exchange, self._lost, self._waiting = mirror, exchange, lost, waiting
        self.news = asyncio.Event()  # files were put there
        self._urgent = True

    def hurry(self) -> None:
        """What is put there now is to be carried at once."""
        self._urgent = True
        self.news.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        gap = _SOONEST_S
        while True:
            await settled(self.news)
            self._urgent = False
            lacking = await asyncio.to_thread(self._mirror.lacking)
            hold_s = HOLD_S if self._waiting() else _LINGER_S if lacking else 0.0
            try:
                parcel = await asyncio.to_thread(self._mirror.packed, hold_s)
                came = await asyncio.to_thread(self._mirror.take, await self._exchange(parcel))
            except (HanseError, OSError) as error:
                self._lost(getattr(error, "message", "") or str(error))
                await asyncio.sleep(gap)
                gap = min(2 * gap, _RAREST_S)
                continue
            gap = _SOONEST_S if came or lacking else min(2 * gap, _RAREST_S)
            await self._next(gap)

    async def _next(self, gap: float) -> None:
        """Returns when the next exchange is to begin."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(gap):
                while True:
                    self.news.clear()
                    if self._waiting() or (self._urgent and len(await asyncio.to_thread(self._mirror.lacking)) > 0):
                        return
                    await self.news.wait()
