"""What the loop writes, made durable by the store, in a thread while the next step runs.

Records of steps whose state is not kept wait a moment for those that follow, so that the levels of a tree, which come
every few milliseconds, are one commit together: who is killed meanwhile does these steps again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import fields

from hanse.kinds import State
from hanse.messages import Json, Record
from hanse.rounds import INLINE_BYTES, Step
from hanse.store import Store

_TOGETHER_S = 0.2  # that a record waits for those that follow, at most
Importance = Callable[[State], Mapping[str, float]]
Note = Callable[[str, str, Mapping[str, Json]], None]  # (kind, run, detail)


class StoreJournal:
    """A :class:`hanse.rounds.Journal`.

    Args:
        note: appends an event without waiting for it.
        importance: feature to its share in the model of a state, for the record of a training round.
        model: the model of a state, to be kept as a version of its own; None: it has none (yet). None: none is kept.
        only_best: of the versions that were measured, keep the best.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        note: Note,
        importance: Importance = lambda state: {},
        model: Callable[[State], Record | None] | None = None,
        only_best: bool = False,
    ) -> None:
        self._store, self._run, self._note, self._importance, self._model = store, run, note, importance, model
        self._only_best = only_best
        self._kept: int | None = None
        self._size: int | None = None  # of the last state that was kept
        self._due: list[tuple[int, dict[str, Json]]] = []  # records that wait
        self._writing, self._ended = asyncio.Lock(), asyncio.Event()
        self._soon: asyncio.Task[None] | None = None  # writes them

    async def step(self, record: Step, state: State, keep: bool) -> None:
        if keep or self._size is None:  # of others no record is made, as measuring them would
            self._size = state.nbytes
        if self._model is not None or keep or record.status != "ok":
            await self._write(record, state, keep)
            return
        if self._size <= INLINE_BYTES:
            told = self._told(record, state)
        else:
            told = await asyncio.to_thread(self._told, record, state)
        self._due.append((record.step, told))
        self._look()
        if self._soon is None:
            self._soon = asyncio.create_task(self._later())

    def _look(self) -> None:
        """What failed where nobody waited for it fails here, before a state is kept that comes after it."""
        if self._soon is not None and self._soon.done():
            soon, self._soon = self._soon, None
            soon.result()

    async def end(self) -> None:
        self._ended.set()
        if self._soon is not None:
            await self._soon
        if self._due:  # what came while those before it were being written
            await self._write()

    async def _later(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _TOGETHER_S)
        await self._write()

    async def _write(self, record: Step | None = None, state: State | None = None, keep: bool = False) -> None:
        async with self._writing:
            self._look()
            due, self._due = self._due, []
            await asyncio.to_thread(self._committed, due, record, state, keep)

    def _committed(
        self, due: list[tuple[int, dict[str, Json]]], record: Step | None, state: State | None, keep: bool
    ) -> None:
        if record is not None and state is not None:
            due = [*due, (record.step, self._told(record, state))]
            if record.status == "ok" and self._model is not None:
                self._keep(self._model(state))
                self._rate(record)
        if not due:
            return
        *earlier, (step, told) = due
        for sha in self._store.rounds.checkpoint(self._run, step, state if keep else None, told, earlier):
            self._store.blobs.delete(sha)

    def _told(self, record: Step, state: State) -> dict[str, Json]:
        told = {field.name: getattr(record, field.name) for field in fields(record)}  # asdict would copy every number
        if record.status == "ok" and record.round is not None:
            shares = self._importance(state)
            if shares:
                told["feature_importance"] = dict(shares)
        return told

    def _keep(self, model: Record | None) -> None:
        """Before the record of the step is there, so that whoever hears of the round finds its model."""
        if model is None or model.data.get("round") == self._kept:
            return
        self._kept = model.data.get("round")
        self._store.models.add(self._run, self._store.blobs.put(model), round=self._kept)

    def _rate(self, record: Step) -> None:
        """Says of a version how good it is, as soon as that is known."""
        measured = record.metrics.get("evaluated_round")
        if self._kept is None or not isinstance(measured, int):
            return
        self._store.models.measured(self._run, measured, record.metrics)
        for sha in self._store.models.thin(self._run) if self._only_best else ():
            self._store.blobs.delete(sha)

    def event(self, kind: str, detail: Mapping[str, Json]) -> None:
        self._note(kind, self._run, detail)
