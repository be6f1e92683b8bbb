"""The node's workers: one for what Hanse itself computes, and one in a cage for the code of a training plan.

The caged one sees the approved data set, Python and the system's libraries, and nothing else: not the node's folder,
not another data set. It is started for the plan's data set and ended with the run, or when a plan asks for another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from hanse.errors import HanseError, NotAllowed, NotApproved
from hanse.flower.installed import packages
from hanse.messages import Json, Record, loads
from hanse.node import cage, system_calls
from hanse.node.catalogue import Catalogue
from hanse.node.settings import TaskLimits
from hanse.node.worker import Worked, Worker
from hanse.transport import Progress

FOLDER = "cage"  # in the node's home: what the caged worker has in place of it
_REMEMBERED = 64


class Workers:
    """As a :class:`hanse.node.worker.Worker`; plans go to one in a cage.

    Args:
        plain: the worker for what Hanse itself computes; the caged one has its limits, settings and memory.
    """

    def __init__(self, plain: Worker) -> None:
        self.plain, self.home, self.node, self.pool = plain, plain.home, plain.node, plain.pool
        self.caged: Worker | None = None
        self._sees: tuple[str, str] | None = None  # name and version of the data set that it was started for
        self._runs: set[str] = set()  # that the caged one has worked for
        self._changing = asyncio.Lock()
        self._exposed: dict[bool, tuple[str, ...]] = {}  # by whether they have no network
        self._plans: OrderedDict[str, tuple[str, str] | None] = OrderedDict()  # of bundles: the data set of their plan

    # ------------------------------------------------------------ what is so

    @property
    def pid(self) -> int | None:
        """Of the process that works; None while there is none."""
        return self.plain.pid

    @property
    def offline(self) -> bool:
        """Whether the workers have no network."""
        return self.plain.offline

    @property
    def busy(self) -> str | None:
        """The run whose task is in work."""
        return self.plain.busy or (self.caged.busy if self.caged is not None else None)

    @property
    def exposed(self) -> tuple[str, ...]:
        """What the code of a plan could reach here besides the approved data set, in words."""
        offline = self.plain.offline
        if offline not in self._exposed:
            self._exposed[offline] = (
                *(() if offline else ("the network",)),
                *(() if system_calls.available() else ("other programs (its system calls cannot be refused)",)),
                *(() if cage.abi() else ("the other files of this machine (its kernel has no Landlock)",)),
            )
        return self._exposed[offline]

    # ------------------------------------------------------------ what is done

    async def start(self) -> None:
        """Starts the process now, so that the first task need not wait for it."""
        await self.plain.start()

    def known(self, sha256: str) -> dict[str, Json] | None:
        """The facts of a bundle that :meth:`learn` need not wait for; None: of none."""
        return self.plain.known(sha256)

    async def learn(self, text: str, sha256: str) -> dict[str, Json]:
        """The facts of a bundle; no code of a plan runs for them. See :meth:`hanse.node.worker.Worker.learn`."""
        return await self.plain.learn(text, sha256)

    def answer(self, task: Record, text: str, progress: Progress = lambda: None) -> Coroutine[Any, Any, Worked]:
        """The reply to an approved task. Raises as :meth:`hanse.node.worker.Worker.answer`, and ``NotAllowed`` where a
        plan cannot be shut in."""
        of_plan = self._plan(text, task.data["bundle"])
        if of_plan is None:
            return self.plain.answer(task, text, progress)
        return self._shut_in(of_plan, task, text, progress)

    async def _shut_in(self, of_plan: tuple[str, str], task: Record, text: str, progress: Progress) -> Worked:
        worker = await self._caged(of_plan)
        self._runs.add(str(task.data["run"]))
        return await worker.answer(task, text, progress)

    async def forget(self, run: str) -> None:
        """Frees what is kept for a run; with its last run the caged worker ends."""
        await self.plain.forget(run)
        async with self._changing:
            if self.caged is not None and run in self._runs:
                self._runs.discard(run)
                if self._runs:
                    await self.caged.forget(run)
                else:
                    await self._end()

    async def configure(self, limits: TaskLimits, owner: Mapping[str, Json]) -> None:
        """From now on these limits and settings, in fresh processes."""
        self.plain.limits, self.plain.owner = limits, dict(owner)
        async with self._changing:
            await self._end()
        await self.plain.restart()

    async def close(self) -> None:
        """Ends the processes at once."""
        await self.plain.close()
        await self._end()

    # ------------------------------------------------------------ the cage

    def _plan(self, text: str, sha256: str) -> tuple[str, str] | None:
        """The data set (name, version) that a bundle's plan would see; None where it brings no plan."""
        if sha256 not in self._plans:
            content = loads(text)
            found: tuple[str, str] | None = None
            if content["config"].get("plan") is not None:
                bound = content["datasets"].get(self.node)
                if not isinstance(bound, Mapping):
                    raise NotApproved("the bundle names no dataset of this node")
                found = (str(bound["name"]), str(bound["version"]))
            self._plans[sha256] = found
            while len(self._plans) > _REMEMBERED:
                self._plans.popitem(last=False)
        return self._plans[sha256]

    async def _caged(self, wanted: tuple[str, str]) -> Worker:
        async with self._changing:
            if self.caged is None or self._sees != wanted:
                await self._end()
                seen = await asyncio.to_thread(self._room, wanted)
                self.caged = self.plain.caged(self.home / FOLDER, seen)
                self._sees = wanted
            return self.caged

    def _room(self, wanted: tuple[str, str]) -> tuple[Path, ...]:
        """Makes the folder that the caged worker has as its home, with the one data set in its catalogue; what it may
        see. Raises ``NotAllowed`` where that would show more."""
        catalogue, room = Catalogue(self.home), self.home / FOLDER
        shutil.rmtree(room, ignore_errors=True)
        dataset = catalogue.copy(wanted[0], room)
        if dataset.version != wanted[1]:
            raise NotApproved(f"dataset {wanted[0]!r} has changed since it was approved; propose the run again")
        shared = (*cage.python(), *filter(None, [packages()]), *map(Path, cage.SYSTEM))
        others = [d.path for d in catalogue.list() if d.name != dataset.name]
        for what, place, ways in (
            ("the node's folder", self.home, (*shared, dataset.path)),
            *(("another data set", path, (*shared, dataset.path)) for path in others),
        ):
            way = cage.covers(ways, place)
            if way is not None:
                where = "data set that was approved" if way == dataset.path else "Python that runs the node"
                raise NotAllowed(
                    f"a training plan would see {what}, which lies in the folder of the {where}; move it elsewhere"
                )
        return (*shared, dataset.path, room)

    async def _end(self) -> None:
        worker, self.caged, self._sees = self.caged, None, None
        self._runs.clear()
        if worker is not None:
            with contextlib.suppress(HanseError):
                await worker.close()
        shutil.rmtree(self.home / FOLDER, ignore_errors=True)
