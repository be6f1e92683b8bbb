"""Events: what happened, in order, append-only. All pages and streams read this one list."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, bindparam, func, insert, select

from hanse.messages import Json
from hanse.store.database import Database, Transaction, iso, now, words
from hanse.store.schema import events

_log = logging.getLogger(__name__)
_INSERT = insert(events)
_LAST = select(events.c.id).order_by(events.c.id.desc()).limit(bindparam("count", type_=Integer))


@dataclass(frozen=True, slots=True)
class Event:
    """``kind`` is ``run.state``, ``consent``, ``round``, ``node.enrolled``, ...; ``actor`` is who
    caused it; ``id`` grows in the order of commits."""

    id: int
    time: float
    run: str | None
    node: str | None
    kind: str
    actor: str
    detail: Mapping[str, Json]

    def public(self) -> dict[str, Json]:
        """As REST shows it, its time in ISO 8601."""
        return {
            "id": self.id,
            "time": iso(self.time),
            "run": self.run,
            "node": self.node,
            "kind": self.kind,
            "actor": self.actor,
            "detail": dict(self.detail),
        }


@dataclass(frozen=True, slots=True)
class Note:
    """An event that is to be written."""

    kind: str
    run: str | None
    node: str | None
    actor: str
    detail: Mapping[str, Json]


class Events:
    """Appends, reads and announces events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._subscribers: tuple[Callable[[Event], None], ...] = ()

    def append(
        self,
        kind: str,
        *,
        run: str | None = None,
        node: str | None = None,
        actor: str = "",
        detail: Mapping[str, Json] | None = None,
    ) -> Event:
        """Writes one event in a transaction of its own."""
        with self._database.write() as transaction:
            return self.record(transaction, kind, run=run, node=node, actor=actor, detail=detail)

    def extend(self, notes: Sequence[Note]) -> None:
        """Writes several events in their order, in one transaction."""
        with self._database.write() as transaction:
            self.record_all(transaction, notes)

    def record(
        self,
        transaction: Transaction,
        kind: str,
        *,
        run: str | None = None,
        node: str | None = None,
        actor: str = "",
        detail: Mapping[str, Json] | None = None,
    ) -> Event:
        """Appends within a transaction; subscribers hear of it when that is committed."""
        return self.record_all(transaction, [Note(kind, run, node, actor, detail or {})])[0]

    def record_all(self, transaction: Transaction, notes: Sequence[Note]) -> list[Event]:
        """The same of several, in their order, by one statement for all."""
        written: list[dict[str, Any]] = [
            {
                "time": now(),
                "run": note.run,
                "node": note.node,
                "kind": words(note.kind, 64),
                "actor": words(note.actor, 200),
                "detail": dict(note.detail),
            }
            for note in notes
        ]
        if not written:
            return []
        if len(written) == 1:
            key = transaction.execute(_INSERT, written[0]).inserted_primary_key
            assert key is not None
            ids = [int(key[0])]
        else:
            transaction.execute(_INSERT, written)
            ids = list(transaction.execute(_LAST, {"count": len(written)}).scalars())[::-1]  # nobody else writes now
        made = [Event(id=id, **values) for id, values in zip(ids, written, strict=True)]
        for event in made:
            transaction.after(functools.partial(self._announce, event))
        return made

    def since(
        self,
        after: int = 0,
        limit: int = 500,
        *,
        run: str | None = None,
        node: str | None = None,
        kinds: Collection[str] | None = None,
    ) -> list[Event]:
        """Events with an id over ``after``, oldest first, at most ``limit``."""
        query = select(events).where(events.c.id > after).order_by(events.c.id).limit(limit)
        if run is not None:
            query = query.where(events.c.run == words(run))
        if node is not None:
            query = query.where(events.c.node == words(node))
        if kinds is not None:
            query = query.where(events.c.kind.in_(sorted(kinds)))
        with self._database.read() as connection:
            return [Event(**row) for row in connection.execute(query).mappings()]

    def last(self) -> int:
        """The newest id; 0 if there is no event."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.max(events.c.id))).scalar() or 0)

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Calls ``callback`` with each event of this process once it is committed, in order, in the
        thread that wrote it: it must be quick (``loop.call_soon_threadsafe``). Returns a function
        that ends the subscription."""
        with self._lock:
            self._subscribers += (callback,)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(s for s in self._subscribers if s is not callback)

        return unsubscribe

    def _announce(self, event: Event) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:  # the event is committed; the other subscribers still hear of it
                _log.exception("a subscriber to events failed")
