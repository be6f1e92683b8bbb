"""What the loop writes, made durable by the store, in a thread while the next step runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict

from hanse.kinds import State
from hanse.messages import Json
from hanse.rounds import Step
from hanse.store import Store

Note = Callable[[str, str, Mapping[str, Json]], None]  # (kind, run, detail)


class StoreJournal:
    """A :class:`hanse.rounds.Journal`.

    Args:
        note: appends an event without waiting for it.
    """

    def __init__(self, store: Store, run: str, note: Note) -> None:
        self._store, self._run, self._note = store, run, note
        self.metrics: dict[str, Json] = {}
        self.round: int | None = None

    async def step(self, record: Step, state: State) -> None:
        await asyncio.to_thread(self._write, record, state)
        if record.status == "ok":
            self.metrics = dict(record.metrics)
            self.round = record.round if record.round is not None else self.round

    def _write(self, record: Step, state: State) -> None:
        for sha in self._store.rounds.checkpoint(self._run, record.step, state, asdict(record)):
            self._store.blobs.delete(sha)

    def event(self, kind: str, detail: Mapping[str, Json]) -> None:
        self._note(kind, self._run, detail)
