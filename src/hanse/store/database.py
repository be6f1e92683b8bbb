"""One database, SQLite or PostgreSQL: reads at any time, one writer at a time.

Writers are put in a row, also on PostgreSQL (an advisory lock): a round is one small commit, so
this costs nothing that anybody would notice, and in return there are no write conflicts to retry
and the ids of events grow in the order of their commits, so nobody who reads "all after id n"
ever misses one.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, CursorResult, Engine, Executable, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, StatementError
from sqlalchemy.sql.dml import Insert

from hanse.errors import ConfigError, Conflict, HanseError
from hanse.json_writer import writer
from hanse.messages import Json
from hanse.store import migrations
from hanse.store.claim import Claim

_log = logging.getLogger(__name__)
_WRITER_LOCK = 0x68616E7365  # "hanse"; advisory locks are per PostgreSQL database
_POSTGRES_TURN = f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(slots=True)
class Transaction:
    """A write transaction: all of it is committed, or nothing."""

    connection: Connection
    committed: list[Callable[[], None]] = field(default_factory=list)

    def execute(
        self, statement: Executable, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Runs a statement inside this transaction, once for each of several ``values``."""
        return self.connection.execute(statement, values)

    def after(self, call: Callable[[], None]) -> None:
        """Call this once the transaction is committed, in the order of commits."""
        self.committed.append(call)


class Database:
    """Engine, schema and transactions.

    Args:
        url: ``sqlite:////absolute/path.db`` or ``postgresql://user:password@host/name``.
        wait_s: how long to wait for another process that writes, in seconds.
        folder: where a copy goes before an older schema is changed; None: beside the file of SQLite, and of
            PostgreSQL there is none.
        alone: for a coordinator, of which there may be one (:mod:`hanse.store.claim`).

    Raises ``ConfigError`` for a URL that cannot be used, or a database of a newer release; ``Conflict`` where a
    coordinator runs on it and this is another one, or would have to change its schema.
    """

    def __init__(self, url: str, wait_s: float = 30.0, folder: Path | None = None, alone: bool = False) -> None:
        self.url = _parse(url)
        self.postgres = self.url.get_backend_name() == "postgresql"
        self._writing = threading.RLock()
        self._inside = False
        self._upserts: dict[tuple[str, tuple[str, ...]], Insert] = {}
        self.engine = self._engine(wait_s)
        self._reader = self.engine.execution_options(isolation_level="AUTOCOMMIT") if self.postgres else self.engine
        if folder is None and not self.postgres:
            folder = Path(self.url.database or "").parent
        self.claim: Claim | None = None
        try:
            if alone:
                self.claim = Claim(self.engine)
            elif self._is_old():  # nobody's schema is changed while a coordinator works with it
                try:
                    self.claim = Claim(self.engine)
                except Conflict:
                    raise Conflict(
                        "a coordinator of an older release is running on this database; stop it and start that of this "
                        "release, which brings the database up to date, then try again"
                    ) from None
            with self.write() as transaction:
                migrations.bring_up_to_date(transaction.connection, folder)
            if not alone:
                self._release()
        except DBAPIError as error:
            self.close()
            raise ConfigError(
                f"the database {self.url.render_as_string(hide_password=True)} cannot be opened: {error.orig}"
            ) from None
        except BaseException:
            self.close()
            raise

    def _is_old(self) -> bool:
        with self.read() as connection:
            return (migrations.found(connection) or migrations.newest()) < migrations.newest()

    def _release(self) -> None:
        if self.claim is not None:
            self.claim.release()
            self.claim = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; each statement sees what is committed at its time."""
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that no other writer overlaps; committed at the end of the block, rolled
        back if it raises. Must not be nested."""
        with self._writing:
            if self._inside:
                raise RuntimeError("a write transaction within a write transaction would wait for itself")
            self._inside = True
            try:
                with self.engine.begin() as connection:
                    connection.exec_driver_sql(_POSTGRES_TURN if self.postgres else "BEGIN IMMEDIATE")
                    transaction = Transaction(connection)
                    yield transaction
            except StatementError as error:
                if isinstance(error.orig, HanseError):  # a value that is not JSON, say
                    raise error.orig from None
                raise
            finally:
                self._inside = False
            for call in transaction.committed:
                try:
                    call()
                except Exception:  # it is committed; a listener cannot undo that
                    _log.exception("a listener to the store failed")

    def upsert(self, table: Table, columns: Sequence[str], keys: Sequence[str]) -> Insert:
        """Insert, or replace the row with the same ``keys``; to be executed with the values of
        ``columns``. Made once: building a statement takes longer than executing it."""
        wanted = (table.name, tuple(columns))
        statement = self._upserts.get(wanted)
        if statement is None:
            insert = self._insert(table)
            changed = {name: insert.excluded[name] for name in columns if name not in keys}
            statement = insert.on_conflict_do_update(index_elements=list(keys), set_=changed)
            self._upserts[wanted] = statement
        return statement

    def _insert(self, table: Table) -> Any:
        if not self.postgres:
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql  # loading it takes longer than opening a file of SQLite

        return postgresql.insert(table)

    def close(self) -> None:
        """Gives up the claim and closes all connections."""
        self._release()
        self.engine.dispose()

    def _engine(self, wait_s: float) -> Engine:
        options: dict[str, Any] = {
            "pool_size": 8,
            "max_overflow": 24,
            "pool_use_lifo": True,  # of SQLite, a connection that wrote last has in memory what it reads next
            "json_serializer": to_json,
            "json_deserializer": json.loads,
        }
        if self.postgres:
            return create_engine(self.url, pool_pre_ping=True, **options)
        engine = create_engine(self.url, connect_args={"timeout": wait_s, "check_same_thread": False}, **options)

        @event.listens_for(engine, "connect")
        def connected(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # ``write`` says BEGIN: a listener would be looked for at each statement
            _use_wal(connection, wait_s)
            for pragma in ("synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}").close()

        return engine


def _use_wal(connection: sqlite3.Connection, wait_s: float) -> None:
    """Readers then never wait for the writer. The mode is a property of the file and set once; SQLite
    does not wait for its lock by itself when several processes make the same new file."""
    until = time.monotonic() + wait_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError):
        raise ConfigError(
            "the database URL cannot be read; expected sqlite:////absolute/path.db or postgresql://..."
        ) from None
    if backend == "postgres":  # an old spelling that many still use
        backend, parsed = "postgresql", parsed.set(drivername="postgresql")
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigError(f"a database of kind {backend!r} is not supported; use sqlite or postgresql")
    if not parsed.database or parsed.database == ":memory:":
        raise ConfigError("a database in memory would be lost; give a file: sqlite:////absolute/path.db")
    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return parsed


# ---------------------------------------------------------------- values


def to_json(value: Json) -> str:
    """JSON text that both databases take. NaN and infinity become null: a loss that diverged must
    not stop the record of the round from being written."""
    try:
        return _compact(value)
    except ValueError:
        return _compact(_finite(value))


def _plain(value: object) -> Json:
    if isinstance(value, np.generic):
        return _finite(value.item())
    if isinstance(value, np.ndarray):
        return _finite(value.tolist())
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise ConfigError(f"{type(value).__name__} is not JSON; use numbers, strings, lists and objects")


_compact = writer(sort_keys=False, ensure_ascii=True, default=_plain)


def _finite(value: Json) -> Json:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def words(text: str, limit: int = 2000) -> str:
    """Text from people, as both databases take it: no NUL, no lone surrogate, not endless."""
    if not isinstance(text, str):
        raise ConfigError(f"expected text, found {type(text).__name__}")
    return text[:limit].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def is_name(value: object) -> bool:
    """Whether this can be the id of a node or a run."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def name(value: str, what: str) -> str:
    """``value``, if it can be an id. Raises ``ConfigError``."""
    if not is_name(value):
        raise ConfigError(
            f"{value!r} cannot be the id of a {what}; use 1 to 64 letters, digits, '_', '.' or '-', "
            "beginning with a letter or a digit"
        )
    return value


def now() -> float:
    """Seconds since 1970, UTC; what every stored time is."""
    return time.time()


def iso(seconds: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601, UTC.

    >>> iso(0.5)
    '1970-01-01T00:00:00.500000+00:00'
    """
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
