"""What sites keep back of groups, and sites that tell nothing: each number holds that of all rows in its range, or is
none that could be taken for it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test
from scipy import stats
from sklearn import datasets

import hanse
from hanse.errors import ConfigError, NotPooled
from hanse.rough import Partial, Rough, Scope, partial, qualified
from hanse.statistics import smd

SETS = ("drawn", "drawn", "heart", "wine", "diabetes")


def _table(rng: np.random.Generator, rows: int) -> pd.DataFrame:
    kind = SETS[int(rng.integers(len(SETS)))]
    if kind == "drawn":
        scale = 10.0 ** rng.integers(-3, 6)
        x = scale * np.exp(rng.normal(0, 1, rows)) if rng.random() < 0.3 else scale * rng.normal(5, 1, rows)
        found = pd.DataFrame({"x": x, "y": rng.random(rows) < 0.3})
    else:
        load = {"heart": datasets.load_breast_cancer, "wine": datasets.load_wine, "diabetes": datasets.load_diabetes}
        found = pd.DataFrame(load[kind]().data).sample(rows, replace=True, random_state=rng.integers(1 << 31))
        column = found.iloc[:, int(rng.integers(found.shape[1]))].to_numpy()
        found = pd.DataFrame({"x": column, "y": column > np.median(column)})
    found["g"] = np.where(rng.random(rows) < rng.choice([0.5, 0.3, 0.1]), "a", "b")
    found.loc[rng.random(rows) < rng.choice([0.0, 0.1]), "x"] = np.nan
    found["g"] = found["g"].where(rng.random(rows) >= rng.choice([0.0, 0.05]), None)
    if rng.random() < 0.3:  # they differ: the values of one group stand higher
        found["x"] += found["x"].std() * (found["g"] == "a")
    return found.reset_index(drop=True)


def _federation(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Sites of 5 to 3,000 rows, some of which have nearly nobody of a group."""
    many = int(rng.integers(2, 7))
    rows = [
        int(np.exp(rng.uniform(np.log(5), np.log(rng.choice([40, 300, 3000], p=[0.5, 0.4, 0.1]))))) for _ in range(many)
    ]
    whole, found, start = _table(rng, sum(rows)), {}, 0
    for i, n in enumerate(rows):
        frame = whole.iloc[start : start + n].reset_index(drop=True)
        if rng.random() < 0.4:
            few = int(rng.integers(0, 9))
            frame["g"] = np.where(np.arange(n) < few, "a", "b")
        found[f"s{i}"], start = frame, start + n
    return found


def _pairs(told: Any, true: Any) -> Iterator[tuple[Any, float]]:
    if told is None:
        return
    if isinstance(true, dict):
        for key, one in true.items():
            yield from _pairs(told.get(key), one)
    elif isinstance(true, list):
        for key, one in enumerate(true):
            yield from _pairs(told[key], one)
    else:
        yield told, float(true)


def _truths(pooled: pd.DataFrame) -> dict[str, Any]:
    """Of all rows: what is asked, by what it is asked."""
    x = pooled.x.dropna()
    groups = {label: part.x.dropna() for label, part in pooled.groupby("g")}
    both = {label: part.dropna() for label, part in groups.items()}
    found: dict[str, Any] = {
        "all": {
            "count": {"x": len(x)},
            "mean": {"x": x.mean(), "y": pooled.y.mean()},
            "std": {"x": x.std(), "y": pooled.y.astype(float).std()},
            "sum": {"x": x.sum()},
            "median": {"x": x.median()},
            "quantile": {"x": [x.quantile(q) for q in (0.1, 0.5, 0.9)]},
            "missing": {"x": {"rows": len(pooled), "missing": int(pooled.x.isna().sum())}},
            "sparsity": {"y": float((~pooled.y).mean())},
            "value_counts": {"g": pooled.g.value_counts().to_dict()},
        },
        "by": {
            name: {"x": {label: getattr(part, name)() for label, part in both.items()}}
            for name in ("count", "mean", "std", "sum", "median")
        },
    }
    if len(both) == 2 and all(len(part) > 1 for part in both.values()):
        a, b = both["a"], both["b"]
        welch = stats.ttest_ind(a, b, equal_var=False)
        student = stats.ttest_ind(a, b)
        ranks = stats.mannwhitneyu(a, b, method="asymptotic")
        found["tests"] = {
            "t_test": {"difference": a.mean() - b.mean(), "t": welch.statistic, "dof": welch.df, "p": welch.pvalue},
            "student": {"difference": a.mean() - b.mean(), "t": student.statistic, "p": student.pvalue},
            "mann_whitney": {"u": ranks.statistic, "p": ranks.pvalue},
            "smd": {"x": smd.difference(a.mean(), a.var(), b.mean(), b.var())},
        }
    return found


def _asked(analytics: Any, name: str) -> Any:
    two = {"groups": ["a", "b"]}
    try:
        if name in ("t_test", "mann_whitney"):
            return getattr(analytics, name)("x", "g", **two)
        if name == "student":
            return analytics.t_test("x", "g", equal_var=True, **two)
        return analytics.smd(group="g", dataset_schema=["x"], **two)
    except ConfigError:
        return None


def _all(analytics: Any, name: str, columns: list[str]) -> Any:
    options = {"q": [0.1, 0.5, 0.9]} if name == "quantile" else {}
    return analytics.fetch_stats_with_args({column: {name: options} for column in columns}).values(name)


def _holds(told: Any, true: float, what: str) -> int:
    """0 where nothing is told, 1 of a number that holds the true one."""
    if told is None or isinstance(told, Partial):
        return 0
    low, high = (told.least, told.most) if isinstance(told, Rough) else (float(told), float(told))
    slack = 1e-7 * max(abs(true), abs(low), abs(high), 1e-300)
    assert np.isnan(true) or low - slack <= true <= high + slack, (what, told, true)
    return 1


def _one(rng: np.random.Generator) -> tuple[int, int]:
    """How many numbers were told of all rows, and how many of these where rows were missing."""
    frames = _federation(rng)
    pooled, looked, bounded = pd.concat(frames.values()), 0, 0
    ranges = {"x": [float(pooled.x.min()), float(pooled.x.max())]} if rng.random() < 0.3 else {}
    truths = _truths(pooled)
    with hanse.simulate(frames) as federation, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analytics = federation.analytics(ranges=ranges)
        told = {
            "all": {name: _all(analytics, name, list(of)) for name, of in truths["all"].items()},
            "by": {name: analytics.fetch_stats(name, "x", by="g").values(name) for name in truths["by"]},
            "tests": {name: _asked(analytics, name) for name in truths.get("tests", {})},
        }
    for part, of in truths.items():
        for name, true in of.items():
            if (value := told[part][name]) is None:
                continue
            for one, exact in _pairs(value, true):
                n = _holds(one, exact, f"{part} {name}")
                looked += n
                bounded += n * (isinstance(one, Rough) and bool(one.missing))
            if isinstance(value, dict) and value.get("p_range") and "p" in true:
                low, high = value["p_range"]
                if not partial(value):
                    assert np.isnan(true["p"]) or low - 1e-9 <= true["p"] <= high + 1e-9, (name, value, true)
                    assert (
                        value["p"] is None
                        or np.isnan(true["p"])
                        or (value["p"] < 0.05) == (true["p"] < 0.05)
                        or (high - low <= 0.1)
                    )
    return looked, bounded


@pytest.mark.parametrize("part", range(3))
def test_every_number_holds_that_of_all_rows(part: int) -> None:
    """At the default protection. ``make long`` draws a hundred times as many."""
    looked, bounded = np.sum([_one(np.random.default_rng((part, draw))) for draw in range(4)], axis=0)
    assert looked > 20
    assert bounded > 5


@pytest.mark.long
@pytest.mark.parametrize("part", range(30))
def test_every_number_holds_that_of_all_rows_of_many_federations(part: int) -> None:
    looked, bounded = np.sum([_one(np.random.default_rng((100 + part, draw))) for draw in range(40)], axis=0)
    assert looked > 150
    assert bounded > 40


# ---------------------------------------------------------------- one by one


def _five(seed: int = 0) -> dict[str, pd.DataFrame]:
    """Five sites of thirty rows, one of which has six of a group."""
    rng = np.random.default_rng(seed)
    found = {f"s{i}": pd.DataFrame({"x": rng.normal(50, 10, 30), "g": ["a", "b"] * 15}) for i in range(5)}
    found["s4"]["g"] = ["a"] * 24 + ["b"] * 6
    return found


def test_a_t_test_that_lacks_a_site_has_a_range_that_holds_the_pooled_p() -> None:
    """It told the p of the other sites' rows, up to 0.35 from that of all."""
    for seed in range(10):
        frames = _five(seed)
        pooled = pd.concat(frames.values())
        true = stats.ttest_ind(pooled.x[pooled.g == "a"], pooled.x[pooled.g == "b"], equal_var=False)
        found = hanse.simulate(frames).analytics().t_test("x", "g")
        assert found["p_range"][0] <= true.pvalue <= found["p_range"][1]
        assert found["p"] is None
        assert "rows that sites keep back may be of either group" in repr(found)
        for name, exact in (("t", true.statistic), ("dof", true.df)):
            assert found[name].least <= exact <= found[name].most
            assert list(found[name].missing) == ["s4"]


def test_a_large_difference_is_told_though_a_site_is_missing() -> None:
    frames = _five()
    for frame in frames.values():
        frame["x"] += 30.0 * (frame["g"] == "a")
    frames = {**frames, **{f"t{i}": f for i, f in enumerate(list(frames.values())[:4] * 3)}}
    found = hanse.simulate(frames).analytics().t_test("x", "g")
    assert found["p_range"][1] < 0.05
    assert float(found["p"]) <= found["p_range"][1]
    assert found["difference"].least > 0


def test_where_nothing_is_hidden_nothing_more_is_asked() -> None:
    frames = _five()
    with hanse.simulate(frames) as federation:
        (analytics := federation.analytics()).t_test("x", "g")
        assert analytics.requests == 2
    del frames["s4"]
    with hanse.simulate(frames) as federation:
        (analytics := federation.analytics()).t_test("x", "g")
        assert analytics.requests == 1


def test_a_range_that_is_said_bounds_what_nobody_tells() -> None:
    """Of a site of seven rows not even the mean is told."""
    frames = {**_five(), "s5": pd.DataFrame({"x": [70.0] * 7, "g": ["a"] * 7})}
    pooled = pd.concat(frames.values())
    with hanse.simulate(frames) as federation:
        plain = federation.analytics().mean(["x"])
        assert isinstance(plain["x"], Partial)
        assert "of the rows that are told, with no bound on all; ranges=" in repr(plain)
        told = federation.analytics(ranges={"x": [0, 100]}).mean(["x"])["x"]
        assert not isinstance(told, Partial)
        assert told.least < pooled.x.mean() < told.most
        assert told.most - told.least < 5
        with pytest.raises(ConfigError, match=r"values are said to lie in \[0.0, 1.0\], and the mean"):
            federation.analytics(ranges={"x": [0, 1]}).mean(["x"])
        with pytest.raises(ConfigError, match=r"expected \[least, most\]"):
            federation.analytics(ranges={"x": [1, 0]})


def test_what_is_no_number_of_rows_is_plain() -> None:
    """Times of a curve were numbers of some rows, which no survival could be looked up at."""
    frames = {**_five(), "s5": pd.DataFrame({"x": [70.0] * 7, "g": ["a"] * 7})}
    frames = {n: f.assign(t=f.x.abs(), e=np.arange(len(f)) % 2) for n, f in frames.items()}
    analytics = hanse.simulate(frames).analytics()
    curve = analytics.kaplan_meier("t", "e")
    assert not any(isinstance(time, Rough) for time in curve["times"])
    assert not isinstance(curve.get("hidden"), Rough)
    bins = analytics.histogram(bins=4, dataset_schema=["x"])["x"]
    assert not any(isinstance(edge, Rough) for edge in bins["bin_edges"])


def test_curves_hold_that_of_all_rows_where_sites_are_missing() -> None:
    """A row that is lacking may die at any time, or be censored. One site of few rows left no curve of all."""
    looked = 0
    for seed in range(6):
        rng, frames = np.random.default_rng((5, seed)), {}
        for i, n in enumerate([*rng.integers(100, 400, 3), *rng.integers(5, 40, 2)]):
            t = np.ceil(rng.exponential(500, n) / (1 if seed % 2 else 30))
            frames[f"s{i}"] = pd.DataFrame({"t": t, "e": rng.random(n) < 0.7, "g": rng.choice(["a", "b"], n)})
        pooled = pd.concat(frames.values())
        fit = KaplanMeierFitter().fit(pooled.t, pooled.e)
        band = fit.confidence_interval_
        with hanse.simulate(frames) as federation:
            curve = federation.analytics().kaplan_meier("t", "e")
            test = federation.analytics().logrank("t", "e", "g", groups=["a", "b"])
        for i, time in enumerate(curve["times"]):
            true, told = float(fit.predict(time)), curve["survival"][i]
            row = band.to_numpy()[max(int(np.searchsorted(band.index, time, "right")) - 1, 0)]
            least, most = curve["survival_range"][i]
            assert least - 1e-9 <= true <= most + 1e-9
            assert np.isnan(row).any() or curve["lower"][i] <= row[0] + 1e-7
            assert np.isnan(row).any() or row[1] <= curve["upper"][i] + 1e-7
            looked += _holds(told, true, f"survival at {time}") * bool(getattr(told, "missing", ()))
        first, last = curve["median_range"]
        assert first <= fit.median_survival_time_
        assert last is None or fit.median_survival_time_ <= last
        a, b = pooled[pooled.g == "a"], pooled[pooled.g == "b"]
        true = logrank_test(a.t, b.t, a.e, b.e).p_value
        assert test["p_range"][0] <= true <= test["p_range"][1]
    assert looked > 100


def test_a_number_of_some_rows_is_not_taken_for_one_of_all() -> None:
    part = Partial(0.03, missing={"ulm": "it failed"}, rows=12, asked=30)
    assert str(part) == "0.03 (of 12 of at most 30 rows, without ulm)"
    assert f"{part:.1f}" == "0.0 of 12 rows"
    assert (part.to_json()["value"], part.to_json()["of_told"]) == (None, 0.03)
    for taken in (lambda: part < 0.05, lambda: part < 0.05, lambda: part + 1, lambda: 2 * part, lambda: sum([part])):
        with pytest.raises(NotPooled, match=r"0.03 \(of 12 of at most 30 rows, without ulm\) is not that of all rows"):
            taken()
    for silent in (lambda: -part, lambda: +part, lambda: divmod(part, 1), lambda: math.ceil(part)):
        with pytest.raises(NotPooled):
            silent()
    assert float(part) < 0.05
    assert part == part  # noqa: PLR0124
    assert str(round(part, 1)) == "0 (of 12 of at most 30 rows, without ulm)"
    assert str(round(Rough(54.321, 52.1, 55.8), 1)) == "54.3 (52.1 to 55.8)"


def test_narrow_bounds_do_not_make_rows_that_are_missing_silent() -> None:
    """Of ten million rows a site of nine changes no digit of a mean, but it is named; and a count is exact or not."""
    every, without = Scope(), Scope(10_000_000, {"ulm": "few rows"}, 10_000_009)
    mean = qualified(54.3, (54.29999999, 54.30000001), without, holds=True)
    assert isinstance(mean, Rough)
    assert mean.missing == {"ulm": "few rows"}
    rows = qualified(9_000_000, (9_000_000, 9_000_009), every)
    assert (float(rows), rows.least, rows.most) == (9_000_000, 9_000_000, 9_000_009)
    assert type(qualified(54.3, (54.29999999, 54.30000001), every)) is float
    assert type(qualified(9_000_000, (9_000_000, 9_000_000), without, holds=True)) is int


def test_a_site_that_fails_is_in_no_range_that_it_could_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """It declares how many rows it has, so counts and medians of all rows are bounded, and means of booleans."""
    from hanse.algorithms.statistics import Statistics

    answer, looked = Statistics.answer, 0

    def broken(self: Statistics, site: Any, ask: Any) -> Any:
        if site.node == "s1":
            raise RuntimeError("no disk")
        return answer(self, site, ask)

    monkeypatch.setattr(Statistics, "answer", broken)
    for seed in range(6):
        rng, frames = np.random.default_rng((3, seed)), {}
        for i in range(4):
            n = int(rng.integers(20, 300))
            x = rng.normal(rng.normal(0, 2), 1, n)
            frames[f"s{i}"] = pd.DataFrame({"x": x, "g": rng.choice(["a", "b"], n), "y": rng.random(n) < 0.3})
        pooled = pd.concat(frames.values())
        with hanse.simulate(frames) as federation:
            analytics = federation.analytics()
            assert isinstance(analytics.mean(["x"])["x"], Partial)
            assert partial(analytics.t_test("x", "g"))
            told = [
                (analytics.count(["x"])["x"], len(pooled)),
                (analytics.median(["x"])["x"], pooled.x.median()),
                (analytics.mean(["y"])["y"], pooled.y.mean()),
            ]
            told += [
                (number, (pooled.g == label).sum()) for label, number in analytics.value_counts(["g"])["g"].items()
            ]
        for number, true in told:
            assert number is None or list(number.missing) == ["s1"]
            looked += _holds(number, float(true), "of a site that failed")
    assert looked > 15


def test_a_site_that_fails_leaves_no_number_that_looks_pooled() -> None:
    frames = _five()
    frames["s3"]["x"] = 1e308  # whose sum is no number
    with hanse.simulate(frames) as federation:
        analytics = federation.analytics()
        assert isinstance(analytics.mean(["x"])["x"], Partial)
        assert analytics.count(["x"]) == {"x": 150}
