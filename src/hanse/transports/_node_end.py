"""A node's end of the line to its coordinator, as it is on every way: it begins, asks, says how it goes, and ends."""

from __future__ import annotations

import asyncio
import logging

from hanse.identity import check_node_id
from hanse.messages import Message
from hanse.transport import COORDINATOR, Progress
from hanse.transports import Caller
from hanse.transports._kept_halves import KeptHalves, TaskHalves
from hanse.transports._link import Link

log = logging.getLogger(__name__)


class NodeEnd:
    """A :class:`hanse.transports.Line`; who inherits it says how a connection comes about (``_run``).

    Args:
        caller: what the node lends. ``report`` is told ``connected``, ``disconnected``, ``turned away`` (with the
            coordinator's reason) or ``not possible`` (the certificate has expired, ...).
        alive_every: seconds between signs of life while its handler works.
    """

    def __init__(self, caller: Caller, alive_every: float) -> None:
        self.node, self._report = check_node_id(caller.node), caller.report
        self._kept = None if caller.spool is None else KeptHalves(caller.spool)
        self._link = Link(
            caller.node,
            COORDINATOR,
            caller.handler,
            caller.refused,
            allocate=caller.allocate,
            limit=caller.limit,
            request_limit=caller.limit,
            alive_every=alive_every,
            pace=caller.pace,
            halves=None if self._kept is None else TaskHalves(self._kept, caller.allocate),
        )
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to connect, in the running event loop; returns at once."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def connected(self) -> None:
        """Returns when the coordinator has let this node in."""
        await self._up.wait()

    async def request(self, message: Message, progress: Progress = lambda: None) -> Message:
        """Asks the coordinator; waits out connections that break. Raises the coordinator's error, or ``NodeLost`` when
        this node is closed."""
        return await self._link.request(message, progress)

    async def close(self) -> None:
        """Ends the connection, and all work for the coordinator."""
        if self._kept is not None:
            self._kept.leave()
        self._link.close("this node was closed")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        """Connects, again and again, until it is cancelled."""
        raise NotImplementedError

    def _say(self, what: str, detail: str) -> None:
        try:
            self._report(what, detail)
        except Exception:
            log.exception("could not report: %s (%s)", what, detail)
