"""What was answered is never forgotten: not when the process is killed at any moment, and never counted twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.errors import ConfigError, NotAllowed
from hanse.facts import Facts
from hanse.ledger import Account
from hanse.ledgers import ledgers
from hanse.messages import Json, Record
from hanse.node.spending import FILE, Book, digest_of
from hanse.registry import names, settings
from hanse.rule import Decision
from tests.policy.some_facts import facts, without

DEFAULTS = {name: s.default for file in names("ledgers") for name, s in settings("ledgers", file).items()}


def ask(number: int = 0) -> Record:
    return Record({"number": number}, {"x": np.arange(3.0)})


def book(home: Path, **policy: Json) -> Book:
    return Book(home, ledgers({**DEFAULTS, **policy}))


def spend(there: Book, number: int, **changes: Any) -> None:
    known = facts(step=number, **changes)
    there.settle(there.reserve(known, ask(number)))


def spent(there: Book) -> Json:
    return next((line.spent for line in there.lines("visits")), 0)


# ---------------------------------------------------------------- reserve, settle, release


def test_settled_answers_count_once_each(tmp_path: Path) -> None:
    there = book(tmp_path)
    for number in (0, 1, 1, 2, 0):
        spend(there, number)
    assert spent(there) == 3
    there.close()
    assert spent(book(tmp_path)) == 3


def test_what_did_not_leave_is_not_spent(tmp_path: Path) -> None:
    there = book(tmp_path, most_queries=1)
    reservation = there.reserve(facts(), ask())
    with pytest.raises(NotAllowed, match="used up"):  # it is set aside, whoever else asks meanwhile
        there.reserve(facts(run="other"), ask())
    there.release(reservation)
    spend(there, 0, run="other")
    with pytest.raises(NotAllowed, match="at most 1 asks"):
        there.reserve(facts(), ask())
    assert spent(there) == 1


def test_the_same_ask_twice_at_the_same_time_is_spent_once(tmp_path: Path) -> None:
    there = book(tmp_path)
    one, two = there.reserve(facts(), ask()), there.reserve(facts(), ask())
    there.settle(one)
    there.settle(two)
    assert spent(there) == 1


def test_less_may_be_spent_than_was_reserved(tmp_path: Path) -> None:
    there = book(tmp_path)
    there.settle(there.reserve(facts(), ask()), {"queries": 0})
    assert spent(there) == 0


def test_a_run_that_has_ended_leaves_only_what_outlives_it(tmp_path: Path) -> None:
    there = book(tmp_path)
    for number in range(3):
        spend(there, number)
        spend(there, number, run="goes on")
    there.forget("r")
    assert spent(there) == 6
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        assert {row[0] for row in db.execute("SELECT run FROM answers")} == {"goes on"}
        assert {row[0] for row in db.execute("SELECT run FROM accounts")} == {"", "goes on"}


def test_a_book_that_cannot_be_written_lets_nothing_pass(tmp_path: Path) -> None:
    there = book(tmp_path)
    reservation = there.reserve(facts(), ask())
    there._db.execute("DROP TABLE accounts")
    with pytest.raises(sqlite3.OperationalError):
        there.settle(reservation)
    assert there._db.execute("SELECT count(*) FROM answers").fetchone() == (0,)  # the whole or nothing


def test_a_damaged_book_is_no_empty_book(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 1000)
    with pytest.raises(ConfigError, match="restore it from a backup"):
        Book(tmp_path)


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        book(tmp_path).close()
    finally:
        os.umask(before)
    assert all(not path.stat().st_mode & 0o077 for path in tmp_path.iterdir())


def test_the_name_of_an_answer_is_all_that_is_asked() -> None:
    known = {digest_of(facts(), ask()), digest_of(facts(), ask(1))}
    for change in ({"run": "s"}, {"bundle": "c"}, {"step": 5}, {"exchange": 1}, {"operation": "unmask"}):
        known.add(digest_of(facts(**change), ask()))
    known.add(digest_of(facts(), Record({"number": 0}, {"x": np.arange(4.0)})))
    assert len(known) == 8
    assert digest_of(facts(proposer="Eve", purpose="", round=9), ask()) in known


def test_threads_never_spend_more_than_there_is(tmp_path: Path) -> None:
    there, refused = book(tmp_path, most_queries=20), []

    def answer(first: int) -> None:
        for number in range(first, first + 10):
            try:
                spend(there, number)
            except NotAllowed:
                refused.append(number)

    workers = [threading.Thread(target=answer, args=(10 * i,)) for i in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert spent(there) == 20
    assert len(refused) == 30


# ---------------------------------------------------------------- what every ledger holds to

AMOUNT = st.integers(0, 1000)


@pytest.mark.parametrize("ledger", ledgers(DEFAULTS), ids=lambda ledger: ledger.name)
@given(a=AMOUNT, b=AMOUNT, c=AMOUNT)
def test_the_order_of_booking_does_not_matter(ledger: Any, a: int, b: int, c: int) -> None:
    assert ledger.add(a, b) == ledger.add(b, a)
    assert ledger.add(ledger.add(a, b), c) == ledger.add(a, ledger.add(b, c))
    assert ledger.describe(a)


@pytest.mark.parametrize("ledger", ledgers(DEFAULTS), ids=lambda ledger: ledger.name)
def test_a_ledger_that_misses_a_fact_says_no(ledger: Any, tmp_path: Path) -> None:
    there = Book(tmp_path, [ledger])
    with pytest.raises(NotAllowed, match="the ledger failed"):
        there.reserve(without("dataset", "needs_data", "run"), ask())


def test_a_task_without_data_is_free(tmp_path: Path) -> None:
    there = book(tmp_path, most_queries=1)
    for number in range(3):
        spend(there, number, needs_data=False, dataset=None, rows=None)
    assert not there.lines()


def test_amounts_need_not_be_numbers(tmp_path: Path) -> None:
    """A ledger of cells: each may be told once."""

    class Cells:
        name = "cells"

        def account(self, facts: Facts) -> Account | None:
            return Account("visits")

        def most(self, facts: Facts) -> Json:
            return [facts.step]

        def add(self, spent: Json, more: Json) -> Json:
            return sorted({*spent, *more})

        def refuses(self, spent: Json, facts: Facts) -> Decision:
            return Decision(len(spent) <= 2, self.name, "too many cells")

        def describe(self, spent: Json) -> str:
            return f"{len(spent)} cells"

    there = Book(tmp_path, [Cells()])
    for number in (4, 2, 4):
        spend(there, number)
    assert there.lines()[0].spent == [2, 4]
    with pytest.raises(NotAllowed, match="too many cells"):
        spend(there, 7)


# ---------------------------------------------------------------- kill -9

KILLS = 60


def test_killed_at_any_moment_it_forgets_nothing_that_left(tmp_path: Path) -> None:
    """A process answers asks: reserves, computes, settles, and only then lets the reply go (here: a byte into a
    pipe). It is killed at a random moment, ``KILLS`` times, each time going on with the ask that had no reply."""
    rng, told, killed = random.Random(7), 0, 0
    book(tmp_path).close()
    while killed < KILLS:
        read, write = os.pipe()
        child = os.fork()
        if not child:  # nothing of pytest may run here
            os.close(read)
            _answer_for_ever(tmp_path, write, told)
        os.close(write)
        time.sleep(rng.uniform(0.005, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1
        while os.read(read, 1):
            told += 1
        os.close(read)
        there = book(tmp_path)
        assert told <= spent(there) <= told + 1  # the last may be spent and not told; it is asked again, and free
        there.close()
    assert told > KILLS  # it did answer


def _answer_for_ever(home: Path, write: int, number: int) -> None:
    try:
        there = book(home)
        while True:
            reservation = there.reserve(facts(step=number), ask(number))
            sum(range(2000))  # the work
            there.settle(reservation)
            os.write(write, b"r")
            number += 1
    finally:
        os._exit(1)
