"""A coordinator's TLS port: under which names it is reached, which certificate it shows, and whether it is open."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from hanse.served_certificate import ServedCertificate, load_chain
from hanse.transports import Hub
from hanse.transports._grpc_channel import host_of, server_credentials

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_CALL_S = 3.0


class Port:
    """Where a coordinator listens.

    Args:
        where: ``host:port``. Raises ``ConfigError`` for anything else.
        hub: whose names and certificates it has.
    """

    def __init__(self, where: str, hub: Hub) -> None:
        self.host = host_of(where)
        self.number = int(where.rpartition(":")[2])
        self._hub = hub
        self._own = (self.host,) if self.host not in _EVERYWHERE else ()
        self._keeping: asyncio.Task[None] | None = None

    def public(self) -> str:
        """``host:port`` by which nodes reach it."""
        name = (*self._hub.names, *self._own, "localhost")[0]
        return f"[{name}]:{self.number}" if ":" in name else f"{name}:{self.number}"

    def credentials(self) -> ssl.SSLContext:
        """For nodes of this coordinator's authority only; its certificate is renewed until :meth:`close`."""
        hosts = (*self._hub.names, *self._own)
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
        try:
            async with asyncio.timeout(_CALL_S):
                _, writer = await asyncio.open_connection(_LOOPBACK.get(self.host, self.host), self.number)
        except (OSError, TimeoutError):
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    def close(self) -> None:
        """The certificate is renewed no more."""
        if self._keeping is not None:
            self._keeping.cancel()
