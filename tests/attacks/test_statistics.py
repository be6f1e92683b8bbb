"""An attacker with statistics: a data scientist who asks whatever the interface allows, sees every byte
that leaves a node, knows the rules, and wants to learn about one person."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

import hanse
from hanse import weights
from hanse.algorithms.statistics import ALGORITHM
from hanse.errors import ConfigError, NotAllowed, RunFailed, Unusable
from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Ask, Combine, Contribution, Site
from hanse.messages import Record
from hanse.queries import Known, Owner, TableSource
from hanse.statistics import _joined, cells
from hanse.statistics._times import cell_end
from hanse.suppression import hidden, hidden_table, isolates
from hanse.table import Table
from tests.examples import examples

RNG = np.random.default_rng(3)
SECRET = 12345.678


def site(columns: dict[str, Any], items: list[Any], source: TableSource | None = None, **more: Any) -> Site:
    table = Table.of(columns)
    options = {"items": items, **{k: more.pop(k) for k in ("where", "per_node") if k in more}}
    return Site("a", table, {"model_options": options}, source=source or TableSource(table), owner=more)


def answers(here: Site) -> list[Contribution]:
    """Every contribution that leaves, this node being the only one."""
    algorithm = ALGORITHM
    state = algorithm.init(here.config)
    found = []
    while hasattr(ask := algorithm.ask(state), "record"):
        said = algorithm.answer(here, ask.record)
        found.append(said)
        record = Record(said.record.data, {f"a.{k}": np.asarray(v) for k, v in said.record.arrays.items()})
        state = algorithm.tell(
            state, Contributions(((Answer("a", 1.0, said.record.data, {}, 0), record),), {}, ask.combine)
        )
    return found


def packed(said: Iterable[Contribution]) -> list[tuple[str, bytes]]:
    return [(name, np.asarray(array).tobytes()) for one in said for name, array in one.record.arrays.items()]


def numbers(said: Iterable[Contribution]) -> list[float]:
    return [float(v) for one in said for array in one.record.arrays.values() for v in np.ravel(array)]


# ---------------------------------------------------------------- few rows


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_a_small_dataset_tells_nothing_of_its_rows_nor_how_many_there_are(rows: int) -> None:
    items = [[s, ["x"], {}, []] for s in ("count", "mean", "variance", "moments", "min", "max", "distinct", "missing")]
    items += [
        ["histogram", ["x"], {"bin_edges": [0, 1e5]}, []],
        ["median", ["x"], {}, []],
        ["value_counts", ["x"], {}, []],
        ["covariance", ["x", "y"], {}, []],
    ]
    said = answers(site({"x": [SECRET + i for i in range(rows)], "y": [1.0] * rows}, items))
    assert {v for v in numbers(said) if v not in (0.0, 1.0)} <= {91.0, 93.0, np.inf, -np.inf}  # "[]", and flags
    reasons = " ".join(r for one in said for r in one.record.data["withheld"].values())
    assert not re.search(r"\d", reasons)
    federation = hanse.simulate({"a": {"x": [SECRET] * rows}})
    assert federation.analytics().mean() == {"x": None}


@pytest.mark.parametrize(
    "more",
    [
        {"where": [["x", ">", 1e9]]},
        {"where": [["x", "<", 0.0]]},
        {"statistics_denied_columns": ["x"]},
        {"most_filters": 0, "where": [["x", "<", 9.0]]},
    ],
)
def test_errors_hold_no_count_and_no_value(more: dict[str, Any]) -> None:
    data = {"x": [-SECRET, *RNG.normal(3, 0.1, size=12)]}
    with pytest.raises(NotAllowed) as error:
        answers(site(data, [["mean", ["x"], {}, []]], **more))
    assert not re.search(r"[1-9]", error.value.message)


def test_exact_extremes_leave_only_where_the_owner_says_so() -> None:
    data = {"x": [*RNG.normal(size=50), SECRET]}
    items = [[s, ["x"], {}, []] for s in ("min", "max", "median")] + [["histogram", ["x"], {"bins": 20}, []]]
    closed, opened = answers(site(data, items)), answers(site(data, items, allow_extremes=True))
    assert SECRET in numbers(opened)
    assert not any(abs(v - SECRET) < 1 for v in numbers(closed))


def test_no_cell_of_a_quantile_sketch_stands_for_few() -> None:
    data = {"x": [*RNG.normal(size=200), SECRET]}
    for one in answers(site(data, [["quantile", ["x"], {"q": 1.0, "depth": 3}, []]])):
        for name, array in one.record.arrays.items():
            if name.endswith((".counts", ".first", ".last")):
                assert array.sum() == 201
            if name.endswith((".first", ".last")):  # the rest follows from these
                assert np.all((array == 0) | (array >= 10))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rows", [11, 25, 199, 200, 201])
def test_an_outlier_is_in_no_quantile_of_its_own(rows: int, sign: int) -> None:
    # Whatever rows the outlier happens to be joined with, where they stand is not its place.
    draws = {f"x{i}": np.append(np.random.default_rng(i).normal(size=rows - 1), sign * SECRET) for i in range(12)}
    analytics = hanse.simulate({"a": draws}).analytics()
    for depth in (1, 3):
        asked = {"quantile": {"q": [0.0, 0.5, 1.0], "depth": depth}}
        told = analytics.fetch_stats_with_args(dict.fromkeys(draws, asked)).values("quantile")
        assert set(told) == set(draws)
        for name, found in told.items():
            assert max([abs(v) for v in found if v is not None], default=0.0) < SECRET / 100, (name, depth, found)


def test_the_longest_time_is_nobodys_own() -> None:
    """Whether the last one left after 100 days or after 5000 is in no byte."""
    for seed in range(25):
        random = np.random.default_rng(seed)
        rows = int(random.integers(40, 120))
        time, said = random.integers(1, 100, rows).astype(float), []
        for longest in (100.0, 5000.0):
            time[0] = longest
            items = [["kaplan_meier", ["t", "e"], {"grid": [*map(float, range(1, 5001))]}, []]]
            said.append(answers(site({"t": time, "e": np.ones(rows)}, items)))
        assert packed(said[0]) == packed(said[1])


# ---------------------------------------------------------------- subtraction


def feasible(shown: np.ndarray, back: np.ndarray, total: int, minimum: int) -> list[set[int]]:
    """All values that each hidden cell may have, for who knows total, rule and what is shown."""
    at = np.flatnonzero(back)
    rest = total - int(shown[~back].sum())
    found: list[set[int]] = [set() for _ in at]
    for values in itertools.product(range(rest + 1), repeat=len(at) - 1):
        last = rest - sum(values)
        if last < 0:
            continue
        guess = shown.copy()
        guess[at] = [*values, last]
        if np.array_equal(hidden(guess, minimum), back):
            for cell, value in zip(found, guess[at], strict=True):
                cell.add(int(value))
    return found


@examples(50)
@given(st.lists(st.integers(0, 14), min_size=2, max_size=4), st.integers(3, 5))
def test_hidden_cells_cannot_be_found_by_subtraction(counts: list[int], minimum: int) -> None:
    cells = np.array(counts)
    back = hidden(cells, minimum)
    assert np.all(back[(cells > 0) & (cells < minimum)])
    if back.any() and cells[back].max() >= minimum:
        small = [i for i, c in enumerate(np.flatnonzero(back)) if 0 < cells[c] < minimum]
        shown = np.where(back, 0, cells)
        possible = feasible(shown, back, int(cells.sum()), minimum)
        assert all(len(possible[i]) > 1 for i in small)


@examples(25)
@given(st.lists(st.integers(0, 9), min_size=6, max_size=6))
def test_margins_do_not_give_a_hidden_cell_of_a_table_away(counts: list[int]) -> None:
    table = np.array(counts).reshape(2, 3)
    back = hidden_table(table, 3)
    assert np.all(back[(table > 0) & (table < 3)])
    if not back.any():
        return
    full = back[np.ix_(table.sum(1) > 0, table.sum(0) > 0)]
    assert full.sum() == back.sum()  # whose total is 0 hides nobody
    for flags in [*full, *full.T]:
        if flags.any() and not flags.all():
            assert flags.sum() > 1
    # every table with these margins and shown cells: along a cycle of hidden cells numbers can move
    rows, columns = table.sum(1), table.sum(0)
    ways = []
    top = [range(int(min(rows[0], columns[j])) + 1) if back[0, j] else [int(table[0, j])] for j in range(3)]
    for first in itertools.product(*top):
        guess = np.array([first, columns - np.array(first)])
        fits = guess.min() >= 0 and np.array_equal(guess.sum(1), rows)
        if fits and np.array_equal(np.where(back, -1, guess), np.where(back, -1, table)):
            ways.append(guess)
    big = table[back].max() >= 3 and all(total == 0 or total >= 6 for total in (*rows, *columns))
    if big and min(full.shape) > 1:
        for i, j in zip(*np.nonzero((table > 0) & (table < 3)), strict=True):
            assert len({int(w[i, j]) for w in ways}) > 1


@examples(50)
@given(st.lists(st.tuples(*[st.sampled_from([0, 0, 3, 8, 12, 15, 25, 60])] * 4), min_size=2, max_size=4))
def test_a_table_asked_in_three_ways_hides_the_same_cells(cells: list[tuple[int, ...]]) -> None:
    """Rows by columns, columns by rows, and the labels of groups: a cell that one of them shows may give those away
    that another hides. And none of the small ones follows from the margins and what is shown."""
    counts = np.array(cells)
    back = hidden_table(counts, 10)
    assert np.array_equal(back, hidden_table(counts.T, 10).T)
    at = [(int(i), int(j)) for i, j in np.argwhere(back)]
    lines = [[float(cell[axis] == k) for cell in at] for axis in (0, 1) for k in range(counts.shape[axis])]
    sums = [*np.where(back, counts, 0).sum(1), *np.where(back, counts, 0).sum(0)]
    for place, cell in enumerate(at):
        if 0 < counts[cell] < 10 and not back[counts.sum(1) > 0][:, counts.sum(0) > 0].all():
            goal = np.eye(len(at))[place]
            least, most = (sign * optimize.linprog(sign * goal, A_eq=lines, b_eq=sums).fun for sign in (1, -1))
            assert most - least > 0.5
    rows = [(f"g{g}", "abcd"[c]) for g, c in np.ndindex(counts.shape) for _ in range(counts[g, c])]
    data = {"group": [g for g, _ in rows], "label": [c for _, c in rows]}
    if not rows or any(0 < n < 10 for n in (*counts.sum(0), *counts.sum(1))):
        return
    said = [
        answers(site(data, [item]))
        for item in (
            ["crosstab", ["group", "label"], {}, []],
            ["crosstab", ["label", "group"], {}, []],
            ["value_counts", ["label"], {}, ["group"]],
        )
    ]
    shapes = [a for one in said for c in one for name, a in c.record.arrays.items() if name.endswith(".hidden")]
    table, turned, groups = shapes[0][0], shapes[1][0], shapes[2]
    assert np.array_equal(table, turned.T)
    assert np.array_equal(table[:-1], groups)


def test_rare_labels_together_are_not_shared_out_in_a_table() -> None:
    """Of two labels of nine rows each all eighteen are women."""
    data = {"city": ["Ulm"] * 60 + ["Bonn"] * 60 + ["a"] * 9 + ["b"] * 9, "sex": ["f", "m"] * 60 + ["f"] * 18}
    table = hanse.simulate({"a": data}).analytics().crosstab("city", "sex")["table"]
    assert "(other)" not in table
    assert sum(float(row["f"] or 0) for row in table.values()) < 60


@examples(25)
@given(st.lists(st.lists(st.integers(0, 25), min_size=3, max_size=3), min_size=3, max_size=4))
def test_rows_without_a_group_are_no_few_either(table: list[list[int]]) -> None:
    counts = np.array(table)
    rows = [(f"g{g}" if g else None, "abc"[c]) for g, c in np.ndindex(counts.shape) for _ in range(counts[g, c])]
    data = {"group": [g for g, _ in rows], "label": [c for _, c in rows]}
    if not any(data["group"]) or any(0 < n < 10 for n in (*counts.sum(0), *counts.sum(1))):
        return
    [said] = [
        one
        for one in answers(site(data, [["value_counts", ["label"], {}, ["group"]]]))
        if any(name.endswith(".hidden") for name in one.record.arrays)
    ]
    [told] = [a for name, a in said.record.arrays.items() if name.endswith(".counts")]
    rest = counts.sum(0)[counts.sum(0) > 0] - told.sum(0)[: int((counts.sum(0) > 0).sum())]
    assert all(n == 0 or n >= 10 for n in rest)


def test_group_totals_minus_shown_groups() -> None:
    data = {"x": list(RNG.normal(size=104)), "sex": ["f"] * 100 + ["m"] * 4}
    said = answers(site(data, [["mean", ["x"], {}, ["sex"]], ["mean", ["x"], {}, []]]))
    sums = [one.record.arrays for one in said]
    grouped = [array for arrays in sums for name, array in arrays.items() if name.endswith(".n") and len(array) == 1]
    assert 100 not in [int(n) for array in grouped for n in array]  # f is kept back with m: 104 - 100 is 4
    federation = hanse.simulate({"a": data})
    assert federation.analytics(by="sex").mean(["x"])["x"] == {"f": None}
    assert federation.analytics().mean(["x"])["x"] == pytest.approx(np.mean(data["x"]))


def test_rare_labels_never_leave() -> None:
    data = {"city": ["Ulm"] * 60 + ["Bonn"] * 30 + ["Kleinkleckersdorf"] * 3}
    said = answers(
        site(
            data,
            [["value_counts", ["city"], {}, []], ["crosstab", ["city", "city2"], {}, []]]
            if "city2" in data
            else [["value_counts", ["city"], {}, []]],
        )
    )
    raw = b"".join(np.asarray(a).tobytes() for one in said for a in one.record.arrays.values())
    assert b"Ulm" in raw
    assert b"Klein" not in raw
    counts = hanse.simulate({"a": data}).analytics().value_counts()["city"]
    assert "Kleinkleckersdorf" not in counts
    assert sum(float(n or 0) for n in counts.values()) < 90  # one more label went along, or 93 - 90 would tell


# ---------------------------------------------------------------- many queries


def test_histograms_with_edges_close_together_do_not_single_out_who_stands_between() -> None:
    x = np.sort(RNG.uniform(0, 100, 400))
    person = x[200]
    edges = [[0.0, float(person), 100.0], [0.0, float(np.nextafter(person, 200)), 100.0]]
    for together in (False, True):
        federation = hanse.simulate({"a": {"x": x}})
        found = []
        if together:
            data, memory = {"x": x}, TableSource(Table.of({"x": x}))
            items = [["histogram", ["x"], {"bin_edges": e}, []] for e in edges]
            [said] = answers(site(data, items, memory))
            found = [said.record.arrays[f"{i}.least"][0][1:-1] for i in range(2)]
        else:
            for e in edges:
                got = federation.analytics().fetch_stats_with_args({"x": {"histogram": {"bin_edges": e}}})
                value = got.values("histogram")["x"]
                found.append(np.array(sure(value)))
        assert found[0].sum() == 400
        assert found[1].tolist() == [200, 0]  # what was told before, and not that one more stands below the second edge
    wide = federation.analytics().fetch_stats_with_args({"x": {"histogram": {"bin_edges": [0, 25, 75, 100]}}})
    assert sum(wide.values("histogram")["x"]["counts"]) == 400  # edges with enough rows between are fine


def test_choices_of_rows_that_single_somebody_out() -> None:
    ages = np.sort(RNG.uniform(20, 90, 300))
    federation = hanse.simulate({"a": {"age": ages, "cost": RNG.exponential(100, 300)}})

    def mean(*where: list[Any]) -> Any:
        return federation.analytics(where=list(where)).mean(["cost"])

    cut = float(ages[150])
    assert mean(["age", "<", cut])["cost"] is not None
    for attack in (
        [["age", "==", cut]],  # one person
        [["age", "<=", cut]],  # the earlier choice and one person more
        [["age", "<", float(ages[145])]],  # five people fewer
        [["age", ">=", float(ages[5])]],  # all but five
        [["age", ">", 1000.0]],  # nobody
    ):
        with pytest.raises(RunFailed, match="fewer rows"):
            mean(*attack)
    assert mean(["age", "<", float(ages[100])])["cost"] is not None
    for statistic in ("value_counts", "histogram", "min", "median", "crosstab"):
        with pytest.raises(ConfigError):
            federation.analytics(where=[["age", "<", cut]]).ask(
                statistic,
                ("cost", "age") if statistic == "crosstab" else ("cost",),
                {"bins": 3} if statistic == "histogram" else {},
            )
    with pytest.raises(ConfigError, match="chosen rows"):
        federation.analytics(where=[["age", "<", cut]], by="age").mean(["cost"])


def test_no_sum_of_three_choices_and_more_singles_somebody_out() -> None:
    """Women, the old, women or old, women who are old: any two differ by many. The first two less the last two are
    nobody; where one who is neither stood in the third, these would be that one."""
    sex, age = np.repeat([0.0, 1.0], 100), np.tile(np.arange(100.0), 2)
    cost, odd = RNG.exponential(100, 200), np.zeros(200)
    odd[7] = 1.0  # neither a woman nor old
    either = np.maximum((sex == 1) | (age >= 50), odd).astype(float)
    data = {"sex": sex, "age": age, "either": either, "cost": cost}
    federation = hanse.simulate({"a": data})

    def total(*where: list[Any]) -> Any:
        return federation.analytics(where=list(where)).fetch_stats("sum", ["cost"]).values("sum")["cost"]

    assert total(["sex", "==", 1.0])
    assert total(["age", ">=", 50.0])
    assert total(["sex", "==", 1.0], ["age", ">=", 50.0])
    with pytest.raises(RunFailed, match="would make up a sum of fewer rows"):
        total(["either", "==", 1.0])
    exact = hanse.simulate({"a": {**data, "either": ((sex == 1) | (age >= 50)).astype(float)}})
    for where in ([["sex", "==", 1.0]], [["age", ">=", 50.0]], [["either", "==", 1.0]]):
        assert exact.analytics(where=where).mean(["cost"])["cost"] is not None


@examples(25)
@given(st.data())
def test_what_is_said_to_isolate_nobody_isolates_nobody(data: st.DataObject) -> None:
    """Against all sums of answers with coefficients -2 to 2: none is of 1 to 9 rows."""
    k = data.draw(st.integers(1, 4))
    ways = data.draw(st.lists(st.tuples(*[st.booleans()] * k), unique=True, min_size=1, max_size=8))
    patterns = np.array([(True, *way) for way in ways])
    counts = np.array(data.draw(st.lists(st.integers(1, 25), min_size=len(ways), max_size=len(ways))))
    found = [
        int(counts[patterns @ np.array(c) != 0].sum()) for c in itertools.product(range(-2, 3), repeat=k + 1) if any(c)
    ]
    isolated = any(0 < rows < 10 for rows in found)
    assert isolates(patterns, counts, 10) or not isolated
    if len(ways) <= 4 and k <= 2:  # such small coefficients are all that is needed
        assert isolates(patterns, counts, 10) == isolated


def test_choices_of_rows_whose_difference_has_few_values_in_a_column() -> None:
    measured = np.full(200, np.nan)
    measured[:50] = RNG.normal(size=50)
    measured[150:] = RNG.normal(size=50)
    measured[120] = SECRET  # one person between the two choices was measured
    federation = hanse.simulate({"a": {"i": np.arange(200.0), "m": measured}})
    assert federation.analytics(where=[["i", "<", 100.0]]).mean(["m"])["m"] is not None
    with pytest.raises(RunFailed, match="fewer rows"):
        federation.analytics(where=[["i", "<", 150.0]]).mean(["m"])


def test_choices_that_were_answered_of_one_column_are_compared_anew_when_another_is_asked() -> None:
    measured = RNG.normal(size=200)
    measured[[*range(50, 120), *range(121, 150)]] = np.nan
    measured[120] = SECRET  # one person between the two choices was measured
    federation = hanse.simulate({"a": {"i": np.arange(200.0), "m": measured, "other": RNG.normal(size=200)}})

    def mean(column: str, end: float) -> Any:
        return federation.analytics(where=[["i", "<", end]]).mean([column])[column]

    assert mean("other", 100.0) is not None
    assert mean("other", 150.0) is not None
    first = mean("m", 100.0)
    with pytest.raises(RunFailed, match="fewer rows"):
        mean("m", 150.0)
    assert mean("other", 150.0) is not None  # what was answered is answered again
    assert mean("m", 100.0) == first


def sure(histogram: Any) -> list[int]:
    """How many rows are told to be in each bin."""
    return [low for low, _ in histogram["counts_range"]] if "counts_range" in histogram else histogram["counts"]


def binned(federation: Any, edges: list[float], by: str = "") -> Any:
    analytics = federation.analytics(by=by) if by else federation.analytics()
    return analytics.fetch_stats_with_args({"x": {"histogram": {"bin_edges": edges}}}).values("histogram")["x"]


@pytest.mark.parametrize("groups_first", [False, True])
def test_edges_of_groups_are_held_against_those_of_all_rows(groups_first: bool) -> None:
    """All rows below one edge, less those of both groups below the next, would be one person."""
    x = np.sort(RNG.uniform(0, 100, 400))
    federation = hanse.simulate({"a": {"x": x, "g": ["a", "b"] * 200}})
    edges = [0.0, float(x[200]), 100.0], [0.0, float(np.nextafter(x[200], 200)), 100.0]
    first, second = [binned(federation, e, "g" if (i == 0) is groups_first else "") for i, e in enumerate(edges)]
    for found, shown in ((first, 400), (second, 0)):
        parts = [found] if "counts" in found else list(found.values())
        assert sum(sum(sure(part)) for part in parts) == shown


def test_an_edge_that_one_group_was_shown_is_not_an_old_one_of_another() -> None:
    x = np.concatenate([np.arange(100.0), np.full(3, 50.5), np.arange(100.0), np.full(30, 50.5)])
    federation = hanse.simulate({"a": {"x": x, "g": ["a"] * 103 + ["b"] * 130}})
    for edge in (50.25, 50.75, 50.75, 50.25):
        found = binned(federation, [-1.0, edge, 200.0], "g")
        below = {"a": int((x[:103] < edge).sum()), "b": int((x[103:] < edge).sum())}
        told = {g: sure(part)[0] for g, part in found.items()}
        assert told["a"] in ((below["a"],) if edge == 50.25 else (0,))
        assert told["b"] in (below["b"], 0)


def test_curves_of_two_grids_do_not_single_out_who_stands_between_their_times() -> None:
    pay = np.sort(RNG.normal(3000, 200, 300))
    for event in (0.0, 1.0):
        said = []
        for place in (float(np.nextafter(pay[151], 0)), float(pay[151])):
            table = {"pay": pay, "event": np.where(np.arange(300) == 151, event, np.arange(300) % 2)}
            items = [["kaplan_meier", ["pay", "event"], {"grid": [place, 1e6]}, []]]
            said.append(packed(answers(site(table, items))))
        assert said[0] == said[1]


def shuffled(table: dict[str, Any], time: str, rng: np.random.Generator) -> dict[str, Any]:
    """The same rows, but whose time is whose is mixed within each of the shortest runs that the node tells of."""
    ends, cell = np.unique(cell_end(table[time]), return_inverse=True)
    found = _joined.runs(np.bincount(cell.reshape(-1), minlength=len(ends)), 10)
    out = {name: column.copy() for name, column in table.items()}
    for first, last in found:
        inside = np.flatnonzero((cell.reshape(-1) >= first) & (cell.reshape(-1) <= last))
        mixed = rng.permutation(inside)
        for name in out:
            if name != time:
                out[name][inside] = table[name][mixed]
    return out


@examples(25)
@given(st.data())
def test_no_sequence_of_curves_tells_one_order_of_rows_from_another(data: st.DataObject) -> None:
    """Whatever is asked one after the other, of all rows, of groups, of those of two columns, on any grids: where the
    rows of a run stand in it, and of what kind and group those are, changes no byte. So none of it can follow."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n = int(rng.integers(40, 300))
    coarse = rng.random() < 0.5
    table = {
        "t": rng.integers(0, 40, n).astype(float) if coarse else rng.exponential(100, n),
        "e": (rng.random(n) < rng.uniform(0.1, 0.9)).astype(float),
        "g": np.where(rng.random(n) < rng.uniform(0.2, 0.8), "f", "m").astype(object),
        "h": np.where(rng.random(n) < rng.uniform(0.2, 0.8), "x", "y").astype(object),
    }
    table["h"][rng.random(n) < 0.05] = None
    other = shuffled(table, "t", rng)
    sources = [TableSource(Table.of(part)) for part in (table, other)]
    for _ in range(4):
        grid = sorted({float(t) for t in rng.uniform(0, 200, int(rng.integers(2, 20)))})
        by = data.draw(st.sampled_from([[], ["g"], ["h"], ["g", "h"]]))
        items = [["kaplan_meier", ["t", "e"], {"grid": grid}, by]]
        one, two = (answers(site(part, items, source)) for part, source in zip((table, other), sources, strict=True))
        assert packed(one) == packed(two)


@examples(25)
@given(st.integers(0, 2**32 - 1))
def test_curves_of_groups_of_all_rows_and_of_two_columns_leave_no_few_between_them(seed: int) -> None:
    """Between any two times that two questions tell, rows, events and censorings are none or the minimum, of all that
    both tell."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(60, 400))
    t, e = rng.integers(0, 60, n).astype(float), rng.random(n) < rng.uniform(0.2, 0.8)
    g, h = (np.where(rng.random(n) < rng.uniform(0.2, 0.8), "a", "b").astype(object) for _ in range(2))
    grid = [float(i) for i in range(61)]
    told: dict[tuple[str, ...], set[int]] = {}
    for by in ((), ("g",), ("h",), ("g", "h")):
        said = answers(site({"t": t, "e": e, "g": g, "h": h}, [["kaplan_meier", ["t", "e"], {"grid": grid}, list(by)]]))
        arrays = {name.rpartition(".")[2]: a for one in said for name, a in one.record.arrays.items()}
        if arrays["rows_last"].any():
            ends = np.flatnonzero(arrays["rows_last"].sum(0)[:-1])  # where runs end
            told[by] = {int((t <= grid[end]).sum()) for end in ends}
    for inner, outer in ((("g",), ()), (("h",), ()), (("g", "h"), ("g",)), (("g", "h"), ("h",))):
        if inner in told and outer in told:
            assert told[inner] <= told[outer]


def test_all_events_minus_one_groups_are_not_another_groups_few() -> None:
    """Of ward b three died: the curves of all rows and of ward a must not tell."""
    data = {
        "t": [*map(float, RNG.integers(1, 9, 200))],
        "e": [1.0] * 20 + [0.0] * 80 + [1.0] * 3 + [0.0] * 97,
        "ward": ["a"] * 100 + ["b"] * 100,
    }
    federation = hanse.simulate({"a": data})
    grid = [float(i) for i in range(10)]
    assert sum(federation.analytics().kaplan_meier("t", "e", grid=grid)["events"]) == 23
    assert federation.analytics(by="ward").kaplan_meier("t", "e", grid=grid) == {"a": None, "b": None}


def test_the_number_of_choices_is_limited() -> None:
    federation = hanse.simulate({"a": {"x": np.arange(1000.0)}}, policy={"most_filters": 3})
    for i in range(3):
        federation.analytics(where=[["x", "<", 100.0 * (i + 1)]]).mean()
    with pytest.raises(RunFailed, match="used up"):
        federation.analytics(where=[["x", "<", 900.0]]).mean()
    assert federation.analytics(where=[["x", "<", 200.0]]).mean()["x"] is not None  # an earlier one costs nothing


def test_asking_again_gives_the_same_bytes() -> None:
    data = {"x": RNG.normal(size=100), "t": RNG.choice(["a", "b", "c"], 100, p=[0.8, 0.15, 0.05])}
    items = [["variance", ["x"], {}, []], ["value_counts", ["t"], {}, []], ["histogram", ["x"], {"bins": 9}, []]]
    source = TableSource(Table.of(data))
    first, again = (numbers(answers(site(data, items, source))) for _ in range(2))
    assert first == again


def test_survival_of_few() -> None:
    time = RNG.integers(1, 200, 150).astype(float)
    [said] = answers(
        site(
            {"t": time, "e": RNG.random(150) < 0.6},
            [["kaplan_meier", ["t", "e"], {"grid": [float(i) for i in range(1, 200)]}, []]],
        )
    )
    for end in ("first", "last"):
        array = said.record.arrays[f"0.rows_{end}"]
        assert np.all((array == 0) | (array >= 10))
        assert array.sum() == 150


@examples(60)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(1, 10),
    st.integers(1, 3),
)
def test_joined_cells_are_full_of_every_count(counts: list[tuple[int, int, int]], minimum: int, parts: int) -> None:
    """Also what is left at the end, where only one of them is enough; and no run ends between two of the whole's."""
    cells = np.array(counts).T[:parts]
    whole = _joined.runs(cells.sum(0), minimum)
    found = _joined.runs(cells, minimum, whole)
    if not len(found):
        assert any(0 < total < minimum for total in [*cells.sum(1), cells.sum()]) or not cells.any()
        return
    assert np.all(found[1:, 0] > found[:-1, 1])
    assert np.isin(found[:, 0], whole[:, 0]).all()
    assert np.isin(found[:, 1], whole[:, 1]).all()
    low, high, edges = found[:, 0] * 1.0, found[:, 1] + 1.0, np.arange(cells.shape[1] + 1.0)
    for part, told in zip(cells, _joined.told(list(cells), found, low, high, edges), strict=True):
        rows = _joined.sums(part, found)
        assert rows.sum() == part.sum()  # nobody is lost
        assert np.all((rows == 0) | (rows >= minimum))
        assert {int(a.sum()) for a in told.values()} == {int(part.sum())}
        assert np.all(np.cumsum(told["last"]) <= np.cumsum(part))
        assert np.all(np.cumsum(part) <= np.cumsum(told["first"]))
        assert np.all(np.cumsum(told["last"]) <= np.cumsum(told["counts"]))
        assert np.all(np.cumsum(told["counts"]) <= np.cumsum(told["first"]))


@examples(40)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=12), st.randoms())
def test_what_leaves_of_joined_cells_follows_from_their_sums(counts: list[int], random: Any) -> None:
    """Rows that stand elsewhere in a run leave the same arrays: the spread tells nothing of where they stood."""
    cells = np.array(counts)
    found, edges = _joined.runs(cells, 10), np.arange(len(cells) + 1.0)
    if not len(found):
        return
    other = cells.copy()
    for first, last in found:
        n, inside = int(cells[first : last + 1].sum()), np.zeros(last - first + 1, np.int64)
        for _ in range(n):
            inside[random.randrange(len(inside))] += 1
        other[first : last + 1] = inside
    one, two = (
        _joined.told([part], found, *_joined.extents(edges, found, _joined.sums(part, found)), edges)[0]
        for part in (cells, other)
    )
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_groups_in_joined_cells_tell_one_number_besides() -> None:
    """Rows that change places inside a run leave the same bytes, unless the sum of a group's places is another."""
    counts = np.random.default_rng(0).integers(0, 3, (2, 200))
    owner = Owner(10, False, (), (), (), [], True)

    def left(parts: Any) -> list[Any]:
        found = [{"n": np.asarray(part.sum()), "counts": part} for part in (*parts, 0 * parts[0])]
        sent = [{"n": part["n"]} for part in found]
        whole = [{"counts": np.sum(parts, axis=0)}] * 2
        return cells.across(found, [*sent[:2], None], [3], owner, {"depth": 1, "pooled": True}, Known(whole))[:2]

    told, other = left(counts), counts.copy()
    first, last = _joined.runs(counts, 10, _joined.runs(counts.sum(0), 10))[2]
    one, two = (int(c) for c in np.flatnonzero(counts[0, first : last - 1])[[0, -1]] + first)
    other[0, [one, two]] -= 1  # one row stands later by as many cells as another stands sooner
    other[0, [one + 1, two - 1]] += 1
    moved = counts.copy()
    moved[0, one], moved[0, one + 1] = moved[0, one] - 1, moved[0, one + 1] + 1
    assert not np.array_equal(counts, other)
    for here, same, late in zip(told, left(other), left(moved), strict=True):
        assert all(np.array_equal(here[name], same[name]) for name in here)
        assert all(np.array_equal(here[name], late[name]) for name in here if name != "places")
    assert left(moved)[0]["places"] == told[0]["places"] + 1
    assert all(part["n"] >= 10 and part["places"].shape == () for part in told)


def test_three_deaths_are_no_curve() -> None:
    time = {"t": np.arange(100.0) % 9, "e": [1.0] * 3 + [0.0] * 97}
    [said] = answers(site(time, [["kaplan_meier", ["t", "e"], {"grid": [*map(float, range(10))]}, []]]))
    assert not {3.0, 97.0} & set(numbers([said]))


def test_pixels_of_one_image_are_no_cell() -> None:
    """Ten pixels are not ten people."""
    images = np.zeros((50, 8, 8, 1), np.uint8)
    images[:, 4:, :, 0] = 90
    images[7] = 200  # 64 pixels of one of them
    edges = {"scan[0]": {"histogram": {"bin_edges": [0, 50, 100, 255]}}}
    for count, shown in ((1, [1568, None, None]), (30, [640, 640, 1920])):
        images[7 : 7 + count] = 200
        analytics = hanse.simulate({"a": {"scan": images}}).analytics()
        assert analytics.fetch_stats_with_args(edges).values("histogram")["scan[0]"]["counts"] == shown
        labels = analytics.fetch_stats("value_counts", ["scan[0]"]).values("value_counts")["scan[0]"]
        assert ("200" in labels) == (count == 30)
        largest = analytics.quantile([0.5, 1.0], ["scan[0]"])["scan[0]"][1]
        assert largest is None or largest < 200 or count == 30


def test_a_share_of_all_rows_minus_that_of_a_group_is_not_another_groups_few() -> None:
    """Of ward b three are zero: all rows together and ward a must not tell."""
    data = {"x": [0.0] * 20 + [1.0] * 80 + [0.0] * 3 + [2.0] * 97, "ward": ["a"] * 100 + ["b"] * 100}
    federation = hanse.simulate({"a": data})
    assert federation.analytics().fetch_stats("sparsity", ["x"]).values("sparsity") == {"x": 0.115}
    found = federation.analytics(by="ward").fetch_stats("sparsity", ["x"])
    assert found.values("sparsity")["x"] == {"a": None, "b": None}
    assert any("kept back" in note for note in found.notes)


def test_no_sketch_of_different_values_tells_which_there_are() -> None:
    """Who hashes a list of names finds those whose registers are set."""
    data = {"name": [f"patient {i}" for i in range(300)], "age": np.arange(300.0) % 80}
    items = [["distinct", [c], {}, []] for c in data]
    for allowed in (False, True):
        [said] = answers(site(data, items, allow_extremes=allowed))
        assert all(said.record.arrays[f"{i}.registers"].any() == allowed for i in range(2))


# ---------------------------------------------------------------- a node that lies


@pytest.mark.parametrize(
    "bad",
    [
        {"0.n": np.array([5]), "0.withheld": np.array([0])},
        {
            "0.n": np.array([5]),
            "0.counts": np.array([1.0]),
            "0.labels": np.frombuffer(b"{not json", np.uint8)[None],
            "0.withheld": np.array([0]),
        },
        {},
    ],
)
def test_contributions_that_are_none_are_refused_by_name(bad: dict[str, np.ndarray]) -> None:
    algorithm = ALGORITHM
    config = {"model_options": {"items": [["value_counts", ["t"], {}, []]]}}
    state = algorithm.init(config)
    good = algorithm.answer(site({"t": ["a"] * 20}, config["model_options"]["items"]), algorithm.ask(state).record)
    found = []
    for node, arrays in (("good", good.record.arrays), ("liar", bad)):
        record = Record({"withheld": {}, "lacking": []}, {f"a.{k}": v for k, v in arrays.items()})
        found.append((Answer(node, 1.0, record.data, {}, 0), record))
    with pytest.raises(Unusable) as error:
        algorithm.tell(state, Contributions(tuple(found), {}, Combine.MERGE))
    assert "liar" in error.value.nodes


def test_denied_columns_are_not_touched_even_as_groups_or_choices() -> None:
    data = {"x": list(RNG.normal(size=50)), "ssn": [float(i) for i in range(50)]}
    for more in ({"where": [["ssn", "<", 20]]}, {}):
        items = [["mean", ["x"], {}, [] if more else ["ssn"]]]
        with pytest.raises(NotAllowed, match="ssn"):
            answers(site(data, items, statistics_denied_columns=["ssn"], **more))


def test_a_node_that_is_not_shown_by_itself_sends_a_sentence_and_no_number() -> None:
    data = {"x": list(RNG.normal(3, 0.1, size=50)), "sex": ["f", "m"] * 25}
    items = [["variance", ["x"], {}, ["sex"]], ["histogram", ["x"], {"bins": 5}, []]]
    for said in answers(site(data, items, per_node=True)):
        assert dict(said.record.arrays) == {}
        assert set(said.record.data) == {"alone"}
        assert not re.search(r"\d", said.record.data["alone"])
    assert any(said.record.arrays for said in answers(site(data, items, per_node=True, allow_node_statistics=True)))


def test_a_node_that_says_it_is_not_shown_cannot_put_numbers_among_the_others() -> None:
    algorithm, items = ALGORITHM, [["mean", ["x"], {}, []]]
    state = algorithm.init({"model_options": {"items": items, "per_node": True}})
    shown = site({"x": [1.0] * 20}, items, per_node=True, allow_node_statistics=True)
    good = algorithm.answer(shown, algorithm.ask(state).record)  # type: ignore[union-attr]
    both = []
    for node, data in (("good", good.record.data), ("liar", {"alone": "<b>" * 1000})):
        arrays = {f"a.{k}": np.asarray(v) for k, v in good.record.arrays.items()}
        both.append((Answer(node, 1.0, data, {}, 0), Record(data, arrays)))
    after = algorithm.result(algorithm.tell(state, Contributions(tuple(both), {}, Combine.MERGE)))
    assert not any("@liar@" in name for name in after.arrays)
    assert float(after.arrays["1.sum"][0]) == 20.0
    assert len(after.data["alone"]["liar"]) == 300


@pytest.mark.parametrize("column", [[0.0] * 3 + [1.0] * 37, [0.0] * 37 + [1.0] * 3, [0.0] * 5 + [1.0] * 4])
def test_no_sparsity_stands_for_few_cells(column: list[float]) -> None:
    [said] = answers(site({"x": column}, [["sparsity", ["x"], {}, []]]))
    cells = said.record.arrays["0.cells"][0]
    assert all(c == 0 or c >= 10 for c in cells)


def test_rare_labels_together_are_not_shared_out() -> None:
    """Two labels of nine rows each are 18 together: who knows that there are two would know both."""
    data = {"city": ["Ulm"] * 60 + ["Bonn"] * 30 + ["a"] * 9 + ["b"] * 9}
    counts = hanse.simulate({"a": data}).analytics().value_counts()["city"]
    assert "(other)" not in counts
    assert 108 - sum(float(n or 0) for n in counts.values()) >= 18 + 30


def test_all_rows_minus_one_group_do_not_give_another_groups_small_cell() -> None:
    """Of the men four are ill: what is shown of the women and of all must not differ by them."""
    ill = ["yes"] * 40 + ["no"] * 60 + ["yes"] * 4 + ["no"] * 56
    rng = np.random.default_rng(4)
    dose = np.where(np.array(ill) == "yes", 1.5, 0.5) + rng.uniform(-0.4, 0.4, 160)
    federation = hanse.simulate({"a": {"sex": ["f"] * 100 + ["m"] * 60, "ill": ill, "dose": dose}})
    total = federation.analytics().value_counts("ill")["ill"]
    groups = federation.analytics(by="sex").value_counts("ill")["ill"]
    assert total == {"yes": 44, "no": 116}
    assert groups["f"]["yes"] is None
    bins = {"dose": {"histogram": {"bin_edges": [0, 1, 2]}}}
    found = federation.analytics(by="sex").fetch_stats_with_args(bins).values("histogram")["dose"]
    assert found["f"]["counts"][1] is None
    assert found["f"]["hidden"][1] == 1
    large = hanse.simulate({"a": {"sex": ["f"] * 100 + ["m"] * 60, "ill": ["yes", "no"] * 80}})
    assert large.analytics(by="sex").value_counts("ill")["ill"] == {
        "f": {"yes": 50, "no": 50},
        "m": {"yes": 30, "no": 30},
    }


@examples(25)
@given(st.lists(st.lists(st.integers(0, 25), min_size=3, max_size=3), min_size=2, max_size=4))
def test_groups_and_their_total_leave_no_few(table: list[list[int]]) -> None:
    """Whatever a label's total exceeds the shown groups by is nothing, or the minimum at least."""
    counts = np.array(table)
    rows = [(f"g{g}", "abc"[c]) for g, c in np.ndindex(counts.shape) for _ in range(counts[g, c])]
    if not rows:
        return
    data = {"group": [g for g, _ in rows], "label": [c for _, c in rows]}
    said = answers(site(data, [["value_counts", ["label"], {}, []], ["value_counts", ["label"], {}, ["group"]]]))
    arrays = {k: v for one in said for k, v in one.record.arrays.items()}
    single, grouped = sorted((k.partition(".")[0] for k in arrays if k.endswith(".hidden")), key=int)
    back, told = arrays[f"{single}.hidden"][0], arrays[f"{single}.counts"][0]
    rest = told - arrays[f"{grouped}.counts"].sum(0)
    for shown, left in zip(back == 0, rest, strict=True):
        assert not shown or left == 0 or left >= 10


# ---------------------------------------------------------------- rows that one column has, and another has not


def moments_of(federation: Any, columns: list[str], by: str | tuple[str, ...] = ()) -> Any:
    found = federation.analytics(by=by).ask("pair_means", columns)
    return found.value(found.wanted[0])


def with_gaps(rows: int = 200, **gone: Iterable[int]) -> dict[str, np.ndarray]:
    """Columns of numbers that lack the rows named; the pay of row 0 is ``SECRET``."""
    rng = np.random.default_rng(8)
    data = {"pay": rng.normal(3000, 100, rows)} | {name: rng.normal(size=rows) for name in gone if name != "pay"}
    data["pay"][0] = SECRET
    for name, places in gone.items():
        data[name][list(places)] = np.nan
    return data


def recovered(data: dict[str, Any], items: list[Any], columns: list[str]) -> float:
    """The pay of the row that has no blood value: the sum of all pays, less those of the pair. NaN without rows."""
    state = ALGORITHM
    asked = site(data, [["mean", ["pay"], {}, []], *items])
    query = state.init(asked.config)
    arrays = {k: v for one in answers(asked) for k, v in one.record.arrays.items()}
    from hanse.algorithms.statistics import Query

    plan = Query.of(query.data["query"]).plan
    at = {i.stat: str(n) for n, i in enumerate(plan.items)}
    a, b = columns.index("pay"), columns.index("blood")
    n, together = int(arrays[f"{at['mean']}.n"][0]), int(arrays[f"{at['pair_means']}.N"][0][a, b])
    rest = float(arrays[f"{at['mean']}.sum"][0] - arrays[f"{at['pair_means']}.S"][0][a, b])
    return rest / (n - together) if together else float("nan")


@pytest.mark.parametrize("stat", ["pair_means", "covariance", "correlation"])
def test_a_column_minus_its_pair_does_not_give_those_without_the_other_away(stat: str) -> None:
    columns = ["pay", "blood"]
    data = with_gaps(blood=[0])
    assert np.isnan(recovered(data, [[stat, columns, {}, []]], columns))
    data["pay"][20], data["blood"][0] = np.nan, 1.0  # and the other way round: one has blood, and no pay
    assert np.isnan(recovered(data, [[stat, columns, {}, []]], columns))
    many = with_gaps(blood=range(30))
    assert abs(recovered(many, [[stat, columns, {}, []]], columns) - SECRET) > 5000  # a mean of thirty
    found = hanse.simulate({"a": with_gaps(blood=[0], age=range(40, 80))}).analytics()
    asked = found.ask(stat, ("pay", "blood", "age"))
    matrix = asked.value(asked.wanted[0])
    assert matrix[0][1] is matrix[1][0] is None
    assert matrix[0][0] is not None
    assert matrix[0][2] is not None  # another pair is told
    assert matrix[1][2] is None  # row 0 has an age, and no blood value


@pytest.mark.parametrize("stat", ["pair_means", "covariance"])
def test_two_pairs_of_a_question_do_not_differ_by_few(stat: str) -> None:
    data = with_gaps(blood=range(40), age=range(1, 40))  # of row 0 age is known, blood is not
    [*_, said] = answers(site(data, [[stat, ["pay", "blood", "age"], {}, []]]))
    [together] = (a[0] for name, a in said.record.arrays.items() if name.endswith(".N"))
    assert together[0].tolist() == [200, 0, 0]
    data["age"][:20] = 1.0
    [*_, said] = answers(site(data, [[stat, ["pay", "blood", "age"], {}, []]]))
    [together] = (a[0] for name, a in said.record.arrays.items() if name.endswith(".N"))
    assert together[0].tolist() == [200, 160, 180]


def test_all_pairs_minus_those_of_a_group_do_not_give_the_other_group_away() -> None:
    """Of the men three have no blood value, of the women forty: all rows together lack many."""
    data: dict[str, Any] = with_gaps(blood=[0, 1, 2, *range(100, 140)]) | {"sex": ["m"] * 100 + ["f"] * 100}
    federation = hanse.simulate({"a": data})
    assert moments_of(federation, ["pay", "blood"])[0][1] is not None
    groups = moments_of(federation, ["pay", "blood"], "sex")
    assert groups["m"][0][1] is None
    assert groups["f"][0][1] is None  # or all minus hers would be his
    data = with_gaps(blood=[*range(20), *range(100, 140)]) | {"sex": ["m"] * 100 + ["f"] * 100}
    groups = moments_of(hanse.simulate({"a": data}), ["pay", "blood"], "sex")
    assert groups["m"][0][1] is not None
    assert groups["f"][0][1] is not None


@examples(25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.sampled_from([0.02, 0.1, 0.4]))
def test_whatever_is_told_of_pairs_differs_from_what_else_is_by_none_or_the_minimum(
    seed: int, groups: int, gaps: float
) -> None:
    rng = np.random.default_rng(seed)
    there = rng.random((240, 3)) > gaps * rng.random(3)
    label = rng.integers(0, groups, 240)
    data = {f"c{i}": np.where(there[:, i], rng.normal(size=240), np.nan) for i in range(3)}
    columns = list(data)
    said = answers(
        site(
            {**data, "g": [f"g{v}" for v in label]},
            [["pair_means", columns, {}, []], ["pair_means", columns, {}, ["g"]]],
        )
    )
    parts = [a for one in said for name, a in one.record.arrays.items() if name.endswith(".N")]
    [whole], by = sorted(parts, key=len)
    for i, j in itertools.permutations(range(3), 2):
        alone, both = there[:, i].sum(), whole[i, j]
        assert both == 0 or alone == both or alone - both >= 10
        hidden_here = np.isin(label, [g for g in range(groups) if not by[g, i, j]])
        rest, lone = hidden_here & there[:, i] & there[:, j], hidden_here & there[:, i] & ~there[:, j]
        if both and len(by) == groups:
            assert rest.sum() == 0 or rest.sum() >= 10
            assert lone.sum() == 0 or lone.sum() >= 10 or hidden_here.all()


def test_a_table_of_two_columns_minus_the_labels_of_one_does_not_tell_who_lacks_the_other() -> None:
    """The three without a sex are all ill: who knows one of them would know it."""
    data = {"sex": [None] * 3 + ["f", "m"] * 100, "ill": ["yes"] * 3 + ["yes"] * 100 + ["no"] * 100}
    analytics = hanse.simulate({"a": data}).analytics()
    total = analytics.value_counts("ill")["ill"]
    table = analytics.crosstab("sex", "ill")["table"]
    assert total == {"no": 100, "yes": 103}
    shown = sum(float(row.get("yes") or 0) for row in table.values())
    assert not 0 < total["yes"] - shown < 10
    data["sex"][:3] = ["f"] * 3
    table = hanse.simulate({"a": data}).analytics().crosstab("sex", "ill")["table"]
    assert table == {"f": {"yes": 53, "no": 50}, "m": {"yes": 50, "no": 50}}


def test_tables_of_groups_and_of_all_rows_leave_no_few() -> None:
    """Of the ill men at the ward three smoke."""
    ward, ill, smokes = (
        ["a"] * 100 + ["b"] * 100,
        (["yes"] * 50 + ["no"] * 50) * 2,
        (["yes"] * 25 + ["no"] * 25) * 3 + ["yes"] * 3 + ["no"] * 47,
    )
    items = [["crosstab", ["ill", "smokes"], {}, by] for by in ([], ["ward"])]
    said = answers(site({"ward": ward, "ill": ill, "smokes": smokes}, items))
    tables = [a for one in said for name, a in one.record.arrays.items() if name.endswith(".counts") and a.ndim == 3]
    whole, by = sorted(tables, key=len)
    rest = whole[0] - by.sum(0)
    assert np.all((rest == 0) | (rest >= 10) | (whole[0] == 0))


# ---------------------------------------------------------------- a node that counts more than it declared

COUNTING: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "mean": (["x"], {}, "n"),
    "variance": (["x"], {}, "n"),
    "histogram": (["x"], {"bin_edges": [-9, 0, 9]}, "counts"),
    "value_counts": (["t"], {}, "counts"),
    "crosstab": (["t", "u"], {}, "counts"),
    "covariance": (["x", "y"], {}, "N"),
    "missing": (["x"], {}, "gone"),
    "kaplan_meier": (["y", "e"], {"grid": [1, 2, 3]}, "events"),
    "median": (["x"], {}, "counts"),
    "distinct": (["x"], {}, "n"),
    "sparsity": (["x"], {}, "n"),
}


@pytest.mark.parametrize("stat", list(COUNTING))
@pytest.mark.parametrize("said", [201, -1])
def test_no_count_of_a_node_is_more_than_the_rows_that_it_declared(stat: str, said: int) -> None:
    columns, options, array = COUNTING[stat]
    rng = np.random.default_rng(2)
    data = {
        "x": np.where(np.arange(200) < 30, np.nan, rng.normal(size=200)),
        "y": np.abs(rng.normal(size=200)),
        "e": rng.random(200) < 0.5,
        "t": ["a", "b"] * 100,
        "u": ["c"] * 100 + ["d"] * 100,
    }
    here = site(data, [[stat, columns, options, []]])
    algorithm, hit = ALGORITHM, 0
    state = algorithm.init(here.config)
    while isinstance(ask := algorithm.ask(state), Ask):
        reply = algorithm.answer(here, ask.record)
        arrays = {f"a.{k}": np.asarray(v) for k, v in reply.record.arrays.items()}

        def gathered(of: dict[str, np.ndarray], ask: Ask = ask, reply: Contribution = reply) -> Contributions:
            record = Record(reply.record.data, of)
            return Contributions(((Answer("a", 1.0, record.data, {}, 0), record),), {}, ask.combine)

        honest = weights.checked(ask, gathered(arrays), {"a": 200.0}, 1.0)
        for name in (n for n in arrays if n.endswith(f".{array}")):
            lie = arrays[name].copy()
            lie.reshape(-1)[0] = said
            with pytest.raises(Unusable) as error:
                weights.checked(ask, gathered({**arrays, name: lie}), {"a": 200.0}, 1.0)
            assert "that it declared for this run" in error.value.nodes["a"]
            hit += 1
        state = algorithm.tell(state, honest)
    assert hit
