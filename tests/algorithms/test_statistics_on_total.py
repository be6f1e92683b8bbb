"""Statistics whose minimum holds on the total: what they tell is what one site with all rows would tell, and a little
more; nobody can ask twice for the difference."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test
from scipy import stats

import hanse
from hanse import policy
from hanse.algorithms import _label_sums, statistics_on_total
from hanse.errors import ConfigError, HanseError, Refused, RunFailed, Unusable
from hanse.experiment.analytics_result import FAResult
from hanse.policy.statistics_minimum import StatisticsMinimum
from hanse.queries import statistic
from hanse.registry import names
from hanse.statistics import _total_curve, variance

TOTAL = {"statistics_minimum": "total"}
TERMS: dict[str, Any] = {"minimum": 10, "nodes": 3, "labels": {}, "withheld": {}, "edges": {}, "lacking": []}


def sites(rows: list[int], seed: int = 0) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    found = {}
    for i, n in enumerate(rows):
        frame = pd.DataFrame(
            {
                "x": rng.normal(50, 10, n),
                "y": rng.normal(1e6, 1, n),
                "age": rng.integers(20, 90, n).astype(float),
                "t": rng.exponential(500, n),
                "days": rng.integers(1, 900, n).astype(float),
                "e": (rng.random(n) < 0.7).astype(float),
                "g": rng.choice(["a", "b"], n),
                "h": rng.choice(["c", "d", "f"], n, p=[0.6, 0.3, 0.1]),
            }
        )
        frame.loc[rng.random(n) < 0.2, "x"] = np.nan
        frame.loc[rng.random(n) < 0.1, "h"] = None
        found[f"s{i:02d}"] = frame
    return found


def total(frames: Any, **owner: Any) -> Any:
    return hanse.simulate(frames, policy={**TOTAL, **owner}).analytics(gathering="secure")


def alone(frames: Any, **owner: Any) -> Any:
    """One site with the rows of all."""
    pooled = pd.concat(list(frames.values()), ignore_index=True)
    return hanse.simulate({"all": pooled}, policy={"allow_node_statistics": True, **owner}).analytics()


ROWS = [90, 120, 200, 300]
GROUPED = {name: {"group": "g"} for name in ("t_test", "smd", "mann_whitney", "logrank")}
ASKED: dict[str, tuple[list[str], dict[str, Any]]] = {
    **{name: (["x"], {}) for name in ("count", "mean", "variance", "std", "sum", "median", "moments", "missing")},
    "quantile": (["age"], {"q": [0.1, 0.5, 0.9]}),
    "cells": (["x"], {"depth": 1}),
    "histogram": (["x"], {"bin_edges": [20.0, 30.0, 40.0, 50.0, 60.0, 80.0]}),
    "value_counts": (["h"], {}),
    "levels": (["h"], {}),
    "distinct": (["age"], {}),
    "crosstab": (["g", "h"], {}),
    "sparsity": (["x", "h"], {}),
    **{name: (["x", "y", "age"], {}) for name in ("pair_means", "covariance", "correlation")},
    **{name: (["x"], GROUPED[name]) for name in ("t_test", "smd", "mann_whitney")},
    "logrank": (["days", "e"], GROUPED["logrank"]),
    "kaplan_meier": (["days", "e"], {}),
}
BY_GROUPS = ("count", "mean", "variance", "moments", "missing", "quantile", "histogram", "value_counts", "covariance")


def value(analytics: Any, name: str, by: str = "") -> Any:
    columns, options = ASKED[name]
    result = analytics.fetch_stats_with_args({", ".join(columns): {name: options}}, by=by or None)
    return result.value(next(item for item in result.wanted if item.stat == name))


def close(ours: Any, theirs: Any) -> bool:
    """The same up to rounding, also in what is None and in which bounds there are."""
    if isinstance(ours, dict):
        return (
            isinstance(theirs, dict) and ours.keys() == theirs.keys() and all(close(ours[k], theirs[k]) for k in ours)
        )
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(close, ours, theirs))
    if isinstance(ours, float) or isinstance(theirs, float):
        if ours is None or theirs is None:
            return False
        ends = [(getattr(v, "least", None), getattr(v, "most", None)) for v in (ours, theirs)]
        return bool(np.isclose(float(ours), float(theirs), rtol=1e-9, atol=1e-9)) and close(*ends)
    return bool(ours == theirs)


@pytest.fixture(scope="module")
def four() -> Any:
    return sites(ROWS)


@pytest.fixture(scope="module")
def asked(four: Any) -> Any:
    return total(four)


@pytest.fixture(scope="module")
def pooled(four: Any) -> Any:
    return alone(four)


def test_every_statistic_is_asked_here_or_says_why_it_is_no_sum() -> None:
    refused = {name for name in names("statistics") if statistic(name).no_sum}
    assert refused == {"min", "max"}
    assert {*ASKED} | refused == {*names("statistics")}


@pytest.mark.parametrize("name", sorted({*ASKED} - {"kaplan_meier", "logrank", "mann_whitney", "distinct"}))
def test_a_total_tells_what_one_site_with_all_rows_would(asked: Any, pooled: Any, name: str) -> None:
    assert close(value(asked, name), value(pooled, name))


@pytest.mark.parametrize("name", BY_GROUPS)
@pytest.mark.parametrize("by", ["g", "h"])
def test_so_it_does_of_groups(asked: Any, pooled: Any, name: str, by: str) -> None:
    if name == "value_counts" and by == "h":
        pytest.skip("it is of h itself")
    assert close(value(asked, name, by), value(pooled, name, by))


@pytest.mark.parametrize("rows", [[4, 5, 9, 3], [30, 12, 8, 9], [90, 2, 0, 5]])
def test_however_few_rows_single_sites_have(rows: list[int]) -> None:
    frames = sites(rows, 3)
    many, one = total(frames), alone(frames)
    for name in ("count", "mean", "quantile", "crosstab", "histogram", "missing", "sparsity", "covariance"):
        columns, options = ASKED[name]
        both = []
        for analytics in (many, one):
            try:
                result = analytics.fetch_stats_with_args({", ".join(columns): {name: options}})
                both.append(result.value(result.wanted[-1]))
            except RunFailed as error:
                both.append(str(error))
        assert close(*both), name


@pytest.mark.parametrize("name", ["min", "max"])
def test_what_merges_otherwise_is_refused_with_what_to_ask_instead(asked: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} of x is in no sum over sites: .*ask for"):
        asked.fetch_stats(name, ["x"])


def test_a_statistic_that_does_not_say_how_it_adds_is_refused(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What merges otherwise would be added all the same, and be wrong without a word."""
    assert value(asked, "variance")
    silent = replace(variance.STATISTIC, whole=None)
    monkeypatch.setattr(
        statistics_on_total, "statistic", lambda name: silent if name == "variance" else statistic(name)
    )
    with pytest.raises(ConfigError, match="variance of x is in no sum over sites: it does not say how it adds up"):
        statistics_on_total.combines({"items": [["variance", ["x"], {}, []]]})


@pytest.mark.parametrize("column", ["x", "age", "h", "e"])
def test_different_values_are_counted_as_one_site_with_all_rows_would(four: Any, asked: Any, column: str) -> None:
    """Where its owner lets a sketch leave; here nobody sees it, and the coordinator tells the number alone."""
    rows = pd.concat(list(four.values()))
    one = alone(four, allow_extremes=True)
    found = asked.fetch_stats("distinct", [column])
    [item] = found.wanted
    assert found.value(item) == one.fetch_stats("distinct", [column]).value(item)
    assert found.value(item) == pytest.approx(rows[column].nunique(), rel=0.04)  # five standard errors
    told = {name.split(".")[1]: a.size for one in found.fetched for name, a in one.arrays.items()}
    assert told["different"] == 1
    assert "registers" not in told
    assert "ranks" not in told


def test_different_values_of_groups_and_of_many_rows(four: Any, asked: Any) -> None:
    rows = pd.concat(list(four.values()))
    result = asked.fetch_stats("distinct", ["age"], by="g")
    found = result.values("distinct")["age"]
    assert {label: int(n) for label, n in found.items()} == pytest.approx(
        rows.groupby("g").age.nunique().to_dict(), rel=0.04
    )
    many = {f"s{i}": pd.DataFrame({"x": np.arange(50_000) + 20_000.0 * i}) for i in range(3)}
    assert total(many).fetch_stats("distinct", ["x"]).values("distinct")["x"] == pytest.approx(90_000, rel=0.04)


# ---------------------------------------------------------------- survival and rank tests


def drawn(count: int, rows: int, seed: int) -> dict[str, dict[str, Any]]:
    """Exponential times of mean 500, 70 % events."""
    rng = np.random.default_rng((count, rows, seed))
    return {
        f"s{i:02d}": {
            "t": rng.exponential(500, rows),
            "e": (rng.random(rows) < 0.7).astype(float),
            "g": rng.choice(["a", "b"], rows),
        }
        for i in range(count)
    }


@pytest.mark.parametrize(("count", "rows", "seed"), [(5, 100, 1), (5, 100, 2), (20, 60, 3)])
def test_survival_is_that_of_the_pooled_rows(count: int, rows: int, seed: int) -> None:
    frames = drawn(count, rows, seed)
    analytics = total(frames)
    all_rows = {name: np.concatenate([f[name] for f in frames.values()]) for name in ("t", "e", "g")}
    curve = analytics.kaplan_meier("t", "e")
    fit = KaplanMeierFitter().fit(all_rows["t"], all_rows["e"])
    assert len(curve["times"]) > count * rows // 50
    assert max(np.diff(curve["times"], prepend=0)) < 500
    band = fit.confidence_interval_
    for time, told, low, high, left in zip(
        *(curve[n] for n in ("times", "survival", "lower", "upper", "at_risk")), strict=True
    ):
        assert left >= 20
        assert abs(told - float(fit.predict(time))) < 0.0005
        row = band.to_numpy()[int(np.searchsorted(band.index, time, "right")) - 1]
        np.testing.assert_allclose([low, high], row, atol=0.0005)
    assert curve["median_range"][0] <= fit.median_survival_time_ <= curve["median_range"][1]
    a, b = (all_rows["g"] == label for label in "ab")
    true = logrank_test(all_rows["t"][a], all_rows["t"][b], all_rows["e"][a], all_rows["e"][b])
    found = analytics.logrank("t", "e", group="g")
    assert float(found["p"]) == pytest.approx(true.p_value, rel=0.01)
    assert "hidden" not in found


def test_whole_days_are_exact(four: Any, asked: Any) -> None:
    pooled = pd.concat(list(four.values()))
    fit = KaplanMeierFitter().fit(pooled.days, pooled.e)
    curve = asked.kaplan_meier("days", "e")
    np.testing.assert_allclose(curve["survival"], [float(fit.predict(t)) for t in curve["times"]], rtol=1e-12)
    a, b = pooled[pooled.g == "a"], pooled[pooled.g == "b"]
    true = logrank_test(a.days, b.days, a.e, b.e)
    found = asked.logrank("days", "e", group="g")
    assert found["chi2"] == pytest.approx(true.test_statistic, rel=1e-10)
    assert found["p"] == pytest.approx(true.p_value, rel=1e-10)
    assert found["dof"] == 1


def test_what_was_asked_before_answers_no_rank_test(four: Any) -> None:
    """The curves of both groups are known, and the test of all rows does not follow from them."""
    pooled = pd.concat(list(four.values()))
    analytics = total(four)
    assert analytics.fetch_stats_with_args({"days, e": {"kaplan_meier": {}}}, by="g")
    assert analytics.fetch_stats_with_args({"age": {"cells": {"depth": 2, "pooled": True}}}, by="g")
    found = analytics.fetch_stats_with_args(
        {"days, e": {"logrank": {"group": "g"}}, "age": {"mann_whitney": {"group": "g"}}}
    )
    a, b = pooled[pooled.g == "a"], pooled[pooled.g == "b"]
    values = [found.value(item) for item in found.wanted]
    assert float(values[0]["p"]) == pytest.approx(logrank_test(a.days, b.days, a.e, b.e).p_value, rel=1e-9)
    assert float(values[1]["u"]) == stats.mannwhitneyu(a.age, b.age).statistic


def test_between_the_times_that_are_told_the_curve_lies_where_it_says(four: Any, asked: Any) -> None:
    pooled = pd.concat(list(four.values()))
    fit = KaplanMeierFitter().fit(pooled.days, pooled.e)
    grid = [float(t) for t in range(7, 1000, 13)]
    result = asked.ask("kaplan_meier", ["days", "e"], {"grid": grid})
    [item] = result.wanted
    curve = result.value(item)
    assert curve["times"] == grid
    for time, told, (least, most), (few, many) in zip(
        *(curve[n] for n in ("times", "survival", "survival_range", "at_risk_range")), strict=True
    ):
        true = float(fit.predict(time))
        assert least - 1e-12 <= true <= most + 1e-12
        assert few <= int((pooled.days >= time).sum()) <= many
        assert told is None or abs(told - true) < 0.05
    assert sum(v is not None for v in curve["survival"]) > 50
    exact = asked.kaplan_meier("days", "e")
    times, levels = ([start, *exact[name]] for start, name in ((0.0, "times"), (1.0, "survival")))
    middle = [(a + b) / 2 for a, b in itertools.pairwise(times)]
    between = asked.kaplan_meier("days", "e", grid=middle)["survival"]
    for told, before, after in zip(between, levels, levels[1:], strict=False):  # a constant hazard from one to the next
        assert told is None or float(told) == pytest.approx((before * after) ** 0.5)


def test_at_a_time_that_is_told_the_curve_is_what_is_told() -> None:
    """Of each fourth it was a last digit beside it, and so outside of its own range."""
    rng = np.random.default_rng(0)
    times, survival = np.sort(rng.uniform(1, 100, 50)), np.cumprod(1 - rng.uniform(0, 0.1, 50))
    found: Any = _total_curve._on_grid(times, times, survival, [0.0] * 50, [1.0] * 50, np.arange(50, -1, -1))
    assert found["survival"] == survival.tolist()
    assert found["survival_range"] == np.stack([survival, survival], 1).tolist()


def test_two_grids_tell_no_more_than_one(asked: Any) -> None:
    """Runs follow from the rows, so the difference of two answers has no row of its own in it."""
    levels = set()
    for step in (11, 17, 23):
        curve = asked.ask("kaplan_meier", ["days", "e"], {"grid": [float(t) for t in range(5, 900, step)]})
        found = curve.value(curve.wanted[0])
        levels |= {round(v, 12) for pair in found["survival_range"] for v in pair}
    once = {round(v, 12) for v in asked.kaplan_meier("days", "e")["survival"]}
    assert levels <= once | {0.0, 1.0}
    ends = [asked.logrank("days", "e", group="g", grid=[1.0, float(t)])["chi2"] for t in range(300, 340, 5)]
    assert len({round(v, 9) for v in ends}) < 5  # the test ends where a curve is told


def test_a_rank_test_that_a_grid_ends_says_where(four: Any, asked: Any) -> None:
    """It ended at the last time that is told, however far the grid went, and nothing said so."""
    pooled = pd.concat(list(four.values())).dropna(subset=["days", "e"])
    a, b = pooled[pooled.g == "a"], pooled[pooled.g == "b"]
    for end in (200.0, 1e6):
        found = asked.logrank("days", "e", group="g", grid=[0.0, end])
        until = found["until"]
        assert 0 < until <= min(end, pooled.days.max())
        true = logrank_test(
            *(one.days.clip(upper=until) for one in (a, b)), *(one.e * (one.days <= until) for one in (a, b))
        )
        assert found["chi2"] == pytest.approx(true.test_statistic, rel=1e-9)
    assert "until" not in asked.logrank("days", "e", group="g")


def test_ranks_are_of_all_rows(four: Any, asked: Any) -> None:
    pooled = pd.concat(list(four.values())).dropna(subset=["x"])
    a, b = pooled[pooled.g == "a"].x, pooled[pooled.g == "b"].x
    true = stats.mannwhitneyu(a, b, method="asymptotic")
    found = asked.mann_whitney("x", group="g")
    assert found["u_range"][0] <= true.statistic <= found["u_range"][1]
    assert abs(found["u"] - true.statistic) < 0.002 * len(a) * len(b)
    assert float(found["p"]) == pytest.approx(true.pvalue, rel=0.02)
    ages = asked.mann_whitney("age", group="g")  # whole years, each in a cell of its own
    true = stats.mannwhitneyu(pooled[pooled.g == "a"].age, pooled[pooled.g == "b"].age, method="asymptotic")
    everybody = pd.concat(list(four.values()))
    true = stats.mannwhitneyu(everybody[everybody.g == "a"].age, everybody[everybody.g == "b"].age, method="asymptotic")
    assert float(ages["u"]) == true.statistic
    assert float(ages["p"]) == pytest.approx(true.pvalue, rel=1e-9)


# ---------------------------------------------------------------- what is kept back


def test_no_small_cell_of_the_total_is_in_what_the_coordinator_keeps(four: Any) -> None:
    rare = {name: frame.assign(h=np.where(np.arange(len(frame)) < 2, "rare", frame.h)) for name, frame in four.items()}
    rare["s00"] = rare["s00"].assign(h=np.where(np.arange(90) < 12, "rare", rare["s00"].h))
    rare["s00"].loc[:8, "g"] = "a"
    rare["s00"].loc[9:, "g"] = "b"
    analytics = total(rare)
    result = analytics.fetch_stats_with_args({"h": {"value_counts": {}}, "g, h": {"crosstab": {}}})
    for fetched in result.fetched:
        for name, array in fetched.arrays.items():
            item = fetched.plan.items[int(name.split(".")[0])]
            if name.endswith(".counts") and item.stat != "levels":  # its counts are ones
                assert not np.any((array > 0) & (array < 10)), name
    assert any("kept back at the total" in note for note in result.notes)
    assert result.values("crosstab")["g, h"]["chi2"] is None
    assert "cells of fewer than 10 rows of all 4 sites together" in repr(result)
    assert result.to_json()["minimum"] == ["cells of fewer than 10 rows of all 4 sites together are kept back"]


def test_a_group_of_few_rows_is_in_no_value_and_values_say_so() -> None:
    frames = sites([100, 100, 100, 100])
    frames["s00"].loc[:11, "g"] = "c"  # a label there, with a time of few events
    frames["s00"].loc[:11, "e"] = [1.0] * 3 + [0.0] * 9
    result = total(frames).ask("logrank", ["days", "e"], {"group": "g"})
    [item] = result.wanted
    found = result.value(item)
    assert "c" not in found["groups"]
    assert "groups of few rows" in result.scope(item).missing
    assert any("kept back at the total" in note for note in result.notes)


def test_labels_are_those_that_all_sites_together_have_in_enough_rows() -> None:
    """24 rows of a label, six at each site, and 9 of another one: the first is told, as by one site with all rows."""
    frames = sites([100] * 4)
    for place, frame in enumerate(frames.values()):
        frame.loc[:5, "h"] = "six"
        frame.loc[6 : 8 if place < 3 else 5, "h"] = "nine in all"
    analytics = total(frames)
    found = analytics.value_counts(["h"])["h"]
    assert found == alone(frames).value_counts(["h"])["h"]
    assert found["six"] == 24
    assert "nine" not in json.dumps(found)
    assert set(analytics.fetch_stats("mean", ["x"], by="h").values("mean")["x"]) == {"c", "d", "f", "six"}
    kept = analytics.fetch_stats_with_args({"h": {"levels": {}}}).fetched[0]
    assert "nine" not in repr({name: array.tobytes() for name, array in kept.arrays.items()})


def test_labels_that_stand_once_at_each_of_many_sites_are_found() -> None:
    """Every label is rare everywhere; of 40 of them some have the minimum of all rows, and these alone are told."""
    rng = np.random.default_rng(5)
    names = [f"diagnosis {k:02d} ä" for k in range(40)]
    frames = {
        f"s{i:02d}": pd.DataFrame({"h": [n for k, n in enumerate(names) if rng.random() < k / 40] or names[:1]})
        for i in range(30)
    }
    pooled = pd.concat(list(frames.values())).h.value_counts()
    found = total(frames).value_counts(["h"])["h"]
    told = {label: rows for label, rows in found.items() if label != "(other)" and rows is not None}
    assert told
    assert told.items() <= pooled.to_dict().items()
    assert {*found} - {"(other)"} == {*pooled[pooled >= 10].index}


def test_no_word_of_a_node_says_which_labels_it_has(four: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told in words, of which each node's are its own: sizes, and no label."""
    said: list[Any] = []
    terms = statistics_on_total._with_terms  # noqa: SLF001

    def heard(state: Any, query: Any, words: Any) -> Any:
        said.append(words)
        return terms(state, query, words)

    monkeypatch.setattr(statistics_on_total, "_with_terms", heard)
    assert total(four).value_counts(["h"])["h"]["c"] > 100
    [words] = said
    assert [w["labels"] for w in words.values()] == [{"0": 64}] * 4


def test_a_column_of_too_many_different_values_has_no_labels_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = {f"s{i}": pd.DataFrame({"h": [f"{i} {k}" for k in range(300)]}) for i in range(3)}
    assert set(total(frames).value_counts(["h"])["h"]) <= {"(other)"}
    monkeypatch.setattr(_label_sums, "MOST", 1000)
    result = total(frames).fetch_stats_with_args({"h": {"value_counts": {}}})
    assert any("too many different values to be labels" in note for note in result.notes)


# ---------------------------------------------------------------- asking twice


def refused(analytics: Any, *columns: str) -> str:
    with pytest.raises((Refused, RunFailed)) as error:
        analytics.mean(list(columns))
    return str(error.value)


def test_the_same_question_without_one_node_is_refused_by_every_node_also_in_other_runs(four: Any) -> None:
    federation = hanse.simulate(four, policy=TOTAL)
    assert federation.analytics(gathering="secure").mean(["x"])
    few = federation.analytics(gathering="secure", nodes=["s00", "s01", "s02"])
    said = refused(few, "age")  # of any column
    assert "was summed with those of s00, s01, s02, s03 before" in said
    assert federation.analytics(gathering="secure").mean(["age"])


def test_nor_with_one_more_but_of_quite_others() -> None:
    federation = hanse.simulate(sites([60] * 7), policy=TOTAL)
    ask = lambda nodes: federation.analytics(gathering="secure", nodes=nodes)  # noqa: E731
    first = [f"s{i:02d}" for i in range(4)]
    assert ask(first).mean(["x"])
    assert "fewer than 3" in refused(ask([*first, "s04"]), "x")
    assert "fewer than 3" in refused(ask([*first[:3], "s04", "s05", "s06"]), "x")
    assert ask([f"s{i:02d}" for i in range(7)]).mean(["x"])  # three more
    assert ask(["s04", "s05", "s06"]).mean(["x"])


@pytest.mark.parametrize("last", [0, 1, 2])
def test_nor_three_sums_that_make_up_one_of_a_single_node(last: int) -> None:
    """Any two of these differ by three nodes; the first two, less the third, are those of s00 alone."""
    sets = [["s00", "s01", "s02", "s03"], ["s00", "s04", "s05", "s06"], [f"s{i:02d}" for i in range(7)]]
    sets = [*sets[:last], *sets[last + 1 :], sets[last]]
    federation = hanse.simulate(sites([60] * 7), policy=TOTAL)
    ask = lambda nodes: federation.analytics(gathering="secure", nodes=nodes)  # noqa: E731
    assert ask(sets[0]).mean(["x"])
    assert ask(sets[1]).mean(["age"])
    assert "would make up a sum of fewer than 3 nodes" in refused(ask(sets[2]), "x")
    assert ask(sets[0]).mean(["days"])  # what was told before is told again


def test_a_total_of_too_few_nodes_is_refused(four: Any) -> None:
    two = {name: four[name] for name in ("s00", "s01")}
    assert "at least 3" in refused(total(two), "x")
    assert "at least 5" in refused(total(four, secure_aggregation_nodes=5), "x")


def test_the_minimum_of_the_most_careful_owner_holds(four: Any) -> None:
    from hanse.algorithms.statistics_on_total import OnTotal, State
    from hanse.gathering.plain import Contributions
    from hanse.kinds import Answer, Combine
    from hanse.messages import Record

    state = State({"items": [["count", ["x"], {}, []]]})
    said = [(Answer(n, 1.0, {**TERMS, "minimum": m}, {}, 0), Record({})) for n, m in (("a", 5), ("b", 12), ("c", 10))]
    assert OnTotal().tell(state, Contributions(tuple(said), {}, Combine.AGREE)).minimum == 12


def test_edges_that_were_shown_are_remembered_by_the_nodes_over_runs(four: Any) -> None:
    """Two histograms whose edges differ a little would tell who stands between."""
    federation = hanse.simulate(four, policy=TOTAL)
    one = federation.analytics(gathering="secure").ask("histogram", ["x"], {"bin_edges": [20.0, 50.0, 80.0]})
    first = one.value(one.wanted[0])
    assert "hidden" not in first
    x = np.sort(pd.concat(list(four.values())).x.dropna())
    at = int(np.searchsorted(x, 50.0))
    near = float((x[at + 3] + x[at + 4]) / 2)  # four rows farther
    two = federation.analytics(gathering="secure").ask("histogram", ["x"], {"bin_edges": [20.0, near, 80.0]})
    second = two.value(two.wanted[0])
    true = np.histogram(x, [20.0, near, 80.0])[0]
    assert second["counts"] != true.tolist()
    for count, (least, most) in zip(true, second["counts_range"], strict=True):
        assert least <= count <= most
        assert most - least >= 10


def both(first: Any, second: Any) -> list[Any]:
    """What two questions gave that are asked at the same time, or why they gave nothing."""

    def one(ask: Any) -> Any:
        try:
            return ask()
        except HanseError as error:
            return str(error)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(one, (first, second)))


def test_nor_are_two_sums_told_that_differ_by_a_node_and_are_asked_side_by_side(
    four: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both runs have said their terms before either is summed."""
    there, terms = threading.Barrier(2), statistics_on_total._with_terms  # noqa: SLF001

    def together(*known: Any) -> Any:
        there.wait(300)
        return terms(*known)

    monkeypatch.setattr(statistics_on_total, "_with_terms", together)
    federation = hanse.simulate(four, policy=TOTAL)
    few = federation.analytics(gathering="secure", nodes=["s00", "s01", "s02"])
    found = both(lambda: few.mean(["x"]), lambda: federation.analytics(gathering="secure").mean(["x"]))
    refusals = [said for said in found if isinstance(said, str)]
    assert refusals
    assert all("was summed with those of" in said for said in refusals)


def test_nor_two_histograms_whose_edges_differ_a_little(four: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that are asked side by side neither knows the other's edges: one of them is not told."""
    there, summed = threading.Barrier(2), statistics_on_total._with_sum  # noqa: SLF001

    def together(*known: Any) -> Any:
        there.wait(300)
        return summed(*known)

    x = np.sort(pd.concat(list(four.values())).x.dropna())
    at = int(np.searchsorted(x, 50.0))
    near = float((x[at + 3] + x[at + 4]) / 2)  # four rows farther
    federation = hanse.simulate(four, policy=TOTAL)

    def ask(edge: float) -> Any:
        found = federation.analytics(gathering="secure").ask("histogram", ["x"], {"bin_edges": [20.0, edge, 80.0]})
        return found.value(found.wanted[0])

    with monkeypatch.context() as patch:
        patch.setattr(statistics_on_total, "_with_sum", together)
        found = both(lambda: ask(50.0), lambda: ask(near))
    refusals = [said for said in found if isinstance(said, str)]
    assert refusals
    assert all("were shown while this was asked; ask again" in said for said in refusals)
    assert isinstance(ask(50.0), dict)


def test_rows_of_a_node_lift_a_cell_over_the_minimum() -> None:
    """The honest limit: who takes part with nine rows of a label learns that all others have one."""
    frames = {f"s{i}": pd.DataFrame({"h": ["common"] * 40 + ["rare"] * rows}) for i, rows in enumerate((9, 1, 0))}
    assert total(frames).value_counts(["h"])["h"] == {"common": 120, "rare": 10}


def test_where_the_minimum_holds_is_one_or_the_other(four: Any) -> None:
    on_total = hanse.simulate(four, policy=TOTAL)
    with pytest.raises(Refused, match="could be taken off them"):
        on_total.analytics(gathering="plain").mean(["x"])
    with pytest.raises(Refused, match="could be taken off them"):
        on_total.analytics(per_node=True).fetch_stats("mean", ["x"])
    # an owner who keeps small cells back at the node has it so in secure sums too
    plain, secure = hanse.simulate(four).analytics(), hanse.simulate(four).analytics(gathering="secure")
    for name in ("mean", "histogram", "crosstab"):
        columns, options = ASKED[name]
        found = [a.fetch_stats_with_args({", ".join(columns): {name: options}}) for a in (plain, secure)]
        assert close(*(f.value(f.wanted[0]) for f in found)), name
        assert found[1].held == ["each site keeps its own small cells back"]
    with pytest.raises(ConfigError, match="combine by merge"):
        secure.fetch_stats("max", ["x"])


def test_who_says_nothing_of_gathering_gets_totals_where_owners_give_them(four: Any) -> None:
    analytics = hanse.simulate(four, policy=TOTAL).analytics()
    curve = analytics.kaplan_meier("days", "e")
    assert close(curve, total(four).kaplan_meier("days", "e"))
    asked = analytics.requests
    assert analytics.ask("mean", ["x"]).held == ["cells of fewer than 10 rows of all 4 sites together are kept back"]
    assert analytics.requests == asked + 1  # whose minimum holds where is known by now
    with pytest.raises(ConfigError, match="in no sum over sites"):
        analytics.max(["x"])
    assert hanse.simulate(four).analytics().ask("mean", ["x"]).held == ["each site keeps its own small cells back"]


def test_owners_who_do_not_agree_where_the_minimum_holds_are_not_summed(
    four: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has it on totals, and is left out, with its reason; asked to answer all, nobody does."""
    decide = StatisticsMinimum.decide
    monkeypatch.setattr(
        StatisticsMinimum,
        "decide",
        lambda self, facts: decide(
            StatisticsMinimum(
                {**self.policy, "statistics_minimum": "total" if facts.dataset.name == "s01" else "node"}
            ),
            facts,
        ),
    )
    federation = hanse.simulate(four)
    analytics = federation.analytics()
    found = analytics.ask("count", ["age"])
    assert float(found.value(found.wanted[0])) == sum(ROWS) - ROWS[1]
    assert any("s01" in note and "holds on totals" in note for note in found.notes)
    asked = analytics.requests
    analytics.ask("mean", ["age"])
    assert analytics.requests == asked + 2  # of all, and without the one: that totals are refused, too, is known
    with pytest.raises(Refused, match="holds on totals"):
        federation.analytics(require="all").ask("count", ["age"])


def test_a_run_that_is_proposed_by_hand_is_held_to_the_same(four: Any) -> None:
    federation = hanse.simulate(four, policy=TOTAL)
    given: dict[str, Any] = {
        "federated_strategy": "statistics_on_total",
        "model_options": {"items": [["mean", ["x"], {}, []]]},
        "target": "",
        "num_rounds": 1,
        "min_fit_nodes": 4,
        "min_completed": 4,
    }
    with pytest.raises(ConfigError, match="set gathering to secure"):
        federation.experiment(**given).run(progress=False)
    with pytest.raises(Refused, match="sets secure_threshold to 4"):
        federation.experiment(**given, gathering="secure").run(progress=False)
    with pytest.raises(ConfigError, match="single nodes"):
        options = {**given["model_options"], "per_node": True}
        federation.experiment(**{**given, "model_options": options}, gathering="secure").run(progress=False)
    assert federation.experiment(**given, gathering="secure", secure_threshold=4).run(progress=False).record.arrays


def test_choices_of_rows_have_the_minimum_at_each_node_too(four: Any) -> None:
    federation = hanse.simulate(four, policy=TOTAL)
    some = federation.analytics(gathering="secure", where=[["age", ">=", 50]])
    pooled = pd.concat(list(four.values()))
    assert some.mean(["x"])["x"] == pytest.approx(pooled[pooled.age >= 50].x.mean(), rel=1e-12)
    with pytest.raises((Refused, RunFailed), match="fewer rows than this node's minimum"):
        federation.analytics(gathering="secure", where=[["age", ">=", 51]]).mean(["x"])


@pytest.mark.parametrize("sites", [1, 2, 3])
def test_what_few_sites_have_columns_for_is_in_no_sum(four: Any, sites: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose sum that would be, everybody knows by the columns that sites declare; nor does the coordinator see it."""
    frames = {
        name: frame.assign(own=frame.x * 2, kind=frame.h) if i < sites else frame
        for i, (name, frame) in enumerate(four.items())
    }
    seen = []
    tell = statistics_on_total.OnTotal.tell
    monkeypatch.setattr(statistics_on_total.OnTotal, "tell", lambda self, s, g: seen.append((s, g)) or tell(self, s, g))
    analytics = total(frames)
    for name, columns, more in (
        ("mean", "own", {}),
        ("quantile", "own", {"q": 0.5}),
        ("covariance", "own, x", {}),
        ("value_counts", "kind", {}),
        ("crosstab", "g, kind", {}),
        ("t_test", "own", {"group": "g"}),
        ("logrank", "own, e", {"group": "g"}),
        ("sparsity", "x, own", {}),
    ):
        result = analytics.fetch_stats_with_args({columns: {name: more}})
        try:
            value = result.value(result.wanted[0])
        except ConfigError:
            value = None
        assert told(value) is (sites == 3), (name, value)
        if sites < 3:
            assert any("fewer than 3 sites" in note for note in result.notes), name
    curves = analytics.fetch_stats_with_args(
        {"days, e": {"logrank": {"group": "kind"}}}
    )  # without a label the run failed
    assert curves.value(curves.wanted[0])["groups"] == []
    by = analytics.fetch_stats("mean", ["x"], by="kind")
    assert told(by.value(by.wanted[0])) is (sites == 3)
    assert analytics.mean(["x"])["x"] is not None
    sums = [np.asarray(a) for s, g in seen if s.few for n, a in g.sum().items() if int(n.split(".")[0]) in s.few]
    assert sites == 3 or (len(sums) > 5 and not any(a.any() for a in sums if a.dtype.kind in "if"))


def told(value: Any) -> bool:
    """Whether there is a number in it."""
    if isinstance(value, dict):
        return any(map(told, value.values()))
    return any(map(told, value)) if isinstance(value, list) else isinstance(value, (int, float))


def test_a_node_that_fails_leaves_no_total(four: Any) -> None:
    odd = {**four, "s03": four["s03"].assign(days=-1.0)}
    with pytest.raises(RunFailed, match="negative survival times"):
        total(odd).kaplan_meier("days", "e")


def test_the_setting_is_at_the_node_unless_the_owner_says_so() -> None:
    assert policy.settings()["statistics_minimum"].default == "node"
    with pytest.raises(HanseError):
        hanse.simulate(sites([20, 20]), policy={"statistics_minimum": "nowhere"})


def test_what_is_said_of_it_is_plain_json(asked: Any) -> None:
    result: FAResult = asked.ask("kaplan_meier", ["days", "e"], {})
    json.dumps(result.to_json())
    assert repr(result)
    assert "secure sums: cells of fewer than 10 rows of all 4 sites" in repr(asked.describe())
    assert "secure sums: cells of fewer than 10 rows" in result._repr_html_()


@pytest.mark.parametrize(
    "terms",
    [
        {"minimum": 0},
        {"nodes": None},
        {"nodes": -3},
        {"minimum": "5"},
        {"labels": ["a"]},
        {"labels": {}},
        {"labels": {"0": 63}},
        {"labels": {"0": "64"}},
        {"labels": {"0": -64}},
        {"withheld": None},
        {"edges": {"[]": []}},
        {"edges": {"{}": []}},
        {"edges": {"no json": []}},
        {"edges": {"[" * 100_000: []}},
        {"edges": {'[["x"]]': []}},
        {"edges": {'[["x"],5]': []}},
        {"edges": {'[[["x"]],[]]': []}},
        {"edges": {'[["x"],[],[]]': [10**400]}},
        {"edges": {'[["x"],[],[]]': "soon"}},
        {"lacking": 3},
    ],
)
def test_a_node_whose_terms_are_none_is_named(terms: dict[str, Any]) -> None:
    """And not an error of the coordinator, which would end the run for all."""
    honest = {**TERMS, "minimum": 5, "labels": {"0": 64}}
    said = {"good": honest, "liar": {**honest, **terms}}
    gathered: Any = SimpleNamespace(answers=[SimpleNamespace(node=n, data=d) for n, d in said.items()], nodes=())
    algorithm = statistics_on_total.OnTotal()
    state = algorithm.init({"model_options": {"items": [["mean", ["x"], {}, ["g"]]]}})
    with pytest.raises(Unusable) as refused:
        algorithm.tell(state, gathered)
    assert refused.value.nodes == {"liar": "what it says of its terms is none"}


def state_of_labels() -> tuple[Any, Any, list[str]]:
    """An algorithm that asks for the labels of ``g`` of three nodes, which have said their terms."""
    algorithm, nodes = statistics_on_total.OnTotal(), ["a", "b", "c"]
    state = algorithm.init({"model_options": {"items": [["value_counts", ["g"], {}, []]]}})
    terms = {**TERMS, "labels": {"0": 64}}
    words: Any = SimpleNamespace(answers=[SimpleNamespace(node=n, data=terms) for n in nodes], nodes=())
    return algorithm, algorithm.tell(state, words), nodes


def summed(arrays: dict[str, Any], nodes: list[str]) -> Any:
    return SimpleNamespace(answers=[SimpleNamespace(node=n, data={}) for n in nodes], nodes=(), sum=lambda: arrays)


def test_labels_that_a_lying_node_put_in_are_no_labels() -> None:
    algorithm, state, nodes = state_of_labels()
    size = state.sizes["0"]
    honest = _label_sums.table(["f", "m", "rare"], np.array([20, 30, 9]), size)
    asked = algorithm.tell(state, summed({"0.table": honest}, nodes))
    assert [algorithm.ask(asked).record.data["kind"], len(asked.named["0"])] == ["names", 2]
    assert "rare" not in repr(asked)
    for wrong in (np.zeros((2, 2), np.int64), np.zeros((0, 6), np.int64)):
        with pytest.raises(Unusable, match="another size"):
            algorithm.tell(state, summed({"0.table": wrong}, nodes))
    lied = honest.copy()
    lied[7] += 5
    none = algorithm.tell(state, summed({"0.table": lied}, nodes))
    assert none.withheld["0"]["the total"].startswith("the labels of all sites cannot be told apart")
    assert algorithm.ask(none).record.data["kind"] == "sum"
    for spelled in ({}, {"0.names": np.zeros((2, 1), np.int64)}, {"0.names": np.full((2, 1), 256 * 600)}):
        with pytest.raises(Unusable, match="what it says of its labels is not what it counted"):
            algorithm.tell(asked, summed(spelled, nodes))


def test_a_coordinator_that_asks_for_more_labels_than_there_may_be_gets_none(four: Any) -> None:
    from hanse.algorithms._labels_of_all import answered
    from hanse.algorithms._query import Query
    from hanse.queries import Owner

    query = Query.of({"items": [["value_counts", ["g"], {}, []]]})
    site: Any = SimpleNamespace(source=None)
    for kind, sizes, keys in (
        ("labels", {"0": 1 << 30}, {}),
        ("labels", {"7": 1024}, {}),
        ("labels", {"0": 0}, {}),
    ):
        with pytest.raises(ConfigError, match="no such labels"):
            answered(site, query, Owner(), kind, sizes, keys)
