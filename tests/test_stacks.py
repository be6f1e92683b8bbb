"""Arrays of many records that lie in one: each record has its own, by name, as if they lay apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from hanse.errors import Unusable
from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Combine
from hanse.messages import Layout, Record, Row, Stack, Together, digest, dump, load, prefixed, under

Arrays = Mapping[str, np.ndarray[Any, Any]]


def stack(records: int = 4, seed: int = 0) -> Stack:
    rng = np.random.default_rng(seed)
    wide = rng.normal(size=(3, 5, records)).astype(np.float32).transpose(2, 1, 0)  # does not lie as it travels
    return Stack({"w": wide, "b": rng.normal(size=records), "n": rng.integers(9, size=(records, 2))})


def apart(row: Row) -> Arrays:
    return {name: np.array(row[name]) for name in ("w", "b", "n")}


def test_a_row_travels_as_the_same_arrays_apart() -> None:
    for row in stack().rows():
        assert digest(Record({"a": 1}, row)) == digest(Record({"a": 1}, apart(row)))
        back = load(dump(Record({}, row))).arrays
        assert {name: back[name].tolist() for name in back} == {name: row[name].tolist() for name in row}
        assert Layout.of(row).places == Layout.of(apart(row)).places
        assert Record({}, row).nbytes == Record({}, apart(row)).nbytes == 3 * 5 * 4 + 8 + 16


def test_a_row_has_only_its_own_names() -> None:
    row = stack().rows()[2]
    assert "w" in row
    assert "a.w" not in row
    assert row["b"].shape == ()
    with pytest.raises(KeyError):
        row["a.w"]


def test_names_under_a_prefix_and_without_it() -> None:
    row = stack().rows()[1]
    named = prefixed(row, "a.")
    assert sorted(named) == ["a.b", "a.n", "a.w"]
    assert np.shares_memory(named["a.w"], row["w"])
    for back in (under(named, "a."), under(prefixed(apart(row), "a."), "a.")):
        assert sorted(back) == ["b", "n", "w"]
        assert all(np.array_equal(back[name], row[name]) for name in row)
    assert not list(under(row, "a."))


@pytest.mark.parametrize("name", ["w", "b", "n"])
def test_blocks_of_rows_of_any_stacks_and_of_others(name: str) -> None:
    one, two = stack(4, 1).rows(), stack(3, 2).rows()
    records: list[Arrays] = [one[3], one[0], apart(one[1]), two[2], two[2], one[2]]
    size = records[0][name].size
    for start, stop in ((0, size), (size - 1, size)):
        expected = [np.ravel(arrays[name])[start:stop] for arrays in records]
        found = Together(records).block(name, start, stop)
        assert np.array_equal(found, np.array(expected, np.float64))


def gathered(rows: list[Row], together: bool) -> Contributions:
    found = [
        (Answer(f"n{k}", 1.0 + k, {}, {}, 0), Record({}, prefixed(row if together else apart(row), "a.")))
        for k, row in enumerate(rows)
    ]
    return Contributions(tuple(found), {}, Combine.SUM)


def test_rows_add_to_the_same_bits_as_the_same_arrays_apart() -> None:
    rows = stack(60).rows()[3:58]
    one, other = gathered(rows, True).mean(), gathered(rows, False).mean()
    assert list(one) == list(other)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_a_row_that_is_not_finite_is_named() -> None:
    of = stack(5)
    of.arrays["b"][2] = np.nan
    with pytest.raises(Unusable, match="^n2: array 'b'"):
        gathered(of.rows(), True).mean()
