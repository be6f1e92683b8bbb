"""Who waits at the desk hears of the run that it waits for: of its next step, and of its end."""

from __future__ import annotations

import asyncio

from hanse.coordinator.desk import Desk
from hanse.kinds import Awaited, Done
from tests.waiting import PATIENCE

NOBODY = Awaited(lambda said: Done("over"))


def test_who_waits_hears_of_the_next_step_and_of_the_end_of_its_run_alone() -> None:
    async def body() -> None:
        desk = Desk()
        led = [asyncio.create_task(desk.next("one", ["a"], 3600, 0, NOBODY))]
        await asyncio.sleep(0)
        one, other = (asyncio.create_task(desk.step(run, 1, 3600)) for run in ("one", "other"))
        await asyncio.sleep(0)
        desk.leave("one")
        async with asyncio.timeout(PATIENCE):  # and not when an hour is over
            assert await one is None
            assert not other.done()
            led.append(asyncio.create_task(desk.next("other", ["a"], 3600, 1, NOBODY)))
            assert await other == 1
        for task in led:
            task.cancel()

    asyncio.run(body())
