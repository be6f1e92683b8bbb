"""The coordinator's end in a shared folder: it announces itself, welcomes nodes that say hello, and holds a link to
each.

A node is who its certificate says (``hanse.identity``), whoever put its hello there. A hello is welcomed once.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hanse.errors import ConfigError, HanseError, NotNow
from hanse.transport import Handler
from hanse.transports import _folder_files as files
from hanse.transports import _folder_joining as joining
from hanse.transports import _folder_papers as papers
from hanse.transports._budget import MEMORY_BYTES, Budget
from hanse.transports._folder_keys import FreshKey
from hanse.transports._folder_seal import HalfThere
from hanse.transports._folder_watch import Watch
from hanse.transports._folder_wire import FolderWire
from hanse.transports._large_request import Traffic
from hanse.transports._link import Refusal
from hanse.transports._peers import Peers

log = logging.getLogger(__name__)

ALIVE_SECONDS = 20.0  # each sign is a file that has to be carried
DESKS = 4
_LONGEST_SESSION = 30 * 86400.0  # seconds; then a new hello, so that an expired certificate ends
_SESSIONS = 65_536  # that were welcomed are known
_NODES = 10_000
_AT_ONCE = 100  # nodes that are looked at in one look

Accept = Callable[[str, str], Awaitable[None] | None]  # (node id, SHA-256 of its certificate)
Enrol = Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]]
Identity = Callable[[], tuple[bytes, bytes, bytes]]  # key, certificate, authority (PEM)


class FolderCoordinator:
    """A :class:`hanse.transport.Transport` in a shared folder.

    Args:
        root: the folder.
        identity: makes the coordinator's key and certificate.
        handler, accept, refused: as of :class:`hanse.transports.Hub`.
        enrol: what a node asks that wants to join, and what it is answered; None: nobody can join here.
        spool: a folder for payloads that are too large for memory; not the shared one.
        alive_every: seconds between signs of life while ``handler`` works.
    """

    def __init__(
        self,
        root: Path,
        identity: Identity,
        handler: Handler,
        *,
        accept: Accept = lambda node, fingerprint: None,
        refused: Refusal = lambda node, what, detail: None,
        enrol: Enrol | None = None,
        spool: Path | None = None,
        alive_every: float = ALIVE_SECONDS,
    ) -> None:
        self._root, self._identity, self._accept = root, identity, accept
        self._peers = Peers(handler, refused, Budget(MEMORY_BYTES, spool), Traffic(alive_every=alive_every))
        self.online, self.changed = self._peers.online, self._peers.changed
        self.request, self.disconnect = self._peers.request, self._peers.disconnect
        self.number, self._joining, self._enrol = papers.new_number(), FreshKey(), enrol
        self._asked: set[str] = set()  # sessions of nodes that want to join
        self._authority = b""
        self._seen: dict[str, bytes] = {}  # node to the hello that was looked at last
        self._welcomed: OrderedDict[str, None] = OrderedDict()  # sessions
        self._meeting: set[str] = set()
        self._complained: set[tuple[str, str]] = set()
        self._wires: dict[str, FolderWire] = {}
        self._welcomes: dict[FolderWire, bytes] = {}  # until the node is heard
        self._turn = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._desk = ThreadPoolExecutor(DESKS, "folder")
        self._watch: Watch | None = None

    async def start(self) -> None:
        """Announces itself. Raises ``ConfigError`` where the folder cannot be used, or is another coordinator's."""
        try:
            await self._at_desk(self._prepare)
        except OSError as error:
            raise ConfigError(f"the folder {self._root} cannot be used: {error.strerror or error}") from None
        watched = [self._root / "to-coordinator", self._root / joining.ASKED]
        self._watch = Watch(watched, self._news, self._look, self._tidy)
        self._spawn(self._look(), "look")

    def _prepare(self) -> None:
        key, certificate, self._authority = self._identity()
        for name in ("coordinator", "to-coordinator", "to-nodes", joining.ASKED, joining.ANSWERED):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        path = self._root / "coordinator" / files.ANNOUNCEMENT
        there = files.read(path, papers.MOST_BYTES)
        if there is not None and not papers.is_of(there, self._authority):
            raise ConfigError(f"another coordinator uses the folder {self._root}; choose an empty one")
        for node in files.nodes(self._root / "to-nodes"):
            files.clean(self._root / "to-nodes" / node)
        files.clean(self._root / joining.ANSWERED)
        files.place(path, papers.announcement(self.number, self._joining.text, key, certificate, self._authority))

    def lost(self, node: str, reason: str) -> None:
        """Ends the node's session, if it has one; what it was asked waits for the next one."""
        if node in self._wires:
            self._wires[node].end(reason)

    def announced(self) -> bool:
        """Whether nodes can find it: looked at as a node would."""
        there = files.read(self._root / "coordinator" / files.ANNOUNCEMENT, papers.MOST_BYTES)
        try:
            return there is not None and papers.read_announcement(there, self._authority).number == self.number
        except HanseError:
            return False

    async def stop(self) -> None:
        """Ends all sessions; pending requests raise ``NodeLost``."""
        if self._watch is not None:
            await self._watch.stop()
        self._peers.close("the coordinator stops")
        for task in [t for t in self._tasks if t.get_name() == "meet"]:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        await asyncio.to_thread(self._desk.shutdown)

    # ------------------------------------------------------------ what lies in the folder

    def _news(self, path: Path) -> None:
        """Something was put there."""
        if path.parent == self._root / joining.ASKED:
            self._look_at_joining([path.name])
            return
        try:
            node, name = path.relative_to(self._root / "to-coordinator").parts
        except ValueError:
            return  # a new directory, or none of ours
        if name == files.HELLO:
            self._ask_in(node)
        elif node in self._wires:
            self._wires[node].look()

    async def _look(self) -> None:
        for wire in _some([*self._wires.values()], self._turn):
            wire.look()
        for node in await self._at_desk(self._unseen):
            self._ask_in(node)
        self._look_at_joining(await self._at_desk(lambda: files.listed(self._root / joining.ASKED)))
        self._turn += _AT_ONCE

    def _unseen(self) -> list[str]:
        there = self._root / "to-coordinator"
        found = []
        for node in _some(sorted(files.nodes(there))[:_NODES], self._turn):
            paper = files.read(there / node / files.HELLO, papers.MOST_BYTES)
            if paper is not None and paper != self._seen.get(node):
                found.append(node)
        return found

    async def _tidy(self) -> None:
        for node, wire in self._wires.items():
            wire.tidy()
            if wire.heard:
                self._welcomes.pop(wire, None)
            elif wire in self._welcomes:
                self._spawn(self._welcome_again(node, wire.session, self._welcomes[wire]), "look")

        def copies() -> list[tuple[str, str]]:
            there = self._root / "to-coordinator"
            return [(n, name) for n in files.nodes(there) for name in files.listed(there / n) if files.conflicted(name)]

        for node, name in await self._at_desk(copies):
            self._complain(node, "conflicted copy", f"{name[:200]}: do two machines use this node's name?")

    # ------------------------------------------------------------ hello

    async def _welcome_again(self, node: str, session: str, welcome: bytes) -> None:
        """Puts a welcome back that somebody removed: the node would wait for it for ever."""
        path = self._root / "to-nodes" / node / f"{session}.welcome.json"

        def place() -> None:
            if not path.exists():
                files.place(path, welcome)

        await self._at_desk(place)

    def _ask_in(self, node: str) -> None:
        if node not in self._meeting and not self._peers.closed:
            self._meeting.add(node)
            self._spawn(self._meet(node), "meet")

    async def _meet(self, node: str) -> None:
        """Looks at a node's hello and answers it."""
        try:
            paper = await self._at_desk(
                lambda: files.read(self._root / "to-coordinator" / node / files.HELLO, papers.MOST_BYTES)
            )
            if paper is None or paper == self._seen.get(node):
                return
            try:
                hello = await self._at_desk(lambda: papers.read_hello(paper, self._authority))
                self._seen[node] = paper
                if hello.node != node:
                    raise ConfigError(f"a hello of {hello.node!r} in the directory of {node!r}")
            except HalfThere:
                return
            if hello.number != self.number or hello.session in self._welcomed:
                return  # of another start of this coordinator, whose announcement the node has not seen yet; or again
            self._welcomed[hello.session] = None
            while len(self._welcomed) > _SESSIONS:
                self._welcomed.popitem(last=False)
            try:
                await self._admit(hello)
            except Exception:  # not answered: looked at again, or its node would wait for ever
                if all(wire.session != hello.session for wire in self._welcomes):  # those are put back
                    self._welcomed.pop(hello.session, None)
                    self._seen.pop(node, None)
                raise
        except NotNow:
            pass
        except HanseError as error:
            self._complain(node, "not accepted", error.message)
        except OSError as error:
            log.warning("the folder cannot be used: %s", error.strerror or error)
        except Exception:
            log.exception("cannot tell whether node %s may come in", node)
        finally:
            self._meeting.discard(node)

    async def _admit(self, hello: papers.Hello) -> None:
        mine = self._root / "to-nodes" / hello.node
        key, certificate, _ = self._identity()
        try:
            admitted = self._accept(hello.node, hello.fingerprint)
            if inspect.isawaitable(admitted):
                await admitted
        except NotNow:  # nobody can say who may come in
            raise
        except HanseError as error:
            self._peers.record(hello.node, "not accepted", error.message)
            answer, keys = papers.refusal(hello, error.message, key, certificate), None
        else:
            answer, keys = papers.welcome(hello, key, certificate)

        def clean() -> None:
            mine.mkdir(parents=True, exist_ok=True)
            files.clean(mine, hello.session)

        await self._at_desk(clean)
        if keys is not None:
            wire = FolderWire(
                hello.session,
                mine,
                self._root / "to-coordinator" / hello.node,
                keys.of_coordinator,
                keys.of_node,
                self._desk,
                lambda why: self._peers.record(hello.node, why.partition(":")[0][:40], why),
            )
            self._spawn(self._serve(hello, wire), "serve")  # before the node can know: it may speak at once
            self._welcomes[wire] = answer
        await self._at_desk(lambda: files.place(mine / f"{hello.session}.welcome.json", answer))

    def _look_at_joining(self, names: list[str]) -> None:
        for name in names:
            session = files.session_of(name)
            if self._enrol is None or self._peers.closed or len(self._asked) >= _SESSIONS:
                return  # none is forgotten while this coordinator runs, and so none is answered twice
            if session and session not in self._asked:
                self._asked.add(session)
                self._spawn(self._join(session, name, self._enrol), "meet")

    async def _join(self, session: str, name: str, enrol: Enrol) -> None:
        """Answers who wants to join, once."""
        try:
            paper = await self._at_desk(lambda: files.read(self._root / joining.ASKED / name, papers.MOST_BYTES))
            if paper is None:
                raise HalfThere
            asked, keys = joining.opened(self._joining, self.number, session, paper)
        except HalfThere:
            self._asked.discard(session)  # looked at again
            return
        except HanseError:
            return  # for another start of this coordinator; who asked asks again
        try:
            said = dict(await enrol(asked))
        except HanseError as error:
            said = {"code": error.code, "message": error.message[:500]}
        place = self._root / joining.ANSWERED / f"{session}.answer.json"
        try:
            await self._at_desk(lambda: files.place(place, joining.answer(keys, said)))
        except OSError as error:
            log.warning("the folder cannot be used: %s", error.strerror or error)

    async def _serve(self, hello: papers.Hello, wire: FolderWire) -> None:
        node = hello.node
        expiry = asyncio.get_running_loop().call_later(
            min(hello.expires_s, _LONGEST_SESSION), wire.end, "the node has to show its certificate again"
        )
        self._wires[node] = wire
        reason = "the coordinator stops"
        try:
            reason = await self._peers.serve(node, wire)
        finally:
            expiry.cancel()
            wire.end(reason)
            self._welcomes.pop(wire, None)
            if self._wires.get(node) is wire:
                del self._wires[node]

    # ------------------------------------------------------------ parts

    def _complain(self, node: str, what: str, detail: str) -> None:
        """Said once: the file that it is about stays where it is."""
        if (node, detail) not in self._complained and len(self._complained) < _SESSIONS:
            self._complained.add((node, detail))
            self._peers.record(node, what, detail)

    async def _at_desk(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._desk, work)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _some(items: list[Any], turn: int) -> list[Any]:
    """So many of them as are looked at in one look; others at another turn."""
    first = turn % len(items) if items else 0
    return [*items, *items][first : first + min(_AT_ONCE, len(items))]
