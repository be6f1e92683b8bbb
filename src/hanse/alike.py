"""What sites that computed together contribute, as one object: in a simulation of small models, what is made for each
of them costs more than what they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hanse.by_node import ByPlace
from hanse.kinds import Contribution
from hanse.messages import Array, Record


class Alike(ByPlace[Contribution]):
    """Contributions that differ in arrays, weight and metrics alone; each is made when it is looked at.

    Args:
        of: what they have in common, without arrays of any kind.
        arrays, weights, metrics: of each.

    Raises:
        ValueError: ``of`` has arrays or sums, or these are not of as many sites.

    >>> from hanse.messages import Stack
    >>> import numpy as np
    >>> rows = Stack({"w": np.array([[1.0], [2.0]])}).rows()
    >>> two = Alike(Contribution(Record()), rows, [3.0, 4.0], [{"n": 3.0}, {"n": 4.0}])
    >>> two[1].record.arrays["w"], two[1].weight, two[1].metrics
    (array([2.]), 4.0, {'n': 4.0})
    """

    __slots__ = ("arrays", "metrics", "of", "weights")

    def __init__(
        self,
        of: Contribution,
        arrays: Sequence[Mapping[str, Array]],
        weights: Sequence[float],
        metrics: Sequence[Mapping[str, float]],
    ) -> None:
        if of.record.arrays or of.sums:
            raise ValueError("what all have in common has no arrays")
        if not len(arrays) == len(weights) == len(metrics):
            raise ValueError(f"{len(arrays)} arrays, {len(weights)} weights and {len(metrics)} metrics")
        self.of, self.arrays, self.weights, self.metrics = of, arrays, weights, metrics

    def at(self, place: int) -> Contribution:
        """The contribution of the site at this place."""
        record = Record(self.of.record.data, self.arrays[place])
        return replace(self.of, record=record, weight=self.weights[place], metrics=self.metrics[place])

    def __len__(self) -> int:
        return len(self.arrays)
