"""A result is used: native models and predictors agree with what the federation evaluated."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from drive import Drive, shares, toy

from hanse.errors import DataError, NotFound, WireError
from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.learning.evaluation import evaluate
from hanse.messages import Record, dump, load
from hanse.prediction import Predictor, Unfamiliar, native_model
from hanse.registry import find
from hanse.table import Table

PAIRS = [
    (m, k)
    for m in ("sgd_classifier", "logistic_regression", "mlp_classifier", "xgboost", "xgboost_bagging", "random_forest")
    for k in ("binary", "multiclass")
]
PAIRS += [
    (m, "regression")
    for m in ("sgd_regressor", "linear_regression", "mlp_regressor", "xgboost", "xgboost_bagging", "random_forest")
]


def learn(model: str, kind: str, table: Table | None = None, **more: Any) -> tuple[Drive, Record]:
    options = {"hidden_layer_sizes": [8]} if "mlp" in model else {"n_estimators": 20} if "forest" in model else {}
    table = table or toy(200, kind)
    drive = Drive(
        shares(table, 120, table.rows - 120),
        model_name=model,
        num_rounds=3,
        federated_strategy="fedavg" if "regression" in model else "auto",
        model_options=options,
        **({} if "forest" in model or model == "xgboost" else {"local_epochs": 2}),
        **more,
    )
    return drive, load(dump(drive.run()))


@pytest.mark.parametrize(("model", "kind"), PAIRS)
def test_the_result_predicts_what_the_sites_last_evaluated(model: str, kind: str) -> None:
    drive, result = learn(model, kind)
    prepared = preparation.unpack(result)
    task, total = preparation.task(prepared), 0.0
    for node, table in drive.tables.items():
        rows = preparation.rows(Site(node, table, drive.config.to_json()), prepared)
        prediction = find("models", model).predict(result, rows.X[rows.test])
        total += float(evaluate(prediction, rows.y[rows.test], task)[0]["totals"][2])
    assert total / result.data["history"][-1]["n"] == pytest.approx(result.data["history"][-1]["loss"], rel=1e-6)


@pytest.mark.parametrize(("model", "kind"), PAIRS)
def test_native_models_have_the_original_labels_and_agree_with_the_predictor(model: str, kind: str) -> None:
    _, result = learn(model, kind)
    table = toy(60, kind, seed=9)
    predictor = Predictor(result)
    X, native = predictor.design(table), native_model(result)
    if "xgboost" in model:
        assert native.num_features() == X.shape[1]
        assert json.loads(native.attr("classes")) == list(result.data["task"]["classes"])
        said = native.predict(xgboost.DMatrix(X, feature_names=native.feature_names)).astype(np.float64)
        ours = find("models", model).predict(result, X)
        if model == "xgboost":
            np.testing.assert_array_equal(said, ours)  # to the last bit
        np.testing.assert_allclose(said, ours, rtol=1e-5, atol=1e-6)
        return
    assert native.n_features_in_ == X.shape[1]
    np.testing.assert_array_equal(predictor.predict(table), native.predict(X))
    if kind != "regression":
        assert native.classes_.tolist() == predictor.classes_.tolist() == sorted(set(table["y"].labels()))  # type: ignore[type-var]
        np.testing.assert_allclose(predictor.predict_proba(table), native.predict_proba(X), rtol=1e-12)


def test_number_labels_come_back_as_numbers() -> None:
    table = toy(200)
    numbers = Table.of({**table.columns, "y": [3 if v == "ill" else 10 for v in table["y"].labels()]})
    for model in ("mlp_classifier", "random_forest"):
        _, result = learn(model, "binary", numbers)
        assert native_model(result).classes_.tolist() == [3, 10]
        assert set(Predictor(result).predict(numbers).tolist()) == {3, 10}


@pytest.mark.filterwarnings("ignore::hanse.prediction.Unfamiliar")
def test_frames_mappings_and_tables_are_alike() -> None:
    _, result = learn("logistic_regression", "binary")
    rows = {
        "a": [50.0, None, 70.0],
        "b": [0.1, 0.2, None],
        "colour": ["red", "never seen", None],
        "smokes": [True, False, None],
        "unused": [1, 2, 3],
    }
    predictor = Predictor(result)
    expected = predictor.predict_proba(rows)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(predictor.predict_proba(Table.of(rows)), expected)
    np.testing.assert_array_equal(predictor.predict_proba(pd.DataFrame(rows)), expected)
    np.testing.assert_array_equal(predictor.predict_proba({k: v for k, v in reversed(rows.items())}), expected)
    # a column that is gone counts as missing, in every row
    gone = {k: v for k, v in rows.items() if k != "a"}
    np.testing.assert_array_equal(
        predictor.predict_proba(gone), predictor.predict_proba({**rows, "a": [None, None, None]})
    )
    assert predictor.predict_proba({k: [] for k in rows}).shape == (0, 2)
    assert predictor.feature_names_in_.tolist() == ["a", "b", "colour", "smokes"]


def test_rows_that_differ_from_what_was_learned_from_are_predicted_with_a_word() -> None:
    _, result = learn("logistic_regression", "binary")
    predictor = Predictor(result)
    rows = {"a": [50.0, 60.0], "b": [0.1, None], "colour": ["red", None], "smokes": [True, False]}
    predictor.predict(rows)  # what is missing is nothing new: no warning, which would be an error here
    predictor.predict(pd.DataFrame(rows).astype({"colour": "category"})[:1])
    with pytest.warns(Unfamiliar, match="no column 'a', which counts as missing") as told:
        predictor.predict({name: values for name, values in rows.items() if name != "a"})
    assert told[0].filename == __file__
    with pytest.warns(Unfamiliar, match="'colour' of 1 of 2 rows is 'Red', which the model does not know"):
        predictor.predict({**rows, "colour": ["red", "Red"]})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros((3, 4)), "came as ndarray; expected a pandas or Polars frame"),
        ([{"a": 1.0, "colour": "red"}], "came as list; expected"),
        ({"a": 50.0, "colour": ["red"]}, r"column 'a' is 50.0; expected a list with one value per row: \[50.0\]"),
        ({"a": [50.0], "colour": "red"}, "column 'colour' is 'red'; expected a list"),
    ],
)
def test_rows_in_another_shape_say_what_was_expected(rows: object, said: str) -> None:
    _, result = learn("logistic_regression", "binary")
    with pytest.raises(DataError, match=said):
        Predictor(result).predict(rows)


@pytest.mark.parametrize("model", ["logistic_regression", "random_forest", "xgboost"])
def test_labels_that_are_text_stay_text(model: str) -> None:
    """'0' and '1' came back as whole numbers, which are no labels of the data."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, 200)
    for labels, found in ((["0", "1"], ["0", "1"]), ([0, 1], [0, 1]), ([0.0, 1.0], [0, 1]), ([False, True], [0, 1])):
        rows = {"x": x, "y": [labels[int(v > 0)] for v in x]}
        result = Drive(shares(Table.of(rows), 100, 100), model_name=model, num_rounds=4).run()
        predictor = Predictor(result)
        assert predictor.classes_.tolist() == found
        assert set(predictor.predict(rows).tolist()) == set(found)
        assert predictor.score(rows, rows["y"]) > 0.9
        if model != "xgboost":
            assert native_model(result).classes_.tolist() == found


def test_score_and_wrong_use() -> None:
    _, result = learn("linear_regression", "regression")
    table = toy(100, "regression", seed=4)
    assert Predictor(result).score(table, table["y"].values) > 0.8
    with pytest.raises(DataError, match="use predict"):
        Predictor(result).predict_proba(table)
    _, result = learn("xgboost", "multiclass")
    table = toy(100, "multiclass", seed=4)
    assert Predictor(result).score(table, table["y"].labels()) > 0.7
    with pytest.raises(NotFound, match="learned no model"):
        native_model(Record({}))


def survivors(rows: int, months: float, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    return {"x": x, "t": rng.exponential(months * np.exp(-0.7 * x)), "e": rng.random(rows) < 0.7}


def test_rows_of_ones_own_are_measured_about_what_the_sites_learned_of_the_target() -> None:
    """Times in days lay in the last few of all intervals, so that the C-index was off by up to 0.5 and the loss by 1.1;
    R² of numbers far from zero was rounding, or not there at all."""
    sites = {name: survivors(150, 1000.0, seed) for seed, name in enumerate("ab")}
    told = Drive({n: Table.of(t) for n, t in sites.items()}, model_name="cox_regression", target_column="t, e")
    predictor, own = Predictor(told.run()), survivors(300, 1000.0, 7)
    found = predictor.evaluate(own)
    assert found["c_index_error"] < 0.05
    assert found["c_index"] == pytest.approx(predictor.score(own, {"t": own["t"], "e": own["e"]}), abs=0.02)
    far = {name: {"x": t["x"], "y": 1e10 + t["x"] + t["e"]} for name, t in sites.items()}
    told = Drive({n: Table.of(t) for n, t in far.items()}, model_name="linear_regression", target_column="y")
    predictor, far_off = Predictor(told.run()), 1e10 + own["x"] + own["e"]
    found = predictor.evaluate({"x": own["x"], "y": far_off})
    assert found["r2"] == pytest.approx(predictor.score({"x": own["x"]}, far_off), rel=1e-6)


@pytest.mark.parametrize(("model", "kind"), [("logistic_regression", "binary"), ("linear_regression", "regression")])
def test_a_score_is_of_the_rows_with_a_target(model: str, kind: str) -> None:
    """Those without a label counted as wrong ones: an accuracy of 0.74 was told as 0.45."""
    _, result = learn(model, kind)
    table = toy(100, kind, seed=4)
    column, predictor, first = table["y"], Predictor(result), np.arange(60)
    known = column.labels() if kind == "binary" else column.values.tolist()
    wanted = predictor.score(table.take(first), known[:60])
    assert 0.5 < wanted < 1
    assert predictor.score(table, [*known[:60], *[None] * 40]) == pytest.approx(wanted)


def test_boosted_trees_of_an_earlier_release_are_refused_in_words() -> None:
    _, result = learn("xgboost", "binary")
    then = Record(result.data, {name: result.arrays[name] for name in result.arrays if name != "model.base"})
    with pytest.raises(WireError, match="this one learns it anew"):
        Predictor(then).predict(toy(5))
