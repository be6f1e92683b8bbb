"""What is measured of a model when it has been learned: inquiries at the nodes, one after the other.

An inquiry asks everybody, with the model; what is made of the answers is *known* to the next one, and what is known
after the last is what the measure tells. The model stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hanse.codec import encode
from hanse.errors import ConfigError
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Shapes, Site
from hanse.learning import rows as preparation
from hanse.messages import Array, Json, Record
from hanse.registry import find
from hanse.typed import Typed

MEASURED = "measured"  # in the result of a run, and in the metrics of the step that ended a measure: by name


WEIGHTED = "weighted"  # known at first: whether the run has a ``weight_column``


def _no_arrays(learned: Record, known: Record) -> Shapes:
    return {}


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One question to all nodes.

    Args:
        label: for people.
        combine: how the answers come together.
        about: from the learned model and what is known so far, what nodes are asked besides the model.
        answer: a node's half, from its site, the learned model and what it is asked.
        tell: from the model, what is known and the answers, what is known then.
        sums: layout of the answers' sums; ``counts``: those that count rows (:attr:`hanse.kinds.Ask.counts`).
    """

    label: str
    combine: Combine
    about: Callable[[Record, Record], Record]
    answer: Callable[[Site, Record, Record], Contribution]
    tell: Callable[[Record, Record, Gathered], Record]
    sums: Callable[[Record, Record], Shapes] = _no_arrays
    counts: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """Where a measure stands: the ``learned`` result of the training, so many inquiries ``done``, and what is ``known``
    of them (its ``data["told"]`` is what the measure tells)."""

    learned: Record
    done: int
    known: Record


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: in which ``inquiry``, of which model, ``about`` what."""

    inquiry: int
    learned: Record
    about: Record


def measuring(module: str, inquiries: Sequence[Inquiry]) -> Typed[State, Question]:
    """A measure. ``module`` is ``__name__`` of its file, whose last part is its name."""
    return Typed(Measuring(module.rpartition(".")[2], tuple(inquiries)), State, Question)


@dataclass(frozen=True)
class Measuring:
    """A :class:`hanse.typed.Computation`; made by :func:`measuring`."""

    name: str
    inquiries: tuple[Inquiry, ...]

    @property
    def combines(self) -> frozenset[Combine]:
        """Those of its inquiries."""
        return frozenset(inquiry.combine for inquiry in self.inquiries)

    @property
    def steps(self) -> int:
        """How many it takes."""
        return len(self.inquiries)

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        """Nothing is known yet but whether rows are weighted."""
        if previous is None:
            raise ConfigError(f"{self.name} measures a model; build the run with hanse.algorithms.build")
        return State(previous, 0, Record({WEIGHTED: config.get("weight_column") is not None}))

    def ask(self, state: State) -> Ask | Done:
        """The next inquiry."""
        if state.done == len(self.inquiries):
            return Done(f"{state.learned.data.get('round', 0)} rounds")
        inquiry = self.inquiries[state.done]
        return Ask(
            encode(Question(state.done, state.learned, inquiry.about(state.learned, state.known))),
            inquiry.combine,
            inquiry.label,
            sums=inquiry.sums(state.learned, state.known),
            counts=inquiry.counts,
        )

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half."""
        if not 0 <= ask.inquiry < len(self.inquiries):
            raise ConfigError(f"{self.name} has {len(self.inquiries)} inquiries, and was asked for {ask.inquiry}")
        inquiry = self.inquiries[ask.inquiry]
        return replace(inquiry.answer(site, ask.learned, ask.about), combine=inquiry.combine)

    def tell(self, state: State, gathered: Gathered) -> State:
        """What is known with these answers."""
        known = self.inquiries[state.done].tell(state.learned, state.known, gathered)
        return replace(state, done=state.done + 1, known=known)

    def result(self, state: State) -> Record:
        """That of the training, with what this measure tells beside what others told."""
        learned, told = state.learned, self._told(state)
        before = learned.data.get(MEASURED) or {}
        return Record({**learned.data, MEASURED: {**before, **told}}, learned.arrays) if told else learned

    def metrics(self, state: State) -> Mapping[str, Json]:
        """What it tells, once it is done."""
        told = self._told(state)
        return {MEASURED: told} if told else {}

    def _told(self, state: State) -> dict[str, Json]:
        return {self.name: state.known.data["told"]} if state.done == len(self.inquiries) else {}


def prediction(learned: Record, site: Site) -> tuple[Array, Array, Array | None]:
    """Of a site's held-out rows: what the model predicts, in units of the target, their targets, and what each counts
    for (None: 1)."""
    prepared = preparation.unpack(learned)
    rows = preparation.rows(site, prepared)
    y, weight = rows.y[rows.test], None if rows.weight is None else rows.weight[rows.test]
    if not len(y):
        return np.zeros(preparation.task(prepared).shape(0)), y, weight
    found = find("models", learned.data["model_name"]).predict(learned, rows.X[rows.test])
    return np.asarray(found, np.float64), y, weight
