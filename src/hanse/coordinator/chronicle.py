"""Events out of the store: into the audit log, to whoever watches, and notes that nobody waits for.

The audit log follows the events: what is audited is an event first, committed together with what it
reports, and each line names the id of its event. A coordinator that is killed in between catches up
when it starts again, so no decision is missing from the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from hanse.messages import Json
from hanse.store import Store
from hanse.store.events import Event, Note
from hanse.store.faults import passing

_log = logging.getLogger(__name__)

AUDITED = (
    "run.created",
    "run.state",
    "consent",
    "consent.withdrawn",
    "node.enrolled",
    "node.certificate_issued",
    "node.renewed",
    "node.revoked",
    "node.reinstated",
    "node.refused",
    "node.registered",
    "task.refused",
    "proposal.refused",
    "consent.refused",
    "policy.decision",
    "account.created",
    "account.token",
    "account.disabled",
    "account.linked",
    "account.unlinked",
    "account.login",
    "account.logout",
    "account.refused",
    "account.role",
    "study.made",
    "study.changed",
    "study.closed",
    "join_token.created",
    "join_token.revoked",
    "state.imported",
    "model",
)
STEP = "round"  # the kind of the event that a step of a run leaves; some runs have many each second
_BATCH = 500
_SAY_S = 60.0  # between two lines in the log that say so
_RETRY_S = 1.0  # between attempts to write while the storage fails
_LAST_NOTES_S = 10.0  # at the end of the process, for what is still to be written
_WAITING = 10_000  # notes in memory; beyond, the oldest writer is behind a broken disk


class Chronicle:
    """Must be made, started and used in one event loop; ``note`` may be called from there only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wake, self._turn, self._audit_due = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._notes: asyncio.Queue[Note] = asyncio.Queue(_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: Callable[[], None] = _nothing
        self.closed = False

    async def start(self) -> None:
        """From now on every committed event wakes those who wait, and those worth it go into the audit, also those of
        before a crash."""
        loop = asyncio.get_running_loop()
        self._audited = await asyncio.to_thread(self._last_audited)

        def committed(event: Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._announce, event.kind in AUDITED, event.kind != STEP)

        self._unsubscribe = self._store.events.subscribe(committed)
        self._audit_due.set()
        self._tasks = [asyncio.ensure_future(self._follow()), asyncio.ensure_future(self._write_notes())]

    async def stop(self) -> None:
        """Writes what is waiting, then ends."""
        self.close_streams()
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._notes.join(), _LAST_NOTES_S)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            try:
                await asyncio.to_thread(self._catch_up)
            except Exception as error:
                if not passing(error):
                    raise
                _log.error("the audit log is behind (%s); the next start catches up", passing(error))
        self._unsubscribe()

    def close_streams(self) -> None:
        """Lets all that wait in ``news`` go home."""
        self.closed = True
        self._announce()

    def news(self) -> asyncio.Event:
        """Set when the next event is committed. Take it before you read the store."""
        return self._wake

    def turn(self) -> asyncio.Event:
        """The same of events that are more than one more step of a run."""
        return self._turn

    def note(
        self,
        kind: str,
        run: str | None = None,
        node: str | None = None,
        actor: str = "coordinator",
        detail: Mapping[str, Json] | None = None,
    ) -> None:
        """An event that is written soon, in the order of the calls."""
        try:
            self._notes.put_nowait(Note(kind, run, node, actor, dict(detail or {})))
        except asyncio.QueueFull:
            _log.error("an event was not written, too many are waiting: %s", kind)

    def _announce(self, audited: bool = False, turns: bool = True) -> None:
        self._wake.set()
        self._wake = asyncio.Event()
        if turns:
            self._turn.set()
            self._turn = asyncio.Event()
        if audited:
            self._audit_due.set()

    async def _write_notes(self) -> None:
        while True:
            notes = [await self._notes.get()]
            while len(notes) < _BATCH and not self._notes.empty():
                notes.append(self._notes.get_nowait())
            try:
                await self._write(notes)
            finally:
                for _ in notes:
                    self._notes.task_done()

    async def _write(self, notes: Sequence[Note]) -> None:
        """All that wait in one commit; where one of them cannot be written at all, each by itself."""
        said = float("-inf")
        while True:
            try:
                await asyncio.to_thread(self._store.events.extend, notes)
                return
            except Exception as error:
                fault = passing(error)
                if fault:
                    if time.monotonic() - said > _SAY_S:
                        said = time.monotonic()
                        _log.warning("%d events wait (%s)", len(notes), fault)
                    await asyncio.sleep(_RETRY_S)
                elif len(notes) > 1:
                    for note in notes:
                        await self._write([note])
                    return
                else:
                    _log.exception("an event could not be written: %s", notes[0].kind)
                    return

    async def _follow(self) -> None:
        while True:
            await self._audit_due.wait()
            self._audit_due.clear()
            try:
                await asyncio.to_thread(self._catch_up)
            except Exception as error:
                if not passing(error):
                    _log.exception("the audit log could not be written")
                    continue
                _log.warning("the audit log waits (%s)", passing(error))
                await asyncio.sleep(_RETRY_S)
                self._audit_due.set()

    def _catch_up(self) -> None:
        while True:
            batch = self._store.events.since(self._audited, _BATCH)
            if not batch:
                return
            for event in batch:
                if event.kind in AUDITED:
                    subject = event.run or event.node or str(event.detail.get("account", ""))
                    detail: dict[str, Json] = {"event": event.id, "at": event.time, **event.detail}
                    if event.run and event.node:
                        detail["node"] = event.node
                    self._store.audit.append(event.actor, event.kind, subject, detail)
                self._audited = event.id

    def _last_audited(self) -> int:
        numbers = [e.detail.get("event") for e in self._store.audit.entries()]
        return max((n for n in numbers if isinstance(n, int)), default=0)


def _nothing() -> None:
    pass
