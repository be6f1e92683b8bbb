"""The node's end over gRPC: it dials out, so no port is open at a node, and it never gives up.

One stream is kept open. When it breaks, the node dials again, first at once and then ever more
slowly (with full jitter, so that many nodes do not return in step), until it is closed. Work goes
on meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from typing import Any

from hanse.addresses import is_loopback
from hanse.errors import HanseError
from hanse.transports import Caller
from hanse.transports._grpc_call import PERMISSION_DENIED, RECEIVE_BYTES, UNAUTHENTICATED, Call, Ended
from hanse.transports._grpc_channel import (
    GOODBYE_SECONDS,
    MAX_FRAME,
    NODE_METADATA,
    PATH,
    SILENT_BEATS,
    check_plaintext,
    host_of,
)
from hanse.transports._large_request import ALIVE_SECONDS
from hanse.transports._node_end import NodeEnd
from hanse.transports._way_out import proxy_for, tunnel

_GOOD_SECONDS = 5.0  # a connection that lasted so long was a good one
_CONNECT_SECONDS = 20.0


class GrpcNode(NodeEnd):
    """A node's connection to its coordinator.

    Args:
        caller: what the node lends; its certificate must name it. The line is probed after ``SILENT_BEATS`` of its
            heartbeats in silence, and given up as long after.
        address: the coordinator's ``host:port``.
        credentials: makes the channel's credentials, called for every attempt, so that a renewed
            certificate is used and an expired one is named (``NodeCredentials``).
        insecure: plaintext, for loopback addresses only, when there are no credentials.
        explain: says in a sentence why no connection can be made, "" where it cannot tell; blocks.
        alive_every: as of :class:`NodeEnd`.
        backoff: shortest and longest time between attempts, in seconds.
    """

    def __init__(
        self,
        caller: Caller,
        address: str,
        *,
        credentials: Callable[[], ssl.SSLContext] | None = None,
        insecure: bool = False,
        explain: Callable[[], str] = lambda: "",
        alive_every: float = ALIVE_SECONDS,
        backoff: tuple[float, float] = (0.05, 5.0),
    ) -> None:
        host = host_of(address)
        if credentials is None:
            check_plaintext(address, insecure)
        super().__init__(caller, alive_every)
        self.address, self._credentials, self._explain, self._backoff = address, credentials, explain, backoff
        self._host, self._keepalive = host, lambda: SILENT_BEATS * caller.beat_s()
        self._room = memoryview(bytearray(RECEIVE_BYTES))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        shortest, longest = self._backoff
        attempt = 0
        while True:
            began = loop.time()
            patient = await self._connect()
            attempt = 0 if loop.time() - began >= _GOOD_SECONDS else attempt + 1
            ceiling = longest if patient else min(longest, shortest * 2.0 ** min(attempt, 30))
            await asyncio.sleep(random.uniform(0, ceiling))

    async def _connect(self) -> bool:
        """One connection, from dialling to its end. Returns whether trying again soon is no use."""
        call: Call | None = None
        try:
            context = self._credentials() if self._credentials is not None else None
            async with asyncio.timeout(_CONNECT_SECONDS):
                call = await self._dial(context)
                await call.accepted
            self._up.set()
            self._say("connected", self.address)
            self._say("disconnected", await self._link.run(call))
        except HanseError as error:
            self._say("not possible", error.message)
            return True
        except TimeoutError:
            self._say("disconnected", f"{self.address} does not answer{self._way()}")
        except OSError as error:  # of TLS, too
            of_tls = isinstance(error, ssl.SSLError | ConnectionResetError)
            why = await asyncio.to_thread(self._explain) if of_tls else ""
            self._say(
                "disconnected", why or f"{self.address} cannot be reached{self._way()}: {error.strerror or error}"
            )
        except Ended as ended:
            turned_away = ended.status in (PERMISSION_DENIED, UNAUTHENTICATED)
            self._say("turned away" if turned_away else "disconnected", ended.reason)
            return turned_away
        finally:
            self._up.clear()
            if call is not None:
                call.cancel()
                await call.closed
        return False

    async def _dial(self, context: ssl.SSLContext | None) -> Call:
        opens = [
            (":method", "POST"),
            (":scheme", "http" if context is None else "https"),
            (":path", PATH),
            (":authority", self.address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            (NODE_METADATA, self.node),
        ]
        where: dict[str, Any] = {"host": self._host, "port": int(self.address.rpartition(":")[2])}
        if context is not None:
            where |= {"ssl": context, "server_hostname": self._host, "ssl_shutdown_timeout": GOODBYE_SECONDS}
        if not is_loopback(self._host) and (proxy := proxy_for(self._host)) is not None:
            where["sock"] = await tunnel(proxy, where.pop("host"), where.pop("port"))
        _, call = await asyncio.get_running_loop().create_connection(
            lambda: Call(self._room, MAX_FRAME, self._keepalive, opens), **where
        )
        return call

    def _way(self) -> str:
        proxy = None if is_loopback(self._host) else proxy_for(self._host)
        return f" by the proxy {proxy.hostname}:{proxy.port}" if proxy is not None else ""
