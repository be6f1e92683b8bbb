"""Who is really on line: connected, greeted, and heard of as lately as the transport's patience asks.

It stands in front of the transport, so whoever counts nodes (a run's ``min_available_nodes``) counts
these and no others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Set

from hanse.errors import HanseError, Refused
from hanse.messages import Json, Message
from hanse.transport import Progress, Transport
from hanse.transports import Patience

_BEATS_PER_S = 50.0  # of all nodes together


class Presence:
    """A :class:`hanse.transport.Transport` that knows who is alive.

    Args:
        transport: the real one.
        patience: of the transport: heartbeats, and how many may be missed. Of more than 500 nodes each beats less often
            than every ten seconds (:attr:`heartbeat_s`), or they would keep the process from what it is for.
        changed: called with (node, is on line) in the event loop.
        declined: called with (node, request, error) where a node's gate said no.
    """

    def __init__(
        self,
        transport: Transport,
        patience: Patience = Patience(),  # noqa: B008 (frozen)
        changed: Callable[[str, bool], None] = lambda node, on: None,
        declined: Callable[[str, Message, HanseError], None] = lambda node, asked, error: None,
    ) -> None:
        self._transport, self._tell, self._declined = transport, changed, declined
        self._patience = patience
        self.heartbeat_s = patience.heartbeat_s
        self._heard: dict[str, float] = {}
        self._greeted: set[str] = set()
        self._busy: dict[str, bool] = {}
        self._seen: frozenset[str] = frozenset()
        self._change, self._poke = asyncio.Event(), asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def _stale_s(self) -> float:
        return self._patience.missed * self.heartbeat_s

    @property
    def _gone_s(self) -> float:
        return self._patience.gone * self.heartbeat_s

    def start(self) -> None:
        """Begins to watch who comes and goes."""
        self._watcher = asyncio.ensure_future(self._watch())

    async def stop(self) -> None:
        """Watches nobody any more."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    # ------------------------------------------------------------ a transport

    def online(self) -> frozenset[str]:
        """Nodes that can be asked now."""
        oldest = time.monotonic() - self._stale_s
        fresh = self._transport.online() & self._greeted
        return frozenset(n for n in fresh if self._heard.get(n, 0.0) > oldest)

    def reaches(self, node: str) -> bool:
        """Whether this node can be asked now; nobody else is looked at."""
        fresh = self._heard.get(node, 0.0) > time.monotonic() - self._stale_s
        return fresh and node in self._greeted and node in self._transport.online()

    async def request(self, node: str, message: Message, progress: Progress = lambda: None) -> Message:
        def moved() -> None:
            self._heard[node] = time.monotonic()
            progress()

        try:
            reply = await self._transport.request(node, message, moved)
        except Refused as error:
            self._heard[node] = time.monotonic()
            self._declined(node, message, error)
            raise
        self._heard[node] = time.monotonic()
        return reply

    async def changed(self) -> None:
        await self._change.wait()

    # ------------------------------------------------------------ what is known of nodes

    def connected(self) -> Set[str]:
        """Nodes with an open stream, also those that have not said hello."""
        return self._transport.online()

    def heard(self, node: str, busy: bool | None = None) -> None:
        """The node gave a sign of life."""
        stale = time.monotonic() - self._heard.get(node, 0.0) > self._stale_s
        self._heard[node] = time.monotonic()
        if busy is not None:
            self._busy[node] = busy
        if stale:
            self._poke.set()

    def greet(self, node: str) -> None:
        """The node said hello on its connection; from now on it can be asked."""
        self._greeted.add(node)
        self.heartbeat_s = max(self.heartbeat_s, len(self._greeted) / _BEATS_PER_S)
        self.heard(node)
        self._poke.set()

    def busy(self, node: str) -> bool:
        """Whether the node is on line and said last that it works on a task."""
        return self._busy.get(node, False) and self.reaches(node)

    def status(self, node: str, last: float | None) -> str:
        """``online``, ``stale`` or ``offline``; ``last``: when it was heard before this process
        began (seconds since 1970), None: never."""
        if node in self._heard:
            silent = time.monotonic() - self._heard[node]
        elif last is not None:
            silent = max(0.0, time.time() - last)
        else:
            return "offline"
        return "online" if silent < self._stale_s else "stale" if silent < self._gone_s else "offline"

    def last_heard(self, node: str, last: float | None) -> float | None:
        """Seconds since 1970."""
        if node not in self._heard:
            return last
        return time.time() - (time.monotonic() - self._heard[node])

    def line(self, node: str) -> Mapping[str, Json]:
        """What the transport measured of the line to a node; {} where it measures nothing."""
        measure = getattr(self._transport, "line", None)
        return {} if measure is None else measure(node)

    def ends(self, node: str) -> tuple[str, str, int] | None:
        """The node's address, and the address and port where it called; None where there is no connection."""
        find = getattr(self._transport, "ends", None)
        return None if find is None else find(node)

    def disconnect(self, node: str, reason: str) -> None:
        """Ends a node's connection, where the transport has connections."""
        end = getattr(self._transport, "disconnect", None)
        if end is not None:
            end(node, reason)

    # ------------------------------------------------------------ watching

    async def _watch(self) -> None:
        while True:
            change = asyncio.ensure_future(self._transport.changed())
            poke = asyncio.ensure_future(self._poke.wait())
            try:
                await asyncio.sleep(0)  # both listen now; what changed before is seen below
                self._compare()
                await asyncio.wait({change, poke}, timeout=self._until_stale(), return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()
                poke.cancel()
                await asyncio.gather(change, poke, return_exceptions=True)
            self._poke.clear()

    def _compare(self) -> None:
        self._greeted &= self._transport.online()  # whoever comes back says hello again
        online = self.online()
        if online == self._seen:
            return
        for node in sorted(online ^ self._seen):
            self._tell(node, node in online)
        self._seen = online
        self._change.set()
        self._change = asyncio.Event()

    def _until_stale(self) -> float | None:
        """Seconds until the next node on line would be stale."""
        if not self._seen:
            return None
        first = min(self._heard.get(node, 0.0) for node in self._seen)
        return max(0.05, first + self._stale_s - time.monotonic() + 0.01)
