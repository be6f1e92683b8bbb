"""What several statistics tell together, by subtraction, that none of them tells by itself."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import hanse
from hanse.errors import ConfigError
from hanse.queries import TableSource, unpack
from hanse.table import Table

from .test_statistics import SECRET, answers, site

MINIMUM = 10
GRID = [step / 8 for step in range(1, 8 * 40)]


def few(counts: Any) -> bool:
    counts = np.abs(np.asarray(counts))
    return bool(((counts > 0) & (counts < MINIMUM)).any())


# ---------------------------------------------------------------- a curve, and its time by itself


def survival(seed: int, unseen: int, rows: int = 300) -> dict[str, Any]:
    """Times of which some have no event recorded."""
    rng = np.random.default_rng(seed)
    event = (rng.random(rows) < 0.6).astype(float)
    event[rng.choice(rows, unseen, replace=False)] = np.nan
    group = np.where(rng.random(rows) < 0.5, "a", "b").astype(object)
    return {"time": rng.exponential(8.0, rows), "event": event, "group": group}


def upto(arrays: dict[str, np.ndarray], group: int) -> dict[int, int]:
    """Of each time of the grid up to which a curve tells for certain how many rows there are: how many."""
    early, late = (np.cumsum(arrays[f"rows_{end}"][group]) for end in ("first", "last"))
    return {place: int(early[place]) for place in np.flatnonzero((early == late)[:-1])}


def between(data: dict[str, Any], by: list[str]) -> list[int]:
    """Rows between two times of which a curve is not and a histogram of its time is: those without an event."""
    source = TableSource(Table.of(data))
    [*_, said] = answers(site(data, [["kaplan_meier", ["time", "event"], {"grid": GRID}, by]], source))
    arrays = {name.rpartition(".")[2]: np.asarray(a) for name, a in said.record.arrays.items()}
    found = []
    for group, label in enumerate(sorted(set(data["group"])) if by else [None]):
        mine = np.asarray(data["time"])[np.asarray(data["group"]) == label] if by else np.asarray(data["time"])
        known = upto(arrays, group)
        counts = [(0, 0), *((int((mine <= GRID[place]).sum()), rows) for place, rows in known.items())]
        for (bins_a, rows_a), (bins_b, rows_b) in itertools.combinations(counts, 2):
            if rows_b > rows_a:
                found.append(bins_b - bins_a - (rows_b - rows_a))
    return found


@pytest.mark.parametrize("by", [[], ["group"]])
@pytest.mark.parametrize("unseen", [3, 25, 60])
def test_a_histogram_of_times_less_the_curve_does_not_say_where_few_without_an_event_stand(
    unseen: int, by: list[str]
) -> None:
    told = [between(survival(seed, unseen), by) for seed in range(12)]
    assert not any(few(found) for found in told)
    if unseen == 60:
        assert any(len(set(found)) > 1 for found in told)  # where many stand is told


@pytest.mark.parametrize("kind", [0.0, 1.0])
def test_labels_of_the_event_less_those_of_the_curve_do_not_say_what_became_of_few_without_a_time(kind: float) -> None:
    """Three have no date; whether they died is what all who died are more than those in the curve."""
    data = survival(1, 0)
    data["time"][np.flatnonzero(data["event"] == kind)[:3]] = np.nan
    federation = hanse.simulate({"a": data})
    labels = federation.analytics().value_counts("event")["event"]
    assert sum(labels.values()) == 300
    with pytest.raises(ConfigError, match="lack the other"):
        federation.analytics().kaplan_meier("time", "event", grid=GRID)
    assert federation.analytics(by="group").kaplan_meier("time", "event", grid=GRID) == {"a": None, "b": None}
    data["time"][np.flatnonzero(data["event"] == kind)[:40]] = np.nan
    assert hanse.simulate({"a": data}).analytics().kaplan_meier("time", "event", grid=GRID) is not None


@pytest.mark.parametrize("unseen", [3, 45])
def test_nor_do_they_on_the_total(unseen: int) -> None:
    frames = {f"site-{k}": survival(k, unseen // 3, 100) for k in range(3)}
    policy = {"statistics_minimum": "total", "secure_aggregation_nodes": 3}
    analytics = hanse.simulate(frames, policy=policy).analytics(gathering="secure")
    if unseen == 3:
        with pytest.raises(ConfigError, match="lack the other"):
            analytics.kaplan_meier("time", "event")
        return
    curve = analytics.kaplan_meier("time", "event")
    time, event = (np.concatenate([frame[name] for frame in frames.values()]) for name in ("time", "event"))
    ends = [-1.0, *curve["times"]]
    lost = [int((np.isnan(event) & (time > a) & (time <= b)).sum()) for a, b in itertools.combinations(ends, 2)]
    assert not few(lost)


# ---------------------------------------------------------------- shares of several sets of columns


def cells_of(data: dict[str, Any], columns: list[str], by: list[str]) -> Any:
    [*_, said] = answers(site(data, [["sparsity", columns, {}, by]]))
    [cells] = (np.asarray(a) for name, a in said.record.arrays.items() if name.endswith(".cells"))
    return cells


def test_a_share_of_two_columns_less_that_of_one_does_not_tell_the_others_few() -> None:
    """Three lack a blood value: zero cells of both columns, less those of the one."""
    rng = np.random.default_rng(0)
    data = {"pay": rng.normal(size=200), "blood": rng.normal(size=200)}
    data["pay"][:40] = np.nan
    data["blood"][50:53] = np.nan
    both, pay, blood = (cells_of(data, names, [])[0] for names in (["pay", "blood"], ["pay"], ["blood"]))
    assert not few(both - pay)
    assert not few(both - blood)
    [share] = (
        hanse.simulate({"a": data}).analytics().fetch_stats("sparsity", ["pay", "blood"]).values("sparsity").values()
    )
    assert share.least < 43 / 400 <= share.most


@pytest.mark.parametrize("seed", range(40))
def test_no_sets_of_columns_and_groups_differ_by_few(seed: int) -> None:
    """Every sum of what is told, of all rows less groups, and of one set of columns less another."""
    rng = np.random.default_rng(seed)
    rates = rng.choice([0.0, 0.01, 0.03, 0.2], 3)
    data: dict[str, Any] = {
        name: np.where(rng.random(200) < rate, np.nan, 1.0) for name, rate in zip("xyz", rates, strict=True)
    }
    data["ward"] = np.array([f"w{k}" for k in rng.integers(0, 4, 200)], object)
    sets = [list(names) for size in (1, 2, 3) for names in itertools.combinations("xyz", size)]
    whole = {tuple(names): cells_of(data, names, [])[0] for names in sets}
    by = {tuple(names): cells_of(data, names, ["ward"]) for names in sets}
    for one, two in itertools.permutations(whole, 2):
        if set(one) < set(two):
            assert not few(whole[two] - whole[one])
            together = (by[one].sum(1) > 0) & (by[two].sum(1) > 0)
            assert not few((by[two] - by[one])[together])
    for name in "xyz":  # what is told of a column in a group, by whichever sets, and what all rows exceed these by
        told = {}
        for one, two in itertools.product(by, [*by, ()]):
            if {*two} < {*one} and {*one} - {*two} == {name}:
                shares = by[one] - (by[two] if two else 0)
                both = (by[one].sum(1) > 0) & (by[two].sum(1) > 0 if two else True)
                told |= {int(group): shares[group] for group in np.flatnonzero(both)}
        exact = np.isnan(data[name]).sum() == whole[(name,)][0]
        assert not exact or not few(whole[(name,)] - sum(told.values(), np.zeros(2, np.int64)))


# ---------------------------------------------------------------- pairs of columns of two questions


def gaps(first: range, second: range) -> dict[str, Any]:
    """Pays, and two measurements that lack the rows named; the pay of row 0 is nobody else's."""
    rng = np.random.default_rng(8)
    data: dict[str, Any] = {name: rng.normal(size=200) for name in ("pay", "blood", "age")}
    data["pay"][0] = SECRET
    data["blood"][first], data["age"][second] = np.nan, np.nan
    data["ward"] = np.array(["a", "b"] * 100, object)
    return data


def sums_of_pay(
    source: TableSource, data: dict[str, Any], other: str, by: list[str], beside: tuple[str, ...] = ()
) -> tuple[int, float]:
    """The rows of the pair with another column, and the sum of the pays of these; of groups, of all of them."""
    said = answers(site(data, [["pair_means", ["pay", other, *beside], {}, by]], source))
    arrays = {name.rpartition(".")[2]: np.asarray(a) for one in said for name, a in one.record.arrays.items()}
    return int(arrays["N"][:, 0, 1].sum()), float(arrays["S"][:, 0, 1].sum())


@pytest.mark.parametrize("beside", [(), ("nowhere",)])  # a column that the site lacks
@pytest.mark.parametrize("by", [[], ["ward"]])
@pytest.mark.parametrize("order", [("blood", "age"), ("age", "blood")])
def test_pairs_of_two_questions_do_not_tell_what_one_person_has(
    order: tuple[str, str], by: list[str], beside: tuple[str, ...]
) -> None:
    """Of row 0 age is known, and blood is not: its pay is the sum of the one pair less that of the other."""
    data = gaps(range(40), range(1, 40))
    source = TableSource(Table.of(data))
    first, second = (sums_of_pay(source, data, other, by, beside) for other in order)
    assert first[0] > 0
    assert second[0] == 0 or abs(abs(first[1] - second[1]) - SECRET) > SECRET / 2
    assert sums_of_pay(source, data, order[0], by) == first  # what was told is told again
    assert sums_of_pay(source, data, order[1], by) == second


def test_what_an_earlier_release_told_of_pairs_counts() -> None:
    """A node that had told pairs of columns before it was upgraded answered no question about pairs any more."""
    data = gaps(range(40), range(1, 40))
    source = TableSource(Table.of(data))
    source.memory["pairs"] = [["blood", "pay"], ["pay"]]
    assert sums_of_pay(source, data, "age", [])[0] == 0  # less that of blood, it would be one person's
    assert sums_of_pay(source, data, "blood", [])[0] > 0


def test_pairs_that_differ_by_many_or_by_none_are_told() -> None:
    for first, second, rows in ((range(40), range(40), 160), (range(40), range(20), 180), (range(0), range(0), 200)):
        data = gaps(first, second)
        source = TableSource(Table.of(data))
        assert sums_of_pay(source, data, "blood", [])[0] == 200 - len(first)
        assert sums_of_pay(source, data, "age", [])[0] == rows


def test_covariances_say_why_a_pair_of_another_question_is_kept_back() -> None:
    analytics = hanse.simulate({"a": gaps(range(40), range(1, 40))}).analytics()
    assert analytics.correlation(["pay", "blood"]) is not None
    found = analytics.ask("covariance", ["pay", "age"])
    assert found.value(found.wanted[0])[0][1] is None
    assert any("differ by few rows from what was told before" in note for note in found.notes)


def test_more_columns_than_are_compared_are_kept_back_where_some_are_missing() -> None:
    """Who asks for pairs one after the other, until they are too many to be compared, gets no more of them."""
    rng = np.random.default_rng(0)
    names = [f"c{i:02d}" for i in range(36)]
    data: dict[str, Any] = {name: rng.normal(size=100) for name in ["pay", *names]}
    data[names[0]][:30] = np.nan
    source = TableSource(Table.of(data))
    told = [sums_of_pay(source, data, name, [])[0] for name in names]
    assert told[:31] == [70, *[100] * 30]
    assert not any(told[32:])
    assert sums_of_pay(source, data, names[1], [])[0] == 100


# ---------------------------------------------------------------- pairs of columns, in all rows and in groups


def in_wards(seed: int | None = None) -> dict[str, Any]:
    """Pays, and two measurements that lack other rows in each ward. Without a seed: 61 of all rows have one of them and
    not the other, and of ward a only row 0, whose pay is nobody else's."""
    rng = np.random.default_rng(seed)
    data: dict[str, Any] = {name: rng.normal(size=200) for name in ("pay", "blood", "age")}
    if seed is None:
        data["ward"] = np.array(["a", "b"] * 100, object)
        a, b = np.arange(0, 200, 2), np.arange(1, 200, 2)
        data["pay"][0] = SECRET
        data["blood"][[*a[1:21], *b[:30]]] = data["age"][[*a[:21], *b[30:60]]] = np.nan
        return data
    data["ward"] = rng.choice(np.array(["a", "b", "c"], object), 200, p=rng.dirichlet([1, 1, 1]) * 0.9 + 1 / 30)
    for name, ward in itertools.product(("pay", "blood", "age"), "abc"):
        rate = rng.choice([0.0, 0.0, 0.02, 0.2, 0.5, 0.97]) * (0.1 if name == "pay" else 1)
        data[name][(data["ward"] == ward) & (rng.random(200) < rate)] = np.nan
    if rng.random() < 0.5:  # both lack the same rows, but for few
        data["age"][np.isnan(data["blood"]) | (rng.random(200) < 0.02)] = np.nan
    return data


def sums_in_wards(source: TableSource, data: dict[str, Any], columns: list[str], by: list[str]) -> dict[Any, Any]:
    """Of each pair of pay with another column, or pay alone, and ward (None: all rows): rows and sum of pays."""
    said = answers(site(data, [["pair_means" if columns[1:] else "mean", columns, {}, by]], source))
    arrays = {name.rpartition(".")[2]: np.asarray(a) for one in said for name, a in one.record.arrays.items()}
    wards = list(unpack(arrays["labels"][0])) if by else [None]
    if not columns[1:]:
        return {("pay", ward): (int(n), 0.0) for ward, n in zip(wards, arrays["n"], strict=True) if n}
    return {
        (name, ward): (int(arrays["N"][at, 0, place]), float(arrays["S"][at, 0, place]))
        for at, ward in enumerate(wards)
        for place, name in enumerate(columns)
        if place and arrays["N"][at, 0, place]
    }


@pytest.mark.parametrize("totals", [True, False])
def test_pairs_told_of_all_rows_are_compared_again_in_groups(totals: bool) -> None:
    """Of all rows (pay, blood) and (pay, age) differ by many; in ward a by one, whose pay one sum less the other is."""
    data = in_wards()
    source = TableSource(Table.of(data))
    told = [sums_in_wards(source, data, ["pay", name], []) for name in ("blood", "age") if totals]
    assert all(told)
    first = sums_in_wards(source, data, ["pay", "blood"], ["ward"])
    second = sums_in_wards(source, data, ["pay", "age"], ["ward"])
    assert first["blood", "a"][0] == 80
    assert not second
    assert sums_in_wards(source, data, ["pay", "blood"], ["ward"]) == first  # what was told is told again
    assert [sums_in_wards(source, data, ["pay", name], []) for name in ("blood", "age") if totals] == told


def test_a_pair_of_all_rows_less_a_columns_means_in_groups_does_not_tell_of_those_kept_back() -> None:
    """Three of ward a have a blood value, and nobody of ward b: wards a and b are kept back together, and the pays of
    all with a blood value, less those of ward c, would be those of the three."""
    rng = np.random.default_rng(1)
    ward = np.array(["a"] * 3 + ["b"] * 50 + ["c"] * 100, object)
    data = {"pay": rng.normal(size=153), "blood": np.where(ward == "b", np.nan, 1.0), "ward": ward}
    for order in (1, -1):
        source = TableSource(Table.of(data))
        asked = [(["pay"], ["ward"]), (["pay", "blood"], [])][::order]
        first, second = (sums_in_wards(source, data, columns, by) for columns, by in asked)
        assert first
        assert not second


@pytest.mark.parametrize("seed", range(60))
def test_no_pairs_of_all_rows_and_of_groups_add_up_to_few(seed: int) -> None:
    """Whatever is asked in which order: of two pairs, or a pair and a column, nothing that is told of all rows and of
    groups adds up, each added, taken off or left out, to what few have."""
    data = in_wards(seed)
    source, order = TableSource(Table.of(data)), np.random.default_rng(seed)
    sets = [["pay", "blood"], ["pay", "age"], ["pay", "blood", "age"], ["pay"]]
    asked = [(columns, by) for columns in sets for by in ([], ["ward"]) if columns[1:] or by]
    order.shuffle(asked)
    there = ~np.isnan(data["pay"])
    told = {("pay", None): there}
    for columns, by in asked:
        for (name, ward), (n, _) in sums_in_wards(source, data, list(columns), list(by)).items():
            rows = there & ~np.isnan(data[name]) & (True if ward is None else data["ward"] == ward)
            assert rows.sum() == n
            told[name, ward] = rows
    for two in itertools.combinations(("pay", "blood", "age"), 2):
        mine = [np.zeros(200, bool), *(rows for (name, _), rows in told.items() if name in two)]
        ways, counts = np.unique(np.array(mine, float), axis=1, return_counts=True)
        taken = np.array([(0, *some) for some in itertools.product((-1, 0, 1), repeat=len(mine) - 1)], float)
        assert not few((taken @ ways != 0) @ counts)


# ---------------------------------------------------------------- means of a column by two groupings


def in_units(seed: int | None = None) -> dict[str, Any]:
    """Pays, of which units are whole wards, but for few: without a seed, for row 0, whose pay is nobody else's."""
    rng = np.random.default_rng(seed)
    pay, ward = rng.normal(size=200), rng.choice(np.array(["a", "b", "c"], object), 200)
    if seed is None:
        pay[0], ward[0] = SECRET, "a"
        other = np.arange(200) == 0
    else:
        pay[rng.random(200) < rng.choice([0.0, 0.05])] = np.nan
        other = rng.random(200) < rng.choice([0.0, 0.01, 0.04, 0.2])
    east = ((ward == "a") | (ward == rng.choice(["a", "b"]) if seed else ward == "a")) ^ other
    return {"pay": pay, "ward": ward, "unit": np.where(east, "east", "west").astype(object)}


def in_groups(source: TableSource, data: dict[str, Any], by: list[str], items: list[Any] | None = None) -> Any:
    said = answers(site(data, items or [["mean", ["pay"], {}, by]], source))
    arrays = {name.rpartition(".")[2]: np.asarray(a) for one in said for name, a in one.record.arrays.items()}
    return dict(zip(unpack(arrays["labels"][0]), zip(arrays["n"], arrays["sum"], strict=True), strict=True))


@pytest.mark.parametrize("order", [("ward", "unit"), ("unit", "ward")])
def test_means_by_two_groupings_do_not_tell_who_is_in_one_group_and_not_in_the_other(order: tuple[str, str]) -> None:
    """Row 0 is of ward a, and the others of ward a are unit east: the one sum less the other is its pay."""
    data = in_units()
    source = TableSource(Table.of(data))
    first, second = (in_groups(source, data, [by]) for by in order)
    assert all(n for n, _ in first.values())
    assert not any(n for n, _ in second.values())
    assert in_groups(source, data, [order[0]]) == first
    analytics = hanse.simulate({"a": data}).analytics()
    assert analytics.fetch_stats("mean", ["pay"], by=order[0]) is not None
    found = analytics.fetch_stats("mean", ["pay"], by=order[1])
    assert set(found.value(found.wanted[0]).values()) == {None}
    assert any("differ by few rows from" in note for note in found.notes)


@pytest.mark.parametrize("seed", range(1, 61))
def test_no_groups_by_two_columns_add_up_to_few(seed: int) -> None:
    data = in_units(seed)
    source, there = TableSource(Table.of(data)), ~np.isnan(data["pay"])
    sets = [np.zeros(200, bool), there]
    for by in ("ward", "unit") if seed % 2 else ("unit", "ward"):
        for label, (n, _) in in_groups(source, data, [by]).items():
            rows = there & (data[by] == label)
            assert n in (0, rows.sum())
            sets += [rows] if n else []
    assert len(sets) > 3
    ways, counts = np.unique(np.array(sets, float), axis=1, return_counts=True)
    taken = np.array([(0, *some) for some in itertools.product((-1, 0, 1), repeat=len(sets) - 1)], float)
    assert not few((taken @ ways != 0) @ counts)
