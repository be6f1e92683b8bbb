"""Statistics with noise: what one row changes of them, and that their intervals hold what they say."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter

import hanse
from hanse import algorithms, noised
from hanse.config import RunConfig
from hanse.errors import ConfigError, DataError, Refused
from hanse.experiment import noisy
from hanse.experiment.results import Result
from hanse.messages import Json, Record
from hanse.registry import names
from hanse.rounds import Step
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


def covered(entry: Json, exact: np.ndarray, true: list[float], deviation: float) -> np.ndarray:
    """Of the draws of the noise that tell a number, in how many its interval holds the one without noise."""
    rng, [one] = np.random.default_rng(6), noised.entries([entry])
    held = []
    for _ in range(400):
        found, spans = one.value(exact + deviation * rng.normal(size=exact.size), deviation)
        values, ends = (found, spans) if isinstance(found, list) else ([found], [spans])
        if values[0] is not None:
            assert all(low <= value <= high for value, (low, high) in zip(values, ends, strict=True))
            held.append([low - 1e-9 <= value <= high + 1e-9 for value, (low, high) in zip(true, ends, strict=True)])
    return np.mean(held, axis=0)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("rows", [30.0, 40.0, 70.0])
def test_the_interval_of_a_mean_holds_as_often_where_rows_are_few(rows: float, share: float) -> None:
    """Rows of three to seven deviations of the noise; at three it held 0.88 of the time."""
    entry = {"stat": "mean", "column": "x", "range": [0, 100]}
    assert covered(entry, np.array([rows, share * rows]), [50 + 50 * share], 10.0) > 0.92


@pytest.mark.parametrize(("rows", "bins"), [(300, 256), (100, 16)])
def test_intervals_of_quantiles_hold_as_often_in_the_tails(rows: int, bins: int) -> None:
    """Noise of many bins with few rows crosses a level early and late: of 5 % the interval held 0.69 of the time."""
    rng, levels = np.random.default_rng(7), [0.05, 0.25, 0.5, 0.75, 0.95]
    for x in (rng.normal(50, 10, rows).clip(0, 100), rng.exponential(5, rows).clip(0, 100)):
        entry = {"stat": "quantiles", "column": "x", "range": [0, 100], "bins": bins, "at": levels}
        exact = noised.entries([entry])[0].observe({"x": Column.numeric(x)}, rows)
        true = np.quantile(x, levels, method="inverted_cdf").tolist()
        assert covered(entry, exact, true, 5.0).min() > 0.92


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
        found, spans = survival(times, events, deviation * rng.normal(size=52), deviation)
        held += [low <= value <= high for value, (low, high) in zip(exact["survival"], spans, strict=True)]
        told = [value for value in found["survival"] if value is not None]
        assert len(told) >= 15  # at the end too few are at risk for the noise
        assert (np.diff(told) <= 1e-12).all()
        assert spans[len(told) :] == [[0.0, 1.0]] * (25 - len(told))
    assert (held >= 0.92 * 400).all()
    assert (held[:8] <= 0.98 * 400).all()


@pytest.mark.parametrize(("rows", "bins"), [(50, 5), (300, 20)])
def test_intervals_of_a_curve_hold_as_often_where_few_are_at_risk(rows: int, bins: int) -> None:
    """At the last times that are told; all that are not told hold. It was 0.88 of the draws."""
    rng = np.random.default_rng(8)
    times, events = rng.exponential(2, rows), (rng.random(rows) < 0.7).astype(float)
    [entry] = noised.entries([{"stat": "survival", "column": "t", "range": [0, 10], "bins": bins, "event": "e"}])
    sums = entry.observe({"t": Column.numeric(times), "e": Column.numeric(events)}, rows)
    exact, _ = entry.value(sums, 1e-9)
    true = [value or 0.0 for value in exact["survival"]]
    held = np.zeros(bins)
    for _ in range(500):
        _, spans = entry.value(sums + 2.0 * rng.normal(size=sums.size), 2.0)
        held += [low - 1e-9 <= value <= high + 1e-9 for value, (low, high) in zip(true, spans, strict=True)]
    assert held.min() > 0.92 * 500


def test_other_codes_of_events_are_said_with_the_curve() -> None:
    """1 for those who were censored and 2 for events: the former were taken for events, the latter for nobody."""
    times, events = drawn(600)
    found = hanse.simulate({k: {"t": times[k::2], "e": events[k::2] + (k == 1)} for k in (0, 1)}).experiment()
    asked: Any = {"t": {"survival": {"range": [0, 1000], "bins": 5, "event": "e"}}}
    answers = found.analytics.noisy(asked, epsilon=8.0)
    assert answers[0]["value"]["uncounted"] == pytest.approx(events[1::2].sum(), abs=25)
    [note] = answers.notes
    assert re.search(r"survival of t: some 2\d\d rows are not in it, as their event is neither 1", note)
    assert note in repr(answers)
    same = hanse.simulate({k: {"t": times[k::2], "e": events[k::2]} for k in (0, 1)}).experiment()
    assert same.analytics.noisy(asked, epsilon=8.0).notes == []


def test_whose_rows_are_not_in_it_is_said() -> None:
    """Of a site without the column, and of one that was lost."""
    data: dict[str, Any] = {"a": {"x": np.ones(200), "y": np.ones(200)}, "b": {"y": np.ones(300)}}
    answers = hanse.simulate(data).experiment().analytics.noisy({"x": {"count": {}}}, epsilon=4.0)
    assert answers[0]["value"] == pytest.approx(200, abs=25)
    assert answers.notes == ["b has no column 'x', and no row in what is told of it"]
    assert answers.to_json()["notes"] == answers.notes
    assert answers.notes[0] in repr(answers)
    config = algorithms.settled(
        RunConfig.parse(noisy.settings({"x": {"count": {}}}, "local", {"epsilon": 4.0, "delta": 1e-5}))
    )
    lost = [Step(0, "statistics", 1, "", failures={"c": "it was switched off"})]
    result = Result(Record({"took": ["a"]}, {"sums": np.array([200.0])}), config, lost)
    told = noisy.read(result, config, {"a": ["x"], "c": ["x"], "d": ["x"]})
    assert told.notes == ["c is not in these numbers: it was switched off", "d is not in these numbers: it gave none"]


def test_a_label_other_is_counted_by_itself() -> None:
    [entry] = noised.entries([{"stat": "labels", "column": "g", "values": ["a", "other"]}])
    column = Column.categorical(["a", "other", "other", "b", None])
    value, spans = entry.value(entry.observe({"g": column}, 5), 1e-9)
    assert value == {"a": 1, "other": 2, "any other": 1}
    assert list(spans) == list(value)
    numbers = Column.numeric([1.0, 2.0, float("inf"), float("nan")])
    assert entry.observe({"g": numbers}, 4).tolist() == [0, 0, 2]  # what is infinite is no measurement


def test_a_curve_of_too_few_rows_is_none_and_other_codes_of_events_are_in_no_cell() -> None:
    times, events = drawn(30)
    found, spans = survival(times, events, 0.0, 6.0)
    assert (found["survival"], spans) == ([None] * 25, [[0.0, 1.0]] * 25)
    [entry] = noised.entries([CURVE])
    others = {"t": Column.numeric(times), "e": Column.numeric(events + 1)}
    assert entry.observe(others, 30)[:-1].sum() == (events == 0).sum()  # 1 is an event, 2 is none
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
