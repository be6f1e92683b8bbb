"""The local transport: nodes in this process. The embedded default for simulation and tests.

``wire="references"`` hands records over as they are; ``wire="exact"`` pushes every message through
the real frames and back, so that a test can assert that nothing changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set

from hanse.errors import ConfigError, HanseError, NodeLost, from_code
from hanse.messages import Assembler, Json, Message, Record, frames
from hanse.transport import COORDINATOR, Handler, ManyHandler, Progress


class LocalTransport:
    """Nodes as handlers in this process.

    Args:
        handlers: node id to what answers for it.
        wire: ``references`` or ``exact``.
        many: answers for several of the nodes at once; not used where messages go through frames.
    """

    def __init__(
        self, handlers: Mapping[str, Handler], wire: str = "references", many: ManyHandler | None = None
    ) -> None:
        if wire not in ("references", "exact"):
            raise ConfigError(f"wire is {wire!r}; expected references or exact")
        self._handlers = handlers
        self._online = dict.fromkeys(handlers)
        self._exact = wire == "exact"
        self.many = None if self._exact else many
        self._changes: list[asyncio.Future[None]] = []

    def online(self) -> Set[str]:
        return self._online.keys()

    async def request(self, node: str, message: Message, progress: Progress = lambda: None) -> Message:
        handler = self._handlers.get(node)
        if handler is None:
            raise NodeLost(f"there is no node {node!r} here; there are {', '.join(sorted(self._handlers))}")
        try:
            reply = await handler(COORDINATOR, self._carry(message), progress)
        except HanseError as error:
            if not self._exact:
                raise
            data: dict[str, Json] = {"code": error.code, "message": error.message}
            reply = Message("error", message.id, node, Record(data))
        reply = self._carry(reply)
        if reply.kind == "error":
            raise from_code(str(reply.body.data.get("code")), str(reply.body.data.get("message")))
        return reply

    def _carry(self, message: Message) -> Message:
        if not self._exact:
            return message
        assembler = Assembler()
        arrived = [assembler.feed(frame) for frame in frames(message, 1)][-1]
        assert isinstance(arrived, Message)
        return arrived

    async def changed(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._changes.append(future)
        await future

    def attach(self, node: str, handler: Handler) -> None:
        """Brings a node on line."""
        self._handlers = {**self._handlers, node: handler}
        self._tell_change()

    def detach(self, node: str) -> None:
        """Takes a node off line."""
        self._handlers = {name: handler for name, handler in self._handlers.items() if name != node}
        self._tell_change()

    def _tell_change(self) -> None:
        self._online = dict.fromkeys(self._handlers)
        waiting, self._changes = self._changes, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
