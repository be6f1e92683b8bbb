"""A line of a given delay between nodes and their coordinator: a relay on the loopback interface."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import statistics
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType

_BLOCK = 1 << 16
_ECHOES, _SAID = 41, 1000  # how often, and how many bytes
_REST = 0.005  # seconds between two, as threads wake later after they had nothing to do
_SET_TIMERSLACK = 29  # prctl: how many nanoseconds late the system may wake this thread; else 50,000


class Line:
    """Relays to ``port`` of 127.0.0.1, each byte ``one_way_s`` later. Use as a context manager; ``port`` is its own.

    It delays and does not narrow: as many bytes may be on the way as anybody sends. Threads wait for what is due: an
    event loop was 0.3 ms late each way, as its timers count whole milliseconds; they are half as late, which
    :func:`line_of` takes off.
    """

    def __init__(self, to: int, one_way_s: float) -> None:
        self._to, self.one_way_s, self.port = to, one_way_s, 0
        self._door = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []

    def __enter__(self) -> Line:
        self.port = int(self._door.getsockname()[1])
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for end in [self._door, *self._ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # who waits there is told
            end.close()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        threading.Thread(target=work, args=args, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the line closes
            while True:
                near, _ = self._door.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    near.close()
                    continue
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    waiting = SimpleQueue[tuple[float, bytes]]()
                    self._start(self._take, one, waiting)
                    self._start(self._give, other, waiting)

    def _take(self, end: socket.socket, waiting: SimpleQueue[tuple[float, bytes]]) -> None:
        """What comes in, and when it is due."""
        block = b"?"
        while block:
            try:
                block = end.recv(_BLOCK)
            except OSError:
                block = b""
            waiting.put((time.monotonic() + self.one_way_s, block))

    def _give(self, end: socket.socket, waiting: SimpleQueue[tuple[float, bytes]]) -> None:
        ctypes.CDLL(None).prctl(_SET_TIMERSLACK, 1, 0, 0, 0)
        with contextlib.suppress(OSError):
            while True:
                due, block = waiting.get()
                if (left := due - time.monotonic()) > 0:
                    time.sleep(left)
                if not block:
                    end.shutdown(socket.SHUT_WR)
                    return
                end.sendall(block)


def line_of(to: int, round_trip_s: float) -> Line:
    """A line to ``to`` over which a bare echo of a kilobyte takes ``round_trip_s`` in the median: how much longer it
    takes is measured first, and its threads begin so much earlier."""
    return Line(to, (2 * round_trip_s - echo_s(round_trip_s / 2)) / 2)


def echo_s(one_way_s: float) -> float:
    """The median of the seconds that a bare echo of a kilobyte takes over a line of this delay."""

    def echo() -> None:
        with contextlib.suppress(OSError):
            end, _ = door.accept()
            with end:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while came := end.recv(_BLOCK):
                    end.sendall(came)

    took = list[float]()
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=echo, daemon=True).start()
        line = Line(door.getsockname()[1], one_way_s)
        with line, socket.create_connection(("127.0.0.1", line.port)) as end:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(_ECHOES):
                time.sleep(_REST)
                began, left = time.perf_counter(), _SAID
                end.sendall(bytes(_SAID))
                while left:
                    left -= len(end.recv(left))
                took.append(time.perf_counter() - began)
    return statistics.median(took)
