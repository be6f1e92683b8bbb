"""The scikit-learn adapters train as scikit-learn does, and check their options."""

from __future__ import annotations

import io
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier

from hanse.errors import ConfigError, NodeFailed
from hanse.learning.results import seed_of
from hanse.registry import find
from hanse.task import Task
from hanse.training import Training

BINARY = Task("binary", ("a", "b", "c"), ("n", "y"))
THREE = Task("multiclass", ("a", "b", "c"), ("x", "y", "z"))
NUMBER = Task("regression", ("a", "b", "c"))
TASKS = {"binary": BINARY, "multiclass": THREE, "regression": NUMBER}
LINEAR = ("sgd_classifier", "sgd_regressor", "logistic_regression", "linear_regression")
FEDAVG = (*LINEAR, "mlp_classifier", "mlp_regressor")


def learned(module: Any) -> list[str]:
    """The tasks that a model learns, by what it predicts."""
    return [kind for kind, task in TASKS.items() if task.predicts in module.PREDICTS]


def rows(kind: str, n: int = 200) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    score = X @ [1.0, -2.0, 0.5] + rng.normal(0, 0.5, n)
    y = {"binary": (score > 0).astype(int), "multiclass": np.digitize(score, [-1, 1]), "regression": score}[kind]
    return X, y


def train(model: Any, parameters: Any, X: Any, y: Any, seed: int = 0, **more: Any) -> Any:
    return model.train(parameters, X, y, np.random.default_rng(seed), Training(**{"epochs": 3, **more})).parameters


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_sgd_is_partial_fit(kind: str) -> None:
    X, y = rows(kind)
    model = find("models", "sgd_classifier").build(TASKS[kind], {"alpha": 0.001})
    found = train(model, model.init(np.random.default_rng(0)), X, y)
    theirs = SGDClassifier(
        loss="log_loss",
        alpha=0.001,
        learning_rate="constant",
        eta0=0.01,
        random_state=np.random.RandomState(seed_of(np.random.default_rng(0))),
    )
    for _ in range(3):
        theirs.partial_fit(X, y, classes=np.arange(len(TASKS[kind].classes)))
    np.testing.assert_array_equal(found["coef"], theirs.coef_)
    np.testing.assert_array_equal(found["intercept"], theirs.intercept_)


def test_sgd_regressor_is_partial_fit() -> None:
    X, y = rows("regression")
    model = find("models", "sgd_regressor").build(NUMBER, {})
    found = train(model, model.init(np.random.default_rng(0)), X, y)
    theirs = SGDRegressor(
        learning_rate="constant", eta0=0.01, random_state=np.random.RandomState(seed_of(np.random.default_rng(0)))
    )
    for _ in range(3):
        theirs.partial_fit(X, y)
    np.testing.assert_array_equal(found["coef"], theirs.coef_)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("intercept", [True, False])
def test_logistic_regression_reaches_scikit_learns_optimum(kind: str, intercept: bool) -> None:
    X, y = rows(kind)
    options = {"C": 0.5, "fit_intercept": intercept}
    model = find("models", "logistic_regression").build(TASKS[kind], options)
    found = train(model, model.init(np.random.default_rng(0)), X, y, epochs=500)
    theirs = LogisticRegression(**options, tol=1e-8, max_iter=1000).fit(X, y)
    ours = model.native(found)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)
    if kind == "binary":
        np.testing.assert_allclose(found["coef"], theirs.coef_, atol=5e-3)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_predictions_without_scikit_learn_are_its_own_to_the_bit(kind: str, size: int) -> None:
    rng = np.random.default_rng(size)
    task, X = TASKS[kind], 30 * rng.normal(size=(size, 3))
    model = find("models", "linear_regression" if kind == "regression" else "logistic_regression").build(task, {})
    parameters = {name: rng.normal(size=a.shape) for name, a in model.init(rng).items()}
    native = model.native(parameters)
    if size == 0:  # which scikit-learn refuses
        theirs = np.zeros((0, 3) if kind == "multiclass" else 0)
    elif kind == "regression":
        theirs = native.predict(X)
    else:
        theirs = native.predict_proba(X) if kind == "multiclass" else native.predict_proba(X)[:, 1]
    np.testing.assert_array_equal(model.predict(parameters, X), theirs)


def test_linear_regression_reaches_least_squares() -> None:
    X, y = rows("regression")
    for intercept in (True, False):
        model = find("models", "linear_regression").build(NUMBER, {"fit_intercept": intercept})
        found = train(model, model.init(np.random.default_rng(0)), X, y + 3, epochs=500)
        theirs = LinearRegression(fit_intercept=intercept).fit(X, y + 3)
        np.testing.assert_allclose(found["coef"], theirs.coef_, atol=1e-4)
        assert found["intercept"][0] == pytest.approx(theirs.intercept_, abs=1e-4)


def test_a_perceptron_starts_from_its_own_weights_and_is_partial_fit() -> None:
    X, y = rows("multiclass")
    options = {"hidden_layer_sizes": [5, 4], "solver": "sgd", "activation": "tanh"}
    model = find("models", "mlp_classifier").build(THREE, options)
    start = model.init(np.random.default_rng(1))
    assert [start[f"w{i}"].shape for i in range(3)] == [(3, 5), (5, 4), (4, 3)]
    found = train(model, start, X, y, learning_rate=0.05)
    theirs = MLPClassifier(
        (5, 4), solver="sgd", activation="tanh", learning_rate_init=0.05, batch_size=1, random_state=0
    )
    theirs.partial_fit(X[:1], y[:1], classes=[0, 1, 2])
    del theirs._optimizer, theirs.t_
    theirs.t_ = 1
    theirs.coefs_ = [start[f"w{i}"].copy() for i in range(3)]
    theirs.intercepts_ = [start[f"b{i}"].copy() for i in range(3)]
    theirs.random_state = np.random.RandomState(seed_of(np.random.default_rng(0)))
    theirs.batch_size = 32
    for _ in range(3):
        theirs.partial_fit(X, y)
    for i in range(3):
        np.testing.assert_allclose(found[f"w{i}"], theirs.coefs_[i], rtol=1e-12)


@pytest.mark.parametrize("name", FEDAVG)
def test_training_is_pure(name: str) -> None:
    module = find("models", name)
    for kind in learned(module):
        X, y = rows(kind)
        model = module.build(TASKS[kind], {"hidden_layer_sizes": [4]} if "mlp" in name else {})
        start = model.init(np.random.default_rng(0))
        before = {n: a.copy() for n, a in start.items()}
        for array in start.values():
            array.flags.writeable = False  # what comes over the wire is read-only
        first, second = train(model, start, X, y), train(model, start, X, y)
        for n in start:
            np.testing.assert_array_equal(start[n], before[n])
            np.testing.assert_array_equal(first[n], second[n])
            assert first[n].shape == start[n].shape
            assert first[n].dtype == start[n].dtype
        shape = (len(X), 3) if kind == "multiclass" else (len(X),)
        prediction = model.predict(first, X)
        assert prediction.shape == shape
        assert prediction.dtype == np.float64
        one = train(model, start, X[:1], y[:1])
        assert all(np.isfinite(a).all() for a in one.values())


@pytest.mark.parametrize("name", [*FEDAVG, "xgboost", "xgboost_bagging", "random_forest"])
def test_options_are_checked_by_name_and_value(name: str) -> None:
    module = find("models", name)
    task = TASKS[learned(module)[0]]
    with pytest.raises(ConfigError, match=f"no setting 'epohcs' of {name}; known are"):
        module.build(task, {"epohcs": 3})
    for option in module.SETTINGS:
        for wrong in ("nonsense", -3.5, float("nan"), [], {"a": 1}):
            if module.SETTINGS[option].check.fits(wrong):
                continue
            with pytest.raises(ConfigError, match=f"{option} of {name} is"):
                module.build(task, {option: wrong})
    for kind in set(TASKS) - set(learned(module)):
        with pytest.raises(ConfigError, match=f"{name} predicts"):
            module.build(TASKS[kind], {})


def test_defaults_are_scikit_learns() -> None:
    from sklearn.ensemble import RandomForestClassifier

    for name, library in (
        ("sgd_classifier", SGDClassifier()),
        ("sgd_regressor", SGDRegressor()),
        ("mlp_classifier", MLPClassifier()),
        ("logistic_regression", LogisticRegression()),
        ("random_forest", RandomForestClassifier()),
    ):
        theirs = library.get_params()
        for option, setting in find("models", name).SETTINGS.items():
            assert option in theirs
            if option not in ("loss", "criterion", "max_features", "hidden_layer_sizes"):
                assert setting.default == theirs[option], (name, option)


def test_divergence_is_told_plainly() -> None:
    X, y = rows("regression")
    model = find("models", "mlp_regressor").build(NUMBER, {"solver": "sgd", "momentum": 0.99, "activation": "identity"})
    with pytest.raises(NodeFailed, match="smaller learning_rate"):
        train(model, model.init(np.random.default_rng(0)), X * 100, y, learning_rate=1000.0, epochs=50)


def test_sgd_with_balanced_classes_needs_no_class_to_be_present() -> None:
    X, y = rows("multiclass")
    model = find("models", "sgd_classifier").build(THREE, {"class_weight": "balanced"})
    found = train(model, model.init(np.random.default_rng(0)), X[y == 1], y[y == 1])
    assert np.isfinite(found["coef"]).all()


def test_forests_that_grow_in_threads_leave_the_warning_filters_of_the_process_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """scikit-learn sets them for each tree and puts them back; where others had set them meanwhile, none were left, and
    each tree warned."""
    grown = find("models", "random_forest").build(BINARY, {})
    X, y = rows("binary", 30)
    before = list(warnings.filters)
    interval = sys.getswitchinterval()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    try:
        sys.setswitchinterval(1e-5)
        with ThreadPoolExecutor(4) as pool:
            trees = list(pool.map(lambda seed: _grown(grown, X, y, seed), range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert list(warnings.filters) == before
    assert all(len(forest["size"]) == 12 for forest in trees)


def _grown(model: Any, X: Any, y: Any, seed: int) -> Any:
    forest = model.grow(12, X, y, np.random.default_rng(seed), min_leaf=1, progress=lambda: None)
    model.predict(forest, X)
    return forest
