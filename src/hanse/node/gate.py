"""The gate: everything that a node is asked passes here, and everything it answers.

In this order: who asks -> is exactly this hash approved for this run -> is the dataset the approved
one -> do all rules allow it -> the privacy budget -> the worker, with limits -> is it still approved ->
what leaves -> a line in the audit log -> the reply. Each step can only say no, and what goes wrong in a
step is a no. If the audit log cannot be written, nothing leaves.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from hanse import policy
from hanse.errors import (
    HanseError,
    NodeFailed,
    NotAllowed,
    NotApproved,
    NotAuthenticated,
    NotFound,
    TooLarge,
    WireError,
)
from hanse.kinds import Decision, Progress
from hanse.messages import Json, Layout, Message, dumps
from hanse.node.approvals import Approvals, Proposal
from hanse.node.catalogue import Catalogue
from hanse.node.dataset import Dataset
from hanse.node.settings import Settings
from hanse.node.worker import Worked, Worker
from hanse.store.audit import AuditLog

log = logging.getLogger(__name__)

COORDINATOR = "coordinator"

# The seam of the privacy budget: called with the facts before anything is computed; raises
# ``NotAllowed`` when what is left does not suffice. No budget is kept yet, so it allows everything.
Budget = Callable[[Mapping[str, Json]], None]


class Gate:
    """One node's gate.

    Args:
        node: this node's id.
        home: its folder.
        settings: what its owner has set.
        approvals, worker, audit: what it decides with, computes with and writes to.
        budget: see :data:`Budget`.
    """

    def __init__(
        self,
        node: str,
        home: Path,
        settings: Settings,
        approvals: Approvals,
        worker: Worker,
        audit: AuditLog,
        budget: Budget = lambda facts: None,
    ) -> None:
        self.node, self.approvals, self.worker, self.audit = node, approvals, worker, audit
        self._catalogue, self._file = Catalogue(home), home / "catalogue.json"
        self._budget = budget
        self._datasets: dict[str, Dataset] = {}
        self._read_at: tuple[int, int, int] | None = None
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """From now on these settings. Raises what a broken rule raises; then the old ones stay."""
        facts: dict[str, Json] = {
            **dataclasses.asdict(settings.policy),
            "message_bytes": settings.limits.message_mb << 20,
            "steps": settings.limits.steps,
        }
        self._rules, self.settings = policy.rules(facts), settings

    # ------------------------------------------------------------ tasks

    async def task(self, peer: str, message: Message, progress: Progress = lambda: None) -> Message:
        """The reply to a task. Raises ``Refused`` or what went wrong; both are in the audit log."""
        data = message.body.data
        run = data.get("run")
        detail: dict[str, Json] = {
            "step": data.get("step"),
            "op": data.get("op"),
            "bundle": str(data.get("bundle"))[:64],
            "bytes_in": message.body.nbytes,
        }
        try:
            self.authenticate(peer, message)
            worked = await self._pass(peer, message, progress)
            self.approvals.approved(data["run"], data["bundle"])  # it may have been taken back meanwhile
            self._leaves(worked)
        except HanseError as error:
            self._record("task.refused", peer, run, {**detail, "code": error.code, "reason": error.message})
            raise
        except Exception as error:
            log.exception("a task of run %r", run)
            self._record("task.refused", peer, run, {**detail, "code": "error", "reason": type(error).__name__})
            raise NodeFailed("the node could not answer; its owner finds the reason in the node's log") from error
        self._record(
            "task.answered",
            peer,
            run,
            {**detail, "bytes_out": worked.record.nbytes, "weight": worked.record.data.get("weight")},
        )
        return Message("reply", message.id, self.node, worked.record)

    async def _pass(self, peer: str, message: Message, progress: Progress) -> Worked:
        data = message.body.data
        _check_task(data)
        proposal = self.approvals.approved(data["run"], data["bundle"])
        facts = await self._facts(peer, proposal, data["op"], data["step"], message.body.nbytes)
        policy.enforce(self._rules, facts)
        self._budget(facts)
        worked = await self.worker.answer(message.body, proposal.text, progress)
        if facts["needs_data"]:
            # the catalogue's count was a promise; this is what the worker found
            policy.enforce(self._rules, {**facts, "rows": worked.rows})
        return worked

    async def _facts(self, sender: str, proposal: Proposal, op: str, step: int, nbytes: int) -> dict[str, Json]:
        """What the rules look at. The worker has compared the bundle's code with its own for it."""
        learned = await self.worker.learn(proposal.text, proposal.sha256)
        rows: int | None = None
        if learned["needs_data"]:
            rows = self._approved_dataset(proposal, learned["dataset"]).rows
        return {
            "sender": sender,
            "run": proposal.run,
            "bundle": proposal.sha256,
            "op": op,
            "step": step,
            "algorithm": learned["algorithm"],
            "model": learned["model"],
            "plan": learned["plan"],
            "needs_data": learned["needs_data"],
            "features": learned["features"],
            "nodes": learned["nodes"],
            "rounds": learned["rounds"],
            "gathering": learned["gathering"],
            "transforms": learned["transforms"],
            "rows": rows,
            "bytes": nbytes,
        }

    def _approved_dataset(self, proposal: Proposal, bound: Json) -> Dataset:
        """The dataset, if what was approved, what the hash binds and what is here are the same."""
        if proposal.dataset is None or not isinstance(bound, Mapping):
            raise NotApproved(f"run {proposal.run!r} needs data, and no dataset of this node was approved for it")
        name, version = proposal.dataset["name"], proposal.dataset["version"]
        if (bound.get("name"), bound.get("version")) != (name, version):
            raise NotApproved("the bundle names another dataset than the proposal that was approved")
        dataset = self._dataset(name)
        if dataset.version != version:
            raise NotApproved(f"dataset {name!r} has changed since it was approved; propose the run again")
        return dataset

    def _dataset(self, name: str) -> Dataset:
        """From the catalogue, which is read again when its file has changed."""
        try:
            status = os.stat(self._file)
        except FileNotFoundError:
            raise NotFound("this node has no datasets") from None
        mark = (status.st_mtime_ns, status.st_ino, status.st_size)
        if mark != self._read_at:
            self._datasets = {dataset.name: dataset for dataset in self._catalogue.list()}
            self._read_at = mark
        if name not in self._datasets:
            raise NotFound(f"dataset {name!r} is not here any more")
        return self._datasets[name]

    def _leaves(self, worked: Worked) -> None:
        """Looks at what is about to leave. Raises ``TooLarge``, ``NotAllowed`` or ``WireError``."""
        limits, record = self.settings.limits, worked.record
        if record.nbytes > limits.message_mb << 20:
            raise TooLarge(f"the reply has {record.nbytes} bytes; this node sends up to {limits.message_mb} MB")
        text = len(dumps(record.data))
        if text > limits.reply_json_kb << 10:
            raise TooLarge(
                f"the reply has {text} bytes beside its arrays; this node sends up to {limits.reply_json_kb} kB"
            )
        Layout.of(record.arrays)  # nothing but plain arrays
        weight = record.data.get("weight", 0)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight) or weight < 0:
            raise NotAllowed("the reply's weight is not a finite number of at least 0")

    # ------------------------------------------------------------ everything else that is asked

    def authenticate(self, peer: str, message: Message) -> None:
        """Raises ``NotAuthenticated`` unless the coordinator is at the other end and says so."""
        if peer != COORDINATOR or message.sender not in ("", peer):
            raise NotAuthenticated(f"only this node's coordinator may ask it; {(message.sender or peer)[:80]!r} did")

    async def proposal(self, data: Mapping[str, Json]) -> Proposal:
        """Keeps a proposal, and decides it where the standing policy says so."""
        try:
            proposal = Proposal.parse(data)
            _check_bundle(self.node, proposal)
            known = self.approvals.decision(proposal.run, proposal.sha256)
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
        # a question about statistics waits for nobody: the owner has answered all of them in the settings
        statistics = proposal.content()["config"].get("federated_strategy") == "statistics"
        if proposal.state == "pending" and (statistics or self.settings.policy.standing == "accept-allowed"):
            said = await self.examine(proposal)
            if said and all(decision.allowed for decision in said):
                return self.approve(proposal.run, proposal.sha256, actor="standing policy", reason="passes all rules")
            why = "; ".join(f"{decision.rule}: {decision.reason}" for decision in said if not decision.allowed)
            if statistics:
                return self.reject(proposal.run, proposal.sha256, actor="standing policy", reason=why)
            self._record("proposal.undecided", "standing policy", proposal.run, {"reason": why})
        return proposal

    async def examine(self, proposal: Proposal) -> list[Decision]:
        """What the rules would say of a proposal's tasks, the last of which comes after its rounds."""
        try:
            facts = await self._facts(COORDINATOR, proposal, "proposal", 0, 0)
            return policy.decide(self._rules, {**facts, "step": facts["rounds"]})
        except HanseError as error:
            return [Decision(False, error.code, error.message)]

    def relayed(self, data: Mapping[str, Json]) -> Proposal:
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
            if self.approvals.decision(run, sha) is None:
                raise NotApproved(f"hash {sha[:12]}… was not proposed to this node for run {run[:80]!r}")
            actor = f"{account} (at the coordinator)"
            if decision == "accept":
                return self.approve(run, sha, actor=actor, sent=True)
            return self.reject(run, sha, actor=actor, sent=True)
        except HanseError as error:
            self._record("consent.refused", COORDINATOR, run, {"code": error.code, "reason": error.message})
            raise

    # ------------------------------------------------------------ the owner's decisions

    def approve(self, run: str, sha256: str = "", *, actor: str, reason: str = "", sent: bool = False) -> Proposal:
        known, days = self.approvals.get(run, sha256), self.settings.policy.approval_days
        found = self.approvals.approve(run, known.sha256, actor=actor, reason=reason, days=days, sent=sent)
        return found if found == known else self._decided(found, actor)

    def reject(self, run: str, sha256: str = "", *, actor: str, reason: str = "", sent: bool = False) -> Proposal:
        known = self.approvals.get(run, sha256)
        found = self.approvals.reject(run, known.sha256, actor=actor, reason=reason, sent=sent)
        return found if found == known else self._decided(found, actor)

    def revoke(self, run: str, sha256: str = "", *, actor: str, reason: str = "") -> Proposal:
        return self._decided(self.approvals.revoke(run, sha256, actor=actor, reason=reason), actor)

    def _decided(self, proposal: Proposal, actor: str) -> Proposal:
        self.audit.append(
            actor,
            f"proposal.{proposal.state}",
            proposal.run,
            {"sha256": proposal.sha256, "reason": proposal.reason},
            sync=True,
        )
        return proposal

    def _record(self, action: str, actor: str, run: Json, detail: Mapping[str, Json]) -> None:
        self.audit.append(actor[:200], action, str(run)[:200], _plain(detail), sync=False)


def _check_task(data: Mapping[str, Json]) -> None:
    if not all(isinstance(data.get(name), str) for name in ("run", "op", "combine", "bundle")):
        raise WireError("a task has run, step, exchange, op, combine, bundle and ask")
    numbers = (data.get("step"), data.get("exchange"))
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise WireError("a task's step and exchange are whole numbers")
    if not isinstance(data.get("ask"), dict):
        raise WireError("a task's ask is an object")


def _check_bundle(node: str, proposal: Proposal) -> None:
    """The dataset in the proposal must be the one that the hash binds, or the owner would be shown
    one and asked for another."""
    content = proposal.content()
    datasets = content.get("datasets")
    if not isinstance(datasets, dict) or not isinstance(content.get("config"), dict):
        raise WireError("this is not a bundle")
    bound = datasets.get(node)
    if bound is not None and (not isinstance(bound, dict) or not isinstance(proposal.dataset, Mapping)):
        raise NotApproved("the bundle names a dataset of this node, the proposal does not")
    if isinstance(proposal.dataset, Mapping) and isinstance(bound, dict):
        for name in ("name", "version"):
            if bound.get(name) != proposal.dataset[name]:
                raise NotApproved("the bundle names another dataset than the proposal")


def _plain(detail: Mapping[str, Json]) -> dict[str, Json]:
    """What a stranger sent must not make the log unwritable."""
    return {
        k: v
        if isinstance(v, (int, float, str)) and v == v and abs(v if not isinstance(v, str) else 0) < 1e18
        else str(v)[:2000]
        for k, v in detail.items()
    }


__all__ = ["COORDINATOR", "Budget", "Gate"]
