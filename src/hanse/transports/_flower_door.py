"""The one port that SuperNodes reach: behind it is the SuperLink, whose other interfaces stay on this machine.

Who comes in shows the certificate of an enrolled node, as over gRPC. It first brings the public key of its SuperNode;
the SuperLink is told of it here, so each SuperNode is a node's, and a node that is revoked has none.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping

from hanse import validity
from hanse.errors import ConfigError, HanseError, NotNow
from hanse.identity import read_certificate
from hanse.transports import Hub
from hanse.transports._flower_relay import Connect, HttpAnswer, HttpFilter, Relays
from hanse.transports._grpc_channel import GOODBYE_SECONDS, HANDSHAKE_SECONDS
from hanse.transports._port import Port

log = logging.getLogger(__name__)

REGISTER, START_HEADER = "/v1/hanse/supernode", "x-hanse-start"
FLEET = frozenset(  # all that a SuperNode asks, each with POST
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)

Register = Callable[[str, str], Awaitable[str]]  # (node, public key in OpenSSH's words) -> name of this registration


class Door:
    """The port.

    Args:
        register: makes a SuperNode of a node.
        current: node to the name of its registration.
        connect: to the SuperLink.
    """

    def __init__(self, port: Port, hub: Hub, register: Register, current: Mapping[str, str], connect: Connect) -> None:
        self._port, self._hub, self._register, self._current = port, hub, register, current
        self._relays = Relays(connect, self._gate)
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listens. Raises ``ConfigError`` where it cannot."""
        context = self._port.credentials()
        context.set_alpn_protocols(["http/1.1"])
        try:
            self._server = await asyncio.start_server(
                self._relays.came,
                self._port.host,
                self._port.number,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=GOODBYE_SECONDS,
            )
        except OSError as error:
            raise ConfigError(f"cannot listen on {self._port.public()}: {error.strerror or error}") from None
        self._port.number = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Nobody comes in any more, and who is in goes."""
        self._port.close()
        if self._server is not None:
            self._server.close()
        await self._relays.close()

    def _gate(self, writer: asyncio.StreamWriter) -> HttpFilter:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        found = read_certificate(ssl.DER_cert_to_PEM_cert(shown or b"").encode())
        left = (found.expires - validity.now()).total_seconds()
        gate = _NodesFilter(self._hub, found.node_id, found.fingerprint, self._register, self._current)
        gate.longest_s = max(0.0, min(left, gate.longest_s))
        return gate


class _NodesFilter(HttpFilter):
    """What one node may ask."""

    def __init__(self, hub: Hub, node: str, fingerprint: str, register: Register, current: Mapping[str, str]) -> None:
        self._hub, self._node, self._fingerprint = hub, node, fingerprint
        self._register, self._current = register, current

    async def asked(self, method: str, path: str, headers: Mapping[str, str]) -> HttpAnswer | None:
        if method == "POST" and path == REGISTER:
            return HttpAnswer(200)
        if method != "POST" or path not in FLEET:
            self._hub.refused(
                self._node, "not accepted", f"{method[:10]} {path[:200]} is nothing that a SuperNode asks"
            )
            return HttpAnswer(403, "this port is for SuperNodes")
        name = headers.get(START_HEADER, "")
        if not name or self._current.get(self._node) != name:
            return HttpAnswer(409, "this SuperNode is not registered; register it again")
        return None

    async def own(self, path: str, body: bytes) -> HttpAnswer | None:
        try:
            admitted = self._hub.accept(self._node, self._fingerprint)
            if inspect.isawaitable(admitted):
                await admitted
            return HttpAnswer(200, await self._register(self._node, body.decode("ascii", "replace")))
        except NotNow as error:
            return HttpAnswer(503, error.message)
        except HanseError as error:
            self._hub.refused(self._node, "not accepted", error.message)
            return HttpAnswer(403, error.message)
        except Exception:
            log.exception("cannot tell whether node %s may come in", self._node)
            return HttpAnswer(503, "cannot tell now whether this node may come in")
