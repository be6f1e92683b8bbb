"""A bound on what something takes that a busy machine does not reach: by the processor time of the processes below this
one, which is the same whoever else computes, and by the clock only where nothing computes at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psutil

_LOOK_S = 1.0


@contextlib.asynccontextmanager
async def processor_seconds(most: float) -> AsyncIterator[None]:
    """Raises ``TimeoutError`` inside once the processes below this one have computed for so long."""
    inside = asyncio.current_task()
    assert inside is not None
    over = False

    async def look() -> None:
        nonlocal over
        known: dict[tuple[int, float], float] = {}
        while sum(known.values()) < most:
            await asyncio.sleep(_LOOK_S)
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    known[process.pid, process.create_time()] = sum(process.cpu_times()[:2])
        over = True
        inside.cancel()

    looking = asyncio.ensure_future(look())
    try:
        yield
    except asyncio.CancelledError:
        if not over:
            raise
        inside.uncancel()
        raise TimeoutError(f"the processes below this one computed for more than {most:g} s") from None
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
