"""``grpc://HOST:PORT``: one TLS port at the coordinator, and nodes that dial in and keep one stream open.

``grpc+plain://`` has no TLS, and stays on this machine: to try things out.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

from hanse.errors import ConfigError
from hanse.served_certificate import ServedCertificate, load_chain
from hanse.transports import Caller, Hub, Patience
from hanse.transports._grpc_channel import channel_credentials, host_of, server_credentials

PATIENCE = Patience()
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_CALL_S = 3.0
_TLS, _PLAIN = "grpc://", "grpc+plain://"


def listener(address: str, hub: Hub) -> GrpcListener:
    return GrpcListener(address, hub)


def line(address: str, caller: Caller) -> Any:
    from hanse.transports._grpc_node import GrpcNode
    from hanse.transports._handshake import unfit

    scheme, where = _split(address)

    def credentials() -> Any:
        return channel_credentials(caller.identity())

    return GrpcNode(
        caller.node,
        where,
        caller.handler,
        credentials=credentials if scheme == _TLS else None,
        insecure=scheme == _PLAIN,
        allocate=caller.allocate,
        explain=lambda: unfit(where, caller.identity()) if scheme == _TLS else "",
        report=caller.report,
        refused=caller.refused,
        limit=caller.limit,
        beat_s=caller.beat_s,
    )


class GrpcListener:
    """A :class:`hanse.transports.Listener`."""

    def __init__(self, address: str, hub: Hub) -> None:
        from hanse.transports._grpc_coordinator import GrpcCoordinator

        self._scheme, self._where = _split(address)
        self._hub, self._port = hub, 0
        self._keeping: asyncio.Task[None] | None = None
        self._inner = GrpcCoordinator(
            hub.handler, accept=hub.accept, refused=hub.refused, spool=hub.spool, beat_s=hub.beat_s
        )
        self.online, self.changed, self.disconnect = self._inner.online, self._inner.changed, self._inner.disconnect
        self.request = self._inner.request

    async def start(self) -> str:
        """Listens; the address by which nodes reach it. Raises ``ConfigError`` where it cannot."""
        host = host_of(self._where)
        own = (host,) if host not in _EVERYWHERE else ()
        plain = self._scheme == _PLAIN
        credentials = None if plain else self._credentials((*self._hub.names, *own))
        where = await self._inner.start(self._where, credentials, insecure=plain)
        self._port = int(where.rpartition(":")[2])
        public = (*self._hub.names, *own, "localhost")[0]
        public = f"[{public}]" if ":" in public else public
        return f"{self._scheme}{public}:{where.rpartition(':')[2]}"

    def _credentials(self, hosts: tuple[str, ...]) -> ssl.SSLContext:
        key, certificate, authority = self._hub.identity(hosts)
        context = server_credentials(key, certificate, authority)

        def load() -> bytes:
            key, certificate, _ = self._hub.identity(hosts)
            load_chain(context, key, certificate)
            return certificate

        self._keeping = asyncio.create_task(ServedCertificate("the certificate towards nodes", load).keep())
        return context

    async def answers(self) -> bool:
        """Whether the port is open."""
        host = host_of(self._where)
        try:
            async with asyncio.timeout(_CALL_S):
                _, writer = await asyncio.open_connection(_LOOPBACK.get(host, host), self._port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def stop(self) -> None:
        """Ends all connections; pending requests raise ``NodeLost``."""
        if self._keeping is not None:
            self._keeping.cancel()
        await self._inner.stop()


def _split(address: str) -> tuple[str, str]:
    for scheme in (_TLS, _PLAIN):
        if address.startswith(scheme):
            where = address.removeprefix(scheme)
            with contextlib.suppress(ConfigError):
                host_of(where)
                return scheme, where
    raise ConfigError(f"{address[:200]!r} is no address of gRPC; expected {_TLS}HOST:PORT or {_PLAIN}HOST:PORT")
