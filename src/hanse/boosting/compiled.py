"""Functions that are compiled to machine code when they are first called, and the threads that run them.

Compilation takes seconds, so it is done once per machine: numba keeps what it made beside the source, or where that may
not be written (a read-only installation) in the user's cache directory, or where ``NUMBA_CACHE_DIR`` says. Where it may
write nowhere, each process compiles for itself. A coordinator needs no numba: it has numpy do the same where numba is
not installed (:func:`worthwhile`), where there is little to do, and until it is loaded: that takes a second, and others
wait for a coordinator meanwhile.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

from hanse.boosting._vectors import known_to_numba
from hanse.errors import ConfigError

_MANY = 1 << 16  # numbers; to load numba takes as long as numpy takes for a hundred times as many
_lock = threading.Lock()
_pool: list[ThreadPoolExecutor] = []
_loader: list[threading.Thread] = []
_first: list[Callable[[], None]] = []
_parts: list[Callable[..., Any]] = []
_MOST_ALONE = 63  # calls
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)  # its threads are not there, and would be waited for


class compiled:
    """A function over arrays and whole numbers that is compiled for the types that it is called with.

    ``plain`` is the function as it is written.

    >>> compiled(sum).plain([1, 2])
    3
    """

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain, self.__doc__ = plain, plain.__doc__
        self._made: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Raises ``ConfigError`` where numba is not installed."""
        if (made := self._made) is None:
            with _lock:  # numba compiles one at a time
                if (made := self._made) is None:
                    made = self._made = _compile(self.plain)
        return made(*arguments)


P = TypeVar("P", bound=Callable[..., Any])


def part(plain: P) -> P:
    """A function that compiled ones call."""
    _parts.append(plain)
    return plain


def _compile(plain: Callable[..., Any]) -> Any:
    try:
        import numba
    except ImportError:
        raise ConfigError("numba is not installed here, which boosting needs; pip install 'hanse[xgboost]'") from None
    known_to_numba()
    while _parts:
        numba.extending.register_jitable(_parts.pop())
    try:
        return numba.njit(nogil=True, cache=True)(plain)
    except RuntimeError:  # there is no directory that it could keep the result in
        return numba.njit(nogil=True)(plain)


def worthwhile(numbers: int = 0) -> bool:
    """Whether a compiled loop is to do what numpy can do as well: numba is loaded. Where it is not, but is installed,
    and so many ``numbers`` are worth it, it is loaded beside, and numpy does it until then.

    >>> import numba
    >>> worthwhile()
    True
    """
    if _loader:
        if _loader[0].is_alive():
            return False
        _loader.clear()
    if "numba" in sys.modules or numbers < _MANY or not installed():
        return "numba" in sys.modules
    _loader.append(threading.Thread(target=_load, name="hanse-numba", daemon=True))
    _loader[0].start()
    return False


def at_first(call: Callable[[], None]) -> Callable[[], None]:
    """Has a loop compiled by this call, for the types of its arguments, where numba is loaded beside."""
    _first.append(call)
    return call


def _load() -> None:
    import numba  # noqa: F401

    for call in _first:
        call()


@functools.cache
def installed() -> bool:
    """Whether there is numba."""
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(slots=True)
class _Alone:
    """How many calls of :func:`at_once` do without other threads yet (``left``), of ``all`` since these came too late.

    Where the cores have other work, a thread that is woken comes when there is nothing left to do, and to wake it has
    taken as long as a small task. So each time that others come too late, twice as many calls do without them before
    they are asked again, and each time that they come in time, half as many."""

    all: int = 0
    left: int = 0

    def told(self, helped: bool) -> None:
        """Whether others did anything."""
        self.all = self.all // 2 if helped else min(2 * self.all + 1, _MOST_ALONE)
        self.left = self.all


_alone = _Alone()


def threads() -> int:
    """How many threads work at once: as many as this process may use cores, or one where these have other work."""
    return 1 if _alone.left > 0 else _cores()


def at_once(tasks: Iterable[Callable[[], Any]], several: bool = True) -> None:
    """Does all tasks, on several cores where there are several tasks and they are worth it (``several``).

    Whoever calls works too, and takes the next task as long as there is one: who hands a task over and waits for it
    changes threads twice, which takes as long as a small task. Where one raises, that is raised when nobody works any
    more; what was not begun by then is left out.
    """
    left = list(tasks)[::-1]
    if len(left) == 1:
        left.pop()()
        if several and _alone.left > 0:  # several threads of a process may count
            _alone.left -= 1
        return

    def work() -> int:
        done = 0
        while left:
            try:
                task = left.pop()
            except IndexError:  # another one took the last
                break
            try:
                task()
            except BaseException:
                left.clear()
                raise
            done += 1
        return done

    others = min(threads(), len(left)) - 1 if several else 0
    if others < 1:
        if several and _alone.left > 0:
            _alone.left -= 1
        work()
        return
    if not _pool:
        _pool.append(ThreadPoolExecutor(max(others, _cores()), "hanse-boosting"))
    begun = [_pool[0].submit(work) for _ in range(others)]
    try:
        work()
    finally:
        begun = [one for one in begun if not one.cancel()]  # others came too late to find anything
        wait(begun)
    _alone.told(sum([one.result() for one in begun]) > 0)


def spans(size: int, least: int) -> list[tuple[int, int]]:
    """``size`` things in one span a thread, none of fewer than ``least`` unless it is the only one.

    >>> spans(10, 20)
    [(0, 10)]
    """
    count = max(1, min(threads(), size // max(1, least)))
    bounds = [size * i // count for i in range(count + 1)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))
