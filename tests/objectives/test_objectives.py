"""Every objective: the gradients, Hessians, base scores and predictions of XGBoost, bit for bit."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xgboost

from hanse.boosting import exponential, quantiles
from hanse.boosting.objective import Objective, chosen, modules, named
from hanse.errors import ConfigError
from hanse.messages import Array
from hanse.registry import names
from hanse.task import Task

TWO = Task("binary", ("x",), ("no", "yes"))
THREE = Task("multiclass", ("x",), ("a", "b", "c"))
NUMBER, COUNTS = Task("regression", ("x",)), Task("counts", ("x",))
CASES: list[tuple[Task, dict[str, Any]]] = [
    (TWO, {"objective": "binary:logistic"}),
    (TWO, {"objective": "binary:logistic", "scale_pos_weight": 2.3}),
    (THREE, {"objective": "multi:softprob"}),
    (NUMBER, {"objective": "reg:squarederror"}),
    (COUNTS, {"objective": "count:poisson"}),
    (COUNTS, {"objective": "count:poisson", "max_delta_step": 0.3}),
    (NUMBER, {"objective": "reg:gamma"}),
    (NUMBER, {"objective": "reg:tweedie"}),
    (NUMBER, {"objective": "reg:tweedie", "tweedie_variance_power": 1.2}),
    (NUMBER, {"objective": "reg:absoluteerror"}),
    (NUMBER, {"objective": "reg:quantileerror", "quantile_alpha": 0.6}),
]
case = pytest.mark.parametrize(("task", "options"), CASES, ids=[" ".join(map(str, o.values())) for _, o in CASES])


def targets(task: Task, options: dict[str, Any], n: int, rng: np.random.Generator) -> Array:
    if task.classes:
        return np.arange(n) % len(task.classes) if n < 10 else rng.integers(0, len(task.classes), n)
    if options["objective"] in ("count:poisson", "reg:tweedie"):
        return rng.poisson(1.5, n).astype(np.float64)
    if options["objective"] == "reg:gamma":
        return rng.gamma(2.0, 3.0, n) + 0.01
    return rng.normal(3.0, 10.0, n)


def theirs(task: Task, options: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {**options, "nthread": 1, "verbosity": 0, **more}
    return {**found, "num_class": 3} if task is THREE else found


def trained(task: Task, options: dict[str, Any], y: Array, margin: Array | None, **more: Any) -> Any:
    """A booster of one round of XGBoost's own, on one feature that tells all rows apart."""
    X = np.arange(len(y), dtype=np.float32)[:, None]
    return xgboost.train(theirs(task, options, **more), xgboost.DMatrix(X, y, base_margin=margin), 1), X


ALONE = {
    "tree_method": "exact",
    "max_depth": 300,
    "eta": 1,
    "lambda": 0,
    "min_child_weight": 0,
    "gamma": 0,
}


@case
def test_gradients_and_hessians_are_xgboosts(task: Task, options: dict[str, Any]) -> None:
    """A tree without limits has leaves of one row: its cover is the row's h and its value -g / h."""
    rng = np.random.default_rng(1)
    own = chosen(task, options)
    y = targets(task, options, 300, rng)
    margin = rng.normal(0, 3, (len(y), own.outputs)).astype(np.float32)
    g, h = own.gradients(margin, y)
    booster, X = trained(task, options, y, margin if own.outputs > 1 else margin[:, 0], **ALONE)
    trees = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    leaves = booster.predict(xgboost.DMatrix(X, base_margin=margin), pred_leaf=True).reshape(len(y), -1).astype(int)
    compared = 0
    for k, tree in enumerate(trees):
        alone = np.bincount(leaves[:, k], minlength=len(tree["sum_hessian"]))[leaves[:, k]] == 1
        compared += int(alone.sum())
        assert np.array_equal(np.float32(tree["sum_hessian"])[leaves[alone, k]], h[alone, k])
        if own.quantile is None:
            step = -g[alone, k].astype(np.float64) / h[alone, k].astype(np.float64)
            most = options.get("max_delta_step", 0.7) if own.name == "count:poisson" else np.inf
            value = np.clip(step, -np.float32(most), np.float32(most)).astype(np.float32)
            assert np.array_equal(np.float32(tree["base_weights"])[leaves[alone, k]], value)
    assert compared > 15


@case
@pytest.mark.parametrize("weighted", [False, True])
def test_compiled_loops_give_the_bits_of_numpys(
    task: Task, options: dict[str, Any], weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any margins. A coordinator and a node may have either."""
    rng, own = np.random.default_rng(7), chosen(task, options)
    margin = rng.integers(0, 1 << 32, (6000, own.outputs), np.uint64).astype(np.uint32).view(np.float32)
    margin[:3000] = rng.normal(0, 9, (3000, own.outputs))
    y, weight = targets(task, options, len(margin), rng), rng.random(len(margin)) if weighted else None
    found = []
    for way in (True, False):
        for module in (exponential, named(own.name)):
            if hasattr(module, "worthwhile"):
                monkeypatch.setattr(module, "worthwhile", lambda way=way: way)
        with np.errstate(all="ignore"):
            found.append(np.stack(own.gradients(margin.copy(), y, weight)))
    none = np.isnan(found[1])
    assert (np.isnan(found[0]) == none).all()
    assert (found[0][~none].view(np.uint32) == found[1][~none].view(np.uint32)).all()


def totals(own: Objective, y: Array) -> Array:
    """What the first margin follows from."""
    if own.quantile is None:
        return np.asarray(own.begin(y).sum(0))
    sought, group = quantiles.begin(np.zeros(1)), np.zeros(len(y), np.int64)
    for _ in range(quantiles.EXCHANGES):
        sought = quantiles.narrowed(sought, quantiles.counts(quantiles.keys(y), group, sought), own.quantile)
    return quantiles.quantiles(sought, np.array([len(y)]), own.quantile)


@case
def test_the_base_score_is_xgboosts(task: Task, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    own = chosen(task, options)
    y = targets(task, options, 500, rng)
    booster, _ = trained(task, options, y, None)
    said = json.loads(bytes(booster.save_raw("json")))["learner"]["learner_model_param"]["base_score"]
    base = own.base(totals(own, y), len(y))
    assert np.allclose(base, json.loads(said), rtol=1e-6, atol=2e-6)  # theirs adds in float32
    if own.quantile is not None:
        return
    parts = [own.begin(y[:100]).sum(0), own.begin(y[100:100]).sum(0), own.begin(y[100:]).sum(0)]
    assert np.allclose(own.base(np.sum(parts, axis=0), len(y)), base, rtol=1e-7, atol=1e-7)


@case
def test_predictions_and_first_margins_are_xgboosts_to_the_last_bit(task: Task, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    own = chosen(task, options)
    for seed in range(20):
        y = targets(task, options, 50, np.random.default_rng(seed))
        base = own.base(totals(own, y), len(y))
        booster, X = trained(task, options, y, None, base_score=[float(b) for b in base], max_depth=1, eta=0)
        first = booster.predict(xgboost.DMatrix(X), output_margin=True).reshape(len(y), -1)
        assert np.array_equal(first, np.tile(own.margin(base), (len(y), 1)))
    margin = rng.normal(0, 4, (5000, own.outputs)).astype(np.float32)
    data = xgboost.DMatrix(np.zeros((5000, 1)), base_margin=margin)
    expected = xgboost.Booster(model_file=bytearray(booster.save_raw("ubj"))).predict(data)
    assert np.array_equal(own.predict(margin), expected.astype(np.float64))
    assert own.predict(margin).shape == task.shape(5000)


@case
def test_bounds_hold_and_weights_count(task: Task, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    own = chosen(task, options)
    y = targets(task, options, 2000, rng)
    margin = rng.normal(0, 20, (len(y), own.outputs)).astype(np.float32)
    g, h = own.gradients(margin, y)
    assert g.dtype == h.dtype == np.float32
    assert g.shape == h.shape == (len(y), own.outputs)
    for found, most in zip((np.abs(g), h), own.bounds(), strict=True):
        assert most is None or found.max() <= most
    assert (h > 0).all()
    twice = own.gradients(margin, y, np.full(len(y), 2.0))
    assert np.array_equal(twice[0], 2 * g)
    assert (np.array_equal(twice[1], 2 * h)) or own.name == "multi:softprob"  # its least Hessian has no weight


@case
def test_rows_can_be_none(task: Task, options: dict[str, Any]) -> None:
    own: Objective = chosen(task, options)
    y = targets(task, options, 0, np.random.default_rng(0))
    g, h = own.gradients(np.zeros((0, own.outputs), np.float32), y)
    assert g.shape == h.shape == (0, own.outputs)
    assert np.isfinite(own.margin(own.base(own.begin(y).sum(0), 0))).all()
    assert own.predict(np.zeros((0, own.outputs), np.float32)).shape == task.shape(0)
    assert own.unfit(y) == ""


def test_one_class_alone_has_a_finite_margin() -> None:
    own = chosen(TWO, {})
    for positive in (0.0, 10.0):
        assert np.isfinite(own.margin(own.base(np.array([positive]), 10))).all()
    assert np.isfinite(chosen(THREE, {}).base(np.array([10.0, 0.0, 0.0]), 10)).all()


@pytest.mark.parametrize(
    ("name", "wrong"), [("count:poisson", -1.0), ("reg:tweedie", -0.5), ("reg:gamma", 0.0), ("binary:logistic", 2)]
)
def test_targets_that_cannot_be_learned_are_said(name: str, wrong: float) -> None:
    own = chosen(TWO if name == "binary:logistic" else NUMBER, {"objective": name})
    assert own.unfit(np.array([1.0, wrong])) != ""


def test_a_task_has_its_default() -> None:
    found = {t.kind: chosen(t, {}).name for t in (TWO, THREE, NUMBER, COUNTS)}
    assert found == {
        "binary": "binary:logistic",
        "multiclass": "multi:softprob",
        "regression": "reg:squarederror",
        "counts": "count:poisson",
    }


def test_wrong_names_and_tasks_say_what_is_right() -> None:
    with pytest.raises(ConfigError, match="no objective 'binary:logistics' here; did you mean binary:logistic?"):
        chosen(TWO, {"objective": "binary:logistics"})
    with pytest.raises(ConfigError, match="reg:gamma does not learn a binary task; those that do: binary:logistic"):
        chosen(TWO, {"objective": "reg:gamma"})
    with pytest.raises(ConfigError, match="no objective is the default of a ranking task; .*: none"):
        chosen(SimpleNamespace(kind="ranking", predicts="order", outputs=1), {})  # type: ignore[arg-type]


def test_a_file_is_named_as_its_objective() -> None:
    for name in names("objectives"):
        module = named(name.replace("_", ":", 1))
        assert module.__name__ == f"hanse.objectives.{name}"


def test_an_owner_reads_the_objective_that_runs_or_all_that_may() -> None:
    assert modules({"objective": "reg:gamma"}) == ("hanse.objectives.reg_gamma",)
    assert set(modules({})) >= {"hanse.objectives.binary_logistic", "hanse.objectives.count_poisson"}
    assert "hanse.objectives.reg_gamma" not in modules({})


@case
def test_a_base_score_that_a_run_sets_is_where_xgboost_begins(task: Task, options: dict[str, Any]) -> None:
    own = chosen(task, options)
    y = targets(task, options, 20, np.random.default_rng(0))
    for value in (0.5, 0.3, 0.123456, 0.9):
        base = own.stated(value)
        assert np.allclose(base, value, rtol=5e-6)  # moved to where every library's logarithm is the same
        booster, X = trained(task, options, y, None, base_score=float(base[0]), max_depth=1, eta=0)
        first = booster.predict(xgboost.DMatrix(X), output_margin=True).reshape(len(y), -1)
        assert np.array_equal(first, np.tile(own.margin(base), (len(y), 1)))


def test_a_base_score_without_a_margin_is_refused() -> None:
    for name, wrong in (
        ("binary:logistic", 1.5),
        ("binary:logistic", 0.0),
        ("count:poisson", 0.0),
        ("reg:gamma", -1.0),
    ):
        with pytest.raises(ConfigError, match=f"base_score is {wrong}; expected a"):
            chosen(TWO if name == "binary:logistic" else NUMBER, {"objective": name}).stated(wrong)


def test_a_parameter_of_another_objective_is_not_passed_over() -> None:
    with pytest.raises(
        ConfigError, match="scale_pos_weight is a parameter of binary:logistic, and this run learns reg"
    ):
        chosen(NUMBER, {"scale_pos_weight": 2.0})
    assert chosen(NUMBER, {"scale_pos_weight": 1.0, "max_delta_step": 0.5}).name == "reg:squarederror"
