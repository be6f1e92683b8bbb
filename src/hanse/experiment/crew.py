"""Where the sites of a simulation answer: threads, one task each, or the tasks of a cohort of sites together.

Cohorts are of a fixed size, in the order in which sites were asked, so who is computed with whom does not depend on how
many threads there are.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from hanse.answers import Answerer, Asked
from hanse.kinds import Contribution, Site
from hanse.messages import Json, Record, fingerprint
from hanse.stages import answers_of
from hanse.transport import Progress

COHORT = 25  # sites: as quick as more of them, and a thread for every core soon has one


class Job(NamedTuple):
    """Who is asked, and the arguments of :meth:`hanse.answers.Answerer.answer`."""

    answerer: Answerer
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
        run: its name.
        cohort: so many sites that are asked in the same moment answer together; 1: each by itself.
        kept: the most sites that keep their rows at hand when they have answered; None: all.
    """

    def __init__(self, workers: int, run: str, cohort: int = 1, kept: int | None = None) -> None:
        self._pool, self._run, self._cohort, self._kept = ThreadPoolExecutor(workers, f"{run}-site"), run, cohort, kept
        self._awake: dict[str, Answerer] = {}  # that have their rows at hand, least recently asked first
        self._looking = threading.Lock()
        self._moment = Moment(self._begin)

    def answer(self, job: Job) -> asyncio.Future[Record]:
        """The reply, when it is there. To be called in the event loop of the run."""
        if self._cohort == 1:
            return asyncio.get_running_loop().run_in_executor(self._pool, self._alone, job)
        return self._moment.add(job)

    def close(self) -> None:
        """Waits for the threads."""
        self._pool.shutdown()

    def _begin(self, waiting: Sequence[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        for low in range(0, len(waiting), self._cohort):
            cohort = waiting[low : low + self._cohort]
            done = loop.run_in_executor(self._pool, self._together, [job for _, job in cohort])
            done.add_done_callback(functools.partial(tell, [future for future, _ in cohort]))

    def _alone(self, job: Job) -> Record:
        try:
            return job.answerer.answer(job.task, job.bundle, job.progress)
        finally:
            self._answered([job])

    def _together(self, jobs: Sequence[Job]) -> list[Record | Exception]:
        try:
            return together(jobs)
        finally:
            self._answered(jobs)

    def _answered(self, jobs: Sequence[Job]) -> None:
        if self._kept is None:
            return
        with self._looking:
            for job in jobs:
                self._awake.pop(job.answerer.node, None)
                self._awake[job.answerer.node] = job.answerer
            while len(self._awake) > self._kept:
                self._awake.pop(next(iter(self._awake))).rest(self._run)


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


def together(jobs: Sequence[Job]) -> list[Record | Exception]:
    """The replies to tasks of one run, or why there is none, in their order.

    What the algorithm can answer for several sites at once (``answer_many``) is computed at once for those that are
    asked the very same; what fails so is answered one by one, so a failure has the name of its site.
    """
    asked: list[Asked | Exception] = []
    for job in jobs:
        try:
            asked.append(job.answerer.asked(job.task, job.bundle, job.progress))
        except Exception as error:
            asked.append(error)
    cohort = _Cohort([found for found in asked if isinstance(found, Asked)])
    replies: list[Record | Exception] = []
    for job, found in zip(jobs, asked, strict=True):
        try:
            if isinstance(found, Asked):
                answers = functools.partial(cohort.answer, found.terms.algorithm)
                replies.append(job.answerer.reply(found, answers))
            else:
                replies.append(found)
        except Exception as error:
            replies.append(error)
    return replies


class _Cohort:
    """The contributions of sites that are asked the same, computed when the first of them is wanted."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self._left = {one.site.node: one for one in asked}
        self._found: dict[str, Contribution] = {}

    def answer(self, algorithm: Any, site: Site, ask: Record) -> Contribution:
        first = self._left.get(site.node)
        if first is not None:
            self._compute(algorithm, [one for one in self._left.values() if one is first or _same(one.ask, ask)], ask)
        known = self._found.pop(site.node, None)
        if known is not None:
            return known
        alone: Contribution = algorithm.answer(site, ask)
        return alone

    def _compute(self, algorithm: Any, alike: Sequence[Asked], ask: Record) -> None:
        sites = [one.site for one in alike]
        for site in sites:
            del self._left[site.node]
        try:
            self._found |= dict(zip((site.node for site in sites), answers_of(algorithm, sites, ask), strict=True))
        except Exception:  # of one site: which, each of them says by itself
            return


def _same(ask: Record, other: Record) -> bool:
    return (ask.data is other.data and ask.arrays is other.arrays) or fingerprint(ask) == fingerprint(other)
