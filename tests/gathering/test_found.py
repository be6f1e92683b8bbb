"""Contributions that are in: the same, and in the same order, whether they are few or lie in columns."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from hanse.gathering import _found
from hanse.gathering._found import Columns, Found
from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Combine
from hanse.messages import Record


def pairs(count: int) -> list[Any]:
    rng = np.random.default_rng(count)
    return [
        (
            Answer(f"n{i // 2:03d}", float(i % 7), {"at": i}, {"loss": float(rng.random())}, i % 2, float(i % 7)),
            Record({}, {"a.x": rng.normal(size=3), "s.y": np.array([float(i)])}),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 30])
def test_they_come_out_in_the_order_of_nodes_and_steps(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_found, "FEW", 8)
    given = pairs(count)
    for seed in range(3):
        shuffled = given[:] if seed == 0 else random.Random(seed).sample(given, count)
        found = Found(shuffled).in_order()
        assert isinstance(found, Columns) is (count >= 8)
        assert [answer for answer, _ in found] == [answer for answer, _ in given]
        for (_, record), (_, other) in zip(found, given, strict=True):
            assert record.arrays is other.arrays
        assert [found[i][0] for i in range(-count, count)] == [answer for answer, _ in given] * 2


def test_what_is_gathered_of_many_is_what_is_gathered_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    given = pairs(30)

    def of(found: Any) -> list[Any]:
        whole = Contributions(found, {}, Combine.SUM).among(["n000"], 1)
        lower = whole.weighted([1.0 + i for i in range(30)])
        left = lower.without({"n003": "late"})
        seen = []
        for one in (whole, lower, left):
            seen += [list(one.answers), one.weight, one.nbytes, one.mean()["x"].tolist(), one.sums()["y"].tolist()]
        return [*seen, left.failures]

    few = of(tuple(given))
    monkeypatch.setattr(_found, "FEW", 8)
    found = Found(given).in_order()
    assert isinstance(found, Columns)
    assert of(found) == few
    assert few[0] == [answer for answer, _ in given]
    assert few[5] == [answer._replace(weight=1.0 + i) for i, (answer, _) in enumerate(given)]
