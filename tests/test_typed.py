"""Algorithms that speak in values: a state is decoded where it comes from elsewhere, and carried along where it does
not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pytest

from hanse.codec import ArrayOf, encode
from hanse.errors import WireError
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site
from hanse.messages import Array, Json, Record, digest, dump, dumps, load
from hanse.stages import Stages
from hanse.table import Table
from hanse.typed import Typed


@dataclass(frozen=True, slots=True)
class State:
    count: int
    total: Annotated[Array, ArrayOf("float64", "numbers")]


@dataclass(frozen=True, slots=True)
class Question:
    count: int


class Counting:
    """Adds one a step."""

    combines = frozenset({Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        return State(0, np.zeros(2))

    def ask(self, state: State) -> Ask | Done:
        return Done("enough")

    def answer(self, site: Site, ask: Question) -> Contribution:
        raise NotImplementedError

    def tell(self, state: State, gathered: Gathered) -> State:
        return State(state.count + 1, state.total + 1)

    def result(self, state: State) -> Record:
        return Record({"count": state.count}, {"total": state.total})

    def metrics(self, state: State) -> Mapping[str, Json]:
        return {"count": state.count}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was decoded."""
    found: list[Any] = []
    real = __import__("hanse.typed", fromlist=["decode"]).decode

    def noted(kind: Any, record: Record) -> Any:
        found.append(record)
        return real(kind, record)

    monkeypatch.setattr("hanse.typed.decode", noted)
    return found


ALGORITHM = Typed(Counting(), State, Question)
NOTHING: Any = None


def test_a_state_of_this_process_is_not_decoded_and_one_that_was_stored_is(decoded: list[Any]) -> None:
    whole = Stages([ALGORITHM], {})
    here = stored = whole.init({})
    for _ in range(3):
        here, stored = whole.tell(here, NOTHING), whole.tell(load(dump(stored)), NOTHING)
        assert whole.metrics(here) == whole.metrics(stored)
    assert len(decoded) == 3
    assert digest(here) == digest(stored)
    assert digest(whole.result(here)) == digest(whole.result(load(dump(stored))))


def test_a_state_becomes_a_record_when_somebody_looks_at_it_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked next, for which nodes wait, waits for no record of what it follows from."""
    made: list[Any] = []

    def noted(value: Any, *known: Any) -> Record:
        made.append(value)
        return encode(value, *known)

    monkeypatch.setattr("hanse.typed.encode", noted)
    whole = Stages([ALGORITHM], {})
    first = whole.tell(whole.init({}), NOTHING)
    second = whole.tell(first, NOTHING)
    whole.ask(second)
    assert not made
    assert second.nbytes == 16
    assert dumps(second.data) == '{"of":{"count":2},"stage":0}'
    assert {name: array.tolist() for name, array in second.arrays.items()} == {"total": [2.0, 2.0]}
    assert len(made) == 1
    assert digest(first) == digest(whole.tell(whole.init({}), NOTHING))  # the one before says what it was


def test_other_arrays_beside_the_same_words_are_another_state(decoded: list[Any]) -> None:
    state = ALGORITHM.tell(ALGORITHM.init({}), NOTHING)
    other = Record(state.data, {"total": np.array([5.0, 6.0])})
    assert ALGORITHM.result(other).arrays["total"].tolist() == [5.0, 6.0]
    assert len(decoded) == 1
    with pytest.raises(WireError, match="total of State is missing"):
        ALGORITHM.metrics(Record(state.data, {}))


def test_a_state_of_another_algorithm_is_not_taken_for_ones_own() -> None:
    state = ALGORITHM.init({})
    other: Any = Counting()
    with pytest.raises(WireError, match="total of Question is not known"):
        Typed(other, Question, Question).metrics(state)


class Asking(Counting):
    """Asks for the count, and is told what it asked."""

    def ask(self, state: State) -> Ask | Done:
        return Ask(encode(Question(state.count)), Combine.SUM, "ask")

    def answer(self, site: Site, ask: Question) -> Contribution:
        return Contribution(Record({"asked": ask.count}))


def test_an_ask_that_stays_in_the_process_is_decoded_once_and_one_that_travelled_each_time(decoded: list[Any]) -> None:
    algorithm = Stages([Typed(Asking(), State, Question)], {})
    ask = algorithm.ask(algorithm.init({}))
    assert isinstance(ask, Ask)
    sites = [Site(f"site-{number}", Table(), {}) for number in range(5)]
    assert [algorithm.answer(site, ask.record).record.data for site in sites] == [{"asked": 0}] * 5
    assert len(decoded) == 1
    there = load(dump(ask.record))
    assert [algorithm.answer(site, there).record.data for site in sites] == [{"asked": 0}] * 5
    assert len(decoded) == 6
    other = Record({"stage": 0, "of": {**there.data["of"], "count": "many"}}, ask.record.arrays)
    with pytest.raises(WireError, match="count"):
        algorithm.answer(sites[0], other)
