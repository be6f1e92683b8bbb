"""A node's end over Flower: a SuperNode as a child of the node, whose ClientApp hands parcels to the node itself.

The SuperNode calls a relay on this machine, which shows the node's certificate to the coordinator and lets no app pass
but the one that carries parcels: who controls the SuperLink could else have any code run here. What the parcels hold is
sealed for this node (:mod:`hanse.transports._folder_node`) and meets the same gate as on every way.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import random
import shutil
import socket
import ssl
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hanse.errors import HanseError, NodeFailed, NotAuthenticated, WireError
from hanse.messages import Message
from hanse.toml_text import text
from hanse.transport import COORDINATOR, Progress
from hanse.transports import Caller
from hanse.transports._flower_carrier import QUIET_S, settled
from hanse.transports._flower_door import FLEET, REGISTER, START_HEADER
from hanse.transports._flower_grid import receive, send
from hanse.transports._flower_inside import LOOPBACK, certificates, free_port
from hanse.transports._flower_parcels import Mirror
from hanse.transports._flower_programs import Programs, ended
from hanse.transports._flower_relay import HttpAnswer, HttpFilter, Relays, Streams, ask
from hanse.transports._folder_node import FolderNode
from hanse.transports._folder_watch import Watch
from hanse.transports._grpc_channel import channel_credentials, host_of, server_credentials
from hanse.transports._handshake import unfit
from hanse.transports._way_out import proxy_for, tunnel
from hanse.whole_files import write_whole

_AGAIN_S = (1.0, 30.0)
_GOOD_S = 60.0
_TCP_S = 20.0
_PEER = struct.Struct("3i")
_APP = "/v1/fleet/get-fab"
_ANSWERS_FIELDS, _APPS_FIELDS = 1, 3  # of GetFabResponse and of Fab, as Flower has them


class FlowerNode:
    """A :class:`hanse.transports.Line`. ``where``: ``host:port`` of the coordinator's port."""

    def __init__(self, where: str, caller: Caller) -> None:
        self._where, self._caller = where, caller
        self._private = Path(tempfile.mkdtemp(prefix="hanse-flower-"))  # only this user reads it
        self._programs = Programs(self._private)
        root = self._private / "files"
        root.mkdir()
        self._inner = FolderNode(dataclasses.replace(caller, report=self._tell), root)
        self._name = f"flower://{where}"
        self._mine = f"to-coordinator/{caller.node}"
        self._root = root
        self._mirror = self._new_mirror()
        self._news, self._apart = asyncio.Event(), asyncio.Event()
        self._carrying = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def _tell(self, what: str, detail: str) -> None:
        self._caller.report(what, detail.replace(f"folder://{self._root}", self._name))

    def start(self) -> None:
        """Begins to call the coordinator, in the running event loop; returns at once."""
        if self._task is None:
            self._inner.start()
            self._task = asyncio.create_task(self._run())

    async def connected(self) -> None:
        """Returns when the coordinator has let this node in."""
        await self._inner.connected()

    async def request(self, message: Message, progress: Progress = lambda: None) -> Message:
        """See :class:`hanse.transports.Line`."""
        return await self._inner.request(message, progress)

    async def close(self) -> None:
        """Ends Flower here, and all work for the coordinator."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._inner.close()
        await asyncio.to_thread(shutil.rmtree, self._private, ignore_errors=True)

    # ------------------------------------------------------------ Flower

    async def _run(self) -> None:
        folders = [self._root / self._mine]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        watch = Watch(folders, self._put, _nothing, _nothing)
        line = await asyncio.start_unix_server(self._came, self._private / "line")
        shortest, longest = _AGAIN_S
        pause = shortest
        try:
            app = await self._pinned()
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._once(app)
                    self._caller.report("disconnected", "the SuperNode ended, or has to be registered anew")
                except HanseError as error:
                    turned_away = isinstance(error, NotAuthenticated)
                    self._caller.report("turned away" if turned_away else "not possible", error.message)
                except OSError as error:
                    why = await asyncio.to_thread(self._why, error)
                    self._caller.report("disconnected", why or f"{self._where} cannot be reached: {error}")
                good = asyncio.get_running_loop().time() - began > _GOOD_S
                pause = shortest if good else min(2 * pause, longest)
                await asyncio.sleep(random.uniform(0.5, 1.0) * pause)
        finally:
            line.close()
            await watch.stop()

    def _why(self, error: OSError) -> str:
        return unfit(self._where, self._caller.identity()) if isinstance(error, ssl.SSLError) else ""

    async def _pinned(self) -> str:
        """SHA-256 of the only app that may run at this site, as Flower builds it here."""
        while True:
            try:
                await self._programs.check()
                app = self._programs.app()
                said = await self._programs.ran("flwr", "build", "--app", str(app))
                [built] = self._private.glob("*.fab")
                return hashlib.sha256(built.read_bytes()).hexdigest()
            except (HanseError, ValueError) as error:
                why = getattr(error, "message", "") or f"Flower could not build the app that carries messages: {said}"
                self._caller.report("not possible", why)
                await asyncio.sleep(_AGAIN_S[1])

    async def _once(self, app: str) -> None:
        """A SuperNode, from its registration to its end."""
        key = self._new_key()
        status, said = await ask(self._connect, REGISTER, key)
        if status == 403:
            raise NotAuthenticated(said[:500])
        if status != 200:
            raise NodeFailed(f"{self._where} does not register this node's SuperNode now ({status}): {said[:500]}")
        self._apart.clear()
        self._mirror = self._new_mirror()
        inside = await asyncio.to_thread(certificates, self._private)
        context = server_credentials(
            inside.key.read_bytes(), inside.certificate.read_bytes(), inside.authority.read_bytes()
        )
        context.verify_mode = ssl.CERT_NONE  # a SuperNode proves itself to the SuperLink, by its key
        context.set_alpn_protocols(["http/1.1"])
        gate = SuperNodesFilter(app, said, self._apart.set, self._caller)
        relays = Relays(self._connect, lambda writer: gate)
        door = await asyncio.start_server(relays.came, LOOPBACK, 0, ssl=context)
        port = door.sockets[0].getsockname()[1]
        supernode = await self._programs.started(
            "flower-supernode",
            *("--superlink", f"{LOOPBACK}:{port}", "--root-certificates", str(inside.authority)),
            *("--auth-supernode-private-key", str(self._private / "supernode.key")),
            *("--host", LOOPBACK, "--port", str(free_port())),
            *("--node-config", f"line={text(str(self._private / 'line'))}"),
        )
        ends = asyncio.create_task(supernode.wait())
        apart = asyncio.create_task(self._apart.wait())
        try:
            await asyncio.wait({ends, apart}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            apart.cancel()
            await ended(supernode)
            await asyncio.gather(ends, return_exceptions=True)
            door.close()
            await relays.close()

    def _new_key(self) -> bytes:
        key = ec.generate_private_key(ec.SECP384R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        write_whole(self._private / "supernode.key", private, 0o600)
        return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)

    async def _connect(self) -> Streams:
        """To the coordinator's port, with this node's certificate."""
        context = channel_credentials(self._caller.identity())
        context.set_alpn_protocols(["http/1.1"])
        host, port = host_of(self._where), int(self._where.rpartition(":")[2])
        proxy = proxy_for(host)
        async with asyncio.timeout(_TCP_S):
            if proxy is None:
                return Streams(*await asyncio.open_connection(host, port, ssl=context))
            through = await tunnel(proxy, host, port)
            return Streams(*await asyncio.open_connection(sock=through, ssl=context, server_hostname=host))

    # ------------------------------------------------------------ the ClientApp

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One exchange with the coordinator, through a process of Flower's."""
        try:
            credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            if _PEER.unpack(credentials)[1] != os.getuid():
                self._caller.refused(COORDINATOR, "not accepted", "another user of this machine called as Flower")
                return
            parcel = await receive(reader)
            async with self._carrying:
                mirror = self._mirror
                try:
                    await asyncio.to_thread(mirror.take, parcel)
                except WireError as error:
                    self._caller.refused(COORDINATOR, "malformed", error.message)
                    return
                await self._something(mirror)
                await send(writer, await asyncio.to_thread(mirror.packed))
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _something(self, mirror: Mirror) -> None:
        """Returns when there is something to say, or as long as the coordinator waits for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(mirror.wait_s):
                while True:
                    self._news.clear()
                    if await asyncio.to_thread(mirror.lacking):
                        break
                    await self._news.wait()
        if mirror.wait_s:
            await settled(self._news, QUIET_S)

    def _put(self, path: Path) -> None:
        if not path.name.endswith(".seen"):
            self._news.set()

    def _new_mirror(self) -> Mirror:
        return Mirror(self._root, (self._mine,), ("coordinator", f"to-nodes/{self._caller.node}"))


async def _nothing() -> None:
    pass


class SuperNodesFilter(HttpFilter):
    """What this node's SuperNode asks, and is answered.

    Args:
        app: SHA-256 of the only app that passes.
        name: of the registration.
        apart: called where the coordinator knows this registration no more.
    """

    def __init__(self, app: str, name: str, apart: Callable[[], None], caller: Caller) -> None:
        self._app, self._apart, self._caller = app, apart, caller
        self.headers = {START_HEADER: name}

    async def asked(self, method: str, path: str, headers: Mapping[str, str]) -> HttpAnswer | None:
        if method == "POST" and path in FLEET:
            return None
        asked = f"{method[:10]} {path[:200]}"
        self._caller.refused(self._caller.node, "not accepted", f"{asked} is nothing that a SuperNode asks")
        return HttpAnswer(403, "this way is for the node's SuperNode")

    def looks_at(self, path: str) -> bool:
        return path == _APP

    def answered(self, path: str, status: int, body: bytes) -> HttpAnswer | None:
        if status in (403, 409):
            self._apart()
        if path != _APP or status != 200:  # an error, of whose body a SuperNode makes no app
            return None
        try:
            found = hashlib.sha256(app_in(body)).hexdigest()
        except WireError as error:
            found = error.message
        if found == self._app:
            return None
        self._caller.refused(
            COORDINATOR, "not accepted", f"the SuperLink offers another app ({found[:80]}) to run here"
        )
        return HttpAnswer(403, "this site runs no other app")

    def odd(self, path: str, what: str) -> None:
        self._caller.refused(COORDINATOR, "not accepted", f"an answer of the SuperLink to {path} has {what}")


def app_in(answer: bytes) -> bytes:
    """The app in an answer to get-fab, a message of protobuf: field 2 of field 1. Raises ``WireError``.

    >>> app_in(bytes([0x0A, 5, 0x12, 3]) + b"app")
    b'app'
    """
    return _only(2, _only(1, answer, _ANSWERS_FIELDS), _APPS_FIELDS)


def _only(wanted: int, message: bytes, last: int) -> bytes:
    """The content of a field that stands once in a message whose fields have a length, and numbers up to ``last``."""
    place, found = 0, list[bytes]()
    while place < len(message):
        tag, place = _number(message, place)
        length, place = _number(message, place)
        if tag & 7 != 2 or not 1 <= tag >> 3 <= last or place + length > len(message):
            raise WireError("an answer about an app that cannot be read")
        if tag >> 3 == wanted:
            found.append(message[place : place + length])
        place += length
    if len(found) != 1:
        raise WireError(f"an answer with {len(found)} apps")
    return found[0]


def _number(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte, place = message[place], place + 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, place
    raise WireError("an answer about an app that ends within a number")
