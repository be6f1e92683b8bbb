"""Sites of a simulation that answer in processes of their own, each with one thread of arithmetic.

A site stays in the process that it was given first, where what it remembers lies; its rows are sent when it is first
asked. Who is in which process changes no result.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from hanse import registry
from hanse.errors import NodeFailed, from_code
from hanse.experiment.crew import Job
from hanse.experiment.site_process import packed, receive, send
from hanse.messages import Json, Record
from hanse.table import Table
from hanse.thread_limits import threads


class Processes:
    """In place of a :class:`hanse.experiment.crew.Crew`.

    Args:
        count: so many.
        run, bundle, owner: what every process is told first: the run's name, the content of its bundle, and the
            settings of the sites' owners.
        tables: site to its rows.
        kept: the most sites whose rows a process keeps; None: all.
    """

    def __init__(
        self,
        count: int,
        run: str,
        bundle: Mapping[str, Json],
        owner: Mapping[str, Json],
        tables: Mapping[str, Table],
        kept: int | None = None,
    ) -> None:
        begin = {"do": "begin", "run": run, "bundle": bundle, "owner": owner, "ingredients": list(registry.outside())}
        self._processes = [_Process(Record(begin), tables, kept) for _ in range(count)]
        self._of: dict[str, _Process] = {}

    def answer(self, job: Job) -> asyncio.Future[Record]:
        """The reply, when it is there."""
        node = job.answerer.node
        if node not in self._of:
            self._of[node] = min(self._processes, key=lambda process: process.sites)
            self._of[node].sites += 1
        return self._of[node].answer(node, job.task)

    def close(self) -> None:
        """Ends the processes, also in the middle of their work."""
        for process in self._processes:
            process.close()


class _Process:
    def __init__(self, begin: Record, tables: Mapping[str, Table], kept: int | None) -> None:
        self.sites = 0
        self._tables, self._kept = tables, kept
        self._there: dict[str, None] = {}  # whose rows it has, least recently asked first
        self._begin: Record | None = begin
        self._line, other = socket.socketpair()
        with other:
            environment = {**os.environ, **threads(1), "PYTHONPATH": os.pathsep.join(sys.path)}
            command = [sys.executable, "-m", "hanse.experiment.site_process", str(other.fileno())]
            self._child = subprocess.Popen(command, env=environment, pass_fds=(other.fileno(),))
        self._thread = ThreadPoolExecutor(1)  # one request at a time

    def answer(self, node: str, task: Record) -> asyncio.Future[Record]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._asked, node, task)

    def close(self) -> None:
        self._child.kill()
        self._thread.shutdown(cancel_futures=True)
        self._child.wait()
        self._line.close()

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
        reply = self._told(Record({"do": "answer", "node": node, "task": task.data}, task.arrays))
        return Record(reply.data["reply"], reply.arrays)

    def _told(self, request: Record) -> Record:
        try:
            send(self._line, request)
            reply = receive(self._line)
        except (OSError, EOFError):
            code = self._child.poll()
            raise NodeFailed(
                f"the process that this site is in has ended{'' if code is None else f' ({code})'}"
            ) from None
        if "code" in reply.data:
            raise from_code(str(reply.data["code"]), str(reply.data["message"]))
        return reply
