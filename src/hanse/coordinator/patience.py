"""How long the HTTP server waits for a request: a client that dawdles is put out.

Without this, whoever can reach the port could hold all of the process's connections by sending a byte
now and then, and nobody else would be served. For the same reason all addresses together, and each of
them, may hold so many connections and no more; who comes then is put out without a word in the log.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from typing import Any

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.importer import import_from_string

FILES = 65_536  # that a coordinator asks to have open: each connection is one
_OF_FILES, _OF_CONNECTIONS = 2, 4  # HTTP may take every second file, one address every fourth of these
SECONDS = 20.0  # for the head of a request; and between two looks at a body that is coming in
_BYTES = 20_000  # of a body in that time, or it is not coming in


def raise_limit() -> int:
    """Lets this process have as many files open as it may, up to ``FILES``; how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return FILES if soft == resource.RLIM_INFINITY else soft


def protocol(files: int = FILES) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, with this patience.

    Args:
        files: how many the process may have open.
    """
    most = max(8, files // _OF_FILES)
    most_of_one = max(4, most // _OF_CONNECTIONS)
    connections: Counter[str] = Counter()
    base: Any = import_from_string(HTTP_PROTOCOLS["auto"])
    base = getattr(base, "AutoHTTPProtocol", base)

    class Impatient(base):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None
        _received = 0
        _complete: Any = None
        _counted: str | None = None

        def connection_made(self, transport: Any) -> None:
            peer = transport.get_extra_info("peername")
            address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
            if connections.total() >= most or connections[address] >= most_of_one:
                transport.abort()
                return
            self._counted = address
            connections[address] += 1
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            self._received += len(data)
            if self._timer is None:
                self._wait()
            super().data_received(data)
            if self.cycle is not None and self.cycle is not self._complete and not self.cycle.more_body:
                self._complete = self.cycle  # the next bytes begin another request
                self._stop()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            if self._counted is None:
                return  # it was turned away
            connections[self._counted] -= 1
            if not connections[self._counted]:
                del connections[self._counted]
            super().connection_lost(exc)

        def _wait(self) -> None:
            self._received = 0
            self._timer = self.loop.call_later(SECONDS, self._due)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _due(self) -> None:
            self._timer = None
            if self.cycle is not None and self.cycle.more_body and self._received >= _BYTES:
                self._wait()
            else:
                self.transport.abort()

    return Impatient
