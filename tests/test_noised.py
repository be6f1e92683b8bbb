"""Statistics with noise: what one row changes of them, and that their intervals hold what they say."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter

import hanse
from hanse import noised
from hanse.errors import ConfigError, DataError, Refused
from hanse.messages import Json
from hanse.registry import names
from hanse.table import Column

ALL: list[Json] = [
    {"stat": "count", "column": ""},
    {"stat": "count", "column": "x"},
    {"stat": "sum", "column": "x", "range": [-2, 5]},
    {"stat": "mean", "column": "x", "range": [-2, 5]},
    {"stat": "histogram", "column": "x", "range": [-2, 5], "bins": 7},
    {"stat": "quantiles", "column": "x", "range": [-2, 5], "bins": 70},
    {"stat": "labels", "column": "g", "values": ["a", "b"]},
    {"stat": "survival", "column": "x", "range": [0, 4], "bins": 5, "event": "e"},
]


def seen(x: list[float], g: list[str | None], which: list[Json] = ALL) -> np.ndarray:
    """``e``, events, is 1 where ``g`` is a, 0 where it is b, 2 elsewhere."""
    events = Column.numeric([{"a": 1.0, "b": 0.0}.get(label or "", 2.0) for label in g])
    question, columns = noised.entries(which), {"x": Column.numeric(x), "g": Column.categorical(g), "e": events}
    return noised.vector(question, [entry.observe(columns, len(x)) for entry in question])


def test_every_statistic_with_noise_is_held_to_its_sensitivity_here() -> None:
    assert {entry["stat"] for entry in ALL} == {*names("noised_statistics")}


VALUE = st.one_of(st.floats(-1e6, 1e6), st.just(float("nan")), st.just(float("inf")))


@settings(deadline=None)
@given(st.lists(st.tuples(VALUE, st.sampled_from(["a", "b", "c", None])), min_size=1, max_size=12), st.data())
def test_one_row_changes_the_answer_by_at_most_the_sensitivity(rows: list[Any], data: Any) -> None:
    """Whatever the row holds, and of every part of a question: also with all but that part left out."""
    out = data.draw(st.integers(0, len(rows) - 1))
    rest = rows[:out] + rows[out + 1 :]
    for which in (ALL, *([entry] for entry in ALL)):
        one, other = (seen([x for x, _ in some], [g for _, g in some], which) for some in (rows, rest))
        assert np.linalg.norm(one - other) <= noised.sensitivity(noised.entries(which)) * (1 + 1e-12)


def test_without_noise_the_values_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(1)
    x, g = rng.uniform(-1.5, 4.5, 5000), rng.choice(["a", "b", "c"], 5000)
    sums = seen(list(x), list(g))
    found = noised.told(noised.entries(ALL), sums, 1e-9)
    values = [entry["value"] for entry in found]
    assert values[0] == values[1] == 5000
    assert values[2] == pytest.approx(x.sum(), rel=1e-12)
    assert values[3] == pytest.approx(x.mean(), rel=1e-12)
    assert values[4] == np.histogram(x, 7, (-2, 5))[0].tolist()
    assert values[5] == pytest.approx(np.quantile(x, [0.25, 0.5, 0.75]).tolist(), abs=0.02)
    assert values[6] == {"a": (g == "a").sum(), "b": (g == "b").sum(), "other": (g == "c").sum()}


def test_intervals_hold_the_exact_value_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    x, g = rng.normal(1.5, 1, 3000).clip(-2, 5), rng.choice(["a", "b"], 3000)
    question, exact, deviation = noised.entries(ALL), seen(list(x), list(g)), 12.0
    true = [3000.0, 3000.0, x.sum(), x.mean(), *np.quantile(x, [0.25, 0.5, 0.75]), (g == "a").sum()]
    held = np.zeros(len(true))
    for _ in range(400):
        found = noised.told(question, exact + deviation * rng.normal(size=exact.size), deviation)
        spans = [*(found[i]["interval"] for i in range(4)), *found[5]["interval"], found[6]["interval"]["a"]]
        held += [low <= value <= high for value, (low, high) in zip(true, spans, strict=True)]
    assert (held >= 0.92 * 400).all()
    assert (held[[0, 1, 2, 3, 7]] <= 0.98 * 400).all()  # and none is wider than it need be, but quantiles


def drawn(rows: int, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Exponential times of mean 500, 70 % events."""
    rng = np.random.default_rng(seed)
    return rng.exponential(500, rows), (rng.random(rows) < 0.7).astype(float)


CURVE: Json = {"stat": "survival", "column": "t", "range": [0, 1000], "bins": 25, "event": "e"}


def survival(times: np.ndarray, events: np.ndarray, noise: Any, deviation: float) -> tuple[Any, Any]:
    [entry] = noised.entries([CURVE])
    sums = entry.observe({"t": Column.numeric(times), "e": Column.numeric(events)}, len(times))
    return entry.value(sums + noise, deviation)


def test_without_noise_a_curve_is_kaplan_and_meiers() -> None:
    times, events = drawn(4000)
    fit = KaplanMeierFitter().fit(times, events)
    found, _ = survival(times, events, 0.0, 1e-9)
    assert found["times"] == pytest.approx(np.arange(40, 1001, 40).tolist())
    exact = [float(fit.predict(t)) for t in found["times"]]
    assert found["survival"] == pytest.approx(
        exact, abs=5e-4
    )  # those who leave inside a bin are at risk for half of it
    days = np.ceil(times / 40) * 40 - 20  # no event and no censoring nearer to the end than half a bin
    found, _ = survival(days, np.ones(len(days)), 0.0, 1e-9)
    assert found["survival"] == pytest.approx([float((days > t).mean()) for t in found["times"]], rel=1e-9)


def test_intervals_of_a_curve_hold_that_without_noise_as_often_as_they_say() -> None:
    rng, deviation = np.random.default_rng(5), 6.0
    times, events = drawn(1500)
    exact, _ = survival(times, events, 0.0, 1e-9)
    held = np.zeros(25)
    for _ in range(400):
        found, spans = survival(times, events, deviation * rng.normal(size=51), deviation)
        held += [low <= value <= high for value, (low, high) in zip(exact["survival"], spans, strict=True)]
        told = [value for value in found["survival"] if value is not None]
        assert len(told) >= 15  # at the end too few are at risk for the noise
        assert (np.diff(told) <= 1e-12).all()
        assert spans[len(told) :] == [[0.0, 1.0]] * (25 - len(told))
    assert (held >= 0.92 * 400).all()
    assert (held[:8] <= 0.98 * 400).all()


def test_a_curve_of_too_few_rows_is_none_and_other_codes_of_events_are_in_no_cell() -> None:
    times, events = drawn(30)
    found, spans = survival(times, events, 0.0, 6.0)
    assert (found["survival"], spans) == ([None] * 25, [[0.0, 1.0]] * 25)
    [entry] = noised.entries([CURVE])
    others = {"t": Column.numeric(times), "e": Column.numeric(events + 1)}
    assert entry.observe(others, 30).sum() == (events == 0).sum()  # 1 is an event, 2 is none
    assert not entry.observe({"t": others["t"]}, 30).any()


def test_too_few_rows_for_the_noise_are_no_number() -> None:
    found = noised.told(noised.entries(ALL), seen([1.0, 2.0], ["a", "b"]), 5.0)
    assert found[3]["value"] is None
    assert found[3]["interval"] == [-2, 5]
    assert found[5]["value"] == [None] * 3


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], "has a list of entries"),
        ([{"stat": "max", "column": "x"}], "is no entry"),
        ([{"stat": "mean", "column": "x"}], "name its range"),
        ([{"stat": "mean", "column": "x", "range": [3, 1]}], "range of mean of x"),
        ([{"stat": "sum", "range": [0, 1]}], "expected the name of one"),
        ([{"stat": "histogram", "column": "x", "range": [0, 1], "bin": 3}], "no setting 'bin'"),
        ([{"stat": "survival", "column": "x", "range": [0, 1]}], "name another column as event"),
        ([{"stat": "survival", "column": "x", "range": [0, 1], "event": "x"}], "name another column as event"),
    ],
)
def test_a_question_that_is_none(raw: Json, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        noised.entries(raw)


def test_numbers_are_not_asked_of_labels() -> None:
    with pytest.raises(DataError, match="is categorical here; mean takes numbers"):
        noised.entries(ALL)[3].observe({"x": Column.categorical(["a"])}, 1)


# ---------------------------------------------------------------- over sites


def sites() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {f"s{k}": {"age": rng.normal(60, 10, 400), "sex": rng.choice(["f", "m"], 400)} for k in range(4)}


ASKED: dict[str, Any] = {
    "age": {"mean": {"range": [0, 120]}, "quantiles": {"range": [20, 100], "at": [0.5]}},
    "sex": {"labels": {"values": ["f", "m"]}},
    "": {"count": {}},
}


@pytest.mark.parametrize("mode", ["local", "distributed", "central"])
def test_sites_answer_with_noise_and_its_intervals(mode: str) -> None:
    data = sites()
    ages = np.concatenate([d["age"] for d in data.values()])
    found = hanse.simulate(data).experiment().analytics.noisy(ASKED, epsilon=2.0, mode=mode)
    mean, median, sex, count = list(found)
    for value, interval, exact in (
        (mean["value"], mean["interval"], ages.mean()),
        (median["value"][0], median["interval"][0], np.median(ages)),
        (count["value"], count["interval"], 1600),
        (sex["value"]["f"], sex["interval"]["f"], sum((d["sex"] == "f").sum() for d in data.values())),
    ):
        assert value != exact
        assert abs(value - exact) < 4 * half_of(interval)  # eight deviations
    assert found.nodes == ("s0", "s1", "s2", "s3")
    assert (found.guarantee.epsilon, found.guarantee.unit) == (2.0, "row")
    noises = {"local": 2.0, "distributed": np.sqrt(2), "central": 1.0}  # of four, of four halves, of one
    deviation = found.guarantee.deviation(np.sqrt(len(found))) * found.guarantee.sharing**0.5
    assert half_of(count["interval"]) == pytest.approx(1.96 * noises[mode] * deviation, rel=1e-3)


def test_sites_tell_a_curve_with_noise() -> None:
    data = {f"s{k}": dict(zip(("t", "e"), drawn(300, k), strict=True)) for k in range(4)}
    fit = KaplanMeierFitter().fit(*(np.concatenate([d[name] for d in data.values()]) for name in ("t", "e")))
    asked = {"t": {"survival": {"range": [0, 600], "bins": 6, "event": "e"}}}
    [found] = hanse.simulate(data).experiment().analytics.noisy(asked, epsilon=2.0, mode="distributed")
    curve, spans = found["value"], found["interval"]
    for time, told, (low, high) in zip(curve["times"], curve["survival"], spans, strict=True):
        assert abs(told - float(fit.predict(time))) < 3 * (high - low)  # a dozen deviations
        assert high - low < 0.15


def test_breakdowns_and_choices_of_rows_are_not_among_them() -> None:
    analytics = hanse.simulate(sites()).experiment().analytics
    for more in ({"by": "sex"}, {"where": (("age", ">", 60),)}, {"per_node": True}):
        with pytest.raises(ConfigError, match="leave by, where and per_node out"):
            dataclasses.replace(analytics, **more).noisy(ASKED)


def half_of(interval: list[float]) -> float:
    return (interval[1] - interval[0]) / 2


def test_asked_again_in_one_federation_nothing_averages_away() -> None:
    """Each question is a run of its own, with noise of its own; what bounds them is the budget."""
    analytics = hanse.simulate(sites()).experiment().analytics
    one, other = (analytics.noisy({"": {"count": {}}})[0]["value"] for _ in range(2))
    assert one != other


def test_owners_allow_it_by_the_same_settings_as_exact_statistics() -> None:
    for policy, said in (
        ({"allow_federated_analytics": False}, "this node gives no statistics"),
        ({"statistics_denied_columns": ["age"]}, "gives no statistics of age"),
        ({"max_epsilon_per_run": 0.5}, "allows at most 0.5"),
        ({"privacy_unit": "site"}, "private by unit row"),
    ):
        with pytest.raises(Refused, match=said):
            hanse.simulate(sites(), policy=policy).experiment().analytics.noisy(ASKED)
    with pytest.raises(Refused, match="is not differentially private"):
        hanse.simulate(sites(), policy={"require_differential_privacy": True}).experiment().analytics.mean("age")
