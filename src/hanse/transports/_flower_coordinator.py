"""The coordinator's end over Flower: a SuperLink behind one port, and a ServerApp that carries parcels.

What is carried are the sealed files of :mod:`hanse.transports._folder_coordinator`, so whoever runs Flower between the
two sides sees who talks, when and how much. Flower's end brings a new start of all of it; sessions begin anew then, and
what was asked is asked again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hanse.errors import HanseError, NodeFailed, NotNow, WireError
from hanse.messages import Message
from hanse.toml_text import text
from hanse.transport import Progress
from hanse.transports import Hub
from hanse.transports import _folder_files as files
from hanse.transports._flower_carrier import Carrier
from hanse.transports._flower_door import Door
from hanse.transports._flower_grid import Grid
from hanse.transports._flower_parcels import Mirror
from hanse.transports._flower_programs import Programs
from hanse.transports._flower_superlink import superlink
from hanse.transports._folder_coordinator import FolderCoordinator
from hanse.transports._folder_watch import Watch
from hanse.transports._port import Port

log = logging.getLogger(__name__)

_START_S, _AGAIN_S = 90.0, (1.0, 60.0)
_KEY_BYTES = 1000


@dataclass(slots=True, eq=False)
class _SuperNode:
    """A node's."""

    key: str
    id: int
    name: str  # of its registration
    carrier: Carrier
    task: asyncio.Task[None]


class FlowerCoordinator:
    """A :class:`hanse.transports.Listener`. ``where``: ``host:port`` of the port that SuperNodes reach."""

    def __init__(self, where: str, hub: Hub) -> None:
        self._hub, self._port = hub, Port(where, hub)
        self._private = Path(tempfile.mkdtemp(prefix="hanse-flower-"))  # only this user reads it
        self._programs = Programs(self._private)
        self._root = Path(tempfile.mkdtemp(prefix="flower-", dir=hub.spool))
        self._inner = FolderCoordinator(
            self._root,
            lambda: hub.identity(("localhost",)),
            self._handle,
            accept=hub.accept,
            refused=hub.refused,
            spool=hub.spool,
        )
        self.online, self.changed, self.answers = self._inner.online, self._inner.changed, self._port.answers
        self._nodes: dict[str, _SuperNode] = {}
        self._registered: dict[str, str] = {}
        self._asked: Counter[str] = Counter()  # requests to each node that are not answered yet
        self._registering = asyncio.Lock()
        self._grid = Grid(self._private / "line")
        self._superlink = superlink(self._programs)
        self._door = Door(self._port, hub, self._register, self._registered, self._superlink.connect)
        self._keeping: asyncio.Task[None] | None = None
        self._watch: Watch | None = None

    async def start(self) -> str:
        """Listens; ``host:port`` by which nodes reach it. Raises ``ConfigError`` where it cannot."""
        await self._programs.check()
        await self._inner.start()
        await self._grid.start()
        await self._door.open()
        self._watch = Watch([self._root / "coordinator", self._root / "to-nodes"], self._news, _nothing, _nothing)
        self._keeping = asyncio.create_task(self._keep())
        return self._port.public()

    async def request(self, node: str, message: Message, progress: Progress = lambda: None) -> Message:
        """See :meth:`hanse.transport.Transport.request`."""
        self._asked[node] += 1
        self._hurry(node)
        try:
            return await self._inner.request(node, message, progress)
        finally:
            self._asked[node] -= 1

    def disconnect(self, node: str, reason: str) -> None:
        """Ends the node's session and what it was asked (``NodeLost``), and takes its SuperNode away."""
        self._inner.disconnect(node, reason)
        self._forget(node, reason)

    async def stop(self) -> None:
        """Ends all sessions and all of Flower; pending requests raise ``NodeLost``."""
        await self._door.close()
        for node in list(self._nodes):
            self._forget(node, "the coordinator stops")
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._superlink.stop()
        await self._grid.stop()
        if self._watch is not None:
            await self._watch.stop()
        await self._inner.stop()
        for place in (self._root, self._private):
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    # ------------------------------------------------------------ what is urgent

    async def _handle(self, peer: str, message: Message, progress: Progress) -> Message:
        try:
            return await self._hub.handler(peer, message, progress)
        finally:
            self._hurry(peer)

    def _hurry(self, node: str) -> None:
        if node in self._nodes:
            self._nodes[node].carrier.hurry()

    def _news(self, path: Path) -> None:
        """A file for a node was put there, or for all."""
        if path.name.endswith(".welcome.json"):
            self._hurry(path.parent.name)
        for node, found in self._nodes.items():
            if path.parent.name in (node, "coordinator") and not path.name.endswith(".seen"):
                found.carrier.news.set()

    # ------------------------------------------------------------ SuperNodes

    async def _register(self, node: str, key: str) -> str:
        """Makes a SuperNode of the node; the name of the registration, with which its requests pass the door."""
        if not self._grid.there.is_set():
            raise NotNow("Flower is being started at the coordinator")
        if len(key) > _KEY_BYTES or "\n" in key.strip():
            raise WireError("this is no public key in OpenSSH's words")
        async with self._registering:
            there = self._nodes.get(node)
            if there is not None and there.key == key:
                return there.name
            file = self._private / "supernode.pub"
            file.write_text(key)
            said = await self._programs.said("supernode", "register", str(file), "hanse")
            self._forget(node, "another SuperNode of this node takes over")
            return self._admit(node, key, int(said["node-id"]))

    def _admit(self, node: str, key: str, id: int) -> str:
        mine, theirs = ("coordinator", f"to-nodes/{node}"), f"to-coordinator/{node}"
        for name in files.listed(self._root / theirs):
            files.remove(self._root / theirs / name)  # what another SuperNode brought
        carrier = Carrier(
            Mirror(self._root, mine, (theirs,)),
            lambda parcel: self._grid.exchange(id, parcel),
            lambda why: self._inner.lost(node, why),
            lambda: self._asked[node] > 0,
        )
        name = self._registered[node] = secrets.token_hex(8)
        self._nodes[node] = _SuperNode(key, id, name, carrier, asyncio.create_task(carrier.run()))
        return name

    def _forget(self, node: str, why: str) -> None:
        found = self._nodes.pop(node, None)
        self._registered.pop(node, None)
        if found is not None:
            found.task.cancel()
            self._superlink.unregister(found.id)
            self._inner.lost(node, why)

    # ------------------------------------------------------------ Flower

    async def _keep(self) -> None:
        """Has Flower run, and starts all of it anew where a part of it ends."""
        shortest, longest = _AGAIN_S
        pause = shortest
        while True:
            began = time.monotonic()
            try:
                log.warning("Flower ended and is started anew: %s", await self._once())
            except (HanseError, OSError) as error:
                log.warning("Flower cannot be started: %s", getattr(error, "message", "") or error)
            for node in list(self._nodes):
                self._forget(node, "Flower ended at the coordinator")
            pause = shortest if time.monotonic() - began > longest else min(2 * pause, longest)
            await asyncio.sleep(pause)

    async def _once(self) -> str:
        """Flower, from its start to its end; which part ended."""
        try:
            await self._superlink.begin()
            ends = asyncio.create_task(self._superlink.ends())
            try:
                line = f"line={text(str(self._private / 'line'))}"
                await self._programs.said("run", str(self._programs.app()), "hanse", "--run-config", line)
                async with asyncio.timeout(_START_S):
                    await self._grid.there.wait()
                gone = asyncio.create_task(self._grid.gone.wait())
                try:
                    await asyncio.wait({ends, gone}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    gone.cancel()
                return "the SuperLink" if ends.done() else "the ServerApp"
            finally:
                ends.cancel()
                await asyncio.gather(ends, return_exceptions=True)
        except TimeoutError:
            raise NodeFailed(f"it did not begin within {_START_S:g} s") from None
        finally:
            self._grid.hang_up()  # a ServerApp does not end with its SuperLink
            await self._superlink.stop()


async def _nothing() -> None:
    pass
