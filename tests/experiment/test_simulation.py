"""Simulations of every family of models, over easy and over rough splits."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pytest

import hanse
from experiment import sites
from hanse import large_arrays, policy
from hanse.errors import ConfigError, Conflict, DataError, NodeFailed, NotFound, Refused, RunFailed
from hanse.experiment.results import Result
from hanse.experiment.simulated_run import MOMENT, SimulatedRun
from hanse.facts import Facts, RunFacts
from hanse.messages import Array, digest, dump
from hanse.prediction import Unfamiliar
from hanse.rounds import Step
from hanse.rule import Decision, Rule
from hanse.table import ColumnKind, Table
from tests.waiting import PATIENCE

BINARY = ["logistic_regression", "sgd_classifier", "mlp_classifier", "xgboost", "random_forest"]
QUANTITY = ["linear_regression", "sgd_regressor", "mlp_regressor", "xgboost", "random_forest"]


def settings(model: str) -> dict[str, Any]:
    rounds = {"random_forest": 2, "xgboost": 8}.get(model, 12)
    found: dict[str, Any] = {"model": model, "target": "disease", "rounds": rounds, "local_epochs": 3}
    if model.startswith("mlp"):
        found |= {"model_options": {"hidden_layer_sizes": [8]}, "learning_rate": 0.02, "batch_size": 16}
    if model.startswith("xgboost"):
        found |= {"model_options": {"max_depth": 3}, "local_epochs": 1}
    if model in ("random_forest", "xgboost"):
        del found["local_epochs"]
    if model in ("logistic_regression", "linear_regression"):
        found |= {"federated_strategy": "fedavg"}  # else they are fitted exactly
    return found


def learn(data: Any, model: str = "logistic_regression", wire: str = "references", **more: Any) -> Result:
    with hanse.simulate(data, wire=wire, **{k: more.pop(k) for k in ("seed", "workers") if k in more}) as federation:
        return federation.experiment(**(settings(model) | more)).run(progress=False)


def test_rules_see_facts_of_the_types_that_they_have_at_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Facts] = []
    real = policy.decide

    async def decide(rules: Sequence[Rule], facts: Facts) -> list[Decision]:
        seen.append(facts)
        return await real(rules, facts)

    monkeypatch.setattr(policy, "decide", decide)
    learn(sites.cancer())
    lists = [name for name, kind in Facts.__annotations__.items() if str(kind).startswith("tuple")]
    lists += [name for name, kind in RunFacts.__annotations__.items() if str(kind).startswith("tuple")]
    assert {"features", "transforms", "countries"} <= {*lists}
    assert {(name, type(getattr(facts, name))) for facts in seen for name in lists} == {(name, tuple) for name in lists}


@pytest.mark.parametrize("model", BINARY)
def test_two_classes(model: str) -> None:
    result = learn(sites.cancer(), model)
    assert result.metrics["accuracy"] > 0.88
    assert result.metrics["auc"] > 0.94
    assert not result.failures


@pytest.mark.parametrize("model", [*BINARY[:-2], "xgboost_bagging"])
def test_a_share_that_no_site_has_more_of(model: str) -> None:
    """A large site and three small ones; the model still learns, and the result says what each counted for."""
    everything = pandas.concat(sites.cancer().values())
    data = {"large": everything[:450], **{f"small{i}": everything[450 + 30 * i : 480 + 30 * i] for i in range(3)}}
    result = learn(data, model, max_weight_share=0.4)
    shares = {row["node"]: row["share"] for row in result.contributions}
    assert shares["large"] == pytest.approx(0.4)
    assert result.metrics["accuracy"] > 0.88


@pytest.mark.parametrize(
    ("model", "more"),
    [("random_forest", {}), ("xgboost", {}), ("xgboost_bagging", {"model_options": {"scaling": "sum"}})],
)
def test_a_share_where_nothing_is_averaged_is_refused(model: str, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="max_weight_share has nothing to bound"):
        learn(sites.cancer(), model, max_weight_share=0.4, **more)


@pytest.mark.parametrize("model", BINARY)
def test_a_class_that_a_site_has_never_seen(model: str) -> None:
    data = sites.iris()
    few = {} if model in ("random_forest", "xgboost") else {"local_epochs": 1}  # local steps: the sites differ much
    result = learn(data, model, rounds=30, **few)
    assert result.metrics["accuracy"] > 0.8
    assert set(result.predictor().classes_) == {"setosa", "versicolor", "virginica"}
    everything = pandas.concat(data.values())
    assert result.predictor().predict_proba(everything).shape == (len(everything), 3)


@pytest.mark.parametrize("model", QUANTITY)
def test_a_quantity(model: str) -> None:
    result = learn(sites.diabetes(), model)
    assert result.metrics["r2"] > 0.2
    assert 40 < result.metrics["rmse"] < 75
    assert len(result.predictor().predict(sites.diabetes()["site1"])) == len(sites.diabetes()["site1"])


@pytest.mark.parametrize("model", BINARY)
def test_rough_data(model: str) -> None:
    """An empty site, a site with one class, missing values, a column that was never measured."""
    data = sites.rough()
    result = learn(data, model)
    assert result.metrics["accuracy"] > 0.85
    assert not result.failures, result.failures
    assert {"grade", "smoker"} <= set(result.alignment["features"])
    shares = {row["node"]: row["share"] for row in result.contributions}
    assert shares["site4"] == 0
    assert sum(shares.values()) == pytest.approx(1)
    assert result.evaluate(data["site3"])["accuracy"] > 0.8


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_any_number_of_sites(count: int) -> None:
    result = learn(sites.cancer(count))
    assert result.metrics["auc"] > 0.95
    assert [row["node"] for row in result.contributions] == [f"site{i + 1}" for i in range(count)]
    assert len(result.history) == 13  # before training, and after each of twelve rounds


@pytest.mark.parametrize("model", BINARY)
def test_the_wire_changes_nothing(model: str) -> None:
    plain, exact = (learn(sites.iris(), model, wire=wire, rounds=3) for wire in ("references", "exact"))
    assert dump(plain.record) == dump(exact.record)
    assert list(plain.history.column("loss")) == list(exact.history.column("loss"))


@pytest.mark.parametrize("model", ["sgd_classifier", "random_forest"])
def test_workers_change_nothing_and_the_seed_does(model: str) -> None:
    one, many = learn(sites.cancer(), model, workers=1), learn(sites.cancer(), model, workers=5)
    assert dump(one.record) == dump(many.record)
    assert dump(one.record) == dump(learn(dict(reversed(sites.cancer().items())), model).record)
    assert dump(one.record) != dump(learn(sites.cancer(), model, seed=1).record)


PLAN = """
from torch import nn

def build(task, options):
    return nn.Sequential(nn.Linear(len(task.features), options["width"]), nn.ReLU(),
                         nn.Linear(options["width"], task.outputs))
"""


def test_a_training_plan_in_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "small.py"
    path.write_text(PLAN)
    more: dict[str, Any] = {"model_options": {"width": 4}, "learning_rate": 0.3, "rounds": 6}
    result = learn(sites.cancer(), "torch_module", plan=path, **more)
    assert result.config.plan == {"name": "small", "source": PLAN}
    assert result.metrics["accuracy"] > 0.85
    assert dump(learn(sites.cancer(), "torch_module", plan=PLAN, **more).record) != b""
    rows = sites.cancer()["site1"]
    module = result.model()
    assert isinstance(module, torch.nn.Module)
    with torch.no_grad():
        scores = module(torch.tensor(result.predictor().design(rows), dtype=torch.float32))[:, 0]
    assert np.allclose(torch.sigmoid(scores), result.predictor().predict_proba(rows)[:, 1], atol=1e-5)


def test_a_plan_from_elsewhere_runs_only_when_it_is_trusted(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    marker = tmp_path / "ran"
    loud = PLAN + f"\nopen({str(marker)!r}, 'a').close()\n"
    result = learn(sites.cancer(1), "torch_module", plan=loud, model_options={"width": 2}, rounds=1)
    again = hanse.load_result(result.save(tmp_path / "r.safetensors"))
    marker.unlink()
    assert "Participation" in again._repr_html_()
    for use in (again.model, again.predictor, lambda: again.evaluate(sites.cancer(1)["site1"])):
        with pytest.raises(Refused, match="read result.plan"):
            use()
    assert not marker.exists()
    assert again.plan == loud
    assert again.model(trust_plan=True) is not None
    assert marker.exists()


def test_plans_that_cannot_be_had() -> None:
    federation = hanse.simulate({"a": {"x": [1.0], "disease": [1]}})
    with pytest.raises(ConfigError, match="cannot be read"):
        federation.experiment(plan="/nowhere/plan.py", target="disease")
    with pytest.raises(ConfigError, match="plan is 3"):
        federation.experiment(plan=3, target="disease")
    assert "def learn" in federation.experiment(plan=learn, target="disease").config.plan["source"]  # type: ignore[index]


def test_pandas_polars_columns_and_tables_are_the_same() -> None:
    data = sites.cancer(2)
    whole = dump(learn(data).record)
    assert dump(learn({n: polars.from_pandas(f) for n, f in data.items()}).record) == whole
    assert dump(learn({n: {c: list(f[c]) for c in f.columns} for n, f in data.items()}).record) == whole
    assert dump(learn({n: Table.of(f) for n, f in data.items()}).record) == whole


def test_it_looks_before_it_runs() -> None:
    federation = hanse.simulate(sites.cancer())
    assert federation.nodes().column("status") == ["online"] * 3
    assert federation.datasets().column("columns") == [11] * 3
    experiment = federation.experiment(
        model="logistic_regression",
        federated_strategy="fedavg",
        features=["mean radius", "worst texture"],
        target="disease",
    )
    analysis = experiment.analyze()
    assert list(analysis.features) == ["mean radius", "worst texture"]
    assert len(analysis.union) == len(analysis.intersection) == 11
    assert "2 features" in repr(analysis)
    assert "mean radius" in analysis._repr_html_()
    preview = experiment.preview()
    assert "class LogisticRegression" in preview
    assert "def answer" in preview
    assert "not proposed" in repr(experiment)
    with pytest.raises(Conflict, match="not proposed yet"):
        experiment.status()


def test_union_reports_what_is_filled_in() -> None:
    data = sites.cancer()
    data["site2"] = data["site2"].drop(columns=["mean radius", "mean texture", "worst texture"])
    federation = hanse.simulate(data)
    analysis = federation.experiment(feature_strategy="union", target="disease").analyze()
    assert analysis.filled == {"site1": 0, "site2": 0.3, "site3": 0}
    assert "30% of the features are filled in at site2" in analysis.warnings[0]
    assert len(federation.experiment(target="disease").analyze().features) == 7
    result = learn(data, feature_strategy="union")
    assert result.metrics["auc"] > 0.9
    assert "30% of the features are filled in at site2" in result._repr_html_()


@pytest.mark.parametrize("model", ["logistic_regression", "xgboost"])
def test_union_fills_with_zeros_where_that_is_asked_for(model: str) -> None:
    """M65: the same bytes as when the site had a column of zeros; and predicting does alike."""
    data = sites.cancer()
    lacking = {**data, "site2": data["site2"].drop(columns=["mean radius"])}
    zeros = {**data, "site2": data["site2"].assign(**{"mean radius": 0.0})}
    how: dict[str, Any] = {"model": model, "target": "disease", "rounds": 3, "feature_strategy": "union"}
    filled = hanse.simulate(lacking).experiment(**how, union_fill="zero").run(progress=False)
    pooled = hanse.simulate(zeros).experiment(**how).run(progress=False)
    assert {n: a.tobytes() for n, a in filled.record.arrays.items()} == {
        n: a.tobytes() for n, a in pooled.record.arrays.items()
    }
    said = next(w for w in filled.warnings if "as if they had been measured" in w)
    assert "10% of the features are 0" in said
    rows = data["site1"].drop(columns=["disease"])
    at_zero = filled.predictor().predict_proba(rows.assign(**{"mean radius": 0.0}))
    with pytest.warns(Unfamiliar, match="which counts as missing, or as 0 where it is a number, in all of them"):
        assert np.array_equal(filled.predictor().predict_proba(rows.drop(columns=["mean radius"])), at_zero)
    other = hanse.simulate(lacking).experiment(**how).run(progress=False)
    assert other.metrics != filled.metrics


def test_short_names_and_wrong_names() -> None:
    federation = hanse.simulate({"a": {"x": [1.0], "disease": [1]}}, seed=5)
    config = federation.experiment(model="xgboost", target="y", rounds=3, learning_rate=0.5).config
    assert (config.model_name, config.target_column, config.num_rounds, config.seed) == ("xgboost", "y", 3, 5)
    assert federation.experiment(seed=9, target="disease").config.seed == 9
    for wrong, hint in (("modle", "did you mean 'model'"), ("learning_rat", "did you mean 'learning_rate'")):
        with pytest.raises(ConfigError, match=hint):
            federation.experiment(**{wrong: 1})
    with pytest.raises(ConfigError, match="same setting"):
        federation.experiment(model="xgboost", model_name="xgboost", target="disease")
    with pytest.raises(ConfigError, match="num_rounds is 0"):
        federation.experiment(rounds=0, target="disease")
    with pytest.raises(ConfigError, match="known are .*logistic_regression"):
        federation.experiment(model="no such model", target="disease").propose()
    with pytest.raises(ConfigError, match="the target column 'y' is missing at a"):
        federation.experiment(model="logistic_regression", federated_strategy="fedavg", target="y").run(progress=False)
    for features, says in ((["xx"], "under intersection: xx; did you mean 'x'"), (["only"], "'only' is at b alone")):
        uneven = hanse.simulate({"a": {"x": [1, 2], "y": [1, 0]}, "b": {"x": [1, 2], "y": [1, 0], "only": [1, 2]}})
        with pytest.raises(ConfigError, match=says):
            uneven.experiment("logistic_regression", target="y", features=features).propose()
    with pytest.raises(ConfigError, match="only a model of times until an event"):
        uneven.experiment("logistic_regression", target="x, y").propose()
    with pytest.raises(ConfigError, match="there is no site z"):
        federation.experiment(expected_client_ids=["z"], target="disease").propose()


def test_a_model_of_classes_of_a_measurement_says_which_model_learns_it() -> None:
    rows = {"age": list(range(40)), "chol": [200 + 1.5 * n for n in range(40)]}
    federation = hanse.simulate({"a": rows, "b": rows})
    with pytest.raises(RunFailed, match=r"this is a regression task.* needs a number. .* such as linear_regression"):
        federation.experiment("logistic_regression", target="chol", sample_id_column=None).run(progress=False)


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        ({}, "sites is empty"),
        ([], "sites is list; expected a mapping"),
        (None, "sites is NoneType; expected a mapping"),
        ({"a": {"x": [1, 2], "y": [1]}}, "unequal length"),
        ({"a": {"x": [1], " x": [2]}}, "the same name"),
        ({"a": {"x": [[1, 2]]}}, "one value per row"),
    ],
)
def test_data_that_is_no_data(data: Any, wrong: str) -> None:
    with pytest.raises((ConfigError, DataError), match=wrong):
        hanse.simulate(data).nodes()


def test_wire_must_be_known() -> None:
    with pytest.raises(ConfigError, match="references or exact"):
        hanse.simulate({"a": {"x": [1]}}, wire="pickle")


def test_a_run_that_cannot_learn_fails_with_the_reason() -> None:
    same = {"a": {"x": [1.0, 2.0], "disease": ["no", "no"]}, "b": {"x": [1.0], "disease": ["no"]}}
    with pytest.raises(RunFailed, match="1 classes over all sites"):
        learn(same)
    federation = hanse.simulate({"a": {"x": [1.0], "disease": [None]}})
    experiment = federation.experiment(model="logistic_regression", federated_strategy="fedavg", target="disease")
    with pytest.raises(RunFailed, match="no site has a row"):
        experiment.run(progress=False)
    assert experiment.status()["state"] == "failed"
    with pytest.raises(RunFailed, match="has no result"):
        experiment.result()


def test_one_bad_site_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from hanse.models import logistic_regression

    train = logistic_regression.LogisticRegression.train

    def fails(self: Any, parameters: Any, X: Any, y: Any, *rest: Any, **more: Any) -> Any:
        if len(y) < 120:
            raise ZeroDivisionError("a mistake in the code of one site")
        return train(self, parameters, X, y, *rest, **more)

    monkeypatch.setattr(logistic_regression.LogisticRegression, "train", fails)
    data = sites.cancer(3)
    data["small"] = data.pop("site3").iloc[:50]
    result = learn(data)
    assert set(result.failures.column("node")) == {"small"}
    assert "ZeroDivisionError" in result.failures[0]["reason"]
    assert result.metrics["auc"] > 0.95
    assert "ZeroDivisionError" in result._repr_html_()
    assert {r["node"]: r["failed"] for r in result.participation} == {"site1": 0, "site2": 0, "small": 12}


def test_what_a_round_went_on_without_is_not_the_cause_of_what_ended_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from hanse.models import logistic_regression

    train, asked = logistic_regression.LogisticRegression.train, list[int]()

    def fails(self: Any, start: Any, X: Any, y: Any, *more: Any) -> Any:
        asked.append(len(y))
        if len(asked) > 3:  # the first round is over
            raise NodeFailed("there is no second round")
        if len(y) < 50:
            raise ZeroDivisionError("at the small site")
        return train(self, start, X, y, *more)

    monkeypatch.setattr(logistic_regression.LogisticRegression, "train", fails)
    data = sites.cancer(3)
    data["small"] = data.pop("site3").iloc[:50]
    experiment = hanse.simulate(data).experiment(
        model="logistic_regression",
        federated_strategy="fedavg",
        min_fit_nodes=2,
        max_failed_rounds=0,
        rounds=2,
        target="disease",
    )
    with pytest.raises(RunFailed, match="no second round") as found:
        experiment.run(progress=False)
    assert not isinstance(found.value.__cause__, ZeroDivisionError)


def test_all_sites_failing_shows_the_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    from hanse.models import logistic_regression

    def fails(*given: Any, **more: Any) -> Any:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(logistic_regression.LogisticRegression, "train", fails)
    federation = hanse.simulate(sites.cancer(2))
    experiment = federation.experiment(
        model="logistic_regression", federated_strategy="fedavg", max_failed_rounds=1, target="disease"
    )
    with pytest.raises(RunFailed, match="ZeroDivisionError: a mistake"):
        experiment.run(progress=False)
    with pytest.raises(RunFailed) as caught:
        experiment.result()
    chain: Any = caught.value.__cause__
    assert chain is not None


def test_who_looks_at_steps_takes_few_turns_from_the_run_and_who_does_not_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever wakes in this process takes a turn from the run."""
    slept, heard, begin = list[tuple[str, float | None]](), list[Any](), SimulatedRun.start

    def start(run: SimulatedRun) -> None:
        def noted(name: str, wait: Any) -> Any:
            def again(timeout: float | None = None) -> Any:
                slept.append((name, timeout))
                return wait(timeout)

            return again

        for name, news in (("steps", run._news), ("turns", run._turns)):
            monkeypatch.setattr(news, "wait", noted(name, news.wait))
        begin(run)

    monkeypatch.setattr(SimulatedRun, "start", start)
    with hanse.simulate(sites.cancer()) as federation:
        asked = {"model": "sgd_classifier", "target": "disease", "rounds": 9}
        federation.experiment(**asked).run(progress=False)
        assert set(slept) == {("turns", None)}
        assert len(slept) <= 2  # until it runs, and to its end
        slept.clear()
        federation.experiment(**asked).propose().wait(False, heard.append)
    rounds = [update.step.round for update in heard if update.step is not None and update.step.label == "train"]
    assert rounds == list(range(1, 10))
    assert heard[-1].state == "completed"
    looks = sum(name == "steps" for name, _ in slept)
    assert looks <= slept.count(("turns", MOMENT)) + 2  # nobody waits for the next step before a moment is over


def test_cancel_ends_a_long_run_at_once() -> None:
    federation = hanse.simulate(sites.cancer())
    experiment = federation.experiment(model="sgd_classifier", rounds=100_000, target="disease").propose()
    started = threading.Event()
    states: list[str] = []

    def look() -> None:
        for update in experiment.watch():
            states.append(update.state)
            if update.step is not None:
                started.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    assert started.wait(PATIENCE)
    experiment.cancel()
    watcher.join(PATIENCE)
    assert not watcher.is_alive()
    assert states[-1] == "cancelled"
    assert experiment.status()["state"] == "cancelled"
    with pytest.raises(Conflict, match="cancelled already"):
        experiment.cancel()
    with pytest.raises(RunFailed, match="cancelled"):
        experiment.wait(progress=False)


def test_cancel_stops_a_site_in_the_middle_of_its_work() -> None:
    """Its ten thousand passes would take longer than any test may."""
    (rows,) = sites.cancer(1).values()
    federation = hanse.simulate({"site1": pandas.concat([rows] * 200)})
    experiment = federation.experiment(
        model="sgd_classifier", rounds=1, local_epochs=10_000, batch_size=1, target="disease"
    ).propose()
    for update in experiment.watch():
        if update.step is not None:
            break
    federation.close()
    assert experiment.status()["state"] == "cancelled"


def test_not_waiting_and_watching_twice() -> None:
    experiment = hanse.simulate(sites.cancer()).experiment(
        model="logistic_regression", federated_strategy="fedavg", target="disease"
    )
    assert experiment.run(wait=False) is None
    with pytest.raises(Conflict, match="already"):
        experiment.run()
    first, second = list(experiment.watch()), list(experiment.watch())
    assert first == second
    assert first[-1].state == "completed"
    seen: list[Step | None] = []
    result = experiment.wait(progress=False, on_update=lambda update: seen.append(update.step))
    assert [s for s in seen if s] == result.rounds
    assert experiment.status()["round"] == 10


def test_runs_in_a_loop_that_runs_already() -> None:
    """As in a notebook."""
    import asyncio

    async def cell() -> Result:
        return learn(sites.cancer(2))

    assert asyncio.run(cell()).metrics["auc"] > 0.9


def test_unknown_run() -> None:
    federation = hanse.simulate({"a": {"x": [1]}})
    with pytest.raises(NotFound, match="there are none"):
        federation._backend.status("simulation-9")


@pytest.mark.parametrize(
    ("model", "lost", "said"),
    [
        ("xgboost", {9}, ["the trees of 1 of 5 rounds grew from the rows of fewer sites"]),
        ("xgboost", {3}, ["the bins and what is predicted without trees are those of the rows of 2 of 3 sites"]),
        ("xgboost", {1}, ["classes, categories, means and scales are those of 2 of 3 sites"]),
        ("xgboost", set(range(3, 99)), ["the trees of 5 of 5 rounds grew from the rows of fewer sites"]),
        ("xgboost", set(), []),
        (
            "logistic_regression",
            set(range(2, 99)),
            ["those of 2 of 3 sites", "the fit is of the rows of 2 of 3 sites; failures say why"],
        ),
        ("logistic_regression", {1}, ["classes, categories, means and scales are those of 2 of 3 sites"]),
        ("logistic_regression", {3}, []),  # it was there when the fit was found
    ],
)
def test_a_model_that_is_not_of_all_sites_says_so(
    model: str, lost: set[int], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said that it equals the pooled fit, and that there were failures."""
    usual = SimulatedRun._handle

    async def fails(self: Any, crew: Any, node: str, peer: str, message: Any, progress: Any) -> Any:
        if node == "c" and message.body.data["step"] in lost:
            raise NodeFailed("away")
        return await usual(self, crew, node, peer, message, progress)

    monkeypatch.setattr(SimulatedRun, "_handle", fails)
    frames = {}
    for seed, name in enumerate("abc"):
        x = np.random.default_rng(seed).normal(size=(60, 3))
        frames[name] = {"x": x[:, 0], "z": x[:, 1], "y": np.where(x.sum(1) > 0, "a", "b")}
    rounds = {"rounds": 5} if model == "xgboost" else {}
    result = hanse.simulate(frames).experiment(model, target="y", sample_id_column=None, **rounds).run(progress=False)
    assert result.nearness.startswith("exact")
    assert len(result.warnings) == len(said)
    for found, part in zip(result.warnings, said, strict=True):
        assert part in found
        assert part in repr(result)


MASK = [False, True, False]
WRITTEN: dict[str, tuple[Any, ColumnKind, list[float | None]]] = {
    "float32": ([np.float32(1.5), None, np.float32(2)], ColumnKind.NUMERIC, [1.5, None, 2.0]),
    "int64": (list(np.arange(3)), ColumnKind.NUMERIC, [0.0, 1.0, 2.0]),
    "bool": ([np.bool_(True), np.bool_(False), None], ColumnKind.BOOLEAN, [1.0, 0.0, None]),
    "datetime64": ([np.datetime64("1970-01-03", "ns"), np.datetime64("NaT"), None], ColumnKind.DATE, [2.0, None, None]),
    "timedelta64": ([np.timedelta64(36, "h"), None, np.timedelta64(1, "D")], ColumnKind.NUMERIC, [1.5, None, 1.0]),
    "decimal": (polars.Series(["0.5", None, "7"]).cast(polars.Decimal(9, 2)), ColumnKind.NUMERIC, [0.5, None, 7.0]),
    "NaN": ([Decimal("NaN"), Decimal(1), 2], ColumnKind.NUMERIC, [None, 1.0, 2.0]),
    "masked numbers": (np.ma.array([1, 99, 3], mask=MASK), ColumnKind.NUMERIC, [1.0, None, 3.0]),
    "masked truths": (np.ma.array([True, True, False], mask=MASK), ColumnKind.BOOLEAN, [1.0, None, 0.0]),
    "masked dates": (np.ma.array(["1970-01-02"] * 3, "datetime64[D]", mask=MASK), ColumnKind.DATE, [1.0, None, 1.0]),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_numbers_are_numbers_however_they_are_written(name: str) -> None:
    """Lists of NumPy's numbers, and decimals, were text, of which each value was a category of its own; and what was
    masked was a value. Files at a node were read as numbers."""
    values, kind, wanted = WRITTEN[name]
    column = Table.of({"x": values})["x"]
    assert column.kind is kind
    assert [None if np.isnan(v) else v for v in column.values] == wanted


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="their parts"):
        Table.of({"x": np.array([1 + 2j])})


NO_TABLES: dict[str, tuple[Any, str]] = {
    "bytes": ({"x": ["a", b"b"]}, "decode the bytes"),
    "NumPy's bytes": ({"x": np.array([b"a", b""])}, "decode the bytes"),
    "no bytes": ({"x": [b"", None]}, "decode the bytes"),
    "lists": (polars.DataFrame({"x": [[1], [2, 3]]}), "which have no kind here"),
    "dicts": ({"x": [{"a": 1}]}, "holds dict values"),
    "a plan": (polars.LazyFrame({"x": [1]}), "collect"),
    "1 and '1'": (pandas.DataFrame([[1.0, 2.0]], columns=[1, "1"]), "two columns are named '1'"),
    "1 and '1' of a mapping": ({1: [1.0], "1": [2.0]}, "two columns are named '1'"),
    "the same twice": (pandas.DataFrame([[1.0, 2.0]], columns=["x", "x"]), "two columns are named 'x'"),
}


@pytest.mark.parametrize("name", NO_TABLES)
def test_what_is_no_table_is_refused_in_words(name: str) -> None:
    """Of two columns of one name the first was lost without a word; bytes and lists were text as Python writes them,
    where a node refuses them in a file."""
    rows, said = NO_TABLES[name]
    with pytest.raises(DataError, match=said):
        Table.of(rows)


def test_a_column_without_values_takes_the_kind_it_has_elsewhere() -> None:
    sites = {
        "a": {"x": ["u", "v"] * 10, "y": [1.0, 2.0] * 10, "disease": [0, 1] * 10},
        "b": {"x": [None] * 20, "y": [None] * 20, "disease": [1, 0] * 10},
        "c": {"x": [], "y": [], "disease": []},
    }
    assert [Table.of(sites["b"])[n].kind for n in "xy"] == [ColumnKind.OPEN] * 2
    federation = hanse.simulate(sites, policy={"minimum_cell": 1})
    result = federation.experiment("logistic_regression", rounds=2, target="disease").run(progress=False)
    assert result.alignment["kinds"] == {"x": "categorical", "y": "numeric"}
    assert not result.failures
    assert federation.analytics().mean("y")["y"] == pytest.approx(1.5)
    assert federation.analytics().value_counts("x")["x"] == {"u": 10, "v": 10}


def test_a_column_without_values_anywhere_is_no_feature() -> None:
    sites = {s: {"x": [None] * 20, "y": [1.0, 2.0] * 10, "disease": [0, 1] * 10} for s in "ab"}
    result = hanse.simulate(sites).experiment("logistic_regression", rounds=1, target="disease").run(progress=False)
    assert result.alignment["features"] == ["y"]
    assert result.alignment["warnings"] == ["'x' was left out: it has no value at any site"]


def test_the_probe_touches_no_data() -> None:
    result = (
        hanse.simulate({"a": {"x": [1]}, "b": {}})
        .experiment(federated_strategy="probe", rounds=4, target="disease")
        .run(progress=False)
    )
    assert not result.metrics
    assert not result.feature_importance
    assert len(result.participation) == 2
    with pytest.raises(NotFound, match="learned no model"):
        result.model()
    assert "no evaluated round yet" not in result._repr_html_()  # there is no curve to be empty


def test_large_models_of_all_rounds_are_not_written_over_by_later_rounds_and_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The memory of sums is used again, but not that of models, or of parts of them, that somebody still has."""
    given: list[int] = []

    used_again = large_arrays.empty

    def noted(size: int, dtype: np.dtype[Any], large: int | None = None) -> Array:
        array = used_again(size, dtype, large)
        if array.nbytes >= large_arrays.LARGE_BYTES:
            given.append(array.ctypes.data)
        return array

    rng = np.random.default_rng(0)
    data = {s: {"x": rng.normal(size=40), "y": rng.normal(size=40), "z": ["a", "b"] * 20} for s in ("one", "two")}
    more = {"target": "z", "model_options": {"hidden_layer_sizes": [64, 66]}, "model": "mlp_classifier"}

    def learned() -> tuple[dict[int, str], list[bytes]]:
        models, parts = dict[int, Result](), list[Array]()

        def look(number: int, result: Result) -> dict[str, float]:
            arrays = [array for array in result.record.arrays.values() if array.ndim == 2]
            parts.append(max(arrays, key=lambda array: array.nbytes)[3:5, ::7])
            if number % 2:
                models[number] = result
            return {}

        with hanse.simulate(data) as federation:
            beside = federation.experiment(**more, rounds=4, seed=7)  # at the same time
            beside.run(wait=False)
            federation.experiment(**more, rounds=4).run(progress=False, global_evaluate=look)
            beside.wait(progress=False)
        return {number: digest(result.record) for number, result in models.items()}, [p.tobytes() for p in parts]

    monkeypatch.setattr(large_arrays, "LARGE_BYTES", 1 << 15)
    monkeypatch.setattr(large_arrays, "empty", lambda size, dtype, large=None: np.empty(size, dtype))
    fresh = learned()
    monkeypatch.setattr(large_arrays, "empty", noted)
    assert learned() == fresh
    assert len(given) >= 8
    assert len(set(given)) < len(given)  # some lie where others lay
    assert len(set(fresh[0].values())) == len(fresh[0]) >= 2


def test_a_column_of_sample_ids_that_sites_do_not_have_is_told() -> None:
    """It would be learned from under the name that it really has."""
    rows = {"age": [50.0, 60.0] * 20, "sick": ["no", "yes"] * 20}
    numbered = {**rows, "patient": [float(n) for n in range(40)]}
    given = {"model": "logistic_regression", "target": "sick", "features": ["age"]}
    with hanse.simulate({"ulm": numbered, "bonn": rows}) as federation:
        experiment = federation.experiment(**given, sample_id_column="patient")
        assert "bonn has no column 'patient' (sample_id_column)" in repr(experiment.analyze())
        with pytest.raises(ConfigError, match="no site has the column 'patients' .* did you mean 'patient'?"):
            federation.experiment(**given, sample_id_column="patients").run(progress=False)
        assert federation.experiment(**given).run(progress=False).record.data["task"]["features"] == ["age"]


@pytest.mark.parametrize(
    ("given", "labels", "says"),
    [
        ({"model_options": {"Cc": 1.0}}, "pq", "no setting 'Cc' of logistic_regression; did you mean 'C'"),
        ({"model_options": {"C": -1}}, "pq", "C of logistic_regression is -1"),
        ({"model_options": {"C": float("inf")}}, "pq", "C of logistic_regression is inf"),
        ({"model_options": {"C": float("nan")}}, "pq", "C of logistic_regression is nan"),
        ({}, "rs", "no two sites share a label of 'y'"),
    ],
)
def test_options_and_targets_that_cannot_work_are_said_at_the_proposal(
    given: dict[str, Any], labels: str, says: str
) -> None:
    x = [1.0, 2.0, 3.0, 4.0] * 5
    tables = {"a": {"x": x, "y": ["p", "q"] * 10}, "b": {"x": x, "y": list(labels) * 10}}
    with hanse.simulate(tables) as federation, pytest.raises(ConfigError, match=says):
        federation.experiment(model="logistic_regression", target="y", sample_id_column=None, **given).propose()
