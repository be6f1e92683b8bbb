"""A line of a given rate between a node and its coordinator, which can be cut: a relay in this event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket

_BLOCK = 64 << 10
_ROOM = 128 << 10  # bytes that each socket may hold, which a cut loses


class Narrow:
    """Relays to ``port`` of 127.0.0.1, each way so many bits per second together. ``cut`` ends all connections.

    Attributes:
        address: its own ``host:port``.
        passed: bytes that went through, either way.
    """

    def __init__(self, port: int, mbit_s: float) -> None:
        self._to, self._rate, self.passed, self.address = port, mbit_s * 1e6 / 8, 0, ""
        self._free: dict[bool, float] = {True: 0.0, False: 0.0}  # when the next bytes of a direction may leave
        self._open: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._came, "127.0.0.1", 0, limit=_ROOM)
        self.address = f"localhost:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        await asyncio.sleep(0)

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to, limit=_ROOM)
            both = {writer, far_writer}
            self._open |= both
            try:
                for one in both:
                    for room in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # else this machine holds more than a network
                        one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, room, _ROOM)
                ways = ((reader, far_writer, True), (far_reader, writer, False))
                await asyncio.gather(*(self._way(*way) for way in ways))
            finally:
                self._open -= both
                for one in both:
                    one.transport.abort()

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        loop = asyncio.get_running_loop()
        writer.transport.set_write_buffer_limits(_BLOCK)
        while data := await reader.read(_BLOCK):
            self._free[up] = max(loop.time(), self._free[up]) + len(data) / self._rate
            self.passed += len(data)
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(self._free[up] - loop.time())
        raise ConnectionResetError
