"""``inbox://NAME``: a whole transport in one file, over two queues of one process for each node.

The smallest that keeps every promise of ``tests/contracts/test_transport.py``: what an exchange is, who is on line,
that a cancelled request cancels the work. Nodes and coordinator must live in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from hanse.errors import ConfigError, HanseError, NodeLost, from_code
from hanse.messages import Message, Record
from hanse.transport import Progress
from hanse.transports import Caller, Hub, Patience

PATIENCE = Patience(heartbeat_s=1.0)
_OPEN: dict[str, Listener] = {}
Deliver = Callable[[Message, Progress], Awaitable[Message]]


def listener(address: str, hub: Hub) -> Listener:
    return Listener(_name(address), hub)


def line(address: str, caller: Caller) -> Line:
    return Line(_name(address), caller)


class Listener:
    def __init__(self, name: str, hub: Hub) -> None:
        self._name, self.hub = name, hub
        self._nodes: dict[str, Line] = {}
        self._change = asyncio.Event()

    async def start(self) -> str:
        if self._name in _OPEN:
            raise ConfigError(f"somebody reads the inbox {self._name!r} already")
        _OPEN[self._name] = self
        return f"inbox://{self._name}"

    def online(self) -> frozenset[str]:
        return frozenset(self._nodes)

    async def changed(self) -> None:
        await self._change.wait()

    async def request(self, node: str, message: Message, progress: Progress = lambda: None) -> Message:
        while node not in self._nodes:
            await self.changed()
        return await _exchange("coordinator", node, self._nodes[node].caller.handler, message, progress)

    def disconnect(self, node: str, reason: str) -> None:
        gone = self._nodes.pop(node, None)
        if gone is not None:
            gone.caller.report("disconnected", reason)
            self._notify()

    async def stop(self) -> None:
        for node in list(self._nodes):
            self.disconnect(node, "the coordinator stops")
        if _OPEN.get(self._name) is self:
            del _OPEN[self._name]

    def enter(self, line: Line) -> None:
        self._nodes[line.caller.node] = line
        self._notify()

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


class Line:
    def __init__(self, name: str, caller: Caller) -> None:
        self._name, self.caller = name, caller
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._enter())

    async def _enter(self) -> None:
        there = _OPEN.get(self._name)
        if there is None:
            self.caller.report("not possible", f"nobody reads the inbox {self._name!r}")
            return
        try:
            said = there.hub.accept(self.caller.node, "")
            if asyncio.iscoroutine(said):
                await said
        except HanseError as error:
            there.hub.refused(self.caller.node, "not accepted", error.message)
            self.caller.report("turned away", error.message)
            return
        there.enter(self)
        self.caller.report("connected", self._name)

    async def request(self, message: Message, progress: Progress = lambda: None) -> Message:
        if self._name not in _OPEN:
            raise NodeLost("the coordinator is gone")
        return await _exchange(self.caller.node, "coordinator", _OPEN[self._name].hub.handler, message, progress)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._name in _OPEN:
            _OPEN[self._name].disconnect(self.caller.node, "this node was closed")


async def _exchange(
    me: str, peer: str, handler: Callable[..., Awaitable[Message]], message: Message, progress: Progress
) -> Message:
    try:
        reply = await handler(me, message, progress)
    except HanseError as error:
        reply = Message("error", message.id, peer, Record({"code": error.code, "message": error.message}))
    if reply.kind == "error":
        raise from_code(str(reply.body.data.get("code")), str(reply.body.data.get("message")))
    return reply


def _name(address: str) -> str:
    return address.removeprefix("inbox://")
