"""How a process of the node's came to its end, in words."""

from __future__ import annotations

import contextlib
import signal


def said_of(status: int | None) -> str:
    """Of what ``Popen.poll`` tells.

    >>> said_of(3), said_of(-9), said_of(None)
    ('status 3', 'signal 9, SIGKILL', 'its connection broke')
    """
    if status is None:
        return "its connection broke"
    if status >= 0:
        return f"status {status}"
    with contextlib.suppress(ValueError):
        return f"signal {-status}, {signal.Signals(-status).name}"
    return f"signal {-status}"
