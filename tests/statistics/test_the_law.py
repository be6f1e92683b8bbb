"""Nothing is wrong without a word: every value is that of the pooled rows it rests on, or says how far off it may be;
what it does not rest on is named; and nothing that is hidden looks like zero."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from pooled import ask
from scipy import stats

import hanse
from hanse.errors import ConfigError, RunFailed
from hanse.experiment.by_name import offered
from hanse.queries import make_item, statistic
from hanse.registry import names
from hanse.rough import Figures, Rough, Unsure, bare
from tests.combinations import every_other

DEFAULT = {"minimum_cell": 10, "allow_extremes": False, "allow_node_statistics": False}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "histogram": {"bin_edges": [20.0, 35.0, 50.0, 65.0, 80.0]},
    "quantile": {"q": [0.1, 0.5, 0.9]},
    **{name: {"group": "g"} for name in ("t_test", "smd", "mann_whitney", "logrank")},
}
COLUMNS = {"kaplan_meier": ["t", "e"], "logrank": ["t", "e"], "crosstab": ["g", "h"]}
LABELS = ("levels", "value_counts")


def sites(rows: list[int], seed: int = 0) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    return {
        f"s{i:02d}": pd.DataFrame(
            {
                "x": rng.normal(50, 10, n),
                "y": rng.normal(0, 1, n),
                "t": rng.exponential(500, n),
                "e": rng.random(n) < 0.7,
                "g": rng.choice(["a", "b"], n, p=[0.7, 0.3]),
                "h": rng.choice(["c", "d"], n),
            }
        )
        for i, n in enumerate(rows)
    }


def asked(name: str, rows: list[int]) -> Any:
    columns = COLUMNS.get(name, ["g"] if name in LABELS else ["x"] if statistic(name).columns == 1 else ["x", "y"])
    analytics = hanse.simulate(sites(rows)).analytics()
    return analytics.ask(name, columns, ARGUMENTS.get(name, {}))


# of what was asked, of sites, and ends of what holds as it is: no value of rows that could be another one of all
EXACT = ("bin_edges", "times", "hidden", "error", "dof", "lower", "upper")


def numbers(value: Any) -> list[Any]:
    """All of them but those that are no value of rows, and the ends of ranges."""
    if isinstance(value, dict):
        of_rows = (v for k, v in value.items() if k not in EXACT and not str(k).endswith("_range"))
        return [n for one in of_rows for n in numbers(one)]
    if isinstance(value, (list, tuple)):
        return [n for one in value for n in numbers(one)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


# ---------------------------------------------------------------- every statistic


@pytest.mark.parametrize("name", names("statistics"))
def test_what_rests_on_a_part_of_the_sites_names_the_others(name: str) -> None:
    """Two sites of many rows, and three of too few."""
    result = asked(name, [300, 250, 6, 7, 8])
    [item] = result.wanted
    value = result.value(item)
    if name == "levels":  # the names that stand in enough rows at some site: no number, and told of none
        assert value == ["a", "b"]
        return
    assert result.notes
    assert all(isinstance(n, Rough) for n in numbers(value)), value
    assert all(set(n.missing) >= {"s02", "s03", "s04"} for n in numbers(value))
    if isinstance(value, dict):
        assert isinstance(value, Figures)
        assert "kept back at" in repr(value)
    json.dumps(value)


SHORT: dict[str, Any] = {
    **{name: lambda a, name=name: getattr(a, name)(dataset_schema=["x"]) for name in offered()},
    **{name: lambda a, name=name: getattr(a, name)(["x", "y"]) for name in offered() if statistic(name).columns == 0},
    **{name: lambda a, name=name: getattr(a, name)(group="g", dataset_schema=["x"]) for name in ("smd",)},
    **{name: lambda a, name=name: getattr(a, name)("x", "g") for name in ("t_test", "mann_whitney")},
    "value_counts": lambda a: a.value_counts(["h"]),
    "crosstab": lambda a: a.crosstab("g", "h"),
    "kaplan_meier": lambda a: a.kaplan_meier("t", "e"),
    "logrank": lambda a: a.logrank("t", "e", "g"),
    "quantile": lambda a: a.quantile([0.1, 0.5, 0.9], ["x"]),
    "describe": lambda a: list(a.describe(["x"])),
    "table_one": lambda a: a.table_one("g", dataset_schema=["x"]).smd,
    "frame": lambda a: a.fetch_stats(["mean", "std"], "x").to_frame().iloc[0].tolist(),
    "json": lambda a: a.fetch_stats(["mean", "std"], "x").to_json()["statistics"],
}


@pytest.mark.parametrize("name", SHORT)
def test_what_a_short_form_gives_names_the_sites_that_are_not_in_it(name: str) -> None:
    """Of 18 sites, t_test and table_one answered for one, and nothing said so; a table of columns printed no note, and
    a frame plain numbers."""
    found = SHORT[name](hanse.simulate(sites([300, 250, 6, 7, 8])).analytics())
    if name == "json":
        assert all(set(told["x"]["missing"]) == {"s02", "s03", "s04"} for told in found.values())
        return
    silent = ("distinct", "min", "max", "logrank")  # which no owner lets leave by default, and a p that is a range
    assert numbers(found) or name in silent
    assert all(isinstance(n, Rough) and set(n.missing) >= {"s02", "s03", "s04"} for n in numbers(found)), found
    if name in offered() and isinstance(found, dict):
        assert any("kept back at" in note for note in found.notes)


@pytest.mark.parametrize("name", SHORT)
def test_a_short_form_of_what_all_sites_keep_back_says_so(name: str) -> None:
    """A curve and a matrix of fifty sites of six rows were None, and that was all; notes named fifty sites each."""
    with hanse.simulate(sites([6] * 12)) as federation:
        if name == "frame":
            assert not [n for n in numbers(SHORT[name](federation.analytics())) if n]
            return
        try:
            found = SHORT[name](federation.analytics())
        except ConfigError as error:
            said = error.message
        else:
            assert not [n for n in numbers(found) if n]
            said = repr(found)
    assert name in ("json", "describe") or re.search("s05 and 6 more|compared; there are (0 .none.|none)", said), said
    assert "s06" not in said


def test_a_description_says_what_is_kept_back() -> None:
    with hanse.simulate(sites([300, 250, 6, 7, 8])) as federation:
        described = federation.analytics().describe(["x"])
    assert "! kept back at s02, s03, s04" in repr(described)
    assert "kept back at s02, s03, s04" in described._repr_html_()


@pytest.mark.parametrize("name", names("statistics"))
def test_one_site_is_not_told_alone_because_the_others_keep_theirs_back(name: str) -> None:
    result = asked(name, [36, *[9] * 7])
    if name in ("t_test", "smd", "mann_whitney"):  # no two groups are left to compare
        with pytest.raises(ConfigError, match="keep theirs back|kept back at"):
            result.value(result.wanted[0])
        return
    value = result.value(result.wanted[0])
    assert name == "levels" or not [n for n in numbers(value) if n], value
    assert name == "levels" or any("kept back at" in note or "keep theirs back" in note for note in result.notes)


@pytest.mark.parametrize("name", names("statistics"))
def test_values_are_plain_where_nothing_is_hidden(name: str) -> None:
    rows = sites([300, 250])
    open_ = {"minimum_cell": 1, "allow_extremes": True}
    columns = COLUMNS.get(name, ["g"] if name in LABELS else ["x"] if statistic(name).columns == 1 else ["x", "y"])
    with hanse.simulate(rows, policy=open_) as there:
        result = there.analytics().ask(name, columns, ARGUMENTS.get(name, {}))
        value = result.value(result.wanted[0])
    if not _lacks(value):
        assert not result.notes
        assert not isinstance(value, Figures)
    if name not in ("quantile", "median", "kaplan_meier"):  # of cells, and of a grid, as narrow as they are
        assert not any(isinstance(n, Rough) for n in numbers(value))


def _lacks(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_lacks(one) for one in value.values())
    return any(_lacks(one) for one in value) if isinstance(value, list) else value is None


@pytest.mark.parametrize(("name", "rows"), every_other(names("statistics"), [[30] * 5, [12, 40], [100] * 3, [1, 2]]))
def test_what_is_none_says_why(name: str, rows: list[int]) -> None:
    """p of a rank test was None beside a range, an outer quantile None beside nothing."""
    result = asked(name, rows)
    if name in ("t_test", "smd", "mann_whitney") and min(rows) < 30:  # there are no two groups to compare
        with pytest.raises(ConfigError, match="two groups are compared; there are"):
            result.value(result.wanted[0])
        return
    value = result.value(result.wanted[0])
    assert not _lacks(value) or result.notes, value


def test_every_value_says_of_how_many_rows_it_is() -> None:
    """An answer of one site's 36 of 227 rows looked like one of all."""
    result = asked("mean", [300, 250, 6, 7, 8])
    [item] = result.wanted
    scope = result.scope(item)
    assert (scope.rows, scope.asked, sorted(scope.missing)) == (550, 571, ["s02", "s03", "s04"])
    assert "550 of at most 571 rows" in repr(result)
    assert str(result.value(item)).endswith("(of 550 of at most 571 rows, without s02, s03, s04)")
    told = result.to_json()
    assert told["rests_on"]["mean of x"] == scope.to_json()
    number = told["statistics"]["mean"]["x"]
    assert (number["rows"], number["asked"], sorted(number["missing"])) == (550, 571, ["s02", "s03", "s04"])
    whole = asked("mean", [300, 250])
    assert not isinstance(whole.value(whole.wanted[0]), Rough)
    assert whole.to_json()["rests_on"]["mean of x"] == {"rows": 550, "asked": 550, "missing": {}}


@pytest.mark.parametrize(
    ("name", "columns", "options", "says"),
    [
        ("mann_whitney", ["x"], {"group": "g"}, "p is not told: it lies between"),
        ("logrank", ["t", "e"], {"group": "g"}, "p is not told: it lies between"),
        ("quantile", ["x"], {"q": [0.05]}, "no value for 0.05"),
        ("kaplan_meier", ["t", "e"], {"grid": [50.0, 100.0]}, "the median is not told"),
    ],
)
def test_a_sentence_stands_beside_what_is_not_told(name: str, columns: list[str], options: Any, says: str) -> None:
    result = hanse.simulate(sites([100] * 5)).analytics().ask(name, columns, options)
    value = result.values(name)
    assert any(says in note for note in value.notes), value.notes
    assert says in repr(result)


# ---------------------------------------------------------------- numbers that are not sure


def test_a_number_says_that_it_is_not_sure() -> None:
    value = Rough(50.0, 48.0, 53.0)
    assert repr(value) == str(value) == "50 (48 to 53)"
    assert f"{value:.1f}" == "≈50.0"
    assert pickle.loads(pickle.dumps(value)).most == 53.0  # noqa: S301
    assert float(value) == 50.0
    assert value > 40
    with pytest.warns(Unsure, match="compared"):
        assert value > 49
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum([value, value]) == 100.0


# ---------------------------------------------------------------- faults that were found


def test_mann_whitney_makes_no_significance_out_of_nothing() -> None:
    """5 sites of 40 rows, of which 28 are of one group and 12 of the other: p was 1e-6 where pooled rows give 0.54."""
    rng = np.random.default_rng(0)
    label = ["a"] * 28 + ["b"] * 12
    frames = {f"s{i}": pd.DataFrame({"x": rng.normal(50, 10, 40), "g": label}) for i in range(5)}
    found = hanse.simulate(frames).analytics().mann_whitney("x", "g")
    pooled = pd.concat(frames.values())
    test = stats.mannwhitneyu(*(pooled.x[pooled.g == g] for g in "ab"), method="asymptotic")
    assert found["p"] is None
    assert found["p_range"][0] <= test.pvalue <= found["p_range"][1]
    assert found["u_range"][0] <= test.statistic <= found["u_range"][1]


def test_the_median_of_few_rows_is_not_placed_too_low() -> None:
    """Each site's rows stood half a row too low, as a run begins behind the last row of the run before and ends with
    its own; a median of an even number of rows on the lower one of two: 0.06 standard deviations at 5 x 30."""
    item, errors = make_item("median", ["x"], {}), []
    for seed in range(40):
        rows = np.random.default_rng((30, seed)).normal(50, 10, (5, 30))
        for each in (rows, 100 - rows):
            found = ask({f"s{i}": pd.DataFrame({"x": x}) for i, x in enumerate(each)}, [item], **DEFAULT).value(item)
            errors.append((found - float(np.median(each))) / 10)
    assert -0.035 < np.mean(errors) < 0.01
    assert np.median(np.abs(errors)) < 0.07


@pytest.mark.parametrize("rows", [22, 27, 30])
def test_what_stands_beyond_all_cells_is_no_quantile(rows: int) -> None:
    """The outermost cell, which has no end, was divided like any other: a quantile was -1.5e20, and in its bounds."""
    item = make_item("quantile", ["x"], {"q": [0.2, 0.35, 0.5, 0.65, 0.8], "depth": 3})
    for seed in range(12):
        x = np.random.default_rng((rows, seed)).normal(50, 10, rows)
        found = ask({"s": pd.DataFrame({"x": x})}, [item], **DEFAULT)
        for value, (least, most) in zip(found.value(item), found.bounds(item), strict=True):
            assert value is None or x.min() <= value <= x.max()
            assert all(end is None or x.min() <= end <= x.max() + 1e-9 for end in (least, most))


def test_a_quantile_between_two_rows_lies_between_them() -> None:
    """The median of 10, 20, 77 and 78 is 48.5: that of an even number of rows was the lower one of two."""
    item = make_item("median", ["x"], {"depth": 3})
    found = ask({"a": pd.DataFrame({"x": [10.0, 78.0]}), "b": pd.DataFrame({"x": [20.0, 77.0]})}, [item])
    assert found.value(item) == pytest.approx(48.5, abs=0.02)
    item = make_item("quantile", ["x"], {"q": [0.25, 0.5, 0.9], "depth": 3})
    ages = np.random.default_rng(0).integers(20, 90, 40)
    found = ask({"a": pd.DataFrame({"x": ages[:18]}), "b": pd.DataFrame({"x": ages[18:]})}, [item])
    assert found.value(item) == pytest.approx(np.quantile(ages, [0.25, 0.5, 0.9]), abs=1e-3)


@pytest.mark.parametrize(
    ("many", "moved"), every_other([(5, 100, 4, 1.5e-3), (20, 60, 4, 1.5e-3), (5, 500, 16, 8e-5)], [0.0, 5.0])
)
def test_ranks_of_joined_cells_are_nearly_those_of_the_rows(many: tuple[int, int, int, float], moved: float) -> None:
    """U was off by 0.003 of all pairs at 5 sites of 100 rows and by 0.0006 at 5 of 500, and not told at 20 of 60. Of 5
    sites of 500 the median error is 4.4e-5; that of four draws is anything from 2e-5 to 1e-4, so there are more."""
    count, rows, draws, off = many
    errors, item = [], make_item("mann_whitney", ["x"], {"group": "g", "groups": ["a", "b"]})
    for seed in range(draws):
        frames = sites([rows] * count, seed)
        for frame in frames.values():
            frame["g"] = np.where(np.arange(rows) % 2, "a", "b")
            frame["x"] += moved * (frame["g"] == "a")
        found = ask(frames, [item], **DEFAULT).value(item)
        pooled = pd.concat(frames.values())
        true = stats.mannwhitneyu(*(pooled.x[pooled.g == g] for g in "ab"), method="asymptotic")
        assert _inside(true.statistic, found["u_range"])
        errors.append(abs(found["u"] - true.statistic) / (count * rows / 2) ** 2)
    assert np.median(errors) < off * (1 + moved)


def test_a_p_value_is_told_where_its_range_decides() -> None:
    frames = sites([500] * 5)
    for frame in frames.values():
        frame["x"] += 8.0 * (frame["g"] == "a")
    found = hanse.simulate(frames).analytics().mann_whitney("x", "g")
    assert found["p_range"][0] <= float(found["p"]) <= found["p_range"][1] < 0.05


def test_survival_does_not_move_late() -> None:
    """5 sites of 100: a median of 1044 was told for 531, in a band that did not hold it."""
    frames = sites([100] * 5)
    curve = hanse.simulate(frames).analytics().kaplan_meier("t", "e")
    pooled = pd.concat(frames.values())
    exact = KaplanMeierFitter().fit(pooled.t, pooled.e)
    true = exact.predict(curve["times"]).to_numpy()
    told = np.array([np.nan if v is None else v for v in curve["survival"]])
    assert np.nanmedian(np.abs(told - true)) < 0.03
    least, most = np.array(curve["survival_range"]).T
    assert np.all((least <= true + 1e-12) & (true <= most + 1e-12))
    low, high = curve["median_range"]
    assert low <= exact.median_survival_time_ <= high
    assert abs(curve["median"] - exact.median_survival_time_) < 60


def test_no_answer_makes_another_rougher() -> None:
    """One curve on the default grid made that of the full grid rougher for ever."""
    frames, grid = sites([500] * 3), [float(i) for i in range(0, 3000, 5)]
    first = hanse.simulate(frames).analytics().kaplan_meier("t", "e", grid=grid)
    federation = hanse.simulate(frames)
    for other in (None, [100.0, 333.3, 1000.0], [7.0, 8.0]):
        federation.analytics().kaplan_meier("t", "e", grid=other)
    assert bare(federation.analytics().kaplan_meier("t", "e", grid=grid)) == bare(first)


def test_edges_of_ones_own_after_automatic_ones_lose_nobody() -> None:
    """46,863 of 60,000 rows were in no bin."""
    rng = np.random.default_rng(0)
    analytics = hanse.simulate({f"s{i}": {"x": rng.normal(50, 10, 20_000)} for i in range(3)}).analytics()
    analytics.histogram("x")
    edges = [0.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 100.0]
    found = analytics.ask("histogram", "x", {"bin_edges": edges}).values("histogram")["x"]
    assert sum(found["counts"]) == 60_000
    assert all(high - low < 200 for low, high in found["counts_range"])


def test_bins_that_all_sites_keep_back_are_not_zero() -> None:
    found = hanse.simulate(sites([12] * 5)).analytics().histogram("x")["x"]
    assert not any(n == 0 and high for n, (_, high) in zip(found["counts"], found["counts_range"], strict=True))


def test_whole_numbers_and_booleans_stay_what_they_are() -> None:
    """Medians were 77.0000000008, and -8.5e-06 of a column of true and false."""
    rng = np.random.default_rng(0)
    frames = {f"s{i}": {"age": rng.integers(20, 99, 900) * 1.0, "ill": rng.random(900) < 0.3} for i in range(3)}
    found = hanse.simulate(frames, policy={"minimum_cell": 1}).analytics()
    median = found.median("age")["age"]
    assert float(median) == round(float(median))
    assert float(found.median("ill")["ill"]) == 0.0


def test_quantiles_of_whole_years_are_whole_years() -> None:
    """They stood between two years, and half a year too low, as rows that are told together were spread evenly."""
    item, right = make_item("quantile", ["age"], {"q": [0.05, 0.25, 0.5, 0.75, 0.95]}), 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        frames = {f"s{i}": pd.DataFrame({"age": rng.integers(20, 90, 500)}) for i in range(5)}
        found = ask(frames, [item], **DEFAULT).value(item)
        assert all(value == round(value) for value in found)
        right += sum(
            value == np.quantile(pd.concat(frames.values()).age, q)
            for value, q in zip(found, item.options["q"], strict=True)
        )
    assert right >= 16


def test_rows_of_hidden_bins_are_not_absent_from_quantiles() -> None:
    """They were: of costs in wide bins the lower quartile was 12,568 where pooled rows give 9,726."""
    edges, q = [0.0, 5e3, 1e4, 1.5e4, 2e4, 3e4, 5e4], [0.1, 0.25, 0.5, 0.75, 0.9]
    item, told = make_item("quantile", ["cost"], {"q": q, "bin_edges": edges}), 0
    for seed, rows in enumerate((30, 60, 200, 30, 60, 200)):
        rng = np.random.default_rng(seed)
        frames = {f"s{i}": pd.DataFrame({"cost": np.exp(rng.normal(9.3, 0.8, rows))}) for i in range(5)}
        found = ask(frames, [item], **DEFAULT)
        pooled = np.quantile(pd.concat(frames.values()).cost, q)
        for value, true, ends in zip(found.value(item), pooled, found.bounds(item), strict=True):
            assert _inside(float(true), ends)
            assert value is None or ends[0] <= value <= ends[1]
            told += value is not None
    assert told > 8


def test_times_before_zero_are_refused() -> None:
    with pytest.raises(RunFailed, match="negative survival times"):
        hanse.simulate({"a": {"t": np.arange(-1.0, 99.0), "e": np.ones(100)}}).analytics().kaplan_meier("t", "e")


@pytest.mark.parametrize("name", ["kaplan_meier", "logrank"])
def test_events_that_are_coded_1_and_2_are_refused(name: str) -> None:
    """As R's survival package codes them: censored is 1, which counted as an event, and nothing was said."""
    frames = sites([300, 250, 200])
    frames["s01"]["e"] = frames["s01"]["e"] + 1
    coded = hanse.simulate({"s01": frames["s01"]}).analytics()
    with pytest.raises(RunFailed, match="other values than 0 and 1"):
        coded.ask(name, ["t", "e"], ARGUMENTS.get(name, {}))
    result = hanse.simulate(frames).analytics().ask(name, ["t", "e"], ARGUMENTS.get(name, {}))
    assert any(note.startswith("s01 is not in it: the column of events has other values") for note in result.notes)


def test_a_curve_and_a_test_carry_their_ends_in_each_number() -> None:
    """Survival, its median, U, chi-square and p were plain numbers beside their ranges."""
    frames = sites([500] * 5)
    for frame in frames.values():
        frame["x"] += 8.0 * (frame["g"] == "a")
        frame["t"] *= np.where(frame["g"] == "a", 1.0, 50.0)
    analytics = hanse.simulate(frames).analytics()
    curve = analytics.kaplan_meier("t", "e")
    told = [n for n in curve["survival"] if n is not None]
    assert all(isinstance(n, Rough) for n in [*told[1:-1], curve["median"]])
    assert [curve["median"].least, curve["median"].most] == curve["median_range"]
    with pytest.warns(Unsure):
        assert curve["median"] > curve["median_range"][0]
    ranks, survival = analytics.mann_whitney("x", "g"), analytics.logrank("t", "e", "g")
    assert [ranks["u"].least, ranks["u"].most] == ranks["u_range"]
    assert ranks["p"].most < 0.05
    assert survival["p"].most < 0.05
    assert survival["chi2"].least == survival["chi2_range"][0]
    bins = hanse.simulate(sites([60] * 5)).analytics().histogram("x")["x"]
    assert all(
        isinstance(n, Rough) or low == high
        for n, (low, high) in zip(bins["counts"], bins["counts_range"], strict=True)
        if n is not None
    )


def test_a_group_of_no_rows_has_no_difference() -> None:
    """Its mean was taken for 0."""
    frames = sites([300, 250])
    for frame in frames.values():
        frame.loc[frame["g"] == "b", "x"] = np.nan
    found = hanse.simulate(frames).analytics().t_test("x", "g", groups=["a", "b"])
    assert (found["difference"], found["t"], found["p"]) == (None, None, None)


def test_a_number_of_a_matrix_names_the_sites_that_are_not_in_it() -> None:
    """A site that keeps a pair of columns back was in the numbers of others, and not missing from that of the pair."""
    frames = sites([300, 250])
    frames["s01"].loc[4:, "y"] = np.nan
    for name in ("covariance", "correlation"):
        found = getattr(hanse.simulate(frames).analytics(), name)(["x", "y", "t"])
        for a, row in found.items():
            for b, number in row.items():
                assert isinstance(number, Rough) is ("y" in (a, b))
                assert "y" not in (a, b) or (list(number.missing), number.rows) == (["s01"], 300)


def test_a_site_is_not_told_alone_by_a_table_1() -> None:
    with pytest.raises(ConfigError, match="two groups or more are compared"):
        hanse.simulate(
            {f"s{i}": f.assign(g="a") for i, f in enumerate(sites([36, *[9] * 17]).values())}
        ).analytics().table_one("g")
    table = hanse.simulate(sites([36, *[9] * 17])).analytics().table_one("g")
    assert not any(n for line in table.lines for group in table.groups for n in line.numbers(group))
    assert table.notes


# ---------------------------------------------------------------- bounds hold


def _federation(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    kind, found = int(rng.integers(5)), {}
    for i in range(int(rng.integers(1, 8))):
        n = int(np.exp(rng.uniform(np.log(5), np.log(rng.choice([60, 300, 3000], p=[0.5, 0.4, 0.1])))))
        x, t = rng.normal(50, 10, n), rng.exponential(500, n)
        if kind == 1:
            x, t = np.round(x), np.round(t / 50)
        elif kind == 2:
            x = np.where(rng.random(n) < 0.5, 0.0, np.exp(rng.normal(0, 2, n)))
        elif kind == 3:
            x, t = rng.integers(0, 2, n).astype(float), np.round(t)
        elif kind == 4:  # every site another population
            x, t = x + rng.normal(0, 30), t * np.exp(rng.normal())
        g = np.where(rng.random(n) < rng.choice([0.5, 0.3, 0.1]), "a", "b")
        found[f"s{i}"] = pd.DataFrame({"x": x, "t": t, "e": rng.random(n) < rng.choice([0.2, 0.7, 0.9]), "g": g})
    return found


def _inside(value: float, bounds: Any) -> bool:
    least, most = bounds
    slack = 1e-9 * max(1.0, abs(value))
    return (least is None or least - slack <= value) and (most is None or value <= most + slack)


@pytest.mark.parametrize("part", range(2))
def test_bounds_hold_in_random_federations(part: int) -> None:
    """At the default protection, sites of 5 to 3,000 rows. ``make long`` draws three hundred times as many."""
    held = sum(_one(np.random.default_rng((part, draw))) for draw in range(6))
    assert held > 20


@pytest.mark.long
@pytest.mark.parametrize("part", range(40))
def test_bounds_hold_in_thousands_of_random_federations(part: int) -> None:
    assert sum(_one(np.random.default_rng((1000 + part, draw))) for draw in range(100)) > 400


def _one(rng: np.random.Generator) -> int:
    """How many bounds were looked at."""
    frames, q = _federation(rng), [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]
    grid = {} if rng.random() < 0.5 else {"grid": sorted(rng.uniform(0, 1500, int(rng.integers(2, 60))).tolist())}
    quantile = make_item("quantile", ["x"], {"q": q, "depth": int(rng.integers(0, 4))})
    curve, grouped = (make_item("kaplan_meier", ["t", "e"], grid, by) for by in ([], ["g"]))
    test, ranks = (
        make_item(*a, {"group": "g", "groups": ["a", "b"]}) for a in (("logrank", ["t", "e"]), ("mann_whitney", ["x"]))
    )
    items = [quantile, curve, grouped, test, ranks]
    found = ask(frames, items, **DEFAULT)
    labels = sorted(set().union(*(f.g for f in frames.values() if (f.g.value_counts() >= 10).any())))

    def rows(item: Any, label: str | None = None) -> pd.DataFrame | None:
        """Those that are in the answer."""
        of = [i for i in found.plan.items if i in found.plan.shared and i.columns == item.columns and i.by == item.by][
            -1
        ]
        known = found.value(make_item("levels", ["g"], {})) if label else [None]
        if label not in known:
            return None
        group = known.index(label)
        parts = [
            frame if label is None else frame[frame.g == label]
            for name, frame in frames.items()
            if group not in found.kept.get(of, {}).get(name, [])
        ]
        return pd.concat(parts) if parts and group not in found.single.get(of, []) else None

    looked = 0
    if (all_rows := rows(quantile)) is not None and len(all_rows):
        for one, value, bounds in zip(q, found.value(quantile) or [None] * 7, found.bounds(quantile), strict=True):
            assert _inside(float(np.quantile(all_rows.x, one)), bounds)
            assert value is None or _inside(value, bounds)
            looked += 1
    for label in (None, *labels):
        item = grouped if label else curve
        value = found.value(item) if label is None else found.value(item).get(label)
        part = rows(item, label)
        if value is None or part is None or "survival_range" not in value:
            continue
        fit = KaplanMeierFitter().fit(part.t, part.e)
        for time, told, bounds in zip(value["times"], value["survival"], value["survival_range"], strict=True):
            assert _inside(float(fit.predict(time)), bounds)
            assert told is None or _inside(told, bounds)
        assert _inside(float(fit.median_survival_time_), value["median_range"])
        band = fit.confidence_interval_
        at = np.searchsorted(band.index, value["times"], "right") - 1
        for own, low, high in zip(band.to_numpy()[at], value["lower"], value["upper"], strict=True):
            assert np.isnan(own).any() or (low <= own[0] + 1e-7 and own[1] <= high + 1e-7)
        looked += 1
    try:
        both = [found.value(test), found.value(ranks)]
    except ConfigError:
        return looked
    one, two = rows(grouped, "a"), rows(grouped, "b")
    if both[0].get("p_range") and one is not None and two is not None and not grid:
        part = pd.concat([one, two])
        assert _inside(multivariate_logrank_test(part.t, part.g, part.e).p_value, both[0]["p_range"])
        looked += 1
    cells = next(i for i in found.plan.items if i.stat == "cells" and i.by)
    one, two = rows(cells, "a"), rows(cells, "b")
    if both[1]["u_range"] and one is not None and two is not None:
        pooled = stats.mannwhitneyu(one.x, two.x, method="asymptotic")
        assert _inside(pooled.statistic, both[1]["u_range"])
        assert both[1]["p_range"] is None or np.isnan(pooled.pvalue) or _inside(pooled.pvalue, both[1]["p_range"])
        looked += 1
    return looked
