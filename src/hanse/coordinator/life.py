"""The life of a run: from a proposal through its states to the end, and what follows from each state.

A state changes only through the store, in one commit with its event; what follows from the change
(a timer, a task, a message to nodes) is done here, after the commit. Whoever is killed in between
finds the state when it starts again and does the rest.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping

import hanse
from hanse import algorithms, releases
from hanse.bundle import Bundle
from hanse.config import RunConfig
from hanse.coordinator import proposals, study_budget, training_config
from hanse.coordinator.background import Background, patiently
from hanse.coordinator.chronicle import Chronicle
from hanse.coordinator.consent import ConsentDesk
from hanse.coordinator.desk import Desk
from hanse.coordinator.driving import TRIED_AGAIN, RunDriver
from hanse.coordinator.governance import Governance
from hanse.coordinator.notices import Notices
from hanse.coordinator.presence import Presence
from hanse.coordinator.settings import CoordinatorSettings
from hanse.coordinator.starting_model import starting_model
from hanse.errors import Conflict, HanseError, NotAllowed
from hanse.messages import Json
from hanse.store import Store
from hanse.store.runs import StoredRun
from hanse.store.states import TERMINAL, RunState
from hanse.store.studies import NodesOfStudy

_log = logging.getLogger(__name__)
_FAR_S = 86_400.0  # a timer is set for at most a day, then again: clocks are moved, processes sleep


class RunLife:
    """All runs of a coordinator, from state to state. ``consent`` is where their nodes are asked, ``governance`` what
    the operator's policies allow, ``authority`` the certificate of whom nodes joined, ``certified`` whether a node is
    connected with a certificate."""

    def __init__(
        self,
        store: Store,
        presence: Presence,
        chronicle: Chronicle,
        settings: CoordinatorSettings,
        governance: Governance,
        authority: bytes = b"",
        certified: Callable[[str], bool] = lambda node: False,
    ) -> None:
        self._store, self._presence, self._settings = store, presence, settings
        self._background, self._notices = Background(), Notices(presence, settings.patience.relay_s)
        told = (self._notices, self._background, self._follow, authority, certified)
        self.consent = ConsentDesk(store, presence, chronicle, *told)
        self.governance = governance
        self.desk = Desk()
        self._driver = RunDriver(store, presence, chronicle, self._follow, governance, settings.engine, self.desk)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._proposing = asyncio.Lock()
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
        for run in await asyncio.to_thread(self._store.runs.list, {RunState.PAUSED}, limit=1_000_000):
            if run.retry_at is not None:  # it waited for something that passes; nobody else paused it
                await asyncio.to_thread(
                    self._store.runs.transition, run.id, RunState.RUNNING, "coordinator", TRIED_AGAIN
                )
        for state in (RunState.AWAITING_CONSENT, RunState.RUNNING):
            for run in await asyncio.to_thread(self._store.runs.list, {state}, limit=1_000_000):
                if other := await asyncio.to_thread(self._other_release, run):
                    to = RunState.REJECTED if state is RunState.AWAITING_CONSENT else RunState.FAILED
                    run = await asyncio.to_thread(self._store.runs.transition, run.id, to, "coordinator", other)
                elif state is RunState.AWAITING_CONSENT:
                    auto = bool(run.config.get("auto_start", True))
                    run = await asyncio.to_thread(self._store.consents.settle, run.id, "coordinator", start=auto)
                self._follow(run)

    def idle(self) -> bool:
        """Whether nothing is computed here now."""
        return not self._driver.driven()

    def undriven(self) -> set[str]:
        """Ids of the runs that are in the state ``running`` and that nobody computes. Blocks."""
        running = self._store.runs.list({RunState.RUNNING}, limit=1_000_000)
        return {run.id for run in running} - self._driver.driven()

    def _other_release(self, run: StoredRun) -> str:
        """Why this release of the coordinator cannot go on with the run; "" where it can. Blocks."""
        before = str(self._store.runs.bundle(run.id).get("hanse", ""))
        if releases.together(before, hanse.__version__):
            return ""
        return (
            f"hanse {before} proposed it, and this coordinator now is hanse {hanse.__version__}: propose it again"
            f"{', or go back to that release and resume it' if run.state is RunState.RUNNING else ''}"
        )

    async def stop(self) -> None:
        """Stops driving; runs stay in their state and go on after the next start."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(self._driver.stop(), self._background.stop())

    # ------------------------------------------------------------ what people want of a run

    async def propose(
        self, raw: Mapping[str, Json], proposer: str, any_model: bool = False
    ) -> tuple[StoredRun, Bundle, tuple[str, ...]]:
        """Freezes a proposal and sends it to its nodes.
        ``any_model``: it may go on from a model of somebody else's run."""
        raw, said = await asyncio.to_thread(self.read, raw)
        config = await asyncio.to_thread(lambda: algorithms.settled(RunConfig.parse(raw)))
        named = self._store.studies.nodes_for
        allowed = await asyncio.to_thread(named, config.study, proposer, config.expected_client_ids)
        if allowed.study is not None and not config.purpose:
            config = dataclasses.replace(config, purpose=allowed.study.purpose)
        start = await asyncio.to_thread(starting_model, self._store, config, None if any_model else proposer)
        if start is not None:
            config = algorithms.continuing(config, start)
        proposal = await self._freeze(config, proposer, allowed)
        # what cannot be built is an error now, and its libraries are loaded when the run starts
        algorithm = await asyncio.to_thread(algorithms.build, config, start)
        await asyncio.to_thread(algorithm.init, config.to_json())
        async with self._proposing:  # what is left of a study's budget is one's own until the run is there
            await asyncio.to_thread(study_budget.check, self._store, allowed.study, config)
            run = await asyncio.to_thread(self._record, config, proposal, proposer)
        self._follow(run)
        self.consent.send(run)
        return run, proposal.bundle, (*said, *proposal.warnings)

    async def _freeze(self, config: RunConfig, proposer: str, among: NodesOfStudy) -> proposals.FrozenProposal:
        """The proposal, for the nodes of its study that the operator's policies let take part in it. Raises
        ``NotAllowed`` where these policies do not let it be proposed, or not to a node that it names."""
        nodes = [node for node in await asyncio.to_thread(self._store.nodes.list) if among.may_ask(node.id)]
        allowed, online = self._settings.expected_client_ids, self._presence.online()
        role = await asyncio.to_thread(self._store.accounts.role, proposer)
        left_out: dict[str, str] = {}
        while True:
            asked = [node for node in nodes if node.id not in left_out]
            try:
                proposal = await asyncio.to_thread(proposals.freeze, config, asked, online, allowed)
            except Conflict as error:
                if not left_out:
                    raise
                raise NotAllowed(f"no node is left: {_words(left_out)}") from error
            await self.governance.check_proposal(proposal.bundle, proposer, role, len(proposal.nodes))
            refused = await self.governance.not_taking_part(proposal.bundle, "", proposer, role, proposal.nodes)
            if not refused:
                said = tuple(f"{node} takes no part: {why}" for node, why in sorted(left_out.items()))
                return dataclasses.replace(proposal, warnings=(*proposal.warnings, *said))
            if config.expected_client_ids is not None:
                raise NotAllowed(f"these nodes may take no part: {_words(refused)}")
            left_out |= refused

    def read(self, raw: Mapping[str, Json]) -> tuple[dict[str, Json], tuple[str, ...]]:
        """What somebody wants of a run, in its settings: FLOPY-NET's groups translated, and where nothing is said the
        operator's defaults, then those of the way on which nodes are reached; and a sentence for each thing that
        changes nothing. Raises ``ConfigError``. Blocks."""
        settings, untold = training_config.translated(raw)
        settings, unfit = self._settings.run_defaults.applied(settings)
        return {**self._settings.patience.run, **settings}, (*untold, *unfit)

    def _record(self, config: RunConfig, proposal: proposals.FrozenProposal, proposer: str) -> StoredRun:
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

    async def execute(self, run_id: str, actor: str) -> StoredRun:
        """Starts a run whose consents are all there. Raises ``Conflict`` where one is missing or it has started."""
        run = await asyncio.to_thread(self._store.consents.start, run_id, actor)
        self._follow(run)
        return run

    async def cancel(self, run_id: str, actor: str, reason: str = "") -> StoredRun:
        """Ends a run before its result. Raises ``IllegalTransition`` where it has ended already."""
        return await self._move(run_id, RunState.CANCELLED, actor, reason)

    async def pause(self, run_id: str, actor: str, reason: str = "") -> StoredRun:
        """No step begins from now on; the one on its way is finished. Raises ``IllegalTransition``."""
        return await self._move(run_id, RunState.PAUSED, actor, reason)

    async def resume(self, run_id: str, actor: str, reason: str = "") -> StoredRun:
        """Goes on after the last step that was kept; with a run that failed, once its owners have agreed again: their
        approval ended with it. Raises ``Conflict`` where the run is neither paused nor failed, or is of another
        release."""
        run = await asyncio.to_thread(self._store.runs.get, run_id)
        if run.state is RunState.PAUSED:
            return await self._move(run_id, RunState.RUNNING, actor, reason)
        if run.state is not RunState.FAILED:
            raise Conflict(f"run {run_id} is {run.state}; only a paused run, or one that failed, can be resumed")
        if run.bundle_hash and not await asyncio.to_thread(self._store.runs.bundle, run_id):
            raise Conflict(
                f"run {run_id} cannot be resumed here: its code is not in this database, which was taken up from a "
                "federated_state.json; propose it again"
            )
        if other := await asyncio.to_thread(self._other_release, run):
            raise Conflict(f"run {run_id} cannot be resumed here: {other}")
        run = await asyncio.to_thread(self._reopen, run, actor, reason)
        self._follow(run)
        self.consent.send(run)
        return run

    def _reopen(self, run: StoredRun, actor: str, reason: str) -> StoredRun:
        expires = time.time() + float(run.config.get("consent_timeout_s", 7 * 86_400.0))
        return self._store.runs.reopen(run.id, actor, expires=expires, reason=reason or "resumed after it failed")

    async def _move(self, run_id: str, to: RunState, actor: str, reason: str) -> StoredRun:
        run = await asyncio.to_thread(self._store.runs.transition, run_id, to, actor, reason)
        self._follow(run)
        return run

    # ------------------------------------------------------------ what follows from a state

    def _follow(self, run: StoredRun) -> None:
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
            self._driver.go(run)
        elif run.state is RunState.PAUSED:
            self._driver.hold(run.id)
        elif run.state in TERMINAL:
            self._driver.end(run.id)
            self._background.spawn(self._finish(run))

    def _set_timer(self, run_id: str, expires: float) -> None:
        delay = min(_FAR_S, max(0.0, expires - time.time()) + 0.005)
        self._timers[run_id] = asyncio.get_running_loop().call_later(delay, self._due, run_id, expires)

    def _due(self, run_id: str, expires: float) -> None:
        self._timers.pop(run_id, None)
        if time.time() < expires:
            self._set_timer(run_id, expires)
        else:
            self._background.spawn(self._expire(run_id))

    async def _expire(self, run_id: str) -> None:
        def expire() -> StoredRun:
            run = self._store.consents.settle(run_id, "coordinator", start=False)
            if run.state is RunState.AWAITING_CONSENT:  # all accepted, and nobody executed it
                why = "nobody started it in time"
                run = self._store.runs.transition(run_id, RunState.EXPIRED, "coordinator", why)
            return run

        self._follow(await patiently(expire, f"the end of run {run_id}"))

    async def _finish(self, run: StoredRun) -> None:
        async def tell(node: str) -> None:
            try:
                await self._notices.send(node, "finished", run.id, {"run": run.id, "state": str(run.state)})
            except HanseError as error:
                _log.debug("node %s did not take note that %s ended: %s", node, run.id, error.message)

        def forget() -> None:
            if run.state is RunState.FAILED:
                return  # it may be resumed
            for sha in self._store.rounds.forget(run.id):
                self._store.blobs.delete(sha)

        await asyncio.gather(*(tell(node) for node in run.nodes if self._presence.reaches(node)))
        await patiently(forget, f"giving up the states of run {run.id}")


def _words(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{node}: {why}" for node, why in sorted(reasons.items()))
