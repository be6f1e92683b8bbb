"""What a node remembers of one run, as it was after each of the last exchanges.

An exchange that is asked again (the coordinator was killed, a reply was lost, the step failed) starts from
the same memory as before, and gives the same bytes. How far back a run may go, its checkpoints decide: the
coordinator goes on after the last state that it kept.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

# While a step is asked, the state after the one before may not be on disk yet, and a damaged checkpoint is
# passed over for the one before it.
KEPT_CHECKPOINTS = 3
MOST = 256  # exchanges; a coordinator that never keeps a state does not fill the node


@dataclass(slots=True)
class NodeMemory:
    """Of the algorithm, of the gather, and of each outgoing transform, by its place."""

    algorithm: dict[str, Any] = field(default_factory=dict)
    gather: dict[str, Any] = field(default_factory=dict)
    transforms: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def blank(self) -> bool:
        """Whether nothing is remembered, as before the first exchange."""
        return not (self.algorithm or self.gather or (self.transforms and any(self.transforms.values())))

    def copy(self) -> NodeMemory:
        """The same, of which what is set or deleted does not change this one; values are not copied."""
        return NodeMemory(dict(self.algorithm), dict(self.gather), {k: dict(v) for k, v in self.transforms.items()})


class Memories:
    """Memories by (step, exchange).

    >>> kept = Memories()
    >>> for step in range(3):
    ...     memory = kept.before(step, 0)
    ...     memory.algorithm["steps"] = memory.algorithm.get("steps", 0) + 1
    ...     kept.keep(step, 0, memory)
    >>> kept.before(1, 0).algorithm, kept.before(3, 0).algorithm
    ({'steps': 1}, {'steps': 3})
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], NodeMemory] = {}  # ascending
        # steps after which the coordinator keeps its state, ascending; of those with anything to remember
        self._checkpoints: list[int] = []
        self._last: tuple[tuple[int, int], NodeMemory] | None = None  # of those that are kept

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def blank(self) -> bool:
        """Whether nothing is remembered, after any of the exchanges that are kept."""
        return all([memory.blank for memory in self._kept.values()])

    def before(self, step: int, exchange: int) -> NodeMemory:
        """A copy of the memory as it was before this exchange; empty where there is none."""
        at, kept, last = (step, exchange), self._kept, self._last  # another thread may keep the next one meanwhile
        if last is not None and last[0] < at:  # as nearly always: to look through all takes longer than to copy one
            return last[1].copy()
        for other in reversed(list(kept)):
            if other < at:
                return kept[other].copy()
        return NodeMemory()

    def keep(self, step: int, exchange: int, memory: NodeMemory, checkpoint: bool = True) -> None:
        """Keeps the memory after this exchange, and lets go of what no run comes back to.

        Args:
            checkpoint: whether the coordinator keeps the state after this step.
        """
        if memory.blank and (not self._kept or self.blank):  # whatever a run comes back to, it is this
            if self._kept or self._checkpoints:
                self._kept, self._checkpoints, self._last = {}, [], None
            return
        at = (step, exchange)
        if self._kept and next(reversed(self._kept)) >= at:
            self._kept = {other: m for other, m in self._kept.items() if other < at}
        self._kept[at], self._last = memory, (at, memory)
        while self._checkpoints and self._checkpoints[-1] >= step:
            self._checkpoints.pop()
        if checkpoint:
            self._checkpoints.append(step)
            del self._checkpoints[:-KEPT_CHECKPOINTS]
        if checkpoint and len(self._checkpoints) == KEPT_CHECKPOINTS and len(self._kept) > 1:
            # the oldest that a run may come back to starts from the memory after this step
            begun = itertools.takewhile(lambda other: other[0] <= self._checkpoints[0], self._kept)
            oldest = max(begun, default=None)
            if oldest is not None and next(iter(self._kept)) < oldest:  # else it starts from none
                self._kept = {other: m for other, m in self._kept.items() if other >= oldest}
        while len(self._kept) > MOST:
            del self._kept[next(iter(self._kept))]
