"""What a node holds while trees are grown of its rows: little more than their bins."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from drive import Drive
from test_boosting import settings, shares, table_of

from hanse.algorithms import _boosting_site
from hanse.boosting import workspace
from hanse.kinds import Contribution, Site
from hanse.messages import Record
from hanse.table import Column, ReadColumns, Table

ROWS, COLUMNS = 400_000, 30


def made(name: str) -> Column:
    """As a file's: it is there when it is asked for, and nobody keeps it."""
    if name == "y":
        return Column.numeric((made("x0").values + made("x1").values > 0).astype(np.float64))
    return Column.numeric(np.random.default_rng(int(name[1:])).normal(size=ROWS))


@pytest.mark.long
@pytest.mark.parametrize(
    ("more", "most"),
    [
        ({}, 2.1),
        ({"test_fraction": 0.0}, 1.85),
        ({"test_fraction": 0.0, "model_options": {"subsample": 0.5, "max_depth": 3}}, 2.3),
    ],
)
def test_a_node_holds_about_twice_its_binned_data(
    more: dict[str, Any], most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first question of the preparation on; what libraries and the allocator keep comes to it
    (``bench/boosting.py`` measures that). Of few rows bins are held twice, and these count as many."""
    monkeypatch.setattr(workspace, "_BY_COLUMN", 0)
    table = Table(ReadColumns(ROWS, (*(f"x{i}" for i in range(COLUMNS)), "y"), made))
    drive, asks = Drive({"a": table}, **settings("binary", num_rounds=2, **more)), []
    answer = drive.algorithm.answer

    def noted(site: Site, ask: Record) -> Contribution:
        asks.append(ask)
        return answer(site, ask)

    drive.algorithm.answer = noted  # type: ignore[method-assign]
    drive.run()
    site = Site("a", table, drive.config.to_json())  # once more, without a coordinator in the same memory
    tracemalloc.start(1)
    try:
        for step, ask in enumerate(asks):
            site.step = step
            answer(site, ask)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert drive.labels.count("train") == 6
    assert 1.2 < peak / (ROWS * COLUMNS) < most


def test_what_all_sites_agreed_on_is_taken_in_once_and_not_with_each_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Record] = []
    real = _boosting_site.Learner.__init__

    def counted(self: Any, prepared: Record, *given: Any) -> None:
        made.append(prepared)
        real(self, prepared, *given)

    monkeypatch.setattr(_boosting_site.Learner, "__init__", counted)
    tables = shares(table_of("binary"), 60, 50)
    Drive(tables, **settings("binary", num_rounds=4)).run()  # of which each ask comes as over a line
    assert len(made) == len(tables)


def test_other_words_or_numbers_are_not_what_was_told_before() -> None:
    told = Record({"classes": ["a", "b"]}, {"mean": np.zeros(2)})
    assert _boosting_site._same(told, Record({"classes": ["a", "b"]}, {"mean": np.zeros(2)}))
    for other in (
        Record({"classes": ["a", "c"]}, told.arrays),
        Record(dict(told.data), {"mean": np.ones(2)}),
        Record(dict(told.data), {"mean": np.zeros(2, np.float32)}),
        Record(dict(told.data), {"mean": np.zeros(2), "more": np.zeros(1)}),
    ):
        assert not _boosting_site._same(told, other)
