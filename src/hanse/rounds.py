"""The one loop: select, ask, gather until the deadline, tell, checkpoint.

Everything that a federation computes runs here, over any transport. A step ends when all that is
needed is in, or when nobody who is still asked shows progress: a transfer that moves is not late, a
node that is silent is. Each step leaves a record; the state after it is checkpointed while the next
step is already under way, and a run that is resumed from any checkpoint ends with the same bytes. The last
step leaves the result instead of a state.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from hanse import large_arrays, weights
from hanse.config import RunConfig
from hanse.errors import HanseError, NodeLost, RunFailed, Unusable
from hanse.kinds import Algorithm, Ask, Done, Gather, Gathered, Reply, State, Transport, generator
from hanse.messages import Json, Message, Record
from hanse.registry import find

_INLINE_BYTES = 1 << 20  # below this, arithmetic is quicker than handing it to a thread


@dataclass(slots=True)
class Step:
    """The record of one step, as dashboards, REST, CLI and notebooks read it.

    Times are UTC (``started``, ``ended``) and seconds; bytes are those of arrays. ``participants``
    maps a node to ``{seconds, weight, metrics, asked}`` (``weight``: what it counted for), ``failures``
    to the reason.
    """

    step: int
    label: str
    round: int | None
    started: str
    ended: str = ""
    seconds: float = 0.0
    status: str = "ok"
    asked: list[str] = field(default_factory=list)
    participants: dict[str, dict[str, Json]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Json] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0


class Journal(Protocol):
    """What the loop writes to. ``step`` makes record and state durable before it returns; it may
    be called while the next step runs, but never twice at a time. Nothing goes on from the state of the
    ``last`` step, so only its record need be kept: the result comes next."""

    async def step(self, record: Step, state: State, last: bool) -> None: ...

    def event(self, kind: str, detail: Mapping[str, Json]) -> None: ...


class Forgetful:
    """A journal in memory, for simulations: keeps the records, not the states; ``look`` sees each of them."""

    def __init__(self, show: Callable[[Step], None] | None = None, look: Callable[[State], None] | None = None) -> None:
        self.steps: list[Step] = []
        self.events: list[tuple[str, Mapping[str, Json]]] = []
        self._show, self._look = show, look

    async def step(self, record: Step, state: State, last: bool) -> None:
        self.steps.append(record)
        if self._look:
            self._look(state)
        if self._show:
            self._show(record)

    def event(self, kind: str, detail: Mapping[str, Json]) -> None:
        self.events.append((kind, detail))


@dataclass(slots=True)
class _Flight:
    node: str
    asked: int
    started: float
    moved: float
    offline: float | None = None


class _Sky:
    """All exchanges of a run that are under way."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._flights: dict[asyncio.Task[Message], _Flight] = {}
        self._back: list[asyncio.Task[Message]] = []  # those that have landed and were not looked at
        self._news: asyncio.Future[None] | None = None  # what ``_landed`` waits for
        self._look_at = 0.0  # nobody is late before then, and nobody's connection has changed
        self._watching: asyncio.Task[None] | None = None
        self.bytes_down = self.bytes_up = self.exchanges = 0  # of this attempt at the step
        self.seconds: dict[str, float] = {}  # node to the time from its ask to its reply, latest

    def busy(self) -> frozenset[str]:
        return frozenset(flight.node for flight in self._flights.values())

    async def exchange(
        self, asks: Mapping[str, Record], op: str, need: int | None, step: int, attempt: int, late: str
    ) -> AsyncIterator[Reply]:
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        self._look_at = 0.0
        # The name of an ask is the same in a run that was resumed, so that a node which has the answer already
        # gives it again. Whether it is the same ask too, the node tells by its content.
        name = f"{self._run.run_id}/{step}/{attempt}/{op}/{self.exchanges}"
        self.exchanges += 1
        for node, ask in asks.items():
            self._send(node, ask, op, step, f"{name}/{node}")
        wanted = min(need or len(asks), len(self._flights))
        try:
            while wanted > 0 and self._flights:
                landed = await self._landed()
                wanted -= sum(reply.body is not None for reply in landed)
                wanted = min(wanted, len(self._flights))  # after all that landed together, or some are not waited for
                for reply in landed:
                    if reply.body is not None:
                        self.bytes_up += reply.body.nbytes
                    yield reply
        finally:
            if late == "drop":
                await self.clear()

    def _send(self, node: str, ask: Record, op: str, step: int, name: str) -> None:
        run, now = self._run, time.monotonic()
        flight = _Flight(node, step, now, now)
        data: dict[str, Json] = {"run": run.run_id, "step": step, "op": op, "bundle": run.bundle, "ask": ask.data}
        message = Message("task", name, "", Record(data, ask.arrays))

        def progress() -> None:
            flight.moved = time.monotonic()

        self.bytes_down += ask.nbytes
        task = asyncio.ensure_future(run.transport.request(node, message, progress))
        self._flights[task] = flight
        task.add_done_callback(self._touched_down)

    def _touched_down(self, task: asyncio.Task[Message]) -> None:
        if task in self._flights:
            self._back.append(task)
            self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _watch(self) -> None:
        """Has the flights looked at whenever a node comes or goes. Between looking away and listening again
        nothing else runs, so no change is missed."""
        while True:
            self._look_at = 0.0
            self._wake()
            await self._run.transport.changed()

    async def _landed(self) -> list[Reply]:
        """Waits until something happens: replies, or nodes that are now late.

        What it costs must not grow with the number of those that are still under way: it is done for each reply.
        """
        loop = asyncio.get_running_loop()
        while True:
            back, self._back = self._back, []
            replies = [self._reply(task) for task in back if task in self._flights]
            now = time.monotonic()
            if now >= self._look_at:
                replies += self._look(now)
            if replies:
                return replies
            self._news = loop.create_future()
            timer = loop.call_later(self._look_at - now, self._wake)
            try:
                await self._news
            finally:
                timer.cancel()

    def _look(self, now: float) -> list[Reply]:
        """Looks at all flights; returns those that are late. Progress and landings only put deadlines off,
        so the earliest of them is when to look again."""
        online = self._run.transport.online()
        late = []
        self._look_at = now + self._run.config.round_timeout_s
        for task, flight in list(self._flights.items()):
            flight.offline = None if flight.node in online else flight.offline or now
            deadline = self._deadline(flight)
            if now < deadline:
                self._look_at = min(self._look_at, deadline)
            elif not task.done():
                late.append(self._late(task, now))
        return late

    def _deadline(self, flight: _Flight) -> float:
        config = self._run.config
        silent = flight.moved + config.round_timeout_s
        return silent if flight.offline is None else min(silent, flight.offline + config.reconnect_timeout_s)

    def _reply(self, task: asyncio.Task[Message]) -> Reply:
        flight = self._flights.pop(task)
        seconds = self.seconds[flight.node] = time.monotonic() - flight.started
        try:
            return Reply(flight.node, flight.asked, task.result().body, seconds=seconds)
        except HanseError as error:
            return Reply(flight.node, flight.asked, None, error.message, seconds, error.code)

    def _late(self, task: asyncio.Task[Message], now: float) -> Reply:
        flight = self._flights.pop(task)
        task.cancel()
        config = self._run.config
        if flight.offline is not None:
            why = f"lost its connection and did not come back within {config.reconnect_timeout_s:g} s"
        else:
            why = f"showed no progress for {config.round_timeout_s:g} s"
        return Reply(flight.node, flight.asked, None, why, now - flight.started, NodeLost.code)

    async def clear(self) -> None:
        """Cancels all that is under way."""
        flights, self._flights = list(self._flights), {}
        for task in flights:
            task.cancel()
        if flights:
            await asyncio.gather(*flights, return_exceptions=True)

    async def close(self) -> None:
        """Nothing is under way any more, and nobody is watched."""
        await self.clear()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)


@dataclass(slots=True)
class Run:
    """One run of an algorithm.

    Args:
        algorithm: what is computed.
        config: participation, deadlines and seed are read from here.
        nodes: ids of the nodes that take part (consent given).
        transport: how they are reached.
        journal: where records and states go.
        run_id, bundle: name the run and the approved bundle (SHA-256) in every task.
        gather: how contributions come together (default: plainly).
        facts: what is known about nodes, for the selection.
        rows: node to the most rows that it declared (:mod:`hanse.weights`); others are not bounded.
    """

    algorithm: Algorithm
    config: RunConfig
    nodes: Sequence[str]
    transport: Transport
    journal: Journal
    run_id: str = "run"
    bundle: str = ""
    gather: Gather | None = None
    facts: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    rows: Mapping[str, float] = field(default_factory=dict)
    resumed: asyncio.Event | None = None  # cleared: the run pauses before its next step

    async def go(self, start: tuple[int, State] | None = None) -> State:
        """Runs to the end and returns the last state.

        Args:
            start: the step after the last checkpoint, and the state it left; None begins anew.

        Raises:
            RunFailed: too few nodes for too long, or too many failed steps in a row.
        """
        step, state = start or (0, self.algorithm.init(self.config.to_json()))
        gather = self.gather or find("gathering", "plain").GATHER()
        sky = _Sky(self)
        writing: asyncio.Task[None] | None = None
        failed = 0
        await self._assemble(everyone=True)
        try:
            ask = self.algorithm.ask(state)
            while True:
                if self.resumed is not None and not self.resumed.is_set():
                    await self.resumed.wait()
                if isinstance(ask, Done):
                    self.journal.event("run.done", {"reason": ask.reason})
                    break
                chosen = await self._choose(ask, sky.busy(), step)
                record, began = self._open(step, ask, chosen), time.perf_counter()
                sky.bytes_down = sky.bytes_up = sky.exchanges = 0
                asks = {node: ask.each.get(node, ask.record) for node in chosen}

                def exchange(
                    asks: Mapping[str, Record],
                    op: str = "answer",
                    need: int | None = None,
                    ask: Ask = ask,
                    step: int = step,
                    attempt: int = failed,
                ) -> AsyncIterator[Reply]:
                    return sky.exchange(asks, op, need, step, attempt, ask.late)

                gathered = await gather.collect(ask, asks, exchange)
                told, gathered = await self._tell(ask, state, gathered)
                self._close(record, gathered, sky, began)
                del gathered  # the next step's contributions go where these were
                if told is None:
                    failed += 1
                    record.status = "failed"
                else:
                    failed, state, step = 0, told, step + 1
                    record.metrics = dict(self.algorithm.metrics(state))
                if writing is not None:
                    await writing
                last = False
                try:
                    if told is not None:
                        ask = self.algorithm.ask(state)
                        last = isinstance(ask, Done)
                finally:
                    writing = asyncio.ensure_future(self.journal.step(record, state, last))
                if failed > self.config.max_failed_rounds:
                    reasons = "; ".join(f"{n}: {r}" for n, r in sorted(record.failures.items()))
                    raise RunFailed(
                        f"{failed} attempts at step {record.step} ({record.label}) each had fewer than "
                        f"{self.config.min_completed} usable answers. {reasons}"
                    )
        finally:
            await sky.close()
            if writing is not None:
                await writing
            large_arrays.release()
        return state

    async def _tell(self, ask: Ask, state: State, gathered: Gathered) -> tuple[State | None, Gathered]:
        """The next state, leaving out nodes whose contribution cannot be used; None if too few are left."""
        while True:
            if len(gathered.answers) < max(1, self.config.min_completed):
                return None, gathered
            try:
                counted = weights.checked(ask, gathered, self.rows, self.config.max_weight_share)
                if state.nbytes + counted.nbytes <= _INLINE_BYTES:
                    return self.algorithm.tell(state, counted), counted
                return await asyncio.to_thread(self.algorithm.tell, state, counted), counted
            except Unusable as error:
                if not error.nodes:
                    raise
                gathered = gathered.without(error.nodes)

    async def _choose(self, ask: Ask, busy: frozenset[str], step: int) -> list[str]:
        if ask.to is not None:
            return sorted(ask.to)
        eligible = [n for n in await self._assemble() if n not in busy]
        count = min(len(eligible), max(self.config.min_fit_nodes, int(len(eligible) * self.config.fraction)))
        if count == len(eligible):
            return eligible
        choose = find("selection", self.config.selection).choose
        return list(choose(eligible, count, generator(self.config.seed, "selection", step), self.facts))

    async def _assemble(self, everyone: bool = False) -> list[str]:
        """The run's nodes that are online, as soon as they are enough.

        At the start of a run (or of its resumption) it gives all of them a moment to come, so that
        a restarted coordinator does not go on with the first that reconnects.
        """
        begun = time.monotonic()
        while True:
            online = sorted(set(self.nodes) & self.transport.online())
            waited = time.monotonic() - begun
            enough = len(online) >= self.config.min_available_nodes
            if len(online) == len(self.nodes) or (
                enough and (not everyone or waited >= self.config.reconnect_timeout_s)
            ):
                return online
            left = (self.config.reconnect_timeout_s if enough else self.config.wait_timeout_s) - waited
            if left <= 0 and not enough:
                raise RunFailed(
                    f"{len(online)} of the {self.config.min_available_nodes} nodes needed were online after "
                    f"{self.config.wait_timeout_s:g} s; missing: {', '.join(sorted(set(self.nodes) - set(online)))}"
                )
            if not enough:
                self.journal.event("run.waiting", {"online": online, "needed": self.config.min_available_nodes})
            try:
                await asyncio.wait_for(self.transport.changed(), max(0.0, left))
            except TimeoutError:
                continue

    def _open(self, step: int, ask: Ask, chosen: list[str]) -> Step:
        return Step(step, ask.label, ask.round, datetime.now(UTC).isoformat(), asked=chosen)

    @staticmethod
    def _close(record: Step, gathered: Gathered, sky: _Sky, began: float) -> None:
        record.ended = datetime.now(UTC).isoformat()
        record.seconds = time.perf_counter() - began
        record.failures = dict(gathered.failures)
        record.bytes_down, record.bytes_up = sky.bytes_down, sky.bytes_up
        record.participants = {
            a.node: {
                "weight": a.weight,
                "metrics": dict(a.metrics),
                "asked": a.asked,
                "seconds": sky.seconds.get(a.node, 0.0),
            }
            for a in gathered.answers
        }


def go(run: Run, start: tuple[int, State] | None = None) -> State:
    """:meth:`Run.go` for callers without an event loop."""
    return asyncio.run(run.go(start))
