"""Pairs of columns that were told before, compared with those that are asked: each group by each, and quickly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest

from hanse.algorithms._pairs_before import Pair, Told, _Rows
from hanse.queries import TableSource
from hanse.table import Column, ColumnKind, Table

WARDS, SITES = (tuple(f"{kind}{k:02}" for k in range(30)) for kind in ("ward", "site"))
COLUMNS = tuple("uvwxyz")
LEAST = 5


def source(rows: int, missing: Sequence[float]) -> TableSource:
    rng = np.random.default_rng(4)
    columns = {
        name: Column(ColumnKind.NUMERIC, np.where(rng.random(rows) < share, np.nan, 1.0))
        for name, share in zip(COLUMNS, missing, strict=True)
    }
    for name, labels in (("site", SITES), ("ward", WARDS)):
        codes = rng.integers(0, len(labels), rows).astype(np.int32)
        columns[name] = Column(ColumnKind.CATEGORICAL, codes, labels)
    return TableSource(Table(columns))


def told(pairs: Sequence[Pair]) -> Told:
    groups: dict[Any, Any] = {("site",): {(one,) for one in SITES}, ("ward",): {(one,) for one in WARDS}}
    return {pair: groups for pair in pairs}


def compared(there: TableSource) -> dict[tuple[Pair, Pair], bool]:
    pairs = [Pair(pair) for pair in combinations(COLUMNS, 2)]
    rows = _Rows(there, COLUMNS, {"site": SITES, "ward": WARDS})
    return {
        (one, two): rows.differ_by_few(one, two, told(pairs), LEAST)
        for one in pairs
        for two in pairs
        if one & two and one != two
    }


def test_tables_of_groups_are_made_once_for_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twelve columns by two groupings of 300 labels, making them for each two pairs took a minute."""
    made: list[Any] = []
    count = np.bincount

    def counted(*given: Any) -> Any:
        made.append(given)
        return count(*given)

    monkeypatch.setattr(np, "bincount", counted)
    found = compared(source(50_000, [0.3, 0.4, 0.5, 0.3, 0.4, 0.5]))
    assert len(found) == 120
    assert not any(found.values())
    sets = comb(len(COLUMNS), 2) + comb(len(COLUMNS), 3)  # pairs, and what is in both of two that share a column
    assert len(made) <= 3 * sets  # by site, by ward, and by both


def test_whichever_of_two_pairs_comes_first_they_differ_by_few_or_do_not() -> None:
    found = compared(source(20_000, [0.0, 0.002, 0.3, 0.3, 0.3, 0.3]))
    assert {*found.values()} == {True, False}
    assert all(few == found[two, one] for (one, two), few in found.items())
    assert found[Pair("uw"), Pair("vw")]  # a person or two of a ward lack v
