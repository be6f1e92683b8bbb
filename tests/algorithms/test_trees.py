"""Tree bagging and the union of forests: the sums are right, and nothing that comes is trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drive import Drive, same, shares, toy
from sklearn.metrics import log_loss, roc_auc_score

from hanse.algorithms.tree_bagging import base_score
from hanse.learning import rows as preparation
from hanse.messages import Record
from hanse.prediction import Predictor, native_model
from hanse.registry import find
from hanse.table import Column, Table

KINDS = ("binary", "multiclass", "regression")
MODELS = ("xgboost_bagging", "random_forest")


def trees(record: Record) -> dict[str, Any]:
    """The arrays of the trees in a result."""
    return {n.removeprefix("model."): record.arrays[n] for n in record.arrays if n.startswith("model.")}


def settings(model: str, **more: Any) -> dict[str, Any]:
    options = {"n_estimators": 24} if model == "random_forest" else {"max_depth": 3}
    epochs = {} if model == "random_forest" else {"local_epochs": 2}
    return {"model_name": model, "num_rounds": 4, **epochs, "model_options": options, **more}


def raw(result: Record, table: Table) -> np.ndarray[Any, Any]:
    return preparation.design(table, preparation.unpack(result))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_they_learn(model: str, kind: str) -> None:
    drive = Drive(shares(toy(400, kind), 200, 150, 50), **settings(model))
    result = drive.run()
    history = result.data["history"]
    assert drive.labels == ["prepare"] * 3 + ["train"] * 4 + ["evaluate"]
    assert [h["round"] for h in history] == [0, 1, 2, 3, 4]
    assert history[-1]["loss"] < 0.75 * history[0]["loss"]
    assert kind == "regression" or history[-1]["auc"] > 0.85
    importance = result.data["feature_importance"]
    assert importance[0]["feature"] == "a"
    assert importance[0]["rank"] == 1
    assert sum(entry["mean"] for entry in importance) == pytest.approx(1)
    assert drive.records[-1]["evaluated_round"] == 4


@pytest.mark.parametrize("scaling", ["average", "sum"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_booster_is_the_base_plus_the_scaled_trees_of_all_sites(kind: str, scaling: str) -> None:
    import xgboost

    options = {"max_depth": 3, "scaling": scaling}
    table = toy(300, kind)
    drive = Drive(shares(table, 150, 100, 50), **settings("xgboost_bagging", model_options=options))
    result = drive.run()
    task = preparation.task(preparation.unpack(result))
    model = find("models", "xgboost_bagging").build(task, options)
    X, base = raw(result, table), result.data["base"]
    start = np.log(base / (1 - base)) if kind == "binary" else base
    expected = np.full((len(X), task.outputs), start)
    for sent in drive.contributions[3:7]:
        total = sum(body.data["weight"] for body in sent.values())
        for body in sent.values():
            new = {n.removeprefix("a."): body.arrays[n] for n in body.arrays if n.startswith("a.")}
            assert len(new["size"]) == 2 * task.outputs  # all local rounds arrive
            own = model.booster(new, 0.5).predict(xgboost.DMatrix(X), output_margin=True).reshape(len(X), -1)
            zero = 0.0 if kind == "binary" else 0.5
            expected += (own - zero) * (body.data["weight"] / total if scaling == "average" else 1.0)
    booster = native_model(result)
    assert booster.num_boosted_rounds() == 4 * 2 * 3
    margin = booster.predict(xgboost.DMatrix(X, feature_names=list(task.features)), output_margin=True)
    np.testing.assert_allclose(margin.reshape(len(X), -1), expected, rtol=1e-4, atol=1e-4)
    assert trees(result)["group"].tolist() == list(range(task.outputs)) * 24


@pytest.mark.parametrize("kind", KINDS)
def test_the_native_booster_predicts_what_the_federation_evaluated(kind: str, tmp_path: Any) -> None:
    import xgboost

    table = toy(200, kind)
    result = Drive(shares(table, 120, 80), **settings("xgboost_bagging")).run()
    task = preparation.task(preparation.unpack(result))
    X = raw(result, table)
    ours = find("models", "xgboost_bagging").predict(result, X)
    native_model(result).save_model(tmp_path / "model.json")  # as text, and read by a plain Booster
    fresh = xgboost.Booster()
    fresh.load_model(tmp_path / "model.json")
    theirs = fresh.predict(xgboost.DMatrix(X, feature_names=list(task.features)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_one_site_is_plain_xgboost() -> None:
    import xgboost

    table = toy(300)
    result = Drive({"only": table}, **settings("xgboost_bagging", test_fraction=0.0)).run()
    prepared = preparation.unpack(result)
    kept, y = preparation.target(table, prepared)
    X = raw(result, table.take(kept))
    plain = {
        "objective": "binary:logistic",
        "max_depth": 3,
        "learning_rate": 0.3,
        "base_score": base_score(prepared),
        "nthread": 1,
    }
    central = xgboost.train(plain, xgboost.DMatrix(X, y), 8)
    np.testing.assert_allclose(
        find("models", "xgboost_bagging").predict(result, X), central.predict(xgboost.DMatrix(X)), rtol=1e-4, atol=1e-5
    )


def waves(n: int, seed: int) -> Table:
    """Three classes that trees must work for."""
    rng = np.random.default_rng(seed)
    X = rng.normal(0, 1, (n, 6))
    score = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + rng.normal(0, 0.4, n)
    y = np.digitize(score, [-0.5, 0.5])
    columns = {f"x{i}": Column.numeric(X[:, i]) for i in range(6)}
    return Table({**columns, "y": Column.categorical([f"c{v}" for v in y])})


def test_three_classes_are_as_good_as_pooled() -> None:
    import xgboost

    train, test = waves(1500, 0), waves(1500, 1)
    result = Drive(
        shares(train, 600, 500, 400),
        model_name="xgboost_bagging",
        num_rounds=10,
        local_epochs=2,
        test_fraction=0.0,
        model_options={"max_depth": 4},
    ).run()
    X, Xt = raw(result, train), raw(result, test)
    y, yt = (np.array([int(label[1]) for label in t["y"].labels()]) for t in (train, test))  # type: ignore[index]
    p = find("models", "xgboost_bagging").predict(result, Xt)
    central = xgboost.train(
        {"objective": "multi:softprob", "num_class": 3, "max_depth": 4, "learning_rate": 0.3}, xgboost.DMatrix(X, y), 20
    ).predict(xgboost.DMatrix(Xt))
    assert log_loss(yt, p) < log_loss(yt, central) + 0.05
    assert roc_auc_score(yt, p, multi_class="ovr") > roc_auc_score(yt, central, multi_class="ovr") - 0.02
    assert (p.argmax(1) == yt).mean() > (central.argmax(1) == yt).mean() - 0.02


@pytest.mark.parametrize("model", MODELS)
def test_sites_that_lack_classes_or_rows_take_part(model: str) -> None:
    table = toy(300, "multiclass")
    labels = np.array(table["y"].labels())
    tables = {
        "a": table.take(np.flatnonzero(labels != "top")[:100]),
        "b": table.take(np.flatnonzero(labels == "top")),
        "c": table.take(np.arange(1)),
        "d": table.take(np.arange(0)),
    }
    drive = Drive(tables, **settings(model))
    result = drive.run()
    assert not any(drive.failures)
    assert find("models", model).predict(result, raw(result, table)).shape == (300, 3)
    assert Predictor(result).predict_proba(table).sum(1) == pytest.approx(1)
    assert drive.contributions[3]["d"].data["weight"] == 0


@pytest.mark.parametrize("model", MODELS)
def test_the_same_run_gives_the_same_bytes(model: str) -> None:
    tables = shares(toy(200, "multiclass"), 80, 70, 50)
    given = settings(model)
    if model == "xgboost_bagging":
        given["model_options"] |= {"subsample": 0.7, "colsample_bytree": 0.7}
    first = Drive(tables, **given).run()
    assert same(first, Drive(tables, **given).run(reverse=True))
    assert same(first, Drive(tables, forgetful=True, **given).run())
    assert not same(first, Drive(tables, **given, seed=1).run())


def test_names_that_xgboost_refuses_get_others() -> None:
    table = toy(120)
    odd = Table({"g__[Ruminococcus]_x": table["a"], "p<0.05": table["b"], "y": table["y"]})
    result = Drive(shares(odd, 60, 60), **settings("xgboost_bagging")).run()
    booster = native_model(result)
    assert booster.feature_names == ["f0", "f1"]
    assert "Ruminococcus" in booster.attr("features")
    assert result.data["feature_importance"][0]["feature"] == "g__[Ruminococcus]_x"


@pytest.mark.parametrize("kind", KINDS)
def test_the_forest_is_scikit_learns_and_counts_sites_by_their_rows(kind: str) -> None:
    table = toy(400, kind)
    drive = Drive(shares(table, 200, 150, 50), **settings("random_forest", model_options={"n_estimators": 40}))
    result = drive.run()
    grown = [sum(r[f"site-{i}"].data["metrics"]["trees"] for r in drive.contributions[3:7]) for i in range(3)]
    assert [abs(g - q) <= 1 for g, q in zip(grown, (20, 15, 5), strict=True)] == [True] * 3
    forest, X = native_model(result), raw(result, table)
    assert np.isnan(X).any()
    assert len(forest.estimators_) == 40
    ours = find("models", "random_forest").predict(result, X)
    if kind == "regression":
        each = [tree.predict(X) for tree in forest.estimators_]
        np.testing.assert_allclose(ours, np.mean(each, 0))
        return
    theirs = forest.predict_proba(X)
    np.testing.assert_array_equal(ours, theirs[:, 1] if kind == "binary" else theirs)
    assert set(forest.predict(X)) <= set(forest.classes_.tolist()) == set(result.data["task"]["classes"])
    assert forest.feature_importances_.argmax() == 0


@pytest.mark.parametrize("rounds", [1, 3, 10])
@pytest.mark.parametrize("parts", [(61, 67, 72), (33, 33, 34, 100), (7, 11, 13, 169), (50,) * 4])
def test_a_forest_has_the_trees_that_were_asked_for(parts: tuple[int, ...], rounds: int) -> None:
    """A forest of 100 trees had 99 or 101; each site gives its share, rounded down or up."""
    options = {"n_estimators": 100, "max_depth": 2}
    asked = settings("random_forest", model_options=options, num_rounds=rounds, test_fraction=0.0)
    drive = Drive(shares(toy(sum(parts)), *parts), **asked)
    result = drive.run()
    assert len(trees(result)["size"]) == 100
    known = result.data["prepared"]["rows"]
    for i in range(len(parts)):
        answers = [r[f"site-{i}"].data["metrics"] for r in drive.contributions[3:] if f"site-{i}" in r]
        grown = [a["trees"] for a in answers if "trees" in a]
        assert 0 <= sum(grown) - int(100 * answers[0]["n"] / known) <= 1, i


@pytest.mark.parametrize("kind", KINDS)
def test_a_rebuilt_forest_predicts_as_the_one_that_was_fitted(kind: str) -> None:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    from hanse.learning.results import seed_of

    table = toy(150, kind)
    result = Drive({"only": table}, **settings("random_forest", num_rounds=1, test_fraction=0.0)).run()
    prepared = preparation.unpack(result)
    kept, y = preparation.target(table, prepared)
    X = raw(result, table.take(kept))
    from hanse.kinds import generator

    library = RandomForestRegressor if kind == "regression" else RandomForestClassifier
    seed = seed_of(generator(0, "only", "train", 1))
    # the adapter grows in batches of ten by warm start
    fitted = library(n_estimators=10, random_state=seed, warm_start=True).fit(X, y)
    for n in (20, 24):
        fitted.n_estimators = n
        fitted.fit(X, y)
    ours = find("models", "random_forest").predict(result, X)
    theirs = fitted.predict(X) if kind == "regression" else fitted.predict_proba(X)
    np.testing.assert_allclose(ours, theirs[:, 1] if kind == "binary" else theirs, rtol=1e-12)
    np.testing.assert_allclose(native_model(result).feature_importances_, fitted.feature_importances_, rtol=1e-9)
    mine = find("models", "random_forest").build(preparation.task(prepared), {}).importance(trees(result))
    np.testing.assert_allclose(mine, fitted.feature_importances_, rtol=1e-9)


def test_leaves_hold_the_owners_minimum() -> None:
    tables = shares(toy(200), 100, 100)
    own = {"site-0": {"minimum_count": 12}}
    drive = Drive(tables, owners=own, **settings("random_forest"))
    drive.run()
    for sent in drive.contributions[3:7]:
        arrays = sent["site-0"].arrays
        weighted = np.asarray(arrays["a.weighted"])
        assert weighted[np.asarray(arrays["a.left"]) == -1].min() >= 12 or len(arrays["a.size"]) == 0


@pytest.mark.parametrize(
    ("model", "name", "change", "says"),
    [
        ("xgboost_bagging", "left", lambda a: np.zeros_like(a), "child|children"),
        ("xgboost_bagging", "right", lambda a: np.where(a == -1, a, a + 1000).astype(a.dtype), "child"),
        ("xgboost_bagging", "feature", lambda a: a + np.int32(99), "feature"),
        ("xgboost_bagging", "value", lambda a: np.full_like(a, np.nan), "NaN"),
        ("xgboost_bagging", "value", lambda a: a.astype(np.float64), "float32"),
        ("xgboost_bagging", "group", lambda a: a + np.int32(1), "output"),
        ("xgboost_bagging", "size", lambda a: a - np.int32(1), "one entry a node|parent|child"),
        ("random_forest", "left", lambda a: np.where(a == -1, a, 0).astype(a.dtype), "child"),
        ("random_forest", "value", lambda a: a * 2, "sum to one"),
        ("random_forest", "samples", lambda a: a * 0, "without rows"),
        ("random_forest", "threshold", lambda a: a[:-1], "one entry a node"),
        ("random_forest", "size", lambda a: a * np.int32(0), "at least one node"),
    ],
)
def test_what_is_not_a_tree_is_refused(model: str, name: str, change: Any, says: str) -> None:
    import re

    def spoil(node: str, label: str, body: Record) -> Record:
        if label != "train" or node != "site-1" or not len(body.arrays["a.size"]):
            return body
        arrays = {n: body.arrays[n] for n in body.arrays}
        return Record(body.data, {**arrays, f"a.{name}": change(arrays[f"a.{name}"])})

    drive = Drive(shares(toy(200), 100, 100), spoil=spoil, **settings(model, num_rounds=1))
    result = drive.run()
    assert re.search(says, drive.failures[3]["site-1"]), drive.failures[3]
    assert len(trees(result)["size"]) > 0


def test_more_trees_than_asked_for_are_refused() -> None:
    def spoil(node: str, label: str, body: Record) -> Record:
        if label != "train" or node != "site-1":
            return body
        arrays = {n: body.arrays[n] for n in body.arrays}
        return Record(body.data, {n: np.concatenate([a, a]) if n.startswith("a.") else a for n, a in arrays.items()})

    drive = Drive(shares(toy(200), 100, 100), spoil=spoil, **settings("xgboost_bagging", num_rounds=1))
    drive.run()
    assert "at most 2 were asked for" in drive.failures[3]["site-1"]


def test_the_learning_rate_is_the_options_then_the_runs_then_xgboosts() -> None:
    tables = shares(toy(100), 60, 40)
    none = settings("xgboost_bagging", num_rounds=1)
    third = Drive(tables, **none).run()
    run = Drive(tables, **none, learning_rate=0.3).run()
    both = {**none, "model_options": {"max_depth": 3, "learning_rate": 0.3}, "learning_rate": 0.9}
    option = Drive(tables, **both).run()
    slow = Drive(tables, **none, learning_rate=0.05).run()
    for found in (run, option):
        np.testing.assert_array_equal(found.arrays["model.value"], third.arrays["model.value"])
    assert np.abs(slow.arrays["model.value"]).sum() < np.abs(third.arrays["model.value"]).sum()
