"""What the loop writes, made durable by the store, in a thread while the next step runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict

from hanse.kinds import State
from hanse.messages import Json, Record
from hanse.rounds import Step
from hanse.store import Store
from hanse.store.rounds import INLINE_BYTES

Importance = Callable[[State], Mapping[str, float]]
Note = Callable[[str, str, Mapping[str, Json]], None]  # (kind, run, detail)


class StoreJournal:
    """A :class:`hanse.rounds.Journal`.

    Args:
        note: appends an event without waiting for it.
        importance: feature to its share in the model of a state, for the record of a training round.
        model: the model of a state, to be kept as a version of its own; None: it has none (yet).
    """

    def __init__(
        self, store: Store, run: str, note: Note, importance: Importance = lambda state: {},
        model: Callable[[State], Record | None] = lambda state: None,
    ) -> None:  # fmt: skip
        self._store, self._run, self._note, self._importance, self._model = store, run, note, importance, model
        self._kept: int | None = None
        self._last: tuple[Record, str] | None = None

    async def step(self, record: Step, state: State) -> None:
        self._last = None  # the state before is not held while this one is written
        await asyncio.to_thread(self._write, record, state)

    def _write(self, record: Step, state: State) -> None:
        told = asdict(record)
        if record.status == "ok" and record.round is not None:
            shares = self._importance(state)
            if shares:
                told["feature_importance"] = dict(shares)
        if record.status == "ok":
            self._keep(self._model(state))
        large = record.status == "ok" and state.nbytes > INLINE_BYTES
        stored = self.put(state) if large else state
        for sha in self._store.rounds.checkpoint(self._run, record.step, stored, told):
            self._store.blobs.delete(sha)

    def put(self, record: Record) -> str:
        """Stores a record, returns its SHA-256. What was stored last is not written again: a model
        is often the very state that was checkpointed."""
        if self._last is None or self._last[0] is not record or not self._store.blobs.has(self._last[1]):
            self._last = record, self._store.blobs.put(record)
        return self._last[1]

    def _keep(self, model: Record | None) -> None:
        """Before the record of the step is there, so that whoever hears of the round finds its model."""
        if model is None or model.data.get("round") == self._kept:
            return
        self._kept = model.data.get("round")
        self._store.models.add(self._run, self.put(model), round=self._kept)

    def event(self, kind: str, detail: Mapping[str, Json]) -> None:
        self._note(kind, self._run, detail)
