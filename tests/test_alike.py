"""Contributions of sites that computed together are those that each would give, and leave as these do."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hanse.alike import Alike
from hanse.answers import nothing_done, replies
from hanse.errors import Unusable
from hanse.gather import Party
from hanse.gathering import plain, secure
from hanse.gathering._narrow import LEAST, NARROW
from hanse.kinds import Combine, Contribution
from hanse.messages import Record, Stack
from hanse.transforms import Chain

ODD: list[dict[str, Any]] = [
    {"n": 3.0},
    {"loss": math.nan, "n": 2.0},
    {"said": None, "n": 4},
    {"n": 10**400, "x": -0.5},
]


def alike(combine: Combine | None = Combine.SUM, arrays: Any = None) -> Alike:
    arrays = arrays or Stack({"w": np.arange(8.0).reshape(4, 2)}).rows()
    return Alike(Contribution(Record({"lost": True}), combine=combine, update=True), arrays, [1.0, 2, 0.5, 0.0], ODD)


def asked(**own: Any) -> Any:
    given = {"guarantee": None, "combine": "sum", "gather": plain.Plain(), "chain": Chain([]), "source": None, **own}
    terms = SimpleNamespace(guarantee=given["guarantee"], gathers={Combine(given["combine"]): given["gather"]})
    task = SimpleNamespace(how=given["combine"], op="answer")
    run, site = SimpleNamespace(transforms=given["chain"]), SimpleNamespace(source=given["source"])
    return SimpleNamespace(task=task, terms=terms, run=run, site=site)


@pytest.mark.parametrize(
    "of", [Contribution(Record({}, {"a": np.ones(1)})), Contribution(Record(), sums={"n": np.ones(1)})]
)
def test_what_all_have_in_common_has_no_arrays(of: Contribution) -> None:
    with pytest.raises(ValueError, match="no arrays"):
        Alike(of, [], [], [])


def test_there_are_as_many_weights_as_sites() -> None:
    with pytest.raises(ValueError, match="4 arrays, 1 weights and 4 metrics"):
        Alike(Contribution(Record()), alike().arrays, [1.0], ODD)


@pytest.mark.parametrize("combine", [Combine.SUM, Combine.EACH])
@pytest.mark.parametrize("stacked", [True, False])
def test_each_leaves_as_it_would_by_itself(combine: Combine, stacked: bool) -> None:
    """With metrics that are no finite numbers, and whole numbers that travel narrow."""
    arrays = None if stacked else [{"w": np.full(LEAST, n)} for n in range(4)]
    found = alike(combine, arrays)
    gather = plain.Plain()
    for one, contribution in zip(gather.replies("answer", found), found, strict=True):
        record = gather.reply("answer", Record(), lambda ask, said=contribution: said, Party("a"))  # type: ignore[misc]
        assert [*one.data.items()] == [*record.data.items()]
        assert (NARROW in one.data) is (combine is Combine.SUM and not stacked)
        assert one.data["metrics"] is not contribution.metrics  # a site may go on with its own
        assert [*one.arrays] == [*record.arrays]
        assert all(np.array_equal(a, record.arrays[name]) for name, a in one.arrays.items())
    with pytest.raises(Unusable, match="no operation"):
        gather.replies("mask", found)


def test_nothing_is_done_to_them_where_nobody_is_there_to_do_it() -> None:
    first = asked()
    assert nothing_done([first])
    task_of_its_own, terms_of_its_own = asked(), asked()
    task_of_its_own.terms, terms_of_its_own.task = first.terms, first.task
    assert not nothing_done([first, task_of_its_own])
    assert not nothing_done([first, terms_of_its_own])
    for own in (
        {"guarantee": object()},
        {"combine": "agree"},
        {"gather": object.__new__(secure.Secure)},
        {"chain": Chain([{"name": "clip", "norm": 1.0}])},
        {"source": object()},
    ):
        assert not nothing_done([asked(**own)]), own
        last = asked(**own)
        last.task, last.terms = first.task, first.terms
        assert nothing_done([first, last]) is not bool({"chain", "source"} & set(own)), own


@pytest.mark.parametrize("found", [[], list(alike()), alike(Combine.EACH), alike(None)], ids=lambda found: type(found))
def test_what_was_not_asked_for_is_looked_at_one_by_one(found: Any) -> None:
    """A contribution that does not say how it combines, that says something else, or that stands for itself."""
    none: Any = None
    assert replies([none] * 4, [asked()] * 4, found) is None
