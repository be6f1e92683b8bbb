"""Noise in the whole, added by a coordinator that everybody trusts: nodes bound what they send, and it sees their sums.

A node says beside its bounded numbers (:mod:`hanse.privacy.release`) what one unit changes them by. The sum of all is
on the grid of that bound, so it is a whole number of steps, to which discrete Gaussian noise is added once: as much as
one node would add in mode ``local``, for all of them together. The key of the noise follows from a secret of the
coordinator, the run, what was asked and the sum itself: a step that is done again after a crash has the same noise, and
equal sums of two steps do not.

What is not said to follow from no rows gets noise; a single contribution is given to nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hanse.errors import RunFailed
from hanse.gather import Exchange, Gather, Party
from hanse.kinds import Answer, Ask, Contribution, Gathered
from hanse.messages import Array, Json, Record, digest
from hanse.privacy.guarantee import Guarantee
from hanse.privacy.release import BOUND, Key, noised


class NoisedGather:
    """Another gather, whose sums get noise.

    Args:
        inner: how contributions come together.
        guarantee: what was promised.
        key: gives a secret key for a sum (:data:`hanse.privacy.release.Key`).
    """

    def __init__(self, inner: Gather, guarantee: Guarantee, key: Key) -> None:
        self._inner, self._guarantee, self._key = inner, guarantee, key

    async def collect(self, ask: Ask, asks: Mapping[str, Record], exchange: Exchange) -> Gathered:
        place, found = digest(ask.record).encode(), await self._inner.collect(ask, asks, exchange)
        return NoisedSum(found, self._guarantee, lambda numbers: self._key(place + numbers))

    def reply(self, op: str, ask: Record, answer: Callable[[Record], Contribution], party: Party) -> Record:
        return self._inner.reply(op, ask, answer, party)


@dataclass(frozen=True, slots=True)
class NoisedSum:
    """:class:`hanse.kinds.Gathered` whose sums have noise in them."""

    inner: Gathered
    guarantee: Guarantee
    key: Key

    @property
    def answers(self) -> Sequence[Answer]:
        return self.inner.answers

    @property
    def failures(self) -> Mapping[str, str]:
        return self.inner.failures

    @property
    def nodes(self) -> Sequence[str]:
        return self.inner.nodes

    @property
    def step(self) -> int:
        return self.inner.step

    @property
    def weight(self) -> float:
        return self.inner.weight

    @property
    def nbytes(self) -> int:
        return self.inner.nbytes

    @property
    def unchecked(self) -> Sequence[str]:
        return self.inner.unchecked

    @property
    def told(self) -> Mapping[str, Json]:
        return self.inner.told

    def among(self, nodes: Sequence[str], step: int) -> Gathered:
        return replace(self, inner=self.inner.among(nodes, step))

    def without(self, nodes: Mapping[str, str]) -> Gathered:
        return replace(self, inner=self.inner.without(nodes))

    def weighted(self, weights: Sequence[float]) -> Gathered:
        raise RunFailed("every site counts the same in a sum with noise; leave max_weight_share at 1")

    def beyond(self, counts: Mapping[str, int | None], rows: Mapping[str, float]) -> dict[str, str]:
        return self.inner.beyond(counts, rows)

    def products(self, whole: Mapping[str, Array]) -> list[tuple[float, float]]:
        raise RunFailed("single contributions have no noise yet in mode central, so nobody is told of them")

    def each(self) -> Iterator[tuple[Answer, Record]]:
        raise RunFailed("single contributions have no noise yet in mode central, so nobody is given them")

    def sums(self) -> dict[str, Array]:
        """Nodes send zeros there."""
        return self.inner.sums()

    def sum(self) -> dict[str, Array]:
        found = self.inner.sum()
        bounds = [answer.data.get(BOUND) for answer in self.answers]
        told = [float(bound) for bound in bounds if isinstance(bound, (int, float)) and not isinstance(bound, bool)]
        if len(told) < len(bounds) or not found:
            raise RunFailed("a node did not say what one unit can change its numbers by, so no noise is enough")
        if not any(told):
            return found  # nothing of it follows from rows
        whole = {name: np.asarray(array, np.float64) for name, array in found.items()}
        made, _ = noised(whole, max(told), self.guarantee, self.key)
        return made

    def mean(self) -> dict[str, Array]:
        if not self.weight > 0:
            return self.inner.mean()
        types = {name: array.dtype for name, array in self.inner.mean().items()}
        return {name: (array / self.weight).astype(types[name]) for name, array in self.sum().items()}


def key_of(secret: bytes, run: str, bundle: str) -> Key:
    """The keys of a run's noise at a coordinator."""
    from hanse.privacy.drawing import key_for

    return lambda found: key_for(secret, b"central", run.encode(), bundle.encode(), hashlib.sha256(found).digest())
