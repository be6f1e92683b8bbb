"""The life of a run: proposal, consent, rounds, result, and all the ways out.

A state changes only through the store, in one commit with its event; what follows from the change
(a timer, a task, a message to nodes) is done here, after the commit. Whoever is killed in between
finds the state when it starts again and does the rest.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from hanse import algorithms, rounds
from hanse.bundle import Bundle
from hanse.config import RunConfig
from hanse.coordinator import proposals
from hanse.coordinator.chronicle import Chronicle
from hanse.coordinator.importance import LARGEST, importance
from hanse.coordinator.journal import StoreJournal
from hanse.coordinator.presence import Presence
from hanse.coordinator.settings import Settings
from hanse.errors import Conflict, HanseError, NodeFailed, NotAllowed, NotFound, Refused
from hanse.kinds import State, find
from hanse.messages import Json, Message, Record
from hanse.store import Store
from hanse.store.database import iso
from hanse.store.runs import Run
from hanse.store.states import TERMINAL, RunState

_log = logging.getLogger(__name__)
_FAR_S = 86_400.0  # a timer is set for at most a day, then again: clocks are moved, processes sleep


class RunDesk:
    """Drives all runs of a coordinator."""

    def __init__(self, store: Store, presence: Presence, chronicle: Chronicle, settings: Settings) -> None:
        self._store, self._presence, self._chronicle, self._settings = store, presence, chronicle, settings
        self._driving: dict[str, asyncio.Task[None]] = {}
        self._resumed: dict[str, asyncio.Event] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._stopping = False

    # ------------------------------------------------------------ begin and end of the process

    async def start(self) -> None:
        """Takes up what an earlier process left."""
        waiting = await asyncio.to_thread(self._store.runs.list, {RunState.PENDING}, limit=1_000_000)
        for run in waiting:  # killed between creating and proposing
            await asyncio.to_thread(
                self._store.runs.transition,
                run.id,
                RunState.FAILED,
                "coordinator",
                "was never proposed; propose it again",
            )
        for state in (RunState.AWAITING_CONSENT, RunState.RUNNING):
            for run in await asyncio.to_thread(self._store.runs.list, {state}, limit=1_000_000):
                if state is RunState.AWAITING_CONSENT:
                    auto = bool(run.config.get("auto_start", True))
                    run = await asyncio.to_thread(self._store.consents.settle, run.id, "coordinator", start=auto)
                self._follow(run)

    async def stop(self) -> None:
        """Stops driving; runs stay in their state and go on after the next start."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        tasks = [*self._driving.values(), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ proposal

    async def propose(
        self, raw: Mapping[str, Json], proposer: str, any_model: bool = False
    ) -> tuple[Run, Bundle, tuple[str, ...]]:
        """Freezes a proposal and sends it to its nodes; who is not on line gets it when it says hello.
        ``any_model``: it may go on from a model of somebody else's run."""
        config = RunConfig.parse(raw)
        start = await asyncio.to_thread(self._initial_model, config, None if any_model else proposer)
        if start is not None:
            config = algorithms.continuing(config, start)
        nodes = await asyncio.to_thread(self._store.nodes.list)
        allowed = self._settings.expected_client_ids
        online = self._presence.online()
        proposal = await asyncio.to_thread(proposals.freeze, config, nodes, online, allowed)
        # what cannot be built is an error now, and its libraries are loaded when the run starts
        algorithm = await asyncio.to_thread(algorithms.build, config, start)
        await asyncio.to_thread(algorithm.init, config.to_json())
        run = await asyncio.to_thread(self._record, config, proposal, proposer)
        self._follow(run)
        for node in run.nodes:
            if node in self._presence.online():
                self._spawn(self._send_proposal(run.id, node))
        return run, proposal.bundle, proposal.warnings

    def _record(self, config: RunConfig, proposal: proposals.Proposal, proposer: str) -> Run:
        run = self._store.runs.create(config.to_json(), proposer=proposer, nodes=proposal.nodes, seed=config.seed)
        return self._store.runs.propose(
            run.id,
            proposal.bundle.sha256,
            proposal.bundle.content,
            actor=proposer,
            nodes=proposal.nodes,
            expires=time.time() + config.consent_timeout_s,
            reason=config.purpose,
        )

    def _initial_model(self, config: RunConfig, of: str | None = None) -> Record | None:
        """The model that the run goes on from, if it does. Only a model version counts, not any stored
        record; ``of``: only of a run that this account proposed. Blocks."""
        sha = config.initial_model
        if sha is None:
            return None
        versions = self._store.models.named(sha)
        if not any(of is None or self._store.runs.get(v.run).proposer == of for v in versions):
            whose = "" if of is None else f" among the runs of {of}"
            raise NotFound(f"there is no model version {sha[:12]}…{whose}; hanse run models RUN lists those of a run")
        return self._store.blobs.get(sha)

    def bundle(self, run_id: str) -> Bundle:
        """What was frozen. Blocks."""
        return Bundle(self._store.runs.bundle(run_id))

    def proposal(self, run: Run, node: str) -> dict[str, Json]:
        """As it is sent to a node. Blocks."""
        frozen = self.bundle(run.id)
        return {
            "run": run.id,
            "sha256": run.bundle_hash,
            "text": frozen.text,
            "proposer": run.proposer,
            "purpose": str(run.config.get("purpose", "")),
            "expires": iso(run.expires),
            "dataset": frozen.content["datasets"].get(node),
        }

    def pending(self, node: str) -> list[Run]:
        """Runs that wait for this node's decision. Blocks."""
        waiting = self._store.runs.list({RunState.AWAITING_CONSENT}, limit=1_000_000)
        return [r for r in waiting if node in r.nodes and node in self._store.consents.tally(r.id).remaining]

    async def _send_proposal(self, run_id: str, node: str) -> None:
        run = await asyncio.to_thread(self._store.runs.get, run_id)
        data = await asyncio.to_thread(self.proposal, run, node)
        try:
            reply = await self._ask(node, "proposal", run_id, data)
        except NodeFailed:
            return  # it gets the proposal when it comes back
        except HanseError as error:
            if not isinstance(error, Refused):  # those are noted where they come in
                detail: dict[str, Json] = {"code": error.code, "reason": error.message}
                self._chronicle.note("proposal.refused", run_id, node, node, detail)
            return
        self._chronicle.note("proposal.sent", run_id, node, detail={"sha256": run.bundle_hash})
        said = reply.body.data
        if said.get("decision") in ("accept", "reject"):
            actor = f"{said.get('actor') or 'standing policy'} at {node}"
            try:
                await self.decide(
                    run_id, node, said["decision"], run.bundle_hash, actor, "node", _text(said.get("reason"))
                )
            except Conflict:
                pass  # the run has ended meanwhile, or the node said so by a message of its own

    async def _ask(self, node: str, kind: str, run_id: str, data: Mapping[str, Json]) -> Message:
        message = Message(kind, f"{run_id}/{kind}/{secrets.token_hex(6)}", "", Record(data))
        try:
            return await asyncio.wait_for(self._presence.request(node, message), self._settings.relay_timeout_s)
        except TimeoutError:
            raise NodeFailed(f"node {node} did not answer within {self._settings.relay_timeout_s:g} s") from None

    # ------------------------------------------------------------ consent

    async def decide(
        self, run_id: str, node: str, decision: str, sha256: str, actor: str, via: str, reason: str = ""
    ) -> Run:
        """Notes a node's decision and draws the conclusion. Raises as ``Consents.record``."""

        def record() -> Run:
            run = self._store.runs.get(run_id)
            self._store.consents.record(run_id, node, decision, sha256, actor=actor, via=via, reason=reason)
            return self._store.consents.settle(run_id, actor, start=bool(run.config.get("auto_start", True)))

        run = await asyncio.to_thread(record)
        self._follow(run)
        return run

    async def decide_here(
        self, run_id: str, node: str, decision: str, sha256: str, account: str, reason: str = ""
    ) -> Run:
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
        if run.state is RunState.AWAITING_CONSENT and node in self._presence.online():
            await self._relay(run, node, decision, account)
        return await self.decide(run_id, node, decision, sha256, account, "coordinator", reason)

    async def _relay(self, run: Run, node: str, decision: str, account: str) -> None:
        data = {
            "run": run.id,
            "sha256": run.bundle_hash,
            "decision": decision,
            "account": account,
            "time": iso(time.time()),
        }
        try:
            await self._ask(node, "consent", run.id, data)
        except NotAllowed as error:
            raise Conflict(error.message) from None

    async def greet(self, node: str) -> None:
        """After a node's hello: tells it what its owner decided here while it was away, then counts it
        as on line."""

        def given() -> list[tuple[Run, str, str]]:
            active = self._store.runs.list(
                {RunState.AWAITING_CONSENT, RunState.RUNNING, RunState.PAUSED}, limit=1_000_000
            )
            asked = [run for run in active if node in run.nodes]
            given_here = [
                (run, c) for run in asked for c in self._store.consents.list(run.id) if c.via == "coordinator"
            ]
            return [(run, c.decision, c.actor) for run, c in given_here if c.node == node]

        decided = await asyncio.to_thread(given)
        if not decided:
            self._presence.greet(node)
            return

        async def tell() -> None:
            try:
                for run, decision, actor in decided:
                    await self._relay(run, node, decision, actor)
            except HanseError as error:
                _log.info("node %s did not take a decision: %s", node, error.message)
            finally:
                self._presence.greet(node)

        self._spawn(tell())

    # ------------------------------------------------------------ what people want of a run

    async def execute(self, run_id: str, actor: str) -> Run:
        run = await asyncio.to_thread(self._store.consents.start, run_id, actor)
        self._follow(run)
        return run

    async def cancel(self, run_id: str, actor: str, reason: str = "") -> Run:
        return await self._move(run_id, RunState.CANCELLED, actor, reason)

    async def pause(self, run_id: str, actor: str, reason: str = "") -> Run:
        return await self._move(run_id, RunState.PAUSED, actor, reason)

    async def resume(self, run_id: str, actor: str, reason: str = "") -> Run:
        run = await asyncio.to_thread(self._store.runs.get, run_id)
        if run.state is not RunState.PAUSED:
            raise Conflict(f"run {run_id} is {run.state}; only a paused run can be resumed")
        return await self._move(run_id, RunState.RUNNING, actor, reason)

    async def _move(self, run_id: str, to: RunState, actor: str, reason: str) -> Run:
        run = await asyncio.to_thread(self._store.runs.transition, run_id, to, actor, reason)
        self._follow(run)
        return run

    # ------------------------------------------------------------ what follows from a state

    def _follow(self, run: Run) -> None:
        """Makes timers, tasks and nodes fit the state that the store has. Calling it again changes nothing."""
        if self._stopping:
            return
        if run.state is RunState.AWAITING_CONSENT:
            if run.id not in self._timers and run.expires is not None:
                self._set_timer(run.id, run.expires)
            return
        if run.id in self._timers:
            self._timers.pop(run.id).cancel()
        if run.state is RunState.RUNNING:
            self._gate(run.id).set()
            if run.id not in self._driving:
                task = asyncio.ensure_future(self._drive(run))
                self._driving[run.id] = task
        elif run.state is RunState.PAUSED:
            self._gate(run.id).clear()
        elif run.state in TERMINAL:
            self._resumed.pop(run.id, None)
            task_or_none = self._driving.get(run.id)
            if task_or_none is not None and task_or_none is not asyncio.current_task():
                task_or_none.cancel()
            self._spawn(self._finish(run))

    def _gate(self, run_id: str) -> asyncio.Event:
        return self._resumed.setdefault(run_id, asyncio.Event())

    def _set_timer(self, run_id: str, expires: float) -> None:
        delay = min(_FAR_S, max(0.0, expires - time.time()) + 0.005)
        self._timers[run_id] = asyncio.get_running_loop().call_later(delay, self._due, run_id, expires)

    def _due(self, run_id: str, expires: float) -> None:
        self._timers.pop(run_id, None)
        if time.time() < expires:
            self._set_timer(run_id, expires)
        else:
            self._spawn(self._expire(run_id))

    async def _expire(self, run_id: str) -> None:
        run = await asyncio.to_thread(self._store.consents.settle, run_id, "coordinator", start=False)
        if run.state is RunState.AWAITING_CONSENT:  # all accepted, and nobody executed it
            run = await asyncio.to_thread(
                self._store.runs.transition, run_id, RunState.EXPIRED, "coordinator", "nobody started it in time"
            )
        self._follow(run)

    async def _finish(self, run: Run) -> None:
        async def tell(node: str) -> None:
            try:
                await self._ask(node, "finished", run.id, {"run": run.id, "state": str(run.state)})
            except HanseError as error:
                _log.debug("node %s did not take note that %s ended: %s", node, run.id, error.message)

        def forget() -> None:
            for sha in self._store.rounds.forget(run.id):
                self._store.blobs.delete(sha)

        await asyncio.gather(*(tell(node) for node in run.nodes if node in self._presence.online()))
        await asyncio.to_thread(forget)

    # ------------------------------------------------------------ the rounds

    async def _drive(self, run: Run) -> None:
        try:
            ended = await self._compute(run)
        except asyncio.CancelledError:
            raise
        except HanseError as error:
            ended = await asyncio.to_thread(self._end, run.id, RunState.FAILED, error.message, None)
        except Exception as error:
            _log.exception("run %s failed", run.id)
            reason = f"an error of the coordinator ({type(error).__name__}); its log has the details"
            ended = await asyncio.to_thread(self._end, run.id, RunState.FAILED, reason, None)
        finally:
            self._driving.pop(run.id, None)
        self._follow(ended)

    async def _compute(self, run: Run) -> Run:
        config = RunConfig.parse(run.config)
        frozen, start, facts = await asyncio.to_thread(self._load, run)
        algorithm = await asyncio.to_thread(lambda: algorithms.build(config, self._initial_model(config)))

        def note(kind: str, run_id: str, detail: Mapping[str, Json]) -> None:
            self._chronicle.note(kind, run_id, detail=detail)

        def shares(state: State) -> Mapping[str, float]:
            return importance(algorithm.result(state)) if learns and state.nbytes <= LARGEST else {}

        learns = algorithms.needs_data(config)
        kept = algorithm.model if config.keep_models else lambda state: None
        journal = StoreJournal(self._store, run.id, note, shares, kept)
        loop = rounds.Run(
            algorithm=algorithm,
            config=config,
            nodes=run.nodes,
            transport=self._presence,
            journal=journal,
            run_id=run.id,
            bundle=run.bundle_hash,
            gather=find("gathering", str(frozen["gathering"])).GATHER(),
            facts=facts,
            rows=_declared(frozen),
            resumed=self._gate(run.id),
        )
        state = await loop.go(start)

        def complete() -> Run:
            record = algorithm.result(state)
            sha = self._store.blobs.put(record)
            round, metrics = self._last_metrics(run.id)
            self._store.models.add(run.id, sha, round=round, metrics=metrics)
            return self._end(run.id, RunState.COMPLETED, "", sha)

        return await asyncio.to_thread(complete)

    def _load(self, run: Run) -> tuple[Mapping[str, Json], tuple[int, State] | None, dict[str, Mapping[str, Json]]]:
        """The bundle, where to go on, and facts about the nodes."""
        nodes = [self._store.nodes.get(id) for id in run.nodes]
        facts: dict[str, Mapping[str, Json]] = {
            node.id: {**node.capabilities, "last_heartbeat": node.last_heartbeat} for node in nodes
        }
        latest = self._store.rounds.latest_checkpoint(run.id)
        return self._store.runs.bundle(run.id), latest and (latest[0] + 1, latest[1]), facts

    def _last_metrics(self, run_id: str) -> tuple[int | None, Mapping[str, Json]]:
        """The last training round, and what was measured last: a step may evaluate the model of a round before."""
        done = [r for r in self._store.rounds.list(run_id) if r.status == "ok"]
        round = next((r.round for r in reversed(done) if r.round is not None), None)
        measured = (r.record.get("metrics") for r in reversed(done))
        return round, next((dict(metrics) for metrics in measured if metrics), {})

    def _end(self, run_id: str, to: RunState, reason: str, result: str | None) -> Run:
        """The last transition, whatever the run was when the rounds ended (a pause may come with the last one)."""
        run = self._store.runs.get(run_id)
        if run.state in TERMINAL:
            return run
        if run.state is RunState.PAUSED and to is RunState.COMPLETED:
            self._store.runs.transition(run_id, RunState.RUNNING, "coordinator", "the last step was done already")
        return self._store.runs.transition(run_id, to, "coordinator", reason, result=result)

    # ------------------------------------------------------------ small things

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs ``work`` on its own; an error in it is logged."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                _log.exception("a background task of the coordinator failed")

        task = asyncio.ensure_future(guarded())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began


def _declared(frozen: Mapping[str, Json]) -> dict[str, float]:
    """Node to the most rows of its dataset, as all owners read it. It is the bundle's number: what a
    node registers later does not count for this run."""
    return {node: float(dataset.get("most_rows", 0)) for node, dataset in frozen["datasets"].items()}


def _text(value: Json) -> str:
    return value[:2000] if isinstance(value, str) else ""
