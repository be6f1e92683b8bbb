"""Threads that a part of a run may divide its work among, lent by whoever runs it.

Sites of a simulation that train together are one task, of one thread. What they compute falls into parts that do not
depend on each other, nor on how many threads there are, so the other threads of the run take theirs of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")
_here = threading.local()


def lend(pool: ThreadPoolExecutor | None) -> None:
    """Lets this thread divide its work among those of ``pool``, which wait for nobody; None: it does all by itself."""
    _here.pool = pool


@contextmanager
def lent(pool: ThreadPoolExecutor | None) -> Iterator[None]:
    """As :func:`lend`, until the block is left."""
    lend(pool)
    try:
        yield
    finally:
        lend(None)


def each(work: Callable[[T], U], parts: Iterable[T]) -> list[U]:
    """What ``work`` makes of each part, in their order; raises what the first of them raised that failed.

    >>> with ThreadPoolExecutor(2) as pool:
    ...     lend(pool)
    ...     each(lambda n: n * n, range(3))
    [0, 1, 4]
    >>> lend(None)
    >>> each(lambda n: n * n, range(3))
    [0, 1, 4]
    """
    pool: ThreadPoolExecutor | None = getattr(_here, "pool", None)
    all_parts = list(parts)
    if pool is None or len(all_parts) == 1:  # another thread would only have to be woken for it
        return [work(part) for part in all_parts]
    return list(pool.map(work, all_parts))
