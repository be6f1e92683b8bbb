"""How the owners of a run's data are asked, and what they say.

A decision changes a run's state only through the store; what follows from the state is not decided
here (:class:`hanse.coordinator.life.RunLife`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import hanse
from hanse import releases
from hanse.bundle import Bundle
from hanse.coordinator.background import Background, patiently
from hanse.coordinator.chronicle import Chronicle
from hanse.coordinator.notices import Notices
from hanse.coordinator.presence import Presence
from hanse.coordinator.registry import check_enrolled
from hanse.decisions import proven
from hanse.errors import (
    Conflict,
    HanseError,
    NodeFailed,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotNow,
    OtherRelease,
    Refused,
    WireError,
)
from hanse.identity import read_certificate
from hanse.messages import Json, Written
from hanse.store import Store
from hanse.store.consents import Consent
from hanse.store.database import iso
from hanse.store.events import Note
from hanse.store.faults import passing
from hanse.store.nodes import Node
from hanse.store.runs import StoredRun
from hanse.store.states import RunState

_log = logging.getLogger(__name__)
_ACTIVE = frozenset({RunState.AWAITING_CONSENT, RunState.RUNNING, RunState.PAUSED})
Decided = tuple[StoredRun, str, str]  # decision and who made it
_AT_ONCE = 32  # nodes that are sent a proposal
_FAULT_S = 5.0  # where the storage fails
_AGAIN_S = (1.0, 5.0, 30.0, 120.0)  # to a node that is on line and took too long to take note


class ConsentDesk:
    """Sends proposals to nodes and takes their owners' decisions, by either way: at the node or by REST.

    Args:
        follow: called with the run as it is after a decision.
        authority: the certificate (PEM) of whom nodes joined, by which what they sign is checked; b"": they sign
            nothing.
        certified: whether a node is connected with a certificate, and so has a key to sign with.
    """

    def __init__(
        self,
        store: Store,
        presence: Presence,
        chronicle: Chronicle,
        notices: Notices,
        background: Background,
        follow: Callable[[StoredRun], None],
        authority: bytes = b"",
        certified: Callable[[str], bool] = lambda node: False,
    ) -> None:
        self._store, self._presence, self._chronicle = store, presence, chronicle
        self._notices, self._background, self._follow = notices, background, follow
        self._authority, self._certified = authority, certified
        self.told = 0  # how often something went to those on line, so that who says hello meanwhile may have missed it

    # ------------------------------------------------------------ the proposal

    def proposal(self, run: StoredRun, node: str) -> dict[str, Json]:
        """As it is sent to a node. Blocks."""
        return _told(run, Bundle(self._store.runs.bundle(run.id)), node)[node]

    def at_hello(self, node: Node) -> tuple[list[dict[str, Json]], list[Decided]]:
        """The proposals that wait for a node that says hello, and what its owner decided here. One of another line of
        releases could only refuse proposals; that is noted with each run, which waits on. Blocks."""
        waiting, decided = self._for(node.id)
        if releases.together(node.release, hanse.__version__):
            return [self.proposal(run, node.id) for run in waiting], decided
        for run in waiting:
            detail: dict[str, Json] = {"code": OtherRelease.code, "reason": releases.differing(node.release, node.id)}
            self._chronicle.note("proposal.refused", run.id, node.id, node.id, detail)
        return [], decided

    def _for(self, node: str) -> tuple[list[StoredRun], list[Decided]]:
        """Runs that wait for a node, and what its owner decided here. Blocks."""
        active = self._store.runs.list(_ACTIVE, limit=1_000_000)
        said = [(run, self._store.consents.list(run.id, node)) for run in active if node in run.nodes]
        decided = [(run, c.decision, c.actor) for run, given in said for c in given if c.via == "coordinator"]
        return [run for run, given in said if _waits(run, given)], decided

    def pending(self, node: str) -> list[StoredRun]:
        """Runs that wait for this node's decision. Blocks."""
        return self._for(node)[0]

    def send(self, run: StoredRun) -> None:
        """Sends a new proposal to its nodes; who is not on line gets it when it says hello."""
        self._background.spawn(self._send_all(run.id))

    async def _send_all(self, run_id: str, alone: str = "") -> None:
        """To a few nodes at a time, or to one: each message is as long as the code that its owner is shown."""

        def frozen() -> tuple[StoredRun, Mapping[str, dict[str, Json]]]:
            run, bundle = self._store.runs.get(run_id), Bundle(self._store.runs.bundle(run_id))
            return run, _told(run, bundle, *([alone] if alone else run.nodes))

        run, told = await patiently(frozen, f"run {run_id}'s proposal")
        online, turns = self._presence.online(), asyncio.Semaphore(_AT_ONCE)
        self.told += not alone

        async def one(node: str) -> None:
            pauses = [0.0, *_AGAIN_S]
            while pauses:
                await asyncio.sleep(pauses.pop(0))
                if not self._presence.reaches(node):
                    return  # it gets the proposal when it comes back
                async with turns:
                    try:
                        if await self._send(run, node, told[node]):
                            return
                    except Exception as error:
                        if fault := error.message if isinstance(error, NotNow) else passing(error):
                            _log.warning("run %s is proposed to %s again in a while (%s)", run_id, node, fault)
                            pauses.insert(0, _FAULT_S)  # for as long as it takes: it may have decided already
                            continue
                        _log.exception("run %s could not be proposed to %s", run_id, node)
                        return

        await asyncio.gather(*(one(node) for node in told if node in online))

    async def _send(self, run: StoredRun, node: str, data: dict[str, Json]) -> bool:
        """Whether the node took note, or said why it does not. Raises ``NotNow`` where its disk is full."""
        run_id = run.id
        try:
            reply = await self._notices.send(node, "proposal", run_id, data)
        except OtherRelease as error:
            await self._reject(run, node, error.message)
            return True
        except NodeFailed:
            return False  # it gets the proposal when it comes back, or after a while
        except NotNow:
            raise
        except HanseError as error:
            if not isinstance(error, Refused):  # those are noted where they come in
                detail: dict[str, Json] = {"code": error.code, "reason": error.message}
                self._chronicle.note("proposal.refused", run_id, node, node, detail)
            return True
        self._chronicle.note("proposal.sent", run_id, node, detail={"sha256": run.bundle_hash})
        said = reply.body.data
        if said.get("decision") in ("accept", "reject"):
            actor = f"{said.get('actor') or 'standing policy'} at {node}"
            try:
                told = (said["decision"], run.bundle_hash, actor, "node", _text(said.get("reason")), said.get("proof"))
                await self.decide(Consent(run_id, node, *told))
            except Conflict:
                pass  # the run has ended meanwhile, or the node said so by a message of its own
            except (NotAuthenticated, WireError) as error:
                refused: dict[str, Json] = {"code": error.code, "reason": error.message}
                self._chronicle.note("consent.refused", run_id, node, node, refused)
        return True

    async def _reject(self, run: StoredRun, node: str, why: str) -> None:
        """No owner can say yes to what the node cannot run."""
        try:
            await asyncio.to_thread(
                self._store.runs.transition, run.id, RunState.REJECTED, node, f"node {node} cannot take part: {why}"
            )
        except Conflict:
            return  # it ended meanwhile
        self._follow(await asyncio.to_thread(self._store.runs.get, run.id))

    # ------------------------------------------------------------ the decision

    async def decide(self, said: Consent) -> StoredRun:
        """Notes a node's decision and draws the conclusion. Its ``proof`` is what the node signed of it, None where it
        has no key. Raises as ``Consents.decide``; ``NotAuthenticated`` or ``WireError`` where the proof is of something
        else, or a node that has a key signed nothing."""

        def record() -> StoredRun:
            run, known = self._store.runs.get(said.run), self._store.nodes.get(said.node)
            check_enrolled(known)
            if said.proof is not None:
                self._check(said, run, known)
            elif said.via == "node" and self._certified(said.node):
                raise WireError("a node that has a key signs its owner's decisions; this one came without a proof")
            try:
                return self._store.consents.decide(said, start=bool(run.config.get("auto_start", True)))
            except Conflict:
                if said.decision == "reject" and run.state in (RunState.RUNNING, RunState.PAUSED):  # taken back since
                    detail: dict[str, Json] = {"reason": said.reason, "hash": said.hash, "via": said.via}
                    note = Note("consent.withdrawn", said.run, said.node, said.actor, {**detail, "proof": said.proof})
                    self._store.events.extend([note])
                raise

        run = await asyncio.to_thread(record)
        self._follow(run)
        return run

    def _check(self, claimed: Consent, run: StoredRun, node: Node) -> None:
        """Raises ``NotAuthenticated`` unless the node's present key signed exactly this. Blocks."""
        if not self._authority:
            raise NotAuthenticated("no node of this coordinator has a key to sign with")
        proof: Json = claimed.proof
        said = proven(proof, self._authority)
        if (said.node, said.run, said.sha256, said.decision) != (node.id, run.id, claimed.hash, claimed.decision):
            raise NotAuthenticated(
                f"what {node.id} signed is its {said.decision} to run {said.run[:80]}, hash {said.sha256[:12]}; "
                f"expected its {claimed.decision} to run {run.id}, hash {claimed.hash[:12]}"
            )
        if said.proposer != run.proposer:
            raise NotAuthenticated(f"what {node.id} signed is for a proposal of {said.proposer[:80]!r}")
        shown = read_certificate(proof["certificate"].encode()).fingerprint
        if shown not in (node.fingerprint, node.next_fingerprint):
            raise NotAuthenticated(f"the certificate that {node.id} signed with does not count any more")

    async def decide_here(
        self, run_id: str, node: str, decision: str, sha256: str, account: str, reason: str = ""
    ) -> StoredRun:
        """An owner's decision by REST. The node is told first, and may refuse to be told."""
        run, known = await asyncio.to_thread(lambda: (self._store.runs.get(run_id), self._store.nodes.get(node)))
        if node not in run.nodes:
            raise NotAllowed(f"node {node!r} is not asked for run {run_id}")
        if sha256 != run.bundle_hash:
            raise Conflict(
                f"this consent is for hash {sha256[:12]!r}, but run {run_id} proposes "
                f"{run.bundle_hash[:12]!r}; read the proposal again"
            )
        if known.consent_mode == "node":
            raise Conflict(f"this node takes approvals only at the node: hanse node approve {run_id}")
        check_enrolled(known)
        proof = None
        if run.state is RunState.AWAITING_CONSENT and self._presence.reaches(node):
            proof = await self._relay(run, node, decision, account)
            return await self.decide(Consent(run_id, node, decision, sha256, account, reason=reason, proof=proof))
        run = await self.decide(Consent(run_id, node, decision, sha256, account, reason=reason))
        self.told += 1
        if self._presence.reaches(node):  # it said hello before this was there
            self._background.spawn(self._missed(node))
        return run

    async def _relay(self, run: StoredRun, node: str, decision: str, account: str) -> Json:
        """Tells the node; what it signed of it."""
        data = {
            "run": run.id,
            "sha256": run.bundle_hash,
            "decision": decision,
            "account": account,
            "time": iso(time.time()),
        }
        try:
            try:
                said = await self._notices.send(node, "consent", run.id, data)
            except NotFound:  # the owner was quicker than the proposal
                await self._send(run, node, await asyncio.to_thread(self.proposal, run, node))
                said = await self._notices.send(node, "consent", run.id, data)
        except NotAllowed as error:
            raise Conflict(error.message) from None
        return said.body.data.get("proof")

    def greet(self, node: str, decided: Sequence[Decided], told: int) -> None:
        """After a node's hello: tells it what its owner decided here while it was away, then counts it
        as on line. ``told``: of :attr:`told`, before it was looked up what there is for the node."""
        if not decided:
            self._greeted(node, told)
            return

        async def tell() -> None:
            try:
                await self._relay_all(node, decided)
            finally:
                self._greeted(node, told)

        self._background.spawn(tell())

    def _greeted(self, node: str, told: int) -> None:
        self._presence.greet(node)
        if self.told != told:
            self._background.spawn(self._missed(node))

    async def _missed(self, node: str) -> None:
        """Tells a node what came between the look at what there is for it and its being on line."""
        waiting, decided = await patiently(lambda: self._for(node), f"what there is for {node}")
        await self._relay_all(node, decided)
        for run in waiting:
            await self._send_all(run.id, node)

    async def _relay_all(self, node: str, decided: Sequence[Decided]) -> None:
        try:
            for run, decision, actor in decided:
                if (proof := await self._relay(run, node, decision, actor)) is not None:
                    await self.decide(Consent(run.id, node, decision, run.bundle_hash, actor, proof=proof))
        except HanseError as error:
            _log.info("node %s did not take a decision: %s", node, error.message)


def _waits(run: StoredRun, given: Sequence[Consent]) -> bool:
    return run.state == RunState.AWAITING_CONSENT and run.bundle_hash not in {consent.hash for consent in given}


def _text(value: Json) -> str:
    return value[:2000] if isinstance(value, str) else ""


def _told(run: StoredRun, frozen: Bundle, *nodes: str) -> dict[str, dict[str, Json]]:
    """Node to the proposal as it is sent there; its text is one for all, and written once for all."""
    said = Written(
        {
            "run": run.id,
            "sha256": run.bundle_hash,
            "text": frozen.text,
            "proposer": run.proposer,
            "purpose": str(run.config.get("purpose", "")),
            "expires": iso(run.expires),
        }
    )
    return {node: said.headed("dataset", frozen.content["datasets"].get(node)) for node in nodes}
