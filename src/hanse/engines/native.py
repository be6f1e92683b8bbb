"""The loop of Hanse itself (:mod:`hanse.rounds`)."""

from __future__ import annotations

from hanse.kinds import State
from hanse.rounds import Run


async def drive(run: Run, start: tuple[int, State] | None) -> State:
    return await run.go(start)
