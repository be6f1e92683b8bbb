"""Waiting in tests, and ending what they start.

A test waits for a condition, and never so long that it must be true by then: a machine that others keep busy is slow
without a fault. ``PATIENCE`` ends what would never come, and says what was seen last.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

Process = TypeVar("Process", bound="subprocess.Popen[Any]")
PATIENCE = 300.0  # seconds; where thirty processes want two cores, one may take a minute to load a library


def until(condition: Callable[[], Any], every: float = 0.05, patience: float = PATIENCE) -> Any:
    """What the condition gives as soon as it is true; it is asked every so many seconds."""
    end = time.monotonic() + patience
    while not (seen := condition()):
        assert time.monotonic() < end, f"not within {patience:g} s; what was seen last is {seen!r}"
        time.sleep(every)
    return seen


async def eventually(condition: Callable[[], Any], every: float = 0.01, patience: float = PATIENCE) -> Any:
    """The same in an event loop; the condition may be a coroutine function."""
    end = time.monotonic() + patience
    while True:
        seen = condition()
        if inspect.isawaitable(seen):
            seen = await seen
        if seen:
            return seen
        assert time.monotonic() < end, f"not within {patience:g} s; what was seen last is {seen!r}"
        await asyncio.sleep(every)


@contextlib.contextmanager
def ending(process: Process) -> Iterator[Process]:
    """The process, killed and waited for at the end if it is there still, with its pipes closed: whatever a test finds
    out, nothing of it is there when the next one begins."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
