"""What the loop writes, made durable by the store, in a thread while the next step runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict

from hanse.kinds import State
from hanse.messages import Json
from hanse.rounds import Step
from hanse.store import Store

Importance = Callable[[State], Mapping[str, float]]
Note = Callable[[str, str, Mapping[str, Json]], None]  # (kind, run, detail)


class StoreJournal:
    """A :class:`hanse.rounds.Journal`.

    Args:
        note: appends an event without waiting for it.
        importance: feature to its share in the model of a state, for the record of a training round.
    """

    def __init__(self, store: Store, run: str, note: Note, importance: Importance = lambda state: {}) -> None:
        self._store, self._run, self._note, self._importance = store, run, note, importance

    async def step(self, record: Step, state: State) -> None:
        await asyncio.to_thread(self._write, record, state)

    def _write(self, record: Step, state: State) -> None:
        told = asdict(record)
        if record.status == "ok" and record.round is not None:
            shares = self._importance(state)
            if shares:
                told["feature_importance"] = dict(shares)
        for sha in self._store.rounds.checkpoint(self._run, record.step, state, told):
            self._store.blobs.delete(sha)

    def event(self, kind: str, detail: Mapping[str, Json]) -> None:
        self._note(kind, self._run, detail)
