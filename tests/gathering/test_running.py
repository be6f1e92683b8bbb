"""Sums of whole numbers that are checked and added up while other nodes are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from hanse.errors import Unusable
from hanse.gather import Party, Reply
from hanse.gathering.plain import Plain
from hanse.kinds import Ask, Combine, Contribution, Gathered
from hanse.messages import Array, Record, dump, load

FORMS: Any = {"n": ("int64", (3, 2)), "rows": ("int64", (1,))}
N = np.arange(6).reshape(3, 2)


def sent(number: int, weight: float = 1.0, forms: tuple[int, ...] = (3, 2)) -> Record:
    """A reply as it comes over a line, in memory that nobody may write to."""
    record = Record({}, {"n": (N + (number << 40)).reshape(forms), "rows": np.array([number])})
    contribution = Contribution(record, weight, combine=Combine.SUM)
    return load(dump(Plain().reply("answer", Record({}), lambda _: contribution, Party("a"))))


def collected(bodies: Sequence[Record], log: list[str], lies: Sequence[int] = ()) -> Gathered:
    """What ``a``, ``b``, ... sent in this order; the log has what happened when."""

    def fault(arrays: Mapping[str, Array]) -> str:
        number = int(arrays["rows"][0])
        log.append(f"looked at {number}")
        if number == 99:
            raise ZeroDivisionError
        return "it lies" if number in lies else ""

    async def exchange(asks: Mapping[str, Record], op: str = "answer", need: int | None = None) -> AsyncIterator[Reply]:
        for node, body in zip("abcdef", bodies, strict=False):
            yield Reply(node, 0, body)
        log.append("all are in")

    ask = Ask(Record({}), Combine.SUM, "train", arrays=FORMS, sums={}, fault=fault)
    return asyncio.run(Plain().collect(ask, {}, exchange))


def test_each_is_looked_at_once_and_when_it_comes() -> None:
    log: list[str] = []
    bodies = [sent(k) for k in (1, 2, 4)]
    gathered = collected(bodies, log)
    assert log == ["looked at 1", "looked at 2", "looked at 4", "all are in"]
    found = gathered.sum()
    assert np.array_equal(found["n"], 3 * N + (7 << 40))
    assert found["rows"].tolist() == [7]
    found["n"] += 1  # it is whoever asked for it that may write to it
    assert np.array_equal(gathered.sum()["n"], 3 * N + (7 << 40))
    assert len(log) == 4
    assert [body.arrays["a.rows"][0] for body in bodies] == [1, 2, 4]


def test_a_sum_of_one_is_not_the_contribution_itself() -> None:
    gathered = collected([sent(1)], [])
    gathered.sum()["n"][:] = 0
    assert np.array_equal(gathered.sum()["n"], N + (1 << 40))


def test_who_lies_is_named_and_the_others_are_not_looked_at_again() -> None:
    log: list[str] = []
    gathered = collected([sent(k) for k in (1, 2, 4, 8)], log, lies=(2, 8))
    with pytest.raises(Unusable) as said:
        gathered.sum()
    assert said.value.nodes == {"b": "it lies", "d": "it lies"}
    found = gathered.without(said.value.nodes).sum()
    assert np.array_equal(found["n"], 2 * N + (5 << 40))
    assert len(log) == 5


def test_whom_others_leave_out_is_in_no_sum() -> None:
    gathered = collected([sent(k) for k in (1, 2, 4)], [])
    assert gathered.without({"b": "it counts more rows than it declared"}).sum()["rows"].tolist() == [5]


@pytest.mark.parametrize(
    ("odd", "said"), [(sent(8, forms=(2, 3)), "other names, types or shapes"), (sent(8, weight=2.0), None)]
)
def test_what_is_odd_is_judged_when_all_are_in(odd: Record, said: str | None) -> None:
    gathered = collected([sent(1), odd, sent(2)], [])
    if said is None:
        assert gathered.sum()["rows"].tolist() == [19]
        return
    with pytest.raises(Unusable, match=said):
        gathered.sum()
    assert gathered.without({"b": ""}).sum()["rows"].tolist() == [3]


def test_a_check_that_breaks_breaks_where_it_always_did() -> None:
    gathered = collected([sent(1), sent(99), sent(2)], [])
    with pytest.raises(ZeroDivisionError):
        gathered.sum()
