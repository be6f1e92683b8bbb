"""The one loop: select, ask, gather until the deadline, tell, checkpoint.

Everything that a federation computes runs here, over any transport. Each step leaves a record; the state
after it is checkpointed while the next step is already under way, and a run that is resumed from any
checkpoint ends with the same bytes. A step that says so (:attr:`hanse.kinds.Ask.checkpoint`) leaves its
record alone: who is killed after it does it again. The last step leaves the result instead of a state.

A node that refuses for good (its owner took the approval back, a rule says no, a budget is spent) is asked
nothing more in this run. Where too few are left without it, the run ends with what the nodes said.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Protocol

from hanse import gathering, large_arrays, registry, transforms, weights
from hanse.choice import Admission, Choice, Past, Situation
from hanse.config import RunConfig
from hanse.errors import NotNow, Refused, RunFailed, Unusable
from hanse.exchanges import Sky
from hanse.gather import Gather
from hanse.kinds import EVERYONE, Algorithm, Answer, Ask, Awaited, Combine, Done, Gathered, State, Who, generator
from hanse.messages import Json
from hanse.participants import AnswerColumns, Participants
from hanse.receipts import Receipts
from hanse.registry import find
from hanse.stages import anew_of
from hanse.transport import Transport

_MOST_BEHIND = 10_000  # steps; a node that says that it was asked more is not believed
_PAST_ANSWERS = 100_000  # of earlier steps, kept for the selection: some 50 MB
REPEATABLE_SECONDS = 5.0  # of steps that a killed coordinator would have to do again
_NAMED = 5  # nodes that a sentence names
_MOMENT_S = 60.0  # at the start of a run all of its nodes are waited for, and no longer than this
INLINE_BYTES = 4 << 20  # below this, arithmetic takes a few milliseconds, and who waits for a thread as many


@dataclass(slots=True)
class Step:
    """The record of one step, as dashboards, REST, CLI and notebooks read it.

    Times are UTC (``started``, ``ended``) and seconds; bytes are those of arrays. ``participants``
    maps a node to ``{seconds, weight, metrics, asked}`` (``weight``: what it counted for), ``failures``
    to the reason; in a simulation of many sites that is made when it is looked at (:mod:`hanse.participants`).
    ``chosen`` says why these were asked, where they are a sample: ``{reason, reasons}``, and which nodes
    were ``left_out`` because they might not be asked. ``gathered``
    says how contributions came together that nobody saw by themselves: ``{by, of, unchecked, ...}``
    (:attr:`hanse.kinds.Gathered.told`); the ``weight`` of a node is null then. ``receipts`` are of the replies that
    were counted (:mod:`hanse.receipts`); nobody is shown them.
    """

    step: int
    label: str
    round: int | None
    started: str
    ended: str = ""
    seconds: float = 0.0
    status: str = "ok"
    asked: list[str] = field(default_factory=list)
    participants: Mapping[str, dict[str, Json]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Json] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0
    chosen: dict[str, Json] = field(default_factory=dict)
    gathered: dict[str, Json] = field(default_factory=dict)
    receipts: dict[str, Json] = field(default_factory=dict)


class Journal(Protocol):
    """What the loop writes to. ``step`` makes the record durable before it returns, and the state where it is
    to be kept; it may be called while the next step runs, but never twice at a time. Nothing goes on from a
    state that is not kept: the step is done again, or it was the last and the result comes next. So its record may be
    made durable a moment later, with those that follow."""

    async def step(self, record: Step, state: State, keep: bool) -> None:
        """Makes the record durable, and the state where it is to be kept (``keep``), before it returns; a record
        without a state by then, or with the next."""
        ...

    async def end(self) -> None:
        """Makes durable what is not yet: the loop has ended, however it did."""
        ...

    def event(self, kind: str, detail: Mapping[str, Json]) -> None:
        """Something that people should see: ``run.waiting`` and the like."""
        ...


class Forgetful:
    """A journal in memory, for simulations: keeps the records, not the states; ``look`` sees each of them."""

    def __init__(self, show: Callable[[Step], None] | None = None, look: Callable[[State], None] | None = None) -> None:
        self.steps: list[Step] = []
        self.events: list[tuple[str, Mapping[str, Json]]] = []
        self._show, self._look = show, look

    async def step(self, record: Step, state: State, keep: bool) -> None:
        self.steps.append(record)
        if self._look:
            self._look(state)
        if self._show:
            self._show(record)

    async def end(self) -> None:
        pass

    def event(self, kind: str, detail: Mapping[str, Json]) -> None:
        self.events.append((kind, detail))


def _nothing() -> None:
    pass


def _no_line(node: str) -> Mapping[str, Json]:
    return {}


@dataclass(slots=True)
class Loop:
    """One run of an algorithm.

    Args:
        algorithm: what is computed.
        config: participation, deadlines and seed are read from here.
        nodes: ids of the nodes that take part (consent given).
        transport: how they are reached.
        journal: where records and states go.
        run_id, bundle: name the run and the approved bundle (SHA-256) in every task.
        gathers: how contributions come together, for each way to combine them (default: plainly).
        transforms: names of those that nodes apply before they reply; they report on each step.
        facts: what is known about nodes, for the selection.
        rows: node to the most rows that it declared (:mod:`hanse.weights`); others are not bounded.
        past: the steps before the one that ``go`` starts with, for the selection.
        admission: which nodes may be sent a step; None: all that take part.
        receipts: collects what is committed to of each step; None: nothing is (a simulation).
        said: gives the ask of a step (number, what makes it) that is said from outside (:class:`hanse.kinds.Awaited`),
            once everything before it is on disk; None: nobody says any.
        lines: what is measured of the line to a node, for the records and the selection; {} where nothing is.
        steps: the most that may be asked, as owners consented to; None: no matter how many.
        abreast: the most nodes that work on a step which waits for all, where memory counts more than how soon all are
            asked (a simulation); None: all of them.
    """

    algorithm: Algorithm
    config: RunConfig
    nodes: Sequence[str]
    transport: Transport
    journal: Journal
    run_id: str = "run"
    bundle: str = ""
    gathers: Mapping[Combine, Gather] = field(default_factory=lambda: gathering.build(gathering.PLAIN))
    transforms: Sequence[str] = ()
    facts: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    rows: Mapping[str, float] = field(default_factory=dict)
    past: Sequence[Past] = ()
    admission: Admission | None = None
    receipts: Receipts | None = None
    said: Callable[[int, Awaited], Awaitable[Ask | Done]] | None = None
    lines: Callable[[str], Mapping[str, Json]] = _no_line
    steps: int | None = None
    abreast: int | None = None
    resumed: asyncio.Event | None = None  # cleared: the run pauses before its next step
    # who is asked by, and its settings: looked up in the folder once
    _size: int = field(default=0, init=False)  # of the last state that was kept: to measure others would encode them
    _selects: tuple[Callable[[Situation], Choice], Mapping[str, Json]] | None = field(default=None, init=False)

    async def go(self, start: tuple[int, State] | None = None) -> State:
        """Runs to the end and returns the last state.

        Args:
            start: the step after the last checkpoint, and the state it left; None begins anew.

        Raises:
            RunFailed: too few nodes for too long, or too many failed steps in a row.
            Refused: so many nodes refused for good that no step can succeed; says what they said.
            NotNow: so many nodes cannot answer now that the step has to wait; go on from the last checkpoint later.
        """
        step, state = start or (0, self.algorithm.init(self.config.to_json()))
        self._size = state.nbytes
        sky = Sky(self.transport, self.config, self.run_id, self.bundle, self.receipts, self.abreast)
        writing: asyncio.Task[None] | None = None
        failed, past, lost = 0, recent(self.past), Counter[str]()
        answers = sum(len(one.asked) for one in past)
        await self._assemble(everyone=True)
        kept = time.perf_counter()
        try:
            ask = self.algorithm.ask(state)
            while True:
                if self.resumed is not None and not self.resumed.is_set():
                    await self.resumed.wait()
                if isinstance(ask, Awaited):
                    if writing is not None:
                        await writing  # who says what comes next has seen what came before
                    ask = await self._said(step, ask)
                if isinstance(ask, Done):
                    self.journal.event("run.done", {"reason": ask.reason})
                    break
                if self.steps is not None and step >= self.steps:
                    raise RunFailed(_used_up(self.steps, ask, lost))
                self._check_left(ask, sky.refused)
                if ask.late == "drop":
                    await sky.clear()  # of earlier steps that kept late answers: their nodes are asked now
                choice = await self._choose(ask, sky, step, past)
                record, began = self._open(step, ask, choice), time.perf_counter()
                sky.begin(step, failed, ask)
                asks = {node: ask.each.get(node, ask.record) for node in choice.nodes}
                whole = replace(ask, fewest=max(1, self.config.min_completed))
                gathered = (await self._gather(ask).collect(whole, asks, sky.exchange)).among(self.nodes, step)
                told, gathered = await self._tell(ask, state, gathered)
                over: Any = gathered.told.get("over", -1) if told is None else -1
                left: Any = gathered.told.get("left", ())
                enough = left if len(left) >= max(1, self.config.min_completed) else ()
                anew: State | None = anew_of(self.algorithm, state, enough) if over >= 0 else None
                behind = range(step, over) if anew is not None and over - step < _MOST_BEHIND else range(0)
                links = self.transforms
                changed = transforms.report(links, [a.metrics for a in gathered.answers]) if links else {}
                rest = self._close(record, gathered, sky, began)
                lost.update(record.failures.keys() - {*left})  # those that are left gave nothing as others were lost
                if self.admission is not None:
                    self.admission.seen(record.failures)
                del gathered  # the next step's contributions go where these were
                if told is None or self.config.fraction < 1:
                    rest()  # looked at below
                    rest = _nothing
                if told is None:
                    # one of which fewer nodes are left is no attempt that failed: there are as many such steps as nodes
                    failed += not (anew is not None and 0 < len(enough) < len(asks))
                    record.status = "failed"
                    if anew is not None:  # other attempts would fail, too: it is left behind, with all that was asked
                        record.step = step + len(behind)
                        state, step = anew, record.step + 1
                else:
                    if self.config.fraction < 1:
                        past.append(Past.of({f.name: getattr(record, f.name) for f in fields(record)}))
                        answers += len(record.asked)
                        while answers > _PAST_ANSWERS:
                            answers -= len(past.pop(0).asked)
                    failed, state, step = 0, told, step + 1
                    record.metrics = changed
                if writing is not None:
                    await writing
                for place in behind:  # of each stands what became of it
                    await self.journal.step(replace(record, step=place), state, False)
                long = time.perf_counter() - kept >= REPEATABLE_SECONDS
                # of a step that is left behind, too: what is asked after it is of this state, and is asked once
                keep = anew is not None or (told is not None and (ask.checkpoint or long))
                try:
                    if told is not None or anew is not None:
                        ask = self.algorithm.ask(state)
                        if isinstance(ask, Done):
                            keep = False
                            for node, asked in sky.under_way().items():  # or nothing said what became of their work
                                record.failures.setdefault(
                                    node, f"the run was over before what step {asked} asked it came"
                                )
                finally:
                    kept = time.perf_counter() if keep else kept
                    writing = asyncio.ensure_future(self._write(record, rest, state, keep))
                if anew is not None:
                    await writing  # who is killed before it is kept would ask this step again, and then other ones
                if told is None:
                    self._check_waiting(record, sky.waiting)
                if failed > self.config.max_failed_rounds:
                    reasons = "; ".join(f"{n}: {r}" for n, r in sorted(record.failures.items()))
                    raise RunFailed(
                        f"{failed} attempts at step {record.step} ({record.label}) each had fewer than "
                        f"{self.config.min_completed} usable answers. {reasons}"
                    )
        finally:
            await sky.close()
            try:
                if writing is not None:
                    await writing
            finally:
                await self.journal.end()
                large_arrays.release()
        return state

    async def _write(self, record: Step, rest: Callable[[], None], state: State, keep: bool) -> None:
        """Makes the record whole, and durable."""
        await asyncio.sleep(0)  # what is asked next leaves first: the nodes wait for it, and nobody for this
        if keep:
            self._size = state.nbytes
        rest()
        if record.status == "ok":
            record.metrics = {**self.algorithm.metrics(state), **record.metrics}
        await self.journal.step(record, state, keep)

    async def _said(self, step: int, awaited: Awaited) -> Ask | Done:
        if self.said is None:
            raise RunFailed("what this run asks is said from outside, and nobody is there who could say it")
        return await self.said(step, awaited)

    async def _tell(self, ask: Ask, state: State, gathered: Gathered) -> tuple[State | None, Gathered]:
        """The next state, leaving out nodes whose contribution cannot be used; None if too few are left."""
        while True:
            if len(gathered.answers) < max(1, self.config.min_completed):
                return None, gathered
            try:
                counted = weights.checked(ask, gathered, self.rows, self.config.max_weight_share)
                if self._size + counted.nbytes <= INLINE_BYTES:
                    return self.algorithm.tell(state, counted), counted
                return await asyncio.to_thread(self.algorithm.tell, state, counted), counted
            except Unusable as error:
                if not error.nodes:
                    raise
                gathered = gathered.without(error.nodes)

    def _gather(self, ask: Ask) -> Gather:
        if ask.combine not in self.gathers:
            raise RunFailed(f"the algorithm asks for {ask.combine}, and the run was not proposed to gather that")
        return self.gathers[ask.combine]

    def _check_left(self, ask: Ask, refused: Mapping[str, str]) -> None:
        """Raises ``Refused`` where those that do not refuse are too few for any attempt at the step."""
        left = set(self.nodes if isinstance(ask.to, Who) else ask.to) - set(refused)
        if refused and len(left) < max(1, self.config.min_completed):
            said = "; ".join(f"{node}: {reason}" for node, reason in sorted(refused.items()))
            raise Refused(f"{len(left)} of the {max(1, self.config.min_completed)} nodes needed do not refuse. {said}")

    def _check_waiting(self, record: Step, waiting: Mapping[str, str]) -> None:
        """Raises ``NotNow`` where enough would have answered, had those that cannot now."""
        if waiting and len(record.participants) + len(waiting) >= max(1, self.config.min_completed):
            said = "; ".join(f"{node}: {reason}" for node, reason in sorted(waiting.items()))
            raise NotNow(f"step {record.step} ({record.label}) waits for {', '.join(sorted(waiting))}. {said}")

    async def _choose(self, ask: Ask, sky: Sky, step: int, past: Sequence[Past]) -> Choice:
        """Whom to ask. An empty ``reason``: it was not for the selection to say."""
        if not isinstance(ask.to, Who):
            named, left_out = await self._admitted(ask, step, sorted(set(ask.to) - set(sky.refused)))
            return Choice(named, "", left_out=left_out)
        away = sky.busy().union(sky.refused)
        free = [n for n in await self._assemble() if n not in away]
        eligible, left_out = await self._admitted(ask, step, free)
        count = min(len(eligible), max(self.config.min_fit_nodes, int(len(eligible) * self.config.fraction)))
        if ask.to is EVERYONE or count == len(eligible):
            return Choice(eligible, "", left_out=left_out)
        rng = generator(self.config.seed, "selection", step)
        if self._selects is None:
            given, known = self.config.ingredient_settings, registry.settings("selection", self.config.selection)
            chosen_by = {name: given.get(name, setting.default) for name, setting in known.items()}
            self._selects = find("selection", self.config.selection).choose, chosen_by
        choose, settings = self._selects
        chosen = choose(Situation(eligible, count, rng, self.facts, past, settings))
        if len(chosen.nodes) == 0 or not set(chosen.nodes) <= set(eligible):
            raise RunFailed(
                f"selection {self.config.selection} chose {', '.join(chosen.nodes) or 'nobody'} ({chosen.reason}); "
                f"expected some of {', '.join(eligible)}"
            )
        return replace(chosen, left_out={**chosen.left_out, **left_out}) if left_out else chosen

    async def _admitted(self, ask: Ask, step: int, nodes: list[str]) -> tuple[list[str], Mapping[str, str]]:
        """The nodes that may be sent this, and why the others may not. Raises ``NotNow`` where these are too few."""
        if self.admission is None:
            return nodes, {}
        refused = await self.admission.refused(ask, step, nodes)
        left = [node for node in nodes if node not in refused]
        if refused and len(left) < max(1, self.config.min_completed):
            said = "; ".join(f"{node}: {reason}" for node, reason in sorted(refused.items()))
            raise NotNow(
                f"step {step} ({ask.label}) waits, as {len(left)} of the {max(1, self.config.min_completed)} nodes "
                f"needed may be sent it now. {said}"
            )
        return left, refused

    async def _assemble(self, everyone: bool = False) -> list[str]:
        """The run's nodes that are online, as soon as they are enough.

        At the start of a run (or of its resumption) it gives all of them a moment to come (``reconnect_timeout_s``, and
        no more than a minute: where nodes may be away for days, those that are there begin), so that
        a restarted coordinator does not go on with the first that reconnects.
        """
        begun, moment = time.monotonic(), min(self.config.reconnect_timeout_s, _MOMENT_S)
        in_order = sorted(self.nodes)
        while True:
            there = self.transport.online()
            online = [node for node in in_order if node in there]
            waited = time.monotonic() - begun
            enough = len(online) >= self.config.min_available_nodes
            if len(online) == len(self.nodes) or (enough and (not everyone or waited >= moment)):
                return online
            left = (moment if enough else self.config.wait_timeout_s) - waited
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

    def _open(self, step: int, ask: Ask, choice: Choice) -> Step:
        everyone = self.nodes if isinstance(self.nodes, list) else list(self.nodes)
        asked = everyone if choice.nodes == everyone else list(choice.nodes)  # one list for all steps that ask everyone
        record = Step(step, ask.label, ask.round, datetime.now(UTC).isoformat(), asked=asked)
        if choice.reason:
            record.chosen = {"reason": choice.reason, "reasons": dict(choice.reasons)}
        if choice.left_out:
            record.chosen["left_out"] = dict(choice.left_out)
        return record

    def _close(self, record: Step, gathered: Gathered, sky: Sky, began: float) -> Callable[[], None]:
        """Says of the step how it ended. What single nodes gave is told by what this returns, which keeps no arrays: it
        takes longer, and the nodes need not wait for it."""
        record.ended = datetime.now(UTC).isoformat()
        record.seconds = time.perf_counter() - began
        record.failures = dict(gathered.failures)
        record.bytes_down, record.bytes_up = sky.bytes_down, sky.bytes_up
        hidden = "weights" in gathered.unchecked
        if gathered.unchecked:
            record.gathered = {**gathered.told, "unchecked": list(gathered.unchecked)}
        receipts = None if self.receipts is None else self.receipts.so_far()
        return functools.partial(self._participants, record, gathered.answers, sky.seconds, hidden, receipts)

    def _participants(
        self,
        record: Step,
        answers: Sequence[Answer],
        seconds: Mapping[str, float],
        hidden: bool,
        receipts: Receipts | None,
    ) -> None:
        nodes = answers.nodes if isinstance(answers, AnswerColumns) else [a.node for a in answers]
        many = self.abreast is not None and len(answers) > self.abreast
        if many and all(node < following for node, following in pairwise(nodes)):  # each once
            took = (seconds.get(node, 0.0) for node in nodes)
            record.participants = Participants(record.asked if nodes == record.asked else nodes, answers, took, hidden)
            return
        record.participants = {
            a.node: {
                "weight": None if hidden else a.weight,
                "metrics": dict(a.metrics),
                "asked": a.asked,
                "seconds": seconds.get(a.node, 0.0),
            }
            for a in answers
        }
        if self.lines is not _no_line:
            for node, part in record.participants.items():
                if line := self.lines(node):
                    part["line"] = dict(line)
        if receipts is not None:
            record.receipts = receipts.of(record.participants)


def _used_up(steps: int, ask: Ask, lost: Counter[str]) -> str:
    """Why a run cannot be asked on, of which sites were lost so often."""
    most = ", ".join(f"{node} {many} times" for node, many in lost.most_common(_NAMED)) or "none"
    return (
        f"all {steps} steps that owners consented to are used up, and the run is at {ask.label}"
        f"{f' of round {ask.round}' if ask.round is not None else ''}: what begins anew when a site is lost on the way "
        f"takes steps of its own. Gave nothing usable since the coordinator was started: {most}. Propose it again "
        "without the sites that come and go (expected_client_ids), or with fewer rounds"
    )


def recent(past: Sequence[Past]) -> list[Past]:
    """The latest steps, with no more answers in all than are kept for a selection."""
    kept, answers = len(past), 0
    while kept and answers + len(past[kept - 1].asked) <= _PAST_ANSWERS:
        kept -= 1
        answers += len(past[kept].asked)
    return list(past[kept:])


def go(run: Loop, start: tuple[int, State] | None = None) -> State:
    """:meth:`Loop.go` for callers without an event loop."""
    return asyncio.run(run.go(start))
