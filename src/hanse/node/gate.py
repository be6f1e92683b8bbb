"""The gate: everything that a node is asked passes here, and everything it answers.

A task passes the stages that :meth:`Gate.configure` lists, in that order. Each can only say no, and what goes
wrong in a stage is a no. If the audit log cannot be written, nothing leaves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import hanse
from hanse import algorithms, policy
from hanse.bundle import thaw
from hanse.disk_faults import disk_fault
from hanse.errors import HanseError, NodeFailed, NotAllowed, NotApproved, NotFound, WireError
from hanse.ledgers import ledgers
from hanse.messages import Json, Message
from hanse.node import persons
from hanse.node.approvals import Approvals, Proposal
from hanse.node.passage import (
    Allowed,
    Approved,
    Audited,
    Authenticated,
    Computed,
    Hashed,
    KnownFacts,
    Leaving,
    Passage,
    PromisesKept,
    Reserved,
    SpendingSettled,
    Stage,
    authenticate,
    note,
)
from hanse.node.promises import Promises
from hanse.node.settings import NodeSettings
from hanse.node.spending import Book, Reservation
from hanse.node.standing import StandingApprovals
from hanse.node.workers import Workers
from hanse.rule import Decision
from hanse.store.audit import AuditLog
from hanse.transport import COORDINATOR, Progress

log = logging.getLogger(__name__)


class Gate:
    """One node's gate.

    Args:
        node: this node's id.
        home: its folder.
        settings: what its owner has set.
        approvals, worker, audit: what it decides with, computes with and writes to.
        book: what was answered already.
    """

    def __init__(
        self,
        node: str,
        home: Path,
        settings: NodeSettings,
        approvals: Approvals,
        worker: Workers,
        audit: AuditLog,
        book: Book,
    ) -> None:
        self.node, self.approvals, self.worker, self.audit, self.book = node, approvals, worker, audit, book
        self._home, self._known, self.promises = home, KnownFacts(home, worker), Promises(home, threads=True)
        self.standing = StandingApprovals(home)
        self.configure(settings)

    def configure(self, settings: NodeSettings) -> None:
        """From now on these settings. Raises what a broken rule, a ledger or disk raises; then the old ones stay."""
        owner = settings.owner(self._home)
        rules, counted = policy.rules(owner), ledgers(owner)
        persons.note(self._home, rules)
        approved, allowed = Approved(self.approvals), Allowed(self)
        self.stages: tuple[Stage, ...] = (
            Authenticated(),
            approved,
            self._known,
            allowed,
            Reserved(self.book),
            Computed(self.worker),
            approved,
            allowed,
            PromisesKept(self.promises),
            SpendingSettled(self.book),
            Leaving(settings.limits),
            Hashed(),
            approved,  # others were heard while the disk was waited for; from here to the reply nobody is
            Audited(self.audit),
        )
        self.rules, self.book.ledgers, self.settings = rules, counted, settings

    # ------------------------------------------------------------ tasks

    async def task(self, peer: str, message: Message, progress: Progress = lambda: None) -> Message:
        """The reply to a task. Raises ``Refused`` or what went wrong; both are in the audit log, unless its disk
        is full: then nothing leaves."""
        task = Passage(peer, message, progress, message.body.data, message.body.nbytes)
        try:
            for stage in self.stages:
                waiting = stage(task)
                if waiting is not None:
                    await waiting
        except HanseError as error:
            self._refused(task, stage.name, error.code, error.message)
            raise
        except Exception as error:
            if disk_fault(error):
                raise
            log.exception("a task of run %r, at the stage %s", task.data.get("run"), stage.name)
            self._refused(task, stage.name, "error", type(error).__name__)
            raise NodeFailed("the node could not answer; its owner finds the reason in the node's log") from error
        finally:
            if task.reservation is not None:
                self._released(task, task.reservation)
        return Message("reply", message.id, self.node, task.worked.record)

    def _released(self, task: Passage, reservation: Reservation) -> None:
        """Gives back what was set aside of a task; while a disk is still waited for, after that."""
        booked = task.booked

        def ended(booked: asyncio.Future[None]) -> None:
            if not booked.cancelled():
                booked.exception()  # nobody else looks at it where the task failed before
            self.book.release(reservation)

        if booked is None:
            self.book.release(reservation)
        elif booked.done():
            ended(booked)
        else:
            booked.add_done_callback(ended)

    def _refused(self, task: Passage, stage: str, code: str, reason: str) -> None:
        detail = {**task.detail(), "stage": stage, "code": code, "reason": reason}
        self._record("task.refused", task.peer, task.data.get("run"), detail)

    # ------------------------------------------------------------ everything else that is asked

    def authenticate(self, peer: str, message: Message) -> None:
        """Raises ``NotAuthenticated`` unless the coordinator is at the other end and says so."""
        authenticate(peer, message)

    async def proposal(self, data: Mapping[str, Json]) -> Proposal:
        """Keeps a proposal, and decides it where the standing policy or a standing approval says so."""
        try:
            proposal = Proposal.parse(data)
            _check_bundle(self.node, self.settings.country, proposal)
            known = self.approvals.decision(proposal.run, proposal.sha256)
            if known is None:
                await self._check_release(proposal)
            elif known.ended == "failed" and not known.revoked:  # it is to be resumed, and the approval ended with it
                known = None
                self.approvals.reopen(proposal)
            proposal = known or self.approvals.receive(proposal)
        except HanseError as error:
            reason: dict[str, Json] = {"code": error.code, "reason": error.message}
            run = data.get("run") if isinstance(data, Mapping) else None
            self._record("proposal.refused", COORDINATOR, run, reason)
            raise
        if known is None:
            self._record(
                "proposal.received",
                COORDINATOR,
                proposal.run,
                {
                    "sha256": proposal.sha256,
                    "proposer": proposal.proposer,
                    "purpose": proposal.purpose,
                    "dataset": proposal.dataset,
                },
            )
        at_once = algorithms.at_once(proposal.content()["config"].get("federated_strategy"))
        known_well = self.standing.fitting(proposal) if proposal.state == "pending" and not at_once else None
        accepts = proposal.state == "pending" and self.settings.policy.standing == "accept-allowed"
        two = False  # then nothing is approved by itself
        if proposal.state == "pending" and (at_once or known_well or accepts):
            one = await self.alone(proposal)
            if two := not one.allowed:
                self._record("proposal.undecided", "standing policy", proposal.run, {"reason": one.reason})
        if proposal.state == "pending" and (at_once or ((known_well or accepts) and not two)):
            said = await self.examine(proposal)
            if said and all(decision.allowed for decision in said):
                if two:
                    return proposal
                by = policy.named(said)
                passed = f"passes all rules ({by})" if by else "passes all rules"
                if known_well is None:
                    return self.approve(proposal.run, proposal.sha256, actor="standing policy", reason=passed)
                actor, days = f"standing approval of {known_well.actor}", known_well.days_left
                more: dict[str, Any] = {"actor": actor, "reason": passed, "days": days}
                return self.approve(proposal.run, proposal.sha256, **more)
            why = "; ".join(f"{decision.rule}: {decision.reason}" for decision in said if not decision.allowed)
            if at_once:
                return self.reject(proposal.run, proposal.sha256, actor="standing policy", reason=why)
            self._record("proposal.undecided", "standing policy", proposal.run, {"reason": why})
        return proposal

    async def _check_release(self, proposal: Proposal) -> None:
        """Raises ``OtherRelease`` at once where this node could never answer what another release proposes: its owner
        would otherwise be asked, and the run wait for it."""
        if proposal.content().get("hanse") != hanse.__version__:
            thaw(proposal.text, proposal.sha256).check_line()
            await self.worker.learn(proposal.text, proposal.sha256)

    async def examine(self, proposal: Proposal) -> list[Decision]:
        """What the rules would say of the last of a proposal's tasks, and the ledgers of the run as a whole."""
        try:
            facts = await self._known.facts(proposal)
            return [*await policy.decide(self.rules, facts), *self.book.outlook(facts)]
        except HanseError as error:
            return [Decision(False, error.code, error.message)]

    async def alone(self, proposal: Proposal) -> Decision:
        """Whether one person may approve a proposal, by the owner's settings and policies; what cannot be decided is a
        no."""
        if self.settings.policy.two_persons:
            return persons.TWO
        return await policy.alone(self.rules, lambda: self._known.facts(proposal))

    async def relayed(self, data: Mapping[str, Json]) -> Proposal:
        """A decision that the owner took at the coordinator, where the node takes those."""
        run, sha, decision, account = (data.get(k) for k in ("run", "sha256", "decision", "account"))
        try:
            if not all(isinstance(v, str) and v for v in (run, sha, decision, account)):
                raise WireError("a consent has run, sha256, decision and account")
            if self.settings.consent != COORDINATOR:
                raise NotAllowed(f"this node takes approvals only at the node: hanse node approve {run}")
            if decision not in ("accept", "reject"):
                raise WireError(f"a decision is accept or reject, not {str(decision)[:40]!r}")
            run, sha = str(run), str(sha)
            if (proposal := self.approvals.decision(run, sha)) is None:
                raise NotFound(f"hash {sha[:12]}… was not proposed to this node for run {run[:80]!r}")  # or not yet
            actor = f"{account} (at the coordinator)"
            if decision == "reject":
                return self.reject(run, sha, actor=actor, sent=True)
            if not (one := await self.alone(proposal)).allowed:  # an account is the coordinator's word, no passphrase
                raise NotAllowed(
                    f"this node takes two persons, each known to it ({one.reason}): hanse node approve {run} --as NAME"
                )
            return self.approve(run, sha, actor=actor, sent=True)
        except HanseError as error:
            self._record("consent.refused", COORDINATOR, run, {"code": error.code, "reason": error.message})
            raise

    def end_by(self, at: datetime) -> None:
        """What the owner has approved until this time, or one before, has ended for good."""
        self.approvals.end_by(at)
        self.standing.end_by(at)

    def finished(self, run: str, state: Json) -> None:
        """The run is over: its approval ends, and what was booked for it alone goes."""
        word = state if isinstance(state, str) and state.isalpha() and len(state) <= 40 else "finished"
        self.approvals.end(run, word)
        self.book.forget(run)
        self._record("run.ended", COORDINATOR, run, {"state": word})

    # ------------------------------------------------------------ the owner's decisions

    def approve(
        self,
        run: str,
        sha256: str = "",
        *,
        actor: str,
        reason: str = "",
        sent: bool = False,
        days: float = float("inf"),
        two: bool = False,
    ) -> Proposal:
        """The owner accepts what a run proposed, exactly ``sha256`` where given; it ends after ``approval_days``, or
        ``days`` where those are fewer. Where it takes ``two`` persons (:meth:`alone`), of whom ``actor`` is one, known
        by a passphrase, it waits for the second. Raises ``NotFound``, ``Conflict``."""
        known, days = self.approvals.get(run, sha256), min(days, self.settings.policy.approval_days)
        approve = self.approvals.approve_one_of_two if two else self.approvals.approve
        found = approve(run, known.sha256, actor=actor, reason=reason, days=days, sent=sent)
        return found if found == known else self._decided(found, actor)

    def reject(self, run: str, sha256: str = "", *, actor: str, reason: str = "", sent: bool = False) -> Proposal:
        """The owner says no; the reason is told to the data scientist. Raises ``NotFound``, ``Conflict``."""
        known = self.approvals.get(run, sha256)
        self.standing.end(known.sha256)
        found = self.approvals.reject(run, known.sha256, actor=actor, reason=reason, sent=sent)
        return found if found == known else self._decided(found, actor)

    def revoke(self, run: str, sha256: str = "", *, actor: str, reason: str = "") -> Proposal:
        """Takes an approval back: nothing of the run is computed from now on."""
        self.standing.end(self.approvals.get(run, sha256).sha256)
        return self._decided(self.approvals.revoke(run, sha256, actor=actor, reason=reason), actor)

    def _decided(self, proposal: Proposal, actor: str) -> Proposal:
        self.audit.append(
            actor,
            f"proposal.{proposal.state}" if proposal.decision != "pending" else "proposal.first_approval",
            proposal.run,
            {
                "sha256": proposal.sha256,
                "reason": proposal.reason,
                **({"approvers": list(proposal.approvers)} if proposal.approvers else {}),
            },
            sync=True,
        )
        return proposal

    def _record(self, action: str, actor: str, run: Json, detail: dict[str, Json]) -> None:
        note(self.audit, action, actor, run, detail)


def _check_bundle(node: str, country: str, proposal: Proposal) -> None:
    """The dataset and the purpose in the proposal must be those that the hash binds, or the owner would be shown one
    and asked for another; and nobody else says in which country this node is."""
    content = proposal.content()
    datasets, config = content.get("datasets"), content.get("config")
    if not isinstance(datasets, dict) or not isinstance(config, dict):
        raise WireError("this is not a bundle")
    if config.get("purpose", "") != proposal.purpose:
        raise NotApproved("the bundle names another purpose than the proposal")
    bound = datasets.get(node)
    if bound is not None and (not isinstance(bound, dict) or not isinstance(proposal.dataset, Mapping)):
        raise NotApproved("the bundle names a dataset of this node, the proposal does not")
    if isinstance(proposal.dataset, Mapping) and isinstance(bound, dict):
        for name in ("name", "version"):
            if bound.get(name) != proposal.dataset[name]:
                raise NotApproved("the bundle names another dataset than the proposal")
        if (told := str(bound.get("country") or "")) != country:
            raise NotApproved(
                f"the bundle has this node in {told[:40] or 'no country'}, and its owner has declared "
                f"{country or 'none'}; propose it again"
            )


__all__ = ["Gate"]
