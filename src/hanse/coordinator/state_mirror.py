"""``federated_state.json`` in the coordinator's home: what the database has of nodes and sessions, kept beside it.

The database is what counts. The file is for people and for tools that know mllabiome's file, and moves a federation:
a coordinator whose database is empty takes up what the file says. The steps of sessions and the code of those that have
ended are not in it (they would make it long, and are in the database), nor is anything secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hanse.store import Store
from hanse.store.events import Event
from hanse.store.faults import passing
from hanse.store.state_file import Imported

FILE = "federated_state.json"
_CERTIFICATES = ("node.enrolled", "node.certificate_issued", "node.renewed")
_SHOWN = (*_CERTIFICATES, "node.described", "node.revoked", "node.reinstated", "node.registered", "state.imported")
_KINDS = frozenset({*_SHOWN, "run.created", "run.state", "consent", "model"})
_KINDS |= {"study.made", "study.changed", "study.closed"}
_LEAST_S = 2.0  # between two times that it is written
_SHARE = 20  # and so many times as long as writing took
_SESSIONS = 200  # that have ended, the latest
_log = logging.getLogger(__name__)


def take_up(store: Store, home: Path) -> Imported | None:
    """What the file of ``home`` has, into a database that has neither node nor run; None: there is nothing to do.
    Raises ``ConfigError`` where the file is damaged. Blocks."""
    path = home / FILE
    if not path.exists() or store.nodes.list() or store.runs.list(limit=1):
        return None
    return store.state_file.load(path, "coordinator")


class StateMirror:
    """Writes the file after what it shows has changed, at most every two seconds. One event loop."""

    def __init__(self, store: Store, home: Path) -> None:
        self._store, self._path = store, home / FILE
        self._changed, self._writing = asyncio.Event(), threading.Lock()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Writes it now, and from now on after changes."""
        loop = asyncio.get_running_loop()

        def committed(event: Event) -> None:
            if event.kind in _KINDS and not loop.is_closed():
                loop.call_soon_threadsafe(self._changed.set)

        self._unsubscribe = self._store.events.subscribe(committed)
        self._changed.set()
        self._task = asyncio.ensure_future(self._follow())

    async def stop(self) -> None:
        """Writes what changed last."""
        self._unsubscribe()
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await asyncio.to_thread(self._write)

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            took = await asyncio.to_thread(self._write)
            await asyncio.sleep(max(_LEAST_S, _SHARE * took))

    def _write(self) -> float:
        """The file, whole; where that fails the one of before stays. How long it took (s)."""
        began = time.monotonic()
        try:
            with self._writing:  # one after the other, so that the last is what stays
                self._store.state_file.save(self._path, history=_SESSIONS, brief=True)
        except Exception as error:
            _log.warning("%s could not be written: %s", self._path.name, passing(error) or type(error).__name__)
        return time.monotonic() - began
