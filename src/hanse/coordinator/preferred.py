"""Large transfers of a run go before other traffic of the network, where a controller can have it so.

A run never waits for that and never fails for it: a transfer begins at once, what goes wrong is said once and tried
again with the next large transfer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping

from hanse.coordinator.network_controller import NetworkController
from hanse.coordinator.presence import Presence
from hanse.errors import HanseError, NotFound
from hanse.messages import Json, Message
from hanse.transport import Progress

LARGE = 1 << 20  # bytes; what is smaller is through before anybody could be asked
_SECONDS = 600.0  # that is asked for; asked again where it takes longer
_LINGER_S = 1.0  # between the last transfer and the release: the next round begins in a moment
_AGAIN_S = 10.0  # after it could not be done, where the transfer lasts as long

_log = logging.getLogger(__name__)


class Preferring:
    """What of a coordinator's nodes is preferred now.

    Args:
        controller: has the network do it.
        presence: knows at which addresses nodes are.
        note: told (kind, detail) where the controller begins to fail, and where it works again.
    """

    def __init__(
        self, controller: NetworkController, presence: Presence, note: Callable[[str, Mapping[str, Json]], None]
    ) -> None:
        self._controller, self._presence, self._note = controller, presence, note
        self._moving: dict[str, int] = {}  # node to its large transfers that are under way
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._known: set[tuple[str, str, int]] = set()
        self._large: set[str] = set()  # nodes whose last reply was large
        self._idle: dict[str, asyncio.Event] = {}
        self.wrong = ""  # why the controller does not do it; "" where it does

    @contextlib.contextmanager
    def transfer(self, node: str, nbytes: int) -> Iterator[None]:
        """A transfer of so many bytes to a node, and of its answer, lasts as long as the block."""
        if nbytes <= LARGE and node not in self._large:
            yield
            return
        self._moving[node] = self._moving.get(node, 0) + 1
        self._idle.setdefault(node, asyncio.Event()).clear()
        if node not in self._tasks:
            self._tasks[node] = asyncio.create_task(self._keep(node))
        try:
            yield
        finally:
            self._moving[node] -= 1
            if not self._moving[node]:
                self._idle[node].set()

    def answered(self, node: str, nbytes: int) -> None:
        """So large was its reply; the next will be of the like."""
        (self._large.add if nbytes > LARGE else self._large.discard)(node)

    async def stop(self) -> None:
        """Nothing is preferred any more."""
        tasks = list(self._tasks.values())
        for event in self._idle.values():
            event.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, node: str) -> None:
        """Prefers what goes between here and the node, until there was nothing for a moment."""
        try:
            while self._moving[node]:
                ends = self._presence.ends(node)
                if ends is None:  # it has no connection, or comes on a way that has no addresses
                    await self._idle[node].wait()
                    continue
                try:
                    while not await self._over(self._idle[node], await self._prefer(ends)):
                        pass
                finally:
                    with contextlib.suppress(HanseError):  # else it ends when its time is over
                        await self._controller.release(ends[0], ends[1])
        finally:
            del self._tasks[node]

    async def _over(self, idle: asyncio.Event, preferred: bool) -> bool:
        """Waits until it has to be asked again, or is not needed any more; whether it is not."""
        until = asyncio.get_running_loop().time() + (_SECONDS / 2 if preferred else _AGAIN_S)
        while True:
            try:
                async with asyncio.timeout_at(until):
                    await idle.wait()
            except TimeoutError:
                return False
            await asyncio.sleep(_LINGER_S)
            if idle.is_set():
                return True

    async def _prefer(self, ends: tuple[str, str, int]) -> bool:
        client, server, port = ends
        try:
            for attempt in (1, 2):
                if ends not in self._known:
                    await self._controller.register(client, server, port)
                    self._known.add(ends)
                try:
                    await self._controller.prefer(client, server, _SECONDS)
                    break
                except NotFound:
                    self._known.discard(ends)  # it was started anew, and knows nobody
                    if attempt == 2:
                        raise
        except HanseError as error:
            if not self.wrong:
                _log.warning("traffic is not preferred: %s", error.message)
                self._note("network.unavailable", {"reason": error.message})
            self.wrong = error.message
            return False
        if self.wrong:
            self._note("network.available", {})
        self.wrong = ""
        return True


class PreferredTransport:
    """A :class:`hanse.transport.Transport` whose large transfers are preferred."""

    def __init__(self, transport: Presence, preferring: Preferring) -> None:
        self._transport, self._preferring = transport, preferring
        self.online, self.changed = transport.online, transport.changed

    async def request(self, node: str, message: Message, progress: Progress = lambda: None) -> Message:
        """See :meth:`hanse.transport.Transport.request`."""
        with self._preferring.transfer(node, message.body.nbytes):
            reply = await self._transport.request(node, message, progress)
        self._preferring.answered(node, reply.body.nbytes)
        return reply
