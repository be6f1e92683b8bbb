"""The line to the ServerApp, through which parcels go to SuperNodes: a socket that only this user can reach."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
from pathlib import Path

from hanse.errors import NodeLost

_HEAD = struct.Struct("<QQ?")
_LENGTH = struct.Struct("<Q")
_MOST_BYTES = 1 << 30


class Grid:
    """Accepts the ServerApp at ``path`` (in a private directory), one at a time."""

    def __init__(self, path: Path) -> None:
        self._path, self._tickets = path, itertools.count(1)
        self._open: dict[int, asyncio.Future[bytes]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self.there, self.gone = asyncio.Event(), asyncio.Event()

    async def start(self) -> None:
        """Listens."""
        self._server = await asyncio.start_unix_server(self._came, self._path)

    async def stop(self) -> None:
        """Ends the line; exchanges raise ``NodeLost``."""
        if self._server is not None:
            self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Ends the line to the ServerApp that is there, and so the ServerApp; exchanges raise ``NodeLost``."""
        if self._writer is not None:
            self._writer.close()
        self._end()

    async def exchange(self, supernode: int, parcel: bytes) -> bytes:
        """Carries a parcel to a SuperNode; returns its answer. Raises ``NodeLost``."""
        if self._writer is None:
            raise NodeLost("Flower is being started")
        ticket = next(self._tickets)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._open[ticket] = answer
        try:
            await send(self._writer, _HEAD.pack(ticket, supernode, True) + parcel)
            return await answer
        except OSError:
            raise NodeLost("Flower has ended") from None
        finally:
            self._open.pop(ticket, None)

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writer is not None:
            self.hang_up()
        self._writer = writer
        self.gone.clear()
        self.there.set()
        try:
            while True:
                item = await receive(reader)
                ticket, _, arrived = _HEAD.unpack_from(item)
                answer = self._open.get(ticket)
                if answer is None or answer.done():
                    continue
                if arrived:
                    answer.set_result(item[_HEAD.size :])
                else:
                    why = item[_HEAD.size :].decode(errors="replace")
                    answer.set_exception(NodeLost(f"Flower does not reach the node: {why or 'no reason given'}"))
        except (OSError, EOFError, struct.error, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            if self._writer is writer:
                self._end()

    def _end(self) -> None:
        self._writer = None
        self.there.clear()
        self.gone.set()
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(NodeLost("Flower has ended"))


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """One item into the line."""
    writer.write(_LENGTH.pack(len(data)))
    writer.write(data)
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> bytes:
    """The next item. Raises ``EOFError`` where the line was closed."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > _MOST_BYTES:
            raise EOFError
        found: bytes = await reader.readexactly(length)
        return found
    raise EOFError
