"""How the C library keeps memory between messages, and when Python looks for cycles: settings for long-lived processes.

A round moves buffers of a megabyte by the hundred. As glibc comes, each is mapped from the system, filled
with zeros page by page and given back; kept instead, the same warm pages serve again. One arena rather
than one per thread keeps what is free in one place, so that the peak does not grow with the number of threads.

What is kept lies between what is used, in pieces that no model fits into. So whoever is about to make a
model gives them back first.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NEW = 10_000  # containers
_CHANGING = threading.Lock()
_USERS: list[None] = []  # of :func:`collecting_less`, one each
_BEFORE: list[tuple[int, int, int]] = []  # the thresholds that the first of them found
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8  # as in malloc.h
_SETTINGS = (
    (_MMAP_THRESHOLD, 4 << 20),  # models are mapped, and go back to the system at once
    (_TRIM_THRESHOLD, 64 << 20),
    (_TOP_PAD, 2 << 20),
    (_ARENA_MAX, 1),
)


def keep_warm() -> bool:
    """Applies the settings to this process; to be called before it starts threads. Returns whether
    the C library took them: one that is not glibc is left as it is."""
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  only glibc has it, and only its numbers mean this
        return all(libc.mallopt(what, value) == 1 for what, value in _SETTINGS)
    except (AttributeError, OSError, TypeError):
        return False


def give_back() -> bool:
    """Returns the pages of freed buffers to the system (some milliseconds, and they are cleared anew
    when they are used again): worth it between two uses of much memory. Returns whether there were any."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False


def pause_collector() -> None:
    """For a process that lives long, before it loads what it needs: nearly all of that stays, so the collector of
    cycles would walk it again and again in vain (a seventh of the time in which a coordinator starts). It rests until
    :func:`settle`."""
    gc.disable()


@contextmanager
def collecting_less() -> Iterator[None]:
    """For work that makes many values and hardly a cycle, in a process that is somebody else's: meanwhile the collector
    looks after 10,000 new containers, not after Python's 700. Whoever has set something else keeps it."""
    with _CHANGING:
        if not _BEFORE and 0 < gc.get_threshold()[0] < _NEW:
            _BEFORE.append(gc.get_threshold())
            gc.set_threshold(_NEW, *_BEFORE[0][1:])
        _USERS.append(None)
    try:
        yield
    finally:
        with _CHANGING:
            _USERS.pop()
            if not _USERS and _BEFORE:
                before = _BEFORE.pop()
                if gc.get_threshold() == (_NEW, *before[1:]):
                    gc.set_threshold(*before)


def settle() -> None:
    """For a process that lives long, when it has loaded what it needs: that stays, and the collector of cycles
    looks only at what is made from here on, and less often than after Python's 700 new containers. The few cycles that
    loading has left stay too: to look for them among all took a ninth of the time in which a coordinator starts."""
    gc.freeze()
    gc.set_threshold(_NEW, 20, 50)
    gc.enable()
