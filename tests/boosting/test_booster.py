"""A genuine Booster out of trees, which predicts the bits that the twin says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost

from hanse.boosting.booster import dumps
from hanse.boosting.objective import Objective, chosen
from hanse.boosting.trees import LEAF, Trees, join, leaf, margins, none
from hanse.errors import WireError
from hanse.messages import Array
from hanse.task import Task

FEATURES = 6
CATEGORIES = ((), (), (), (), ("a", "b", "c", "d"), tuple(f"k{i:03}" for i in range(70)))
TASKS = {
    "binary:logistic": Task("binary", ("x",) * FEATURES, ("no", "yes")),
    "multi:softprob": Task("multiclass", ("x",) * FEATURES, ("a", "b", "c")),
    **dict.fromkeys(
        ("reg:squarederror", "count:poisson", "reg:gamma", "reg:tweedie", "reg:absoluteerror", "reg:quantileerror"),
        Task("regression", ("x",) * FEATURES),
    ),
    "survival:cox": Task("survival", ("x",) * FEATURES),
}


def objective(name: str) -> Objective:
    return chosen(TASKS[name], {"objective": name})


def grown(rng: np.random.Generator, group: int, depth: int, categories: bool) -> Trees:
    """A tree with random splits, breadth first; some on categories."""
    nodes: list[dict[str, Any]] = [{"level": 0}]
    listed: list[Array] = []
    for node in nodes:
        node |= {"left": LEAF, "right": LEAF, "feature": 0, "value": rng.normal(0, 0.3), "default_left": 0, "listed": 0}
        if node["level"] < depth and rng.random() < 0.85:
            feature = int(rng.integers(FEATURES if categories else 4))
            node |= {"left": len(nodes), "right": len(nodes) + 1, "feature": feature, "value": rng.normal()}
            node["default_left"] = int(rng.random() < 0.5)
            if CATEGORIES[feature]:
                among = rng.permutation(len(CATEGORIES[feature]))[: rng.integers(1, len(CATEGORIES[feature]))]
                listed.append(np.sort(among))
                node |= {"value": 0.0, "listed": len(among)}
            nodes += [{"level": node["level"] + 1}, {"level": node["level"] + 1}]
    cover = rng.random(len(nodes)).astype(np.float32) + 1
    inner = np.array([n["left"] != LEAF for n in nodes])
    return Trees(
        size=np.int32([len(nodes)]),
        group=np.int32([group]),
        left=np.int32([n["left"] for n in nodes]),
        right=np.int32([n["right"] for n in nodes]),
        feature=np.int32([n["feature"] for n in nodes]),
        value=np.float32([n["value"] for n in nodes]),
        default_left=np.uint8([n["default_left"] for n in nodes]),
        gain=np.where(inner, rng.random(len(nodes)) * 10, 0).astype(np.float32),
        cover=cover,
        weight=np.float32([n["value"] for n in nodes]),
        listed=np.int32([n["listed"] for n in nodes]),
        categories=np.concatenate([np.zeros(0, np.int32), *listed]).astype(np.int32),
    )


def forest(seed: int, outputs: int, rounds: int = 30, categories: bool = True) -> Trees:
    rng = np.random.default_rng(seed)
    trees = [grown(rng, group, int(rng.integers(0, 7)), categories) for _ in range(rounds) for group in range(outputs)]
    return join(trees)


def data(seed: int, n: int = 700) -> Array:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, FEATURES))
    X[:, 4], X[:, 5] = rng.integers(0, 4, n), rng.integers(0, 70, n)
    X[rng.random(X.shape) < 0.15] = np.nan
    return X


def booster(raw: bytes) -> Any:
    found = xgboost.Booster({"nthread": 1})
    found.load_model(bytearray(raw))
    return found


TYPES = ["c" if c else "float" for c in CATEGORIES]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("lists", [True, False])
def test_it_predicts_the_bits_of_the_twin(name: str, lists: bool) -> None:
    own = objective(name)
    for seed in range(4):
        trees, X = forest(seed, own.outputs), data(seed)
        base = np.float32([0.37, -0.2, 0.11][: own.outputs])
        named = [f"column {i}" for i in range(FEATURES)]
        found = booster(dumps(trees, base, own.document, FEATURES, named, CATEGORIES, lists=lists))
        rows = xgboost.DMatrix(X, feature_names=named, feature_types=TYPES, enable_categorical=True)
        expected = margins(trees, own.margin(base), X)
        raw = found.predict(rows, output_margin=True).reshape(expected.shape)
        assert np.array_equal(raw, expected)
        assert np.array_equal(found.predict(rows).astype(np.float64), own.predict(expected))
        assert len(np.unique(raw)) > 100


@pytest.mark.parametrize("lists", [True, False])
def test_rounds_of_several_trees_are_told_and_of_trees_that_another_run_began(lists: bool) -> None:
    own, base, X = objective("multi:softprob"), np.float32([0.37, -0.2, 0.11]), data(0, 50)
    rows = xgboost.DMatrix(X, feature_types=TYPES, enable_categorical=True)
    for rounds, parallel, told in ((4, 2, 2), (5, 2, 5)):
        trees = forest(0, 3, rounds)
        found = booster(dumps(trees, base, own.document, FEATURES, (), CATEGORIES, lists=lists, parallel=parallel))
        assert found.num_boosted_rounds() == told + (not lists)
        raw = found.predict(rows, output_margin=True).reshape(-1, 3)
        assert np.array_equal(raw, margins(trees, own.margin(base), X))


def test_base_scores_keep_their_bits() -> None:
    own = objective("reg:squarederror")
    rows = xgboost.DMatrix(np.zeros((1, FEATURES)))
    rng = np.random.default_rng(0)
    values = [*rng.normal(0, 1e4, 300), *rng.normal(0, 1e-4, 300), *rng.random(300), 1e30, -1e-30, 0.1, 1 / 3]
    for value in np.float32(values):
        found = booster(dumps(none(), np.array([value]), own.document, FEATURES))
        assert found.predict(rows, output_margin=True)[0] == value
    many = objective("multi:softprob")
    for three in rng.normal(0, 2, (100, 3)).astype(np.float32):
        found = booster(dumps(none(), three, many.document, FEATURES))
        assert np.array_equal(found.predict(rows, output_margin=True)[0], three)


def test_frames_with_other_categories_are_read_by_name() -> None:
    """Fewer of them, and in another order, than the model knows."""
    own, trees = objective("binary:logistic"), forest(3, 1)
    named = [f"x{i}" for i in range(FEATURES)]
    found = booster(dumps(trees, np.float32([0.4]), own.document, FEATURES, named, CATEGORIES))
    X = data(9)
    X[X[:, 4] == 2, 4] = np.nan  # no "c" in the frame
    columns: dict[str, Any] = {name: X[:, i] for i, name in enumerate(named)}
    for i, order in ((4, ["d", "a", "b"]), (5, list(CATEGORIES[5])[::-1])):
        values = [None if np.isnan(v) else CATEGORIES[i][int(v)] for v in X[:, i]]
        columns[named[i]] = pd.Categorical(values, categories=order)
    rows = xgboost.DMatrix(pd.DataFrame(columns), enable_categorical=True)
    assert np.array_equal(
        found.predict(rows, output_margin=True), margins(trees, own.margin(np.float32([0.4])), X)[:, 0]
    )


def test_categories_outside_ascii_are_kept_as_they_are() -> None:
    """Saved again by XGBoost, the container is the one that was written."""
    own = objective("binary:logistic")
    some = (("Ä", "a", "ñandú", "zz"),)
    tree = replace(leaf(0, 0.1), feature=np.int32([0]))
    found = booster(dumps(tree, np.float32([0.4]), own.document, 1, ["x"], some))
    kept = json.loads(bytes(found.save_raw("json")))["learner"]["gradient_booster"]["model"]["cats"]
    raw = np.array(kept["enc"][0]["values"], np.int8).tobytes()
    edges = kept["enc"][0]["offsets"]
    assert [raw[a:b].decode() for a, b in zip(edges[:-1], edges[1:], strict=True)] == list(some[0])
    assert kept["sorted_idx"] == [0, 2, 1, 3]  # XGBoost compares signed bytes, and those of "Ä" and "ñ" are negative
    assert kept["feature_segments"] == [0, 4]


def test_names_and_attributes_are_given() -> None:
    own = objective("binary:logistic")
    named = ["age", "größe", "c", "d", "e", "f"]
    found = booster(
        dumps(forest(1, 1), np.float32([0.5]), own.document, FEATURES, named, CATEGORIES, {"classes": '["n"]'})
    )
    assert found.feature_names == named
    assert found.feature_types == TYPES
    assert found.attributes() == {"classes": '["n"]'}
    assert found.num_boosted_rounds() == 30
    assert json.loads(found.save_config())["learner"]["objective"]["name"] == "binary:logistic"


def test_it_can_be_trained_on_saved_and_cut() -> None:
    """As any booster: more rounds of XGBoost's own, a copy through its files, the first rounds alone."""
    own, trees = objective("binary:logistic"), forest(5, 1, categories=False)
    raw = dumps(trees, np.float32([0.4]), own.document, FEATURES)
    X, y = data(2), np.random.default_rng(1).integers(0, 2, 700)
    more = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(X, y), 3, xgb_model=booster(raw))
    assert more.num_boosted_rounds() == 33
    rows = xgboost.DMatrix(X)
    start = own.margin(np.float32([0.4]))
    assert np.array_equal(more[:30].predict(rows, output_margin=True), margins(trees, start, X)[:, 0])
    assert np.array_equal(booster(raw)[:7].predict(rows, output_margin=True), margins(trees.some(0, 7), start, X)[:, 0])
    again = xgboost.Booster(model_file=bytearray(booster(raw).save_raw("json")))
    assert np.array_equal(again.predict(rows), booster(raw).predict(rows))


def test_what_is_no_tree_is_not_handed_to_a_library() -> None:
    own = objective("binary:logistic")
    bad = replace(leaf(0, 1.0), left=np.int32([0]), right=np.int32([0]))
    with pytest.raises(WireError, match="the trees of the model are not usable: a child does not stand after"):
        dumps(bad, np.float32([0.5]), own.document, 1)
