"""Consent: each expected node accepts or rejects one hash, and that is what decides the run."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select, update

from hanse.errors import ConfigError, Conflict, NotAllowed
from hanse.messages import Json
from hanse.store.database import Database, Transaction, iso, now, words
from hanse.store.events import Events
from hanse.store.runs import Runs, StoredRun
from hanse.store.schema import consents, runs
from hanse.store.states import RunState

ACCEPT, REJECT = "accept", "reject"
_AWAITED = 1000  # runs of which it is known; of others all decisions are looked at


@dataclass(frozen=True, slots=True)
class Consent:
    """``via`` is where it was said: at the ``node`` or at the ``coordinator``; ``proof`` what the node signed of it
    (:mod:`hanse.decisions`), None where nothing was signed."""

    run: str
    node: str
    decision: str
    hash: str
    actor: str
    via: str = "coordinator"
    reason: str = ""
    proof: Mapping[str, Json] | None = None
    time: float = 0.0  # when it was noted

    def public(self) -> dict[str, Json]:
        """As REST shows it, times in ISO 8601."""
        return {
            "run": self.run,
            "node": self.node,
            "decision": self.decision,
            "hash": self.hash,
            "actor": self.actor,
            "via": self.via,
            "reason": self.reason,
            "time": iso(self.time),
            "signed": self.proof is not None,
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """Who accepted, who rejected, who has not answered."""

    accepted: tuple[str, ...]
    rejected: tuple[str, ...]
    remaining: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """All expected nodes accepted."""
        return not self.rejected and not self.remaining and bool(self.accepted)


class Consents:
    """Decisions of data owners about proposals: one for each run and node, bound to a hash."""

    def __init__(self, database: Database, events: Events, runs: Runs) -> None:
        self._database, self._events, self._runs = database, events, runs
        self._awaited: dict[str, str] = {}  # of a run, a node that had not answered when all were looked at

    def accepted_before(self, run: StoredRun, node: str, dataset: str | None) -> str | None:
        """The last run of the same person on this data set of the node (None: on none) that the node agreed to before
        ``run`` was made; None: there is none."""
        query = (
            select(consents.c.run)
            .join(runs, runs.c.id == consents.c.run)
            .where(consents.c.node == node, consents.c.decision == "accept", runs.c.proposer == run.proposer)
            .where(runs.c.created < run.created, runs.c.id != run.id)
            .where(runs.c.bundle[("datasets", node, "name")].as_string() == dataset)
            .order_by(consents.c.time.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar()

    def decide(self, said: Consent, *, start: bool) -> StoredRun:
        """Notes a decision and draws the conclusion (:meth:`settle`) in one commit: a thousand nodes make a thousand of
        them. The same again changes nothing, at any time, but that it is proven now; another one replaces it as long as
        the run awaits consent. Its ``proof`` was checked by the caller; its ``time`` is now, whatever it says.

        Raises:
            ConfigError: the decision is neither ``accept`` nor ``reject``.
            NotAllowed: the node is not among those asked.
            Conflict: the hash is not the proposal's, or the run no longer awaits consent.
        """
        with self._database.write() as tx:
            run = self._runs.get_in(tx.connection, said.run)
            self._record_in(tx, run, said)
            if said.decision == ACCEPT and self._waits(tx.connection, run):
                return run
            return self._settle_in(tx, run, said.actor, start)

    def _record_in(self, tx: Transaction, run: StoredRun, said: Consent) -> None:
        if said.decision not in (ACCEPT, REJECT):
            raise ConfigError(f"a decision is 'accept' or 'reject', not {said.decision!r}")
        if said.via not in ("node", "coordinator"):
            raise ConfigError(f"consent comes via 'node' or 'coordinator', not {said.via!r}")
        if said.node not in run.nodes:
            raise NotAllowed(f"node {said.node!r} is not asked for run {run.id}")
        if not run.bundle_hash or said.hash != run.bundle_hash:
            raise Conflict(
                f"this consent is for hash {str(said.hash)[:12]!r}, but run {run.id} proposes "
                f"{run.bundle_hash[:12]!r}; read the proposal again"
            )
        before = next(iter(_of(tx.connection, run.id, said.node)), None)
        if before is not None and before.decision == said.decision:
            if before.proof is None and said.proof is not None:
                this = (consents.c.run == run.id, consents.c.node == said.node)
                tx.execute(update(consents).where(*this).values(proof=dict(said.proof)))
            return
        if run.state is not RunState.AWAITING_CONSENT:
            raise Conflict(f"run {run.id} is {run.state}; consent can be given while it is awaiting_consent")
        said = replace(said, actor=words(said.actor, 200), reason=words(said.reason), time=now())
        values: dict[str, Any] = {name: getattr(said, name) for name in Consent.__slots__}
        tx.execute(self._database.upsert(consents, tuple(values), ("run", "node")), values)
        detail = {
            "decision": said.decision,
            "before": before.decision if before else None,
            "hash": said.hash,
            "via": said.via,
            "reason": said.reason,
            "signed": said.proof is not None,
        }
        self._events.record(tx, "consent", run=run.id, node=said.node, actor=said.actor, detail=detail)

    def settle(self, run_id: str, actor: str, *, start: bool) -> StoredRun:
        """Draws the conclusion in one commit, so that nobody changes their mind in between: any
        rejection rejects the run; when all accepted and ``start``, it runs; past its time it expires.
        Otherwise, and in any other state than ``awaiting_consent``, nothing changes."""
        with self._database.write() as tx:
            return self._settle_in(tx, self._runs.get_in(tx.connection, run_id), actor, start)

    def _settle_in(self, tx: Transaction, run: StoredRun, actor: str, start: bool) -> StoredRun:
        self._awaited.pop(run.id, None)
        if run.state is not RunState.AWAITING_CONSENT:
            return run
        given = _of(tx.connection, run.id)
        tally = _tally(run, given)
        if tally.rejected:
            words = {c.node: f"{c.node}: {c.reason}" if c.reason else c.node for c in given}
            why = f"rejected by {', '.join(words[node] for node in tally.rejected)}"
            return self._runs.transition_in(tx, run.id, RunState.REJECTED, actor, why)
        if tally.complete:
            if start:
                return self._runs.transition_in(tx, run.id, RunState.RUNNING, actor, "all nodes accepted")
            return run
        if run.expires is not None and now() >= run.expires:
            why = f"no answer in time from {', '.join(tally.remaining)}"
            return self._runs.transition_in(tx, run.id, RunState.EXPIRED, actor, why)
        if tally.remaining:
            self._awaited[run.id] = random.choice(tally.remaining)
            while len(self._awaited) > _AWAITED:
                del self._awaited[next(iter(self._awaited))]
        return run

    def _waits(self, connection: Connection, run: StoredRun) -> bool:
        """Whether the node that the last look at all decisions left open is open still, and there is time: then
        nothing is to be concluded, and the others need not be looked at. One of them drawn at random is rarely the
        next to answer, so of n decisions about log n look at all."""
        node, late = self._awaited.get(run.id), run.expires is not None and now() >= run.expires
        if node is None or node not in run.nodes or late or run.state is not RunState.AWAITING_CONSENT:
            return False
        return all(consent.hash != run.bundle_hash for consent in _of(connection, run.id, node))

    def start(self, run_id: str, actor: str, reason: str = "") -> StoredRun:
        """``awaiting_consent`` to ``running``, by hand. Raises ``Conflict`` naming the nodes that have
        not accepted."""
        with self._database.write() as tx:
            run = self._runs.get_in(tx.connection, run_id)
            tally = _tally(run, _of(tx.connection, run_id))
            if run.state is RunState.AWAITING_CONSENT and not tally.complete:
                missing = ", ".join((*tally.rejected, *tally.remaining))
                raise Conflict(f"run {run_id} cannot start: {missing} did not accept")
            if run.state is RunState.PAUSED:
                raise Conflict(f"run {run_id} is paused; resume it")
            return self._runs.transition_in(tx, run_id, RunState.RUNNING, actor, reason or "started by hand")

    def list(self, run_id: str, node: str | None = None) -> Sequence[Consent]:
        """The decisions about a run, in the order of nodes; of one node where it is named."""
        with self._database.read() as connection:
            return _of(connection, run_id, node)

    def tally(self, run_id: str) -> Tally:
        """Who has accepted, who has said no, and who is still to decide. Raises ``NotFound``."""
        with self._database.read() as connection:
            return _tally(self._runs.get_in(connection, run_id), _of(connection, run_id))


def _of(connection: Connection, run_id: str, node: str | None = None) -> Sequence[Consent]:
    query = select(consents).where(consents.c.run == words(run_id)).order_by(consents.c.node)
    if node is not None:
        query = query.where(consents.c.node == node)
    return [Consent(**row) for row in connection.execute(query).mappings()]


def _tally(run: StoredRun, given: Sequence[Consent]) -> Tally:
    said = {c.node: c.decision for c in given if c.hash == run.bundle_hash}
    return Tally(
        tuple(n for n in run.nodes if said.get(n) == ACCEPT),
        tuple(n for n in run.nodes if said.get(n) == REJECT),
        tuple(n for n in run.nodes if n not in said),
    )
