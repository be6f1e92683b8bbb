"""What this node has let be known of secure sums, for good: a file of its folder (:mod:`hanse.gathering._bound`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from hanse.errors import DataError
from hanse.messages import Json, dumps, loads

if TYPE_CHECKING:
    import sqlite3

FILE = "sums.db"
_SCHEMA = "CREATE TABLE IF NOT EXISTS sums (step TEXT PRIMARY KEY, told TEXT NOT NULL) WITHOUT ROWID;"


class Promises(MutableMapping[str, Json]):
    """What was told of each step; it is on disk before the next line runs, and is never changed. The file is opened
    when it is needed.

    Args:
        home: the node's folder.
        threads: whether several threads use it.
    """

    def __init__(self, home: Path, *, threads: bool = False) -> None:
        self._home, self._threads = home, threads
        self._turn = threading.RLock()
        self._opened: sqlite3.Connection | None = None

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
        row = self._db.execute("SELECT told FROM sums WHERE step = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return loads(row[0])

    def __setitem__(self, key: str, value: Json) -> None:
        if self.setdefault(key, value) != value:
            raise DataError("what was told of a secure sum cannot be changed")

    def setdefault(self, key: str, default: Json = None) -> Json:
        """What is written there, by whatever process; else ``default``, which is written then."""
        with self._turn:
            new = self._db.execute("INSERT OR IGNORE INTO sums VALUES (?, ?)", (key, dumps(default))).rowcount
            return default if new else self[key]

    def close(self) -> None:
        """Lets the file go."""
        with self._turn:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def __delitem__(self, key: str) -> None:
        raise DataError("what was told of a secure sum cannot be taken back")

    def __iter__(self) -> Iterator[str]:
        return iter([str(step) for (step,) in self._db.execute("SELECT step FROM sums ORDER BY step")])

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM sums").fetchone()[0])
