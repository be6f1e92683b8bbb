"""A node that is lost between two asks: all numbers are of the same rows, or there are none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pooled import ask

from hanse.queries import make_item

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
@settings(max_examples=40, deadline=None)
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
