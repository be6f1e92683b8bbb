"""Where sites of a simulation answer outside this process: places, each with sites of its own and one task at a time.

A site stays in the place that it was given first, where what it remembers lies; its rows are sent when it is first
asked, and what all sites are asked is sent to each place once. Sites that are asked in the same moment are told in one
message, and answer in one, since a message takes longer than a small model takes to train. Who is in which place
changes no result.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from hanse import registry
from hanse.errors import from_code
from hanse.experiment import remembered
from hanse.experiment.crew import Job, Moment, Waiting, tell
from hanse.experiment.site_process import packed
from hanse.experiment.stacked import apart, stacked
from hanse.messages import Json, Record
from hanse.table import Table

_SITES = 25  # in one message: what the message costs is little then, and each place soon has the next
_MESSAGE_BYTES = 2 << 20  # about; a larger message saves nothing, and takes memory at both ends


class Place(Protocol):
    """One place."""

    def told(self, request: Record) -> Record:
        """What :meth:`hanse.experiment.site_process.Sites.told` replies there. Raises ``NodeFailed`` where it ended."""
        ...

    def close(self) -> None:
        """Ends it, also in the middle of its work."""
        ...


class Places:
    """In place of a :class:`hanse.experiment.crew.Crew`.

    Args:
        places: the sites are divided among these.
        run, bundle, owner: what every place is told first: the run's name, the content of its bundle, and the
            settings of the sites' owners.
        tables: site to its rows.
        kept: the most sites whose rows a place keeps; None: all.
        reminded: what sites remember already, and before which step.
    """

    def __init__(
        self,
        places: Sequence[Place],
        run: str,
        bundle: Mapping[str, Any],
        owner: Mapping[str, Json],
        tables: Mapping[str, Table],
        kept: int | None = None,
        reminded: tuple[int, Mapping[str, Record]] = (0, {}),
    ) -> None:
        begin = {"do": "begin", "run": run, "bundle": bundle, "owner": owner, "ingredients": list(registry.outside())}
        self._all = [_Filled(place, Record(begin), tables, kept, reminded) for place in places]
        self._reminded = reminded
        self._rows = {node: int(about["most_rows"]) for node, about in bundle["datasets"].items()}
        self._of: dict[str, _Filled] = {}
        self._moment = Moment(self._begin)

    def answer(self, job: Job) -> asyncio.Future[Record]:
        """The reply, when it is there. To be called in the event loop of the run."""
        return self._moment.add(job)

    async def memories(self, step: int) -> dict[str, Record]:
        """What each site remembers, as it was before ``step``. Raises :class:`hanse.experiment.remembered.Unkept`."""
        told = await asyncio.gather(*(place.memories(step) for place in self._all))
        found: dict[str, Record] = {}
        for reply in told:
            if "unkept" in reply.data:
                raise remembered.Unkept(str(reply.data["unkept"]))
            found |= remembered.apart(reply)
        first, known = self._reminded
        return {**(known if first <= step else {}), **found}

    def close(self) -> None:
        """Ends the places, also in the middle of their work."""
        for place in self._all:
            place.close()

    def _begin(self, waiting: Sequence[Waiting]) -> None:
        of: dict[_Filled, list[Waiting]] = {}
        for one in waiting:
            of.setdefault(self._at(one[1].node), []).append(one)
        for place, theirs in of.items():
            place.begin(theirs)

    def _at(self, node: str) -> _Filled:
        if node not in self._of:
            self._of[node] = min(self._all, key=lambda place: place.rows)
            self._of[node].rows += max(1, self._rows[node])
        return self._of[node]


class _Filled:
    """A place, and what is there."""

    def __init__(
        self,
        place: Place,
        begin: Record,
        tables: Mapping[str, Table],
        kept: int | None,
        reminded: tuple[int, Mapping[str, Record]],
    ) -> None:
        self._step, self._reminded = reminded[0], dict(reminded[1])
        self.rows = 0  # of all its sites
        self._place, self._tables, self._kept = place, tables, kept
        self._there: dict[str, None] = {}  # whose rows it has, least recently asked first
        self._asked_last: object = None  # the arrays of the last task, which the place has too
        self._begin: Record | None = begin
        self._thread = ThreadPoolExecutor(1)  # one request at a time

    def begin(self, waiting: Sequence[Waiting]) -> None:
        """Has the place answer; sites that are asked the very same, several in one message."""
        loop, most = asyncio.get_running_loop(), min(_SITES, self._kept or _SITES)
        for several in _alike(waiting, most):
            nodes = [job.node for _, job in several]
            done = loop.run_in_executor(self._thread, self._asked, nodes, several[0][1].task)
            done.add_done_callback(functools.partial(tell, [future for future, _ in several]))

    def memories(self, step: int) -> asyncio.Future[Record]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._memories, step)

    def _memories(self, step: int) -> Record:
        return (
            remembered.together({}) if self._begin is not None else self._told(Record({"do": "memories", "step": step}))
        )

    def close(self) -> None:
        self._place.close()
        self._thread.shutdown(cancel_futures=True)

    def _asked(self, nodes: Sequence[str], task: Record) -> list[Record | Exception]:
        if self._begin is not None:
            self._told(self._begin)
            self._begin = None
        self._bring(nodes)
        again = bool(task.arrays) and task.arrays is self._asked_last
        about: dict[str, Json] = {"do": "answer", "nodes": list(nodes), "task": task.data, "again": again}
        self._asked_last = None
        reply = self._told(Record(about, {} if again else task.arrays))
        self._asked_last = task.arrays
        return [_of(one) for one in apart(reply)]

    def _bring(self, nodes: Sequence[str]) -> None:
        """The rows of these sites to the place, in messages of a few megabytes."""
        new = [node for node in nodes if node not in self._there]
        for node in nodes:
            if node in self._there:
                self._there[node] = self._there.pop(node)
        packs: list[tuple[str, Record]] = []
        for node in new:
            packs.append((node, Record(*packed(self._tables[node]))))
            if node == new[-1] or sum(rows.nbytes for _, rows in packs) >= _MESSAGE_BYTES:
                gone = [*self._there][: max(0, len(packs) + len(self._there) - self._kept)] if self._kept else []
                about = stacked([rows for _, rows in packs])
                told = {"do": "rows", "nodes": [name for name, _ in packs], "forget": gone, "rows": about.data}
                self._told(Record(told, about.arrays))
                for other in gone:
                    del self._there[other]
                self._there |= dict.fromkeys(name for name, _ in packs)
                packs = []
        if reminded := {node: self._reminded.pop(node) for node in new if node in self._reminded}:
            memories = remembered.together(reminded)
            self._told(Record({"do": "remind", "step": self._step, **memories.data}, memories.arrays))

    def _told(self, request: Record) -> Record:
        reply = self._place.told(request)
        if "code" in reply.data:
            raise _error(reply)
        return reply


def _alike(waiting: Sequence[Waiting], most: int) -> Iterator[list[Waiting]]:
    """Neighbours that are asked the very same, at most so many, and of answers as large as what is asked no more than
    fit into a message of a few megabytes."""
    several: list[Waiting] = []
    for one in waiting:
        task, nbytes = one[1].task, one[1].task.nbytes * (1 + len(several))
        same = several and several[0][1].task.data is task.data and several[0][1].task.arrays is task.arrays
        if several and not (same and len(several) < most and nbytes <= _MESSAGE_BYTES):
            yield several
            several = []
        several.append(one)
    if several:
        yield several


def _of(one: Record) -> Record | Exception:
    return _error(one) if "code" in one.data else Record(one.data["reply"], one.arrays)


def _error(said: Record) -> Exception:
    return from_code(str(said.data["code"]), str(said.data["message"]))
