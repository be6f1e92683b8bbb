"""Nodes of a secure sum without a network: their halves, what they remember, and what is done to them on the way."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace

import numpy as np

from hanse.errors import HanseError
from hanse.gather import Identity, Party, Reply, keep_promises
from hanse.gathering.secure import Secure
from hanse.identity import Authority
from hanse.kinds import Ask, Combine, Contribution, Gathered
from hanse.memories import Memories
from hanse.messages import Json, Record
from hanse.signing import Signer
from tests.transports.grpc_federation import identity

Fault = Callable[[Record], Record] | Exception
ASK = Ask(Record({"q": 1}), Combine.SUM, "sum")


@functools.cache
def _signer(node: str) -> Signer:
    """What signs for a node; the same for all tests that change nothing about it."""
    return Signer(identity(_authority(), node))


@functools.cache
def _authority() -> Authority:
    with tempfile.TemporaryDirectory() as folder:
        return Authority.open(folder)


@dataclass
class Nodes:
    """
    Args:
        contributions: node to what it answers, or a function of what it is asked.
        rows: node to what the bundle says it has at most.
        settings: of the gather.
        identities: node to what signs for it; empty: nobody signs.

    ``before`` and ``after``: (node, op) to what is done to its ask and its reply, an error or another record.
    ``seen``: every reply, as the coordinator got it, by (node, step, exchange), with its op.
    """

    contributions: Mapping[str, Contribution | Callable[[Record], Contribution]]
    rows: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    identities: Mapping[str, Identity] = field(default_factory=dict)
    before: dict[tuple[str, str], Fault] = field(default_factory=dict)
    after: dict[tuple[str, str], Fault] = field(default_factory=dict)
    asked: dict[tuple[str, str], Record] = field(default_factory=dict)
    seen: dict[tuple[str, str], Record] = field(default_factory=dict)
    run: str = "run"
    step: int = 0
    exchanges: int = 0
    memories: dict[str, Memories] = field(default_factory=dict)
    promises: dict[str, MutableMapping[str, Json]] = field(default_factory=dict)

    @staticmethod
    def signed(contributions: Mapping[str, Contribution], **more: object) -> Nodes:
        signers = {node: _signer(node) for node in contributions}
        return Nodes(contributions, identities=signers, **more)  # type: ignore[arg-type]

    def ask(self, node: str, op: str, record: Record, step: int | None = None, exchange: int | None = None) -> Record:
        """What the node half says, with the memory that it has at that point."""
        at = (self.step if step is None else step, self.exchanges if exchange is None else exchange)
        memories = self.memories.setdefault(node, Memories())
        memory = memories.before(*at)
        party = Party(
            node,
            *at,
            0,
            memory.gather,
            lambda: self.identities.get(node),
            run=self.run,
            bundle="b" * 64,
            rows=self.rows,
            promises=self.promises.setdefault(node, {}),
        )
        what = self.contributions[node]

        def answer(asked: Record) -> Contribution:
            return what(asked) if callable(what) else what

        reply = Secure(**self.settings).reply(op, record, answer, party)  # type: ignore[arg-type]
        memories.keep(*at, memory)
        keep_promises(getattr(party.promises, "hold", party.promises.setdefault), party.passing)
        keep_promises(party.promises.setdefault, party.leaving)
        return reply

    async def exchange(
        self, asks: Mapping[str, Record], op: str = "answer", need: int | None = None
    ) -> AsyncIterator[Reply]:
        at, self.exchanges = self.exchanges, self.exchanges + 1
        for node, record in asks.items():
            try:
                record = self._through(self.before.get((node, op)), record)
                self.asked[node, op] = record
                said = self.ask(node, op, record, exchange=at)
                body = self._through(self.after.get((node, op)), said)
                self.seen[node, op] = body
            except HanseError as error:
                yield Reply(node, self.step, None, error.message, 0.0, error.code, op, at)
            else:
                yield Reply(node, self.step, body, op=op, exchange=at)

    @staticmethod
    def _through(fault: Fault | None, record: Record) -> Record:
        if isinstance(fault, Exception):
            raise fault
        return record if fault is None else fault(record)

    def sum(self, gather: Secure | None = None, ask: Ask = ASK, only: list[str] | None = None) -> Gathered:
        """One step."""
        gather = gather or Secure(**self.settings)  # type: ignore[arg-type]
        asks = {node: ask.record for node in only or self.contributions}
        found = asyncio.run(gather.collect(ask, asks, self.exchange))
        self.step, self.exchanges = self.step + 1, 0
        return found


def exact(n: int, size: int = 5, **more: object) -> tuple[dict[str, Contribution], Ask]:
    """Contributions of whole numbers, and what asks all of the nodes for them."""
    rng = np.random.default_rng(n)
    contributions = {
        f"n{k:03}": Contribution(
            Record({}, {"i": rng.integers(-(10**9), 10**9, size)}), sums={"rows": rng.integers(0, 9, 2)}
        )
        for k in range(n)
    }
    shapes = {"arrays": {"i": ("int64", (size,))}, "sums": {"rows": ("int64", (2,))}}
    return contributions, replace(ASK, **{"fewest": n, **shapes, **more})  # type: ignore[arg-type]


def whole(n: int, size: int = 5, seed: int = 0) -> dict[str, Contribution]:
    """Contributions of n nodes, of whole numbers and of others."""
    rng = np.random.default_rng(seed)
    return {
        f"n{k:03}": Contribution(
            Record({"k": k}, {"x": rng.normal(0, 10, size), "i": rng.integers(-(10**9), 10**9, size)}),
            sums={"loss": rng.normal(0, 1e6, 2)},
        )
        for k in range(n)
    }
