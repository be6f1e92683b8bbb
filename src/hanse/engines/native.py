"""The loop of Hanse itself (:mod:`hanse.rounds`)."""

from __future__ import annotations

from hanse.kinds import State
from hanse.rounds import Loop


async def drive(run: Loop, start: tuple[int, State] | None) -> State:
    return await run.go(start)
