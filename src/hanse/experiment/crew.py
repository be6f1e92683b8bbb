"""Where the sites of a simulation answer: threads, one task each, or the tasks of a cohort of sites together.

Cohorts are of a fixed size, in the order in which sites were asked, so who is computed with whom does not depend on how
many threads there are.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from hanse import shared_threads
from hanse.answers import Answerer, Asked, ReadTask, nothing_done, replies
from hanse.experiment.answerers import Answerers
from hanse.experiment.remembered import packed
from hanse.kinds import Contribution, Site
from hanse.messages import Json, Record, fingerprint
from hanse.stages import answers_of
from hanse.transport import Progress

COHORT = 50  # sites: of small models, more of them cost hardly more time than one


class Job(NamedTuple):
    """Which site is asked, and the arguments of :meth:`hanse.answers.Answerer.answer`."""

    node: str
    task: Record
    bundle: Mapping[str, Json]
    progress: Progress


Waiting = tuple[asyncio.Future[Record], Job]


class Moment:
    """Collects what is asked in one moment, and gives all of it to ``begin`` when the event loop comes round."""

    def __init__(self, begin: Callable[[list[Waiting]], None]) -> None:
        self._begin = begin
        self._waiting: list[Waiting] = []

    def add(self, job: Job) -> asyncio.Future[Record]:
        """The reply, when it is there. To be called in the event loop of the run."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Record] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._give)  # when all that are asked now are here
        self._waiting.append((future, job))
        return future

    def _give(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._begin(waiting)


class Crew:
    """The threads of a run.

    Args:
        workers: how many.
        sites: those of the run.
        cohort: so many sites that are asked in the same moment answer together; 1: each by itself.
    """

    def __init__(self, workers: int, sites: Answerers, cohort: int = 1) -> None:
        # a cohort is one task, which the other threads take their part of
        helping = cohort > 1 and workers > 1
        self._helpers = ThreadPoolExecutor(workers, f"{sites.run}-helper") if helping else None
        begin, lent = shared_threads.lend, (self._helpers,)
        self._pool = ThreadPoolExecutor(workers, f"{sites.run}-site", begin, lent)
        self._sites, self._cohort = sites, cohort
        self._moment = Moment(self._begin)

    def answer(self, job: Job) -> asyncio.Future[Record]:
        """The reply, when it is there. To be called in the event loop of the run."""
        if self._cohort == 1:
            return asyncio.get_running_loop().run_in_executor(self._pool, self._alone, job)
        return self._moment.add(job)

    async def answer_many(self, jobs: Sequence[Job]) -> AsyncIterator[tuple[Sequence[Job], list[Record | Exception]]]:
        """What they reply, or why there is nothing: in their order, a cohort at a time. To be called in the event loop
        of the run."""
        loop, size = asyncio.get_running_loop(), self._cohort
        cohorts = [jobs[low : low + size] for low in range(0, len(jobs), size)]
        if len(cohorts) == 1:  # nobody else has anything to do: another thread would only have to be woken, twice
            await asyncio.sleep(0)  # but for what is told of the step before
            try:
                with shared_threads.lent(self._helpers):
                    replies = self._together(jobs)
            except Exception as error:
                replies = [error] * len(jobs)
            yield jobs, replies
            return
        work = [loop.run_in_executor(self._pool, self._together, cohort) for cohort in cohorts]
        for done in work:
            done.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait any more
        for cohort, done in zip(cohorts, work, strict=True):
            try:
                replies = await done
            except Exception as error:
                replies = [error] * len(cohort)
            yield cohort, replies

    async def memories(self, step: int) -> dict[str, Record]:
        """What each site remembers, as it was before ``step``. Raises :class:`hanse.experiment.remembered.Unkept`."""
        return {node: packed(memory) for node, memory in self._sites.memories(step).items()}

    def close(self) -> None:
        """Waits for the threads."""
        self._pool.shutdown()
        if self._helpers is not None:
            self._helpers.shutdown()

    def _begin(self, waiting: Sequence[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        for low in range(0, len(waiting), self._cohort):
            cohort = waiting[low : low + self._cohort]
            done = loop.run_in_executor(self._pool, self._together, [job for _, job in cohort])
            done.add_done_callback(functools.partial(tell, [future for future, _ in cohort]))

    def _alone(self, job: Job) -> Record:
        with self._sites.at_work([job.node]) as (answerer,):
            return answerer.answer(job.task, job.bundle, job.progress)

    def _together(self, jobs: Sequence[Job]) -> list[Record | Exception]:
        with self._sites.at_work([job.node for job in jobs]) as answerers:
            return _replies(answerers, jobs)


def tell(futures: Sequence[asyncio.Future[Record]], done: asyncio.Future[list[Record | Exception]]) -> None:
    """Passes on what was found for several, or why nothing was, to those who still wait."""
    failed = asyncio.CancelledError() if done.cancelled() else done.exception()
    replies: Sequence[Record | BaseException] = [failed] * len(futures) if failed is not None else done.result()
    for future, reply in zip(futures, replies, strict=True):
        if future.done():
            continue
        if isinstance(reply, Record):
            future.set_result(reply)
        elif isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.cancel()


def _replies(answerers: Sequence[Answerer], jobs: Sequence[Job]) -> list[Record | Exception]:
    """The replies to tasks of one run, or why there is none, in their order.

    What the algorithm can answer for several sites at once (``answer_many``) is computed at once for those that are
    asked the very same; what fails so is answered one by one, so a failure has the name of its site.
    """
    asked: list[Asked | Exception] = []
    last: tuple[Record, ReadTask] | None = None
    for answerer, job in zip(answerers, jobs, strict=True):
        try:
            if last is None or last[0] is not job.task:
                last = job.task, ReadTask.of(job.task)
            asked.append(answerer.asked(last[1], job.bundle, job.progress))
        except Exception as error:
            asked.append(error)
    there = [found for found in asked if isinstance(found, Asked)]
    cohort = _Cohort(there)
    if len(there) == len(asked) and (at_once := cohort.replies(answerers, there)) is not None:
        return [*at_once]
    said: list[Record | Exception] = []
    for answerer, found in zip(answerers, asked, strict=True):
        if not isinstance(found, Asked):
            said.append(found)
            continue
        try:
            said.append(answerer.reply(found, cohort.answer))
        except Exception as error:
            said.append(error)
    return said


class _Cohort:
    """The contributions of sites that are asked the same, computed when the first of them is wanted."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self._algorithm: Any = asked[0].terms.algorithm if asked else None  # of the run
        self._left = {one.site.node: one for one in asked}
        self._found: dict[str, Contribution] = {}

    def replies(self, answerers: Sequence[Answerer], asked: Sequence[Asked]) -> list[Record] | None:
        """The replies of all, where they are found at once; None where each is to be found by itself."""
        if not asked or len(self._left) < len(asked) or not nothing_done(asked):
            return None
        found = self._compute(asked, asked[0].task.ask)
        if found is None:
            return None
        try:
            made = replies(answerers, asked, found)
        except Exception:  # of one site: which, each of them says by itself
            made = None
        if made is None:
            self._found |= zip((one.site.node for one in asked), found, strict=True)
        return made

    def answer(self, site: Site, ask: Record) -> Contribution:
        known = self._found.pop(site.node, None)
        if known is not None:
            return known
        first = self._left.get(site.node)
        if first is not None:
            alike = [one for one in self._left.values() if one is first or _same(one.task.ask, ask)]
            found = self._compute(alike, ask)
            if found is not None:
                self._found |= zip((one.site.node for one in alike), found, strict=True)
            known = self._found.pop(site.node, None)
        if known is not None:
            return known
        alone: Contribution = self._algorithm.answer(site, ask)
        return alone

    def _compute(self, alike: Sequence[Asked], ask: Record) -> Sequence[Contribution] | None:
        """What they contribute; None where one of them fails: which, each of them says by itself."""
        sites = [one.site for one in alike]
        for site in sites:
            del self._left[site.node]
        try:
            found = answers_of(self._algorithm, sites, ask)
        except Exception:  # of one site, as above
            return None
        return found if len(found) == len(sites) else None


def _same(ask: Record, other: Record) -> bool:
    same = ask is other or (ask.data is other.data and ask.arrays is other.arrays)
    return same or fingerprint(ask) == fingerprint(other)
