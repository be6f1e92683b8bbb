"""``grpc://HOST:PORT``: one TLS port at the coordinator, and nodes that dial in and keep one stream open.

``grpc+plain://`` has no TLS, and stays on this machine: to try things out.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hanse.errors import ConfigError
from hanse.transports import Caller, Hub, Patience
from hanse.transports._grpc_channel import NodeCredentials, host_of
from hanse.transports._port import Port

PATIENCE = Patience()
_TLS, _PLAIN = "grpc://", "grpc+plain://"


def listener(address: str, hub: Hub) -> GrpcListener:
    return GrpcListener(address, hub)


def line(address: str, caller: Caller) -> Any:
    from hanse.transports._grpc_node import GrpcNode
    from hanse.transports._handshake import unfit

    scheme, where = _split(address)

    return GrpcNode(
        caller,
        where,
        credentials=NodeCredentials(caller.identity) if scheme == _TLS else None,
        insecure=scheme == _PLAIN,
        explain=lambda: unfit(where, caller.identity()) if scheme == _TLS else "",
    )


class GrpcListener:
    """A :class:`hanse.transports.Listener`."""

    def __init__(self, address: str, hub: Hub) -> None:
        from hanse.transports._grpc_coordinator import GrpcCoordinator

        self._scheme, self._where = _split(address)
        self._port = Port(self._where, hub)
        self._inner = GrpcCoordinator(
            hub.handler,
            accept=hub.accept,
            refused=hub.refused,
            spool=hub.spool,
            beat_s=hub.beat_s,
            moves=hub.moves,
        )
        self.online, self.changed, self.disconnect = self._inner.online, self._inner.changed, self._inner.disconnect
        self.request, self.answers = self._inner.request, self._port.answers
        self.line, self.ends = self._inner.line, self._inner.ends

    async def start(self) -> str:
        """Listens; the address by which nodes reach it. Raises ``ConfigError`` where it cannot."""
        plain = self._scheme == _PLAIN
        credentials = None if plain else self._port.credentials()
        where = await self._inner.start(self._where, credentials, insecure=plain)
        self._port.number = int(where.rpartition(":")[2])
        return f"{self._scheme}{self._port.public()}"

    async def stop(self) -> None:
        """Ends all connections; pending requests raise ``NodeLost``."""
        self._port.close()
        await self._inner.stop()


def _split(address: str) -> tuple[str, str]:
    for scheme in (_TLS, _PLAIN):
        if address.startswith(scheme):
            where = address.removeprefix(scheme)
            with contextlib.suppress(ConfigError):
                host_of(where)
                return scheme, where
    raise ConfigError(f"{address[:200]!r} is no address of gRPC; expected {_TLS}HOST:PORT or {_PLAIN}HOST:PORT")
