"""One node and a coordinator that the test speaks for, in this process; every message goes through
the real frames."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

import hanse.algorithms
import hanse.bundle
from hanse import features
from hanse.bundle import Bundle, freeze
from hanse.config import RunConfig
from hanse.errors import HanseError
from hanse.identity import Authority, NodeIdentity, create_key, csr, save_identity
from hanse.messages import Allocate, Assembler, Json, Memory, Message, Record, frames
from hanse.node.agent import Agent
from hanse.node.catalogue import Catalogue
from hanse.node.settings import CoordinatorAddress, NodeSettings, Policy, TaskLimits
from hanse.registry import find
from hanse.store.audit import Entry
from hanse.transport import Progress
from hanse.transports import Caller
from tests.waiting import PATIENCE

ATTACKS = Path(__file__).parent / "attacks"
WITH_ATTACKS = (str(ATTACKS / "worker_with_attacks.py"),)


def enrol(home: Path, authority: Authority, address: str, node: str = "alpha") -> None:
    """Makes ``home`` that of a node that has joined."""
    key = create_key(home)
    identity = NodeIdentity(node, key, authority.issue_node(csr(key, node), node), authority.pem, address)
    save_identity(home, identity)
    NodeSettings(node, coordinator=CoordinatorAddress(address, "http://localhost")).save(home)


def carry(message: Message, allocate: Allocate = Memory, seen: bytearray | None = None) -> Message:
    """The message as the other side gets it."""
    assembler, found = Assembler(allocate), None
    for frame in frames(message, 1):
        if seen is not None:
            seen += frame
        found = assembler.feed(frame)
    assert isinstance(found, Message)
    return found


class FakeCoordinator:
    """The agent's connection, and the coordinator behind it."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.left = bytearray()  # every byte that left the node
        self.pending: list[dict[str, Json]] = []
        self.refuse: dict[str, HanseError] = {}
        self.interval = 5.0
        self.welcome: dict[str, Json] = {}  # what it says besides
        self.changed = asyncio.Event()
        self.reports: list[Any] = []
        self._up = False

    def __call__(self, caller: Caller) -> FakeCoordinator:
        self.node, self.handler = caller.node, caller.handler
        self.allocate, self.report = caller.allocate, caller.report
        return self

    def start(self) -> None:
        self.report("connected", "here")

    async def request(self, message: Message, progress: Progress = lambda: None) -> Message:
        self.heard.append(carry(message, seen=self.left))
        self.changed.set()
        if message.kind in self.refuse:
            raise self.refuse[message.kind]
        data: dict[str, Json] = {}
        if message.kind == "hello":
            data = {"node": self.node, "heartbeat_interval_s": self.interval, "proposals": self.pending}
            data |= self.welcome
        return Message("reply", message.id, "coordinator", Record(data))

    async def close(self) -> None:
        pass

    async def until(self, kind: str, count: int = 1) -> list[Message]:
        """The messages of a kind, once there are so many."""
        async with asyncio.timeout(PATIENCE):
            while len(found := [m for m in self.heard if m.kind == kind]) < count:
                self.changed.clear()
                await self.changed.wait()
        return found

    async def ask(
        self,
        kind: str,
        data: Mapping[str, Json],
        arrays: Mapping[str, Any] | None = None,
        *,
        peer: str = "coordinator",
        sender: str = "coordinator",
        progress: Progress = lambda: None,
    ) -> Record:
        """Ask the node; what leaves is kept in ``left``, errors included."""
        message = carry(Message(kind, f"{kind}/{len(self.left)}", sender, Record(data, arrays or {})), self.allocate)
        try:
            reply = await self.handler(peer, message, progress)
        except HanseError as error:
            self.left += f"{error.code} {error.message}".encode()
            raise
        return carry(reply, seen=self.left).body


@dataclasses.dataclass
class Node:
    agent: Agent
    coordinator: FakeCoordinator
    home: Path

    def audit(self) -> list[Entry]:
        return self.agent.audit.entries()

    def actions(self) -> list[str]:
        return [entry.action for entry in self.audit()]

    async def propose(self, bundle: Bundle, run: str = "run-1", **more: Json) -> Record:
        return await self.coordinator.ask("proposal", proposal(bundle, run, self.agent.node, **more))

    async def approved(self, bundle: Bundle, run: str = "run-1") -> None:
        await self.propose(bundle, run)
        self.agent.gate.approve(run, bundle.sha256, actor="owner")

    async def task(
        self,
        bundle: Bundle | str,
        ask: Mapping[str, Json],
        arrays: Mapping[str, Any] | None = None,
        *,
        run: str = "run-1",
        step: int = 0,
        op: str = "answer",
        combine: str = "",
        **more: Any,
    ) -> Record:
        sha = bundle if isinstance(bundle, str) else bundle.sha256
        ways = ["sum"] if isinstance(bundle, str) else sorted(bundle.content["gathering"])
        words = "agree" in ways and ask.get("step") == "merge"
        combine = combine or ("agree" if words else next(way for way in ("sum", *ways) if way in ways))
        data = {"run": run, "step": step, "exchange": 0, "op": op, "combine": combine, "bundle": sha}
        data["ask"] = {"stage": 0, "of": dict(ask)}
        return await self.coordinator.ask("task", data, arrays, **more)


def proposal(bundle: Bundle, run: str = "run-1", node: str = "alpha", **more: Json) -> dict[str, Json]:
    expires = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    return {
        "run": run,
        "sha256": bundle.sha256,
        "text": bundle.text,
        "proposer": "Ada",
        "purpose": bundle.content["config"].get("purpose", ""),
        "expires": expires,
        "dataset": bundle.content["datasets"].get(node),
        **more,
    }


def probe(nbytes: int = 64, **settings: Json) -> Bundle:
    settings = {"federated_strategy": "probe", "model_options": {"bytes": nbytes}, "purpose": "to test", **settings}
    config = RunConfig.parse(settings)
    return hanse.bundle.freeze(config, {"features": [], "kinds": {}}, {})


def attack() -> Bundle:
    """A bundle of the algorithm that misbehaves."""
    path = hanse.algorithms.__path__
    path.append(str(ATTACKS))
    try:
        config = RunConfig.parse({"federated_strategy": "attack"})
        return hanse.bundle.freeze(config, {"features": [], "kinds": {}}, {})
    finally:
        path.remove(str(ATTACKS))


def write_csv(path: Path, rows: int = 60) -> None:
    """Patients, of whom one has a value, a town and an id like no other."""
    rng = np.random.default_rng(5)
    lines = ["Sample,age,marker,town,disease"]
    for i in range(rows):
        town = "Zwentibold-Sentinel" if i == 7 else rng.choice(["Lübeck", "Bremen"])
        marker = 1234.5678901 if i == 7 else round(float(rng.normal(900, 300)), 6)
        age = int(rng.integers(20, 90))
        lines.append(f"PATIENT-{i:04d},{age},{marker},{town},{int(age + rng.normal(0, 12) > 55)}")
    path.write_text("\n".join(lines) + "\n")


def data_bundle(home: Path, model: str = "logistic_regression", others: int = 0, **settings: Json) -> Bundle:
    """Of this node, and of ``others`` that nobody asks."""
    dataset = Catalogue(home).get("visits")
    config = RunConfig.parse({"model_name": model, "num_rounds": 2, "purpose": "to test", **settings})
    schemas = {"alpha": dict(dataset.schema)}
    targets = find("tasks", config.task_type).TASK.columns(config.target_column)
    alignment = features.align(schemas, "intersection", targets=targets, not_features=["Sample"])
    nodes = ["alpha", *(f"other-{i}" for i in range(others))]
    bound = {node: {"name": dataset.name, "version": dataset.version} for node in nodes}
    return freeze(config, alignment.to_json(), bound)


def with_data(home: Path, rows: int = 60) -> None:
    write_csv(home / "visits.csv", rows)
    Catalogue(home).add(home / "visits.csv", "visits")


@contextlib.asynccontextmanager
async def running(
    home: Path,
    *,
    attacks: bool = False,
    coordinator: FakeCoordinator | None = None,
    consent: str = "node",
    policy: Policy | None = None,
    limits: TaskLimits | None = None,
) -> AsyncIterator[Node]:
    home.mkdir(parents=True, exist_ok=True)
    NodeSettings("alpha", consent, policy=policy or Policy(), limits=limits or TaskLimits(threads=1)).save(home)
    fake = coordinator or FakeCoordinator()
    agent = Agent(home, fake, WITH_ATTACKS) if attacks else Agent(home, fake)
    task = asyncio.create_task(agent.run())
    try:
        await agent.worker.start()
        yield Node(agent, fake, home)
    finally:
        agent.stop()
        await task


@contextlib.contextmanager
def kept(home: Path) -> Iterator[tuple[asyncio.Runner, Node]]:
    """A node that many tests ask in turn, as its worker takes longer to start than to answer, and the loop that it
    lives in."""
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        node = runner.run(stack.enter_async_context(running(home)))
        try:
            runner.run(node.coordinator.until("hello"))
            yield runner, node
        finally:
            runner.run(stack.aclose())
