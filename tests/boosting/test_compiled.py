"""Threads that loops run in."""

from __future__ import annotations

import os
import signal
import threading
import time

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
