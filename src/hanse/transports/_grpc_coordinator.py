"""The coordinator's end over gRPC: one TLS port; each node dials in and keeps one stream open.

A node is who its certificate says (``hanse.identity``), never who it claims to be. Frames are
raw bytes on one bidirectional call, without protobuf. It lives in the event loop it was started
in, next to whatever else runs there.
"""

from __future__ import annotations

import asyncio
import datetime
import inspect
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

from hanse.errors import ConfigError, HanseError, NodeLost, NotAuthenticated
from hanse.identity import check_node_id, read_certificate
from hanse.messages import MAX_MESSAGE_BYTES, Message
from hanse.transport import Handler, Progress
from hanse.transports import REQUEST_HEADER
from hanse.transports._budget import MEMORY_BYTES, Budget
from hanse.transports._grpc_channel import (
    COORDINATOR,
    KEEPALIVE_SECONDS,
    NODE_METADATA,
    PATH,
    GrpcWire,
    check_plaintext,
    host_of,
    options,
)
from hanse.transports._link import ALIVE_SECONDS, REQUEST_LIMIT, Link, Refusal, Traffic

log = logging.getLogger(__name__)

Accept = Callable[[str, str], Awaitable[None] | None]  # (node id, SHA-256 of its certificate)

_LONGEST_STREAM = 30 * 86400.0  # seconds; then a new handshake, so that an expired certificate ends


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
        keepalive: seconds of silence before a connection is probed, and for the probe to come back.
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
        keepalive: float = KEEPALIVE_SECONDS,
    ) -> None:
        self._handler, self._accept, self._refused = handler, accept, refused
        self._allocate, self._traffic = Budget(memory, spool), Traffic()
        self._limit, self._request_limit, self._alive_every = limit, request_limit, alive_every
        self._keepalive = keepalive
        self._links: dict[str, Link] = {}
        self._online: dict[str, object] = {}
        self._change = asyncio.Event()
        self._server: Any = None
        self._plaintext = False
        self._closed = False

    async def start(
        self, address: str, credentials: grpc.ServerCredentials | None = None, *, insecure: bool = False
    ) -> str:
        """Listen on ``host:port`` (port 0 picks one); returns the address with its port.

        Raises ``ConfigError`` where the port is taken, or plaintext is not allowed.
        """
        host = host_of(address)
        if credentials is None:
            check_plaintext(address, insecure)
        self._plaintext = credentials is None
        self._server = aio.server(options=[*options(self._keepalive), ("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Method(self._serve),))
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            port = 0
        if port == 0:
            raise ConfigError(f"cannot listen on {address!r}; is another coordinator running there?")
        await self._server.start()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def online(self) -> frozenset[str]:
        """Ids of the nodes that are connected."""
        return frozenset(self._online)

    async def changed(self) -> None:
        """Returns when ``online()`` next changes."""
        await self._change.wait()

    async def request(self, node: str, message: Message, progress: Progress = lambda: None) -> Message:
        """See :meth:`hanse.transport.Transport.request`. Waits also for a node that is not on line."""
        if self._closed:
            raise NodeLost("the coordinator's transport is stopped")
        return await self._link(node).request(message, progress)

    def disconnect(self, node: str, reason: str) -> None:
        """End the node's connection and what it was asked (``NodeLost``), say because it was
        revoked. It may come back if ``accept`` lets it."""
        link = self._links.pop(node, None)
        if link is not None:
            link.close(reason)

    async def stop(self) -> None:
        """Close all connections; pending requests raise ``NodeLost``."""
        self._closed = True
        for node in list(self._links):
            self.disconnect(node, "the coordinator stops")
        if self._server is not None:
            await self._server.stop(0.5)

    def _link(self, node: str) -> Link:
        if node not in self._links:
            self._links[node] = Link(
                COORDINATOR,
                node,
                self._handler,
                self._refused,
                allocate=self._allocate,
                limit=self._limit,
                request_limit=self._request_limit,
                request_header=REQUEST_HEADER,
                alive_every=self._alive_every,
                traffic=self._traffic,
            )
        return self._links[node]

    async def _serve(self, _: Any, context: Any) -> None:
        try:
            node, expires = await self._identify(context)
        except HanseError as error:
            code = grpc.StatusCode.PERMISSION_DENIED
            if isinstance(error, NotAuthenticated):
                code = grpc.StatusCode.UNAUTHENTICATED
            await context.abort(code, error.message)
        except Exception:
            log.exception("cannot tell whether a node may connect")
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cannot tell now whether this node may connect")
        if self._closed:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the coordinator stops")
        if node in self._online:
            self._record(node, "second stream", "the node connected again; its older connection is closed")
        me = object()
        link = self._link(node)
        expiry = asyncio.get_running_loop().call_later(
            min(expires, _LONGEST_STREAM), link.hang_up, "the node has to show its certificate again"
        )
        self._online[node] = me
        self._notify()
        try:
            await context.send_initial_metadata(())
            reason = await link.run(GrpcWire(context))
        finally:
            expiry.cancel()
            if self._online.get(node) is me:
                del self._online[node]
                self._notify()
        await context.abort(grpc.StatusCode.ABORTED, reason)

    async def _identify(self, context: Any) -> tuple[str, float]:
        """The node's id from its certificate, if it may come in, and for how many seconds."""
        if self._plaintext:
            claimed = dict(context.invocation_metadata() or ()).get(NODE_METADATA, "")
            node, fingerprint, expires = check_node_id(str(claimed)), "", _LONGEST_STREAM
        else:
            pem = context.auth_context().get("x509_pem_cert", [b""])[0]
            certificate = read_certificate(pem)
            node, fingerprint = certificate.node_id, certificate.fingerprint
            expires = (certificate.expires - datetime.datetime.now(datetime.UTC)).total_seconds()
        try:
            answer = self._accept(node, fingerprint)
            if inspect.isawaitable(answer):
                await answer
        except HanseError as error:
            self._record(node, "not accepted", error.message)
            raise
        return node, expires

    def _record(self, node: str, what: str, detail: str) -> None:
        try:
            self._refused(node, what, detail)
        except Exception:
            log.exception("could not record that %s was refused: %s (%s)", node, what, detail)

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


class _Method(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves the one method, with bytes as they are."""

    def __init__(self, serve: Callable[[Any, Any], Awaitable[None]]) -> None:
        self._handler = grpc.stream_stream_rpc_method_handler(serve)

    def service(self, details: Any) -> Any:
        return self._handler if details.method == PATH else None
