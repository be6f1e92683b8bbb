"""Exact boosting: the same bytes however the rows lie, whoever is lost on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from drive import Drive, same, shares, toy

import hanse
from hanse import algorithms
from hanse.algorithms import _boosting_counts
from hanse.algorithms._boosting_state import Room
from hanse.boosting import packed, scales
from hanse.boosting.importance import shap
from hanse.boosting.objective import chosen
from hanse.boosting.trees import Trees, margins
from hanse.boosting.workspace import Workspace
from hanse.config import RunConfig
from hanse.errors import ConfigError, RunFailed
from hanse.learning.results import task_of
from hanse.messages import Record, digest
from hanse.registry import find
from hanse.table import Table

OPTIONS = {"max_depth": 3}
CASES = {
    "binary": "binary",
    "multiclass": "multiclass",
    "regression": "regression",
    "counts": "regression",
    "reg:absoluteerror": "regression",
    "reg:quantileerror": "regression",
    "survival": "regression",
}
QUANTILES = ["reg:absoluteerror", "reg:quantileerror"]


def later(*kinds: str) -> list[Any]:
    """What is like its neighbours: for ``make long``."""
    return [pytest.param(kind, marks=pytest.mark.long) for kind in kinds]


def table_of(kind: str, n: int = 240) -> Table:
    """For a task, or an objective that is not the default of one."""
    table = toy(n, CASES[kind])
    if kind == "survival":
        return followed(table)
    if kind != "counts":
        return table
    rates = np.exp((table["y"].values - 300) / 40)
    counts = np.random.default_rng(7).poisson(np.clip(rates, 0.1, 30)).astype(float)
    return Table({**table.columns, "y": Table.of({"y": counts})["y"]})


def followed(table: Table) -> Table:
    """Until an event, or the end of a study; times have ties."""
    rng = np.random.default_rng(8)
    time, end = np.exp((300 - table["y"].values) / 40) * rng.exponential(20, table.rows), rng.uniform(5, 60, table.rows)
    told = Table.of({"time": np.ceil(np.minimum(time, end) * 4) / 4, "event": time <= end})
    return Table({**{n: c for n, c in table.columns.items() if n != "y"}, **told.columns})


def settings(kind: str, **more: Any) -> dict[str, Any]:
    task = {"task_type": kind} if kind in ("counts", "survival") else {}
    task |= {"target_column": "time, event"} if kind == "survival" else {}
    options = {**OPTIONS, "objective": kind} if ":" in kind else OPTIONS
    options = {**options, "quantile_alpha": 0.8} if kind == "reg:quantileerror" else options
    return {"model_name": "xgboost", "model_options": options, "num_rounds": 4, **task, **more}


def model(result: Record) -> str:
    arrays = {name: result.arrays[name] for name in result.arrays if name.startswith("model.")}
    return digest(Record({}, arrays))


def design(work: Workspace) -> Any:
    """The rows of a site, as numbers."""
    return np.concatenate(list(work.columns()), axis=1)


def splits(table: Table) -> dict[str, dict[str, Table]]:
    n, rng = table.rows, np.random.default_rng(3)
    target = table["y" if "y" in table.columns else "event"]
    by_target = table.take(np.argsort(target.values, kind="stable"))
    return {
        "pooled": shares(table, n),
        "even": shares(table, n // 2, n - n // 2),
        "uneven": shares(table, n - 20, 17, 3),
        "targets apart": shares(by_target, n // 3, n - n // 3),
        "an empty site": shares(table, 0, n),
        "one row": shares(table, 1, n - 1),
        "20 sites": shares(table, *[n // 20] * 20),
        "shuffled": shares(table.take(rng.permutation(n)), n),
    }


def some(table: Table) -> dict[str, dict[str, Table]]:
    """Pooled, targets apart, of twenty sites; ``make long`` takes all splits of all kinds."""
    return dict(list(splits(table).items())[::3])


def same_bytes(kind: str, tables: dict[str, dict[str, Table]]) -> None:
    found = {name: model(Drive(t, **settings(kind, test_fraction=0.0)).run()) for name, t in tables.items()}
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize("kind", CASES)
def test_the_model_has_the_same_bytes_for_every_split(kind: str) -> None:
    same_bytes(kind, (splits if kind == "binary" else some)(table_of(kind)))


@pytest.mark.long
@pytest.mark.parametrize("kind", CASES)
def test_the_model_has_the_same_bytes_for_all_splits(kind: str) -> None:
    same_bytes(kind, splits(table_of(kind)))


@pytest.mark.parametrize("kind", ["binary", "survival", *later("reg:absoluteerror")])
def test_a_site_that_keeps_nothing_is_sent_all_trees_each_time(kind: str) -> None:
    tables = shares(table_of(kind), 100, 90, 50)
    plain = Drive(tables, **settings(kind)).run()
    forgetful = Drive(tables, forgetful=True, **settings(kind))
    assert same(forgetful.run(), plain)


class Forgetting(Drive):
    """Forgets all of ``site-1`` before some steps, as a worker that was killed."""

    steps: frozenset[int] = frozenset()

    def _asked(self, ask: Any) -> Any:
        if len(self.records) in self.steps:
            self.sites["site-1"] = self._site("site-1")
        assert not ask.each  # masks do not cancel where one node is asked something else
        return super()._asked(ask)


class Noting(Drive):
    """Keeps what was asked."""

    def _asked(self, ask: Any) -> Any:
        self.asks = [*getattr(self, "asks", []), ask]
        return super()._asked(ask)


def test_what_all_agreed_on_is_sent_before_the_first_tree_and_then_to_who_has_forgotten_it() -> None:
    tables = shares(table_of("binary"), 100, 90, 50)
    drive, forgetful = Noting(tables, **settings("binary")), Noting(tables, forgetful=True, **settings("binary"))
    for one in (drive, forgetful):
        one.run()
        trees = [of for ask in one.asks if (of := ask.record.data["of"]).get("forward") or of.get("level")]
        told = [of["prepared"] is not None for of in trees]
        assert told == [bool((there := of.get("forward")) and there["whole"]) for of in trees]
        assert len(told) >= 12
        assert sum(told) == (1 if one is drive else len(told) // 2 + 1)


@pytest.mark.parametrize("kind", CASES)
def test_who_has_forgotten_all_answers_in_the_form_that_is_asked_for(kind: str) -> None:
    """Or its numbers could not be masked as those of the others."""
    drive = Noting(shares(table_of(kind), 100, 90, 50), **settings(kind, num_rounds=2))
    drive.run()
    asked = 0
    for ask in drive.asks:
        of = ask.record.data["of"]
        if not (of.get("forward") or of.get("level")) or of.get("prepared") is not None:
            continue
        said = drive.algorithm.answer(drive._site("site-1"), ask.record)
        assert said.record.data == {"lost": True}
        for found, form in ((said.record.arrays, ask.arrays), (said.sums, ask.sums)):
            assert {n: (str(a.dtype), a.shape) for n, a in found.items()} == dict(form)
        asked += of.get("forward") is not None
    assert asked


@pytest.mark.parametrize("kind", ["binary", "survival", *later("regression", "reg:absoluteerror")])
def test_a_worker_that_is_killed_in_a_tree_changes_nothing(kind: str) -> None:
    tables = shares(table_of(kind), 100, 90, 50)
    plain = Drive(tables, **settings(kind, num_rounds=2))
    expected = plain.run()
    for step in range(3, len(plain.labels), 1 if kind == "binary" else 3):
        killed = Forgetting(tables, **settings(kind, num_rounds=2))
        killed.steps = frozenset({step})
        assert same(killed.run(), expected), step


def test_a_node_that_is_lost_in_a_tree_takes_no_part_in_it_and_comes_back() -> None:
    tables = shares(table_of("binary"), 100, 90, 50)
    plain = Drive(tables, **settings("binary", num_rounds=6))
    plain.run()
    first = plain.labels.index("train")
    gone = range(first + 4, first + 8)  # in the second tree, and in the one after
    lost = Drive(
        tables, there=lambda node, step: node != "site-1" or step not in gone, **settings("binary", num_rounds=6)
    )
    result = lost.run()
    assert result.data["round"] == 6
    assert lost.records[-1]["restarts"] == 1
    rounds = [ask for ask in lost.contributions[-3:]]
    assert all("site-1" in sent for sent in rounds)
    # what the others grew meanwhile, they grow without it from the beginning
    alone = Drive(
        tables,
        there=lambda node, step: node != "site-1" or not first + 3 <= step < first + 3 + len(gone) - 1,
        **settings("binary", num_rounds=6),
    )
    assert model(alone.run()) == model(result)


def test_margins_at_a_node_are_those_that_the_trees_predict() -> None:
    tables = shares(table_of("multiclass"), 100, 90, 50)
    drive = Drive(tables, **settings("multiclass"))
    result = drive.run()
    for name, site in drive.sites.items():
        work = site.memory["boosting"]
        expected = find("models", "xgboost").predict(result, design(work))
        assert (chosen(task_of(result), {}).predict(work.margins) == expected).all(), name


def test_whoever_says_that_it_lacks_trees_that_it_was_sent_is_left_out() -> None:
    tables = shares(table_of("binary"), 100, 90, 50)

    def spoil(node: str, label: str, body: Record) -> Record:
        if node == "site-1" and label == "train":
            return Record({**body.data, "data": {"lost": True}}, body.arrays)
        return body

    drive = Drive(tables, spoil=spoil, **settings("binary"))
    drive.run()
    said = {reason for failures in drive.failures for reason in failures.values()}
    assert said == {"it does not have the trees that it was sent"}


def test_sampled_rows_are_the_same_wherever_they_lie() -> None:
    found, options = {}, {**OPTIONS, "subsample": 0.5}
    for name, tables in splits(table_of("regression")).items():
        given = settings("regression", test_fraction=0.0, model_options=options, num_rounds=3)
        found[name] = model(Drive(tables, **given).run())
    assert len(set(found.values())) == 1, found
    drive = Drive(tables, **given)
    drive.run()
    drawn = [
        body.arrays["a.rows"][0]
        for sent in drive.contributions
        for body in sent.values()
        if "a.histograms" in body.arrays
    ]
    assert 80 < max(drawn) < 160
    assert len(set(drawn)) > 3


def test_held_out_rows_are_the_same_wherever_they_lie_and_so_is_where_it_stops() -> None:
    found = set()
    for tables in some(table_of("binary")).values():
        result = Drive(tables, **settings("binary", num_rounds=30, early_stopping_rounds=2)).run()
        history = tuple((entry["n"], round(entry["loss"], 9)) for entry in result.data["history"])
        found.add((model(result), result.data["best"], history))
    assert len(found) == 1
    assert 40 < history[0][0] < 80  # a quarter of 240
    tables = splits(table_of("binary"))
    by_site = {n: model(Drive(tables[n], **settings("binary", hold_out="sites")).run()) for n in ("even", "uneven")}
    assert len(set(by_site.values())) == 2


def weighted(kind: str) -> tuple[Table, Table]:
    """Rows with whole weights, and each row so many times. All values are few, so that the bins are the same."""
    table, rng = table_of(kind), np.random.default_rng(2)
    columns = dict(table.columns)
    columns["a"], columns["b"] = (
        Table.of({"c": np.round(columns[n].values / s)})["c"] for n, s in (("a", 8), ("b", 1))
    )
    if kind == "survival":
        columns["time"] = Table.of({"c": np.ceil(columns["time"].values / 6)})["c"]
    weights = rng.integers(0, 4, table.rows).astype(float)
    table = Table({**columns, "weight": Table.of({"c": weights})["c"]})
    return table, Table(columns).take(np.repeat(np.arange(table.rows), weights.astype(int)))


@pytest.mark.parametrize("kind", ["multiclass", "counts", "survival", *later("binary", "regression")])
def test_a_row_of_weight_three_counts_as_three_rows(kind: str) -> None:
    table, repeated = weighted(kind)
    found = {}
    for name, tables in some(table).items():
        given = settings(kind, test_fraction=0.0, weight_column="weight", num_rounds=3)
        found[name] = model(result := Drive(tables, **given).run())
    assert len(set(found.values())) == 1, found
    plain = Drive(shares(repeated, repeated.rows), **settings(kind, test_fraction=0.0, num_rounds=3)).run()
    for name in ("base", "left", "feature", "value", "cover"):
        ours, theirs = (np.asarray(r.arrays[f"model.{name}"]) for r in (result, plain))
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("kind", ["binary", "regression", "survival", *later("multiclass", "counts")])
def test_a_held_out_row_of_weight_three_is_measured_as_three(kind: str) -> None:
    table, repeated = weighted(kind)
    given = settings(kind, num_rounds=3, evaluate_every=1)
    ours = Drive(shares(table, 100, 90, 50), weight_column="weight", **given).run().data["history"]
    theirs = Drive(shares(repeated, repeated.rows), **given).run().data["history"]
    assert len(ours) == len(theirs) == 4
    for entry, wanted in zip(ours, theirs, strict=True):
        assert entry["weight"] == wanted["n"] > 1.3 * entry["n"] > 30
        # the mean target, which each row counts once in, is where intervals of times lie
        near = 0.03 if kind == "survival" else 1e-4
        for name in set(wanted) - {"n", "spread", "round", "c_index_error", "thresholds"}:
            assert entry[name] == pytest.approx(wanted[name], rel=near), name


def test_weights_decide_where_it_stops_the_same_for_every_split() -> None:
    table, _ = weighted("binary")
    found = set()
    for tables in some(table).values():
        given = settings("binary", num_rounds=30, early_stopping_rounds=2, weight_column="weight")
        result = Drive(tables, **given).run()
        found.add((model(result), result.data["best"], result.data["history"][0]["weight"]))
    assert len(found) == 1


@pytest.mark.parametrize("kind", QUANTILES)
def test_leaves_of_weighted_rows_are_xgboosts_weighted_quantiles(kind: str) -> None:
    table, _ = weighted(kind)
    given = settings(kind, test_fraction=0.0, weight_column="weight", num_rounds=1)
    drive = Drive(shares(table, 100, 90, 50), **given)
    result, y, weight = drive.run(), table["y"].values.astype(np.float32), table["weight"].values
    alpha = {"reg:absoluteerror": 0.5, "reg:quantileerror": 0.8}[kind]
    base = _weighted_quantile(y, weight, alpha)
    assert result.arrays["model.base"].tolist() == [base]
    X = np.concatenate([design(site.memory["boosting"]) for site in drive.sites.values()])
    trees = Trees(**{n: result.arrays[f"model.{n}"] for n in Trees.__dataclass_fields__})
    added = margins(trees, np.zeros(1, np.float32), X)[:, 0]
    for value in trees.value[trees.left < 0]:
        here = added == value
        assert value == np.float32(_weighted_quantile(y[here] - base, weight[here], alpha) * np.float32(0.3))
    secure = {n: model(Drive(t, **given).run()) for n, t in list(splits(table).items())[:2]}
    assert len(set(secure.values())) == 1


def _weighted_quantile(values: Any, weight: Any, alpha: float) -> Any:
    """XGBoost's, of sorted numbers: the first that comes to its share of the weights."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order]) >= weight.sum() * float(np.float32(alpha))
    return values[order][reached.argmax()]


@pytest.mark.parametrize(("wrong", "said"), [(-1.0, "below 0"), (np.nan, "missing"), (1e39, "beyond float32")])
def test_a_site_with_a_weight_that_is_none_takes_no_part(wrong: float, said: str) -> None:
    table, _ = weighted("regression")
    weights = np.array(table["weight"].values)
    weights[200] = wrong
    tables = shares(Table({**table.columns, "weight": Table.of({"c": weights})["c"]}), 100, 80, 60)
    given = settings("regression", test_fraction=0.0, weight_column="weight", num_rounds=2)
    drive = Drive(tables, **given)
    found, others = drive.run(), Drive({name: tables[name] for name in ("site-0", "site-1")}, **given)
    assert said in str(drive.failures)
    assert model(found) == model(others.run())


def test_weights_that_are_all_zero_end_the_run() -> None:
    table, _ = weighted("regression")
    none = Table({**table.columns, "weight": Table.of({"c": np.zeros(240)})["c"]})
    with pytest.raises(RunFailed, match="all rows weigh 0"):
        Drive(shares(none, 240), **settings("regression", weight_column="weight")).run()


def test_weights_travel_and_are_no_feature() -> None:
    table, _ = weighted("regression")
    frame = pd.DataFrame({n: table[n].labels() if n == "colour" else table[n].values for n in table.names})
    federation = hanse.simulate({"a": frame.iloc[:120], "b": frame.iloc[120:]})
    given = {"target": "y", "rounds": 1, "test_fraction": 0.0, "model_options": OPTIONS}
    result = federation.experiment("xgboost", weight_column="weight", **given).run(progress=False)
    assert "weight" not in result.record.data["task"]["features"]
    drive = Drive(
        shares(table, 120, 120), **settings("regression", test_fraction=0.0, weight_column="weight", num_rounds=1)
    )
    assert model(result.record) == model(drive.run())
    with pytest.raises(ConfigError, match="the column of weights 'wight' is missing at a, b"):
        federation.experiment("xgboost", weight_column="wight", **given).run(progress=False)
    for wrong in ({"weight_column": "y"}, {"weight_column": "a", "features": ["a"]}):
        with pytest.raises(ConfigError, match="cannot also be a feature or the target"):
            RunConfig.parse({"target_column": "y", "model_name": "xgboost", **wrong})


def test_values_beyond_what_squares_can_hold_put_no_site_out() -> None:
    table = table_of("regression")
    a = np.array(table["a"].values)
    a[::7], a[3::7] = 1e200, -1.7e308
    for model_name in ("xgboost", "random_forest"):
        tables = shares(Table({**table.columns, "a": Table.of({"a": a})["a"]}), 100, 80, 60)
        drive = Drive(tables, **{**settings("regression", num_rounds=1), "model_name": model_name, "model_options": {}})
        drive.run()
        assert not any(drive.failures), model_name


def test_the_largest_float32_is_missing_where_missing_values_are_split_from_given_ones() -> None:
    """It is not below a threshold that is itself, so a site moved such rows one way and the trees the other."""
    table = table_of("regression")
    a, rng = np.array(table["a"].values), np.random.default_rng(0)
    a[rng.random(240) < 0.3] = np.finfo(np.float32).max
    a[rng.random(240) < 0.2] = 1e39
    a[rng.random(240) < 0.2] = np.nan
    y = table["y"].values + 200 * np.isnan(a)
    tables = shares(Table({**table.columns, "a": Table.of({"a": a})["a"], "y": Table.of({"y": y})["y"]}), 120, 120)
    drive = Drive(tables, **settings("regression"))
    result = drive.run()
    for site in drive.sites.values():
        work = site.memory["boosting"]
        assert (find("models", "xgboost").predict(result, design(work)) == work.margins[:, 0]).all()
        assert not (np.abs(design(work)) >= np.finfo(np.float32).max).any()


@pytest.mark.parametrize("kind", ["multiclass", *later("reg:absoluteerror")])
def test_trees_that_grow_at_once_make_a_forest_that_is_the_same_for_every_split(kind: str) -> None:
    given = settings(kind, num_rounds=2)
    given["model_options"] = {
        **given["model_options"],
        "num_parallel_tree": 3,
        "subsample": 0.7,
        "colsample_bynode": 0.6,
    }
    found = {}
    for name, tables in some(table_of(kind)).items():
        drive = Drive(tables, **given)
        found[name] = model(result := drive.run())
    assert len(set(found.values())) == 1, found
    outputs = 3 if kind == "multiclass" else 1
    trees = Trees(**{n: result.arrays[f"model.{n}"] for n in Trees.__dataclass_fields__})
    assert trees.group.tolist() == [k for k in range(outputs) for _ in range(3)] * 2
    assert len({trees.some(i, i + 1).value.tobytes() for i in range(len(trees))}) == len(trees)
    booster = find("models", "xgboost").native(result)
    assert booster.num_boosted_rounds() == 2
    site = next(iter(drive.sites.values()))
    rows = xgboost.DMatrix(
        design(site.memory["boosting"]),
        feature_names=booster.feature_names,
        feature_types=booster.feature_types,
        enable_categorical=True,
    )
    assert (booster.predict(rows, output_margin=True).reshape(-1, outputs) == site.memory["boosting"].margins).all()
    forgetful = Drive(tables, forgetful=True, **given)
    assert model(forgetful.run()) == found[name]


def test_equal_trees_at_once_are_one_tree_and_xgboosts() -> None:
    table = table_of("regression")
    X = np.round(np.column_stack([table[n].values for n in ("a", "b")]))
    given = Table.of({"a": X[:, 0], "b": X[:, 1], "y": table["y"].values})
    options = {"max_depth": 3, "num_parallel_tree": 4, "max_bin": 512}
    result = Drive(shares(given, 150, 90), **settings("regression", test_fraction=0.0, model_options=options)).run()
    booster = xgboost.train({**options, "tree_method": "hist", "nthread": 1}, xgboost.DMatrix(X, table["y"].values), 4)
    ours = find("models", "xgboost").predict(result, X)
    assert np.abs(ours / booster.predict(xgboost.DMatrix(X)) - 1).max() < 0.01  # edges hold three rows, theirs one


@pytest.mark.parametrize("kind", ["multiclass", *later("binary")])
def test_what_features_add_to_predictions_is_that_of_the_pooled_rows(kind: str) -> None:
    table = table_of(kind)
    for rows in (None, 100):
        found = {}
        for name, tables in some(table).items():
            drive = Drive(tables, **settings(kind, test_fraction=0.0, num_rounds=3, shap_rows=rows))
            result = drive.run()
            found[name] = digest(Record(result.data["shap"], {}))
            assert drive.labels[-1] == "explain"
            assert len(drive.labels) <= algorithms.most_steps(drive.config)
        assert len(set(found.values())) == 1, found
        told = result.data["shap"]
        X = np.concatenate([design(site.memory["boosting"]) for site in drive.sites.values()])
        trees = Trees(**{n: result.arrays[f"model.{n}"] for n in Trees.__dataclass_fields__})
        own = chosen(task_of(result), {})
        values = shap(trees, own.margin(result.arrays["model.base"]), X)[:, :, :-1]
        for row in told["features"]:
            i = result.data["task"]["features"].index(row["feature"])
            classes = result.data["task"]["classes"]  # of two, a margin is of the second, and says so
            k = (classes if len(classes) > 2 else classes[1:]).index(row["output"])
            whole = np.abs(values[:, k, i]).mean()
            if rows is None:
                assert (row["mean_abs"], row["mean"]) == pytest.approx((whole, values[:, k, i].mean()), abs=1e-6)
                assert row["error"] == 0
            else:
                assert abs(row["mean_abs"] - whole) <= 4 * row["error"] + 1e-6
        assert told["rows"] == 240 if rows is None else 60 < told["rows"] < 140
        sizes = [row["mean_abs"] for row in told["features"]]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > 0.05


def test_a_site_explains_no_fewer_rows_than_its_owner_tells_something_of() -> None:
    tables = shares(table_of("binary"), 200, 40)
    given = settings("binary", test_fraction=0.0, num_rounds=1, shap_rows=24)
    drive = Drive(tables, owners={"site-1": {"minimum_count": 20}}, **given)
    told = drive.run().data["shap"]
    assert told["withheld"] == ["site-1"]
    assert drive.records[-1]["warnings"] == [
        "SHAP values are not of the rows at site-1, which are fewer than their owners tell something of"
    ]
    assert 5 < told["rows"] < 40
    assert told["features"]
    owners = {name: {"minimum_count": 50} for name in tables}
    nothing = Drive(tables, owners=owners, **given).run()
    assert nothing.data["shap"] == {"rows": 0, "withheld": ["site-0", "site-1"], "features": []}
    assert len(nothing.arrays["model.size"]) == 1  # the model is there all the same


def test_shap_values_without_a_site_that_was_lost_say_so() -> None:
    tables = shares(table_of("binary"), 200, 40)
    given = settings("binary", test_fraction=0.0, num_rounds=1, shap_rows=None)
    whole = Drive(tables, **given)
    assert whole.run().data["shap"]["rows"] == 240
    assert "warnings" not in whole.records[-1]
    last = len(whole.labels) - 1
    drive = Drive(tables, there=lambda node, step: node != "site-1" or step != last, **given)
    assert drive.run().data["shap"]["rows"] == 200
    assert drive.records[-1]["warnings"] == ["SHAP values are not of the rows of 1 of the sites; failures say why"]


def test_early_stopping_keeps_the_trees_up_to_the_least_loss() -> None:
    tables = shares(table_of("binary"), 140, 100)
    plain = Drive(tables, **settings("binary", num_rounds=40)).run()
    drive = Drive(tables, **settings("binary", num_rounds=40, early_stopping_rounds=3))
    result = drive.run()
    losses = [entry["loss"] for entry in result.data["history"]]
    best = result.data["best"]
    assert losses[best] == min(losses)
    assert len(losses) == best + 4 < 40
    assert result.data["round"] == best == len(result.arrays["model.size"])
    nodes = len(result.arrays["model.left"])
    assert (result.arrays["model.value"] == plain.arrays["model.value"][:nodes]).all()
    assert drive.algorithm.ask(drive.state).reason.endswith(f"the loss was least after {best} rounds")  # type: ignore[union-attr]


def _changed(body: Record, **arrays: Any) -> Record:
    return Record(body.data, {**body.arrays, **{f"a.{name}": value for name, value in arrays.items()}})


def _negative(sums: Any) -> Any:
    sums[:, 1, 1] = -1
    return sums


def _moved(sums: Any) -> Any:
    sums[:, 0, 1] += 1
    return sums


def _huge(sums: Any) -> Any:
    sums[:, :, 0] *= 1 << 6
    return sums


LIES = {
    "Hessians below 0": _negative,
    "do not add up": _moved,
    "cannot have at this scale": _huge,
}


def _told(body: Record) -> Any:
    """The histograms of a contribution, each sum by itself."""
    sums = np.array(body.arrays["a.histograms"])
    return packed.unpacked(sums) if sums.ndim == 2 else sums


def _lied(body: Record, sums: Any) -> Record:
    """The same contribution with these."""
    return _changed(body, histograms=packed.packed(sums) if body.arrays["a.histograms"].ndim == 2 else sums)


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("reason", LIES)
def test_a_node_whose_histograms_cannot_be_true_is_left_out_with_the_reason(reason: str, below: bool) -> None:
    """Of the root, and ``below`` it, where both sums of a bin are one number and a Hessian below 0 is one beyond what
    rows can have."""
    tables = shares(table_of("binary"), 100, 90, 50)
    lie = LIES[reason]
    if below and lie is _negative:
        reason = "cannot have at this scale"

    def spoil(node: str, label: str, body: Record) -> Record:
        if node != "site-1" or "a.histograms" not in body.arrays:
            return body
        return _lied(body, lie(_told(body))) if below == (body.arrays["a.histograms"].ndim == 2) else body

    drive = Drive(tables, spoil=spoil, **settings("binary", num_rounds=2))
    result = drive.run()
    said = {text for failures in drive.failures for node, text in failures.items() if node == "site-1"}
    assert [text for text in said if reason in text]
    del tables["site-1"]
    honest = Drive(tables, **settings("binary", num_rounds=2)).run()
    assert result.arrays["model.size"].shape == honest.arrays["model.size"].shape


@pytest.mark.parametrize(
    ("kind", "name", "label", "said"),
    [
        ("reg:absoluteerror", "ranks", "prepare", "its ranks are sums of numbers from 0"),
        ("reg:absoluteerror", "ranks", "train", "its ranks are sums of numbers from 0"),
        ("survival", "at_risk", "train", "its at_risk are sums of numbers from 0"),
        ("survival", "happened", "train", "its happened are sums of numbers from 0"),
        ("binary", "shap", "explain", "its sums of SHAP values are none that its rows can have"),
        ("binary", "shap_squares", "explain", "its sums of SHAP values are none that its rows can have"),
    ],
)
def test_sums_that_cannot_be_true_leave_a_node_out(kind: str, name: str, label: str, said: str) -> None:
    table = weighted(kind)[0]
    change = 1 << 40 if label == "explain" else -1

    def spoil(node: str, step: str, body: Record) -> Record:
        if node != "site-1" or step != label or f"a.{name}" not in body.arrays:
            return body
        return _changed(body, **{name: np.array(body.arrays[f"a.{name}"]) * change})

    given = settings(kind, num_rounds=1, weight_column="weight", test_fraction=0.0, shap_rows=None)
    drive = Drive(shares(table, 100, 90, 50), spoil=spoil, **given)
    drive.run()
    assert said in str(drive.failures)


def test_a_node_that_counts_for_more_than_one_is_left_out() -> None:
    tables = shares(table_of("binary"), 100, 90, 50)

    def spoil(node: str, label: str, body: Record) -> Record:
        heavy = node == "site-1" and "a.histograms" in body.arrays
        return Record({**body.data, "weight": 3.0}, body.arrays) if heavy else body

    drive = Drive(tables, spoil=spoil, **settings("binary", num_rounds=2))
    drive.run()
    assert "weighs 3; sums of rows weigh 1" in {text for said in drive.failures for text in said.values()}


def test_children_that_are_more_than_their_parent_end_the_run() -> None:
    tables = shares(table_of("binary"), 100, 90, 50)

    def spoil(node: str, label: str, body: Record) -> Record:
        if node != "site-1" or "a.histograms" not in body.arrays or drive.labels.count("train") % 3 == 0:
            return body
        return _lied(body, np.concatenate([np.roll(part, 1, axis=1) for part in _columns(drive, _told(body))], axis=1))

    drive = Drive(tables, spoil=spoil, **settings("binary", num_rounds=2))
    with pytest.raises(AssertionError, match="the sums of all sites are more than those above"):
        drive.run()


def _columns(drive: Drive, sums: Any) -> list[Any]:
    """The bins of each column."""
    return np.split(sums, drive.sites["site-0"].memory["boosting"].bins.starts[1:-1], axis=1)


def _forms(drive: Drive) -> set[tuple[int, bool]]:
    """In how many dimensions histograms came, and whether some sums were told apart from them."""
    sent = [body.arrays for step in drive.contributions for body in step.values()]
    return {(a["a.histograms"].ndim, "a.apart" in a) for a in sent if "a.histograms" in a}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", ["binary", "reg:absoluteerror", *later("multiclass", "reg:quantileerror")])
def test_sums_that_are_one_number_make_the_same_trees_as_two(
    kind: str, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same units; also where some bins are too ``full``: each category may have all 240 rows, which are too many
    if 2^-24 is as coarse as a unit may be."""
    if full:
        monkeypatch.setattr(scales, "COARSEST", scales.FINEST)
    tables, found, bounds = some(table_of(kind)), set[str](), Room.of
    for one_number in (True, False):
        if not one_number:
            monkeypatch.setattr(Room, "of", lambda state: replace(bounds(state), apart=None))
        for own in tables.values():
            drive = Drive(own, **settings(kind))
            found.add(model(drive.run()))
            # of the root nobody knows who grows it
            assert _forms(drive) == ({(2, full), (3, False)} if one_number else {(3, False)})
    assert len(found) == 1


@pytest.mark.parametrize("weighs", [False, True])
def test_where_many_bins_are_full_or_rows_have_weights_both_sums_are_told(
    weighs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not weighs:
        monkeypatch.setattr(scales, "COARSEST", scales.FINEST)
        monkeypatch.setattr(_boosting_counts, "_FEW", 1000)
    table = weighted("binary")[0] if weighs else table_of("binary")
    more = {"weight_column": "weight"} if weighs else {}
    drive = Drive(shares(table, 100, 90, 50), **settings("binary", num_rounds=2, **more))
    drive.run()
    assert _forms(drive) == {(3, False)}


def test_bins_that_are_full_are_held_against_the_rows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scales, "COARSEST", scales.FINEST)
    for lie, said in LIES.items():

        def spoil(node: str, label: str, body: Record, told: Any = said) -> Record:
            if node != "site-1" or "a.apart" not in body.arrays:
                return body
            return _changed(body, apart=told(np.array(body.arrays["a.apart"])))

        drive = Drive(shares(table_of("binary"), 100, 90, 50), spoil=spoil, **settings("binary", num_rounds=1))
        drive.run()
        assert lie in str(drive.failures), lie


@pytest.mark.parametrize("kind", QUANTILES)
def test_leaves_are_quantiles_of_residuals_as_xgboosts(kind: str) -> None:
    """Of the model's own leaves: each holds the quantile of what its rows have left, times the learning rate."""
    table = table_of(kind)
    drive = Drive(shares(table, 100, 90, 50), **settings(kind, test_fraction=0.0))
    result, y = drive.run(), table["y"].values.astype(np.float32)
    alpha = {"reg:absoluteerror": 0.5, "reg:quantileerror": 0.8}[kind]
    X = np.concatenate([design(site.memory["boosting"]) for site in drive.sites.values()])
    trees = Trees(**{n: result.arrays[f"model.{n}"] for n in Trees.__dataclass_fields__})
    margin = np.full(len(y), np.float32(_quantile(y, alpha)))
    assert result.arrays["model.base"].tolist() == [margin[0]]
    for i in range(len(trees)):
        one = trees.some(i, i + 1)
        added = margins(one, np.zeros(1, np.float32), X)[:, 0]
        for value in one.value[one.left < 0]:
            here = added == value
            assert value == np.float32(_quantile(y[here] - margin[here], alpha) * np.float32(0.3))
        margin = margin + added
    loss = np.mean(np.where(y > margin, alpha, alpha - 1) * (y - margin))
    assert loss < 0.6 * np.mean(np.where(y > margin[0], alpha, alpha - 1) * (y - _quantile(y, alpha)))


def _quantile(values: Any, alpha: float) -> Any:
    """XGBoost's, of sorted numbers."""
    found, n = np.sort(values), len(values)
    x = float(np.float32(alpha)) * (n + 1)
    k = min(max(int(x), 1), n) - 1
    return np.float32(found[k] + max(x - 1 - k, 0) * float(found[min(k + 1, n - 1)] - found[k]))


@pytest.mark.parametrize("kind", ["binary", "reg:absoluteerror"])
def test_nodes_that_are_lost_in_turn_cost_no_more_than_the_steps_that_owners_agreed_to(kind: str) -> None:
    tables = shares(table_of(kind), 100, 90, 50)
    drive = Drive(tables, there=lambda node, step: step % 8 or node != "site-1", **settings(kind))
    drive.run()
    assert drive.records[-1]["restarts"] >= 1
    assert len(drive.labels) <= algorithms.most_steps(drive.config)


def test_secure_sums_give_the_same_bytes() -> None:
    rng = np.random.default_rng(1)
    n = 300
    frame = pd.DataFrame({f"x{i}": rng.normal(size=n) for i in range(3)})
    frame["c"] = rng.choice(list("uvwxyz"), n)
    frame["y"] = np.where(frame["x0"] + frame["x1"] * frame["x2"] + (frame["c"] == "u") > 0, "a", "b")
    federation = hanse.simulate({f"s{i}": frame.iloc[i::3] for i in range(3)})
    found = []
    for gathering in ("plain", "secure"):
        given = {"target": "y", "rounds": 2, "gathering": gathering}
        result = federation.experiment("xgboost", model_options=OPTIONS, **given).run(progress=False)
        found.append(model(result.record))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["reg:absoluteerror", "survival"])
def test_secure_sums_of_weights_times_and_residuals_give_the_same_bytes(kind: str) -> None:
    table = weighted(kind)[0]
    columns = {n: table[n].labels() if n == "colour" else table[n].values for n in table.names}
    frame = pd.DataFrame(columns)
    federation = hanse.simulate({f"s{i}": frame.iloc[i::3] for i in range(3)})
    given = {k: v for k, v in settings(kind).items() if k in ("model_options", "task_type")}
    given |= {"target": "time, event" if kind == "survival" else "y", "weight_column": "weight", "shap_rows": None}
    found = []
    for gathering in ("plain", "secure"):
        result = federation.experiment("xgboost", rounds=1, gathering=gathering, **given).run(progress=False)
        found.append((model(result.record), digest(Record(result.record.data["shap"], {}))))
    assert found[0] == found[1]


@pytest.mark.parametrize(("kind", "objective", "wrong"), [("regression", None, 1e39), ("regression", "reg:gamma", 0.0)])
def test_a_site_whose_targets_cannot_be_learned_takes_no_part_at_all(kind: str, objective: Any, wrong: float) -> None:
    """It was left out of the edges and then grew trees all the same, of infinite gradients or none."""
    table = table_of(kind)
    y = np.array(table["y"].values)
    y[200] = wrong
    tables = shares(Table({**table.columns, "y": Table.of({"y": y})["y"]}), 100, 80, 60)
    given = settings(kind, test_fraction=0.0, model_options={**OPTIONS, "objective": objective}, task_type="regression")
    drive = Drive(tables, **given)
    found, others = drive.run(), Drive({name: tables[name] for name in ("site-0", "site-1")}, **given)
    assert "the targets do not fit" in str(drive.failures)
    trees = [sent for sent, label in zip(drive.contributions, drive.labels, strict=True) if label == "train"]
    assert trees
    assert all("site-2" not in sent for sent in trees)
    assert model(found) == model(others.run())


def test_gradients_without_bound_are_refused() -> None:
    options = {"objective": "count:poisson", "max_depth": 1, "max_delta_step": 0, "learning_rate": 1000}
    with pytest.raises(AssertionError, match="beyond float32"):
        Drive(shares(table_of("counts"), 240), **settings("counts", model_options=options)).run()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"early_stopping_rounds": 3, "test_fraction": 0.0}, "needs rows that are held out"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_an_owner_is_asked(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        algorithms.settled(RunConfig.parse({"model_name": "xgboost", **wrong}))


@pytest.mark.parametrize(
    ("more", "warned"),
    [({}, True), ({"hold_out": "sites"}, False), ({"test_fraction": 0.0}, False), ({"values": 2000}, False)],
    ids=["", "held out by site", "none held out", "few rows are equal"],
)
def test_rows_that_are_equal_and_held_out_together_are_told(more: dict[str, Any], warned: bool) -> None:
    """Of two columns of yes and no all the ill with both were held out, so the model said that nobody like them is ill,
    and an AUC of 0 was told without a word."""
    rng, given = np.random.default_rng(0), dict(more)
    values = given.pop("values", 2)
    x, z = rng.integers(0, values, 600) > values / 2 - 1, rng.integers(0, values, 600).astype(float)
    table = Table.of({"x": x, "z": z, "y": np.where(rng.random(600) < 0.3 + 0.3 * x, "ill", "well")})
    drive = Drive(shares(table, 300, 200, 100), model_name="xgboost", num_rounds=2, **given)
    drive.run()
    told = [warning for record in drive.records for warning in record.get("warnings", ())]
    assert (len(told) >= 2 and all("equal rows are held out" in one for one in told)) is warned
    assert warned or not told


def test_rows_that_are_equal_and_drawn_together_are_told() -> None:
    table = Table.of({"x": [0.0, 1.0] * 300, "y": ["ill", "well", "well"] * 200})
    given = {"model_name": "xgboost", "num_rounds": 1, "hold_out": "sites"}
    drive = Drive(shares(table, 300, 300), model_options={"subsample": 0.5}, **given)
    drive.run()
    assert any("(subsample)" in warning for warning in drive.records[-1]["warnings"])
