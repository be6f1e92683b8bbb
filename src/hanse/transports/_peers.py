"""The nodes of a coordinator, on a way where each has connections now and then: who is on line, and a link to each."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Coroutine
from typing import Any

from hanse.errors import NodeLost
from hanse.messages import MAX_MESSAGE_BYTES, Json, Message
from hanse.transport import COORDINATOR, Handler, Progress
from hanse.transports import REQUEST_HEADER
from hanse.transports._budget import Budget
from hanse.transports._conduit import Wire
from hanse.transports._kept_halves import AnswerHalves, KeptHalves
from hanse.transports._large_request import Traffic
from hanse.transports._link import REQUEST_LIMIT, Link, Refusal

log = logging.getLogger(__name__)


class Peers:
    """What a coordinator's end knows of its nodes.

    Args:
        handler: answers what nodes ask.
        refused: told (node, what, detail) of what was not accepted.
        budget: where incoming payloads land.
        traffic: what the links share.
        limit: largest payload, in bytes. ``request_limit``: of a request that comes from a node.
    """

    def __init__(
        self,
        handler: Handler,
        refused: Refusal,
        budget: Budget,
        traffic: Traffic,
        limit: int = MAX_MESSAGE_BYTES,
        request_limit: int = REQUEST_LIMIT,
    ) -> None:
        self._refused, self.budget = refused, budget
        folder = budget.spools.folder
        self._kept = None if folder is None else KeptHalves(folder, again=True)
        self._make = functools.partial(
            Link,
            COORDINATOR,
            handler=handler,
            refused=self.record,
            allocate=budget,
            limit=limit,
            request_limit=request_limit,
            request_header=REQUEST_HEADER,
            traffic=traffic,
        )
        self._links: dict[str, Link] = {}
        self._online: dict[str, object] = {}
        self._change = asyncio.Event()
        self.closed = False

    def online(self) -> frozenset[str]:
        """Ids of the nodes that are connected."""
        return frozenset(self._online)

    async def changed(self) -> None:
        """Returns when ``online()`` next changes."""
        await self._change.wait()

    def request(self, node: str, message: Message, progress: Progress = lambda: None) -> Coroutine[Any, Any, Message]:
        """See :meth:`hanse.transport.Transport.request`. Waits also for a node that is not on line."""
        if self.closed:
            raise NodeLost("the coordinator's transport is stopped")
        return self.link(node).request(message, progress)

    def link(self, node: str) -> Link:
        """The link to a node."""
        if node not in self._links:
            halves = None if self._kept is None else AnswerHalves(self._kept, node)
            self._links[node] = self._make(peer=node, halves=halves)
        return self._links[node]

    def speeds(self, node: str) -> dict[str, Json]:
        """How fast large payloads went last, each way; {} where none has yet."""
        link = self._links.get(node)
        return {} if link is None else link.speeds.told()

    async def serve(self, node: str, wire: Wire) -> str:
        """Serves one connection of a node, until it ends; returns why."""
        if node in self._online:
            self.record(node, "second stream", "the node connected again; its older connection is closed")
        link, me = self.link(node), object()
        self._online[node] = me
        self._notify()
        try:
            return await link.run(wire)
        finally:
            if self._online.get(node) is me:
                del self._online[node]
                self._notify()

    def hang_up(self, node: str, reason: str) -> None:
        """Ends the node's connection; what it was asked waits for the next one."""
        if node in self._links:
            self._links[node].hang_up(reason)

    def disconnect(self, node: str, reason: str) -> None:
        """Ends the node's connection and what it was asked (``NodeLost``), say because it was revoked. It may come back
        if it is let in."""
        link = self._links.pop(node, None)
        if link is not None:
            link.close(reason)

    def close(self, reason: str) -> None:
        """Ends all of them."""
        self.closed = True
        if self._kept is not None:
            self._kept.leave()
        for node in list(self._links):
            self.disconnect(node, reason)

    def record(self, node: str, what: str, detail: str) -> None:
        """Something was not accepted."""
        try:
            self._refused(node, what, detail)
        except Exception:
            log.exception("could not record that %s was refused: %s (%s)", node, what, detail)

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
