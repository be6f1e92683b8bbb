"""A node's end of the line to its coordinator, as it is on every way: it begins, asks, says how it goes, and ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from hanse.identity import check_node_id
from hanse.messages import Allocate, Message
from hanse.pace import Pace
from hanse.transport import COORDINATOR, Handler, Progress
from hanse.transports._kept_halves import KeptHalves, TaskHalves
from hanse.transports._link import Link, Refusal

log = logging.getLogger(__name__)

Report = Callable[[str, str], None]  # (what, detail)


class NodeEnd:
    """A :class:`hanse.transports.Line`; who inherits it says how a connection comes about (``_run``).

    Args:
        node: this node's id.
        handler: answers the coordinator's requests.
        allocate: where incoming payloads land.
        report: told (what, detail): ``connected``, ``disconnected``, ``turned away`` (with the coordinator's reason) or
            ``not possible`` (the certificate has expired, ...).
        refused: told of everything from the coordinator that was not accepted.
        limit: largest payload in bytes, both ways.
        alive_every: seconds between signs of life while ``handler`` works.
        pace: when large payloads may leave; None: at once.
        spool: a folder for what is half in when this process ends; None: it begins anew.
    """

    def __init__(
        self,
        node: str,
        handler: Handler,
        *,
        allocate: Allocate,
        report: Report,
        refused: Refusal,
        limit: int,
        alive_every: float,
        pace: Pace | None = None,
        spool: Path | None = None,
    ) -> None:
        self.node, self._report = check_node_id(node), report
        self._kept = None if spool is None else KeptHalves(spool)
        self._link = Link(
            node,
            COORDINATOR,
            handler,
            refused,
            allocate=allocate,
            limit=limit,
            request_limit=limit,
            alive_every=alive_every,
            pace=pace,
            halves=None if self._kept is None else TaskHalves(self._kept, allocate),
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
            self._kept.leaving = True
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
