"""What each step left: its record, and the state to go on from after a crash."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, RowMapping, String, bindparam, delete, func, select, update

from hanse.errors import ConfigError, Conflict, NotFound, RunFailed, Tampered
from hanse.messages import Json, Record, dump, load
from hanse.store.blobs import Blobs
from hanse.store.database import Database, Transaction, iso, now, words
from hanse.store.events import Events, Note
from hanse.store.schema import checkpoints, model_versions, rounds, runs
from hanse.store.states import TERMINAL, RunState

_log = logging.getLogger(__name__)
INLINE_BYTES = 256 << 10
KEEP = 2
_FEW = 10  # records of steps that are read at a time, from the last

# The statements of every round, made once: building one takes longer than executing it.
_OF_RUN = bindparam("run_id", type_=String)
_STATE = select(runs.c.state).where(runs.c.id == _OF_RUN)
_PROGRESS = (  # of a run that has not ended; a list of states would be put together anew each time
    update(runs)
    .where(runs.c.id == _OF_RUN, *(runs.c.state != ended for ended in sorted(TERMINAL)))
    .values(
        step=bindparam("new_step"),
        updated=bindparam("at"),
        round=func.coalesce(bindparam("new_round", type_=Integer), runs.c.round),
    )
)
_LATEST_TO_GO = (
    select(checkpoints.c.step)
    .where(checkpoints.c.run == _OF_RUN)
    .order_by(checkpoints.c.step.desc())
    .limit(1)
    .offset(bindparam("keep", type_=Integer))
    .scalar_subquery()
)
_RETIRE = (
    delete(checkpoints)
    .where(checkpoints.c.run == _OF_RUN, checkpoints.c.step <= _LATEST_TO_GO)
    .returning(checkpoints.c.sha)
)


@dataclass(frozen=True, slots=True)
class Round:
    """One step. ``record`` is all of it, as the loop wrote it (participants, failures, metrics,
    bytes, model version); the other fields are what one searches by. ``receipts`` is what proofs of inclusion are made
    of (:mod:`hanse.receipts`), and is in nothing that is shown."""

    run: str
    step: int
    label: str
    round: int | None
    started: float
    ended: float
    status: str
    record: Mapping[str, Json]
    receipts: Mapping[str, Json] = field(default_factory=dict)

    def public(self) -> dict[str, Json]:
        """The record of the step as REST shows it, times in ISO 8601."""
        return {
            **self.record,
            "run": self.run,
            "step": self.step,
            "label": self.label,
            "round": self.round,
            "started": iso(self.started),
            "ended": iso(self.ended),
            "status": self.status,
        }


def _round(row: RowMapping) -> Round:
    record = dict(row["record"])
    receipts = record.pop("receipts", None) or {}
    return Round(**{**row, "record": record}, receipts=receipts)


class Rounds:
    """Records of steps and checkpoints of states; both in one commit."""

    def __init__(self, database: Database, events: Events, blobs: Blobs) -> None:
        self._database, self._events, self._blobs = database, events, blobs

    def checkpoint(
        self,
        run_id: str,
        step: int,
        state: Record | str | None,
        record: Mapping[str, Json],
        earlier: Sequence[tuple[int, Mapping[str, Json]]] = (),
    ) -> tuple[str, ...]:
        """Makes the step's record and the state that it left durable, in one commit. When this
        returns, a crash loses neither; if it does not return, neither or both are there.

        Args:
            state: the state, or the SHA-256 of a blob that was put. Up to 256 KiB it lies in the
                database, above as a blob. None: the checkpoint before stays the latest.
            record: ``label``, ``round``, ``started`` and ``ended`` (ISO 8601 or seconds),
                ``status`` (``ok`` or ``failed``), and whatever else belongs to it. A step that is
                done again replaces its record.
            earlier: records of steps before it that left no state, in their order.

        Returns the SHA-256s of blobs that only checkpoints which have now been given up referred
        to: they may be deleted.

        Raises ``Conflict`` if the run has ended.
        """
        written = [_row(run_id, *each) for each in (*earlier, (step, record))]
        row = written[-1]
        place = self._place(state)
        with self._database.write() as tx:
            round = next((one["round"] for one in reversed(written) if one["round"] is not None), None)
            progress = {"run_id": words(run_id), "at": now(), "new_step": step, "new_round": round}
            if tx.execute(_PROGRESS, progress).rowcount == 0:
                found = tx.execute(_STATE, {"run_id": words(run_id)}).scalar()
                if found is None:
                    raise NotFound(f"there is no run {run_id!r}")
                raise Conflict(f"run {run_id} is {found}; nothing more can be recorded")
            tx.execute(self._database.upsert(rounds, tuple(row), ("run", "step")), written if earlier else row)
            gone: tuple[str, ...] = ()
            if place is not None:
                values = {"run": run_id, "step": step, "time": now(), **place}
                tx.execute(self._database.upsert(checkpoints, tuple(values), ("run", "step")), values)
                gone = _retire(tx, run_id)
            self._events.record_all(tx, [Note("round", run_id, None, "", _summary(each)) for each in written])
        return gone

    def get(self, run_id: str, step: int) -> Round:
        """Raises ``NotFound``."""
        with self._database.read() as connection:
            query = select(rounds).where(rounds.c.run == words(run_id), rounds.c.step == step)
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound(f"run {run_id!r} has no record of step {step}")
        return _round(row)

    def list(self, run_id: str, *, after: int = -1, limit: int | None = None) -> Sequence[Round]:
        """In the order of steps, those over ``after``."""
        query = select(rounds).where(rounds.c.run == words(run_id), rounds.c.step > after).order_by(rounds.c.step)
        with self._database.read() as connection:
            return [_round(row) for row in connection.execute(query.limit(limit)).mappings()]

    def backwards(self, run_id: str) -> Iterator[Round]:
        """From the last step to the first, read a few at a time: a run may have thousands."""
        query = select(rounds).where(rounds.c.run == words(run_id)).order_by(rounds.c.step.desc()).limit(_FEW)
        following = query
        while True:
            with self._database.read() as connection:
                found = connection.execute(following).mappings().all()
            yield from map(_round, found)
            if len(found) < _FEW:
                return
            following = query.where(rounds.c.step < found[-1]["step"])

    def latest_checkpoint(self, run_id: str) -> tuple[int, Record] | None:
        """The last step that left a state, and that state; go on with the step after it. None: begin
        anew. A damaged one is passed over: from the one before, the same steps lead to the same
        bytes. Raises ``RunFailed`` if none of them can be read."""
        steps = self.checkpoints(run_id)
        for step in reversed(steps):
            try:
                return step, self.load(run_id, step)
            except (Tampered, NotFound) as error:
                _log.error("checkpoint %d of run %s cannot be read: %s", step, run_id, error.message)
        if steps:
            raise RunFailed(
                "no checkpoint of this run can be read; restore the blobs from a backup, or start a new run"
            )
        return None

    def checkpoints(self, run_id: str) -> tuple[int, ...]:
        """Steps whose state is still there."""
        query = select(checkpoints.c.step).where(checkpoints.c.run == words(run_id)).order_by(checkpoints.c.step)
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def load(self, run_id: str, step: int) -> Record:
        """The state that a step left."""
        query = select(checkpoints).where(checkpoints.c.run == words(run_id), checkpoints.c.step == step)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound(f"run {run_id!r} has no checkpoint of step {step}")
        return load(bytes(row["inline"])) if row["sha"] is None else self._blobs.get(row["sha"])

    def forget(self, run_id: str) -> tuple[str, ...]:
        """Gives up the checkpoints of a run that has ended: nothing can go on from them. Its records stay.
        Returns blobs that may be deleted, as ``checkpoint`` does. Raises ``Conflict`` if it has not ended."""
        with self._database.write() as tx:
            found = tx.execute(_STATE, {"run_id": words(run_id)}).scalar()
            if found not in TERMINAL:
                raise Conflict(f"run {run_id} is {found or 'not known'}; its checkpoints are needed until it has ended")
            return _retire(tx, run_id, keep=0)

    def _place(self, state: Record | str | None) -> dict[str, Any] | None:
        if state is None:
            return None
        if isinstance(state, str):
            if not self._blobs.has(state):
                raise NotFound(f"there is no stored record {state[:12]!r}; put it before the checkpoint")
            return {"sha": state, "inline": None}
        if state.nbytes <= INLINE_BYTES:
            raw = dump(state)
            if len(raw) <= INLINE_BYTES:
                return {"sha": None, "inline": raw}
        return {"sha": self._blobs.put(state), "inline": None}


def forget_ended(tx: Transaction, failed_s: float = 0.0) -> None:
    """As ``Rounds.forget``, of all runs: of one whose coordinator was killed as it ended, nobody did. One that failed
    in the last ``failed_s`` seconds may be resumed."""
    over = runs.c.state.in_(sorted(TERMINAL)) & ((runs.c.state != RunState.FAILED) | (runs.c.ended < now() - failed_s))
    ended = select(runs.c.id).where(over)
    tx.execute(delete(checkpoints).where(checkpoints.c.run.in_(ended)))


def referenced(connection: Connection) -> frozenset[str]:
    """Every blob that a checkpoint, a model version or a result refers to."""
    found: set[str] = set()
    for column in (checkpoints.c.sha, model_versions.c.sha, runs.c.result):
        found.update(connection.execute(select(column).where(column.is_not(None)).distinct()).scalars())
    return frozenset(found)


def _retire(tx: Transaction, run_id: str, keep: int = KEEP) -> tuple[str, ...]:
    shas = set(tx.execute(_RETIRE, {"run_id": run_id, "keep": keep}).scalars()) - {None}
    if shas:
        for column in (checkpoints.c.sha, model_versions.c.sha, runs.c.result):
            shas -= set(tx.execute(select(column).where(column.in_(sorted(shas)))).scalars())
    return tuple(sorted(shas))


def _row(run_id: str, step: int, record: Mapping[str, Json]) -> dict[str, Any]:
    if step < 0:
        raise ConfigError(f"step {step} is negative; steps are counted from 0")
    status = record.get("status", "ok")
    if status not in ("ok", "failed"):
        raise ConfigError(f"the status of a round is 'ok' or 'failed', not {status!r}")
    began = _seconds(record.get("started"), now())
    return {
        "run": run_id,
        "step": step,
        "label": words(str(record.get("label", "")), 64),
        "round": record.get("round"),
        "started": began,
        "ended": _seconds(record.get("ended"), now()),
        "status": status,
        "record": dict(record),
    }


def _seconds(value: Json, otherwise: float) -> float:
    if value is None or value == "":
        return otherwise
    if isinstance(value, (int, float)):
        return float(value)
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError):
        raise ConfigError(f"{value!r} is not a time; use ISO 8601 or seconds since 1970") from None


def _summary(row: Mapping[str, Any]) -> dict[str, Json]:
    """What a live view needs at once. It also outlives the record of a failed attempt, which the
    next attempt at the step replaces."""
    record = row["record"]
    return {
        "step": row["step"],
        "label": row["label"],
        "round": row["round"],
        "started": iso(row["started"]),
        "status": row["status"],
        "seconds": row["ended"] - row["started"],
        "participants": sorted(record.get("participants") or ()),
        "failures": dict(record.get("failures") or {}),
        "metrics": record.get("metrics") or {},
    }
