"""What a node keeps in SQLite: files that are whole, on disk when a statement returns, and nobody else's to read."""

from __future__ import annotations

import mmap
import os
import sqlite3
from pathlib import Path

from hanse.errors import ConfigError


def opened(path: Path, schema: str, without: str, *, threads: bool = False) -> sqlite3.Connection:
    """A connection to the file, which is made where it is not there (mode 0600).

    Each statement is a transaction of its own, in a write-ahead log that is on disk when it returns
    (``synchronous=FULL``); a lock of another process is waited for, ten seconds.

    Args:
        path: of the file.
        schema: statements that make the tables which are not there yet.
        without: a sentence for its owner: what may be done where the file is damaged, or why nothing.
        threads: whether threads other than this one use the connection, one at a time.

    Raises:
        ConfigError: the file is damaged; says ``without``.
        sqlite3.OperationalError: it is locked for longer.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    database = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=not threads)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("PRAGMA foreign_keys=ON")
        database.executescript(schema)
        whole = database.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "lock" in str(error):
            database.close()
            raise
        whole = False
    if not whole:
        database.close()
        raise ConfigError(f"{path.name} is damaged; {without}")
    return database


class Changes:
    """Says whether anything was committed to a database since somebody looked, by whatever process.

    In its write-ahead mode SQLite keeps a header in memory that all processes share, and changes it with each commit
    before the commit returns (https://sqlite.org/walformat.html, 2.1). Reading that costs nothing; asking SQLite, which
    takes a lock in the file to read the same, is more than all else of looking up what has not changed.

    Args:
        database: a connection; it must stay open, or the memory is another one's.
        path: of its file.
    """

    _HEADERS = 96  # bytes: two copies, which differ only while a commit is being written

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database = database
        self._shared: mmap.mmap | None = None
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()  # by now the memory is there
        if database.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            try:
                with open(f"{path}-shm", "rb") as file:
                    self._shared = mmap.mmap(file.fileno(), self._HEADERS, access=mmap.ACCESS_READ)
            except (OSError, ValueError):  # where SQLite keeps it elsewhere
                pass

    def mark(self) -> object:
        """The same as before where nothing was committed in between. To be taken before what it stands for is read."""
        if self._shared is not None:
            return self._shared[: self._HEADERS]
        (others,) = self._database.execute("PRAGMA data_version").fetchone()
        return others, self._database.total_changes
