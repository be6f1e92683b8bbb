"""An algorithm that speaks in values, as one that speaks in records.

The loop, the journal and the wire know records; whoever writes an algorithm rather has values with types. ``Typed``
stands between them: a state or an ask is decoded when it comes in and checked field by field (:mod:`hanse.codec`), and
encoded when it goes out. A state that this process has made carries its value along: each step looks at it three times.
So does an ask that does not leave the process once a site has decoded it: a simulation may have thousands of sites.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from hanse.codec import Known, decode, encode
from hanse.kinds import Ask, Awaited, Combine, Contribution, Done, Gathered, Site, State
from hanse.messages import Array, Json, Record
from hanse.stages import anew_of, answers_of

S = TypeVar("S")  # the state
Q = TypeVar("Q", contravariant=True)  # what a node is asked


class Computation(Protocol[S, Q]):
    """:class:`hanse.kinds.Algorithm` with a state ``S`` and questions ``Q`` that are frozen dataclasses.

    An ask of it carries ``encode(question)`` as its record.
    """

    @property
    def combines(self) -> Collection[Combine]: ...

    def init(self, config: Mapping[str, Json], previous: Record | None) -> S: ...

    def ask(self, state: S) -> Ask | Done | Awaited: ...

    def answer(self, site: Site, ask: Q) -> Contribution: ...

    def tell(self, state: S, gathered: Gathered) -> S: ...

    def result(self, state: S) -> Record: ...

    def metrics(self, state: S) -> Mapping[str, Json]: ...


class _Made:
    """A state that was made here, which becomes a record when somebody looks at that: what is asked next leaves before
    the state that it follows from is measured, or kept."""

    __slots__ = ("_record", "known", "value")

    def __init__(self, value: Any, known: Known) -> None:
        self.value, self.known = value, known
        self._record: Record | None = None

    @property
    def record(self) -> Record:
        if self._record is None:
            self._record = encode(self.value, self.known)
        return self._record


class _Part(Mapping[str, Any]):
    """Its JSON (``data``), or its ``arrays``. It does not change: a state is never written to."""

    __slots__ = ("_name", "of")

    def __init__(self, of: _Made, name: str) -> None:
        self.of, self._name = of, name

    @property
    def _all(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = getattr(self.of.record, self._name)
        return found

    def __getitem__(self, name: str) -> Any:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def values(self) -> ValuesView[Any]:
        return self._all.values()


class _Sent(dict[str, Json]):
    """The JSON of an ask, with the arrays that belong to it and its value, as soon as somebody here has decoded it."""

    __slots__ = ("arrays", "value")

    def __init__(self, record: Record) -> None:
        super().__init__(record.data)
        self.arrays: Mapping[str, Array] = record.arrays
        self.value: Any = None


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
        return self._made(self.inner.init(config, previous))

    def ask(self, state: State) -> Ask | Done | Awaited:
        """What to ask in this state."""
        ask = self.inner.ask(self._value(state))
        return (
            ask
            if isinstance(ask, (Done, Awaited))
            else replace(ask, record=Record(_Sent(ask.record), ask.record.arrays))
        )

    def answer(self, site: Site, ask: Record) -> Contribution:
        """The node's half. Raises ``WireError`` for an ask that is not one of this computation."""
        return self.inner.answer(site, self._asked(ask))

    def answer_many(self, sites: Sequence[Site], ask: Record) -> Sequence[Contribution]:
        """What several sites of one process answer, in their order; at once, where the computation can."""
        return answers_of(self.inner, sites, self._asked(ask))

    def tell(self, state: State, gathered: Gathered) -> State:
        """The next state."""
        return self._made(self.inner.tell(self._value(state), gathered), state)

    def anew(self, state: State, left: Sequence[str] = ()) -> State | None:
        """As :func:`hanse.stages.anew_of` says, of the computation."""
        begun = anew_of(self.inner, self._value(state), left)
        return None if begun is None else self._made(begun, state)

    def result(self, state: State) -> Record:
        """What the data scientist gets."""
        return self.inner.result(self._value(state))

    def metrics(self, state: State) -> Mapping[str, Json]:
        """Numbers about the last step."""
        return self.inner.metrics(self._value(state))

    def learned(self, state: State) -> Any:
        """As :func:`hanse.stages.learned_of` says: what the state calls its model."""
        return getattr(self._value(state), "model", None)

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
        return self._made(inner.begun(self._value(state), start))

    def _asked(self, ask: Record) -> Any:
        sent = ask.data
        if type(sent) is not _Sent or sent.arrays is not ask.arrays:
            return decode(self.question, ask)
        if type(sent.value) is not self.question:
            sent.value = decode(self.question, ask)
        return sent.value

    def _value(self, state: State) -> S:
        made = _behind(state)
        if made is not None and type(made.value) is self.state:
            known: S = made.value
            return known
        return decode(self.state, state)

    @staticmethod
    def _made(value: S, before: State | None = None) -> State:
        """``before``: the state that it follows, with which it shares all that the step did not change."""
        follows = None if before is None else _behind(before)
        made = _Made(value, {} if follows is None else dict(follows.known))
        return Record(_Part(made, "data"), _Part(made, "arrays"))


def _behind(state: State) -> _Made | None:
    """What its record is made of, where that was made here."""
    data, arrays = state.data, state.arrays
    return data.of if type(data) is _Part and type(arrays) is _Part and data.of is arrays.of else None
