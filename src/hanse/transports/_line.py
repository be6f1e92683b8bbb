"""What is known of the line to a peer, without a byte sent for it: how fast large payloads went, and what the kernel
counts of each TCP connection (Linux: tcp(7), ``TCP_INFO``)."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

from hanse.messages import Json

_INFO = struct.Struct("=68xI28xI52xI")  # struct tcp_info: tcpi_rtt, tcpi_total_retrans, tcpi_data_segs_out
_LEAST_S = 1e-6
_TCP_INFO = getattr(socket, "TCP_INFO", None)


class Speeds:
    """Of the last large payload each way, in megabits per second (``up_mbit_s``, ``down_mbit_s``); and the bytes that
    the last answer and the last large task took on their way, where they went compressed (``up_bytes``,
    ``down_bytes``).

    >>> speeds = Speeds()
    >>> speeds.note("up", 5_000_000, time.monotonic() - 4)
    >>> round(speeds.told()["up_mbit_s"])
    10
    """

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def note(self, way: str, nbytes: int, began: float) -> None:
        """``way``: ``up`` (to the coordinator) or ``down``; ``began``: by :func:`time.monotonic`."""
        seconds = max(_LEAST_S, time.monotonic() - began)
        self._told[f"{way}_mbit_s"] = round(8e-6 * nbytes / seconds, 3)

    def took(self, way: str, nbytes: int, whole: int) -> None:
        """A message, or the rest of it, took so many bytes on its way, and has so many where it is read."""
        if nbytes < whole:
            self._told[f"{way}_bytes"] = nbytes
        else:
            self._told.pop(f"{way}_bytes", None)

    def told(self) -> dict[str, Json]:
        return dict(self._told)


def counted(connection: Any) -> dict[str, Json]:
    """Of a TCP socket: the smoothed round trip (``latency_ms``) and the share of segments with data that were sent
    again (``packet_loss``); {} where the kernel does not say."""
    if connection is None or _TCP_INFO is None:
        return {}
    try:
        raw = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
        rtt_us, again, sent = _INFO.unpack_from(raw)
    except (OSError, struct.error, AttributeError):
        return {}
    return {"latency_ms": round(rtt_us / 1000, 3), "packet_loss": round(min(1.0, again / sent), 6) if sent else 0.0}
