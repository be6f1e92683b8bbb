"""What a process tells the service manager that started it (systemd's ``sd_notify``): that it is ready, that it is
alive, what it is doing. Without one (no ``NOTIFY_SOCKET``) nothing is said."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable


def notify(*said: str) -> bool:
    """Tells the service manager ``READY=1``, ``STATUS=...``, ``WATCHDOG=1`` or ``STOPPING=1``; whether one listens.

    >>> notify("READY=1") if "NOTIFY_SOCKET" not in os.environ else False
    False
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    told = "\n".join(" ".join(line.splitlines()) for line in said).encode()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    with sock, contextlib.suppress(OSError):
        sock.sendto(told, "\0" + address[1:] if address[0] == "@" else address)
        return True
    return False


def watchdog_s() -> float | None:
    """How often a sign of life is expected, in seconds: twice as often as the service manager's patience. None: not."""
    wanted, of = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not wanted.isdigit() or int(wanted) == 0 or (of and of != str(os.getpid())):
        return None
    return int(wanted) / 2e6


async def watch(alive: Callable[[], Awaitable[str]]) -> None:
    """Gives signs of life for ever, as long as ``alive`` says nothing; else says what is wrong, and is restarted by the
    service manager if that lasts. Returns at once where nobody expects any."""
    every = watchdog_s()
    if every is None:
        return
    while True:
        wrong = await alive()
        if wrong:
            notify(f"STATUS={wrong}")
        else:
            notify("WATCHDOG=1")
        await asyncio.sleep(every)
