"""A node's end in a shared folder: it reads the coordinator's announcement, says hello, and waits for its welcome.

It never gives up: after the end of a session it says hello again, as it does when the coordinator was started anew.
What it was asked meanwhile, and is still wanted, is asked again in the new session.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hanse.errors import ConfigError, HanseError, NotAuthenticated, WireError
from hanse.identity import NodeIdentity
from hanse.transport import COORDINATOR
from hanse.transports import Caller
from hanse.transports import _folder_files as files
from hanse.transports import _folder_papers as papers
from hanse.transports._folder_coordinator import ALIVE_SECONDS
from hanse.transports._folder_keys import SessionKeys
from hanse.transports._folder_seal import HalfThere
from hanse.transports._folder_watch import Watch
from hanse.transports._folder_wire import FolderWire
from hanse.transports._node_end import NodeEnd

log = logging.getLogger(__name__)

_DESKS = 2


class FolderNode(NodeEnd):
    """A :class:`hanse.transports.Line` in a shared folder.

    Args:
        caller: what the node lends.
        root: the folder, as it is called on this machine.
        alive_every: seconds between signs of life while its handler works.
        backoff: shortest and longest time between two hellos, in seconds.
    """

    def __init__(
        self,
        caller: Caller,
        root: Path,
        *,
        alive_every: float = ALIVE_SECONDS,
        backoff: tuple[float, float] = (0.05, 60.0),
    ) -> None:
        super().__init__(caller, alive_every)
        self._root, self._identity, self._refused, self._backoff = root, caller.identity, caller.refused, backoff
        self._mine, self._theirs = root / "to-coordinator" / caller.node, root / "to-nodes" / caller.node
        self._desk = ThreadPoolExecutor(_DESKS, "folder")
        self._changed = asyncio.Event()
        self._wire: FolderWire | None = None
        self._said: tuple[str, str] = ("", "")
        self._believed: tuple[bytes, papers.Announcement | None] = (b"", None)
        self._complained: set[str] = set()

    async def close(self) -> None:
        """Says goodbye, and ends all work for the coordinator."""
        await super().close()
        await asyncio.to_thread(self._desk.shutdown)

    # ------------------------------------------------------------ sessions

    async def _run(self) -> None:
        watch: Watch | None = None
        shortest, longest = self._backoff
        attempt = 0
        try:
            while True:
                try:
                    if watch is None:
                        await self._at_desk(self._prepare)
                        watch = Watch([self._root / "coordinator", self._theirs], self._news, self._look, self._tidy)
                    attempt = 0 if await self._session() else attempt + 1
                except HanseError as error:
                    attempt += 1
                    turned_away = isinstance(error, papers.TurnedAway)
                    self._say("turned away" if turned_away else "not possible", error.message)
                except OSError as error:
                    attempt += 1
                    self._say("disconnected", f"the folder {self._root} cannot be used: {error.strerror or error}")
                await asyncio.sleep(random.uniform(shortest, min(longest, shortest * 2.0 ** min(attempt, 30))))
        finally:
            if watch is not None:
                await watch.stop()

    def _prepare(self) -> None:
        if not self._root.is_dir():
            raise ConfigError(f"there is no folder {self._root}; is it synchronised to this machine?")
        for folder in (self._root / "coordinator", self._mine, self._theirs):
            folder.mkdir(parents=True, exist_ok=True)

    async def _session(self) -> bool:
        """One session, from the coordinator's announcement to its end. Returns whether there was one."""
        identity = self._identity()
        identity.check()
        self._believed = (b"", None)  # looked at anew with the certificates of now
        said = await self._announced(identity)
        greeting = papers.Greeting(identity, said)

        def hello() -> None:
            files.clean(self._mine)
            files.place(self._mine / files.HELLO, greeting.paper)

        await self._at_desk(hello)
        welcome = self._theirs / f"{greeting.session}.welcome.json"
        keys: SessionKeys | None = None
        while keys is None:
            self._changed.clear()
            paper = await self._at_desk(lambda: files.read(welcome, papers.MOST_BYTES))
            if paper is not None:
                keys = self._understood(greeting, paper)
            elif (await self._announced(identity)).number != said.number:
                return False
            if keys is None:
                self._say("disconnected", f"waits for the coordinator's answer in {self._root}")
                await self._changed.wait()
        wire = self._wire = FolderWire(
            greeting.session,
            self._mine,
            self._theirs,
            keys.of_node,
            keys.of_coordinator,
            self._desk,
            lambda why: self._refused(COORDINATOR, why.partition(":")[0][:40], why),
        )
        watching = asyncio.create_task(self._started_anew(identity, said.number, wire))
        reason = "this node was closed"
        try:
            self._up.set()
            self._say("connected", f"folder://{self._root}")
            reason = await self._link.run(wire)
            self._say("disconnected", reason)
        finally:
            self._up.clear()
            self._wire = None
            watching.cancel()
            wire.end(reason)
        return True

    def _understood(self, greeting: papers.Greeting, paper: bytes) -> SessionKeys | None:
        """None for half a welcome, or one that somebody else put there."""
        try:
            return greeting.understood(paper)
        except HalfThere:
            return None
        except papers.TurnedAway:
            raise
        except (WireError, NotAuthenticated) as error:
            self._complain("not accepted", error.message)
            return None

    async def _announced(self, identity: NodeIdentity) -> papers.Announcement:
        """The coordinator's announcement, as soon as there is one that can be believed."""
        path = self._root / "coordinator" / files.ANNOUNCEMENT
        known, believed = self._believed
        while True:
            self._changed.clear()
            paper = await self._at_desk(lambda: files.read(path, papers.MOST_BYTES))
            if believed is not None and paper == known:
                return believed
            if paper is None:
                self._say("disconnected", f"no coordinator has announced itself in {self._root} yet")
            else:
                try:
                    said = papers.read_announcement(paper, identity.ca_pem)
                    self._believed = (paper, said)
                    return said
                except HalfThere:
                    pass
                except HanseError as error:
                    self._say("not possible", error.message)
            await self._changed.wait()

    async def _started_anew(self, identity: NodeIdentity, number: str, wire: FolderWire) -> None:
        while (await self._announced(identity)).number == number:
            await self._changed.wait()
        wire.end("the coordinator was started anew", say=False)

    # ------------------------------------------------------------ what lies in the folder

    def _news(self, path: Path) -> None:
        if path.name.endswith(".json"):
            self._changed.set()
        elif self._wire is not None:
            self._wire.look()

    async def _look(self) -> None:
        self._changed.set()
        if self._wire is not None:
            self._wire.look()

    async def _tidy(self) -> None:
        if self._wire is not None:
            self._wire.tidy()

        def copies() -> list[str]:
            folders = (self._root / "coordinator", self._theirs)
            return [name for folder in folders for name in files.listed(folder) if files.conflicted(name)]

        for name in await self._at_desk(copies):
            self._complain("conflicted copy", f"{name[:200]}: do two coordinators use this folder?")

    # ------------------------------------------------------------ parts

    def _complain(self, what: str, detail: str) -> None:
        if detail not in self._complained and len(self._complained) < 1000:
            self._complained.add(detail)
            try:
                self._refused(COORDINATOR, what, detail)
            except Exception:
                log.exception("could not record that something was refused: %s (%s)", what, detail)

    def _say(self, what: str, detail: str) -> None:
        if (what, detail) == self._said:
            return
        self._said = (what, detail)
        super()._say(what, detail)

    async def _at_desk(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._desk, work)
