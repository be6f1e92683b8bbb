"""Threads that loops run in."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from hanse.boosting import compiled
from tests.waiting import PATIENCE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_that_was_forked_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of its parent are not there, and it would wait for them for ever."""
    monkeypatch.setattr(compiled, "threads", lambda: 2)
    both = threading.Barrier(2)
    compiled.at_once([lambda: both.wait(PATIENCE)] * 2)  # so there are two of them
    if not (child := os.fork()):
        found = list[int]()
        compiled.at_once([lambda: found.append(1), lambda: found.append(2)])
        os._exit(0 if sorted(found) == [1, 2] else 1)
    end = time.monotonic() + PATIENCE
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("it waits for threads that are not there")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def test_numba_is_loaded_beside_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second, in which a coordinator would hear nobody; numpy does what it can do meanwhile."""
    goes_on, known = threading.Event(), importlib.import_module("numba")

    def load() -> None:
        goes_on.wait(PATIENCE)
        sys.modules["numba"] = known

    monkeypatch.setattr(compiled, "_load", load)
    monkeypatch.setattr(compiled, "_loader", [])
    monkeypatch.delitem(sys.modules, "numba")
    many = 1 << 20
    assert not compiled.worthwhile(8)
    assert compiled._loader == []
    assert not compiled.worthwhile(many)
    (loader,) = compiled._loader
    sys.modules["numba"] = known  # as it is while it is being loaded
    assert not compiled.worthwhile(many)
    goes_on.set()
    loader.join(PATIENCE)
    assert compiled.worthwhile()
    assert compiled._loader == []


def test_whoever_calls_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a thread would wait for each that works. Here two tasks wait for each other, and a third one thread takes."""
    monkeypatch.setattr(compiled, "threads", lambda: 2)
    both, by = threading.Barrier(2), list[str]()

    def task() -> None:
        by.append(threading.current_thread().name)
        both.wait(PATIENCE)

    compiled.at_once([task, task])
    assert threading.current_thread().name in by
    assert len(set(by)) == 2


@pytest.mark.parametrize("fails", ["caller", "other"])
def test_what_a_task_raises_is_raised_when_nobody_works_any_more(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "threads", lambda: 2)
    both, done = threading.Barrier(2), list[int]()
    caller = threading.current_thread()

    def task() -> None:
        both.wait(PATIENCE)
        if (threading.current_thread() is caller) == (fails == "caller"):
            raise ValueError(fails)
        done.append(1)

    with pytest.raises(ValueError, match=fails):
        compiled.at_once([task, task])
    assert done == [1]


def test_an_error_of_one_is_told_when_the_others_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they write into is the caller's again by then."""
    monkeypatch.setattr(compiled, "threads", lambda: 3)
    monkeypatch.setattr(compiled, "_pool", [])
    all_three, waited_for, done = threading.Barrier(3), threading.Event(), list[str]()
    caller, wait = threading.current_thread(), compiled.wait

    def task() -> None:
        all_three.wait(PATIENCE)
        if threading.current_thread() is caller:
            return
        if threading.current_thread().name.endswith("_0"):
            raise ValueError("the first")
        waited_for.wait(PATIENCE)
        done.append("the second")

    def waits(those: Any) -> Any:
        waited_for.set()
        return wait(those)

    monkeypatch.setattr(compiled, "wait", waits)
    try:
        with pytest.raises(ValueError, match="the first"):
            compiled.at_once([task] * 3)
        assert done == ["the second"]
    finally:
        waited_for.set()
        compiled._pool[0].shutdown()


@pytest.mark.parametrize("several", [1, 2, 5])
def test_every_task_is_done_once(several: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "threads", lambda: several)
    done = list[int]()
    compiled.at_once(partial(done.append, i) for i in range(40))
    assert sorted(done) == list(range(40))


@pytest.mark.parametrize("late", [True, False])
def test_others_who_come_too_late_are_asked_ever_more_rarely(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where all cores have other work: to wake a thread takes as long there as what it would do."""
    monkeypatch.setattr(compiled, "_cores", lambda: 2)
    monkeypatch.setattr(compiled, "_alone", compiled._Alone())
    woken, calls = list[int](), list[int]()

    class Pool:
        def submit(self, work: Callable[[], int]) -> Future[int]:
            woken.append(len(calls))
            found: Future[int] = Future()
            if not late:
                found.set_running_or_notify_cancel()
                found.set_result(work())
            return found

    monkeypatch.setattr(compiled, "_pool", [Pool()])
    for _ in range(40):
        done = list[int]()
        compiled.at_once(partial(done.append, i) for i in range(3))
        assert sorted(done) == [0, 1, 2]
        calls.append(1)
    assert woken == ([0, 2, 6, 14, 30] if late else [*range(40)])


def test_the_last_call_alone_may_be_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """By two threads at once, as where sites of a simulation answer in threads: others are asked again all the same."""
    monkeypatch.setattr(compiled, "_cores", lambda: 2)
    monkeypatch.setattr(compiled, "_alone", compiled._Alone(all=1, left=-1))
    assert compiled.threads() == 2
    compiled.at_once([lambda: None])
    assert compiled._alone.left == -1


def test_others_who_come_in_time_again_are_asked_more_often_again() -> None:
    alone = compiled._Alone()
    waits = list[int]()
    for helped in [False] * 8 + [True] * 7:
        alone.told(helped)
        waits.append(alone.left)
    assert waits == [1, 3, 7, 15, 31, 63, 63, 63, 31, 15, 7, 3, 1, 0, 0]
