"""FedBuff: against a twin in NumPy for a known order of arrival, and in the loop with a slow node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from drive import shares, toy
from twins import EPOCHS, Rows, Vector

from hanse.algorithms import build, settled
from hanse.answers import Answerer
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.kinds import State
from hanse.learning import rows as preparation
from hanse.messages import Message
from hanse.rounds import Forgetful, Loop, Step
from hanse.transport import Handler, Progress
from hanse.transports.local import LocalTransport

TABLES = shares(toy(240), 90, 60, 50, 40)
NODES = sorted(TABLES)
Plan = Mapping[int, Sequence[str]]


class Kept(Forgetful):
    """A journal that also keeps the states."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[tuple[int, State]] = []

    async def step(self, record: Step, state: State, keep: bool) -> None:
        await super().step(record, state, keep)
        self.states.append((record.step, state))


class Clock:
    """Lets a training answer go when the plan says that it is counted, in a step of training from 1 on.

    No time is measured: a node waits for the step, and the step for its nodes.
    """

    def __init__(self, plan: Plan | None, handlers: Mapping[str, Handler]) -> None:
        self.plan, self.handlers, self.round = plan, handlers, 0
        self.turned = asyncio.Event()
        self.asked: list[tuple[str, str]] = []

    def of(self, node: str) -> Handler:
        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            phase = message.body.data["ask"].get("of", {}).get("phase", "")
            self.asked.append((node, phase))
            reply = await self.handlers[node](peer, message, progress)
            if phase != "train" or self.plan is None:
                return reply
            first = message.body.data["ask"]["of"]["round"]
            when = next((r for r in sorted(self.plan) if r >= first and node in self.plan[r]), None)
            while when is None or self.round < when:
                await self.turned.wait()
            return reply

        return handle

    def turn(self, round: int) -> None:
        self.round = round
        self.turned.set()
        self.turned = asyncio.Event()


def loop(plan: Plan | None, journal: Forgetful, **settings: Any) -> tuple[Loop, Clock]:
    config = settled(
        RunConfig.parse(
            {
                "target_column": "y",
                "sample_id_column": None,
                "model_name": "logistic_regression",
                "federated_strategy": "fedbuff",
                "local_epochs": EPOCHS,
                "buffer_size": 2,
                **settings,
            }
        )
    )
    datasets = {n: {"name": n, "version": "0" * 32, "most_rows": t.rows} for n, t in TABLES.items()}
    kinds = {name: str(TABLES[NODES[0]][name].kind) for name in TABLES[NODES[0]].names}
    features = [name for name in kinds if name != "y"]
    bundle = freeze(config, {"features": features, "kinds": kinds, "warnings": []}, datasets)
    algorithm = build(config)

    def handler(node: str) -> Handler:
        answerer = Answerer(node, lambda _: TABLES[node])

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            return Message("reply", message.id, node, answerer.answer(message.body, bundle.content, progress))

        return handle

    clock = Clock(plan, {node: handler(node) for node in NODES})
    inner, seen = algorithm.ask, [-1]

    def ask(state: State) -> Any:
        found = inner(state)
        round = getattr(found, "round", None)
        if round is not None and round != seen[0]:
            seen[0] = round
            asyncio.get_running_loop().call_soon(clock.turn, round)
        return found

    algorithm.ask = ask  # type: ignore[method-assign]
    transport = LocalTransport({node: clock.of(node) for node in NODES})
    return Loop(algorithm, config, NODES, transport, journal, bundle=bundle.sha256), clock


def fedbuff(sites: dict[str, Rows], size: int, plan: Plan, exponent: float) -> tuple[Vector, list[int]]:
    """Versions of w; a site works from the version of when it was last counted."""
    versions, began, ages = [np.zeros(size)], dict.fromkeys(sites, 0), []
    for r in sorted(plan):
        total, step = 0.0, np.zeros(size)
        for node in sorted(plan[r]):
            age = (r - 1) - began[node]
            start = versions[began[node]]
            change = sites[node].train(start, began[node] + 1)[0] - start
            step += sites[node].n * change / (1 + age) ** exponent
            total += sites[node].n
            ages.append(age)
        versions.append(versions[-1] + step / total)
        began |= dict.fromkeys(plan[r], r)
    return versions[-1], ages


PLAN = {
    1: ["site-0", "site-1"],
    2: ["site-0", "site-2"],
    3: ["site-1", "site-2"],
    4: ["site-0", "site-3"],
    5: ["site-3", "site-1"],
}


@pytest.mark.parametrize("exponent", [0.5, 0.0, 2.0])
def test_a_step_of_those_that_came_is_the_papers(exponent: float) -> None:
    journal = Forgetful()
    run, _ = loop(PLAN, journal, num_rounds=5, staleness_exponent=exponent)
    result = run.algorithm.result(asyncio.run(run.go()))
    trained = [step for step in journal.steps if step.round is not None]
    assert [sorted(step.participants) for step in trained] == [sorted(PLAN[r]) for r in sorted(PLAN)]

    class Driven:
        tables, config = TABLES, run.config

    prepared = preparation.unpack(result)
    sites = {node: Rows(Driven, node, prepared, False) for node in NODES}  # type: ignore[arg-type]
    reached = np.append(result.arrays["model.coef"], result.arrays["model.intercept"])
    expected, ages = fedbuff(sites, len(reached), PLAN, exponent)
    np.testing.assert_allclose(reached, expected, rtol=0, atol=1e-12)
    assert max(ages) == 3
    told = [step.step - part["asked"] for step in trained for _, part in sorted(step.participants.items())]
    assert told == ages
    # a model is measured by those that were asked for it: of round 3 by nobody that came in time, in the end by all
    counted = [entry.get("sites", {}).get("answered", 4) for entry in result.data["history"]]
    rounds = [entry["round"] for entry in result.data["history"]]
    assert dict(zip(rounds, counted, strict=True)) == {0: 2, 1: 1, 2: 1, 4: 1, 5: 4}


def test_the_slow_node_holds_nobody_up() -> None:
    """site-3 answers once in ten rounds: the others are asked for each, and in the end it is asked to measure."""
    plan = {r: [*NODES[:3], *(["site-3"] if r == 10 else [])] for r in range(1, 12)}
    journal = Forgetful()
    run, clock = loop(plan, journal, num_rounds=11, buffer_size=3)
    asyncio.run(run.go())
    trains = [node for node, phase in clock.asked if phase == "train"]
    assert [trains.count(node) for node in NODES] == [11, 11, 11, 2]
    assert [node for node, phase in clock.asked if phase == "evaluate"] == NODES
    assert sorted(journal.steps[-1].participants) == NODES
    assert not any(step.failures for step in journal.steps)


def test_a_killed_coordinator_goes_on_from_each_state() -> None:
    """What was under way is asked again; the run takes its rounds, and who answered is counted once for each."""
    first = Kept()
    run, _ = loop(PLAN, first, num_rounds=5)
    asyncio.run(run.go())
    begun = [(step, state) for step, state in first.states if first.steps[step].round is not None]
    for step, state in begun[:-1]:
        journal = Forgetful()
        again, clock = loop(None, journal, num_rounds=5)
        result = again.algorithm.result(asyncio.run(again.go((step + 1, state))))
        assert result.data["round"] == 5
        assert np.isfinite(result.arrays["model.coef"]).all()
        assert journal.steps[0].asked == NODES
        assert clock.asked[: len(NODES)] == [(node, "train") for node in NODES]
        ages = [s.step - part["asked"] for s in journal.steps for part in s.participants.values()]
        assert all(0 <= age < 5 for age in ages)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"gathering": "secure"}, "secure gathering cannot add"),
        ({"fraction": 0.5}, "leave fraction at 1"),
        ({"privacy": "central"}, "a sum with noise does not tell apart"),
        ({"min_completed": 3}, "min_completed .3. is more than buffer_size .2."),
    ],
)
def test_what_does_not_go_with_late_answers_is_refused_at_the_proposal(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settled(RunConfig.parse({"model_name": "mlp_classifier", "federated_strategy": "fedbuff", **more}))
