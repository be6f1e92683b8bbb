"""Faults of storage that pass: a full disk, a database that cannot be reached. Who meets one waits and tries again."""

from __future__ import annotations

import sys
from typing import Any

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
    # whoever has no database has not loaded SQLAlchemy, and none of its errors
    known: Any = sys.modules.get("sqlalchemy.exc")
    seen: BaseException | None = error if known is not None else None
    while seen is not None:
        if isinstance(seen, (known.OperationalError, known.InterfaceError)) or (
            isinstance(seen, known.DBAPIError) and seen.connection_invalidated
        ):
            return f"the database says: {str(seen.orig).splitlines()[0][:200]}"
        if isinstance(seen, known.TimeoutError):
            return "no connection to the database is free"
        seen = seen.__cause__
    return ""
