"""Where sites of a simulation answer outside this process: places, each with sites of its own and one task at a time.

A site stays in the place that it was given first, where what it remembers lies; its rows are sent when it is first
asked, and what all sites are asked is sent to each place once. Who is in which place changes no result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from hanse import registry
from hanse.errors import from_code
from hanse.experiment.crew import Job
from hanse.experiment.site_process import packed
from hanse.messages import Json, Record
from hanse.table import Table


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
    """

    def __init__(
        self,
        places: Sequence[Place],
        run: str,
        bundle: Mapping[str, Any],
        owner: Mapping[str, Json],
        tables: Mapping[str, Table],
        kept: int | None = None,
    ) -> None:
        begin = {"do": "begin", "run": run, "bundle": bundle, "owner": owner, "ingredients": list(registry.outside())}
        self._all = [_Filled(place, Record(begin), tables, kept) for place in places]
        self._rows = {node: int(about["most_rows"]) for node, about in bundle["datasets"].items()}
        self._of: dict[str, _Filled] = {}

    def answer(self, job: Job) -> asyncio.Future[Record]:
        """The reply, when it is there."""
        node = job.answerer.node
        if node not in self._of:
            self._of[node] = min(self._all, key=lambda place: place.rows)
            self._of[node].rows += max(1, self._rows[node])
        return self._of[node].answer(node, job.task)

    def close(self) -> None:
        """Ends the places, also in the middle of their work."""
        for place in self._all:
            place.close()


class _Filled:
    """A place, and what is there."""

    def __init__(self, place: Place, begin: Record, tables: Mapping[str, Table], kept: int | None) -> None:
        self.rows = 0  # of all its sites
        self._place, self._tables, self._kept = place, tables, kept
        self._there: dict[str, None] = {}  # whose rows it has, least recently asked first
        self._asked_last: object = None  # the arrays of the last task, which the place has too
        self._begin: Record | None = begin
        self._thread = ThreadPoolExecutor(1)  # one request at a time

    def answer(self, node: str, task: Record) -> asyncio.Future[Record]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._asked, node, task)

    def close(self) -> None:
        self._place.close()
        self._thread.shutdown(cancel_futures=True)

    def _asked(self, node: str, task: Record) -> Record:
        if self._begin is not None:
            self._told(self._begin)
            self._begin = None
        if node in self._there:
            self._there[node] = self._there.pop(node)
        else:
            gone = [*self._there][: max(0, 1 + len(self._there) - self._kept)] if self._kept is not None else []
            said, arrays = packed(self._tables[node])
            self._told(Record({"do": "rows", "node": node, "forget": gone, **said}, arrays))
            for other in gone:
                del self._there[other]
            self._there[node] = None
        again = bool(task.arrays) and task.arrays is self._asked_last
        about: dict[str, Json] = {"do": "answer", "node": node, "task": task.data, "again": again}
        self._asked_last = None
        reply = self._told(Record(about, {} if again else task.arrays))
        self._asked_last = task.arrays
        return Record(reply.data["reply"], reply.arrays)

    def _told(self, request: Record) -> Record:
        reply = self._place.told(request)
        if "code" in reply.data:
            raise from_code(str(reply.data["code"]), str(reply.data["message"]))
        return reply
