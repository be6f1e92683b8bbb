"""Large transfers of a run go before other traffic of the network, where a controller can have it so.

A run never waits for that and never fails for it: a transfer begins at once, what goes wrong is said once and tried
again with the next large transfer. What is preferred is what goes between two addresses, so nodes that share an address
share it, and it lasts as long as any of them moves something; while they compute it does not, since a network may hold
up other traffic for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hanse.coordinator.network_controller import NetworkController
from hanse.errors import HanseError, NotFound
from hanse.messages import Json

_SECONDS = 600.0  # that is asked for; asked again where it takes longer
_LINGER_S = 1.0  # between the last transfer and the release: the next round begins in a moment
_AGAIN_S = 10.0  # after it could not be done, where the transfer lasts as long
_WRONG = 1000  # pairs of which it is remembered that they cannot be preferred

_log = logging.getLogger(__name__)

Ends = tuple[str, str, int]  # a node's address, and address and port where it called
Pair = tuple[str, str]


@dataclass(slots=True, eq=False)
class _Way:
    """What goes between two addresses."""

    client: str
    server: str
    port: int
    moving: int = 0  # large transfers that are under way
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Preferring:
    """What of a coordinator's nodes is preferred now.

    Args:
        controller: has the network do it.
        ends: of a node's connection; None where it has none, or comes on a way that has no addresses.
        note: told (kind, detail) where the controller begins to fail, and where it works again for all.
    """

    def __init__(
        self,
        controller: NetworkController,
        ends: Callable[[str], Ends | None],
        note: Callable[[str, Mapping[str, Json]], None],
    ) -> None:
        self._controller, self._ends, self._note = controller, ends, note
        self._ways: dict[Pair, _Way] = {}
        self._known: set[Ends] = set()
        self._wrong: dict[Pair, str] = {}  # what is not preferred, and why; until it is

    def moves(self, node: str) -> Callable[[], None]:
        """A large payload begins to move, either way. Returns what is to be called, once, when it does no more."""
        ends = self._ends(node)
        if ends is None:
            return _nothing
        way = self._ways.setdefault(ends[:2], _Way(*ends))
        way.port = ends[2]
        way.moving += 1
        way.idle.clear()
        if way.task is None:
            way.task = asyncio.create_task(self._keep(way))

        def over() -> None:
            way.moving -= 1
            if not way.moving:
                way.idle.set()

        return over

    async def stop(self) -> None:
        """Nothing is preferred any more."""
        tasks = [way.task for way in self._ways.values() if way.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, way: _Way) -> None:
        """Prefers it until nothing has moved for a moment."""
        try:
            while True:
                try:
                    while not await self._over(way.idle, await self._prefer(way)):
                        pass
                finally:
                    with contextlib.suppress(HanseError):  # else it ends when its time is over
                        await self._controller.release(way.client, way.server)
                if not way.moving:  # else it began while the preference was being released
                    return
        finally:
            del self._ways[way.client, way.server]

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

    async def _prefer(self, way: _Way) -> bool:
        ends = (way.client, way.server, way.port)
        try:
            for attempt in (1, 2):
                if ends not in self._known:
                    await self._controller.register(*ends)
                    self._known.add(ends)
                try:
                    await self._controller.prefer(way.client, way.server, _SECONDS)
                    break
                except NotFound:
                    self._known.discard(ends)  # it was started anew, and knows nobody
                    if attempt == 2:
                        raise
        except HanseError as error:
            self._fails(ends[:2], error.message)
            return False
        if self._wrong.pop(ends[:2], "") and not self._wrong:
            self._note("network.available", {})
        return True

    def _fails(self, pair: Pair, why: str) -> None:
        """Said where no other pair has failed for the same reason: a controller that is away fails for all."""
        if why not in self._wrong.values():
            _log.warning("traffic is not preferred: %s", why)
            self._note("network.unavailable", {"reason": why})
        self._wrong[pair] = why
        while len(self._wrong) > _WRONG:
            del self._wrong[next(iter(self._wrong))]


def _nothing() -> None:
    pass
