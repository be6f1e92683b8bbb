"""From one version of the schema to the next: ``v2.py`` makes version 2 of version 1; the folder is the list.

All steps that are missing run in one transaction with the note of the new version, so a process that is killed at
any point leaves the old database or the new one. Before the first step a copy is put beside the database.

Why not Alembic: our versions are numbers in one line, so a database of a *newer* release can be refused by name; its
revisions are names without an order, and an unknown one may be newer, of a branch, or damage. What is left of it is
running functions in a row: this file. It would cost each start 0.12 s of processor time and 12 MB of memory.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, select

import hanse
from hanse.errors import ConfigError
from hanse.store.schema import metadata, schema_version

_log = logging.getLogger(__name__)


def newest() -> int:
    """The version of the schema that this release reads and writes."""
    return max((int(module.name[1:]) for module in pkgutil.iter_modules(__path__)), default=1)


def found(connection: Connection) -> int | None:
    """The version of the schema that the database has; None where it has none yet."""
    if not inspect(connection).has_table(schema_version.name):
        return None
    return connection.execute(select(schema_version.c.version)).scalar()


def bring_up_to_date(connection: Connection, folder: Path | None) -> None:
    """Makes the schema where there is none, and runs the steps that are missing. Inside a write transaction.

    Args:
        folder: where the copy of an older database goes; None: no copy is made.

    Raises ``ConfigError`` for a database of a newer release, or where the copy cannot be written.
    """
    schema_version.create(connection, checkfirst=True)
    # all columns that there are: the first release had no ``release`` here
    row = connection.exec_driver_sql("SELECT * FROM schema_version").mappings().first()
    if row is None:
        metadata.create_all(connection)
        connection.execute(schema_version.insert().values(version=newest(), release=hanse.__version__))
        return
    version, release = int(row["version"]), str(row.get("release") or "0.1.0")
    if version > newest():
        raise ConfigError(
            f"this home was written by hanse {release}, schema {version}; this is hanse {hanse.__version__}, schema "
            f"{newest()}; install hanse {release} or newer, or restore the copy that was made before"
        )
    if version == newest():
        return
    if folder is not None:
        copied = _copy(connection, folder, version)
        _log.warning("schema %d becomes %d; a copy of the old one: %s", version, newest(), copied)
    for step in range(version + 1, newest() + 1):
        importlib.import_module(f"{__name__}.v{step}").upgrade(connection)
    connection.execute(schema_version.update().values(version=newest(), release=hanse.__version__))


def _copy(connection: Connection, folder: Path, version: int) -> Path:
    """The database as it was before this transaction, in a file: whole, or not there."""
    sqlite = connection.dialect.name == "sqlite"
    target = folder / f"schema-{version}.{'db' if sqlite else 'copy.sql'}"
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{target.name}-")
    temporary = Path(name)
    try:
        (_sqlite if sqlite else _postgresql)(connection, temporary)
        os.fsync(descriptor)
        temporary.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"the copy of the database that is made before its schema changes cannot be written ({error}); nothing was "
            f"changed. Make room in the home, then start again"
        ) from None
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)
    return target


def _sqlite(connection: Connection, path: Path) -> None:
    """The online backup of SQLite; it reads what is committed, beside our transaction."""
    source = sqlite3.connect(f"file:{connection.engine.url.database}?mode=ro", uri=True)
    target = sqlite3.connect(path)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()


def _postgresql(connection: Connection, path: Path) -> None:
    """The rows of all tables as ``COPY``, in an order that foreign keys allow: ``psql`` reads them into an empty
    database in which the older release has made its tables."""
    look = inspect(connection)
    cursor: Any = connection.connection.cursor()
    with path.open("wb") as file:
        for table, _ in look.get_sorted_table_and_fkc_names():
            if table is None or table == "schema_version" or table not in metadata.tables:
                continue
            columns = ", ".join(f'"{column["name"]}"' for column in look.get_columns(table))
            file.write(f'COPY "{table}" ({columns}) FROM stdin;\n'.encode())
            with cursor.copy(f'COPY "{table}" ({columns}) TO STDOUT') as rows:
                for piece in rows:
                    file.write(piece)
            file.write(b"\\.\n")
        file.write(b"SELECT setval(pg_get_serial_sequence('events', 'id'), coalesce(max(id), 1)) FROM events;\n")
