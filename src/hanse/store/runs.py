"""Runs: what was proposed, and which state it is in."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, select, update

from hanse.errors import Conflict, NotFound
from hanse.messages import Json
from hanse.store import bundles
from hanse.store.database import Database, Transaction, iso, name, now, words
from hanse.store.events import Events
from hanse.store.schema import consents, runs
from hanse.store.states import TERMINAL, RunState, check, state


@dataclass(frozen=True, slots=True)
class StoredRun:
    """``nodes`` are those whose consent is asked, frozen with the proposal; ``result`` is the
    SHA-256 of the final model; ``step`` and ``round`` are those last recorded; ``retry_at`` is when the
    coordinator goes on with a paused run by itself (None: when a person says so)."""

    id: str
    state: RunState
    config: Mapping[str, Json]
    bundle_hash: str
    nodes: tuple[str, ...]
    proposer: str
    seed: int
    created: float
    started: float | None
    ended: float | None
    expires: float | None
    reason: str
    result: str | None
    step: int | None
    round: int | None
    updated: float
    retry_at: float | None = None

    def public(self) -> dict[str, Json]:
        """As REST shows it, times in ISO 8601."""
        return {
            "id": self.id,
            "state": str(self.state),
            "config": dict(self.config),
            "bundle_hash": self.bundle_hash,
            "nodes": list(self.nodes),
            "proposer": self.proposer,
            "seed": self.seed,
            "created": iso(self.created),
            "started": iso(self.started),
            "ended": iso(self.ended),
            "expires": iso(self.expires),
            "reason": self.reason,
            "result": self.result,
            "step": self.step,
            "round": self.round,
            "updated": iso(self.updated),
            "retry_at": iso(self.retry_at),
        }


class Runs:
    """Runs with their settings, bundle and state; every change of state is legal (:mod:`hanse.store.states`) and an
    event."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database, self._events = database, events

    def create(
        self,
        config: Mapping[str, Json],
        *,
        proposer: str,
        nodes: Sequence[str] = (),
        seed: int = 0,
        run_id: str | None = None,
    ) -> StoredRun:
        """A run in state ``pending``. Raises ``Conflict`` if the id is taken."""
        run_id = "run-" + secrets.token_hex(6) if run_id is None else name(run_id, "run")
        at = now()
        values: dict[str, Any] = {
            "id": run_id,
            "state": str(RunState.PENDING),
            "config": dict(config),
            "study": study_of(config),
            "bundle_hash": "",
            "bundle": {},
            "nodes": sorted({name(n, "node") for n in nodes}),
            "proposer": words(proposer, 200),
            "seed": int(seed),
            "created": at,
            "reason": "",
            "updated": at,
        }
        with self._database.write() as tx:
            if tx.execute(select(runs.c.id).where(runs.c.id == run_id)).first():
                raise Conflict(f"there is a run {run_id} already")
            tx.execute(insert(runs).values(values))
            self._events.record(tx, "run.created", run=run_id, actor=proposer, detail={"state": "pending"})
            return self.get_in(tx.connection, run_id)

    def bring_in(self, config: Mapping[str, Json], *, proposer: str, sha: str, reason: str) -> StoredRun:
        """A run that took place elsewhere: it has ended, and all that is here of it is its result, the blob ``sha``."""
        run_id, at = "run-" + secrets.token_hex(6), now()
        values: dict[str, Any] = {
            "id": run_id,
            "state": str(RunState.COMPLETED),
            "config": dict(config),
            "study": study_of(config),
            "bundle_hash": "",
            "bundle": {},
            "nodes": [],
            "proposer": words(proposer, 200),
            "seed": 0,
            "created": at,
            "ended": at,
            "reason": words(reason),
            "result": sha,
            "updated": at,
        }
        with self._database.write() as tx:
            tx.execute(insert(runs).values(values))
            self._events.record(tx, "run.created", run=run_id, actor=proposer, detail={"state": "completed"})
            return self.get_in(tx.connection, run_id)

    def propose(
        self,
        run_id: str,
        bundle_hash: str,
        bundle: Mapping[str, Json],
        *,
        actor: str,
        nodes: Sequence[str] | None = None,
        expires: float | None = None,
        reason: str = "",
    ) -> StoredRun:
        """Freezes the bundle and the nodes that are asked, and goes to ``awaiting_consent``.

        Args:
            expires: when the owners' time to answer ends (seconds since 1970); None: never.
        """
        with self._database.write() as tx:
            before = self.get_in(tx.connection, run_id)
            check(run_id, before.state, RunState.AWAITING_CONSENT)
            asked = before.nodes if nodes is None else tuple(sorted({name(n, "node") for n in nodes}))
            if not asked or not bundle_hash:
                raise Conflict(f"run {run_id} has no {'bundle' if asked else 'nodes'}; there is nothing to consent to")
            tx.execute(
                update(runs)
                .where(runs.c.id == run_id)
                .values(
                    bundle_hash=words(bundle_hash, 128),
                    **bundles.put(tx.connection, bundle),
                    nodes=list(asked),
                    expires=expires,
                )
            )
            return self.transition_in(tx, run_id, RunState.AWAITING_CONSENT, actor, reason)

    def reopen(self, run_id: str, actor: str, *, expires: float, reason: str = "") -> StoredRun:
        """Asks the owners of a failed run again, about the same hash: what they said before ended with the run.
        Raises ``IllegalTransition`` where it has not failed, ``Conflict`` where it was never proposed."""
        with self._database.write() as tx:
            before = self.get_in(tx.connection, run_id)
            check(run_id, before.state, RunState.AWAITING_CONSENT)
            if before.state is not RunState.FAILED or not before.bundle_hash:
                raise Conflict(f"run {run_id} is {before.state} and was never agreed to; propose it")
            tx.execute(delete(consents).where(consents.c.run == run_id))
            tx.execute(update(runs).where(runs.c.id == run_id).values(expires=expires))
            return self.transition_in(tx, run_id, RunState.AWAITING_CONSENT, actor, reason)

    def transition(
        self,
        run_id: str,
        to: str,
        actor: str,
        reason: str = "",
        *,
        result: str | None = None,
        retry_at: float | None = None,
    ) -> StoredRun:
        """Moves the run to another state, with its event, in one commit. Of two at the same time one
        comes first and the other is judged by what it left.

        Args:
            result: SHA-256 of the final model, to be noted with the state.
            retry_at: when the coordinator goes on by itself with what it paused (seconds since 1970).

        Raises ``IllegalTransition`` naming both states and what is possible.
        """
        with self._database.write() as tx:
            return self.transition_in(tx, run_id, state(to), actor, reason, result=result, retry_at=retry_at)

    def transition_in(
        self,
        tx: Transaction,
        run_id: str,
        to: RunState,
        actor: str,
        reason: str = "",
        *,
        result: str | None = None,
        retry_at: float | None = None,
    ) -> StoredRun:
        """As ``transition``, as part of a larger transaction."""
        before = self.get_in(tx.connection, run_id)
        check(run_id, before.state, to)
        at, said = now(), words(reason)
        values: dict[str, Any] = {"state": str(to), "reason": said, "updated": at, "retry_at": retry_at}
        if to is RunState.RUNNING and before.started is None:
            values["started"] = at
        values["ended"] = at if to in TERMINAL else None
        if result is not None:
            values["result"] = result
        moved = tx.execute(update(runs).where(runs.c.id == run_id, runs.c.state == str(before.state)).values(values))
        if moved.rowcount != 1:  # writers stand in a row, so only a foreign program can cause this
            raise Conflict(f"run {run_id} changed meanwhile; look again")
        detail = {"from": str(before.state), "to": str(to), "reason": said}
        self._events.record(tx, "run.state", run=run_id, actor=actor, detail=detail)
        return self.get_in(tx.connection, run_id)

    def get(self, run_id: str) -> StoredRun:
        """Raises ``NotFound``."""
        with self._database.read() as connection:
            return self.get_in(connection, run_id)

    def get_in(self, connection: Connection, run_id: str) -> StoredRun:
        """The same inside a transaction that is under way."""
        row = connection.execute(_query().where(runs.c.id == words(run_id))).mappings().first()
        if row is None:
            raise NotFound(f"there is no run {run_id!r}")
        return _run(row)

    def bundle(self, run_id: str) -> dict[str, Json]:
        """What was frozen with the proposal ({} before that)."""
        with self._database.read() as connection:
            found = connection.execute(select(runs.c.bundle, runs.c.code).where(runs.c.id == words(run_id))).first()
            if found is None:
                raise NotFound(f"there is no run {run_id!r}")
            return bundles.whole(connection, *found)

    def list(self, states: Collection[str] | None = None, *, limit: int = 100, offset: int = 0) -> Sequence[StoredRun]:
        """Newest first."""
        query = _query().order_by(runs.c.created.desc(), runs.c.id).limit(limit).offset(offset)
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(_filter(query, states)).mappings()]

    def of_study(self, study: str) -> Sequence[StoredRun]:
        """Those of a study, in the order in which they were made."""
        query = _query().where(runs.c.study == study).order_by(runs.c.created, runs.c.id)
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(query).mappings()]

    def count(self, states: Collection[str] | None = None) -> int:
        """How many there are, in any of these states."""
        query = _filter(select(func.count()).select_from(runs), states)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def states(self) -> dict[str, int]:
        """How many runs are in each state; all states are named."""
        query = select(runs.c.state, func.count()).group_by(runs.c.state)
        with self._database.read() as connection:
            return {str(s): 0 for s in RunState} | {str(row[0]): int(row[1]) for row in connection.execute(query)}


def study_of(config: Mapping[str, Json]) -> str | None:
    """The study that the settings of a run name; None: it is of none."""
    study = config.get("study")
    return study if isinstance(study, str) else None


def _filter(query: Select[Any], states: Collection[str] | None) -> Select[Any]:
    if states is not None:
        wanted = [states] if isinstance(states, str) else states
        query = query.where(runs.c.state.in_(sorted(str(state(s)) for s in wanted)))
    return query


def _query() -> Select[Any]:
    """All columns but the bundle, which can be large, and what stands in the settings too."""
    return select(*(column for column in runs.c if column.name not in ("bundle", "code", "study")))


def _run(row: RowMapping) -> StoredRun:
    return StoredRun(**{**row, "state": RunState(row["state"]), "nodes": tuple(row["nodes"])})
