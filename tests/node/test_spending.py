"""What was answered is never forgotten: not when the process is killed at any moment, and never counted twice."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.errors import ConfigError, NotAllowed
from hanse.facts import Data, Facts, now
from hanse.ledger import Account
from hanse.ledgers import ledgers
from hanse.messages import Json, Record
from hanse.node import spending
from hanse.node.holdings import Holdings
from hanse.node.spending import FILE, Book, Reservation, digest_of
from hanse.privacy import concentrated
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


@pytest.mark.parametrize("seed", range(8))
def test_what_is_known_without_the_file_is_what_it_holds(tmp_path: Path, seed: int) -> None:
    """Whatever was booked, settled, refused when it was there, undone, forgotten or looked up before."""
    rng, there = random.Random(seed), book(tmp_path, most_queries=12, most_cells=60)
    asked = [("visits" if n % 3 else "labs", f"r{n % 4}", n % 9) for n in range(60)]
    for name, run, number in rng.sample(asked, 60):
        about = facts(run=run, step=number, dataset=Data(name=name, version="1", tags=()))
        with contextlib.suppress(NotAllowed):
            reservation = there.reserve(about, ask(number))
            if rng.random() < 0.6:
                there.book(reservation)
            if rng.random() < 0.2:
                there.release(reservation)
            there.settle(reservation, rng.choice([None, {"cells": rng.randrange(40)}]))
        if rng.random() < 0.05:
            there.forget(run)
        there.lines()
        with there._lock:
            there._entered()
        fresh = Holdings(there._db)
        for ledger in there.ledgers:
            for of in (ledger.account(about), Account("labs"), Account("visits")):
                assert of is None or there._holds.spent(ledger.name, of) == fresh.spent(ledger.name, of)
        assert there._holds.answered(digest_of(about, ask(number)), run) == _entered_on(there, about, number)


def test_what_was_written_and_undone_is_not_known(tmp_path: Path) -> None:
    there = book(tmp_path)
    spend(there, 0)
    there.lines()
    queries, nobody = LEDGERS["queries"], Reservation(-1, "", "r", {})
    with contextlib.suppress(OSError), there._lock:
        there._entered()
        with there._written():
            there._enter(queries, Account("visits"), nobody, 5, "one")
            assert there._holds.spent("queries", Account("visits")) == 6
            raise OSError("the disk is full")
    assert there._holds.spent("queries", Account("visits")) == spent(there) == 1


def _entered_on(there: Book, about: Facts, number: int) -> set[tuple[str, str]]:
    of = (digest_of(about, ask(number)),)
    return set(there._db.execute("SELECT ledger, account FROM answers WHERE digest = ?", of).fetchall())


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


# ---------------------------------------------------------------- booked ahead


def after_a_loss_of_power(home: Path, there: Path) -> Book:
    """The book as the disk has it now; a process of its own reads it."""
    there.mkdir()
    for name in (FILE, f"{FILE}-wal"):
        (there / name).write_bytes((home / name).read_bytes())
    found = book(there)
    found.recover()
    return found


def test_what_was_booked_ahead_counts_once(tmp_path: Path) -> None:
    there = book(tmp_path)
    for number in (0, 1, 1, 0):
        reservation = there.reserve(facts(step=number), ask(number))
        there.book(reservation)
        assert there.booked(reservation) == bool(reservation.charges)
        there.settle(reservation)
    assert spent(there) == 2
    there.recover()
    assert spent(there) == 2
    assert there._db.execute("SELECT count(*) FROM ahead").fetchone() == (0,)


def test_what_was_booked_ahead_and_did_not_leave_is_not_spent(tmp_path: Path) -> None:
    there = book(tmp_path, most_queries=1)
    reservation = there.reserve(facts(), ask())
    there.book(reservation)
    with pytest.raises(NotAllowed, match="used up"):  # it is set aside once, on disk and in memory
        there.reserve(facts(run="other"), ask())
    there.release(reservation)
    there.recover()
    assert spent(there) == 0
    late = there.reserve(facts(), ask())
    there.release(late)
    there.book(late)  # its task ended while the disk was still busy with another one
    assert not there.booked(late)
    there.recover()
    assert spent(there) == 0


def test_less_may_be_spent_than_was_booked_ahead(tmp_path: Path) -> None:
    there = book(tmp_path)
    reservation = there.reserve(facts(), ask())
    there.book(reservation)
    there.settle(reservation, {"queries": 0})
    assert spent(there) == 0


def test_what_was_booked_ahead_is_spent_where_the_node_is_lost(tmp_path: Path) -> None:
    there = book(tmp_path, most_queries=2)
    reservation = there.reserve(facts(), ask())
    there.book(reservation)
    lost = after_a_loss_of_power(tmp_path, tmp_path / "lost")
    assert spent(lost) == 1
    assert not lost.reserve(facts(), ask()).charges  # it may have been told, so it is free when it is asked again
    there.settle(reservation)  # the operating system has it, and perhaps not the disk
    assert spent(after_a_loss_of_power(tmp_path, tmp_path / "settled")) == 1


def test_the_owner_sees_what_is_booked_ahead_before_a_killed_node_starts_again(tmp_path: Path) -> None:
    there = book(tmp_path)
    spend(there, 0)
    for number in (1, 1, 2):
        there.book(there.reserve(facts(step=number), ask(number)))
    there.close()  # killed
    shown = book(tmp_path)
    before = shown.lines()
    assert spent(shown) == 3
    shown.recover()
    assert shown.lines() == before


def test_what_ledgers_know_only_of_the_answer_is_not_booked_ahead(tmp_path: Path) -> None:
    there = book(tmp_path)
    reservation = there.reserve(noised(0), ask())
    assert "privacy" in reservation.charges
    there.book(reservation)
    assert not there.booked(reservation)


def test_settling_what_is_booked_waits_for_no_disk_and_the_next_booking_does(tmp_path: Path) -> None:
    there = book(tmp_path)
    said: list[str] = []
    there._db.set_trace_callback(said.append)
    one = there.reserve(facts(), ask())
    there.book(one)
    assert not [line for line in said if "synchronous" in line]
    there.settle(one, {"queries": 0})
    assert [line for line in said if "synchronous" in line] == [
        "PRAGMA synchronous=NORMAL",
        "PRAGMA synchronous=FULL",
    ]
    assert there._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert there._db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


def test_settling_what_was_used_up_as_it_was_booked_writes_nothing(tmp_path: Path) -> None:
    """It counts all the same: for the limit, where it is asked again, for the owner, and after a kill or a loss of
    power; and it is entered with those that follow."""
    there, together, said = book(tmp_path, most_queries=80), spending._TOGETHER, list[str]()
    for number in range(80):
        reservation = there.reserve(facts(step=number), ask(number))
        there.book(reservation)
        there._db.set_trace_callback(said.append)
        there.settle(reservation)
        there._db.set_trace_callback(None)
        assert not there.reserve(facts(step=number), ask(number)).charges
        assert there._db.execute("SELECT count(*) FROM ahead").fetchone()[0] <= together
        if number % 20 == 3:
            assert spent(there) == number + 1
            assert spent(after_a_loss_of_power(tmp_path, tmp_path / f"{number}")) == number + 1
    assert not said
    with pytest.raises(NotAllowed, match="at most 80 asks"):
        there.reserve(facts(step=80), ask(80))
    assert there._db.execute("SELECT count(*) FROM answers").fetchone() == (2 * 2 * together,)
    there.forget("r")
    assert there._db.execute("SELECT count(*) FROM ahead").fetchone() == (0,)
    assert spent(there) == 80
    there.close()
    assert spent(book(tmp_path)) == 80


def test_what_is_asked_twice_at_the_same_time_and_booked_is_spent_once(tmp_path: Path) -> None:
    there = book(tmp_path)
    for number in range(3):  # the second and the third begin with one that is settled and not yet entered
        one, two = (there.reserve(facts(step=number), ask(number)) for _ in range(2))
        there.book(one)
        there.book(two)
        there.settle(one)
        there.settle(two)
        assert spent(there) == 2 * number + 1
        assert not there.reserve(facts(step=number), ask(number)).charges
        later = there.reserve(facts(step=100 + number), ask(100 + number))
        there.book(later)
        there.settle(later)
        assert spent(there) == 2 * number + 2
    assert not there._twice
    there.recover()
    assert spent(there) == 6


def test_what_was_settled_outlives_a_disk_that_fails_when_it_is_entered(tmp_path: Path) -> None:
    there = book(tmp_path, most_queries=1)
    reservation = there.reserve(facts(), ask())
    there.book(reservation)
    there.settle(reservation)
    there._db.execute("ALTER TABLE accounts RENAME TO away")
    with pytest.raises(sqlite3.OperationalError):
        there.forget("r")
    there._db.execute("ALTER TABLE away RENAME TO accounts")
    with pytest.raises(NotAllowed, match="at most 1 asks"):
        there.reserve(facts(step=1), ask(1))
    there.forget("r")
    assert spent(there) == 1


def test_the_log_before_the_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "_COMMITS", 5)
    there, log = book(tmp_path), tmp_path / f"{FILE}-wal"
    sizes = []
    for number in range(60):
        reservation = there.reserve(facts(step=number), ask(number))
        there.book(reservation)
        there.settle(reservation)
        sizes.append(log.stat().st_size)
    assert max(sizes) < 2 * sizes[9]  # it grew six times as long
    assert spent(there) == 60
    there.close()
    assert spent(book(tmp_path)) == 60


def test_a_ledger_that_is_not_there_when_a_node_starts_again_finds_its_booking_later(tmp_path: Path) -> None:
    there = book(tmp_path)
    there.book(there.reserve(facts(), ask()))
    there.close()
    known = {ledger.name: ledger for ledger in ledgers(DEFAULTS)}
    without_queries = Book(tmp_path, [known["attempts"]])
    without_queries.recover()
    without_queries.close()
    there = book(tmp_path)
    entered = "SELECT count(*) FROM accounts WHERE ledger = 'queries'"
    assert there._db.execute(entered).fetchone() == (0,)
    there.recover()
    assert there._db.execute(entered).fetchone() == (1,)
    assert spent(there) == 1
    there.recover()
    assert spent(there) == 1


# ---------------------------------------------------------------- what every ledger holds to

AMOUNT = st.integers(0, 1000)


def amount(ledger: Any, number: int) -> Json:
    """An amount of a ledger: of privacy, by year, person and run."""
    if ledger.name != "privacy":
        return number
    return {str(2020 + number % 2): {f"person {number % 3}": {f"run {number % 5}": number}}} if number else {}


@pytest.mark.parametrize("ledger", ledgers(DEFAULTS), ids=lambda ledger: ledger.name)
@given(a=AMOUNT, b=AMOUNT, c=AMOUNT)
def test_the_order_of_booking_does_not_matter(ledger: Any, a: int, b: int, c: int) -> None:
    one, two, three = (amount(ledger, number) for number in (a, b, c))
    assert ledger.add(one, two) == ledger.add(two, one)
    assert ledger.add(ledger.add(one, two), three) == ledger.add(one, ledger.add(two, three))
    assert ledger.describe(one, "visits")


@pytest.mark.parametrize("ledger", ledgers(DEFAULTS), ids=lambda ledger: ledger.name)
def test_a_ledger_that_misses_a_fact_says_no(ledger: Any, tmp_path: Path) -> None:
    there = Book(tmp_path, [ledger])
    with pytest.raises(NotAllowed, match="the ledger failed"):
        there.reserve(without("dataset", "needs_data", "run", "privacy", "at_once"), ask())


def test_a_task_without_data_is_free(tmp_path: Path) -> None:
    there = book(tmp_path, most_queries=1)
    for number in range(3):
        spend(there, number, needs_data=False, dataset=None, rows=None)
    assert not there.lines()
    assert [there.counts(facts(**more)) for more in ({}, {"needs_data": False, "dataset": None})] == [True, False]


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

        def describe(self, spent: Json, dataset: str = "") -> str:
            return f"{len(spent)} cells"

    there = Book(tmp_path, [Cells()])
    for number in (4, 2, 4):
        spend(there, number)
    assert there.lines()[0].spent == [2, 4]
    with pytest.raises(NotAllowed, match="too many cells"):
        spend(there, 7)


# ---------------------------------------------------------------- kill -9


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(400)])])
def test_killed_at_any_moment_it_forgets_nothing_that_was_booked_ahead(tmp_path: Path, kills: int) -> None:
    """The same where it is booked ahead; who starts again enters what is left of it."""
    told, found = _killed(tmp_path, kills, _books_for_ever)
    assert told > kills / 2
    assert found


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(400)])])
def test_killed_at_any_moment_it_forgets_nothing_that_left(tmp_path: Path, kills: int) -> None:
    """A process answers asks: reserves, computes, settles, and only then lets the reply go (here: a byte into a
    pipe). It is killed at a random moment, each time going on with the ask that had no reply. Asks, numbers told and
    privacy are booked in one transaction, so all three are what was told, or one answer more."""
    told, found = _killed(tmp_path, kills, _answer_for_ever)
    queries = found.get("queries", 0)
    assert found.get("cells", 0) == 7 * queries
    one = LEDGERS["privacy"].most(noised(0))
    assert found.get("privacy", {}) == (_times(one, queries) if queries else {})
    assert told > kills / 2  # it did answer


def _killed(home: Path, kills: int, answers: Callable[[Path, int, int], None]) -> tuple[int, dict[str, Json]]:
    """How many answers were told by processes that were killed so often, and what is spent."""
    rng, told, found = random.Random(7), 0, dict[str, Json]()
    book(home).close()
    for _ in range(kills):
        read, write = os.pipe()
        child = os.fork()
        if not child:  # nothing of pytest may run here
            os.close(read)
            answers(home, write, told)
        os.close(write)
        assert os.read(read, 1) == b"s"  # it has begun, and answers some, however busy this machine is
        for _ in range(rng.randrange(3)):
            told += len(os.read(read, 1))
        time.sleep(rng.uniform(0.0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while os.read(read, 1):
            told += 1
        os.close(read)
        there = book(home)
        there.recover()
        found = {line.ledger: line.spent for line in there.lines("visits")}
        there.close()
        assert (
            told <= found.get("queries", 0) <= told + 1
        )  # the last may be spent and not told; asked again, it is free
    return told, found


LEDGERS = {ledger.name: ledger for ledger in ledgers(DEFAULTS)}
PROMISED = {"epsilon": 1.0, "delta": 1e-5, "unit": "row", "mode": "local", "releases": 10**9, "rho": 30.0}


def noised(step: int, **changes: Any) -> Facts:
    """Facts of a task of statistics whose run promises something."""
    return facts(**{"step": step, "privacy": PROMISED, "at_once": True, **changes})


def _times(amount: Json, times: int) -> Json:
    return {k: _times(v, times) for k, v in amount.items()} if isinstance(amount, dict) else amount * times


def _answer_for_ever(home: Path, write: int, number: int) -> None:
    try:
        there = book(home)
        os.write(write, b"s")
        while True:
            reservation = there.reserve(noised(number), ask(number))
            sum(range(2000))  # the work
            there.settle(reservation, {"cells": 7}, f"release {number}")
            os.write(write, b"r")
            number += 1
    finally:
        os._exit(1)


def _books_for_ever(home: Path, write: int, number: int) -> None:
    try:
        there = book(home)
        os.write(write, b"s")
        while True:
            reservation = there.reserve(facts(step=number), ask(number))
            there.book(reservation)
            there.settle(reservation)
            os.write(write, b"r")
            number += 1
    finally:
        os._exit(1)


# ---------------------------------------------------------------- privacy and numbers told


def spent_of(there: Book, ledger: str) -> Json:
    return next((line.spent for line in there.lines("visits") if line.ledger == ledger), None)


def test_a_release_is_spent_once_in_whatever_words_it_is_asked_for(tmp_path: Path) -> None:
    there = book(tmp_path)
    for number, name in ((0, "a"), (1, "a"), (0, "a"), (2, "")):  # other words, the same words, nothing of the rows
        there.settle(there.reserve(noised(number), ask(number)), {}, name)
    assert spent_of(there, "privacy") == LEDGERS["privacy"].most(noised(0))
    there.settle(there.reserve(noised(0), ask(0)), {}, "b")  # the same words, and other numbers: not the same release
    assert spent_of(there, "privacy") == _times(LEDGERS["privacy"].most(noised(0)), 2)
    there.settle(there.reserve(noised(0), ask(0)))  # nobody says what: the answer counts
    assert spent_of(there, "privacy") == _times(LEDGERS["privacy"].most(noised(0)), 3)


def test_a_run_gets_no_more_releases_than_it_promised(tmp_path: Path) -> None:
    there, promised = book(tmp_path), {**PROMISED, "releases": 2}
    for name in ("a", "b", "a"):
        there.settle(there.reserve(noised(0, privacy=promised), ask(0)), {}, name)
    reservation = there.reserve(noised(5, privacy=promised), ask(5))
    with pytest.raises(NotAllowed, match="at most 2 noised answers of this node, and they are given"):
        there.settle(reservation, {}, "c")
    there.release(reservation)
    assert spent_of(there, "privacy") == _times(LEDGERS["privacy"].most(noised(0, privacy=promised)), 2)
    there.settle(there.reserve(noised(0, privacy=promised, run="other"), ask()), {}, "d")


def test_a_budget_of_epsilon_is_of_a_year_and_names_who_spent_it(tmp_path: Path) -> None:
    """rho 0.0306 is epsilon 1 at delta 1e-5: two runs use 1.46 of 1.5 up, and a third has no room."""
    one = {**PROMISED, "releases": 5, "rho": concentrated.rho_of(1.0, 1e-5)}
    there = book(tmp_path, epsilon_budget=9.0, epsilon_budgets=["visits=1.5"])
    for run, person in (("r1", "Ada"), ("r2", "Bob")):
        for number in range(5):
            known = noised(number, privacy=one, run=run, proposer=person)
            there.settle(there.reserve(known, ask(number)), {}, f"{run} {number}")
    [line] = [line for line in there.lines("visits") if line.ledger == "privacy"]
    assert line.said.startswith(f"{now().year}: 97 % of the year, epsilon 1.46 of 1.5 (delta 1e-05)")
    assert "Ada 1 (r1 1); Bob 1 (r2 1)" in line.said
    third = noised(0, privacy=one, run="r3")
    with pytest.raises(NotAllowed, match="privacy: the privacy budget of this data set is used up for this year"):
        there.settle(there.reserve(third, ask()), {}, "r3 0")
    assert [d.allowed for d in there.outlook(third)] == [False]  # and its owner is told before it begins
    next_year = dataclasses.replace(third, time=third.time.replace(year=third.time.year + 1))
    assert [d.allowed for d in there.outlook(next_year)] == [True]
    there.settle(there.reserve(next_year, ask()), {}, "r3 0")


def test_numbers_told_in_statistics_have_a_budget(tmp_path: Path) -> None:
    there = book(tmp_path, cell_budgets=["visits=10"])
    there.settle(there.reserve(facts(at_once=True, step=0), ask(0)), {"cells": 6})
    there.settle(there.reserve(facts(at_once=True, step=0), ask(0)), {"cells": 6})  # the same answer again
    reservation = there.reserve(facts(at_once=True, step=1), ask(1))
    with pytest.raises(NotAllowed, match="tells at most 10 numbers of this data set in statistics"):
        there.settle(reservation, {"cells": 6})
    there.release(reservation)
    assert (spent_of(there, "cells"), spent_of(there, "queries")) == (6, 1)  # the whole answer, or nothing of it
    there.settle(there.reserve(facts(step=1), ask(1)), {"cells": 1000})  # training tells no cells


def test_budgets_of_single_data_sets_go_before_that_of_all(tmp_path: Path) -> None:
    there = book(tmp_path, most_queries=1, query_budgets=["visits=3", "scans=0"])
    for number in range(3):
        spend(there, number)
    with pytest.raises(NotAllowed, match="at most 3 asks"):
        spend(there, 3)
    for number in range(5):
        spend(there, number, dataset=Data(name="scans", version="1"))
    spend(there, 0, dataset=Data(name="labs", version="1"))
    with pytest.raises(NotAllowed, match="at most 1 asks"):
        spend(there, 1, dataset=Data(name="labs", version="1"))
