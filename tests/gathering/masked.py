"""A toy secure sum in one file: pairwise masks that cancel, with keys exchanged in the clear.

Exchange 0 (``keys``): each node draws a key and tells it. Exchange 1 (``masked``): each node gets the keys of
all others, and adds to its numbers, modulo 2^64, one mask for each pair it is part of, once with plus and
once with minus; the masks of a pair cancel in the sum. Where a node told a key and then no numbers, its masks
do not cancel: exchange 2 (``reveal``) asks the others for theirs with it, which are taken off. It hides
nothing from whoever reads the keys on their way; a real one agrees on them by Diffie-Hellman.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hanse.errors import NodeFailed, RunFailed
from hanse.gather import Exchange, Party
from hanse.kinds import CHECKS, Answer, Ask, Combine, Contribution, Gathered, generator
from hanse.messages import Array, Json, Record
from hanse.settings import Setting, whole

COMBINES = frozenset({Combine.SUM})
HIDES = True
SETTINGS = {"fraction_bits": Setting(20, "binary digits behind the point", whole(1, 60))}


def fewest(settings: Mapping[str, Json], nodes: int) -> int:
    return 1


def apart(settings: Mapping[str, Json], nodes: int) -> int:
    return 1


class Masked:
    def __init__(self, fraction_bits: int = 20) -> None:
        self._unit = float(2**fraction_bits)

    async def collect(self, ask: Ask, asks: Mapping[str, Record], exchange: Exchange) -> Gathered:
        failures: dict[str, str] = {}
        keys: dict[str, int] = {}
        async for reply in exchange({node: Record() for node in asks}, op="keys"):
            if reply.body is None:
                failures[reply.node] = reply.error
            else:
                keys[reply.node] = reply.body.data["key"]
        wrapped = {n: Record({"keys": keys, "ask": asks[n].data}, asks[n].arrays) for n in keys}
        found: dict[str, Record] = {}
        async for reply in exchange(wrapped, op="masked"):
            if reply.body is None:
                failures[reply.node] = reply.error
            else:
                found[reply.node] = reply.body
        lost = sorted(set(keys) - set(found))
        shown: list[Record] = []
        if lost and found:
            async for reply in exchange({n: Record({"with": lost}) for n in found}, op="reveal"):
                if reply.body is None:
                    raise RunFailed(f"{reply.node} was lost with the masks of {', '.join(lost)}")
                shown.append(reply.body)
        total = {
            name: sum((found[n].arrays[name] for n in sorted(found)), np.uint64(0))
            - sum((r.arrays[name] for r in shown), np.uint64(0))
            for name in (next(iter(found.values())).arrays if found else ())
        }
        answers = [Answer(n, 1.0, {}, {}, 0) for n in sorted(found)]
        real = {name: np.asarray(a).view(np.int64) / self._unit for name, a in total.items()}
        return Total(answers, failures, real)

    def reply(self, op: str, ask: Record, answer: Callable[[Record], Contribution], party: Party) -> Record:
        if op == "keys":
            party.memory["key"] = secrets.randbits(62)
            return Record({"key": party.memory["key"]})
        if op == "masked":
            arrays = answer(Record(ask.data["ask"], ask.arrays)).record.arrays
            party.memory |= {"keys": ask.data["keys"], "like": {n: a.shape for n, a in arrays.items()}}
            plain = {n: np.round(a * self._unit).astype(np.int64).view(np.uint64) for n, a in arrays.items()}
            return Record({}, {n: a + self._masks(party, party.memory["keys"])[n] for n, a in plain.items()})
        if op == "reveal":
            return Record({}, self._masks(party, ask.data["with"]))
        raise NodeFailed(f"masked sums have no operation {op!r}")

    @staticmethod
    def _masks(party: Party, others: Sequence[str]) -> dict[str, Array]:
        """The sum of this node's masks with ``others``, for each array."""
        memory = party.memory
        found = {}
        for name, shape in memory["like"].items():
            found[name] = np.zeros(shape, np.uint64)
            for other in others:
                if other != party.node:
                    pair = sorted([memory["key"], memory["keys"][other]])
                    mask = generator(0, name, party.step, *pair).integers(0, 2**64, shape, np.uint64)
                    found[name] = found[name] + mask if party.node < other else found[name] - mask
        return found


@dataclass(frozen=True)
class Total:
    """:class:`hanse.kinds.Gathered` of which only the sum is known."""

    answers: Sequence[Answer]
    failures: Mapping[str, str]
    total: Mapping[str, Array]
    nbytes: int = 0
    unchecked: Sequence[str] = CHECKS
    told: Mapping[str, Json] = field(default_factory=dict)
    nodes: Sequence[str] = ()
    step: int = 0

    @property
    def weight(self) -> float:
        return float(len(self.answers))

    def among(self, nodes: Sequence[str], step: int) -> Gathered:
        return replace(self, nodes=tuple(nodes), step=step)

    def without(self, nodes: Mapping[str, str]) -> Gathered:
        raise RunFailed("nobody can be taken out of a sum that hides who gave what")

    def weighted(self, weights: Sequence[float]) -> Gathered:
        raise RunFailed("the weights of a sum that hides who gave what cannot be changed")

    def beyond(self, counts: Mapping[str, int | None], rows: Mapping[str, float]) -> dict[str, str]:
        return {}

    def sum(self) -> dict[str, Array]:
        return dict(self.total)

    def mean(self) -> dict[str, Array]:
        return {name: a / self.weight for name, a in self.total.items()}

    def sums(self) -> dict[str, Array]:
        return {}

    def products(self, whole: Mapping[str, Array]) -> list[tuple[float, float]]:
        raise RunFailed("nobody sees single contributions")

    def each(self) -> Iterator[tuple[Answer, Record]]:
        raise RunFailed("nobody sees single contributions")


GATHER = Masked
