"""Work that is divided among threads of a run is what one thread makes of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hanse import shared_threads
from tests.waiting import PATIENCE


def test_parts_are_worked_on_at_the_same_time_where_threads_are_lent() -> None:
    both = threading.Barrier(2)

    def part(number: int) -> tuple[int, str]:
        both.wait(PATIENCE)  # passes when another part is under way
        return number, threading.current_thread().name

    with ThreadPoolExecutor(2, "helper") as pool, ThreadPoolExecutor(1, "own", shared_threads.lend, (pool,)) as own:
        found = own.submit(shared_threads.each, part, range(2)).result()
    assert [number for number, _ in found] == [0, 1]
    assert {name.partition("_")[0] for _, name in found} == {"helper"}


def test_a_thread_that_was_lent_none_works_by_itself_and_what_fails_is_raised() -> None:
    with ThreadPoolExecutor(2) as pool:
        shared_threads.lend(pool)
        try:
            with pytest.raises(ZeroDivisionError):
                shared_threads.each(lambda n: 1 // n, range(3))
        finally:
            shared_threads.lend(None)
    names = shared_threads.each(lambda n: threading.current_thread(), range(3))
    assert set(names) == {threading.current_thread()}
