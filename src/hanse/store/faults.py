"""Faults of storage that pass: a full disk, a database that cannot be reached. Who meets one waits and tries again."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hanse.disk_faults import disk_fault


def passing(error: BaseException) -> str:
    """What is wrong with the storage, in words; "" for every other error.

    >>> passing(OSError(28, "No space left on device"))
    'No space left on device'
    >>> passing(ValueError("no"))
    ''
    """
    if said := disk_fault(error):
        return said
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (OperationalError, InterfaceError)) or (
            isinstance(seen, DBAPIError) and seen.connection_invalidated
        ):
            return f"the database says: {str(seen.orig).splitlines()[0][:200]}"
        if isinstance(seen, PoolTimeout):
            return "no connection to the database is free"
        seen = seen.__cause__
    return ""
