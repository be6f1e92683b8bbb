"""Where a data scientist's program says what its run asks next, and hears when that was answered.

A run whose algorithm awaits what is said (:class:`hanse.kinds.Awaited`) stands here between two steps. What comes back
of a step lies in the run's checkpoint, so whoever asks for it twice gets it twice, also of a coordinator that was
killed between; what is said of one step counts once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass

from hanse.errors import ConfigError, Conflict, NotNow, RunFailed
from hanse.kinds import Ask, Awaited, Done, Who
from hanse.messages import Record


@dataclass(slots=True)
class _Place:
    """A run at the desk: the step that it waits for, or works on where ``said`` is done."""

    step: int
    nodes: Collection[str]
    awaited: Awaited
    said: asyncio.Future[Ask | Done]
    heard: float


class Desk:
    """The runs that are led from outside."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._news = asyncio.Event()

    async def next(
        self, run_id: str, nodes: Collection[str], silence_s: float, step: int, awaited: Awaited
    ) -> Ask | Done:
        """What is said of a step, when it is. Raises ``RunFailed`` where nobody says or asks anything for so long."""
        place = _Place(step, nodes, awaited, asyncio.get_running_loop().create_future(), time.monotonic())
        self._places[run_id] = place
        self._tell()
        while (left := place.heard + silence_s - time.monotonic()) > 0:
            done, _ = await asyncio.wait([place.said], timeout=left)
            if done:
                return place.said.result()
        raise RunFailed(
            f"the program that leads this run said nothing for {silence_s:g} s (wait_timeout_s); was it ended? Propose "
            "the run again"
        )

    def say(self, run_id: str, step: int, said: Record) -> None:
        """Says what a step asks; what was said of it before counts.

        Raises:
            WireError, ConfigError: it is nothing that this run could ask.
            Conflict: the run does not get to that step next.
            NotNow: the run is not here yet.
        """
        place = self._places.get(run_id)
        if place is None:
            raise NotNow("the run does not wait for what to ask next; ask again in a moment")
        place.heard = time.monotonic()
        if step < place.step or (step == place.step and place.said.done()):
            return
        if step > place.step:
            raise Conflict(f"the run is at step {place.step}, and this is said of step {step}")
        ask = place.awaited.ask(said)
        named = set() if isinstance(ask, Done) or isinstance(ask.to, Who) else set(ask.to)
        strangers = sorted(named - set(place.nodes))
        if strangers:
            raise ConfigError(f"{', '.join(strangers)[:200]} is no node of this run")
        place.said.set_result(ask)

    async def step(self, run_id: str, least: int, wait_s: float) -> int | None:
        """The step that the run waits for now, as soon as it is at least that one, or after so long; None: it works, is
        not here, or has ended meanwhile."""
        end, was_here = time.monotonic() + wait_s, False
        while True:
            place, news = self._places.get(run_id), self._news
            if place is not None:
                place.heard, was_here = time.monotonic(), True
            elif was_here:
                return None
            waiting = None if place is None or place.said.done() else place.step
            left = end - time.monotonic()
            if (waiting is not None and waiting >= least) or left <= 0:
                return waiting
            try:
                async with asyncio.timeout(left):
                    await news.wait()
            except TimeoutError:
                continue

    def leave(self, run_id: str) -> None:
        """The run has ended."""
        self._places.pop(run_id, None)
        self._tell()

    def _tell(self) -> None:
        """Wakes who waits, of whatever run; the next ones wait for the next news."""
        self._news.set()
        self._news = asyncio.Event()
