"""An algorithm that speaks in values, as one that speaks in records.

The loop, the journal and the wire know records; whoever writes an algorithm rather has values with types. ``Typed``
stands between them: a state or an ask is decoded when it comes in and checked field by field (:mod:`hanse.codec`), and
encoded when it goes out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hanse.codec import decode, encode
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site, State
from hanse.messages import Json, Record
from hanse.stages import answers_of

S = TypeVar("S")  # the state
Q = TypeVar("Q", contravariant=True)  # what a node is asked


class Computation(Protocol[S, Q]):
    """:class:`hanse.kinds.Algorithm` with a state ``S`` and questions ``Q`` that are frozen dataclasses.

    An ask of it carries ``encode(question)`` as its record.
    """

    @property
    def combines(self) -> Collection[Combine]: ...

    def init(self, config: Mapping[str, Json], previous: Record | None) -> S: ...

    def ask(self, state: S) -> Ask | Done: ...

    def answer(self, site: Site, ask: Q) -> Contribution: ...

    def tell(self, state: S, gathered: Gathered) -> S: ...

    def result(self, state: S) -> Record: ...

    def metrics(self, state: S) -> Mapping[str, Json]: ...


@dataclass(frozen=True)
class Typed(Generic[S, Q]):
    """A :class:`hanse.kinds.Algorithm` made of a :class:`Computation`.

    Args:
        inner: the computation.
        state, question: its types.
    """

    inner: Computation[S, Q]
    state: type[S]
    question: type[Q]

    @property
    def combines(self) -> Collection[Combine]:
        """Those of the computation."""
        return self.inner.combines

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        """The first state."""
        return encode(self.inner.init(config, previous))

    def ask(self, state: State) -> Ask | Done:
        """What to ask in this state."""
        return self.inner.ask(decode(self.state, state))

    def answer(self, site: Site, ask: Record) -> Contribution:
        """The node's half. Raises ``WireError`` for an ask that is not one of this computation."""
        return self.inner.answer(site, decode(self.question, ask))

    def answer_many(self, sites: Sequence[Site], ask: Record) -> list[Contribution]:
        """What several sites of one process answer, in their order; at once, where the computation can."""
        return answers_of(self.inner, sites, decode(self.question, ask))

    def tell(self, state: State, gathered: Gathered) -> State:
        """The next state."""
        return encode(self.inner.tell(decode(self.state, state), gathered))

    def result(self, state: State) -> Record:
        """What the data scientist gets."""
        return self.inner.result(decode(self.state, state))

    def metrics(self, state: State) -> Mapping[str, Json]:
        """Numbers about the last step."""
        return self.inner.metrics(decode(self.state, state))

    @property
    def updates(self) -> bool:
        """Whether its contributions are changes of common parameters (:mod:`hanse.algorithms`)."""
        return bool(getattr(self.inner, "updates", False))

    def averages(self, options: Mapping[str, Json]) -> bool:
        """Whether a node's weight decides what it counts for (:mod:`hanse.algorithms`)."""
        inner: Any = self.inner
        return bool(inner.averages(options)) if hasattr(inner, "averages") else True

    def begun(self, state: State, start: Record) -> State:
        """The state that goes on from the model ``start``, the result of an earlier run; for computations that learn a
        model. Raises ``ConfigError`` where the two do not fit."""
        inner: Any = self.inner
        return encode(inner.begun(decode(self.state, state), start))
