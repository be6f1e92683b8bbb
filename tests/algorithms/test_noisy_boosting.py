"""Boosted trees with noised leaves: what a row can change, that splits follow from no rows, and that they learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import hanse
from hanse.algorithms.noisy_boosting import drawn, leaf_sums
from hanse.boosting.trees import Trees, fault, join, margins
from hanse.errors import ConfigError
from hanse.learning.rows import Described
from hanse.registry import find
from hanse.table import ColumnKind
from tests.examples import examples

COLUMNS = (
    Described("a", ColumnKind.NUMERIC, missing=True),
    Described("kind", ColumnKind.CATEGORICAL, ("p", "q", "r")),
    Described("b", ColumnKind.NUMERIC),
    Described("yes", ColumnKind.BOOLEAN),
)
RANGES = {"ranges": {"a": [0, 10], "*": [-3, 3]}}


def trees(depth: int, outputs: int, seed: int) -> Trees:
    rng = np.random.default_rng(seed)
    return join([drawn(COLUMNS, RANGES, depth, k, rng) for k in range(outputs)])


@examples(20)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_one_row_changes_all_sums_together_by_at_most_the_bound(
    depth: int, outputs: int, seed: int, bound: float
) -> None:
    rng, grown = np.random.default_rng(seed), trees(depth, outputs, seed)
    assert fault(grown, len(COLUMNS), outputs) == ""
    X = np.column_stack([rng.uniform(0, 10, 30), rng.integers(-1, 3, 30), rng.normal(size=30), rng.integers(0, 2, 30)])
    X[rng.random(30) < 0.2, 0] = np.nan
    g, h = rng.normal(size=(30, outputs)) * 30, rng.uniform(size=(30, outputs))
    with_it, without = (leaf_sums(grown, X[:n], g[:n], h[:n], bound) for n in (30, 29))
    assert with_it.shape == (outputs, 2**depth, 2)
    assert np.linalg.norm(with_it - without) <= bound * (1 + 1e-9) + 1e-12 * np.linalg.norm(with_it)
    whole = leaf_sums(grown, X, g, h, 1e9)
    np.testing.assert_allclose(whole.sum(1), np.stack([g.sum(0), h.sum(0)], 1), rtol=1e-9)  # every row is in one leaf
    person = leaf_sums(grown, X, g, h, bound, np.full(30, 1 / 30))  # all rows are one person's
    assert np.linalg.norm(person) <= bound * (1 + 1e-9)


def test_a_row_comes_to_the_leaf_that_predicts_it() -> None:
    grown = trees(3, 1, 5)
    X = np.column_stack([np.linspace(0, 10, 40), np.arange(40) % 3, np.linspace(-3, 3, 40), np.arange(40) % 2])
    for row in X:
        [leaf] = np.flatnonzero(leaf_sums(grown, row[None], np.ones((1, 1)), np.ones((1, 1)), 9.0)[0, :, 1])
        marked = np.where(grown.left < 0, np.cumsum(grown.left < 0) - 1, grown.value).astype(np.float32)
        told = Trees(**{**{n: getattr(grown, n) for n in Trees.__dataclass_fields__}, "value": marked})
        assert margins(told, np.zeros(1, np.float32), row[None])[0, 0] == leaf


def test_a_row_that_is_no_number_is_in_no_sum() -> None:
    X, g = np.zeros((2, 4)), np.array([[1.0], [np.inf]])
    assert leaf_sums(trees(2, 1, 0), X, g, np.ones((2, 1)), 9.0)[0].sum(0).tolist() == [1.0, 1.0]


def table(rows: int, seed: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    X, kind = rng.normal(size=(rows, 3)), rng.choice(["p", "q", "r"], rows)
    score = X @ np.array([1.0, -0.7, 0.5]) + np.where(kind == "p", 0.8, -0.4)
    y = np.where(rng.random(rows) < 1 / (1 + np.exp(-score)), "yes", "no")
    three = np.array(["low", "middle", "high"])[np.digitize(score + rng.normal(size=rows) / 2, [-0.7, 0.7])]
    return {**{f"x{i}": X[:, i] for i in range(3)}, "kind": kind, "y": y, "three": three, "cost": score}


def learn(target: str = "y", rows: int = 300, seed: int = 3, **more: Any) -> Any:
    whole = table(4 * rows, seed)
    sites = {f"s{k}": {n: v[k * rows : (k + 1) * rows] for n, v in whole.items()} for k in range(4)}
    privacy = {"ranges": {"*": [-3, 3]}, **more.pop("privacy", {})}
    asked = {"features": ["x0", "x1", "x2", "kind"], "federated_strategy": "noisy_boosting", "rounds": 20, **more}
    return hanse.simulate(sites).experiment("xgboost", target=target, privacy=privacy, **asked).run(progress=False)


def test_four_hospitals_of_300_rows_learn_in_secure_sums_with_epsilon_4() -> None:
    held_out, whole, names = table(4000, 4), table(1200), ["x0", "x1", "x2"]
    pooled = LogisticRegression().fit(np.column_stack([whole[n] for n in names]), whole["y"])
    scores = pooled.predict_proba(np.column_stack([held_out[n] for n in names]))[:, 1]
    best = roc_auc_score(held_out["y"] == "yes", scores)
    found = learn(gathering="secure", privacy={"mode": "distributed", "epsilon": 4.0})
    assert found.evaluate(held_out)["auc"] > best - 0.12
    assert (found.privacy.unit, found.privacy.releases, found.privacy.mode) == ("row", 20, "distributed")
    assert not any(p["metrics"] for step in found.rounds for p in step.participants.values())


QUIET = {"epsilon": 1000.0, "delta": 0.09, "clip": 4.0}


def arrays(found: Any) -> Trees:
    own = {n.removeprefix("model."): a for n, a in found.record.arrays.items() if n.startswith("model.")}
    own.pop("base")
    return Trees(**own)


def test_splits_follow_from_the_seed_and_the_ranges_and_from_no_rows() -> None:
    one, other = (arrays(learn(seed=seed, rows=60, rounds=3)) for seed in (3, 8))
    for name in ("feature", "left", "right", "listed", "categories", "default_left"):
        assert (getattr(one, name) == getattr(other, name)).all()
    inner = one.left >= 0
    assert (one.value[inner] == other.value[inner]).all()
    assert (one.value[~inner] != other.value[~inner]).any()


def test_with_hardly_any_noise_leaves_are_newtons_steps_of_the_pooled_rows() -> None:
    found, whole = learn(privacy=QUIET, rounds=2, model_options={"learning_rate": 0.5}), table(1200)
    grown, design = arrays(found), found.predictor().design(whole)
    y, margin, steps = (whole["y"] == "yes").astype(float), np.zeros(1200), 0
    noise = found.privacy.multiplier * 4.0 * 4**0.5  # of all four sites together
    for k in range(2):
        tree = grown.some(k, k + 1)
        p = 1 / (1 + np.exp(-margin))
        sums = leaf_sums(tree, design, (p - y)[:, None], (p * (1 - p))[:, None], 4.0)[0]
        expected = -0.5 * sums[:, 0] * sums[:, 1] / (sums[:, 1] ** 2 + sums[:, 1] + noise**2)
        full = sums[:, 1] > 20 * noise
        steps += int(full.sum())
        np.testing.assert_allclose(tree.value[tree.left < 0][full], expected[full], atol=0.25)
        margin += margins(tree, np.zeros(1, np.float32), design)[:, 0]
    assert steps >= 4


def test_the_booster_of_xgboost_predicts_the_same() -> None:
    xgboost = pytest.importorskip("xgboost")
    held_out = table(300, 4)
    for target in ("y", "three"):
        found = learn(target, rows=80, rounds=4, privacy={"epsilon": 50.0})
        predictor = found.predictor()
        design = predictor.design(held_out)
        booster = find("models", "xgboost").native(found.record)
        matrix = xgboost.DMatrix(
            design, feature_names=booster.feature_names, feature_types=booster.feature_types, enable_categorical=True
        )
        own = predictor.predict_proba(held_out)
        told = booster.predict(matrix)
        np.testing.assert_allclose(own if target == "three" else own[:, 1], told, rtol=1e-5, atol=1e-6)


def test_numbers_are_learned_about_the_middle_of_their_range() -> None:
    found = learn(
        "cost", privacy={"epsilon": 50.0, "clip": 3.0}, rounds=30, model_options={"objective": "reg:squarederror"}
    )
    assert found.evaluate(table(1000, 4))["r2"] > 0.15


def test_what_it_cannot_do_is_refused() -> None:
    two = {"a": table(60), "b": table(60, 5)}
    with pytest.raises(ConfigError, match="noisy_boosting is for runs with differential privacy"):
        hanse.simulate(two).experiment("xgboost", target="y", federated_strategy="noisy_boosting").run(progress=False)
    for options in ({"subsample": 0.5}, {"num_parallel_tree": 2}):
        with pytest.raises(Exception, match="leave num_parallel_tree and subsample out"):
            learn(rows=60, rounds=1, model_options=options)
    begun = learn(rows=60, rounds=1)
    with pytest.raises(ConfigError, match="noisy_boosting does not go on from a model"):
        learn(rows=60, rounds=1, initial_model=begun)
    with pytest.raises(ConfigError, match="'x0' has no range"):
        learn(rows=60, privacy={"ranges": {"x1": [0, 1]}})
