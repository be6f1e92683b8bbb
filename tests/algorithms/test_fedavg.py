"""Federated averaging against its definition, and against what sites can do to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drive import Drive, same, shares, toy

from hanse.algorithms import build, settled
from hanse.algorithms.fedavg import ALGORITHM
from hanse.config import RunConfig
from hanse.errors import ConfigError, NodeFailed, Unusable
from hanse.gathering._total import Total
from hanse.kinds import Answer, Done, Site, generator
from hanse.learning import rows as preparation
from hanse.messages import Record
from hanse.registry import find
from hanse.table import Table
from hanse.training import Training

MODELS = [
    ("sgd_classifier", "binary"),
    ("sgd_classifier", "multiclass"),
    ("logistic_regression", "binary"),
    ("logistic_regression", "multiclass"),
    ("mlp_classifier", "binary"),
    ("mlp_classifier", "multiclass"),
    ("sgd_regressor", "regression"),
    ("linear_regression", "regression"),
    ("mlp_regressor", "regression"),
]


def parameters(record: Record) -> dict[str, Any]:
    """The arrays of the model in a result."""
    return {n.removeprefix("model."): record.arrays[n] for n in record.arrays if n.startswith("model.")}


SMALL = {"model_options": {"hidden_layer_sizes": [8]}}


def settings(model: str, **more: Any) -> dict[str, Any]:
    return {
        "model_name": model,
        "federated_strategy": "fedavg",
        "num_rounds": 4,
        "local_epochs": 2,
        **(SMALL if "mlp" in model else {}),
        **more,
    }


def by_hand(drive: Drive, prepared: Record, rate: float = 1.0) -> dict[str, np.ndarray[Any, Any]]:
    """FedAvg as in the paper: train everywhere, average what was learned, weighted by rows."""
    config = drive.config
    task = preparation.task(prepared)
    model = find("models", config.model_name).build(task, config.model_options)

    theta = model.init(generator(config.seed, "initialise"))
    for round in range(1, config.num_rounds + 1):
        learned, weights = [], []
        for node, table in drive.tables.items():
            site = Site(node, table, config.to_json())
            rows = preparation.rows(site, prepared)
            if not len(rows.train):
                continue
            y = rows.y[rows.train]
            if task.kind == "regression":
                y = (y - prepared.arrays["target_mean"][0]) / prepared.arrays["target_scale"][0]
            own = config.ingredient_settings
            given = Training(own["local_epochs"], own["batch_size"], own["learning_rate"] or 0.01)
            learned.append(model.train(theta, rows.X[rows.train], y, site.rng("train", round), given).parameters)
            weights.append(len(rows.train))
        average = {n: np.average([p[n] for p in learned], axis=0, weights=weights) for n in theta}
        theta = {n: (1 - rate) * theta[n] + rate * average[n] for n in theta}
    return theta


@pytest.mark.parametrize("sizes", [(240,), (120, 120), (150, 60, 30), (1, 200, 39, 0), (100, 50, 50, 39, 1)])
@pytest.mark.parametrize("model", ["sgd_classifier", "mlp_classifier"])
def test_it_is_the_weighted_mean_of_what_the_sites_learn(model: str, sizes: tuple[int, ...]) -> None:
    drive = Drive(shares(toy(240), *sizes), **settings(model))
    result = drive.run()
    expected = by_hand(drive, preparation.unpack(result))
    for name, array in parameters(result).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-9, atol=1e-12)


def test_the_servers_learning_rate_mixes_old_and_new() -> None:
    drive = Drive(shares(toy(200), 150, 50), **settings("sgd_classifier", server_learning_rate=0.3))
    result = drive.run()
    expected = by_hand(drive, preparation.unpack(result), 0.3)
    np.testing.assert_allclose(result.arrays["model.coef"], expected["coef"], rtol=1e-9)


@pytest.mark.parametrize(("model", "kind"), MODELS)
def test_every_model_learns_every_task_it_claims(model: str, kind: str) -> None:
    assert find("tasks", kind).TASK.predicts in find("models", model).PREDICTS
    drive = Drive(shares(toy(400, kind), 200, 150, 50), **settings(model, local_epochs=5, num_rounds=6))
    history = drive.run().data["history"]
    assert [h["round"] for h in history] == list(range(7))
    assert history[-1]["loss"] < (0.25 if kind == "regression" else 0.75) * history[0]["loss"]
    if kind == "regression":
        assert history[-1]["r2"] > 0.8
    else:
        assert history[-1]["auc"] > 0.85
        assert history[-1]["accuracy"] > 0.75


def test_a_rounds_evaluation_is_of_the_model_before_it_and_the_last_one_is_extra() -> None:
    drive = Drive(shares(toy(200), 120, 80), **settings("sgd_classifier", num_rounds=3))
    result = drive.run()
    assert drive.labels == ["prepare"] * 3 + ["train"] * 3 + ["evaluate"]
    assert [r.get("evaluated_round") for r in drive.records[3:]] == [0, 1, 2, 3]
    assert drive.records[3]["loss"] == pytest.approx(np.log(2))
    assert drive.records[-1]["spread"]["loss"]["sites"] == 2
    assert result.data["best"] == min(result.data["history"], key=lambda h: h["loss"])["round"]
    without = Drive(shares(toy(200), 120, 80), **settings("sgd_classifier", num_rounds=3, test_fraction=0.0))
    result = without.run()
    assert without.labels[-1] == "train"
    assert result.data["best"] is None
    assert result.data["history"][0]["loss"] is None


def test_losses_of_epochs_and_norms_are_told() -> None:
    drive = Drive(shares(toy(200), 120, 80), **settings("mlp_classifier", local_epochs=3))
    drive.run()
    metrics = drive.contributions[3]["site-0"].data["metrics"]
    assert metrics["train_loss_3"] == metrics["train_loss"] < metrics["train_loss_1"]
    assert metrics["update_norm"] > 0
    assert metrics["n"] == 90
    assert metrics["n_test"] == 30


@pytest.mark.parametrize("model", ["sgd_classifier", "logistic_regression", "mlp_classifier"])
def test_a_site_without_a_class_or_with_one_only_takes_part(model: str) -> None:
    table = toy(300, "multiclass")
    labels = np.array(table["y"].labels())
    tables = {
        "a": table.take(np.flatnonzero(labels != "top")[:100]),
        "b": table.take(np.flatnonzero(labels == "top")),
        "c": table.take(np.flatnonzero(labels == "low")[:1]),
        "d": table.take(np.arange(0)),
    }
    drive = Drive(tables, **settings(model, num_rounds=6, local_epochs=3))
    result = drive.run()
    assert not any(drive.failures)
    assert result.data["history"][-1]["loss"] < result.data["history"][0]["loss"]


def test_the_same_run_gives_the_same_bytes() -> None:
    tables = shares(toy(200), 80, 70, 50)
    first = Drive(tables, **settings("mlp_classifier")).run()
    assert same(first, Drive(tables, **settings("mlp_classifier")).run(reverse=True))
    assert same(first, Drive(tables, forgetful=True, **settings("mlp_classifier")).run())
    assert not same(first, Drive(tables, **settings("mlp_classifier", seed=1)).run())


def test_poisoned_contributions_are_left_out_with_the_reason() -> None:
    def spoil(node: str, label: str, body: Record) -> Record:
        if label != "train" or node == "site-0":
            return body
        arrays = {n: body.arrays[n] for n in body.arrays}
        if node == "site-1":
            arrays["a.change.coef"] = np.full_like(arrays["a.change.coef"], np.nan)
        elif node == "site-2":
            arrays["a.change.coef"] = arrays["a.change.coef"][:, :2]
        return Record(body.data, arrays)

    tables = shares(toy(300), 100, 60, 60, 80)
    drive = Drive(tables, spoil=spoil, **settings("sgd_classifier"))
    result = drive.run()
    assert np.isfinite(result.arrays["model.coef"]).all()
    for failures in drive.failures[3:-1]:
        assert "NaN" in failures["site-1"]
        assert "shapes" in failures["site-2"]
        assert len(failures) == 2


def test_a_common_but_wrong_shape_is_refused_too() -> None:
    def spoil(node: str, label: str, body: Record) -> Record:
        if label != "train":
            return body
        return Record(body.data, {n: a for n, a in body.arrays.items() if n != "a.change.coef"})

    with pytest.raises(AssertionError, match="than those that were asked for"):
        Drive(shares(toy(100), 50, 50), spoil=spoil, **settings("sgd_classifier")).run()


def test_a_round_without_rows_keeps_the_model() -> None:
    def spoil(node: str, label: str, body: Record) -> Record:
        return Record({**body.data, "weight": 0.0}, body.arrays) if label == "train" else body

    drive = Drive(shares(toy(100), 50, 50), spoil=spoil, **settings("sgd_classifier", num_rounds=2))
    result = drive.run()
    assert (result.arrays["model.coef"] == 0).all()
    assert result.data["round"] == 2
    assert drive.records[3]["no_updates"] is True


def test_local_divergence_is_the_sites_failure_not_the_models() -> None:
    table = toy(120, "regression")
    drive = Drive(shares(table, 60, 60), **settings("mlp_regressor", num_rounds=1))
    state = drive.algorithm.init(drive.config.to_json())
    config = {
        **drive.config.to_json(),
        "learning_rate": 1000.0,
        "local_epochs": 200,
        "model_options": {"hidden_layer_sizes": [8], "solver": "sgd", "momentum": 0.99},
    }
    prepared = preparation.unpack(drive.run())
    stage = ALGORITHM
    state = stage.init(config, prepared)
    ask = stage.ask(state)
    assert not isinstance(ask, Done)

    with pytest.raises(NodeFailed, match="smaller learning_rate"):
        stage.answer(Site("site-0", table, config), ask.record)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model_name": "sgd_classifier", "federated_strategy": "tree_bagging"}, "sgd_classifier does not learn by"),
        ({"model_name": "xgboost", "federated_strategy": "fedavg"}, "it learns by boosting"),
        ({"model_name": "xgboost", "federated_strategy": "evaluation"}, "there is no 'evaluation' in algorithms"),
        ({"model_name": "nothing"}, "there is no 'nothing' in models"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build(RunConfig.parse(given))


def test_a_model_that_cannot_learn_the_task_says_what_it_can() -> None:
    with pytest.raises(ConfigError, match="is text or true.false at some site; is it the right column"):
        Drive(shares(toy(50), 25, 25), **settings("linear_regression")).run()
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        Drive(shares(toy(50), 25, 25), **settings("sgd_classifier", model_options={"alhpa": 1})).run()
    pictures = Table.of({"scan": np.zeros((8, 2, 2, 1), np.uint8), "y": ["a", "b"] * 4})
    with pytest.raises(ConfigError, match="does not learn from images"):
        Drive(shares(pictures, 4, 4), **settings("sgd_classifier")).run()


def test_a_site_that_claims_another_weight_than_it_was_given_is_left_out() -> None:
    """The rows that it declared bound no weight from 0 to 1: a site of 60 rows could be nearly all of the mean."""

    def heavy(node: str, label: str, body: Record) -> Record:
        return Record(
            {**body.data, "weight": 60.0} if label == "train" and node == "site-0" else body.data, body.arrays
        )

    chosen = {"model_name": "sgd_classifier", "num_rounds": 2}
    tables = shares(toy(180), 60, 60, 60)
    weights = {"site-0": 0.2, "site-1": 0.3, "site-2": 0.5}
    lied = Drive(tables, spoil=heavy, **chosen, site_weights=weights)
    without = Drive(tables, **chosen, site_weights={**weights, "site-0": 0.0})
    found, expected = parameters(lied.run()), parameters(without.run())
    assert [left_out for left_out in lied.failures if left_out] == [
        {"site-0": "claims a weight of 60; site_weights gives it 0.2"}
    ] * 2
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12)


def test_a_sum_of_hidden_weights_weighs_what_was_given() -> None:
    inner: Any = ALGORITHM.inner
    answers = tuple(Answer(f"site-{i}", 1.0, {}, {}, 0, claimed=1.0) for i in range(2))
    weights = {"site_weights": {"site-0": 0.25, "site-1": 0.5, "site-2": 1.0}}
    fair, lied = (Total(answers, {}, {"a.x": np.ones(1)}, {"a.x": np.dtype(float)}, weight) for weight in (0.75, 60.25))
    assert inner.aggregation.together(fair, weights)["x"] == pytest.approx(1 / 0.75)
    with pytest.raises(Unusable) as said:
        inner.aggregation.together(lied, weights)
    assert said.value.nodes["site-0"] == "the sites of this sum weigh 60.25 together; site_weights gives them 0.75"


def test_given_weights_and_differential_privacy_are_not_both_promised() -> None:
    """There each site weighs 1, so that nobody's weight follows from rows."""
    given = {"model_name": "sgd_classifier", "privacy": "local"}
    with pytest.raises(ConfigError, match="leave site_weights out"):
        settled(RunConfig.parse({**given, "site_weights": {"site-0": 1}}))
    assert settled(RunConfig.parse(given)).privacy is not None


def test_given_weights_are_named_for_every_site_at_the_proposal_or_by_the_site() -> None:
    given = {"model_name": "sgd_classifier", "target_column": "y", "num_rounds": 1}
    for weights, says in (
        ({"site-0": 2.0}, "from 0 to 1"),
        ({"site-0": 0.0}, "not all 0"),
        ({"site-0": True}, "from 0 to 1"),
        ([0.5], "an object of site to a number"),
    ):
        with pytest.raises(ConfigError, match=says):
            settled(RunConfig.parse({**given, "site_weights": weights}))
    with pytest.raises(ConfigError, match="site_weights names no weight for site-1"):
        settled(RunConfig.parse({**given, "site_weights": {"site-0": 1}, "expected_client_ids": ["site-0", "site-1"]}))
    drive = Drive(shares(toy(120), 60, 60), model_name="sgd_classifier", num_rounds=1, site_weights={"site-0": 1})
    drive.run()
    assert "names no weight for this site; it names site-0" in drive.failures[3]["site-1"]


def test_a_given_weight_is_what_a_site_counts_for() -> None:
    """Two sites of 90 and 30 rows at 0.25 and 0.75: the mean of what each changes, in these shares."""
    tables = shares(toy(120), 90, 30)
    drive = Drive(
        tables, model_name="sgd_classifier", num_rounds=1, site_weights={"site-0": 0.25, "site-1": 0.75}, seed=2
    )
    result = drive.run()
    sent = [drive.contributions[3][node].arrays["a.change.coef"] for node in ("site-0", "site-1")]
    np.testing.assert_allclose(result.arrays["model.coef"], 0.25 * sent[0] + 0.75 * sent[1], rtol=1e-12)
