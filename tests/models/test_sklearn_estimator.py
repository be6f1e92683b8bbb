"""A researcher's own estimator: equals scikit-learn at one site, averages at several, and what cannot average is said
before anybody is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Perceptron, Ridge, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "algorithms"))
from drive import Drive, same, shares, toy  # noqa: E402

import hanse  # noqa: E402
from hanse.errors import ConfigError, NodeFailed, RunFailed, WireError  # noqa: E402
from hanse.models.sklearn_estimator import Estimator, build  # noqa: E402
from hanse.prediction import Predictor, native_model  # noqa: E402
from hanse.task import Task  # noqa: E402
from hanse.training import ProximalTerm, Training  # noqa: E402

FEATURES = ("a", "b", "c")
TASKS = {
    "binary": Task("binary", FEATURES, ("0", "1")),
    "multiclass": Task("multiclass", FEATURES, ("0", "1", "2")),
    "regression": Task("regression", FEATURES),
}
OWN = """
import numpy as np

class Nearest:
    'Nearest mean: an estimator of no library.'

    def partial_fit(self, X, y, classes=None):
        if classes is not None:
            self.classes_, self.means_ = classes, np.zeros((len(classes), X.shape[1]))
        for row in range(len(self.classes_)):
            there = X[y == self.classes_[row]]
            if len(there):
                self.means_[row] = there.mean(0)

    def decision_function(self, X):
        near = -np.square(X[:, None] - self.means_).sum(2)
        return near[:, 1] - near[:, 0]

    def predict(self, X):
        return self.classes_[(self.decision_function(X) > 0).astype(int)]

def build(task, options):
    return Nearest()

def sent(estimator):
    return ["means_"]
"""


def plan(expression: str, more: str = "") -> str:
    head = (
        "from sklearn.linear_model import *\nfrom sklearn.naive_bayes import *\nfrom sklearn.neural_network import *\n"
    )
    return f"{head}\ndef build(task, options):\n    return {expression}\n{more}"


def model(source: str, kind: str = "binary", **options: Any) -> Estimator:
    return build(TASKS[kind], {"plan": {"source": source}, **options})


def rows(kind: str = "binary", n: int = 90) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    score = X @ [1.0, -2.0, 0.5] + rng.normal(size=n) / 2
    return X, score if kind == "regression" else np.digitize(score, [0] if kind == "binary" else [-1, 1]).astype(
        np.int64
    )


def settings(source: str, **more: Any) -> dict[str, Any]:
    return {"model_name": "sklearn_estimator", "plan": {"source": source, "name": "p"}, "num_rounds": 4, **more}


@pytest.mark.parametrize(
    ("kind", "expression", "theirs"),
    [
        ("binary", "SGDClassifier(loss='hinge', random_state=3)", SGDClassifier(loss="hinge", random_state=3)),
        ("multiclass", "SGDClassifier(shuffle=False)", SGDClassifier(shuffle=False)),
        ("binary", "Perceptron(alpha=0.01)", Perceptron(alpha=0.01)),
        ("regression", "SGDRegressor(random_state=1)", SGDRegressor(random_state=1)),
        (
            "multiclass",
            "MLPClassifier((4,), solver='sgd', momentum=0, random_state=5)",
            MLPClassifier((4,), solver="sgd", momentum=0, random_state=5),
        ),
    ],
)
def test_rounds_at_one_site_are_passes_of_scikit_learn(kind: str, expression: str, theirs: Any) -> None:
    """To the last bit, also where rates fall from step to step: their count travels."""
    X, y = rows(kind)
    ours = model(plan(expression), kind)
    learned = ours.init(np.random.default_rng(0))
    for round in range(5):
        learned = ours.train(learned, X, y, np.random.default_rng(round), Training(2)).parameters
    for _ in range(10):
        theirs.partial_fit(X, y, **({} if kind == "regression" else {"classes": np.unique(y)}))
    native = ours.native(learned)
    names = [name for name in ("coef_", "intercept_", "coefs_", "intercepts_") if hasattr(theirs, name)]
    assert len(names) == 2
    for name in names:
        for own, other in zip(getattr(native, name), getattr(theirs, name), strict=True):
            np.testing.assert_array_equal(own, other)
    assert learned["t_"] == theirs.t_
    if hasattr(theirs, "predict_proba") or kind == "regression":
        np.testing.assert_array_equal(
            ours.predict(learned, X),
            theirs.predict(X) if kind == "regression" else theirs.predict_proba(X),
        )
    else:
        label = ours.predict(learned, X)
        label = label > 0.5 if kind == "binary" else label.argmax(1)
        np.testing.assert_array_equal(label, theirs.predict(X))


@pytest.mark.parametrize(
    ("kind", "expression"),
    [
        ("binary", "SGDClassifier(alpha=0.01)"),
        ("multiclass", "Perceptron()"),
        ("multiclass", "MLPClassifier((8,), learning_rate_init=0.02)"),
        ("regression", "SGDRegressor()"),
        ("regression", "MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=0.02)"),
    ],
)
def test_sites_learn_together_and_the_estimator_comes_back(kind: str, expression: str) -> None:
    tables = shares(toy(400, kind), 200, 150, 49, 1)
    drive = Drive(tables, **settings(plan(expression), local_epochs=3))
    result = drive.run()
    assert same(result, Drive(tables, forgetful=True, **settings(plan(expression), local_epochs=3)).run(reverse=True))
    history, table = result.data["history"], toy(50, kind, seed=3)
    worth = "mae" if kind == "regression" else "accuracy"
    assert history[-1][worth] < history[0][worth] if kind == "regression" else history[-1][worth] > 0.6
    predictor = Predictor(result)
    native = native_model(result)
    theirs = native.predict(predictor.design(table))
    if kind == "regression":
        np.testing.assert_allclose(predictor.predict(table), theirs, rtol=1e-10)
    else:
        assert predictor.predict(table).tolist() == theirs.tolist()
    assert result.arrays["model.t_"].dtype == np.int64


def test_an_estimator_of_no_library_averages_what_it_names() -> None:
    table = toy(300)
    result = Drive(shares(table, 200, 100), **settings(OWN, num_rounds=1)).run()
    one = Drive({"all": table}, **settings(OWN, num_rounds=1)).run()
    assert result.arrays["model.means_"].shape == (2, 7)
    assert np.abs(result.arrays["model.means_"] - one.arrays["model.means_"]).max() < 0.2
    assert result.data["history"][-1]["auc"] > 0.7
    with pytest.raises(AssertionError, match="Nearest|object has nothing that averages"):
        Drive(shares(table, 200, 100), **settings(OWN.partition("def sent")[0])).run()


def test_a_plan_says_what_its_batches_are_what_it_starts_from_and_its_rate() -> None:
    X, y = rows()
    start = "def build(task, options):\n    found = SGDClassifier(random_state=0, **options)\n"
    start += "    found.coef_, found.intercept_ = np.full((1, 3), 2.0), np.ones(1)\n    return found\n"
    more = (
        "import numpy as np\ndef training_data(X, y, batch_size, rng):\n    for at in range(0, len(y), batch_size):\n"
    )
    more += "        yield X[at:at + batch_size], y[at:at + batch_size]\n"
    more += "def adjust(estimator, learning_rate):\n    estimator.set_params(eta0=learning_rate)\n"
    ours = model(plan("0", more + start), learning_rate="constant", alpha=0.1)
    first = ours.init(np.random.default_rng(0))
    assert first["coef_"].tolist() == [[2.0] * 3] and first["intercept_"].tolist() == [1.0]  # noqa: PT018
    learned = ours.train(first, X, y, np.random.default_rng(0), Training(2, 40, 0.2)).parameters
    theirs = SGDClassifier(random_state=0, learning_rate="constant", alpha=0.1, eta0=0.2)
    theirs.coef_, theirs.intercept_ = np.full((1, 3), 2.0), np.ones(1)
    for at in (0, 40, 80) * 2:
        theirs.partial_fit(X[at : at + 40], y[at : at + 40], classes=[0, 1])
    np.testing.assert_array_equal(learned["coef_"], theirs.coef_)


@pytest.mark.parametrize("strategy", ["fedprox", "scaffold", "feddyn"])
def test_terms_of_strategies_are_those_of_the_model_that_comes_along(strategy: str) -> None:
    """The same numbers as ``sgd_classifier`` has, which knows its steps; without a constant rate it is refused."""
    made = "SGDClassifier(loss='log_loss', learning_rate='constant', eta0=0.05, shuffle=False)"
    tables = shares(toy(200), 120, 80)
    more: dict[str, Any] = {"federated_strategy": strategy, "num_rounds": 2, "batch_size": 1000}
    ours = Drive(tables, **settings(plan(made), **more)).run()
    theirs = Drive(
        tables,
        model_name="sgd_classifier",
        model_options={"loss": "log_loss", "shuffle": False},
        learning_rate=0.05,
        **more,
    ).run()
    np.testing.assert_allclose(ours.arrays["model.coef_"], theirs.arrays["model.coef"], rtol=0, atol=1e-12)
    with pytest.raises(AssertionError, match="the size of each step must be known, and SGDClassifier"):
        Drive(tables, **settings(plan("SGDClassifier(loss='log_loss')"), **more)).run()


SAYS = [
    ("MultinomialNB()", "MultinomialNB has nothing that averages: after partial_fit it has none of coef_"),
    ("RidgeClassifier()", "RidgeClassifier as it is set has no partial_fit, by which an estimator goes on"),
    ("MLPClassifier(solver='lbfgs')", "MLPClassifier as it is set has no partial_fit"),
    ("3", "int as it is set has no partial_fit"),
    ("SGDClassifier(average=True)", "with average keeps more than coef_ and intercept_.*leave average out"),
    ("SGDClassifier(class_weight='balanced')", "cannot learn by partial_fit as the training plan sets it: ValueError"),
    ("SGDClassifier(early_stopping=True)", "cannot learn by partial_fit as the training plan sets it: ValueError"),
]


@pytest.mark.parametrize(("expression", "says"), SAYS)
def test_what_does_not_average_is_refused_at_the_proposal(expression: str, says: str) -> None:
    """By its author's program, before a site is asked; by the sites where it comes another way."""
    with hanse.simulate(sites()) as federation:
        experiment = federation.experiment("sklearn_estimator", plan=plan(expression), **ASKED)
        with pytest.raises(ConfigError, match=says):
            experiment.run(progress=False)
        assert not experiment.run_id
    with pytest.raises((ConfigError, AssertionError), match=says):
        Drive(shares(toy(60), 30, 30), **settings(plan(expression))).run()


def sites(n: int = 2) -> dict[str, dict[str, Any]]:
    found = {}
    for site in range(n):
        X, y = rows(n=60 + 20 * site)
        found[f"site{site}"] = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": np.where(y, "ill", "well")}
    return found


ASKED: dict[str, Any] = {"target": "y", "sample_id_column": None, "rounds": 3}


@pytest.mark.parametrize(
    ("expression", "more", "says"),
    [
        ("SGDClassifier()", {"learning_rate": 0.1}, "learning_rate has no effect on this training plan"),
        ("SGDClassifier()", {"batch_size": 7}, "batch_size has no effect"),
        ("SGDClassifier()", {"federated_strategy": "fedprox"}, "the size of each step must be known"),
        ("MLPClassifier((3,))", {"federated_strategy": "scaffold"}, "the size of each step must be known"),
        ("SGDRegressor()", {"task_type": "binary"}, "SGDRegressor does not fit the task, which is binary"),
    ],
)
def test_settings_that_it_cannot_heed_are_refused_at_the_proposal(
    expression: str, more: dict[str, Any], says: str
) -> None:
    with (
        hanse.simulate(sites()) as federation,
        pytest.raises(ConfigError, match=says),
    ):
        federation.experiment("sklearn_estimator", plan=plan(expression), **ASKED, **more).propose()


def test_an_estimator_itself_is_a_plan() -> None:
    made = SGDClassifier(alpha=0.02, random_state=4)
    with hanse.simulate(sites(1)) as federation:
        experiment = federation.experiment("sklearn_estimator", plan=made, test_fraction=0.0, **ASKED)
        result = experiment.run(progress=False)
        other = federation.experiment("sklearn_estimator", plan=made, model_options={"alpha": 5.0}, **ASKED)
        assert np.abs(other.run(progress=False).model().coef_).max() < 0.5
        with pytest.raises(ConfigError, match="random_state of SGDClassifier is no plain value"):
            federation.experiment("sklearn_estimator", plan=SGDClassifier(random_state=np.random.RandomState(0)))
        with pytest.raises(ConfigError, match="a pipeline is no training plan.*give its last step alone"):
            federation.experiment("sklearn_estimator", plan=make_pipeline(StandardScaler(), SGDClassifier()))
    assert "SGDClassifier(**{**{'alpha': 0.02, 'random_state': 4}, **options})" in result.plan
    raw = sites(1)["site0"]
    X = result.predictor().design({name: raw[name] for name in "abc"})
    for _ in range(3):
        made.partial_fit(X, raw["y"], classes=["ill", "well"])
    native = result.model()
    np.testing.assert_allclose(native.coef_, made.coef_, rtol=1e-12)
    assert native.predict(X).tolist() == made.predict(X).tolist()
    assert isinstance(native, SGDClassifier)


def test_an_estimator_that_has_no_partial_fit_is_said_where_it_is_given_itself() -> None:
    with (
        hanse.simulate(sites()) as federation,
        pytest.raises(ConfigError, match="Ridge as it is set has no partial_fit"),
    ):
        federation.experiment("sklearn_estimator", plan=Ridge(), **ASKED).propose()


def test_what_a_plan_raises_on_made_up_rows_is_left_to_the_sites() -> None:
    """It may be made for the features that they have; only the sites can tell."""
    source = plan("SGDClassifier() if len(task.features) == 3 else 1 / 0")
    with hanse.simulate(sites()) as federation:
        assert federation.experiment("sklearn_estimator", plan=source, **ASKED).run(progress=False).metrics["auc"] > 0.8
        with pytest.raises(RunFailed, match="ZeroDivisionError in line 6: return 1 / 0"):
            federation.experiment("sklearn_estimator", plan=plan("1 / 0"), **ASKED).run(progress=False)


def test_its_errors_tell_no_values() -> None:
    source = plan(
        "SGDClassifier()", "def training_data(X, y, batch_size, rng):\n    raise ValueError(f'{4700 + 11}')\n"
    )
    ours = model(source)
    X, y = rows()
    with pytest.raises(NodeFailed, match="failed: ValueError in line 8: raise") as caught:
        ours.train(ours.init(np.random.default_rng(0)), X, y, np.random.default_rng(0), Training(1))
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"coef_": np.zeros((1, 4))},
        {"coef_": np.zeros((1, 3), np.float32)},
        {"more_": np.zeros(1)},
    ],
)
def test_parameters_of_another_shape_never_reach_compiled_code(wrong: dict[str, Any]) -> None:
    ours = model(plan("SGDClassifier()"))
    X, y = rows()
    found = {**ours.init(np.random.default_rng(0)), **wrong}
    for use in (
        lambda: ours.predict(found, X),
        lambda: ours.train(found, X, y, np.random.default_rng(0), Training(1)),
    ):
        with pytest.raises(WireError, match="the parameters are not those of the training plan"):
            use()


def test_nothing_is_held_fast_and_no_batches_are_ones_own_with_a_term() -> None:
    X, y = rows()
    loads = "def training_data(X, y, batch_size, rng):\n    return [(X, y)]\n"
    ours = model(plan("SGDClassifier(learning_rate='constant')", loads))
    first = ours.init(np.random.default_rng(0))
    with pytest.raises(ConfigError, match="choose another model for this strategy"):
        ours.train(first, X, y, np.random.default_rng(0), Training(1, frozen=frozenset({"coef_"})))
    with pytest.raises(ConfigError, match="leave training_data out"):
        ours.train(first, X, y, np.random.default_rng(0), Training(1, term=ProximalTerm()))
