"""Faults of storage that pass: a full disk, a database that cannot be reached. Who meets one waits and tries again."""

from __future__ import annotations

import errno
import os

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ESTALE}


def passing(error: BaseException) -> str:
    """What is wrong with the storage, in words; "" for every other error.

    >>> passing(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device'
    >>> passing(ValueError("no"))
    ''
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _PASSING:
            return os.strerror(seen.errno or 0)
        if isinstance(seen, (OperationalError, InterfaceError)) or (
            isinstance(seen, DBAPIError) and seen.connection_invalidated
        ):
            return f"the database says: {str(seen.orig).splitlines()[0][:200]}"
        if isinstance(seen, PoolTimeout):
            return "no connection to the database is free"
        seen = seen.__cause__
    return ""
