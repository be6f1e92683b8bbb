"""What a run of trees writes while it runs, and that a coordinator which is killed loses nothing of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hanse import algorithms, features, gathering, rounds
from hanse.answers import Answerer
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.coordinator.journal import StoreJournal
from hanse.kinds import State
from hanse.messages import Message, Record, digest, dump
from hanse.rounds import Loop, Step
from hanse.store import Store
from hanse.transport import Handler, Progress
from hanse.transports.local import LocalTransport
from tests.algorithms.drive import shares, toy

ROUNDS = 23


class Killed(BaseException):
    """As ``kill -9`` of the coordinator: nothing after it is done; the nodes live on."""


class Federation:
    def __init__(self, home: Path, **settings: Any) -> None:
        self.tables = shares(toy(90), 30, 40, 20)
        self.config = RunConfig.parse(
            {"model_name": "xgboost_bagging", "target_column": "y", "sample_id_column": None, "num_rounds": ROUNDS}
            | {"model_options": {"max_depth": 2}}
            | settings
        )
        alignment = features.align({n: t.schema() for n, t in self.tables.items()}, "intersection", targets=["y"])
        self.bundle = freeze(self.config, alignment.to_json(), {})
        self.store = Store(None, home)
        made = self.store.runs.create(self.config.to_json(), proposer="ada", nodes=sorted(self.tables), seed=0)
        self.run = self.store.runs.propose(
            made.id, self.bundle.sha256, self.bundle.content, actor="ada", nodes=sorted(self.tables), expires=4e9
        ).id
        self.lost = dict[str, tuple[int, str]]()  # node to the step at which it loses its worker, and when
        self.handlers = {node: self._handler(node) for node in self.tables}

    def _handler(self, node: str) -> Handler:
        answerer = Answerer(node, lambda content: self.tables[node])

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            step, when = self.lost.get(node, (-1, ""))
            dies = message.body.data["step"] == step and message.body.data["op"] == "answer"
            if dies:
                del self.lost[node]
            if dies and when == "before it answers":
                answerer.forget(self.run)
            reply = Message("reply", message.id, node, answerer.answer(message.body, self.bundle.content, progress))
            if dies and when == "after":
                answerer.forget(self.run)
            return reply

        return handle

    def go(self, killed_at: int = -1) -> tuple[Record, int]:
        """The result, and the bytes of the states that were written."""
        written, seen = 0, self

        class Journal(StoreJournal):
            async def step(self, record: Step, state: State, keep: bool) -> None:
                nonlocal written
                if record.step == killed_at:
                    raise Killed
                written += len(dump(state)) if keep else 0
                await super().step(record, state, keep)

        latest = self.store.rounds.latest_checkpoint(self.run)
        loop = Loop(
            algorithms.build(self.config),
            self.config,
            sorted(self.tables),
            LocalTransport(self.handlers, "exact"),
            Journal(seen.store, self.run, lambda *_: None),
            self.run,
            self.bundle.sha256,
            gathers=gathering.build(self.bundle.content["gathering"], self.config.to_json()),
        )
        state = asyncio.run(loop.go(latest and (latest[0] + 1, latest[1])))
        return loop.algorithm.result(state), written


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "REPEATABLE_SECONDS", 1e9)  # so that a busy machine keeps no more states


def test_a_killed_coordinator_ends_with_the_same_trees_and_few_of_them_are_written(tmp_path: Path) -> None:
    whole, written = Federation(tmp_path / "whole").go()
    model = len(dump(whole))
    assert written < 4 * model  # every step's state would be 12 times the model
    federation, last = Federation(tmp_path / "killed"), 0
    for step in (4, 13, 14, ROUNDS + 1):  # with no state yet, where the first is written, at the end
        with pytest.raises(Killed):
            federation.go(step)
        kept: Any = federation.store.rounds.latest_checkpoint(federation.run)
        last = -1 if kept is None else kept[0]
        assert step - 11 < last < step
    found, _ = federation.go()
    assert digest(found) == digest(whole)


@pytest.mark.parametrize(("lost", "left"), [({}, 0), ({"site-1": (9, "after"), "site-2": (9, "before it answers")}, 1)])
def test_a_killed_coordinator_of_secure_sums_leaves_behind_what_nodes_have_told(
    lost: dict[str, tuple[int, str]], left: int, tmp_path: Path
) -> None:
    """A node tells one sum of a step, and cannot go back to what its rows were some levels before: whoever went on from
    the last state asked these steps again, and was refused. Neither is it asked again what was left behind before."""
    exact = {"model_name": "xgboost", "gathering": "secure", "min_completed": 3, "num_rounds": 3}
    whole, _ = Federation(tmp_path / "whole", **exact).go()
    federation = Federation(tmp_path / "killed", **exact)
    federation.lost = dict(lost)

    def behind() -> list[int]:
        return [row.step for row in federation.store.rounds.list(federation.run) if row.status == "failed"]

    with pytest.raises(Killed):
        federation.go(12)
    assert (behind(), federation.store.rounds.checkpoints(federation.run)[-1]) == ([9][:left], 9 if left else 6)
    found, _ = federation.go()
    steps, begun = [row.step for row in federation.store.rounds.list(federation.run)], 10 if left else 7
    assert steps == list(range(len(steps)))  # of each that a node has answered it stands what became of it
    assert behind() == [*[9][:left], *range(begun, behind()[-1] + 1)]
    assert behind()[-1] >= 12  # the last step that was asked for before
    trees = [name for name in whole.arrays if name.startswith("model.")]
    assert all(found.arrays[name].tobytes() == whole.arrays[name].tobytes() for name in trees)
