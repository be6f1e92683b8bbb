"""How much a node may say that its contribution counts.

A weight is self-reported, usually rows. A node that claims a million rows would decide the average
alone, so a weight is held against the rows of the dataset that the node registered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hanse.errors import Unusable
from hanse.kinds import Algorithm, Ask, Combine, Contribution, Done, Gathered, Site, State
from hanse.messages import Json, Record


class Capped:
    """The algorithm, with contributions left out that weigh more than their node's limit.

    Args:
        inner: the algorithm of the run.
        limits: node to the largest weight that is believed; nodes that are not in it are not limited.
    """

    def __init__(self, inner: Algorithm, limits: Mapping[str, float]) -> None:
        self._inner, self._limits = inner, dict(limits)

    @property
    def combines(self) -> Collection[Combine]:
        return self._inner.combines

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        return self._inner.init(config, previous)

    def ask(self, state: State) -> Ask | Done:
        return self._inner.ask(state)

    def answer(self, site: Site, ask: Record) -> Contribution:
        return self._inner.answer(site, ask)

    def tell(self, state: State, gathered: Gathered) -> State:
        """Raises ``Unusable`` naming the nodes that claim too much; the loop tells the rest."""
        claims = {a.node: a.weight for a in gathered.answers if a.weight > self._limits.get(a.node, float("inf"))}
        if claims:
            raise Unusable({
                node: f"claims a weight of {weight:g}; the dataset that it registered allows {self._limits[node]:g}"
                for node, weight in claims.items()
            })  # fmt: skip
        return self._inner.tell(state, gathered)

    def result(self, state: State) -> Record:
        return self._inner.result(state)

    def metrics(self, state: State) -> Mapping[str, Json]:
        return self._inner.metrics(state)
