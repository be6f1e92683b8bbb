"""The SuperLink behind the coordinator's port: one that the coordinator starts, or one that is there and that it joins.

``HANSE_SUPERLINK`` names a SuperLink that somebody else runs (``127.0.0.1:8000``), and ``HANSE_SUPERLINK_CA`` the file
with the certificate of the authority that signed its own. It has to be on this machine and run as the coordinator's
user, since the ServerApp that it starts speaks with the coordinator over a socket that only this user can reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from pathlib import Path
from typing import Protocol

from hanse.errors import ConfigError, HanseError, NodeFailed
from hanse.transports._flower_inside import LOOPBACK, certificates, free_port
from hanse.transports._flower_programs import Programs, ended
from hanse.transports._flower_relay import Streams
from hanse.transports._grpc_channel import client_context, host_of

WHERE, AUTHORITY = "HANSE_SUPERLINK", "HANSE_SUPERLINK_CA"
_START_S, _LOOK_S = 90.0, 1.0


class SuperLink(Protocol):
    """One of the two."""

    async def begin(self) -> None:
        """It listens, and ``flwr`` knows it. Raises ``NodeFailed``, ``OSError``."""
        ...

    async def ends(self) -> None:
        """Returns when it has ended."""
        ...

    async def stop(self) -> None:
        """Ends what was begun."""
        ...

    async def connect(self) -> Streams:
        """A connection to it. Raises ``OSError``."""
        ...

    def unregister(self, supernode: int) -> None:
        """A SuperNode is no node's any more."""
        ...


def superlink(programs: Programs) -> SuperLink:
    """What the environment says. Raises ``ConfigError``."""
    where, authority = os.environ.get(WHERE, ""), os.environ.get(AUTHORITY, "")
    if not where:
        return Own(programs)
    host, port = host_of(where), where.rpartition(":")[2]
    if host not in (LOOPBACK, "localhost", "::1") or not port.isdigit():
        raise ConfigError(
            f"{WHERE} is {where[:200]!r}; expected 127.0.0.1:PORT: the ServerApp that it starts speaks with the "
            "coordinator over a socket of this machine"
        )
    try:
        pem = Path(authority).read_bytes()
        context = client_context(pem)
    except (OSError, ValueError) as error:  # an SSLError is one of the first
        raise ConfigError(
            f"{AUTHORITY} is {authority[:200]!r}; expected the file of the authority whose certificate the SuperLink "
            f"at {where} shows ({error})"
        ) from None
    return Joined(programs, host, int(port), Path(authority).absolute(), context)


class Own:
    """Started here, and ended with the coordinator."""

    def __init__(self, programs: Programs) -> None:
        self._programs, self._port = programs, 0
        self._context: ssl.SSLContext | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def begin(self) -> None:
        self._port = free_port()
        own = await asyncio.to_thread(certificates, self._programs.home)
        self._context = _speaking(client_context(own.authority.read_bytes()))
        self._programs.connect(f"{LOOPBACK}:{self._port}", own.authority)
        self._process = await self._programs.started(
            "flower-superlink",
            *("--host", LOOPBACK, "--port", str(self._port)),
            *("--ssl-certfile", str(own.certificate), "--ssl-keyfile", str(own.key)),
            *("--ssl-ca-certfile", str(own.authority)),
            "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
        )
        async with asyncio.timeout(_START_S):
            while self._process.returncode is None:
                with contextlib.suppress(OSError):
                    (await self.connect()).writer.close()
                    return
                await asyncio.sleep(0.1)
        raise NodeFailed(f"the SuperLink ended; {self._programs.home}/flower-superlink.log has the details")

    async def ends(self) -> None:
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await ended(process)

    async def connect(self) -> Streams:
        if self._context is None:
            raise ConnectionError("Flower is being started")
        return Streams(*await asyncio.open_connection(LOOPBACK, self._port, ssl=self._context))

    def unregister(self, supernode: int) -> None:
        pass  # it forgets them when it ends


class Joined:
    """Somebody else's: it stays when the coordinator goes, without the coordinator's SuperNodes."""

    def __init__(self, programs: Programs, host: str, port: int, authority: Path, context: ssl.SSLContext) -> None:
        self._programs, self._host, self._port = programs, host, port
        self._authority, self._context = authority, _speaking(context)
        self._leaving: set[asyncio.Task[None]] = set()
        self._few = asyncio.Semaphore(4)  # each is a process

    async def begin(self) -> None:
        self._programs.connect(f"{self._host}:{self._port}", self._authority)
        try:
            (await self.connect()).writer.close()
        except OSError as error:
            raise NodeFailed(f"no SuperLink answers at {self._host}:{self._port} ({error})") from None

    async def ends(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                streams = await self.connect()
                try:
                    await streams.reader.read(1)  # nothing comes: it was closed
                finally:
                    streams.writer.close()
                await asyncio.sleep(_LOOK_S)

    async def stop(self) -> None:
        await asyncio.gather(*self._leaving)

    async def connect(self) -> Streams:
        return Streams(*await asyncio.open_connection(self._host, self._port, ssl=self._context))

    def unregister(self, supernode: int) -> None:
        task = asyncio.create_task(self._unregister(supernode))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _unregister(self, supernode: int) -> None:
        with contextlib.suppress(HanseError, OSError):  # it may be gone itself, and them with it
            async with self._few:
                await self._programs.said("supernode", "unregister", str(supernode), "hanse")


def _speaking(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols(["http/1.1"])
    return context
