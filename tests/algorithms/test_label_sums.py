"""Labels from sums: all of them, exactly, or none; and nothing of which site has which."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.algorithms import _label_sums as sums
from tests.examples import examples

WORDS = st.dictionaries(st.text(max_size=30), st.integers(1, 10**6), max_size=60)


def of_sites(sites: list[dict[str, int]]) -> tuple[sums.Counted | None, dict[str, int]]:
    size = sums.cells(sum(sums.rounded(len(site)) for site in sites))
    tables = [sums.table(list(site), np.array(list(site.values()), np.int64), size) for site in sites]
    true: dict[str, int] = {}
    for site in sites:
        for label, rows in site.items():
            true[label] = true.get(label, 0) + rows
    return sums.counted(np.sum(tables, axis=0)), true


def spelled(sites: list[dict[str, int]], of: sums.Counted) -> list[str] | None:
    length = int(of.lengths.max(initial=1))
    parts = [sums.spelled(list(s), np.array(list(s.values()), np.int64), of.keys, length) for s in sites]
    return sums.words(np.sum(parts, axis=0), of)


@examples(25)
@given(st.lists(WORDS, min_size=1, max_size=5))
def test_every_label_of_all_sites_is_found_with_its_rows(sites: list[dict[str, int]]) -> None:
    found, true = of_sites(sites)
    assert found is not None
    names = spelled(sites, found)
    assert names is not None
    assert dict(zip(names, found.rows.tolist(), strict=True)) == true


@pytest.mark.parametrize("labels", [1, 1000, 20_000])
def test_of_many_labels_too(labels: int) -> None:
    rng = np.random.default_rng(labels)
    sites = [{f"label {k}": int(rng.integers(1, 50)) for k in rng.integers(0, labels, labels)} for _ in range(4)]
    found, true = of_sites(sites)
    assert found is not None
    assert len(found.keys) == len(true)
    assert sorted(found.rows.tolist()) == sorted(true.values())


def test_a_table_that_is_too_small_or_was_meddled_with_tells_nothing() -> None:
    labels = [f"label {k}" for k in range(5000)]
    assert sums.counted(sums.table(labels, np.ones(5000, np.int64), 1100)) is None  # 1.1 labels a cell
    whole = sums.table(labels[:50], np.ones(50, np.int64), 1024)
    assert sums.counted(whole) is not None
    for change in (1, -1, 7 << 30):
        broken = whole.copy()
        broken[np.flatnonzero(whole[:, 0])[3], 1] += change
        assert sums.counted(broken) is None


def test_words_that_are_not_those_of_the_keys_are_none() -> None:
    [site] = sites = [{"f": 12, "m": 30}]
    found, _ = of_sites(sites)
    assert found is not None
    assert {*(spelled(sites, found) or ())} == {*site}
    wrong = sums.spelled(["f", "m"], np.array([12, 29]), found.keys, 1)  # a row less than was counted
    assert sums.words(wrong, found) is None
    assert sums.words(-wrong, found) is None


def test_long_labels_are_counted_and_say_that_they_are_long() -> None:
    found, _ = of_sites([{"x" * 5000: 20, "y" * sums.LONGEST: 11}])
    assert found is not None
    assert sorted(found.lengths.tolist()) == [sums.LONGEST, sums.LONGEST + 1]


def test_how_many_labels_a_site_has_is_told_as_a_power_of_two() -> None:
    assert [sums.rounded(n) for n in (0, 1, 64, 65, 1000, 100_000)] == [64, 64, 64, 128, 1024, 131_072]


def test_what_a_site_sends_is_as_large_whatever_labels_it_has() -> None:
    assert sums.table(["a"], np.ones(1, np.int64), 1024).shape == sums.table([], np.zeros(0, np.int64), 1024).shape
