"""Rows that are meant to break the sums: what comes out is right to 1e-10, or says why it is not there."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import truth
from compared import COMPARISONS, Line, Rows, lines
from pooled import OPEN, ask, comparison_items, cuts_of, plain_items, split, table_items

import hanse
from hanse.errors import DataError, RunFailed
from hanse.queries import Known, make_item
from hanse.statistics import crosstab, kaplan_meier, logrank
from hanse.table import Table

HUGE = np.finfo(float).max


def near(found: Any, true: Any, scale: Any = None) -> None:
    line = Line("", found, true, scale=scale)
    assert line.error(found, true) <= 1e-10, f"{found}; exactly {true}"


def hold(frame: pd.DataFrame, cuts: list[int], names: list[str]) -> None:
    items = [*plain_items(names, []), *table_items(names)] if len(names) > 1 else plain_items(names, [])
    if "arm" in frame:
        items += comparison_items(names, "arm", ["x", "y"])
    fetched, rows = ask(split(frame, cuts), items), Rows(frame)
    for item in items:
        for line in lines(rows, item, fetched):
            said = f"{item.name}: {line.what} {line.ours}; exactly {line.true}"
            assert line.error(line.ours, line.true) <= 1e-10, said


@pytest.mark.parametrize(
    "kind", ["uneven", "one row each", *(pytest.param(k, marks=pytest.mark.long) for k in ("two", "empty", "fifty"))]
)
def test_huge_and_small_in_turn(kind: str) -> None:
    rng = np.random.default_rng(5)
    n = 60
    turn, arm = np.arange(n) % 3, np.where(np.arange(n) % 2, "x", "y")
    frame = pd.DataFrame(
        {
            "swing": np.select([turn == 0, turn == 1], [1e16, -1e16], rng.normal(0, 1, n)),
            "arm": arm,
            "cliff": np.where(np.arange(n) < 50, 1e-9, 1e12) * rng.normal(1, 0.1, n),
            "grows": 10.0 ** np.linspace(-17, 17, n),
            "far": rng.normal(1e15, 4, n),
        }
    )
    hold(frame, cuts_of(kind, n, rng), ["swing", "cliff", "grows", "far"])


@pytest.mark.parametrize(
    "value", [0.1, 5e-324, 0.0, *(pytest.param(v, marks=pytest.mark.long) for v in (-1e8 / 3, 1e60))]
)
def test_equal_values_do_not_vary_at_all(value: float) -> None:
    """Although n times 0.1, divided by n, is not 0.1."""
    frame = pd.DataFrame({"x": np.full(70, value), "y": np.arange(70.0), "arm": ["x", "y"] * 35})
    items = [make_item(s, ["x"], {}) for s in ("variance", "std", "moments")]
    items += [make_item(s, ["x", "y"], {}) for s in ("covariance", "correlation")]
    items += comparison_items(["x"], "arm", ["x", "y"])
    found = {i.stat: ask(split(frame, [3, 3, 4, 33]), items).value(i) for i in items}
    assert found["variance"] == found["std"] == 0
    assert found["moments"] == {"skewness": None, "kurtosis": None}
    assert found["covariance"][0] == [0, 0]
    assert found["correlation"][0] == [None, None]
    assert found["smd"] is found["t_test"]["t"] is found["t_test"]["p"] is found["mann_whitney"]["p"] is None
    assert found["t_test"]["difference"] == 0


def test_neighbouring_numbers_differ() -> None:
    x = np.array([1e8, np.nextafter(1e8, 2e8)] * 9)
    hold(pd.DataFrame({"x": x, "arm": ["x", "x", "y"] * 6}), [5, 6], ["x"])
    ids = pd.DataFrame({"x": 2**53 - np.arange(40) % 3, "arm": ["x", "y"] * 20})
    hold(ids, [5, 6], ["x"])


@pytest.mark.parametrize("unit", [1e-60, 1e-30, 1e30, 1e60])
def test_other_units(unit: float) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.normal(3, 1, 50) * unit, "y": rng.normal(3, 1, 50) * unit, "arm": ["x", "y"] * 25})
    names = {"mean", "std", "variance", "moments", "covariance", "correlation", "t_test", "smd"}
    items = [*plain_items(["x", "y"], []), *table_items(["x", "y"]), *comparison_items(["x"], "arm", ["x", "y"])]
    items = [item for item in items if item.stat in names]
    fetched = ask(split(frame, [7, 20]), items)
    for item in items:
        for line in lines(Rows(frame), item, fetched):
            assert line.error(line.ours, line.true) <= 1e-10, (item.name, line.what)


@pytest.mark.parametrize("unit", [1e-120, 1e-150, 5e-324])
def test_what_is_too_small_for_its_powers_is_not_told(unit: float) -> None:
    x = np.random.default_rng(1).normal(3, 1, 50).round(3) * unit
    frame = pd.DataFrame({"x": x, "y": x[::-1]})
    items = [make_item(s, ["x"], {}) for s in ("mean", "variance", "moments")]
    items.append(make_item("correlation", ["x", "y"], {}))
    fetched = ask(split(frame, [7]), items)
    near(fetched.value(items[0]), truth.mean(x), truth.mean(np.abs(x)) + Fraction(5e-324) * 10**10)
    # a variance under the smallest normal float64 is as near as a float64 comes
    variance: Any = fetched.value(items[1])
    assert abs(Fraction(variance) - truth.variance(x)) <= Fraction(1, 10**306) + truth.variance(x) / 10**10
    assert fetched.value(items[2]) == {"skewness": None, "kurtosis": None}
    correlation: Any = fetched.value(items[3])
    assert correlation[0][1] is None or abs(correlation[0][1] - np.corrcoef(x / unit, x[::-1] / unit)[0, 1]) < 1e-10


@pytest.mark.parametrize(
    ("stat", "value"), [("mean", HUGE), ("variance", 1e200), ("moments", 1e100), ("covariance", 1e200)]
)
def test_what_is_too_large_is_said_by_the_node(stat: str, value: float) -> None:
    rows = {"x": np.array([value, -value / 2, value]), "y": np.arange(3.0)}
    sites = {"a": pd.DataFrame(rows), "b": pd.DataFrame({"x": np.arange(9.0), "y": np.arange(9.0)})}
    columns = ["x", "y"] if stat == "covariance" else ["x"]
    with pytest.raises(DataError, match="x.*too large") as error:
        ask(sites, [make_item(stat, columns, {})])
    assert not any(c.isdigit() for c in error.value.message.replace("64-bit", ""))
    for per_node in (False, True):
        with hanse.simulate(sites, policy=OPEN, workers=1) as there:
            result = there.analytics(per_node=per_node).fetch_stats(stat, columns)
            assert "too large" in result.failures["a"]
            assert any("a is not in it" in note for note in result.notes)
            assert "NaN" not in json.dumps(result.global_stats())
            assert "Infinity" not in json.dumps(result.global_stats())


def test_sums_that_are_too_large_only_together() -> None:
    one = pd.DataFrame({"x": [HUGE * 0.6]})
    for settings in ({}, {"per_node": True}):
        with hanse.simulate({"a": one, "b": one}, policy=OPEN, workers=1) as there:
            analytics = there.analytics(**settings)  # type: ignore[arg-type]
            with pytest.raises(RunFailed, match="too large"):
                analytics.fetch_stats("mean", "x")


def test_infinite_values_of_both_signs_count_as_missing() -> None:
    frame = pd.DataFrame({"x": [np.inf, 1.0, -np.inf, 2.0, np.nan, np.inf]})
    hold(frame, [2], ["x"])


def test_quantiles_beyond_the_cells_are_not_made_up() -> None:
    x = np.concatenate([np.arange(90.0), [1e40] * 10])
    items = [make_item("quantile", ["x"], {"q": [0.5, 0.99], "depth": d}) for d in (1, 2)]
    fetched = ask(split(pd.DataFrame({"x": x - x.mean()}), [40]), items)
    for item in items:
        assert fetched.value(item) == [None, None]
    fetched = ask(split(pd.DataFrame({"x": x / 1e20}), [40]), items)
    for item in items:
        middle, high = fetched.value(item)  # type: ignore[misc]
        assert high == pytest.approx(1e20, rel=1e-3)


def test_a_pair_whose_rows_stand_far_from_the_rest() -> None:
    """The common rows of two columns are those in which one of them has outliers."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(0, 1, 400), rng.normal(0, 1, 400)
    x[:8], y[8:200] = rng.normal(1e9, 1e-3, 8), np.nan
    x[200:] = np.nan
    z = np.where(np.arange(400) < 8, 0.3, y)  # does not vary where x and y are
    hold(pd.DataFrame({"x": x, "y": y, "z": z}), [3, 100, 250], ["x", "y", "z"])


def test_tails_far_out() -> None:
    x = np.concatenate([np.arange(300.0), np.arange(300.0) + 290])
    frame = pd.DataFrame({"x": x, "arm": ["x"] * 300 + ["y"] * 300})
    [item] = [i for i in comparison_items(["x"], "arm", ["x", "y"]) if i.stat == "mann_whitney"]
    value: Any = ask(split(frame, [100]), [item]).value(item)
    u, p = truth.mann_whitney(x[:300], x[300:])
    assert value["error"] == 5  # ten pairs of the same value
    assert value["u"] == u
    assert float(p) < 1e-90
    near(value["p"], p)
    assert value["p_range"][0] <= p <= value["p_range"][1]
    hold(frame, [100], ["x"])


def test_counts_of_billions() -> None:
    """Near independence, of a billion rows: the difference from what is expected is a few rows."""
    for size in (10**6, 10**8, 10**9):
        table = np.array([[size, 2 * size], [size // 2 + 3, size - 1]])
        chi2, p = truth.chi_square(table)
        found = crosstab.chi_square(table)
        near(found["chi2"], chi2)
        near(found["p"], p)
    events, gone = np.array([1, 0, 2, 0]), np.array([0, 3, 0, 10**9])
    exact = {"off": np.zeros((), int), "hidden": np.zeros((), int)}
    arrays = {"n": np.asarray(10**9), "events": events, "gone": gone, **exact}
    curve: Any = kaplan_meier.final(arrays, {"grid": [1.0, 2.0, 3.0], "level": 0.95}, Known())
    risk = [int(v) for v in (events + gone)[::-1].cumsum()[::-1]]
    survival, spread = Fraction(1), Fraction(0)
    for i in (0, 1, 2):
        survival *= Fraction(risk[i] - int(events[i]), risk[i])
        spread += Fraction(int(events[i]), risk[i] * (risk[i] - int(events[i])))
    near(curve["survival"][2], survival)
    log = truth.mp.log(truth.real(survival))
    z = truth.mp.sqrt(2) * truth.mp.erfinv(truth.mp.mpf(95) / 100)
    for side, sign in (("lower", 1), ("upper", -1)):
        true = truth.mp.exp(log * truth.mp.exp(sign * z * truth.mp.sqrt(truth.real(spread)) / abs(log)))
        near(curve[side][2], true)


def test_half_are_alive() -> None:
    """A median at a curve that is one half exactly, whatever the rounding of its factors."""
    for n in range(2, 80, 2):
        time = np.arange(1.0, n + 1)
        exact = {"off": np.zeros((), int), "hidden": np.zeros((), int)}
        arrays = {"n": np.asarray(n), "events": np.append(np.ones(n, int), 0), "gone": np.zeros(n + 1, int), **exact}
        curve: Any = kaplan_meier.final(arrays, {"grid": time.tolist(), "level": 0.95}, Known())
        assert curve["median"] == n / 2


def test_groups_that_never_meet_add_no_degree_of_freedom() -> None:
    frame = pd.DataFrame(
        {
            "t": [1.0, 2, 3, 4, 5, 6, 0.5, 0.5, 0.25],
            "e": [1.0, 1, 0, 1, 1, 1, 0, 0, 0],
            "g": ["a", "b"] * 3 + ["early"] * 3,
        }
    )
    item = make_item("logrank", ["t", "e"], {"group": "g", "grid": sorted({0.0, *frame["t"]})})
    value: Any = ask(split(frame, [4]), [item]).value(item)
    assert value["dof"] == 1
    for line in COMPARISONS["logrank"](Rows(frame), item, value, None):  # type: ignore[arg-type]
        assert line.error(line.ours, line.true) <= 1e-10
    two = frame[frame["g"] != "early"]
    alone: Any = ask(split(two, [4]), [item]).value(item)
    assert alone["chi2"] == pytest.approx(value["chi2"], rel=1e-12)
    nobody: Any = ask({"a": frame.assign(e=0.0)}, [item]).value(item)
    assert (nobody["chi2"], nobody["dof"], nobody["p"]) == (None, None, None)


def test_many_groups_by_exact_elimination() -> None:
    rng = np.random.default_rng(9)
    risk = np.flip(np.cumsum(rng.integers(1, 50, (6, 40)), axis=1), axis=1)
    events = rng.integers(0, 3, (6, 40))
    z, v = logrank.scores(events, risk)
    chi2, dof = logrank.form(z, v)
    d, n = events.sum(0), risk.sum(0)
    exact_z = [
        sum(
            (
                Fraction(int(e)) - Fraction(int(dt * r), int(nt))
                for e, r, dt, nt in zip(events[i], risk[i], d, n, strict=True)
            ),
            Fraction(0),
        )
        for i in range(6)
    ]
    exact_v = [
        [
            sum(
                (
                    Fraction(int(dt * (nt - dt) * r * ((nt if i == j else 0) - q)), int(nt) ** 2 * (int(nt) - 1))
                    for r, q, dt, nt in zip(risk[i], risk[j], d, n, strict=True)
                ),
                Fraction(0),
            )
            for j in range(6)
        ]
        for i in range(6)
    ]
    found = truth._form(exact_z, exact_v)
    assert found is not None
    assert dof == found[2] == 5
    near(chi2, found[0])


def test_the_answer_does_not_depend_on_the_split() -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"x": rng.normal(1e12, 1, 100), "y": np.exp(rng.normal(0, 3, 100))})
    items = [make_item(s, ["x", "y"], {}) for s in ("covariance", "correlation")]
    items += [make_item(s, [c], {}) for s in ("variance", "moments") for c in ("x", "y")]
    answers = [ask(split(frame, cuts), items) for cuts in ([], [1], list(range(1, 100)), [50, 50, 50])]
    for item, other in itertools.product(items, answers[1:]):
        a, b = (np.array(_numbers(f.value(item))) for f in (answers[0], other))
        np.testing.assert_allclose(a, b, rtol=1e-12)


def _numbers(value: Any) -> Any:
    return list(value.values()) if isinstance(value, dict) else value


def test_whole_numbers_beyond_2_to_53_are_rounded_when_they_are_read() -> None:
    assert Table.of({"id": np.array([2**53, 2**53 + 1])})["id"].values.tolist() == [2.0**53, 2.0**53]
