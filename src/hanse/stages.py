"""One algorithm after another: preparation, then training. The sequence is itself an algorithm.

The result of a stage is handed to the ``init`` of the next. The state of the sequence is the state
of the stage at work plus its index, and why learning ended where that has, so a checkpoint needs nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hanse.kinds import Algorithm, Ask, Awaited, Combine, Contribution, Done, Gathered, Site, State
from hanse.messages import Json, Record


def answers_of(algorithm: Any, sites: Sequence[Site], ask: Any) -> Sequence[Contribution]:
    """What ``algorithm`` answers at several sites of one process: at once, if it can (``answer_many``)."""
    many: Any = getattr(algorithm, "answer_many", None)
    if many is None:
        return [algorithm.answer(site, ask) for site in sites]
    found: Sequence[Contribution] = many(sites, ask)
    return found


def anew_of(algorithm: Any, state: Any, left: Sequence[str] = ()) -> Any:
    """The state from which ``algorithm`` goes on without the sum of the step that ``state`` asks for, which no attempt
    is to make any more, as a node is lost or has lost what it remembered; None where it cannot (``anew``).

    Args:
        left: the nodes that are still there; () where these are too few, so that all are asked.
    """
    begin: Any = getattr(algorithm, "anew", None)
    return None if begin is None else begin(state, left)


def learned_of(algorithm: Any, state: Any) -> Any:
    """What ``algorithm`` has learned by then, as an object that is another one where that has changed; None where it
    cannot say so (``learned``). Nothing is computed, or encoded, for it."""
    say: Any = getattr(algorithm, "learned", None)
    return None if say is None else say(state)


class Stages:
    """The algorithms in turn.

    Args:
        stages: at least one; each gets the result of the one before as ``previous``.
        config: the run's configuration, handed to each ``init``.
        learning: the place of the stage that learns; those after it only look at the model. None: the last.
    """

    def __init__(self, stages: Sequence[Algorithm], config: Mapping[str, Json], learning: int | None = None) -> None:
        self.stages, self.config = tuple(stages), config
        self._learning = len(self.stages) - 1 if learning is None else learning
        self.combines: frozenset[Combine] = frozenset(c for s in stages for c in s.combines)

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        return self._wrap(0, self.stages[0].init(config, previous))

    def ask(self, state: State) -> Ask | Done | Awaited:
        state = self._advance(state)
        index, inner = self._unwrap(state)
        ask = self.stages[index].ask(inner)
        why = state.data.get("why", "")
        if isinstance(ask, Awaited):
            return Awaited(lambda said: self._of(index, ask.ask(said), why))
        return self._of(index, ask, why)

    def _of(self, index: int, ask: Ask | Done, why: str) -> Ask | Done:
        if isinstance(ask, Done):
            return Done(why) if why else ask  # who only looks at a model does not know why it learns no more
        return dataclasses.replace(
            ask, record=self._wrap(index, ask.record), each={n: self._wrap(index, r) for n, r in ask.each.items()}
        )

    def answer(self, site: Site, ask: Record) -> Contribution:
        index, inner = self._unwrap(ask)
        return self.stages[index].answer(site, inner)

    def answer_many(self, sites: Sequence[Site], ask: Record) -> Sequence[Contribution]:
        """What several sites of one process answer, in their order; at once, where the stage can."""
        index, inner = self._unwrap(ask)
        return answers_of(self.stages[index], sites, inner)

    def tell(self, state: State, gathered: Gathered) -> State:
        state = self._advance(state)
        index, inner = self._unwrap(state)
        told = self.stages[index].tell(inner, gathered)
        after = self._advance(self._wrap(index, told, state.data.get("why", "")))
        if after.data["stage"] == index:
            return after
        # the step that ended a stage is recorded with what that stage says of it
        return Record({**after.data, "ended": dict(self.stages[index].metrics(told))}, after.arrays)

    def anew(self, state: State, left: Sequence[str] = ()) -> State | None:
        """As :func:`anew_of` says, of the stage at work."""
        state = self._advance(state)
        index, inner = self._unwrap(state)
        begun = anew_of(self.stages[index], inner, left)
        return None if begun is None else self._wrap(index, begun, state.data.get("why", ""))

    def result(self, state: State) -> Record:
        index, inner = self._unwrap(state)
        return self.stages[index].result(inner)

    def model(self, state: State) -> Record | None:
        """What has been learned so far; None before there are any parameters."""
        index, inner = self._unwrap(state)
        parameters = index == self._learning and any(name.startswith("model.") for name in inner.arrays)
        return self.stages[index].result(inner) if parameters or index > self._learning else None

    def learned(self, state: State) -> Any:
        """As :func:`learned_of` says, of the stage at work."""
        index, inner = self._unwrap(state)
        return learned_of(self.stages[index], inner)

    def metrics(self, state: State) -> Mapping[str, Json]:
        index, inner = self._unwrap(state)
        return {**state.data.get("ended", {}), **self.stages[index].metrics(inner)}

    def _advance(self, state: State) -> State:
        index, inner = self._unwrap(state)
        while index + 1 < len(self.stages) and isinstance(done := self.stages[index].ask(inner), Done):
            why = done.reason if index == self._learning else state.data.get("why", "")
            inner = self.stages[index + 1].init(self.config, self.stages[index].result(inner))
            index += 1
            state = self._wrap(index, inner, why)
        return state

    @staticmethod
    def _wrap(index: int, inner: Record, why: str = "") -> Record:
        return Record({"stage": index, "of": inner.data, **({"why": why} if why else {})}, inner.arrays)

    @staticmethod
    def _unwrap(record: Record) -> tuple[int, Record]:
        return record.data["stage"], Record(record.data["of"], record.arrays)
