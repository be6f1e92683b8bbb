"""That one coordinator alone drives what is in a database: two would each fail the other's runs.

Other commands (``hanse coordinator account add``, ...) read and write beside it and need no claim.
"""

from __future__ import annotations

import fcntl
import os

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from hanse.errors import Conflict

DatabaseAway = DBAPIError  # what reading and writing raise while the server cannot be reached
_KEY = 0x68616E7366  # one after the writers' lock (hanse.store.database)


class Claim:
    """A lock beside the file of SQLite, or one of PostgreSQL that its server holds for one connection.

    Raises ``Conflict`` where another process has it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, self._file = engine, -1
        self._connection: Connection | None = None
        taken = self._lock() if engine.dialect.name == "sqlite" else self._ask()
        if not taken:
            raise Conflict("another coordinator is running on this database; stop it first, or give --database another")

    def held(self) -> bool:
        """Whether it is still ours. A connection that was lost (the server was started anew) is made again; False:
        another coordinator was faster. Raises ``DatabaseAway`` while the server cannot be reached. Blocks."""
        if self._file >= 0:
            return True
        try:
            if self._connection is not None:
                self._connection.exec_driver_sql("SELECT 1")
                return True
        except DBAPIError:
            self.release()
        return self._ask()

    def release(self) -> None:
        """Lets another coordinator have the database."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._connection is not None:
            self._connection.invalidate()  # back in the pool it would keep the lock
            self._connection.close()
            self._connection = None

    def _lock(self) -> bool:
        path = f"{self._engine.url.database}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._file = descriptor
        return True

    def _ask(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_KEY})").scalar():
            self._connection = connection
            return True
        connection.close()
        return False
