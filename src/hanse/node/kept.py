"""What a node keeps in SQLite: files that are whole, on disk when a statement returns, and nobody else's to read."""

from __future__ import annotations

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
