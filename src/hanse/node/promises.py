"""What this node has let be known of secure sums, for good: a file of its folder (:mod:`hanse.gathering._bound`).

There are two ways to write down what was told of a step:

- **by itself** (:meth:`Promises.setdefault`): what it was is on disk before the next line runs. Whoever comes after can
  read it, so the very same sum can be made again after any restart.
- **in a claim** (:meth:`Promises.hold`), of a step that its run can leave behind. Before anything of a block of 16
  steps is told, this process writes down that it alone tells what is told of them. What that was it keeps in memory, so
  one write serves 16 steps. Who comes after (the process was killed, or has let the block go) knows that something may
  have been told of each of these steps, and not what; so it tells nothing of them (:data:`hanse.gather.UNKNOWN`).

Why no two things are told of one step, in whatever order it is asked and whenever a process dies:

- A claim is on disk before the step's words leave the worker, so who dies before has told nothing, and who dies after
  has left the claim. One that was written and never used costs steps, not secrets.
- A claim names its process by a number that each :class:`Promises` draws anew, and is its own only while it is in its
  memory, too. So nobody takes over what another process has claimed, nor what it has forgotten itself.
- In a block that was claimed nobody else writes, by itself or in a claim. The former is one statement of the database,
  which looks for the claim as it writes; the latter one transaction, which takes over what is written of the block. So
  two processes of a node (its gate writes what leaves) cannot both believe that they are the first.
- While the process lives, what it holds of a step does not change, as if it were on disk.

What no file can help: a folder that was put back as it was before (a backup, a machine's snapshot) knows nothing of
what was told since. What runs of that time ask has to be refused by the owner.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from hanse.errors import DataError
from hanse.gather import UNKNOWN
from hanse.messages import Json, dumps, loads

if TYPE_CHECKING:
    import sqlite3

FILE = "sums.db"
BLOCK = 16  # steps of one claim; a restarted node tells nothing of what is left of one
_HELD = 16  # blocks whose steps are in memory, of all runs: a killed coordinator asks again what is in the latest
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sums (step TEXT PRIMARY KEY, told TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims
    (run TEXT, first INTEGER, process TEXT NOT NULL, PRIMARY KEY (run, first)) WITHOUT ROWID;
"""
_Block = tuple[str, int]  # all that is before the step, and the first step


class Promises(MutableMapping[str, Json]):
    """What was told of each step, by its place: ``run bundle step``. It is never changed. The file is opened when it is
    needed.

    Args:
        home: the node's folder.
        threads: whether several threads use it.
    """

    def __init__(self, home: Path, *, threads: bool = False) -> None:
        self._home, self._threads = home, threads
        self._turn = threading.RLock()
        self._opened: sqlite3.Connection | None = None
        self._process = secrets.token_hex(16)
        self._held: OrderedDict[_Block, dict[str, Json]] = OrderedDict()  # claimed by this one, and all of their steps

    @property
    def _db(self) -> sqlite3.Connection:
        if self._opened is None:
            from hanse.node.kept import opened  # SQLite takes 1 MB, and most workers tell nothing for good

            self._opened = opened(
                self._home / FILE,
                _SCHEMA,
                "restore it from a backup. Without it nobody knows which sums were told already, so none is",
                threads=self._threads,
            )
        return self._opened

    def __getitem__(self, key: str) -> Json:
        run, first = block = _block(key)
        if (held := self._held.get(block)) is not None:
            return held[key]
        told, claimed = self._db.execute(
            "SELECT (SELECT told FROM sums WHERE step = ?), EXISTS (SELECT 1 FROM claims WHERE run = ? AND first = ?)",
            (key, run, first),
        ).fetchone()
        if told is not None:
            return loads(told)
        if claimed:
            return UNKNOWN
        raise KeyError(key)

    def __setitem__(self, key: str, value: Json) -> None:
        if self.setdefault(key, value) != value:
            raise DataError("what was told of a secure sum cannot be changed")

    def setdefault(self, key: str, default: Json = None) -> Json:
        """What is written there, by whatever process; else ``default``, which is written then, by itself."""
        with self._turn:
            run, first = block = _block(key)
            held = self._held.get(block)
            if held is not None and key in held:
                return held[key]
            new = self._db.execute(
                "INSERT OR IGNORE INTO sums SELECT ?, ? WHERE NOT EXISTS"
                " (SELECT 1 FROM claims WHERE run = ? AND first = ? AND process != ?)",
                (key, dumps(default), run, first, self._process if held is not None else ""),
            ).rowcount
            if not new:
                return self[key]
            if held is not None:
                held[key] = default
            return default

    def hold(self, key: str, default: Json) -> Json:
        """As :meth:`setdefault`, in a claim: once this process is gone, what is there is not known."""
        with self._turn:
            block = _block(key)
            if block not in self._held and not self._claim(block):
                return self[key]
            return self._held[block].setdefault(key, default)

    def holds(self, key: str) -> bool:
        """Whether the step's block is claimed by this one, so that nobody else can write there."""
        return _block(key) in self._held

    def _claim(self, block: _Block) -> bool:
        """Whether the block is this one's from now on."""
        run, first = block
        if first < 0:
            raise DataError("what cannot be told again is told of a step of a run")
        with self._db as one:  # ends the transaction; undoes it where anything is raised
            one.execute("BEGIN IMMEDIATE")
            if not one.execute("INSERT OR IGNORE INTO claims VALUES (?, ?, ?)", (*block, self._process)).rowcount:
                return False
            places = [f"{run}{step}" for step in range(first, first + BLOCK)]
            written = f"SELECT step, told FROM sums WHERE step IN ({', '.join('?' * BLOCK)})"
            told = {str(step): loads(text) for step, text in one.execute(written, places)}
        self._held[block] = told
        while len(self._held) > _HELD:
            self._held.popitem(last=False)  # from now on as after a restart
        return True

    def close(self) -> None:
        """Lets the file go, and all claims."""
        with self._turn:
            self._held.clear()
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def __delitem__(self, key: str) -> None:
        raise DataError("what was told of a secure sum cannot be taken back")

    def __iter__(self) -> Iterator[str]:
        found = {str(step) for (step,) in self._db.execute("SELECT step FROM sums")}
        for run, first in self._db.execute("SELECT run, first FROM claims"):
            held = self._held.get((run, first))
            found.update([f"{run}{step}" for step in range(first, first + BLOCK)] if held is None else held)
        return iter(sorted(found))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _block(key: str) -> _Block:
    """That a step belongs to; -1 is first where the key names none."""
    run, space, step = key.rpartition(" ")
    if not (step.isascii() and step.isdecimal()) or len(step) > 18:
        return key, -1
    return run + space, int(step) // BLOCK * BLOCK
