"""The loop, over the local transport: what it must do whatever the algorithm is."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import math
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import numpy as np
import pytest

from hanse import algorithms, exchanges, memories, rounds
from hanse.answers import Answerer
from hanse.bundle import freeze
from hanse.choice import Choice
from hanse.config import RunConfig
from hanse.errors import HanseError, NodeFailed, NotAllowed, NotApproved, Refused, RunFailed, TooMany, Unusable
from hanse.gather import Exchange, Party
from hanse.gathering.plain import GATHER, Contributions, Plain
from hanse.kinds import SAMPLE, Answer, Ask, Combine, Contribution, Done, Gathered, Site, State
from hanse.memories import Memories
from hanse.messages import Array, Message, Record, digest
from hanse.receipts import Receipts
from hanse.rounds import Forgetful, Loop, Step, go
from hanse.selection import uniform
from hanse.transport import Handler, Progress
from hanse.transports.local import LocalTransport
from tests.clock import jumping

Found = TypeVar("Found")
Behave = Callable[[Message, int], Awaitable[None]]


class Sum:
    """Adds a vector that each node holds; ``rounds`` times. ``bad`` nodes send nonsense."""

    combines = frozenset({Combine.SUM})

    def __init__(self, rounds: int = 3, bad: Mapping[str, np.ndarray] | None = None, **ask: object) -> None:
        self.rounds, self.bad, self.more = rounds, bad or {}, ask

    def init(self, config: Mapping[str, object], previous: Record | None = None) -> State:
        return Record({"round": 0}, {"x": np.zeros(3)})

    def ask(self, state: State) -> Ask | Done:
        if state.data["round"] == self.rounds:
            return Done("rounds")
        made = Ask(Record({"r": state.data["round"]}, state.arrays), Combine.SUM, "sum", state.data["round"] + 1)
        return dataclasses.replace(made, **self.more)  # type: ignore[arg-type]

    def answer(self, site: Site, ask: Record) -> Contribution:
        seen = site.memory.get("seen", 0) + 1
        site.memory["seen"] = seen
        value = self.bad.get(site.node)
        x = site.rng("x", ask.data["r"]).normal(size=3) * 1e8 + seen if value is None else value
        return Contribution(Record({}, {"x": x}), weight=float(1 + ask.data["r"]))

    def tell(self, state: State, gathered: Gathered) -> State:
        got = gathered.mean()["x"]
        return Record({"round": state.data["round"] + 1}, {"x": state.arrays["x"] / 3 + got})

    def result(self, state: State) -> Record:
        return state

    def metrics(self, state: State) -> Mapping[str, object]:
        return {"norm": float(np.linalg.norm(state.arrays["x"]))}


class Keeping(Forgetful):
    """Also keeps the states, so that a test can resume from any of them; ``all``: also those that need not be."""

    def __init__(self, all: bool = True) -> None:
        super().__init__()
        self.all = all
        self.states: list[tuple[int, State]] = []

    async def step(self, record: Step, state: State, keep: bool) -> None:
        await super().step(record, state, keep)
        if record.status == "ok" and (keep or self.all):
            self.states.append((record.step + 1, state))


def handlers(
    algorithm: object, nodes: int | list[str], behave: Behave | None = None, gather: object = None
) -> dict[str, Handler]:
    """One handler per node that answers by the algorithm's own node half, memory kept as a node does."""

    def make(node: str) -> Handler:
        kept = Memories()

        async def handle(peer: str, message: Message, progress: Callable[[], None]) -> Message:
            task = message.body.data
            step, exchange = task["step"], task["exchange"]
            if behave is not None:
                await behave(message, step)
            memory = kept.before(step, exchange)
            site = Site(node, None, {"seed": 5}, memory.algorithm, step=step)  # type: ignore[arg-type]
            answer = lambda a: algorithm.answer(site, a)  # type: ignore[attr-defined]  # noqa: E731
            party = Party(node, step, exchange, 5, memory.gather)
            ask = Record(task["ask"], message.body.arrays)
            reply = (gather or GATHER()).reply(task["op"], ask, answer, party)  # type: ignore[attr-defined]
            kept.keep(step, exchange, memory, task.get("checkpoint", True))
            return Message("reply", message.id, node, reply)

        return handle

    ids = [f"n{i}" for i in range(nodes)] if isinstance(nodes, int) else nodes
    return {n: make(n) for n in ids}


def run(algorithm: object, transport: LocalTransport, journal: Forgetful | None = None, **config: object) -> Loop:
    settings = RunConfig.parse({"seed": 5, **config})
    nodes = sorted(transport.online())
    return Loop(algorithm, settings, nodes, transport, journal or Forgetful())  # type: ignore[arg-type]


def timed(main: Coroutine[Any, Any, Found]) -> Found:
    """Runs what is about time, by a clock that no busy machine holds up."""
    return jumping(main, rounds, exchanges)


def test_what_is_asked_next_leaves_before_a_record_is_made() -> None:
    """The nodes wait for it, and nobody for what stands in the record of a step: what its state says, and whose numbers
    were counted."""
    order = list[tuple[str, int]]()

    class Telling(Sum):
        def metrics(self, state: State) -> Mapping[str, object]:
            order.append(("told", state.data["round"] - 1))
            return super().metrics(state)

    class Noted(Keeping):
        async def step(self, record: Step, state: State, keep: bool) -> None:
            assert set(record.participants) == {"n0", "n1"}
            assert set(record.receipts["sent"]) == {"n0", "n1"}
            assert [sent[0][0] for sent in record.receipts["sent"].values()] == [record.step] * 2
            order.append(("written", record.step))

    async def asked(message: Message, step: int) -> None:
        order.append(("asked", step))

    algorithm = Telling()
    loop = run(algorithm, LocalTransport(handlers(algorithm, 2, asked)), Noted())
    loop.receipts = Receipts()
    go(loop)
    each = [[("asked", step), ("asked", step), ("told", step - 1), ("written", step - 1)] for step in range(4)]
    assert order == [*each[0][:2], *each[1], *each[2], *each[3][2:]]


def test_the_result_is_the_same_for_every_order_of_arrival_and_every_wire() -> None:
    found = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)

        async def late(message: Message, step: int, rng: np.random.Generator = rng) -> None:
            await asyncio.sleep(float(rng.random()) / 200)

        for wire in ("references", "exact"):
            algorithm = Sum()
            found.add(digest(go(run(algorithm, LocalTransport(handlers(algorithm, 7, late), wire)))))
    assert len(found) == 1


def test_a_run_resumed_from_any_checkpoint_ends_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, "KEPT_CHECKPOINTS", 9)  # nodes that remember the whole run
    algorithm, journal = Sum(rounds=5), Keeping()
    nodes = handlers(algorithm, 3)
    whole = digest(go(run(algorithm, LocalTransport(nodes), journal)))
    assert len(journal.states) == 5
    for step, state in journal.states:  # the same nodes, which remember later steps
        assert digest(go(run(algorithm, LocalTransport(nodes)), (step, state))) == whole


def test_nothing_of_a_step_is_held_while_the_next_one_gathers() -> None:
    refs: list[weakref.ref[object]] = []

    class Watching(Plain):
        async def collect(self, ask: Ask, asks: Mapping[str, Record], exchange: Exchange) -> Gathered:
            assert [ref() for ref in refs if ref() is not None] == []
            gathered = await super().collect(ask, asks, exchange)
            assert isinstance(gathered, Contributions)
            refs.extend(weakref.ref(array) for _, record in gathered.found for array in record.arrays.values())
            return gathered

    algorithm = Sum(rounds=4)
    it = run(algorithm, LocalTransport(handlers(algorithm, 3)))
    it.gathers = {Combine.SUM: Watching()}
    go(it)
    assert len(refs) == 12


def test_steps_are_recorded() -> None:
    algorithm, journal = Sum(rounds=2), Forgetful()
    go(run(algorithm, LocalTransport(handlers(algorithm, 2)), journal))
    first, second = journal.steps
    assert (first.step, first.label, first.round, first.status) == (0, "sum", 1, "ok")
    assert first.asked == ["n0", "n1"]
    assert first.participants["n0"]["weight"] == 1.0
    assert second.participants["n1"]["weight"] == 2.0
    assert first.participants["n0"]["seconds"] > 0
    assert first.bytes_down == 2 * 24
    assert first.bytes_up == 2 * 24
    assert first.metrics["norm"] > 0
    assert first.ended >= first.started


def failing(*nodes: str) -> Behave:
    async def behave(message: Message, step: int) -> None:
        if message.id.rsplit("/", 1)[1] in nodes:
            raise NodeFailed("the worker ran out of memory")

    return behave


def test_a_failed_node_is_recorded_with_its_reason_and_the_rest_goes_on() -> None:
    algorithm, journal = Sum(), Forgetful()
    go(run(algorithm, LocalTransport(handlers(algorithm, 3, failing("n1"))), journal))
    assert all(s.failures == {"n1": "the worker ran out of memory"} for s in journal.steps)
    assert all(set(s.participants) == {"n0", "n2"} for s in journal.steps)


def test_a_failure_that_lands_together_with_answers_costs_no_other_node_its_answer() -> None:
    async def behave(message: Message, step: int) -> None:
        await failing("n1")(message, step)
        if message.id.endswith("n3"):
            await asyncio.sleep(0.02)  # the others, and the failure, land at the same moment before it

    algorithm, journal = Sum(), Forgetful()
    go(run(algorithm, LocalTransport(handlers(algorithm, 4, behave)), journal))
    assert all(set(s.participants) == {"n0", "n2", "n3"} for s in journal.steps)


def test_too_few_answers_fail_the_round_and_then_the_run() -> None:
    algorithm, journal = Sum(), Keeping()
    transport = LocalTransport(handlers(algorithm, 3, failing("n1", "n2")))
    with pytest.raises(RunFailed, match=r"3 attempts at step 0 \(sum\).*fewer than 2.*out of memory"):
        go(run(algorithm, transport, journal, min_completed=2, max_failed_rounds=2))
    assert [s.status for s in journal.steps] == ["failed"] * 3
    assert journal.states == []


def test_a_run_that_has_used_up_its_steps_says_so_and_who_was_lost() -> None:
    """Trees that began anew in each round used up what owners had consented to, and each node's refusal was told as
    what ended the run; why there were so many steps stood nowhere."""
    algorithm, journal = Sum(rounds=9), Forgetful()
    loop = run(algorithm, LocalTransport(handlers(algorithm, 3, failing("n1"))), journal)
    loop.steps = 4
    with pytest.raises(RunFailed, match=r"all 4 steps .* are used up, and the run is at sum of round 5: .* n1 4 times"):
        go(loop)
    assert [s.step for s in journal.steps] == [0, 1, 2, 3]
    loop.steps = 9
    go(loop)


def test_a_round_that_fails_once_is_tried_again() -> None:
    algorithm, journal = Sum(rounds=2), Keeping()
    seen: list[str] = []

    async def once(message: Message, step: int) -> None:
        seen.append(message.id)
        if len(seen) == 1:
            raise NodeFailed("not yet")

    state = go(run(algorithm, LocalTransport(handlers(algorithm, 1, once)), journal))
    assert [s.status for s in journal.steps] == ["failed", "ok", "ok"]
    assert state.data["round"] == 2
    assert len(set(seen)) == 3


def refusing(*nodes: str, error: HanseError, seen: list[str] | None = None) -> Behave:
    async def behave(message: Message, step: int) -> None:
        if seen is not None:
            seen.append(message.id)
        if message.id.rsplit("/", 1)[1] in nodes:
            raise error

    return behave


@pytest.mark.parametrize("wire", ["references", "exact"])
def test_a_refusal_is_final_and_is_what_the_data_scientist_hears(wire: str) -> None:
    algorithm, journal, seen = Sum(), Keeping(), list[str]()
    no = NotApproved("the owner's approval of run 'run' was taken back")
    transport = LocalTransport(handlers(algorithm, 2, refusing("n0", "n1", error=no, seen=seen)), wire)
    with pytest.raises(Refused, match="n0: the owner's approval of run 'run' was taken back; n1: the owner's"):
        go(run(algorithm, transport, journal))
    assert len(seen) == 2  # each once
    assert [s.status for s in journal.steps] == ["failed"]


def test_a_node_that_refuses_is_asked_nothing_more_and_the_others_go_on() -> None:
    algorithm, journal, seen = Sum(), Forgetful(), list[str]()
    no = NotAllowed("minimum_samples: too few rows")
    go(run(algorithm, LocalTransport(handlers(algorithm, 3, refusing("n1", error=no, seen=seen))), journal))
    assert [s.failures for s in journal.steps] == [{"n1": "minimum_samples: too few rows"}, {}, {}]
    assert [s.asked for s in journal.steps] == [["n0", "n1", "n2"], ["n0", "n2"], ["n0", "n2"]]
    assert sum(id.endswith("/n1") for id in seen) == 1


def test_who_is_left_must_be_enough() -> None:
    algorithm = Sum()
    transport = LocalTransport(handlers(algorithm, 3, refusing("n1", error=NotAllowed("no"))))
    with pytest.raises(Refused, match="2 of the 3 nodes needed do not refuse. n1: no"):
        go(run(algorithm, transport, min_completed=3))
    named = Sum(to=["n1"])
    transport = LocalTransport(handlers(named, 3, refusing("n1", error=NotAllowed("no"))))
    with pytest.raises(Refused, match="0 of the 1"):
        go(run(named, transport))


def test_what_passes_is_asked_again() -> None:
    algorithm, journal, tries = Sum(rounds=1), Forgetful(), 0

    async def busy(message: Message, step: int) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise TooMany("too many questions; wait")

    go(run(algorithm, LocalTransport(handlers(algorithm, 1, busy)), journal))
    assert [s.status for s in journal.steps] == ["failed", "failed", "ok"]


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_steps_that_need_no_checkpoint_are_done_again_and_give_the_same_bytes(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of the nodes goes into every answer (``seen``), so it has to be as it was too."""
    monkeypatch.setattr(rounds, "REPEATABLE_SECONDS", 1e9)

    class Now(Sum):
        def ask(self, state: State) -> Ask | Done:
            made = super().ask(state)
            return (
                made
                if isinstance(made, Done)
                else dataclasses.replace(made, checkpoint=state.data["round"] % every == 0)
            )

    algorithm, journal = Now(rounds=12), Keeping(all=False)
    whole = digest(go(run(algorithm, LocalTransport(handlers(algorithm, 3)), journal)))
    assert [step for step, _ in journal.states] == [r + 1 for r in range(12) if r % every == 0 and r < 11]
    for killed_at in range(12):  # nodes that have answered up to this step, then a new coordinator
        nodes = handlers(algorithm, 3)

        class Killed(Exception):
            pass

        class Dying(Keeping):
            async def step(self, record: Step, state: State, keep: bool, killed_at: int = killed_at) -> None:
                if record.step == killed_at:
                    raise Killed  # before this step is on disk; the nodes are at the next already
                await super().step(record, state, keep)

        before = Dying(all=False)
        with pytest.raises(Killed):
            go(run(algorithm, LocalTransport(nodes), before))
        start = before.states[-1] if before.states else None
        assert digest(go(run(algorithm, LocalTransport(nodes), Forgetful()), start)) == whole


def test_slow_steps_are_kept_whatever_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "REPEATABLE_SECONDS", 0.0)
    algorithm, journal = Sum(rounds=4, checkpoint=False), Keeping(all=False)
    go(run(algorithm, LocalTransport(handlers(algorithm, 2)), journal))
    assert [step for step, _ in journal.states] == [1, 2, 3]


@pytest.mark.parametrize(
    "bad", [np.array([1.0, np.nan, 0]), np.array([np.inf, 0, 0]), np.zeros(2), np.zeros(3, np.float32)]
)
def test_a_contribution_that_cannot_be_used_is_left_out_with_a_reason(bad: np.ndarray) -> None:
    algorithm, journal = Sum(bad={"n1": bad}), Forgetful()
    poisoned = go(run(algorithm, LocalTransport(handlers(algorithm, 4)), journal))
    without = Sum()
    clean = go(run(without, LocalTransport(handlers(without, ["n0", "n2", "n3"]))))
    assert digest(poisoned) == digest(clean)
    assert all(list(s.failures) == ["n1"] for s in journal.steps)
    assert "NaN" in journal.steps[0].failures["n1"] or "shapes" in journal.steps[0].failures["n1"]


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "3", None, True])
def test_a_weight_that_is_not_a_weight(weight: object) -> None:
    algorithm, journal = Sum(), Forgetful()
    good = handlers(algorithm, 3)

    async def lie(peer: str, message: Message, progress: Callable[[], None]) -> Message:
        reply = await good["n1"](peer, message, progress)
        return reply._replace(body=Record({**reply.body.data, "weight": weight}, reply.body.arrays))

    go(run(algorithm, LocalTransport({**good, "n1": lie}), journal))
    assert "weight" in journal.steps[0].failures["n1"]


def test_a_reply_that_is_no_contribution() -> None:
    algorithm, journal = Sum(), Forgetful()

    async def nonsense(peer: str, message: Message, progress: Callable[[], None]) -> Message:
        return Message("reply", message.id, "n1", Record({"hello": 1}))

    go(run(algorithm, LocalTransport({**handlers(algorithm, 2), "n9": nonsense}), journal))
    assert "not a contribution" in journal.steps[0].failures["n9"]


def test_a_deadline_ends_also_what_progresses() -> None:
    algorithm, journal = Sum(rounds=1), Forgetful()
    good = handlers(algorithm, 3)

    async def endless(peer: str, message: Message, progress: Callable[[], None]) -> Message:
        while True:
            await asyncio.sleep(0.02)
            progress()

    transport = LocalTransport({**good, "n1": endless})
    timed(run(algorithm, transport, journal, round_timeout_s=20, round_deadline_s=0.5).go())
    (step,) = journal.steps
    assert set(step.participants) == {"n0", "n2"}
    assert "took more than the 0.5 s" in step.failures["n1"]


def test_a_silent_node_is_late_and_a_moving_one_is_not() -> None:
    algorithm, journal = Sum(rounds=1), Forgetful()
    good = handlers(algorithm, 3)

    async def silent(peer: str, message: Message, progress: Callable[[], None]) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def slow(peer: str, message: Message, progress: Callable[[], None]) -> Message:
        for _ in range(24):
            await asyncio.sleep(0.05)
            progress()
        return await good["n1"](peer, message, progress)

    timed(run(algorithm, LocalTransport({**good, "n1": slow, "n2": silent}), journal, round_timeout_s=1.0).go())
    (step,) = journal.steps
    assert set(step.participants) == {"n0", "n1"}
    assert "no progress for 1 s" in step.failures["n2"]


def test_a_node_that_goes_and_does_not_come_back_ends_by_the_reconnect_rule() -> None:
    algorithm, journal = Sum(rounds=2), Forgetful()
    good = handlers(algorithm, 3)

    async def scenario() -> None:
        transport = LocalTransport(good)

        async def vanish(peer: str, message: Message, progress: Callable[[], None]) -> Message:
            transport.detach("n2")
            await asyncio.sleep(30)
            raise AssertionError

        transport.attach("n2", vanish)
        await run(algorithm, transport, journal, reconnect_timeout_s=0.1, round_timeout_s=20).go()

    timed(scenario())
    assert "did not come back within 0.1 s" in journal.steps[0].failures["n2"]
    assert journal.steps[1].asked == ["n0", "n1"]


def test_a_node_that_goes_and_comes_back_in_time_is_waited_for() -> None:
    algorithm, journal = Sum(rounds=1), Forgetful()
    good = handlers(algorithm, 3)

    async def scenario() -> None:
        transport = LocalTransport(good)

        async def stumble(peer: str, message: Message, progress: Callable[[], None]) -> Message:
            for _ in range(3):
                transport.detach("n2")
                await asyncio.sleep(0.1)
                transport.attach("n2", stumble)
                await asyncio.sleep(0.02)
            return await good["n2"](peer, message, progress)

        transport.attach("n2", stumble)
        await run(algorithm, transport, journal, reconnect_timeout_s=0.3, round_timeout_s=20).go()

    timed(scenario())
    assert set(journal.steps[0].participants) == {"n0", "n1", "n2"}


def test_where_a_node_may_be_away_for_days_those_that_are_there_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_MOMENT_S", 0.1)
    algorithm, journal = Sum(rounds=1), Forgetful()
    transport = LocalTransport(handlers(algorithm, 3))
    loop = run(algorithm, transport, journal, reconnect_timeout_s=3 * 86_400, min_available_nodes=2)
    transport.detach("n2")
    go(loop)
    assert journal.steps[0].asked == ["n0", "n1"]


def test_a_reply_does_not_cost_a_look_at_all_nodes() -> None:
    looks = 0

    class Counted(LocalTransport):
        def online(self) -> frozenset[str]:
            nonlocal looks
            looks += 1
            return super().online()

    async def one_by_one(message: Message, step: int) -> None:
        await asyncio.sleep(0.002 * int(message.id.rsplit("n", 1)[1]))

    algorithm, journal = Sum(rounds=3), Forgetful()
    go(run(algorithm, Counted(handlers(algorithm, 40, one_by_one)), journal))
    assert [len(step.participants) for step in journal.steps] == [40] * 3
    assert looks < 20


def test_no_model_of_a_run_is_held_when_it_has_ended() -> None:
    """Also without the collector of cycles: in a coordinator it looks at old objects once in hours, and each run would
    leave a model behind."""
    sent: list[weakref.ref[Array]] = []

    class Sent(Sum):
        def ask(self, state: State) -> Ask | Done:
            sent.append(weakref.ref(state.arrays["x"]))
            return super().ask(state)

    async def main() -> None:
        await run(Sent(), LocalTransport(handlers(Sum(), 3), "exact")).go()
        await asyncio.sleep(0)
        assert [array() is None for array in sent] == [True] * 4

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_nothing_watches_on_when_a_run_has_ended() -> None:
    async def scenario() -> None:
        algorithm = Sum()
        await run(algorithm, LocalTransport(handlers(algorithm, 3))).go()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_a_run_waits_for_enough_nodes_and_then_gives_up() -> None:
    algorithm = Sum()
    good = handlers(algorithm, 2)

    async def scenario(come: bool) -> State:
        transport = LocalTransport({"n0": good["n0"]})
        begun = run(algorithm, transport, min_available_nodes=2, wait_timeout_s=0.3)
        begun.nodes = ["n0", "n1"]
        if come:
            asyncio.get_running_loop().call_later(0.1, transport.attach, "n1", good["n1"])
        return await begun.go()

    assert timed(scenario(True)).data["round"] == 3
    with pytest.raises(RunFailed, match="1 of the 2 nodes needed.*missing: n1"):
        timed(scenario(False))


def test_a_fraction_is_sampled_and_every_node_has_its_turn() -> None:
    algorithm, journal = Sum(rounds=40, to=SAMPLE), Forgetful()
    go(run(algorithm, LocalTransport(handlers(algorithm, 10)), journal, fraction=0.8, min_fit_nodes=2))
    assert {len(s.asked) for s in journal.steps} == {8}
    counts = {f"n{i}": sum(f"n{i}" in s.asked for s in journal.steps) for i in range(10)}
    assert min(counts.values()) > 20
    again = Forgetful()
    go(run(algorithm, LocalTransport(handlers(algorithm, 10)), again, fraction=0.8, min_fit_nodes=2))
    assert [s.asked for s in again.steps] == [s.asked for s in journal.steps]
    assert journal.steps[0].chosen == {"reason": "8 of 10, each as likely as any other", "reasons": {}}


def test_what_is_not_training_asks_everyone_whatever_the_fraction() -> None:
    algorithm, journal = Sum(rounds=3), Forgetful()
    go(run(algorithm, LocalTransport(handlers(algorithm, 5)), journal, fraction=0.2))
    assert [len(s.asked) for s in journal.steps] == [5, 5, 5]
    assert [s.chosen for s in journal.steps] == [{}, {}, {}]


@pytest.mark.parametrize("chosen", [[], ["n0", "stranger"]])
def test_a_selection_that_chooses_nobody_or_strangers_ends_the_run(
    chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uniform, "choose", lambda situation: Choice(chosen, "mine"))
    algorithm = Sum(to=SAMPLE)
    with pytest.raises(RunFailed, match="selection uniform chose"):
        go(run(algorithm, LocalTransport(handlers(algorithm, 4)), fraction=0.5))


class Median(Sum):
    """Needs the single contributions: the median of each coordinate."""

    combines = frozenset({Combine.EACH})

    def ask(self, state: State) -> Ask | Done:
        made = super().ask(state)
        return made if isinstance(made, Done) else dataclasses.replace(made, combine=Combine.EACH)

    def tell(self, state: State, gathered: Gathered) -> State:
        found = np.stack([record.arrays["x"] for _, record in gathered.each()])
        return Record({"round": state.data["round"] + 1}, {"x": np.median(found, axis=0)})


@pytest.mark.parametrize(
    "lie",
    [
        {"x": np.array([1.0, np.nan, 0])},
        {"x": np.array([np.inf, 0, 0])},
        {"x": np.zeros(2)},
        {"x": np.zeros((3, 1))},
        {"x": np.zeros(3, np.float32)},
        {"x": np.zeros(3, np.int64)},
        {"y": np.zeros(3)},
        {"x": np.zeros(3), "y": np.zeros(3)},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("arrays", [None, {"x": ("float64", (3,))}, {"x": ("float64", (None,))}], ids=str)
def test_a_lie_among_single_contributions_is_left_out_with_its_reason(lie: dict[str, Array], arrays: object) -> None:
    class Lying(Median):
        def answer(self, site: Site, ask: Record) -> Contribution:
            return Contribution(Record({}, lie)) if site.node == "n1" else super().answer(site, ask)

    free = arrays == {"x": ("float64", (None,))}
    if free and lie.keys() == {"x"} and lie["x"].dtype == np.float64 and lie["x"].shape == (2,):
        pytest.skip("any length was asked for")
    algorithm, journal = Lying(arrays=arrays), Forgetful()
    poisoned = go(run(algorithm, LocalTransport(handlers(algorithm, 4)), journal))
    without = Median(arrays=arrays)
    clean = go(run(without, LocalTransport(handlers(without, ["n0", "n2", "n3"]))))
    assert digest(poisoned) == digest(clean)
    assert all(list(s.failures) == ["n1"] for s in journal.steps)
    assert "NaN" in journal.steps[0].failures["n1"] or "shapes" in journal.steps[0].failures["n1"]


def test_arrays_of_any_length_do_not_add() -> None:
    algorithm = Sum(arrays={"x": ("float64", (None,))})
    with pytest.raises(RunFailed, match="any length, which do not add"):
        go(run(algorithm, LocalTransport(handlers(algorithm, 2))))


def test_one_ask_for_each_node() -> None:
    class Own(Sum):
        def ask(self, state: State) -> Ask | Done:
            made = super().ask(state)
            if isinstance(made, Done):
                return made
            each = {f"n{i}": Record({"r": 0, "you": i}, {}) for i in range(2)}
            return dataclasses.replace(made, each=each, to=["n0", "n1"])

        def answer(self, site: Site, ask: Record) -> Contribution:
            return Contribution(Record({}, {"x": np.full(3, float(ask.data["you"]))}))

    algorithm = Own(rounds=1)
    state = go(run(algorithm, LocalTransport(handlers(algorithm, 4))))
    np.testing.assert_array_equal(state.arrays["x"], [0.5, 0.5, 0.5])


def test_buffered_asynchronous_rounds_keep_late_answers_and_know_their_age() -> None:
    class Buffered(Sum):
        def tell(self, state: State, gathered: Gathered) -> State:
            ages = [*state.data.get("ages", []), *((a.node, state.data["round"] - a.asked) for a in gathered.answers)]
            told = super().tell(state, gathered)
            return Record({**told.data, "ages": ages}, told.arrays)

    algorithm, journal = Buffered(rounds=6, need=2, late="keep"), Forgetful()

    async def slow(message: Message, step: int) -> None:
        await asyncio.sleep(0.25 if message.id.endswith("n2") else 0.01 + 0.05 * step)

    state = timed(run(algorithm, LocalTransport(handlers(algorithm, 3, slow)), journal, fraction=1.0).go())
    stale = [age for node, age in state.data["ages"] if node == "n2"]
    assert stale
    assert max(stale) >= 1
    assert all(len(s.participants) >= 1 for s in journal.steps)


def test_whose_answer_no_step_took_is_said_to_be_left_out() -> None:
    algorithm, journal = Sum(rounds=2, need=1, late="keep"), Forgetful()

    async def slow(message: Message, step: int) -> None:
        await asyncio.sleep(30 if message.id.endswith("n1") else 0)

    timed(run(algorithm, LocalTransport(handlers(algorithm, 2, slow)), journal, fraction=1.0).go())
    assert [step.failures for step in journal.steps] == [
        {},
        {"n1": "the run was over before what step 0 asked it came"},
    ]
    assert [sorted(step.participants) for step in journal.steps] == [["n0"], ["n0"]]


def test_sums_only_means_that_single_contributions_cannot_be_looked_at() -> None:
    class Nosy(Sum):
        def tell(self, state: State, gathered: Gathered) -> State:
            list(gathered.each())
            return state

    algorithm = Nosy()
    with pytest.raises(RunFailed, match="sums only"):
        go(run(algorithm, LocalTransport(handlers(algorithm, 2))))


def test_zero_weights_have_no_mean() -> None:
    class Zero(Sum):
        def answer(self, site: Site, ask: Record) -> Contribution:
            return Contribution(Record({}, {"x": np.ones(3)}), weight=0.0)

    algorithm = Zero()
    with pytest.raises(RunFailed, match="no mean"):
        go(run(algorithm, LocalTransport(handlers(algorithm, 2))))


def test_a_bug_in_an_algorithm_ends_the_run_and_leaves_nothing_in_the_air() -> None:
    class Broken(Sum):
        def tell(self, state: State, gathered: Gathered) -> State:
            raise ZeroDivisionError

    algorithm = Broken(need=1, late="keep")
    cancelled: list[str] = []

    async def slow(message: Message, step: int) -> None:
        try:
            await asyncio.sleep(0 if message.id.endswith("n0") else 30)
        except asyncio.CancelledError:
            cancelled.append(message.id)
            raise

    with pytest.raises(ZeroDivisionError):
        timed(run(algorithm, LocalTransport(handlers(algorithm, 2, slow))).go())
    assert len(cancelled) == 1


def test_pause_holds_the_next_step() -> None:
    algorithm, journal = Sum(rounds=3), Forgetful()

    async def scenario() -> None:
        begun = run(algorithm, LocalTransport(handlers(algorithm, 2)), journal)
        begun.resumed = asyncio.Event()
        task = asyncio.ensure_future(begun.go())
        await asyncio.sleep(0.05)
        assert journal.steps == []
        begun.resumed.set()
        await task

    timed(scenario())
    assert len(journal.steps) == 3


def test_unusable_without_names_is_an_error_of_the_run() -> None:
    class Odd(Sum):
        def tell(self, state: State, gathered: Gathered) -> State:
            raise Unusable("something is off")

    algorithm = Odd()
    with pytest.raises(HanseError, match="something is off"):
        go(run(algorithm, LocalTransport(handlers(algorithm, 2))))


@pytest.mark.parametrize("nbytes", [1024, 6 << 20])
def test_probe_through_the_node_half(nbytes: int) -> None:
    config = RunConfig.parse({"federated_strategy": "probe", "num_rounds": 3, "model_options": {"bytes": nbytes}})
    bundle = freeze(config, {"features": [], "kinds": {}}, {})
    found = set()
    for wire in ("references", "exact"):
        nodes: dict[str, Handler] = {}
        for name in ("a", "b", "c"):
            answerer = Answerer(name, lambda bundle: None)  # type: ignore[arg-type, return-value]

            async def handle(peer: str, m: Message, p: Callable[[], None], answerer: Answerer = answerer) -> Message:
                return Message("reply", m.id, answerer.node, answerer.answer(m.body, bundle.content, p))

            nodes[name] = handle
        algorithm = algorithms.build(config)
        state = go(Loop(algorithm, config, sorted(nodes), LocalTransport(nodes, wire), Forgetful()))
        result = algorithm.result(state).arrays["x"]
        assert result.nbytes == nbytes
        assert np.all(result == result[0])
        assert 0 < result[0] < 3
        found.add(digest(state))
    assert len(found) == 1


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 1.0), (3.0, 1.0, 4.0), (0.5, 0.7, 0.1), (5.0,), (8.0,)])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "u1", "?"])
def test_a_mean_has_the_bits_of_its_definition(weights: tuple[float, ...], dtype: str) -> None:
    """The sum of weight times value in the order of node ids in float64, over the sum of the weights."""
    random = np.random.default_rng(1)
    values = [(random.normal(size=70_001) * 100).astype(dtype) for _ in weights]
    found = tuple(
        (Answer(f"n{k}", weight, {}, {}, 0), Record({}, {"a.x": value}))
        for k, (weight, value) in enumerate(zip(weights, values, strict=True))
    )
    total = np.zeros(70_001)
    for weight, value in zip(weights, values, strict=True):
        total = total + value.astype(np.float64) * weight
    mean = Contributions(found, {}, Combine.SUM).mean()["x"]
    expected = total / math.fsum(weights)
    assert mean.dtype == (np.dtype(dtype) if dtype[0] == "f" else np.float64)
    assert np.array_equal(mean, expected.astype(mean.dtype))
    if set(weights) == {1.0} and dtype[0] != "f":
        exact = Contributions(found, {}, Combine.SUM).sum()["x"]
        assert exact.dtype == np.int64
        assert np.array_equal(exact, sum(value.astype(np.int64) for value in values))


def test_asks_have_names_of_their_own_that_a_resumed_run_gives_again() -> None:
    """A gather may ask several times in one step, also the same of the same node."""

    class Twice:
        reply = Plain.reply

        async def collect(self, ask: Ask, asks: Mapping[str, Record], exchange: Exchange) -> Gathered:
            async for _ in exchange(asks):
                pass
            return await Plain().collect(ask, asks, exchange)

    def names(start: tuple[int, State] | None) -> list[str]:
        algorithm, seen = Sum(), list[str]()

        def noted(handler: Handler) -> Handler:
            async def handle(peer: str, message: Message, progress: Callable[[], None] = lambda: None) -> Message:
                seen.append(message.id)
                return await handler(peer, message, progress)

            return handle

        nodes = {name: noted(handler) for name, handler in handlers(algorithm, 2).items()}
        states: list[State] = []
        running = run(algorithm, LocalTransport(nodes), Forgetful(look=states.append))
        running.gathers = {Combine.SUM: Twice()}  # type: ignore[dict-item]
        go(running, start)
        found.append(states[0])
        return sorted(seen)

    found: list[State] = []
    whole = names(None)
    assert len(set(whole)) == len(whole) == 3 * 2 * 2
    assert names((1, found[0])) == [name for name in whole if name.split("/")[1] != "0"]


def test_where_nobody_new_is_asked_those_of_earlier_steps_are_waited_for() -> None:
    """As with a buffer of answers, while every node is at work still."""

    async def heard() -> list[tuple[str, int]]:
        gone = asyncio.Event()

        def handler(name: str) -> Handler:
            async def handle(peer: str, message: Message, progress: Progress) -> Message:
                if name == "slow":
                    await gone.wait()
                return Message("reply", message.id, name, Record({"weight": 1.0}))

            return handle

        transport = LocalTransport({name: handler(name) for name in ("quick", "slow")})
        sky = exchanges.Sky(transport, RunConfig(target_column="y"), "run", "", abreast=1)
        found: list[tuple[str, int]] = []
        ask = Ask(Record({}), Combine.SUM, "train", need=1, late="keep")
        for step, asks in enumerate(({"quick": Record({}), "slow": Record({})}, {})):
            sky.begin(step, 0, ask)
            async for reply in sky.exchange(asks, need=1):
                found.append((reply.node, reply.asked))
            gone.set()
        await sky.close()
        return found

    assert asyncio.run(heard()) == [("quick", 0), ("slow", 0)]
