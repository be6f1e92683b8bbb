"""A line of a given delay between nodes and their coordinator: a relay on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType

_BLOCK = 1 << 16


class Line:
    """Relays to ``port`` of 127.0.0.1, each byte ``one_way_s`` later. Use as a context manager; ``port`` is its own.

    It delays and does not narrow: as many bytes may be on the way as anybody sends.
    """

    def __init__(self, to: int, one_way_s: float) -> None:
        self._to, self._delay, self.port = to, one_way_s, 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Line:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the line did not open")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = int(server.sockets[0].getsockname()[1])
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        with contextlib.suppress(asyncio.CancelledError):  # the line closes
            await asyncio.gather(self._way(reader, far_writer), self._way(far_reader, writer), return_exceptions=True)

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What comes in one after the other, later."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                due, block = await waiting.get()
                if (left := due - self._loop.time()) > 0:
                    await asyncio.sleep(left)
                if not block:
                    writer.close()
                    return
                writer.write(block)
                await writer.drain()

        sender = self._loop.create_task(send())
        try:
            while block := await reader.read(_BLOCK):
                waiting.put_nowait((self._loop.time() + self._delay, block))
        except OSError:
            pass
        waiting.put_nowait((self._loop.time() + self._delay, b""))
        await asyncio.gather(sender, return_exceptions=True)
