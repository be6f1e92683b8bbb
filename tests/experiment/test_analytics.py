"""The interface of the document (Fed-BioMed's federated analytics), with its names and rules."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hanse
from hanse import algorithms, bundle, registry
from hanse.config import RunConfig
from hanse.errors import ConfigError, Refused, RunFailed
from hanse.experiment import analytics as analytics_module
from hanse.experiment import simulation
from hanse.experiment.analytics import FederatedAnalytics
from hanse.experiment.analytics_result import FAResult
from hanse.experiment.federation import Federation
from hanse.queries import make_item, plan
from hanse.table import Column, ColumnKind, Table
from tests.policy.some_facts import facts


def cars(rows: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "year": rng.integers(2000, 2021, rows).astype(float),
            "price": rng.lognormal(9, 1, rows),
            "mileage": rng.exponential(3e4, rows),
            "mpg": rng.normal(55, 9, rows),
            "fuel": rng.choice(["diesel", "petrol"], rows),
        }
    )


def two(frame: pd.DataFrame | None = None, **policy: Any) -> Federation:
    frame = cars() if frame is None else frame
    return hanse.simulate({"node-1": frame[:50], "node-2": frame[50:]}, policy=policy)


def test_an_experiment_has_analytics_and_mean_is_a_number_per_column() -> None:  # A1, A2, A18, A27, A47
    frame = cars()
    exp = two(frame).experiment(target="price")
    assert isinstance(exp.analytics, FederatedAnalytics)
    assert exp.analytics is exp.analytics
    mean = exp.analytics.mean(dataset_schema=None)
    assert mean == pytest.approx(frame.drop(columns="fuel").mean().to_dict(), rel=1e-12)
    assert list(exp.analytics.mean(dataset_schema=["price", "mileage"])) == ["price", "mileage"]


def test_default_statistics_and_what_is_derived_here() -> None:  # A11, A13-A15, A17, A19, A22, A29, A34-A37
    frame = cars()
    analytics = two(frame).analytics()
    result = analytics.fetch_stats()
    assert isinstance(result, FAResult)
    got = result.global_stats()
    assert {"count", "mean", "variance", "std", "sum"} == set(got)
    assert got["variance"]["price"] == pytest.approx(frame["price"].var(), rel=1e-12)
    assert got["std"]["price"] == pytest.approx(frame["price"].std(), rel=1e-12)
    assert got["sum"]["price"] == pytest.approx(frame["price"].sum(), rel=1e-12)
    [fetched] = result.fetched
    assert not any(i.stat in ("std", "sum") for i in fetched.plan.items)  # never asked of a node
    names = {name.partition(".")[2] for name in fetched.arrays}
    assert names == {"n", "sum", "s", "withheld", "sites"}


def test_dependencies_resolve_themselves() -> None:  # A29, A30
    query = plan((make_item("variance", ["x"], {}),))
    assert [i.stat for i in query.items] == ["count", "mean", "variance"]
    assert [query.shared[i] for i in query.items] == [0, 0, 1]
    assert set(query.observed.values()) == {0}  # one pass over the rows


def test_an_identical_call_asks_nobody_and_a_larger_answer_answers_a_smaller_question() -> None:  # A3, A24-A26
    analytics = two().analytics()
    analytics.fetch_stats(["mean", "variance"])
    assert analytics.requests == 1
    analytics.fetch_stats(["variance", "mean"])
    analytics.mean(["price"])
    analytics.std("mpg")
    analytics.sum()
    analytics.count(["year"])
    assert analytics.requests == 1
    analytics.correlation(["price", "mpg", "year"])
    analytics.correlation(["year", "price"])
    analytics.covariance(["mpg", "year"])
    assert analytics.requests == 2
    edges = {"price": {"histogram": {"bin_edges": [0, 1e4, 1e5]}}}
    analytics.fetch_stats_with_args(edges)
    analytics.fetch_stats_with_args({"price": {"histogram": {"bin_edges": [0.0, 10000.0, 100000.0]}}})
    assert analytics.requests == 3
    analytics.fetch_stats_with_args({"price": {"histogram": {"bin_edges": [0, 2e4, 1e5]}}})
    assert analytics.requests == 4


def test_data_that_changes_is_asked_for_again() -> None:  # A24
    frame = cars()
    federation = two(frame)
    analytics = federation.analytics()
    before = analytics.mean(["price"])["price"]
    backend: Any = federation._backend
    backend.tables["node-1"] = Table.of(frame[:50].assign(price=1.0))
    backend._sites = simulation._Sites(backend.tables)
    assert analytics.mean(["price"])["price"] != before
    assert analytics.requests == 2


def test_what_is_asked_wrongly_is_said_before_anything_is_sent() -> None:  # A9, A16, A20, A21, A28, A57
    analytics = two().analytics()
    for call, says in (
        (lambda: analytics.fetch_stats("averge"), "there is no statistic 'averge'"),
        (lambda: analytics.fetch_stats([]), "stats is empty"),
        (lambda: analytics.fetch_stats("mean", ["colour"]), "no site has a column 'colour'"),
        (lambda: analytics.fetch_stats("mean", []), "dataset_schema is empty"),
        (lambda: analytics.fetch_stats("mean", ["fuel"]), "mean cannot be asked of 'fuel', which is categorical"),
        (lambda: analytics.fetch_stats("histogram", ["price"]), "needs bin_edges"),
        (lambda: analytics.fetch_stats_with_args({}), "not empty"),
        (lambda: analytics.fetch_stats_with_args({"price": {"mean": {"x": 1}}}), "no argument 'x'"),
        (lambda: analytics.fetch_stats_with_args({"price": {"mean": {"group": "f"}}}), r"analytics\(by=...\).mean"),
        (lambda: analytics.kaplan_meier("time", "event", group="sex"), r"analytics\(by=...\).kaplan_meier"),
        (lambda: analytics.mean(where=[["price", ">", 1]]), r"analytics\(where=...\).mean"),
        (lambda: analytics.t_test("price", where=[]), r"no argument 'where'"),
        (lambda: analytics.fetch_stats_with_args({"price": {"histogram": {"bin_edges": [1, 1]}}}), "rising"),
        (lambda: analytics.fetch_stats_with_args({"price": {"histogram": {"bin_edges": [1]}}}), "2 to"),
        (lambda: analytics.fetch_stats_with_args({"price": {"histogram": {"bin_edges": [0, float("nan")]}}}), "finite"),
        (lambda: analytics.fetch_stats_with_args({"price": {"quantile": {"q": 2}}}), "q is 2"),
        (lambda: analytics.fetch_stats("mean", by=["fuel", "year", "mpg"]), "one or two"),
        (lambda: analytics.correlation(["price"]), "two columns"),
    ):
        with pytest.raises(ConfigError, match=says):
            call()
    assert analytics.requests == 0
    assert analytics.fetch_stats("mean", "price").values("mean").keys() == {"price"}


def test_quantiles_come_from_a_histogram_as_in_the_document() -> None:  # A12, A39
    x = np.repeat([0.5, 1.5, 2.5, 3.5], 25)
    analytics = two(pd.DataFrame({"x": x})).analytics()
    result = analytics.fetch_stats_with_args({"x": {"quantile": {"q": [0.25, 0.5, 0.9], "bin_edges": [0, 1, 2, 3, 4]}}})
    assert [float(v) for v in result.values("quantile")["x"]] == pytest.approx([1.0, 2.0, 3.6])
    assert result.values("histogram") == {}  # what was asked is what is shown


def test_the_histogram_nobody_knows_the_range_of() -> None:  # A12
    frame = cars(4000)
    found = two(frame).analytics().histogram("mpg")["mpg"]
    assert sum(found["counts"]) + found["below"] + found["above"] >= 3900
    assert len(found["counts"]) == 20
    assert found["bin_edges"][0] < np.quantile(frame["mpg"], 0.01)


def test_groups_by_one_and_two_columns() -> None:
    frame = cars(400).assign(old=lambda f: f["year"] < 2010)
    federation = two(frame, minimum_cell=1)
    one = federation.analytics(by="fuel").mean(["price"])["price"]
    assert one == pytest.approx(frame.groupby("fuel")["price"].mean().to_dict())
    both = federation.analytics(by=["fuel", "old"]).count(["price"])["price"]
    expected = frame.groupby(["fuel", "old"])["price"].count()
    assert both == {(f, str(int(o))): n for (f, o), n in expected.items()}


def test_dates_booleans_and_text() -> None:
    days = pd.date_range("2020-01-01", periods=40)
    frame = pd.DataFrame({"day": days, "well": [True, False] * 20, "city": ["Ulm"] * 25 + ["Bonn"] * 15})
    analytics = two(frame[:40].iloc[np.random.default_rng(0).permutation(40)], minimum_cell=1).analytics()
    assert analytics.mean(["day"])["day"] == pytest.approx((days - pd.Timestamp(0)).days.to_numpy().mean())
    assert analytics.mean("well") == {"well": 0.5}
    assert analytics.value_counts() == {"city": {"Ulm": 25, "Bonn": 15}, "well": {"0": 20, "1": 20}}


def test_dates_have_no_sum_and_no_variance_unless_they_are_asked_for_and_stand_short_in_a_table() -> None:
    rng = np.random.default_rng(2)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, 120), "D")
    analytics = two(pd.DataFrame({"day": days, "size": rng.normal(size=120)})).analytics()
    size, day = sorted(analytics.describe(), key=lambda row: row["column"] == "day")
    assert {"sum", "variance"} <= set(size)
    assert {"mean", "std", "50%"} <= set(day)
    assert not {"sum", "variance"} & set(day)
    assert "sum" not in analytics.fetch_stats().listing()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \(\d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d\)", day["50%"])
    assert f"≈{day['50%'][:10]}" in repr(analytics.describe())
    assert day["50%"] not in repr(analytics.describe())
    assert analytics.variance("day")["day"] == pytest.approx(days.to_series().dt.to_period("D").astype("int64").var())
    assert "variance" in analytics.fetch_stats("variance", "day").listing()[0]


def test_images_per_channel() -> None:  # A10, A32, A42
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (60, 8, 6, 3), dtype=np.uint8)
    sites = {
        n: Table({"scan": Column(ColumnKind.IMAGE, part), "age": Column.numeric(np.arange(30.0))})
        for n, part in (("a", pictures[:30]), ("b", pictures[30:]))
    }
    analytics = hanse.simulate(sites).analytics()
    got = analytics.fetch_stats(["count", "mean", "std"], "scan").global_stats()
    for channel in range(3):
        values = pictures[..., channel].astype(float)
        assert got["count"][f"scan[{channel}]"] == values.size
        assert got["mean"][f"scan[{channel}]"] == pytest.approx(values.mean())
        assert got["std"][f"scan[{channel}]"] == pytest.approx(values.std(ddof=1))
    histogram = analytics.fetch_stats_with_args({"scan[0]": {"histogram": {"bin_edges": [0, 128, 256]}}})
    expected = np.histogram(pictures[..., 0], [0, 128, 256])[0].tolist()
    assert histogram.values("histogram")["scan[0]"]["counts"] == expected
    assert analytics.value_counts("scan[shape]") == {"scan[shape]": {"8 x 6 x 3": 60}}
    grey = hanse.simulate({"a": Table({"scan": Column(ColumnKind.IMAGE, pictures[..., :1])})})
    assert set(grey.analytics().mean("scan")) == {"scan[0]"}
    few = hanse.simulate({"a": Table({"scan": Column(ColumnKind.IMAGE, pictures[:5])})})
    assert few.analytics().mean("scan") == {f"scan[{c}]": None for c in range(3)}  # 5 people, though 240 pixels


def test_a_column_that_one_site_lacks_and_sites_without_rows() -> None:
    frame = cars()
    sites = {"a": frame[:60], "b": frame[60:].drop(columns="mpg"), "empty": frame[:0]}
    result = hanse.simulate(sites).analytics().fetch_stats("mean")
    assert result.values("mean")["mpg"] == pytest.approx(frame["mpg"][:60].mean())
    assert result.values("mean")["price"] == pytest.approx(frame["price"].mean())
    assert any("'mpg' is not at b" in note for note in result.notes)


def test_columns_of_different_kinds_name_the_nodes() -> None:
    """No site was said to have the column, and an overview left it out without a word."""
    rng = np.random.default_rng(0)
    frames = {name: {"x": rng.normal(size=40), "y": rng.normal(size=40), "g": ["u", "v"] * 20} for name in "ab"}
    frames["b"]["x"] = [f"{value:.3f}".replace(".", ",") for value in frames["b"]["x"]]
    analytics = hanse.simulate(frames).analytics()
    for ask in (lambda: analytics.mean(["x"]), lambda: analytics.fetch_stats("count", "x")):
        with pytest.raises(ConfigError, match="'x' is of different kinds: categorical at b; numeric at a"):
            ask()
    for said in (
        analytics.overview(),
        analytics.describe(),
        analytics.mean(),
        analytics.fetch_stats(),
        analytics.table_one("g"),
    ):
        assert "! 'x' is left out, as it is of different kinds: categorical at b; numeric at a" in repr(said)
    assert "'x'" not in repr(analytics.overview(["y"]))


def test_a_node_that_fails_does_not_lose_the_others_answers() -> None:  # A31, A45, errors per node
    frame = cars()
    federation = hanse.simulate({"good": frame[:60], "huge": frame[60:].assign(price=1e308)})
    result = federation.analytics().fetch_stats("mean", ["price"])
    assert result.nodes == ("good",)
    assert "huge" in result.failures
    mean = result.values("mean")["price"]
    assert float(mean) == pytest.approx(frame["price"][:60].mean())
    assert repr(mean).endswith("(of 60 of at most 120 rows, without huge)")
    assert any("huge is not in it" in note for note in result.notes)
    with pytest.raises(RunFailed, match="huge"):
        federation.analytics(require="all").fetch_stats("mean", ["price"])
    with pytest.raises(Refused, match="price"):
        two(statistics_denied_columns=["price"]).analytics().mean(["price"])


def test_single_nodes_only_where_their_owners_allow_it() -> None:  # A46
    frame = cars()
    analytics = two(frame).analytics(per_node=True)
    result = analytics.fetch_stats(["mean", "std"], ["price"])
    assert result.values("mean")["price"] == pytest.approx(frame["price"].mean())  # over all sites all the same
    assert result.node_stats() == {}
    assert set(result.alone) == {"node-1", "node-2"}
    for node in result.alone:
        assert any(node in note and "its owner gives no statistics of it alone" in note for note in result.notes)
        with pytest.raises(ConfigError, match=f"{node} is not shown by itself: its owner"):
            result.values("mean", node)
    assert analytics.requests == 2
    assert analytics.mean(["price"])["price"] == result.values("mean")["price"]
    assert analytics.requests == 2  # that nobody is shown is remembered, too

    result = two(frame, allow_node_statistics=True).analytics(per_node=True).fetch_stats(["mean", "std"], ["price"])
    assert result.node_stats()["node-1"]["mean"]["price"] == pytest.approx(frame["price"][:50].mean())
    assert result.node_stats()["node-2"]["std"]["price"] == pytest.approx(frame["price"][50:].std())
    assert result.values("std")["price"] == pytest.approx(frame["price"].std())
    assert result.alone == {}
    plain = two(frame).analytics().fetch_stats("mean")
    assert (plain.node_stats(), plain.alone) == ({}, {})


def test_a_node_by_itself_has_its_minimum_too() -> None:  # A46
    few = cars().assign(price=lambda f: f["price"].where(f.index < 55))  # of which the second node has five
    result = two(few, allow_node_statistics=True).analytics(per_node=True).fetch_stats(["mean", "count"])
    assert result.node_stats()["node-2"]["mean"]["price"] is None
    assert result.node_stats()["node-2"]["count"]["price"] is None
    assert result.node_stats()["node-2"]["mean"]["mpg"] == pytest.approx(few["mpg"][50:].mean())
    assert any("kept back at node-2" in note for note in result.notes)


def test_results_merge_and_show_themselves() -> None:
    analytics = two().analytics()
    both = analytics.fetch_stats("mean").merge(analytics.fetch_stats("missing"))
    assert {"mean", "missing", "count", "sum"} <= set(both.global_stats())
    frame = both.to_frame()
    assert {"column", "mean", "missing"} <= set(frame.columns)
    picture = analytics.fetch_stats_with_args({"price": {"histogram": {"bins": 10}}, "fuel": {"value_counts": {}}})
    html = picture._repr_html_()
    assert "<svg" in html
    assert "histogram of price" in html
    assert "price" in repr(both)
    other = hanse.simulate({"else": cars()}).analytics().fetch_stats("mean")
    with pytest.raises(ConfigError, match="different nodes"):
        both.merge(other)


def test_names_from_elsewhere_are_escaped() -> None:
    sites = {"<script>": {"<b>x</b>": list(np.arange(30.0)), "t": ["<i>"] * 30}}
    analytics = hanse.simulate(sites).analytics()
    html = analytics.fetch_stats(["mean"])._repr_html_() + analytics.fetch_stats("value_counts")._repr_html_()
    assert "<script>" not in html
    assert "<b>x" not in html
    assert "<i>" not in html


def test_what_sites_keep_back_says_how_totals_would_tell_it() -> None:
    """Where three sites could be asked in secure sums; of those sums nothing more is said."""
    sites = {name: cars() for name in ("ulm", "bonn", "kiel")}
    for few, told in ((3, True), (2, False)):  # secure sums take three sites
        some = dict(list(sites.items())[:few])
        notes = hanse.simulate(some).analytics().ask("histogram", ["mpg"], {"bins": 40}).notes
        assert any('statistics_minimum = "total"' in note for note in notes) is told
        assert any("kept back" in note for note in notes)
    totals = hanse.simulate(sites, policy={"statistics_minimum": "total"})
    assert not any("statistics_minimum" in n for n in totals.analytics().ask("histogram", ["mpg"], {"bins": 40}).notes)


def test_totals_are_asked_for_at_once_where_they_were_the_answer_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the command line left a rejected run beside the one that answered."""
    sites = {name: cars() for name in ("ulm", "bonn", "kiel")}
    totals = hanse.simulate(sites, policy={"statistics_minimum": "total"})
    for asked in (2, 1):
        assert float((analytics := totals.analytics()).mean(["mpg"])["mpg"]) == pytest.approx(cars()["mpg"].mean())
        assert analytics.requests == asked
    monkeypatch.setattr(
        simulation.Simulation, "latest", lambda *_: "statistics_on_total"
    )  # their owners think otherwise since
    for few, asked in ((3, 2), (1, 1)):
        analytics = hanse.simulate(dict(list(sites.items())[:few])).analytics()
        assert float(analytics.mean(["mpg"])["mpg"]) == pytest.approx(cars()["mpg"].mean())
        assert analytics.requests == asked


def test_who_refused_totals_is_named_where_the_others_are_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was said that a sum of one node does not fit, and not who had said no, nor why."""
    sites = {name: cars() for name in ("ulm", "bonn", "kiel")}
    analytics = hanse.simulate(sites, policy={"statistics_minimum": "total"}).analytics()
    said = {"ulm": "its owner allows no statistics", "bonn": "its owner wants three nodes"}

    def no(*_: Any, **__: Any) -> None:
        raise Refused("rejected")

    monkeypatch.setattr(analytics_module, "wait", no)
    monkeypatch.setattr(analytics_module, "_rejections", lambda _: said)
    with pytest.raises(Refused, match="bonn: its owner wants three nodes; ulm: its owner allows no statistics"):
        FederatedAnalytics(analytics.backend, gathering="secure").mean(["mpg"])


def test_describe() -> None:
    frame = cars(600)
    rows = {row["column"]: row for row in two(frame).analytics().describe()}
    assert float(rows["mpg"]["50%"]) == pytest.approx(frame["mpg"].median(), abs=0.5)
    assert rows["fuel"]["labels"].startswith(str(frame["fuel"].value_counts().index[0]))
    assert rows["price"]["count"] == 600


def test_a_whole_number_is_one_value_where_a_site_has_it_as_a_float() -> None:
    whole = pd.DataFrame({"patient": range(1, 1001)})
    lacks = pd.DataFrame({"patient": [None, *range(1, 1001)]})  # pandas makes floats of these
    assert (whole["patient"].dtype, lacks["patient"].dtype) == ("int64", "float64")
    alike = hanse.simulate({"a": whole, "b": whole}, policy={"allow_extremes": True}).analytics().distinct("patient")
    mixed = hanse.simulate({"a": whole, "b": lacks}, policy={"allow_extremes": True}).analytics().distinct("patient")
    assert mixed == alike
    assert mixed["patient"] == pytest.approx(1000, rel=0.03)


def test_the_wire_changes_nothing() -> None:
    frame = cars()
    sites = {"a": frame[:50], "b": frame[50:]}
    one, two_ = (
        hanse.simulate(sites, wire=w).analytics().fetch_stats(["mean", "std", "distinct", "value_counts"])
        for w in ("references", "exact")
    )
    assert one.global_stats() == two_.global_stats()


def test_a_query_is_a_run_with_a_bundle_that_shows_the_code() -> None:
    options = {"items": [["variance", ["x"], {}, []]]}
    config = RunConfig.parse({"federated_strategy": "statistics", "model_options": options, "target_column": ""})
    assert algorithms.needs_data(config)
    assert not algorithms.needs_model(config)
    code = bundle.node_code(config)
    parts = ("_query", "_owner", "_observation", "_disclosure", "statistics")
    others = ("statistics.variance", "statistics._powers", "suppression")
    for module in (*(f"algorithms.{part}" for part in parts), *others):
        assert f"hanse.{module}" in code
    assert not any(".models." in module or "preparation" in module for module in code)


def test_a_new_statistic_touches_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # A49
    (tmp_path / "root_mean_square.py").write_text(
        '"""Root of the mean square."""\n'
        "import numpy as np\n"
        "from hanse.queries import Statistic\n"
        "def observe(values, options, known):\n"
        "    x = values.finite\n"
        "    return {'n': np.asarray(len(x)), 'squares': np.asarray(float(x @ x))}\n"
        "def final(arrays, options, known):\n"
        "    return float(np.sqrt(arrays['squares'] / arrays['n'])) if arrays['n'] else None\n"
        "STATISTIC = Statistic(doc='root mean square', observe=observe, final=final)\n"
    )
    import hanse.statistics

    monkeypatch.setattr(hanse.statistics, "__path__", [*hanse.statistics.__path__, str(tmp_path)])
    assert "root_mean_square" in registry.names("statistics")
    frame = cars()
    got = two(frame).analytics().fetch_stats("root_mean_square", ["mpg"]).values("root_mean_square")
    assert got["mpg"] == pytest.approx(np.sqrt((frame["mpg"] ** 2).mean()))


def test_an_owner_must_allow_statistics() -> None:  # A4, A43, A44, A51
    from hanse.policy.federated_analytics import AnalyticsAllowed as Rule

    asked = facts(algorithm="statistics", at_once=True, features=("age", "ssn"), nodes=2)
    allowed = {
        "allow_federated_analytics": True,
        "statistics_columns": ["*"],
        "statistics_denied_columns": [],
        "allow_node_statistics": False,
    }
    assert Rule(allowed).decide(asked).allowed
    assert not Rule({**allowed, "allow_federated_analytics": False}).decide(asked).allowed
    assert "ssn" in Rule({**allowed, "statistics_denied_columns": ["ssn"]}).decide(asked).reason
    assert "ssn" in Rule({**allowed, "statistics_columns": ["age"]}).decide(asked).reason
    assert "alone" in Rule(allowed).decide(dataclasses.replace(asked, nodes=1)).reason
    assert Rule({**allowed, "allow_node_statistics": True}).decide(dataclasses.replace(asked, nodes=1)).allowed
    assert Rule({}).decide(facts(algorithm="fedavg")).allowed
