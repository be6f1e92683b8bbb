"""Faults of a disk that pass: it is full, or does not answer. Who meets one waits and tries again."""

from __future__ import annotations

import errno
import os
import sqlite3

_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ESTALE}
_SQLITE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY}


def disk_fault(error: BaseException) -> str:
    """What is wrong with a disk, in words; "" for every other error. Looks at what caused it, too.

    >>> disk_fault(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device'
    >>> disk_fault(ValueError("no"))
    ''
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _PASSING:
            return os.strerror(seen.errno or 0)
        if isinstance(seen, sqlite3.OperationalError) and getattr(seen, "sqlite_errorcode", 0) & 0xFF in _SQLITE:
            return str(seen)[:200]
        seen = seen.__cause__
    return ""
