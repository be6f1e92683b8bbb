"""How long the HTTP server waits for a request: a client that dawdles is put out.

Without this, whoever can reach the port could hold all of the process's connections by sending a byte
now and then, and nobody else would be served.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.importer import import_from_string

SECONDS = 20.0  # for the head of a request; and between two looks at a body that is coming in
_BYTES = 20_000  # of a body in that time, or it is not coming in


def protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, with this patience."""
    base: Any = import_from_string(HTTP_PROTOCOLS["auto"])
    base = getattr(base, "AutoHTTPProtocol", base)

    class Impatient(base):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None
        _received = 0
        _complete: Any = None

        def connection_made(self, transport: Any) -> None:
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
