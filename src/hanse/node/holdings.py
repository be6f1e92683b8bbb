"""What the book of the ledgers holds, found without asking its file where that is nothing.

Nearly every ask is a new one, on an account of its own: the file says three times that it holds nothing of it, and each
takes longer than all that is computed of the answer. So of each run it is remembered what is there, by 64 bits a name:
what these do not have is not in the file, and of all else the file is asked. Of an account that outlives its run, what
it holds is remembered until it is written.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Set

from hanse.ledger import Account
from hanse.messages import Json, loads

_RUNS = 16  # whose names are remembered
_ACCOUNTS = 64  # that outlive their runs
_NONE = frozenset[tuple[str, str]]()


class Holdings:
    """What ``database`` holds. Nobody else may write to it, and one thread at a time may be here.

    Args:
        database: with the tables ``answers`` and ``accounts`` of :mod:`hanse.node.spending`.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._names = OrderedDict[str, set[int]]()  # of a run: its answers, and its accounts
        # by account that outlives its run: a number, or JSON where a ledger could change what it is given
        self._spent = OrderedDict[tuple[str, str], int | float | str | None]()

    def answered(self, digest: str, run: str) -> Set[tuple[str, str]]:
        """Ledgers and accounts on which an answer of a run was entered."""
        names = self._names.get(run)
        if hash(digest) not in (self._of(run) if names is None else names):
            return _NONE
        return set(self._db.execute("SELECT ledger, account FROM answers WHERE digest = ?", (digest,)).fetchall())

    def spent(self, ledger: str, account: Account) -> Json:
        """What an account holds; None: nothing."""
        at = (ledger, account.name)
        if account.run:
            names = self._names.get(account.run)
            text = self._read(at) if hash(at) in (self._of(account.run) if names is None else names) else None
            return None if text is None else loads(text)
        if at not in self._spent:
            text = self._read(at)
            found = None if text is None else loads(text)
            self._spent[at] = found if type(found) in (int, float) else text
            if len(self._spent) > _ACCOUNTS:
                self._spent.popitem(last=False)
        known = self._spent[at]
        return loads(known) if type(known) is str else known

    def enters(self, digest: str, run: str) -> None:
        """An answer of a run is being entered; where it is not after all, nothing will be found of it."""
        if run in self._names:
            self._names[run].add(hash(digest))

    def writes(self, ledger: str, account: Account) -> None:
        """What an account holds is being written."""
        self._spent.pop((ledger, account.name), None)
        if account.run in self._names:
            self._names[account.run].add(hash((ledger, account.name)))

    def undone(self) -> None:
        """What was being written is not written, and was perhaps read meanwhile."""
        self._spent.clear()

    def forget(self, run: str) -> None:
        """The run is over."""
        self._names.pop(run, None)

    def _read(self, at: tuple[str, str]) -> str | None:
        found = self._db.execute("SELECT spent FROM accounts WHERE ledger = ? AND account = ?", at).fetchone()
        return None if found is None else str(found[0])

    def _of(self, run: str) -> set[int]:
        answers = self._db.execute("SELECT DISTINCT digest FROM answers WHERE run = ?", (run,)).fetchall()
        accounts = self._db.execute("SELECT ledger, account FROM accounts WHERE run = ?", (run,)).fetchall()
        found = self._names[run] = {hash(digest) for (digest,) in answers} | set(map(hash, accounts))
        while len(self._names) > _RUNS:
            self._names.popitem(last=False)
        return found
