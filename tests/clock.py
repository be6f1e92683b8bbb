"""A clock that has no seconds: what a test says of time is so on a machine that others keep busy, and takes none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from datetime import datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import pytest

Found = TypeVar("Found")


class Jumping(asyncio.SelectorEventLoop):
    """Its time stands still while there is something to do, here or in a thread, and then jumps to the next timer."""

    def __init__(self) -> None:
        self.clock, self.away = 0.0, 0
        super().__init__()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        def back(_: Any) -> None:
            self.away -= 1

        self.away += 1
        found = super().run_in_executor(executor, func, *args)
        found.add_done_callback(back)
        return found

    def time(self) -> float:
        return self.clock

    def _run_once(self) -> None:
        if not self._ready and not self.away:  # type: ignore[attr-defined]
            timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            self.clock = max(self.clock, min(timers, default=0.0))
        super()._run_once()  # type: ignore[misc]


def jumping(main: Coroutine[Any, Any, Found], *modules: ModuleType) -> Found:
    """Runs it on such a loop, which is the clock of these modules too. All that it waits for has to be in this
    process: what comes over a socket is not there when the time has jumped."""
    with asyncio.Runner(loop_factory=Jumping) as runner, pytest.MonkeyPatch.context() as patch:
        now = runner.get_loop().time
        for module in modules:
            patch.setattr(module, "time", SimpleNamespace(monotonic=now, perf_counter=now, time=time.time))
        return runner.run(main)


def off_by(by: timedelta) -> type[datetime]:
    """A clock of days that is off by so much: put in the place of a module's ``datetime``."""

    class Off(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + by

    return Off
