"""One run in this process: the same loop, algorithms and gathering as over a network.

Each site answers in a thread of a pool. Random numbers are keyed by seed and site, contributions
are added in the order of sites, so the result does not depend on how many threads there are.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hanse import algorithms, bundle, event_loop, gathering, policy, protection
from hanse.allocator import collecting_less
from hanse.answers import Answerer, Terms
from hanse.by_node import ByNode
from hanse.choice import Past
from hanse.config import RunConfig
from hanse.errors import Conflict, HanseError, NodeFailed, Refused, RunFailed
from hanse.experiment import remembered
from hanse.experiment.answerers import Answerers
from hanse.experiment.aside import Aside
from hanse.experiment.crew import COHORT, Crew, Job
from hanse.experiment.kept_run import Keeping, KeptRun
from hanse.experiment.places import Place, Places
from hanse.experiment.results import Result
from hanse.experiment.seam import ENDED, Happening
from hanse.experiment.virtual import VirtualSites
from hanse.facts import Data, Facts, now, round_of, told_in_json
from hanse.kinds import Source, State
from hanse.messages import Json, Message, Record
from hanse.privacy.drawing import KEY_BYTES, key_for
from hanse.queries import TableSource
from hanse.rounds import Forgetful, Journal, Loop, Step
from hanse.table import Table
from hanse.transport import COORDINATOR, Progress
from hanse.transports.local import LocalTransport

ASIDE_BYTES = 256  # an answer with less stays in memory: to know where it lies in the file takes as much
Heard = Callable[[str, Record, Record], None]  # of a site, what it was asked and what it replied, as it left it
MOMENT = 0.02  # s; who looks at steps sees those of a moment together, as each look takes a turn from the run
AWAKE = 100  # virtual sites that keep their rows at hand; and answers to one ask that wait for others in memory
ABREAST = 2 * COHORT  # the fewest that are asked at a time: whole cohorts, so who is computed with whom stays


class _Cancelled(Exception):
    """Raised in a site's thread when its run was cancelled."""


class SimulatedRun:
    """One run, in a thread of its own with its own event loop, so that it also works where a loop
    runs already (a notebook)."""

    def __init__(
        self,
        run_id: str,
        config: RunConfig,
        frozen: bundle.Bundle,
        tables: Mapping[str, Table],
        shown: dict[str, dict[str, Json]],
        owner: Mapping[str, Json],
        start: Record | None,
        wire: str,
        workers: int,
        batched: bool,
        processes: int,
        places: Callable[[int], Sequence[Place]],
        heard: Heard | None = None,
        kept: KeptRun | None = None,
    ) -> None:
        self._heard, self._kept_run = heard, kept
        self.folder = kept.folder if kept is not None else None
        self._before = kept.before() if kept is not None else None
        sites = self._before.sites if self._before is not None else {}
        self._reminded = {node: remembered.unpacked(record) for node, record in sites.items()}
        self._shown, self._owner = shown, owner
        self.run_id, self.config, self.bundle, self._tables = run_id, config, frozen, tables
        self.nodes = list(frozen.content["datasets"])
        self._sha256 = frozen.sha256
        self._said = told_in_json(frozen.facts(""))
        del self._said["dataset"]
        self._last_asked: tuple[Record | None, dict[str, Any]] = (None, {})
        self._terms, self._cohort = Terms.of(frozen.content), COHORT if batched else 1
        self._wire, self._workers = wire, workers
        placed = algorithms.needs_model(config) or not algorithms.needs_data(config)  # the probe measures the places
        self._processes, self._places = processes if placed else 0, places
        self._rules = policy.rules(owner)
        self._aside = Aside()
        self._waiting: set[Progress] = set()  # what shows that answers are still worked on
        self._answered: tuple[tuple[Json, ...], int] = ((), 0)  # the exchange that is under way, and how many were in
        self._secret = secrets.token_bytes(KEY_BYTES)  # of which each site has its own
        self.algorithm = algorithms.build(config, start)
        self.algorithm.init(config.to_json())  # what is wrong with the options is said here, not in a thread
        self.state, self.reason = "pending", ""
        self.rejected: dict[str, str] = {}  # node to why its owner's settings say no
        self.steps: list[Step] = []
        self._updates: list[Happening] = []
        lock = threading.RLock()  # of both; who asks for no steps sleeps through them, and takes no turn from the run
        self._news, self._turns = threading.Condition(lock), threading.Condition(lock)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._final: Record | None = None
        self._kept: dict[int, Record] = dict(self._before.models) if self._before is not None else {}
        self._own: dict[str, Record] = {}  # node to the model of its own that the run left there
        self._going: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._thread = threading.Thread(target=self._go, name=run_id, daemon=True)

    def start(self) -> None:
        """Begins the run, in a thread of its own."""
        self._thread.start()

    def watch(self, steps: bool = True) -> Iterator[Happening]:
        """See :meth:`hanse.experiment.seam.Backend.watch`."""
        seen, news = 0, self._news if steps else self._turns
        while True:
            with news:
                if seen and steps and self._updates[-1].step is not None:
                    self._turns.wait(MOMENT)
                while len(self._updates) == seen:
                    news.wait()
                fresh = self._updates[seen:]
            seen += len(fresh)
            for update in fresh:
                if steps or update.step is None:
                    yield update
                if update.state in ENDED:
                    return

    def cancel(self) -> None:
        """Ends the run and waits for its thread. Raises ``Conflict`` where it has ended."""
        if self.state in ENDED:
            raise Conflict(f"run {self.run_id} has {self.state} already")
        self._stop.set()
        if self._going is not None:
            loop, task = self._going
            loop.call_soon_threadsafe(task.cancel)
        self._thread.join()

    def models(self, after: int) -> Iterator[tuple[int, Result]]:
        """See :meth:`hanse.experiment.seam.Backend.models`."""
        with self._news:  # what was told is not needed any more
            self._kept = {number: record for number, record in self._kept.items() if number > after}
            waiting, steps = sorted(self._kept.items()), list(self.steps)
        for number, record in waiting:
            seen = [s for s in steps if s.round is None or s.round <= number]
            yield (
                number,
                Result(
                    record,
                    self.config,
                    seen,
                    self.run_id,
                    self.nodes,
                    self.bundle.content["alignment"],
                    self._sha256,
                    True,
                ),
            )

    def learned(self) -> list[Record]:
        """The models that are there."""
        with self._news:
            return [*self._kept.values(), *([self._final] if self._final is not None else [])]

    def _model(self, state: State) -> tuple[int, Record] | None:
        """The model of a round, where the run keeps models."""
        model = self.algorithm.model(state) if self.config.keep_models else None
        return None if model is None else (int(model.data["round"]), model)

    def _look(self, state: State) -> None:
        if (made := self._model(state)) is not None:
            with self._news:
                self._kept.setdefault(*made)

    def result(self) -> Result:
        """See :meth:`hanse.experiment.seam.Backend.result`."""
        if self.state in ("pending", "running"):
            raise Conflict(f"run {self.run_id} is {self.state}; wait() gives the result when it has ended")
        if self._final is None:
            raise RunFailed(f"run {self.run_id} has no result: {self.state}. {self.reason}") from self._error
        return Result(
            self._final,
            self.config,
            list(self.steps),
            self.run_id,
            self.nodes,
            self.bundle.content["alignment"],
            self._sha256,
            True,
            self.reason,
            own_models=dict(self._own),
        )

    def _tell(self, state: str, step: Step | None = None, reason: str = "") -> None:
        with self._news:
            self.state, self.reason = state, reason or self.reason
            if step is not None:
                self.steps.append(step)
                if step.status == "ok":
                    self._error = None  # what a site's code raised on the way ended nothing
            cause = None if isinstance(self._error, HanseError) else self._error
            self._updates.append(Happening(state, step, reason=reason, cause=cause if state == "failed" else None))
            self._news.notify_all()
            if step is None:
                self._turns.notify_all()

    def _go(self) -> None:
        try:
            with collecting_less():
                self._final = event_loop.run(self._run())
        except asyncio.CancelledError:
            self._let_go()
            self._tell("cancelled", reason="cancelled by the data scientist")
        except HanseError as error:
            self._error = self._error or error
            self._let_go()
            self._tell("rejected" if isinstance(error, Refused) else "failed", reason=error.message)
        except BaseException as error:  # a mistake in an algorithm: the one who watches must hear of it
            self._error = error
            self._let_go()
            self._tell("failed", reason=f"{type(error).__name__}: {error}")
        else:
            self._let_go()
            self._tell("completed", reason=self.reason)

    def _let_go(self) -> None:
        if self._kept_run is not None:
            self._kept_run.close()
            self._kept_run = None

    async def _run(self) -> Record:
        task = asyncio.current_task()
        assert task is not None
        self._going = (asyncio.get_running_loop(), task)
        if self._stop.is_set():
            raise asyncio.CancelledError
        if algorithms.at_once(self.config.federated_strategy):
            await self._ask_owners()
        patient = asyncio.create_task(self._patient())
        forgetful = Forgetful(lambda step: self._tell("running", step), self._look)
        crew = self._crew()
        journal: Journal = forgetful
        if self._kept_run is not None:
            journal = Keeping(forgetful, self._kept_run, functools.partial(self._remembered, crew), self._model)
        done = self._before.steps if self._before is not None else []
        try:
            many = functools.partial(self._handle_many, crew) if isinstance(crew, Crew) and self._cohort > 1 else None
            handlers = ByNode(self.nodes, lambda node: functools.partial(self._handle, crew, node))
            transport = LocalTransport(handlers, self._wire, many)
            run = Loop(
                self.algorithm,
                self.config,
                self.nodes,
                transport,
                journal,
                self.run_id,
                self._sha256,
                gathers=protection.gathers(
                    gathering.build(self.bundle.content["gathering"], self.config.to_json()),
                    self.bundle.guarantee(),
                    lambda: secrets.token_bytes(KEY_BYTES),
                    self.run_id,
                    self._sha256,
                ),
                transforms=[link["name"] for link in self.bundle.content["transforms"]],
                past=[Past.of(dataclasses.asdict(step)) for step in done if step.status == "ok"],
                steps=algorithms.most_steps(self.config),
                abreast=max(ABREAST, max(self._cohort, 8) * max(self._workers, self._processes)),
            )
            self._tell("running")
            for step in done:
                self._tell("running", step)
            before = self._before
            state = await run.go(None if before is None else (before.step, before.state))
        finally:
            patient.cancel()
            self._stop.set()  # threads of answers that nobody waits for any more
            crew.close()
        ends = [detail for kind, detail in forgetful.events if kind == "run.done"]
        self.reason = str(ends[-1].get("reason", "")) if ends else ""
        return self.algorithm.result(state)

    def _crew(self) -> Crew | Places:
        kept = AWAKE if isinstance(self._tables, VirtualSites) else None
        if self._processes:
            count = min(self._processes, len(self.nodes))
            each = None if kept is None else -(-kept // count)
            known = (self._before.step, self._before.sites) if self._before is not None else (0, {})
            about = (self.run_id, self.bundle.content, self._owner, self._tables)
            return Places(self._places(count), *about, each, known)
        return Crew(self._workers, Answerers(self.run_id, self._answerer, kept), self._cohort)

    def _facts(self, node: str, sender: str, task: Record) -> Facts:
        """What the rules of ``node`` decide by, of what somebody asks: a task, or of the run as a whole nothing yet."""
        bound = self.bundle.content["datasets"][node]
        about = Data(name=node, version=str(bound["version"])) if self._said["needs_data"] else None
        rows = bound["most_rows"] if about else None
        return Facts(**self._asked(task), sender=sender, dataset=about, rows=rows, time=now())

    def _asked(self, task: Record) -> dict[str, Any]:
        """The facts of a task that are the same for all sites; made once of what goes to many."""
        known, found = self._last_asked
        if known is task:
            return found
        found = {
            **self._said,
            "proposer": "",
            "purpose": self.config.purpose,
            "run": self.run_id,
            "bundle": self._sha256,
            "step": task.data.get("step", max(0, self._said["steps"] - 1)),
            "exchange": task.data.get("exchange", 0),
            "operation": task.data.get("op", "proposal"),
            "combine": task.data.get("combine", ""),
            "round": round_of(task.data["ask"]) if "ask" in task.data else None,
            "bytes": task.nbytes if task.data else 0,
            "exposed": (),  # whose code it is, their machine it is
        }
        self._last_asked = task, found
        return found

    async def _ask_owners(self) -> None:
        """What owners answer at once in their settings is answered before the run, as at a node. Raises ``Refused``."""
        nothing = Record()
        for node in self.nodes:
            said = await policy.decide(self._rules, self._facts(node, COORDINATOR, nothing))
            if not all(decision.allowed for decision in said):
                self.rejected[node] = "; ".join(f"{d.rule}: {d.reason}" for d in said if not d.allowed)
        if self.rejected:
            raise Refused("; ".join(f"{node}: {why}" for node, why in self.rejected.items()))

    def _answerer(self, node: str) -> Answerer:
        def source(bundle: Mapping[str, Json]) -> Source:
            return TableSource(self._tables[node], self._shown.setdefault(node, {}))

        found = Answerer(
            node,
            lambda bundle: self._tables[node],
            self._owner,
            source,
            terms=lambda bundle: self._terms,
            keep=lambda run, record: self._own.__setitem__(node, record),
            secret=lambda: key_for(self._secret, node.encode()),
        )
        if self._before is not None and (memory := self._reminded.pop(node, None)) is not None:
            found.remind(self.run_id, self.bundle.content, self._before.step, memory)
        return found

    async def _remembered(self, crew: Crew | Places, step: int) -> Mapping[str, Record] | None:
        try:
            # first those whom nobody has asked yet since the run goes on: who is asked meanwhile is among the others
            asleep = {} if self._processes else {n: remembered.packed(m) for n, m in list(self._reminded.items())}
            return {**asleep, **await crew.memories(step)}
        except remembered.Unkept:
            return None

    async def _handle(self, crew: Crew | Places, node: str, peer: str, message: Message, progress: Progress) -> Message:
        """What ``node`` does with a message: :data:`hanse.transport.Handler`."""

        def alive() -> None:
            if self._stop.is_set():
                raise _Cancelled
            progress()

        await policy.enforce(self._rules, self._facts(node, peer, message.body))
        future = crew.answer(Job(node, message.body, self.bundle.content, alive))
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait any more
        try:
            self._waiting.add(progress)
            body = await future
        except HanseError as error:
            self._told(error)
            raise  # with its own cause
        except Exception as error:
            raise self._told(error) from error
        finally:
            self._waiting.discard(progress)
        came = self._count(message.body, 1) + 1
        return Message("reply", message.id, node, self._came(node, message.body, body, came))

    async def _handle_many(
        self, crew: Crew, peer: str, nodes: Sequence[str], task: Record
    ) -> Sequence[Record | HanseError]:
        """What several nodes do that are asked the very same: :data:`hanse.transport.ManyHandler`."""

        def alive() -> None:
            if self._stop.is_set():
                raise _Cancelled

        rows = {node: int(self._terms.rows[node]) for node in nodes}
        no = await policy.refused(self._rules, rows, lambda node: self._facts(node, peer, task))
        found: dict[str, Record | HanseError] = dict(no)
        jobs = [Job(node, task, self.bundle.content, alive) for node in nodes if node not in no]
        async for some, replies in crew.answer_many(jobs):
            came = self._count(task, sum([isinstance(reply, Record) for reply in replies]))
            plainly = self._heard is None and came + len(replies) <= AWAKE  # all wait as they are
            for job, reply in zip(some, replies, strict=True):
                if not isinstance(reply, Record):
                    found[job.node] = self._told(reply)
                    continue
                came += 1
                found[job.node] = reply if plainly else self._came(job.node, task, reply, came)
        if self._stop.is_set():  # what each of them says of it is not what became of the step
            raise asyncio.CancelledError
        return [found[node] for node in nodes]

    def _told(self, error: Exception) -> HanseError:
        """Why a site gave nothing, as it is told. Of a researcher's code the researcher sees all here."""
        if isinstance(error, HanseError):
            self._error = self._error or error.__cause__
            return error
        self._error = self._error or error
        return NodeFailed(f"{type(error).__name__}: {error}")

    def _came(self, node: str, task: Record, reply: Record, place: int) -> Record:
        """A site's reply, the how-many-eth to this exchange, on its way to wait for those of the others."""
        if self._heard is not None:
            self._heard(node, task, reply)
        if place > AWAKE:
            reply = self._aside.once(reply)
            reply = self._aside.put(reply) if reply.nbytes >= ASIDE_BYTES else reply
        return reply

    def _count(self, task: Record, more: int) -> int:
        """Counts ``more`` answers to this exchange, and says how many were in before."""
        exchange = (task.data["step"], task.data["exchange"])
        before, count = self._answered
        count = count if before == exchange else 0
        self._answered = exchange, count + more
        return count

    async def _patient(self) -> None:
        """Shows life of those who wait for an answer. A site that waits for a thread, or is slow, is not late here:
        which ones are would depend on this machine, and so would the result."""
        while True:
            await asyncio.sleep(self.config.round_timeout_s / 3)
            for progress in list(self._waiting):
                progress()
