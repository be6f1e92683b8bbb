"""What was answered, kept so that nothing of it is ever forgotten: the book of the ledgers, one SQLite file.

An answer is *reserved* before anything is computed, *settled* before it leaves, and *released* where nothing
left. A reservation is in memory: what was not settled did not leave. Settling is one transaction that is on
disk when it returns, so a process that is killed at any moment has either spent and told, or spent and not
told, never told and not spent. Each answer is booked under the digest of its ask: the same ask, answered
again because the reply was lost or a run went on after a crash, is spent once.

Disks take milliseconds, and so does the work of a small ask. So where all ledgers know before the work what it may
use up, that is *booked ahead*, beside the work, and settling need not wait for the disk: what was booked ahead and
neither settled nor released counts as spent when the node starts again (:meth:`Book.recover`). A loss of power may
take a settling back, never the booking, so it may cost an answer that was not told, and none is told for nothing.

Where an answer used up just what was booked ahead, the disk says all of it already: settling it writes nothing, and it
is *entered* with some others in one transaction, beside a later booking or where the accounts are to be complete. Until
then it is counted from memory, and whoever starts again after a kill finds it as it was booked.

Of a run that asks step after step, those that follow are booked with one of them (:mod:`hanse.node.steps_ahead`), so
that most of its answers need no disk at all.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hanse.errors import NotAllowed
from hanse.facts import Facts
from hanse.ledger import Account, Ledger
from hanse.messages import Json, Record, dumps, loads, placed_receipt
from hanse.node.holdings import Holdings
from hanse.node.kept import opened
from hanse.node.steps_ahead import (
    STEPS,
    Charges,
    StepsAhead,
    ToldLines,
    Where,
    digest_of_window,
    is_window,
    may_lack_lines,
    plain,
)
from hanse.rule import Decision

FILE = "spending.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
  digest TEXT NOT NULL, ledger TEXT NOT NULL, account TEXT NOT NULL, run TEXT NOT NULL,
  PRIMARY KEY (digest, ledger, account)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_of_runs ON answers (run);
CREATE TABLE IF NOT EXISTS accounts (
  ledger TEXT NOT NULL, account TEXT NOT NULL, run TEXT NOT NULL, spent TEXT NOT NULL,
  PRIMARY KEY (ledger, account)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ahead (
  number INTEGER PRIMARY KEY, digest TEXT NOT NULL, run TEXT NOT NULL, charges TEXT NOT NULL);
"""
_TOGETHER = 32  # settled answers that are entered by one transaction
_DOUBLED = 20  # times, what an account holds: where there is room for so much, there is no limit
_COMMITS = 100  # of those that last, after which the write-ahead log is brought into the file: some 1,500 pages


class Reservation(NamedTuple):
    """What was set aside for one answer: ledger to account and the most that it may use up. Empty where it is
    free, or was paid for before."""

    number: int
    digest: str
    run: str
    charges: Mapping[str, tuple[Account, Json]]
    facts: Facts | None = None


_FREE = Reservation(-1, "", "", {})  # of all that no ledger counts


@dataclass(frozen=True, slots=True)
class Spent:
    """One account, for the owner's eyes. ``said``: what was spent of how much, in words."""

    ledger: str
    account: str
    spent: Json
    said: str


class Book:
    """The file ``spending.db`` in the node's folder.

    Args:
        home: the node's folder.
        ledgers: what is counted; may be replaced when the owner changes the settings.
    """

    def __init__(self, home: Path, ledgers: Sequence[Ledger] = ()) -> None:
        self.ledgers = ledgers
        self._reserved: dict[int, Reservation] = {}
        self._ahead: dict[int, int] = {}  # of a reservation: the row that is on disk of it
        self._twice = set[str]()  # digests that were reserved while another reservation had them
        self._settled: dict[int, Reservation] = {}  # by the row on disk that says what they used up; not yet entered
        self._told: dict[str, list[Reservation]] = {}  # these by their digest
        self._used: dict[tuple[str, Account], tuple[Ledger, Json]] = {}  # what they used up
        self._next, self._lines = StepsAhead(), ToldLines(home)
        self._numbers = itertools.count()
        self._lock = threading.RLock()  # settling waits for the disk in a thread of its own
        self._db = opened(
            home / FILE,
            _SCHEMA,
            "restore it from a backup. Without it nobody knows what was answered already, so nothing is",
            threads=True,
        )
        self._holds = Holdings(self._db)
        self._db.execute("PRAGMA wal_autocheckpoint=0")  # it would come where nobody is to wait for the disk
        self._commits = 0

    @property
    def ledgers(self) -> tuple[Ledger, ...]:
        """What is counted."""
        return self._ledgers

    @ledgers.setter
    def ledgers(self, ledgers: Sequence[Ledger]) -> None:
        """From now on these, as the owner has changed the settings."""
        self._ledgers = tuple(ledgers)
        self._known = {ledger.name: ledger for ledger in ledgers}
        self._by_release = {ledger.name for ledger in ledgers if getattr(ledger, "by_release", False)}
        # those that refuse when the answer is there
        self._late = self._by_release | {ledger.name for ledger in ledgers if getattr(ledger, "late", False)}

    def close(self) -> None:
        """Lets the file go."""
        with self._lock, contextlib.suppress(sqlite3.Error):  # who starts again enters what is booked
            self._entered()
            if rows := self._next.unused():
                with self._written(lasting=False):
                    for row in rows:
                        self._delete(row)
        self._db.close()
        self._lines.close()

    # ------------------------------------------------------------ one answer

    def reserve(self, facts: Facts, ask: Record) -> Reservation:
        """Sets aside the most that answering may use up of each ledger. Where that was booked with an earlier step, it
        is :meth:`booked` from here on.

        Args:
            facts: of the task.
            ask: what is asked, the whole task as it came; with the facts that name its place in the run, it names the
                answer.

        Raises:
            NotAllowed: what is left of some account does not suffice, or a ledger failed.
        """
        accounts = self._accounts(facts)
        if not accounts:
            return _FREE
        named = digest_of(facts, ask)
        charges: dict[str, tuple[Account, Json]] = {}
        number = next(self._numbers)
        with self._lock:
            paid = self._holds.answered(named, facts.run)
            if named in self._told:
                told = [charge for one in self._told[named] for charge in one.charges.items()]
                paid = paid | {(name, account.name) for name, (account, _) in told}
            for ledger, account in accounts:
                name = ledger.name
                if (name, account.name) in paid and name not in self._by_release:
                    continue
                try:
                    most = ledger.most(facts)
                    said = None if name in self._late else ledger.refuses(self._with(ledger, account, most), facts)
                except Exception as error:
                    raise _failed(ledger, error) from error
                if said is not None and not said.allowed:
                    raise NotAllowed(f"{said.rule}: {said.reason}")
                charges[name] = (account, most)
            reservation = Reservation(number, named, facts.run, charges, facts)
            if self._reserved and any(other.digest == named for other in self._reserved.values()):
                self._twice.add(named)
            self._reserved[number] = reservation
            if self._next.take(number, (facts.run, facts.exchange, facts.operation), facts.step, charges):
                self._ahead[number] = -1 - number  # in place of the row that books an answer by itself: no row has it
        return reservation

    def counts(self, facts: Facts) -> bool:
        """Whether any ledger counts such a task; else nothing has to be hashed for :meth:`reserve`."""
        return bool(self._accounts(facts))

    def _accounts(self, facts: Facts) -> list[tuple[Ledger, Account]]:
        found: list[tuple[Ledger, Account]] = []
        for ledger in self._ledgers:
            try:
                account = ledger.account(facts)
            except Exception as error:
                raise _failed(ledger, error) from error
            if account is not None:
                found.append((ledger, account))
        return found

    def book(self, reservation: Reservation) -> None:
        """Books ahead the most that an answer may use up; when this returns, it is on disk. Nothing is booked where a
        ledger knows only of the answer what it used up, or where the reservation was released meanwhile."""
        if not reservation.charges or any(n not in self._known or n in self._late for n in reservation.charges):
            return
        with self._lock:
            if reservation.number not in self._reserved or reservation.number in self._ahead:
                return
            coming, where = self._coming(reservation), _where(reservation)
            if coming or len(self._settled) >= _TOGETHER:
                self._entered()
            window = 0
            with self._written():
                row = self._insert(reservation.digest, reservation.run, plain(reservation.charges))
                if coming:
                    if (before := self._next.before(where)) is not None:
                        self._delete(before)
                    every = [charge for one in coming.values() for charge in plain(one)]
                    window = self._insert(digest_of_window(), reservation.run, every)
            self._ahead[reservation.number] = row
            if coming:
                self._next.booked(where, window, coming)

    def _coming(self, reservation: Reservation) -> Mapping[int, Charges]:
        """By step what the next ones of its run may use up; nothing where a ledger knows that only of the answer, or
        where to count one for nothing could ever matter."""
        facts, found = reservation.facts, dict[int, Charges]()
        if facts is None or not self._next.follows(_where(reservation), facts.step):
            return {}
        for step in range(facts.step + 1, min(facts.step + STEPS, facts.steps)):
            about = facts.of_another(
                step=step,
                exchange=facts.exchange,
                operation=facts.operation,
                combine=facts.combine,
                round=facts.round,
                bytes=facts.bytes,
                time=facts.time,
            )
            charges = {
                ledger.name: (account, ledger.most(about))
                for ledger, account in self._accounts(about)
                if self._matters_little(ledger, account, about, first=not found)
            }
            if set(charges) != set(reservation.charges):
                return {}
            found[step] = charges
        return found

    def _matters_little(self, ledger: Ledger, account: Account, facts: Facts, first: bool) -> bool:
        """Whether an answer that nobody gave may be counted after a loss of power: on an account of this step alone,
        which has room for three; or, as the ``first`` step tells for all, on one that has no limit."""
        if ledger.name in self._late:
            return False
        most = ledger.most(facts)
        if account.run == facts.run:
            thrice = ledger.add(most, ledger.add(most, most))
            return self._spent(ledger, account) is None and ledger.refuses(thrice, facts).allowed
        if not first:
            return True
        total = self._with(ledger, account, most)
        for _ in range(_DOUBLED):
            total = ledger.add(total, total)
        return ledger.refuses(total, facts).allowed

    def _insert(self, digest: str, run: str, charges: Json) -> int:
        row = self._db.execute("INSERT INTO ahead VALUES (NULL, ?, ?, ?)", (digest, run, dumps(charges))).lastrowid
        return int(row or 0)

    def booked(self, reservation: Reservation) -> bool:
        """Whether it is booked ahead, so that settling it waits for no disk."""
        return reservation.number in self._ahead

    def recover(self) -> None:
        """Enters what was booked ahead and whose end nobody knows, as the process ended; of a ledger that is not there
        any more it stays as it is. For the node's own process, before it is asked anything."""
        known = self._known
        with self._lock:
            self._entered()
        with self._lock, self._written():
            gone = self._recover_told(known)
            for number, digest, run, text in self._db.execute("SELECT * FROM ahead").fetchall():
                charges: Json = loads(text)
                if is_window(digest):
                    charges = charges if may_lack_lines(digest) else []
                    for charge in [charge for charge in gone.get(run, []) if charge in charges]:
                        charges.remove(charge)
                        gone[run].remove(charge)
                for place, (name, account, of_run, most) in enumerate(charges):
                    if name in known:
                        nobody, own = Reservation(number, digest, run, {}), f"{digest} {number} {place}"
                        named = own if is_window(digest) else digest
                        self._enter(known[name], Account(account, of_run), nobody, most, named)
                unknown: Json = [charge for charge in charges if charge[0] not in known]
                if unknown:
                    self._db.execute("UPDATE ahead SET charges = ? WHERE number = ?", (dumps(unknown), number))
                else:
                    self._delete(number)
        self._lines.clear()

    def _recover_told(self, known: Mapping[str, Ledger]) -> dict[str, list[Json]]:
        """Enters what was told out of windows and not entered; returns its charges, by run."""
        found: dict[str, list[Json]] = {}
        for digest, run, charges in self._lines.lines():
            for name, account, of_run, most in charges:
                nobody = Reservation(-1, digest, run, {})
                if name in known and self._enter(known[name], Account(account, of_run), nobody, most, digest):
                    found.setdefault(run, []).append([name, account, of_run, most])
            if unknown := [charge for charge in charges if charge[0] not in known]:
                self._insert(digest, run, unknown)
        return found

    def settle(
        self, reservation: Reservation, spent: Mapping[str, Json] | None = None, release: str | None = None
    ) -> None:
        """Books an answer; when this returns, it is on disk, or was booked ahead.

        Args:
            reservation: of :meth:`reserve`.
            spent: ledger to what was really used up, where that is not what was reserved.
            release: the name of what was released of the rows; "" where nothing was; None: nobody says, so the answer
                itself.

        Raises:
            NotAllowed: what is left of an account that is looked at now does not suffice; nothing is booked then, and
                the answer must not leave.
        """
        if reservation.charges:
            known = self._known
            with self._lock:
                ahead = self._ahead.get(reservation.number)
                if ahead is not None and self._as_booked(reservation, spent):
                    if ahead < 0:
                        self._lines.add(reservation.digest, reservation.run, reservation.charges)
                    self._enter_later(ahead, reservation)
                    del self._ahead[reservation.number]
                    if ahead < 0:
                        self._next.settled(reservation.number)
                    self._forget_reservation(reservation)
                    return
                self._entered()
                with self._written(lasting=ahead is None):
                    if ahead is not None:
                        self._delete(ahead)
                    for name, (account, most) in reservation.charges.items():
                        used = most if spent is None else spent.get(name, most)
                        if name not in self._by_release:
                            self._enter(known[name], account, reservation, used, reservation.digest)
                        elif release != "":
                            self._enter(known[name], account, reservation, used, release or reservation.digest)
                if self._ahead.pop(reservation.number, 0) < 0:
                    self._next.settled(reservation.number)
        self.release(reservation)

    def release(self, reservation: Reservation) -> None:
        """Gives back what was set aside; of an answer that was settled, nothing is. What was booked ahead and cannot be
        taken back, as the disk fails, counts as spent when the node starts again."""
        if reservation is _FREE:
            return
        with self._lock:
            self._forget_reservation(reservation)
            ahead = self._ahead.pop(reservation.number, None)
            if ahead is not None and ahead < 0:
                self._next.released(reservation.number)
            elif ahead is not None:
                with contextlib.suppress(sqlite3.Error), self._written(lasting=False):
                    self._delete(ahead)

    def forget(self, run: str) -> None:
        """Drops what ends with a run that nothing is answered for any more."""
        with self._lock:
            self._entered()
            self._db.execute("DELETE FROM answers WHERE run = ?", (run,))
            self._db.execute("DELETE FROM accounts WHERE run = ?", (run,))
            for number, digest in self._db.execute("SELECT number, digest FROM ahead WHERE run = ?", (run,)).fetchall():
                if is_window(digest):
                    self._delete(number)
            self._holds.forget(run)
            self._next.forget(run)

    # ------------------------------------------------------------ for the owner

    def outlook(self, facts: Facts) -> list[Decision]:
        """What the ledgers that know what a whole run would use up (``whole``) say of it, with all that is spent and
        set aside. A ledger that fails says no."""
        said = []
        for ledger in self._ledgers:
            if not hasattr(ledger, "whole"):
                continue
            try:
                account = ledger.account(facts)
                if account is not None:
                    with self._lock:
                        said.append(ledger.refuses(self._with(ledger, account, ledger.whole(facts)), facts))
            except Exception as error:
                said.append(Decision(False, ledger.name, _failed(ledger, error).message))
        return said

    def lines(self, account: str | None = None) -> list[Spent]:
        """Every account that outlives its run, or those named ``account``, as the ledgers describe them; with what is
        booked ahead and not settled: where the node was killed it counts as spent."""
        known = self._known
        with self._lock:
            rows = self._db.execute("SELECT ledger, account, spent FROM accounts WHERE run = ''").fetchall()
            found: dict[tuple[str, str], Json] = {(name, ledger): loads(spent) for ledger, name, spent in rows}
            counted = set[tuple[str, str, str]]()
            rows = self._db.execute("SELECT digest, run, charges FROM ahead").fetchall()
            there = [(digest, run, loads(text)) for digest, run, text in rows if not is_window(digest)]
            for digest, whose, charges in [*there, *self._lines.lines()]:
                for ledger, name, run, most in charges:
                    once, entered = (digest, ledger, name), self._holds.answered(digest, whose)
                    if run or ledger not in known or once in counted or (ledger, name) in entered:
                        continue
                    counted.add(once)
                    at = (name, ledger)
                    found[at] = known[ledger].add(found[at], most) if at in found else most
        return [
            Spent(ledger, name, spent, known[ledger].describe(spent, name) if ledger in known else "")
            for (name, ledger), spent in sorted(found.items(), key=lambda one: one[0])
            if account in (None, name)
        ]

    # ------------------------------------------------------------ inside

    @contextlib.contextmanager
    def _written(self, lasting: bool = True) -> Iterator[None]:
        """One transaction, the whole of it or nothing; on disk at the end where it is ``lasting``. Else only the
        operating system has it, and no disk is waited for: with the next one that lasts it is on disk."""
        self._commits += lasting
        if not lasting:
            self._db.execute("PRAGMA synchronous=NORMAL")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._holds.undone()
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
        finally:
            if not lasting:
                self._db.execute("PRAGMA synchronous=FULL")
        if lasting and self._commits % _COMMITS == 0:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _delete(self, number: int) -> None:
        self._db.execute("DELETE FROM ahead WHERE number = ?", (number,))

    def _as_booked(self, reservation: Reservation, spent: Mapping[str, Json] | None) -> bool:
        """Whether an answer used up just what was booked ahead of it, and nobody else was told it meanwhile."""
        charges = reservation.charges
        return (
            reservation.digest not in self._twice
            and charges.keys() <= self._known.keys()
            and self._by_release.isdisjoint(charges)
            and (not spent or all(spent.get(name, most) == most for name, (_, most) in charges.items()))
        )

    def _enter_later(self, row: int, reservation: Reservation) -> None:
        self._settled[row] = reservation
        self._told.setdefault(reservation.digest, []).append(reservation)
        for name, (account, most) in reservation.charges.items():
            before = self._used.get((name, account))
            self._used[name, account] = (self._known[name], most if before is None else before[0].add(before[1], most))

    def _entered(self) -> None:
        """Enters what was settled and stands on disk as it was booked, all of it in one transaction."""
        if not self._settled and not self._next.due:
            return
        with self._written(lasting=False):
            rows = [(row,) for row in self._settled if row >= 0]  # the others are parts of a window's
            self._db.executemany("DELETE FROM ahead WHERE number = ?", rows)
            answers = [
                (reservation.digest, name, account.name, reservation.run)
                for reservation in self._settled.values()
                for name, (account, _) in reservation.charges.items()
            ]
            self._db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", answers)
            for digest, _, _, run in answers:
                self._holds.enters(digest, run)
            accounts = []
            for (name, account), (ledger, used) in self._used.items():
                before = self._holds.spent(name, account)
                self._holds.writes(name, account)
                total = used if before is None else ledger.add(before, used)
                accounts.append((name, account.name, account.run, dumps(total)))
            self._db.executemany("INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?)", accounts)
            for row, left in self._next.rows():
                if left:
                    self._db.execute("UPDATE ahead SET charges = ? WHERE number = ?", (dumps(left), row))
                else:
                    self._delete(row)
        self._next.entered()
        self._lines.clear()
        self._settled, self._told, self._used = {}, {}, {}

    def _forget_reservation(self, reservation: Reservation) -> None:
        self._reserved.pop(reservation.number, None)
        if self._twice and all(other.digest != reservation.digest for other in self._reserved.values()):
            self._twice.discard(reservation.digest)

    def _spent(self, ledger: Ledger, account: Account) -> Json:
        """What was used up of an account; None: nothing."""
        name = ledger.name
        before, settled = self._holds.spent(name, account), self._used.get((name, account))
        if settled is None:
            return before
        return settled[1] if before is None else ledger.add(before, settled[1])

    def _with(self, ledger: Ledger, account: Account, most: Json) -> Json:
        """What the account would hold with ``most`` and all that is set aside on it."""
        total, before = most, self._spent(ledger, account)
        if before is not None:
            total = ledger.add(before, total)
        for reservation in self._reserved.values():
            charge = reservation.charges.get(ledger.name)
            if charge is not None and charge[0] == account:
                total = ledger.add(total, charge[1])
        return total

    def _enter(self, ledger: Ledger, account: Account, reservation: Reservation, used: Json, name: str) -> bool:
        """Returns whether it was not entered before."""
        self._holds.enters(name, reservation.run)
        entered = self._db.execute(
            "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)",
            (name, ledger.name, account.name, reservation.run),
        )
        if not entered.rowcount:
            return False  # it was told before, or beside this one
        before = self._spent(ledger, account)
        total = used if before is None else ledger.add(before, used)
        if ledger.name in self._late and reservation.facts is not None:
            try:
                said = ledger.refuses(total, reservation.facts)
            except Exception as error:
                raise _failed(ledger, error) from error
            if not said.allowed:
                raise NotAllowed(f"{said.rule}: {said.reason}")
        self._holds.writes(ledger.name, account)
        self._db.execute(
            "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?)",
            (ledger.name, account.name, account.run, dumps(total)),
        )
        return True


def _where(reservation: Reservation) -> Where:
    facts = reservation.facts
    return (reservation.run, -1, "") if facts is None else (reservation.run, facts.exchange, facts.operation)


def digest_of(facts: Facts, ask: Record) -> str:
    """The name of an answer: a hash of what is asked, of the text that came where there is one, and of its place in the
    run."""
    place = dumps([facts.run, facts.bundle, facts.step, facts.exchange, facts.operation, facts.combine])
    return placed_receipt(place, ask)


def _failed(ledger: Ledger, error: Exception) -> NotAllowed:
    """A ledger that fails says no."""
    return NotAllowed(f"{ledger.name}: the ledger failed ({type(error).__name__}), which counts as a no")
