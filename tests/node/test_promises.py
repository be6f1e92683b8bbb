"""Claims of blocks of steps (:mod:`hanse.node.promises`): no two things are told of one step, by whatever process."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hanse.errors import DataError, NotAllowed
from hanse.gather import UNKNOWN, keep_promises
from hanse.node import promises
from hanse.node.promises import BLOCK, Promises

RUN = "run sha"


def place(step: int) -> str:
    return f"{RUN} {step}"


def test_what_a_process_holds_is_known_to_it_and_to_others_only_as_told(tmp_path: Path) -> None:
    one, other = Promises(tmp_path), Promises(tmp_path)
    assert one.hold(place(3), {"a": 1}) == {"a": 1}
    assert one.hold(place(3), {"a": 2}) == {"a": 1} == one[place(3)]
    assert one.get(place(4)) is None
    assert set(one) == {place(3)}
    for step in range(BLOCK):
        assert other[place(step)] == UNKNOWN
        assert other.hold(place(step), {"a": 1}) == UNKNOWN
        assert other.setdefault(place(step), {"a": 1}) == UNKNOWN
        with pytest.raises(NotAllowed, match="told before"):  # what the gate does with a reply
            keep_promises(other.setdefault, {place(step): {"a": 1}})
    assert set(other) == {place(step) for step in range(BLOCK)}
    assert len(other) == BLOCK
    assert other.get(place(BLOCK)) is None
    assert other.hold(place(BLOCK), {"a": 3}) == {"a": 3}
    assert one[place(BLOCK)] == UNKNOWN
    assert one.get("another sha 3") is None
    assert [one.holds(place(step)) for step in (0, BLOCK - 1, BLOCK)] == [True, True, False]


def test_one_writes_by_itself_in_a_block_of_its_own(tmp_path: Path) -> None:
    one = Promises(tmp_path)
    one.hold(place(1), {"a": 1})
    assert one.setdefault(place(1), {"a": 2}) == {"a": 1}
    assert one.setdefault(place(2), {"a": 2}) == {"a": 2} == one[place(2)]
    assert one.hold(place(2), {"a": 3}) == {"a": 2}
    assert (Promises(tmp_path)[place(1)], Promises(tmp_path)[place(2)]) == (UNKNOWN, {"a": 2})


def test_what_was_written_before_is_in_the_claim(tmp_path: Path) -> None:
    gate, worker = Promises(tmp_path, threads=True), Promises(tmp_path)
    keep_promises(gate.setdefault, {place(5): {"a": 1}})
    assert worker.hold(place(6), {"a": 2}) == {"a": 2}
    assert worker.hold(place(5), {"a": 3}) == {"a": 1} == worker[place(5)]
    assert gate[place(5)] == {"a": 1}


def test_what_is_let_go_is_as_another_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "_HELD", 2)
    one = Promises(tmp_path)
    for step in range(0, 3 * BLOCK, BLOCK):
        one.hold(place(step), {"a": step})
    assert [one[place(step)] for step in range(0, 3 * BLOCK, BLOCK)] == [UNKNOWN, {"a": BLOCK}, {"a": 2 * BLOCK}]
    assert one.hold(place(0), {"a": 0}) == UNKNOWN
    one.close()
    assert one[place(BLOCK)] == UNKNOWN


def test_what_cannot_be_claimed_is_not_held(tmp_path: Path) -> None:
    one = Promises(tmp_path)
    one.setdefault(place(100), {})
    one._db.execute("PRAGMA query_only = ON")
    with pytest.raises(sqlite3.OperationalError):
        one.hold(place(0), {"a": 1})
    one._db.execute("PRAGMA query_only = OFF")
    assert (one.get(place(0)), one.holds(place(0)), one._db.in_transaction) == (None, False, False)
    with pytest.raises(DataError, match="of a step of a run"):
        one.hold("no step", {"a": 1})


CHILD = """
import sys
from pathlib import Path
from hanse.node.promises import Promises

told = Promises(Path(sys.argv[1]))
for step in range(int(sys.argv[2]), 10**9):
    if told.hold(f"run sha {step}", {"step": step}) == {"step": step}:
        print(step, flush=True)
"""


def test_no_kill_lets_a_step_be_told_twice(tmp_path: Path) -> None:
    """Each process is asked from the first step on that the one before may have told."""
    told, rng = list[int](), random.Random(7)
    for _ in range(4):
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(max(0, max(told, default=0) - 2 * BLOCK))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(rng.uniform(0, 0.02))
            os.kill(child.pid, signal.SIGKILL)
            said = [first, *child.stdout.read().splitlines(keepends=True)]
        told += [int(line) for line in said if line.endswith("\n")]
        after = Promises(tmp_path)
        assert {after[place(step)] for step in told} == {UNKNOWN}
    assert len(told) == len(set(told)) > 4
