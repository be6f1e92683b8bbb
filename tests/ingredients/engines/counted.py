"""An engine in one file: the native loop, which counts what it drove and from where."""

from __future__ import annotations

from hanse.kinds import State
from hanse.rounds import Run

DRIVEN: list[tuple[str, int | None]] = []


async def drive(run: Run, start: tuple[int, State] | None) -> State:
    DRIVEN.append((run.run_id, None if start is None else start[0]))
    return await run.go(start)
