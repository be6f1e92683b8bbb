"""What the loop writes, made durable by the store, in a thread while the next step runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import fields

from hanse.kinds import State
from hanse.messages import Json, Record
from hanse.rounds import Step
from hanse.store import Store

Importance = Callable[[State], Mapping[str, float]]
Note = Callable[[str, str, Mapping[str, Json]], None]  # (kind, run, detail)


class StoreJournal:
    """A :class:`hanse.rounds.Journal`.

    Args:
        note: appends an event without waiting for it.
        importance: feature to its share in the model of a state, for the record of a training round.
        model: the model of a state, to be kept as a version of its own; None: it has none (yet).
        only_best: of the versions that were measured, keep the best.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        note: Note,
        importance: Importance = lambda state: {},
        model: Callable[[State], Record | None] = lambda state: None,
        only_best: bool = False,
    ) -> None:
        self._store, self._run, self._note, self._importance, self._model = store, run, note, importance, model
        self._only_best = only_best
        self._kept: int | None = None

    async def step(self, record: Step, state: State, keep: bool) -> None:
        await asyncio.to_thread(self._write, record, state, keep)

    def _write(self, record: Step, state: State, keep: bool) -> None:
        told = {field.name: getattr(record, field.name) for field in fields(record)}  # asdict would copy every number
        if record.status == "ok" and record.round is not None:
            shares = self._importance(state)
            if shares:
                told["feature_importance"] = dict(shares)
        if record.status == "ok":
            self._keep(self._model(state))
            self._rate(record)
        for sha in self._store.rounds.checkpoint(self._run, record.step, state if keep else None, told):
            self._store.blobs.delete(sha)

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
