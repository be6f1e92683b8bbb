"""What a node keeps in SQLite: files that are whole, on disk when a statement returns, and nobody else's to read."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
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
    with contextlib.suppress(FileExistsError):  # to close one that is there would end the locks of a connection to it
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
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


@dataclass(slots=True)
class _Shared:
    """The memory of one database, as this process reads it."""

    descriptor: int
    header: mmap.mmap
    users: int = 0


_all: dict[tuple[int, int], _Shared] = {}  # device and inode of the file
_turn = threading.RLock()  # a finalizer may run within


class Changes:
    """Says whether anything was committed to a database since somebody looked, by whatever process.

    In its write-ahead mode SQLite keeps a header in memory that all processes share, and changes it with each commit
    before the commit returns (https://sqlite.org/walformat.html, 2.1). Reading that costs nothing; asking SQLite, which
    takes a lock in the file to read the same, is more than all else of looking up what has not changed.

    A process that closes a file ends all the locks that it has on it, those of SQLite too, which then takes the memory
    for nobody's and makes it anew (https://sqlite.org/howtocorrupt.html, 2.2). So the file of the memory is opened once
    in a process, and closed when nobody here uses it any more.

    Args:
        database: a connection; it must stay open, or the memory is another one's.
        path: of its file.
    """

    _HEADERS = 96  # bytes: two copies, which differ only while a commit is being written

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database = database
        #: The same as before where nothing was committed in between. To be taken before what it stands for is read.
        self.mark: Callable[[], object] = self._asked
        self._end: Callable[[], object] = lambda: None
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()  # by now the memory is there
        if database.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            try:
                key, shared = _taken(f"{path}-shm", self._HEADERS)
            except (OSError, ValueError):  # where SQLite keeps it elsewhere
                return
            self.mark = functools.partial(shared.__getitem__, slice(self._HEADERS))
            self._end = weakref.finalize(self, _given_back, key)

    def close(self) -> None:
        """Looks no more; to be called when the connection is closed."""
        self._end()

    def _asked(self) -> object:
        (others,) = self._database.execute("PRAGMA data_version").fetchone()
        return others, self._database.total_changes


def _taken(path: str, size: int) -> tuple[tuple[int, int], mmap.mmap]:
    with _turn:
        about = os.stat(path)
        key = (about.st_dev, about.st_ino)
        if key not in _all:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            _all[key] = _Shared(descriptor, mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
        _all[key].users += 1
        return key, _all[key].header


def _given_back(key: tuple[int, int]) -> None:
    with _turn:
        shared = _all[key]
        shared.users -= 1
        if not shared.users:
            del _all[key]
            shared.header.close()
            os.close(shared.descriptor)
