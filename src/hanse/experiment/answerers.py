"""The sites of a simulated run: each comes into being when it is asked, and goes when it has nothing to remember."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hanse.answers import Answerer
from hanse.memories import NodeMemory


class Answerers:
    """Site to what answers for it.

    Args:
        run: name of the run.
        make: makes one, by the site's name: one that has forgotten nothing answers as a new one does.
        kept: the most sites that are kept with their rows when they have answered; of others only what they remember
            stays. None: all.
    """

    def __init__(self, run: str, make: Callable[[str], Answerer], kept: int | None = None) -> None:
        self.run, self._make, self._kept = run, make, kept
        self._awake: dict[str, Answerer] = {}  # that have their rows at hand, least recently asked first
        self._asleep: dict[str, Answerer] = {}  # that only remember
        self._busy: dict[str, Answerer] = {}  # that are at work
        # at how many more tasks than one these are: what nobody waits for is worked on to its end
        self._more: dict[str, int] = {}
        self._looking = threading.Lock()

    def __len__(self) -> int:
        return len(self._awake) + len(self._asleep)

    @contextmanager
    def at_work(self, nodes: Sequence[str]) -> Iterator[list[Answerer]]:
        """Those of these sites; no other thread lets them rest until the block is left."""
        with self._looking:
            found = [self._taken(node) for node in nodes]
        try:
            yield found
        finally:
            with self._looking:
                for node in nodes:
                    self._left(node)
                while self._kept is not None and len(self._awake) > self._kept:
                    self._rest(next(iter(self._awake)))

    def memories(self, step: int) -> dict[str, NodeMemory]:
        """What each site remembers, as it was before ``step``, of those that remember anything."""
        with self._looking:
            there = {**self._asleep, **self._awake, **self._busy}
            found = {node: answerer.memory(self.run, step) for node, answerer in there.items()}
        return {node: memory for node, memory in found.items() if not memory.blank}

    def _taken(self, node: str) -> Answerer:
        found = self._busy.get(node)
        if found is None:
            found = self._awake.pop(node, None) or self._asleep.pop(node, None) or self._make(node)
            self._busy[node] = found
        else:
            self._more[node] = self._more.get(node, 0) + 1
        return found

    def _left(self, node: str) -> None:
        if self._more and (more := self._more.pop(node, 0)):
            if more > 1:
                self._more[node] = more - 1
        else:
            self._awake[node] = self._busy.pop(node)

    def _rest(self, node: str) -> None:
        answerer = self._awake.pop(node)
        answerer.rest(self.run)
        if answerer.remembers(self.run):
            self._asleep[node] = answerer
