"""FedBuff with ten nodes that dial in over gRPC with TLS, of which one takes as long as the others take for ten.

No time is measured: the slow node answers when the nine others have answered ten times each, and if they wait for it,
as soon as they do.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drive import shares, toy

from hanse.algorithms import build, settled
from hanse.answers import Answerer
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.messages import Message
from hanse.rounds import Forgetful, Loop, Step
from hanse.transport import Handler, Progress
from tests.transports.grpc_federation import Federation

TABLES = shares(toy(600), *[60] * 10)
NODES = sorted(TABLES)
SLOW = NODES[3]
FAST = len(NODES) - 1


class Race:
    """One run, and what was done when the slow node first answered."""

    def __init__(self, strategy: str, rounds: int, **settings: Any) -> None:
        given = {"target_column": "y", "sample_id_column": None, "model_name": "logistic_regression"}
        given |= {"federated_strategy": strategy, "num_rounds": rounds, "test_fraction": 0.0, **settings}
        self.config = settled(RunConfig.parse(given))
        datasets = {n: {"name": n, "version": "0" * 32, "most_rows": t.rows} for n, t in TABLES.items()}
        kinds = {name: str(TABLES[SLOW][name].kind) for name in TABLES[SLOW].names}
        aligned = {"features": [name for name in kinds if name != "y"], "kinds": kinds, "warnings": []}
        self.bundle = freeze(self.config, aligned, datasets)
        self.algorithm = build(self.config)
        self.answers, self.ahead = 0, -1  # trainings that fast nodes have answered; rounds done at the slow one's first
        self.waits_for = 10 * FAST if strategy == "fedbuff" else FAST
        self.moved = asyncio.Event()
        self.steps: list[Step] = []
        self.journal = Forgetful(self._done)

    def _done(self, step: Step) -> None:
        self.steps.append(step)

    @property
    def rounds(self) -> list[Step]:
        return [step for step in self.steps if step.round is not None]

    def handler(self, node: str) -> Handler:
        answerer = Answerer(node, lambda bundle: TABLES[node])

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            reply = answerer.answer(message.body, self.bundle.content, progress)
            if message.body.data["ask"].get("of", {}).get("phase") == "train":
                if node == SLOW:
                    while self.ahead < 0 and self.answers < self.waits_for:
                        await self.moved.wait()
                    self.ahead = len(self.rounds) if self.ahead < 0 else self.ahead
                else:
                    self.answers += 1
                    self.moved.set()
                    self.moved = asyncio.Event()
            return Message("reply", message.id, node, reply)

        return handle

    async def run(self, folder: Path) -> Any:
        async with Federation(folder) as federation:
            for node in NODES:
                await federation.node(node, self.handler(node))
            loop = Loop(
                self.algorithm, self.config, NODES, federation.coordinator, self.journal, bundle=self.bundle.sha256
            )
            return self.algorithm.result(await asyncio.wait_for(loop.go(), 90))


def test_nobody_waits_for_the_node_that_is_ten_times_slower(tmp_path: Path) -> None:
    async def both() -> tuple[Race, Any, Race, Any]:
        waiting = Race("fedavg", 3)
        one = await waiting.run(tmp_path)
        buffered = Race("fedbuff", 30, buffer_size=5)
        return waiting, one, buffered, await buffered.run(tmp_path)

    waiting, one, buffered, other = asyncio.run(both())
    assert waiting.ahead == 0, "fedavg has done no round when its slowest node first answers"
    assert all(set(step.participants) == set(NODES) for step in waiting.rounds), "it waits for all of them in each"
    assert buffered.ahead >= 8, "fedbuff has made ninety answers into rounds of five to nine by then"
    late = [step for step in buffered.rounds if SLOW in step.participants]
    assert late, "the slow node is counted, when it comes"
    assert late[0].participants[SLOW]["asked"] < late[0].step
    for result in (one, other):
        assert np.isfinite(result.arrays["model.coef"]).all()
    cosine = np.vdot(one.arrays["model.coef"], other.arrays["model.coef"]) / (
        np.linalg.norm(one.arrays["model.coef"]) * np.linalg.norm(other.arrays["model.coef"])
    )
    assert cosine == pytest.approx(1.0, abs=0.1)
