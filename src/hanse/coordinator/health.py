"""Whether a coordinator works, looked at where it matters: a row is written, the port is called, runs have a driver."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hanse.coordinator import registry
from hanse.coordinator.service import Coordinator
from hanse.errors import HanseError
from hanse.store.faults import passing

_log = logging.getLogger(__name__)
_FRESH_S = 2.0  # who asks again sooner is told the same: anybody may ask
_SECONDS = 5.0  # for each look
_TWICE_S = 0.3  # a run that has just begun gets its driver in the next moment
VITAL = ("driver", "listener")  # without these a restart helps; the others are the machine's


@dataclass(frozen=True, slots=True)
class Health:
    """What was found: each look with what is wrong, "" where nothing is. ``warnings``: how many nodes have one."""

    looks: dict[str, str]
    warnings: int
    free_bytes: int
    at: float = field(default_factory=time.monotonic)

    @property
    def ready(self) -> bool:
        """Whether it can do all that it is for."""
        return not any(self.looks.values())

    @property
    def alive(self) -> bool:
        """Whether it needs no restart."""
        return not any(self.looks.get(name) for name in VITAL)

    def wrong(self) -> str:
        """What is wrong, in a line; "" where nothing is."""
        return "; ".join(f"{name}: {said}" for name, said in self.looks.items() if said)


class Examiner:
    """Looks after one coordinator, at most every two seconds.

    Args:
        answers: whether the port for nodes is open (:meth:`hanse.transports.Listener.answers`).
    """

    def __init__(self, it: Coordinator, answers: Callable[[], Awaitable[bool]] | None = None) -> None:
        self._it, self.answers = it, answers
        self._last: Health | None = None
        self._looking = asyncio.Lock()

    async def health(self) -> Health:
        """The latest findings, at most two seconds old."""
        async with self._looking:
            if self._last is None or time.monotonic() - self._last.at > _FRESH_S:
                self._last = await self._look()
            return self._last

    async def _look(self) -> Health:
        free = 0
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self._it.store.folder).free
        looks = {
            "database": await _said(asyncio.to_thread(self._it.store.check_writable)),
            "disk": await _said(self._disk(free)),
            "driver": await _said(self._driver()),
            "listener": await _said(self._listener()),
        }
        return Health(looks, await self._warnings(), free)

    async def _disk(self, free: int) -> str:
        least = self._it.settings.least_free_mb << 20
        return f"{free >> 20} MB are free; {least >> 20} are needed" if free < least else ""

    async def _driver(self) -> str:
        lost = await asyncio.to_thread(self._it.runs.undriven)
        if lost:
            await asyncio.sleep(_TWICE_S)
            lost &= await asyncio.to_thread(self._it.runs.undriven)
        return f"{len(lost)} runs are running and nobody computes them" if lost else ""

    async def _listener(self) -> str:
        if self.answers is None or await self.answers():
            return ""
        return "the port for nodes does not answer"

    async def _warnings(self) -> int:
        try:
            nodes = await asyncio.wait_for(asyncio.to_thread(self._it.store.nodes.list), _SECONDS)
        except Exception:
            return 0  # the look at the database says what is wrong
        return sum(bool(registry.warnings(n) or self._it.clocks.get(n.id)) for n in nodes)


async def _said(look: Awaitable[str | None]) -> str:
    """What a look found; what went wrong with it is a finding, without paths and names."""
    try:
        return await asyncio.wait_for(look, _SECONDS) or ""
    except TimeoutError:
        return f"no answer within {_SECONDS:g} s"
    except HanseError as error:
        return error.code
    except Exception as error:
        fault = passing(error)
        if not fault:
            _log.exception("a look at the coordinator's health failed")
        return "it cannot be written to" if fault else type(error).__name__
