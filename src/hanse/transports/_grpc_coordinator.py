"""The coordinator's end over gRPC: one TLS port; each node dials in and keeps one stream open.

A node is who its certificate says (``hanse.identity``), never who it claims to be. Frames are
raw bytes on one bidirectional call (:mod:`hanse.transports._grpc_call`), without protobuf. It lives in the event
loop it was started in, next to whatever else runs there.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import inspect
import logging
import os
import socket
import ssl
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from hanse.errors import ConfigError, HanseError, NotAuthenticated, NotNow
from hanse.identity import check_node_id, read_certificate
from hanse.messages import MAX_MESSAGE_BYTES, Json
from hanse.transport import Handler
from hanse.transports._budget import MEMORY_BYTES, Budget
from hanse.transports._grpc_call import (
    ABORTED,
    PERMISSION_DENIED,
    RECEIVE_BYTES,
    UNAUTHENTICATED,
    UNAVAILABLE,
    UNIMPLEMENTED,
    Call,
)
from hanse.transports._grpc_channel import (
    BEAT_SECONDS,
    GOODBYE_SECONDS,
    HANDSHAKE_SECONDS,
    MAX_FRAME,
    NODE_METADATA,
    PATH,
    SILENT_BEATS,
    check_plaintext,
    host_of,
)
from hanse.transports._http2 import Fields
from hanse.transports._large_request import ALIVE_SECONDS, Traffic
from hanse.transports._line import counted
from hanse.transports._link import REQUEST_LIMIT, Refusal
from hanse.transports._peers import Peers

log = logging.getLogger(__name__)

Accept = Callable[[str, str], Awaitable[None] | None]  # (node id, SHA-256 of its certificate)

_LONGEST_STREAM = 30 * 86400.0  # seconds; then a new handshake, so that an expired certificate ends
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  each is understood as both
_LINE_SECONDS = 1.0  # between looks at what the kernel has counted of a connection
_NOTHING: Mapping[str, Json] = {}
_LAST_WORDS = 0.5  # seconds for the ends of all connections


class GrpcCoordinator:
    """A :class:`hanse.transport.Transport` over gRPC.

    Args:
        handler: answers requests that come from nodes, with the authenticated node id.
        accept: called (node id, certificate's SHA-256; "" in plaintext) when a node connects; it
            raises to turn the node away (revoked, unknown).
        refused: called (node, what, detail) for everything that was not accepted; ``what`` is
            ``duplicate``, ``late``, ``wrong id``, ``wrong sender``, ``tampered``, ``too large``,
            ``malformed``, ``not read``, ``second stream`` or ``not accepted``.
        memory: bytes of incoming payloads held in memory at once; the rest lies in files.
        spool: folder of these files (default: the system's temporary folder).
        limit: largest payload, in bytes. ``request_limit``: of a request that comes from a node.
        alive_every: seconds between signs of life while ``handler`` works.
        beat_s: seconds between two heartbeats of a node, now: a line is probed after ``SILENT_BEATS`` of them in
            silence, and given up as long after.
        moves: as of :class:`hanse.transports.Hub`.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        accept: Accept = lambda node, fingerprint: None,
        refused: Refusal = lambda node, what, detail: None,
        memory: int = MEMORY_BYTES,
        spool: str | os.PathLike[str] | None = None,
        limit: int = MAX_MESSAGE_BYTES,
        request_limit: int = REQUEST_LIMIT,
        alive_every: float = ALIVE_SECONDS,
        beat_s: Callable[[], float] = lambda: BEAT_SECONDS,
        moves: Callable[[str], Callable[[], None]] = lambda node: lambda: None,
    ) -> None:
        self._accept, self._keepalive = accept, lambda: SILENT_BEATS * beat_s()
        traffic = Traffic(alive_every=alive_every, moves=moves)
        self._peers = Peers(handler, refused, Budget(memory, spool), traffic, limit, request_limit)
        self.online, self.changed = self._peers.online, self._peers.changed
        self.request, self.disconnect = self._peers.request, self._peers.disconnect
        self._connected: dict[str, Call] = {}
        self._lines: dict[str, tuple[Call, float, Mapping[str, Json]]] = {}  # when the kernel was asked what
        self._servers: list[asyncio.Server] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._calls: weakref.WeakSet[Call] = weakref.WeakSet()  # also those without a connection yet
        self._room = memoryview(bytearray(RECEIVE_BYTES))
        self._plaintext = False

    async def start(self, address: str, credentials: ssl.SSLContext | None = None, *, insecure: bool = False) -> str:
        """Listen on ``host:port`` (port 0 picks one); returns the address with its port.

        Raises ``ConfigError`` where the port is taken, or plaintext is not allowed.
        """
        host = host_of(address)
        if credentials is None:
            check_plaintext(address, insecure)
        self._plaintext = credentials is None
        port = int(address.rpartition(":")[2])
        try:
            port = await self._listen(host, port, credentials)
            if host in _EVERYWHERE:
                with contextlib.suppress(OSError):  # a machine without the other kind of addresses
                    await self._listen(next(h for h in _EVERYWHERE if h != host), port, credentials)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(f"cannot listen on {address!r}: {error.strerror or error}") from None
            raise ConfigError(f"cannot listen on {address!r}; is another coordinator running there?") from None
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def _listen(self, host: str, port: int, credentials: ssl.SSLContext | None) -> int:
        loop, options = asyncio.get_running_loop(), dict[str, Any]()
        if credentials is not None:
            options = {"ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": GOODBYE_SECONDS}
        if port == 0:  # a name of several addresses would get a port for each
            host = str((await loop.getaddrinfo(host, 0, proto=socket.IPPROTO_TCP))[0][4][0])
        server = await loop.create_server(self._call, host, port, ssl=credentials, **options)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _call(self) -> Call:
        call = Call(self._room, MAX_FRAME, self._keepalive, opened=self._opened)
        self._calls.add(call)
        return call

    def _opened(self, call: Call, fields: Fields) -> None:
        if self._peers.closed:  # its handshake took longer than the end of all others
            call.finish(UNAVAILABLE, "the coordinator stops")
            return
        self._spawn(self._serve(call, dict(fields)))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def line(self, node: str) -> dict[str, Json]:
        """What was measured of the line to a node: ``latency_ms`` and ``packet_loss`` of its connection, as the kernel
        counts them; ``up_mbit_s`` and ``down_mbit_s`` of the last large payload each way. Of a proxy, where it comes
        through one."""
        if (call := self._connected.get(node)) is None:
            return {**self._peers.speeds(node)}
        of, looked, kernel = self._lines.get(node, (None, 0.0, _NOTHING))
        if of is not call or time.monotonic() - looked >= _LINE_SECONDS:  # quick rounds ask at the end of each
            kernel = counted(call.transport.get_extra_info("socket"))
            self._lines[node] = call, time.monotonic(), kernel
        return {**kernel, **self._peers.speeds(node)}

    def ends(self, node: str) -> tuple[str, str, int] | None:
        """The node's address, and address and port where it called, as its connection has them; None: it has none."""
        call = self._connected.get(node)
        theirs, ours = (call and call.transport.get_extra_info(name) for name in ("peername", "sockname"))
        return (str(theirs[0]), str(ours[0]), int(ours[1])) if theirs and ours else None

    async def stop(self) -> None:
        """Close all connections; pending requests raise ``NodeLost``."""
        self._peers.close("the coordinator stops")
        for server in self._servers:
            server.close()
        if self._serving:
            await asyncio.wait(self._serving, timeout=_LAST_WORDS)
        calls = [call for call in self._calls if call.transport is not None and not call.closed.done()]
        for call in calls:
            call.finish(UNAVAILABLE, "the coordinator stops")
        for patient in (True, False):
            left = [call for call in calls if not call.closed.done()]
            if left:
                for call in left:
                    call.transport.close() if patient else call.abort()
                await asyncio.wait([call.closed for call in left], timeout=_LAST_WORDS)

    async def _serve(self, call: Call, fields: dict[str, str]) -> None:
        if fields.get(":path") != PATH:
            call.finish(UNIMPLEMENTED, "there is no such method")
            return
        try:
            node, expires = await self._identify(call, fields)
        except NotNow as error:
            call.finish(UNAVAILABLE, error.message)
            return
        except HanseError as error:
            call.finish(UNAUTHENTICATED if isinstance(error, NotAuthenticated) else PERMISSION_DENIED, error.message)
            return
        except Exception:
            log.exception("cannot tell whether a node may connect")
            call.finish(UNAVAILABLE, "cannot tell now whether this node may connect")
            return
        if self._peers.closed:
            call.finish(UNAVAILABLE, "the coordinator stops")
            return
        expiry = asyncio.get_running_loop().call_later(
            min(expires, _LONGEST_STREAM), self._peers.hang_up, node, "the node has to show its certificate again"
        )
        reason = "the coordinator stops"
        try:
            call.accept()
            self._connected[node] = call
            reason = await self._peers.serve(node, call)
        finally:
            if self._connected.get(node) is call:
                del self._connected[node]
                self._lines.pop(node, None)
            expiry.cancel()
            call.finish(ABORTED, reason)

    async def _identify(self, call: Call, fields: dict[str, str]) -> tuple[str, float]:
        """The node's id from its certificate, if it may come in, and for how many seconds."""
        if self._plaintext:
            node, fingerprint, expires = check_node_id(fields.get(NODE_METADATA, "")), "", _LONGEST_STREAM
        else:
            shown = call.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            certificate = read_certificate(ssl.DER_cert_to_PEM_cert(shown or b"").encode())
            node, fingerprint = certificate.node_id, certificate.fingerprint
            expires = (certificate.expires - datetime.datetime.now(datetime.UTC)).total_seconds()
        try:
            answer = self._accept(node, fingerprint)
            if inspect.isawaitable(answer):
                await answer
        except NotNow:
            raise
        except HanseError as error:
            self._peers.record(node, "not accepted", error.message)
            raise
        return node, expires
