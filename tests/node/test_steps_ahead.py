"""What is booked of the next steps of a run: no answer is told that a restart does not find."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hanse.facts import Facts
from hanse.ledgers import ledgers
from hanse.messages import Json
from hanse.node import steps_ahead
from hanse.node.spending import FILE, Book, Reservation
from hanse.node.steps_ahead import STEPS
from tests.node.test_spending import DEFAULTS, ask
from tests.policy.some_facts import facts

ATTEMPTS = next(ledger for ledger in ledgers(DEFAULTS) if ledger.name == "attempts")


def about(step: int, failed: int = 3, **changes: Any) -> Facts:
    return facts(step=step, steps=1000, settings={"max_failed_rounds": failed}, **changes)


def book(home: Path, **policy: Json) -> Book:
    return Book(home, ledgers({**DEFAULTS, **policy}))


def answer(there: Book, of: Facts, number: int = 0) -> Reservation:
    reservation = there.reserve(of, ask(number))
    there.book(reservation)
    there.settle(reservation)
    return reservation


def ways(there: Book, step: int, **changes: Any) -> int:
    """In how many ways the book has it that a step was asked."""
    account = ATTEMPTS.account(about(step, **changes))
    assert account is not None
    return there._spent(ATTEMPTS, account) or 0


def after_a_kill(home: Path, place: Path, lines: int | None = None) -> Book:
    """Who starts again with what is on disk now; after a loss of power, with so many ``lines`` of what was told."""
    place.mkdir()
    for file in (*home.glob(f"{FILE}*"), home / steps_ahead.FILE):
        shutil.copy(file, place)
    if lines is not None:
        os.truncate(place / steps_ahead.FILE, lines)
    again = book(place)
    with pytest.MonkeyPatch.context() as patch:
        if lines is not None:
            patch.setattr(steps_ahead, "since", lambda: "another start")
        again.recover()
    assert not again._lines.lines()
    return again


def test_of_many_steps_only_one_waits_for_the_disk(tmp_path: Path) -> None:
    there = book(tmp_path)
    for step in range(2):
        answer(there, about(step))
    begun = there._commits
    for step in range(2, 1 + STEPS):
        answer(there, about(step))
    assert there._commits == begun
    for step in range(1 + STEPS, 1 + 4 * STEPS):
        answer(there, about(step))
    assert there._commits == begun + 3
    assert [ways(there, step) for step in range(1 + 4 * STEPS)] == [1] * (1 + 4 * STEPS)
    assert there._db.execute("SELECT count(*) FROM ahead WHERE digest LIKE 'steps %'").fetchone() == (1,)


def asked(there: Book) -> Json:
    """How many asks of the data set are counted for its owner."""
    return next((line.spent for line in there.lines("visits") if line.ledger == "queries"), 0)


def test_who_is_killed_counts_what_was_told(tmp_path: Path) -> None:
    home = tmp_path / "node"
    home.mkdir()
    there = book(home)
    for step in range(10):
        answer(there, about(step))
    assert asked(there) == asked(book(home)) == 10  # whoever looks
    killed = after_a_kill(home, tmp_path / "killed")
    assert [ways(killed, step) for step in range(12)] == [1] * 10 + [0, 0]
    answer(killed, about(9))  # the same ask counts once
    assert (ways(killed, 9), asked(killed)) == (1, 10)
    answer(killed, about(9), 1)
    assert (ways(killed, 9), asked(killed)) == (2, 11)


@pytest.mark.parametrize("lines", [0, 500, 100_000])
def test_where_power_was_lost_each_step_that_may_have_been_told_counts(tmp_path: Path, lines: int) -> None:
    home = tmp_path / "node"
    home.mkdir()
    there = book(home)
    for step in range(10):
        answer(there, about(step))
    killed = after_a_kill(home, tmp_path / "killed", lines)
    assert [ways(killed, step) for step in range(1 + STEPS)] == [1] * (1 + STEPS)
    assert (ways(killed, 1 + STEPS), asked(killed)) == (0, 1 + STEPS)
    answer(killed, about(10))
    assert ways(killed, 10) == 2
    again = after_a_kill(tmp_path / "killed", tmp_path / "again", 0)
    assert [ways(again, 10), ways(again, 11), asked(again)] == [2, 1, 2 + STEPS]


def test_who_is_stopped_leaves_nothing_of_what_nobody_asked(tmp_path: Path) -> None:
    there = book(tmp_path)
    for step in range(10):
        answer(there, about(step))
    there.close()
    again = book(tmp_path)
    again.recover()
    assert [ways(again, step) for step in range(12)] == [1] * 10 + [0, 0]
    assert again._db.execute("SELECT count(*) FROM ahead").fetchone() == (0,)


def test_the_end_of_a_run_takes_its_window_along(tmp_path: Path) -> None:
    there = book(tmp_path)
    for step in range(4):
        answer(there, about(step))
        answer(there, about(step, run="goes on"))
    late = there.reserve(about(4), ask())
    assert there.booked(late)
    there.forget(late.run)
    there.settle(late)
    for step in range(4, 3 + STEPS):
        answer(there, about(step, run="goes on"))
    assert [ways(there, step, run="goes on") for step in range(3 + STEPS)] == [1] * (3 + STEPS)
    with there._lock:
        there._entered()
    rows = there._db.execute("SELECT run FROM ahead").fetchall()
    assert rows in ([], [("goes on",)])


def test_what_was_not_told_may_be_told_to_another_ask(tmp_path: Path) -> None:
    there = book(tmp_path)
    for step in range(3):
        answer(there, about(step))
    first = there.reserve(about(3), ask(1))
    second = there.reserve(about(3), ask(2))
    assert there.booked(first)
    assert not there.booked(second)
    there.release(first)
    third = there.reserve(about(3), ask(3))
    assert there.booked(third)
    there.release(second)
    there.settle(third)
    assert ways(there, 3) == 1


@pytest.mark.parametrize(
    ("policy", "changes"),
    [({}, {"failed": 1}), ({"most_queries": 100}, {}), ({}, {"privacy": {"unit": "site", "rho": 1.0, "releases": 9}})],
    ids=["asked in few ways", "an account that outlives the run", "counted by what is released"],
)
def test_nothing_is_booked_of_steps_that_it_would_cost_too_much(
    tmp_path: Path, policy: dict[str, Json], changes: dict[str, Any]
) -> None:
    there = book(tmp_path, **policy)
    for step in range(4):
        reservation = there.reserve(about(step, **changes), ask())
        assert not there.booked(reservation)
        there.book(reservation)
        there.settle(reservation)
    assert there._db.execute("SELECT count(*) FROM ahead WHERE digest LIKE 'steps %'").fetchone() == (0,)


@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_moment_no_way_that_was_told_is_forgotten(tmp_path: Path, seed: int) -> None:
    """Of whatever is asked in whatever order, several at a time: who starts again has every way in which a step was
    answered, and of each step at most one more."""
    rng, home = random.Random(seed), tmp_path / "node"
    home.mkdir()
    there, told, step = book(home), dict[tuple[str, int], set[int]](), Counter[str]()
    open_ones: list[tuple[Reservation, str, int, int]] = []
    for moment in range(150):
        run = rng.choice(["r", "s"])
        step[run] += rng.choice([0, 1, 1, 1, 1, 2])
        way = rng.choice([0, 0, 0, 1])
        if len(told.get((run, step[run]), ())) < 2:
            reservation = there.reserve(about(step[run], run=run), ask(way))
            there.book(reservation)
            open_ones.append((reservation, run, step[run], way))
        while open_ones and rng.random() < (0.9 if seed % 2 else 0.6):
            reservation, of, at, way = open_ones.pop(rng.randrange(len(open_ones)))
            if rng.random() < 0.1:
                there.release(reservation)
                continue
            there.settle(reservation)
            told.setdefault((of, at), set()).add(way)
        if rng.random() < 0.05:
            there.lines()
            with there._lock:
                there._entered()
        for of, at in told:
            assert ways(there, at, run=of) == len(told[of, at])
        if moment % 10 == 0:
            power = rng.choice([None, rng.randrange(5000)])
            killed = after_a_kill(home, tmp_path / str(moment), power)
            for (of, at), known in told.items():
                open_here = sum((of, at) == (o, a) for _, o, a, _ in open_ones)
                most = len(known) + open_here + (power is not None)
                assert len(known) <= ways(killed, at, run=of) <= most
            assert asked(killed) >= sum(map(len, told.values()))
            killed.close()


def test_a_window_stays_while_an_answer_out_of_it_is_in_work(tmp_path: Path) -> None:
    home = tmp_path / "node"
    home.mkdir()
    there = book(home)
    for step in range(3):
        answer(there, about(step))
    late = there.reserve(about(5), ask())
    assert there.booked(late)
    for step in range(40, 43):
        answer(there, about(step))
    there.settle(late)
    assert ways(after_a_kill(home, tmp_path / "killed", 0), 5) == 1


def test_two_windows_of_a_run_are_counted_each(tmp_path: Path) -> None:
    home = tmp_path / "node"
    home.mkdir()
    there = book(home)
    for step in range(10):
        for exchange in range(2):
            answer(there, about(step, exchange=exchange))
    killed = after_a_kill(home, tmp_path / "killed", 100_000)
    assert [ways(killed, 20, exchange=exchange) for exchange in range(2)] == [1, 1]
    assert asked(killed) == 2 * (1 + STEPS)
