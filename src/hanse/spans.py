"""Work on the elements of a large array, span by span, on several cores where it is worth a thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hanse.large_arrays import LARGE_BYTES, puts
from hanse.messages import Array

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

BLOCK = 1 << 16  # elements: two float64 blocks and what is read stay in a core's second-level cache
_THREADS = min(4, os.cpu_count() or 1)
_pool: list[ThreadPoolExecutor] = []


def over(part: Callable[[int, int], bool], size: int) -> bool:
    """Whether ``part`` said so of all spans ``(start, stop)`` of ``size`` elements; each begins at a multiple of
    :data:`BLOCK`. ``part`` is called in several threads at once, for different spans."""
    if size < 8 * BLOCK or _THREADS == 1:
        return part(0, size)
    if not _pool:
        from concurrent.futures import ThreadPoolExecutor

        _pool.append(ThreadPoolExecutor(_THREADS, "hanse-span"))
    step = -(-size // _THREADS // BLOCK) * BLOCK
    return all(list(_pool[0].map(lambda low: part(low, min(low + step, size)), range(0, size, step))))


def add(total: Array, more: Array) -> None:
    """``total += more``, of arrays of one shape."""
    if total.nbytes < LARGE_BYTES or not total.flags.c_contiguous:
        np.add(total, more, out=total)
        return
    put, flat, other = puts(total), total.reshape(-1), more.reshape(-1)

    def part(start: int, stop: int) -> bool:
        room = np.empty(min(BLOCK, stop - start), total.dtype)
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            put(low, np.add(flat[low:high], other[low:high], out=room[: high - low]))
        return True

    over(part, flat.size)
