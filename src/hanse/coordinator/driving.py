"""Driving a run: its rounds, from the last checkpoint to a result or a reason why there is none."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from hanse import algorithms, gathering, protection, rounds
from hanse.bundle import Bundle
from hanse.choice import Past
from hanse.config import RunConfig
from hanse.coordinator.chronicle import Chronicle
from hanse.coordinator.desk import Desk
from hanse.coordinator.governance import Governance, RunAdmission
from hanse.coordinator.importance import importance
from hanse.coordinator.journal import StoreJournal
from hanse.coordinator.presence import Presence
from hanse.coordinator.starting_model import starting_model
from hanse.errors import HanseError, NotNow, Refused, RunFailed
from hanse.kinds import State
from hanse.learning.measuring import MEASURED
from hanse.messages import Json
from hanse.privacy.noise_secret import noise_secret
from hanse.receipts import Receipts
from hanse.registry import find
from hanse.stages import learned_of
from hanse.store import Store
from hanse.store.faults import passing
from hanse.store.runs import StoredRun
from hanse.store.states import TERMINAL, RunState

_log = logging.getLogger(__name__)
_RETRY_S, _LONGEST_RETRY_S = 1.0, 30.0  # between attempts while the storage fails, or nodes cannot answer
TRIED_AGAIN = "tried again after a pause"  # why a run that waited is running


class RunDriver:
    """Computes the runs that are in the state ``running``, each in a task of its own.

    Args:
        ended: called with the run as it is after its last step.
        governance: what the operator's policies allow.
        engine: what drives them (:mod:`hanse.engines`).
        desk: where it is said what runs ask that are led from outside.
    """

    def __init__(
        self,
        store: Store,
        presence: Presence,
        chronicle: Chronicle,
        ended: Callable[[StoredRun], None],
        governance: Governance,
        engine: str = "native",
        desk: Desk | None = None,
    ) -> None:
        self._store, self._presence, self._chronicle, self._ended = store, presence, chronicle, ended
        self._engine, self._governance = engine, governance
        self._desk = desk or Desk()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resumed: dict[str, asyncio.Event] = {}

    # ------------------------------------------------------------ what the life of a run asks for

    def go(self, run: StoredRun) -> None:
        """Begins the run, or lets it go on after a pause."""
        self._gate(run.id).set()
        if run.id not in self._tasks:
            self._tasks[run.id] = asyncio.ensure_future(self._drive(run))

    def hold(self, run_id: str) -> None:
        """The step that is under way is the last until :meth:`go`."""
        self._gate(run_id).clear()

    def end(self, run_id: str) -> None:
        """The run has ended; what is still being computed for it is not needed."""
        self._resumed.pop(run_id, None)
        task = self._tasks.get(run_id)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def driven(self) -> frozenset[str]:
        """Ids of the runs that are being computed, or wait."""
        return frozenset(self._tasks)

    async def stop(self) -> None:
        """Stops all; the runs keep their state, and go on from their checkpoints in another process."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _gate(self, run_id: str) -> asyncio.Event:
        return self._resumed.setdefault(run_id, asyncio.Event())

    # ------------------------------------------------------------ one run

    async def _drive(self, run: StoredRun) -> None:
        """To the end, whatever passes meanwhile (the storage fails, nodes cannot answer now): no run is left in
        ``running`` with nobody who drives it."""
        verdict: tuple[RunState, str] | None = None
        delay = _RETRY_S
        try:
            while True:
                began = time.monotonic()
                try:
                    if verdict is None:
                        ended = await self._compute(run)
                    else:
                        ended = await asyncio.to_thread(self._end, run.id, *verdict, None)
                    break
                except asyncio.CancelledError:
                    raise
                except Exception as error:
                    fault = passing(error)
                    if isinstance(error, NotNow) and verdict is None:
                        why = error.message
                    elif not fault and verdict is None:
                        verdict = self._verdict(run, error)
                        continue
                    else:
                        if not fault:
                            _log.exception("the end of run %s could not be written", run.id)
                        fault = fault or f"an error of the coordinator ({type(error).__name__})"
                        why = f"the coordinator's storage failed ({fault})"
                    if time.monotonic() - began > _LONGEST_RETRY_S:  # it went on meanwhile: this is another fault
                        delay = _RETRY_S
                    await self._wait(run, why, delay)
                    delay = min(_LONGEST_RETRY_S, 2 * delay)
        finally:
            self._tasks.pop(run.id, None)
            self._desk.leave(run.id)
        self._ended(ended)

    @staticmethod
    def _verdict(run: StoredRun, error: Exception) -> tuple[RunState, str]:
        if isinstance(error, HanseError):
            return (RunState.REJECTED if isinstance(error, Refused) else RunState.FAILED), error.message
        _log.error("run %s failed", run.id, exc_info=error)
        return RunState.FAILED, f"an error of the coordinator ({type(error).__name__}); its log has the details"

    async def _wait(self, run: StoredRun, why: str, delay: float) -> None:
        """For so long, and until that can be written: paused, with the reason, where even that can be written."""
        _log.warning("run %s waits: %s", run.id, why)
        said = f"{why}; it is tried again by itself"

        def pause() -> None:
            if self._store.runs.get(run.id).state is RunState.RUNNING:
                retry = time.time() + delay
                self._store.runs.transition(run.id, RunState.PAUSED, "coordinator", said, retry_at=retry)

        def go_on() -> bool:
            now = self._store.runs.get(run.id)
            if now.state is RunState.PAUSED and now.retry_at is not None:
                self._store.runs.transition(run.id, RunState.RUNNING, "coordinator", TRIED_AGAIN)
            return True

        written = await self._try(run, pause)
        while True:
            await asyncio.sleep(delay)
            if not written:
                written = await self._try(run, pause)
            if written and await self._try(run, go_on):
                return
            delay = min(_LONGEST_RETRY_S, 2 * delay)

    @staticmethod
    async def _try(run: StoredRun, write: Callable[[], object]) -> bool:
        try:
            await asyncio.to_thread(write)
        except Exception as error:
            if not passing(error):
                _log.exception("run %s: what became of it could not be written", run.id)
            return False
        return True

    async def _compute(self, run: StoredRun) -> StoredRun:
        config = RunConfig.parse(run.config)
        frozen, start, facts, past = await asyncio.to_thread(self._load, run, config)
        if why := Bundle(frozen).unread():
            raise RunFailed(f"the run cannot go on: {why}; propose it again")
        algorithm = await asyncio.to_thread(lambda: algorithms.build(config, starting_model(self._store, config)))

        reason = ""

        def note(kind: str, run_id: str, detail: Mapping[str, Json]) -> None:
            nonlocal reason
            if kind == "run.done":
                reason = str(detail.get("reason", ""))
            self._chronicle.note(kind, run_id, detail=detail)

        found: tuple[Any, Mapping[str, float]] = None, {}

        def shares(state: State) -> Mapping[str, float]:
            nonlocal found
            if not learns:
                return {}
            model = learned_of(algorithm, state)
            if model is None or model is not found[0]:
                found = model, importance(algorithm.result(state))  # else a part of a round, which changed no model
            return found[1]

        learns = algorithms.needs_data(config)
        kept = algorithm.model if config.keep_models else None
        journal = StoreJournal(self._store, run.id, note, shares, kept, config.keep_models == "best")
        loop = rounds.Loop(
            algorithm=algorithm,
            config=config,
            nodes=run.nodes,
            transport=self._presence,
            lines=self._presence.line,
            journal=journal,
            run_id=run.id,
            bundle=run.bundle_hash,
            gathers=protection.gathers(
                gathering.build(frozen["gathering"], run.config),
                Bundle(frozen).guarantee(),
                lambda: noise_secret(self._store.folder),
                run.id,
                run.bundle_hash,
            ),
            transforms=[link["name"] for link in frozen["transforms"]],
            facts=facts,
            rows=_declared(frozen),
            steps=algorithms.most_steps(config),
            past=past,
            admission=await asyncio.to_thread(self._admission, run, frozen),
            receipts=Receipts(),
            said=functools.partial(self._desk.next, run.id, run.nodes, config.wait_timeout_s),
            resumed=self._gate(run.id),
        )
        state: State = await find("engines", self._engine).drive(loop, start)

        def complete() -> StoredRun:
            record = algorithm.result(state)
            sha = self._store.blobs.put(record)
            # of a run that ended early an earlier round than the last trained
            round, metrics = self._last_metrics(run.id, record.data.get("round"))
            self._store.models.add(run.id, sha, round=round, metrics=metrics)
            if config.keep_models == "best":
                for old in self._store.models.thin(run.id):
                    self._store.blobs.delete(old)
            return self._end(run.id, RunState.COMPLETED, reason, sha)

        return await asyncio.to_thread(complete)

    def _load(
        self, run: StoredRun, config: RunConfig
    ) -> tuple[Mapping[str, Json], tuple[int, State] | None, dict[str, Mapping[str, Json]], list[Past]]:
        """The bundle, where to go on, facts about the nodes, and the steps before, for a run that selects."""
        nodes = [self._store.nodes.get(id) for id in run.nodes]
        facts: dict[str, Mapping[str, Json]] = {
            node.id: {**node.capabilities, "last_heartbeat": node.last_heartbeat} for node in nodes
        }
        latest = self._store.rounds.latest_checkpoint(run.id)
        done = self._store.rounds.list(run.id) if config.fraction < 1 and latest else ()
        past = [Past.of(r.record) for r in done if latest and r.step <= latest[0] and r.status == "ok"]
        return self._store.runs.bundle(run.id), latest and (latest[0] + 1, latest[1]), facts, past

    def _admission(self, run: StoredRun, frozen: Mapping[str, Json]) -> RunAdmission | None:
        if not self._governance.decides:
            return None
        failures: dict[str, int] = {}
        for done in self._store.rounds.list(run.id):
            for node in dict(done.record["failures"]):
                failures[node] = failures.get(node, 0) + 1
        role_now = functools.partial(self._store.accounts.role, run.proposer)
        return RunAdmission(
            self._governance, Bundle(frozen), run.id, run.proposer, role_now(), run.nodes, failures, role_now
        )

    def _last_metrics(self, run_id: str, of: int | None) -> tuple[int | None, Mapping[str, Json]]:
        """The round of the model, the last that was trained where nobody says it (``of``); and what was measured of it,
        in a step after the one that made it, or else last."""
        round, latest = of, dict[str, Json]()
        for done in self._store.rounds.backwards(run_id):
            if done.status != "ok":
                continue
            told = {name: value for name, value in (done.record.get("metrics") or {}).items() if name != MEASURED}
            if of is not None and told.get("evaluated_round") == of:
                return of, told
            round, latest = done.round if round is None else round, latest or told
            if latest and round is not None and (of is None or (done.round is not None and done.round < of)):
                break
        return round, latest

    def _end(self, run_id: str, to: RunState, reason: str, result: str | None) -> StoredRun:
        """The last transition, whatever the run was when the rounds ended (a pause may come with the last one)."""
        run = self._store.runs.get(run_id)
        if run.state in TERMINAL:
            return run
        if run.state is RunState.PAUSED and to is RunState.COMPLETED:
            self._store.runs.transition(run_id, RunState.RUNNING, "coordinator", "the last step was done already")
        return self._store.runs.transition(run_id, to, "coordinator", reason, result=result)


def _declared(frozen: Mapping[str, Json]) -> dict[str, float]:
    """Node to the most rows of its dataset, as all owners read it. It is the bundle's number: what a
    node registers later does not count for this run."""
    return {node: float(dataset.get("most_rows", 0)) for node, dataset in frozen["datasets"].items()}
