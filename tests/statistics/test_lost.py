"""A node that is lost between two asks: all numbers are of the same rows, or there are none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pooled import ask

import hanse
from hanse.algorithms.statistics import AGAIN, Statistics
from hanse.errors import DataError, RunFailed
from hanse.queries import make_item
from tests.examples import examples

SITES = ("a", "b", "c", "d")


def frames() -> dict[str, pd.DataFrame]:
    """Sites whose means are far apart, so that a sum about another mean would be seen."""
    rng = np.random.default_rng(0)
    return {
        name: pd.DataFrame({"x": rng.normal(100 * i, 1 + i, 30), "g": rng.choice(["u", "v"], 30)})
        for i, name in enumerate(SITES)
    }


ITEMS = [
    make_item("mean", ["x"], {}),
    make_item("variance", ["x"], {"ddof": 1}),
    make_item("count", ["x"], {}),
    make_item("quantile", ["x"], {"q": [0.5]}),
]


@given(answering=st.lists(st.sets(st.sampled_from(SITES), min_size=1), min_size=1, max_size=8))
@examples(20)
def test_whoever_answers_which_ask_all_numbers_are_of_the_same_rows(answering: list[set[str]]) -> None:
    left = set.intersection(*answering)
    if not left:
        return

    def there(site: str, number: int) -> bool:
        return site in (answering[number] if number < len(answering) else left)

    found = ask(frames(), ITEMS, there)
    rows = pd.concat(frames()[site] for site in found.nodes)["x"]
    assert {tuple(took) for took in found.took} == {found.nodes}
    assert found.value(ITEMS[2]) == len(rows)
    assert math.isclose(_number(found.value(ITEMS[0])), rows.mean(), rel_tol=1e-12)
    assert math.isclose(_number(found.value(ITEMS[1])), rows.var(), rel_tol=1e-10)


def test_who_is_lost_on_the_way_is_in_no_number() -> None:
    found = ask(frames(), ITEMS, lambda site, number: not (site == "d" and number > 0))
    assert found.nodes == ("a", "b", "c")
    whole = ask({name: frame for name, frame in frames().items() if name != "d"}, ITEMS)
    for item in ITEMS:
        assert found.value(item) == whole.value(item)


def _number(value: Any) -> float:
    assert isinstance(value, float), value
    return value


@pytest.mark.parametrize("lost", [1, 2])
def test_two_that_are_lost_one_after_the_other(lost: int) -> None:
    found = ask(
        frames(),
        ITEMS,
        lambda site, number: not ((site == "d" and number >= lost) or (site == "b" and number >= lost + 2)),
    )
    assert found.value(ITEMS[2]) == 30 * len(found.nodes)
    assert {tuple(took) for took in found.took} == {found.nodes}


@pytest.mark.parametrize("lost", [1, AGAIN, AGAIN + 1])
def test_owners_consent_to_beginning_anew(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that failed at a late step took all others with it: that all are asked again then was more steps than any
    owner had consented to."""
    answer = Statistics.answer

    def failing(self: Any, site: Any, asked: Any) -> Any:
        if asked.ask == 2 and site.node == f"s{asked.again}" and asked.again < lost:
            raise DataError("a file that cannot be read")
        return answer(self, site, asked)

    monkeypatch.setattr(Statistics, "answer", failing)
    rng = np.random.default_rng(0)
    rows = {f"s{i}": pd.DataFrame({"x": rng.normal(50, 10, 60)}) for i in range(8)}
    analytics = hanse.simulate(rows).analytics()
    if lost > AGAIN:
        with pytest.raises(RunFailed, match="steps that owners consented to are used up"):
            analytics.median("x")
        return
    found = analytics.ask("median", ["x"])
    assert sorted(found.failures) == [f"s{i}" for i in range(lost)]
    assert all("cannot be read" in why for why in found.failures.values())
    [median] = found.values("median").values()
    assert median.least <= np.median(np.concatenate([rows[name].x for name in found.nodes])) <= median.most
