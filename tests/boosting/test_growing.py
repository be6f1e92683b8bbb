"""Trees grown from sums: those of XGBoost, where the bins are the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import xgboost

from hanse.boosting import compiled, growing, packed, scales, splits, workspace
from hanse.boosting.binning import Binning
from hanse.boosting.constraints import Constraints
from hanse.boosting.growing import Rules, Shape, Splits
from hanse.boosting.histograms import best_of_pairs
from hanse.boosting.objective import chosen
from hanse.boosting.packed import Sums
from hanse.boosting.splits import Penalty
from hanse.boosting.trees import Trees, fault, join, margins, none
from hanse.boosting.workspace import Workspace
from hanse.errors import DataError
from hanse.task import Task
from tests.combinations import every_other

Matrix = np.ndarray[Any, Any]


def data(n: int, seed: int) -> tuple[Matrix, Matrix]:
    """Numbers of at most 255 different values, so that everybody has the same bins; some are missing."""
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(n, 5)) * 8) / 8
    X[:, 1] = rng.integers(0, 50, n)
    X[rng.random((n, 5)) < 0.1] = np.nan
    score = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 1]) / 20 * np.nan_to_num(X[:, 2]) + rng.normal(size=n)
    return X, score


def boost(
    X: Matrix,
    y: Matrix,
    task: Task,
    rounds: int,
    rules: Rules,
    categories: Matrix | None = None,
    coarser: int = 0,
    told: Callable[[Matrix], Sums] = Sums.of,
) -> tuple[Trees, Matrix]:
    """Boosting in one place: the loop of the algorithm without its exchanges, in units so many bits coarser."""
    objective = chosen(task, {})
    edges = [np.unique(column[~np.isnan(column)]).astype(np.float32)[1:] for column in X.T]
    bins, rows = Binning.of(edges, categories), np.arange(len(X), dtype=np.int32)
    base = objective.base(objective.begin(y).sum(0), len(y))
    work, grown = Workspace(lambda: [X], len(X), bins, objective.margin(base)), none()
    for round in range(rounds):
        both = np.stack(objective.gradients(work.margins, y), axis=2)
        units = scales.settled(scales.magnitudes(both.reshape(len(y), -1))).reshape(-1, 2) + coarser
        pairs = scales.whole(both, units).astype(np.int32)
        work.begin(objective.outputs, [rows] * objective.outputs)
        work.pairs[:] = pairs.transpose(1, 0, 2)
        now, worth = growing.roots(objective.outputs, bins), np.ldexp(1.0, units)
        while not now.done:
            work.split(now.splits, "")
            now = growing.grown(now, told(work.histograms(now.built)), worth, bins, rules, round)
        trees, home = growing.finished(now, worth, bins, rules)
        work.split(now.splits, "")
        work.add_leaves(trees.value[home])
        grown = join([grown, trees])
    assert (margins(grown, objective.margin(base), X) == work.margins).all()
    return grown, work.margins


SHAPES: list[dict[str, Any]] = [
    {"max_depth": 4},
    {"max_depth": 0, "max_leaves": 12, "grow_policy": "lossguide"},
    {"max_depth": 3, "max_leaves": 20, "grow_policy": "lossguide"},
    {"max_depth": 5, "max_leaves": 12},
    {"max_depth": 1},
]
PENALTIES = [
    {},
    {"reg_alpha": 0.5, "gamma": 1.0},
    {"min_child_weight": 20.0, "reg_lambda": 3.0},
    {"max_delta_step": 0.3, "reg_alpha": 0.1},
]


@pytest.mark.parametrize(
    ("kind", "shape", "penalty"), every_other(["binary", "regression", "multiclass"], SHAPES, PENALTIES)
)
def test_trees_are_those_of_xgboost(kind: str, shape: dict[str, Any], penalty: dict[str, float]) -> None:
    X, score = data(3000, 1)
    y = {"binary": (score > 0).astype(int), "regression": score, "multiclass": np.digitize(score, [-1, 1])}[kind]
    classes = {"binary": ("a", "b"), "regression": (), "multiclass": ("a", "b", "c")}[kind]
    task = Task(kind, tuple("vwxyz"), classes)
    grown, found = boost(X, y, task, 5, Rules(Penalty(**penalty), Shape(**shape)))
    options: dict[str, Any] = {"objective": chosen(task, {}).name, "tree_method": "hist", "nthread": 1}
    options |= {"num_class": 3} if kind == "multiclass" else {}
    booster = xgboost.train({**options, **shape, **penalty}, xgboost.DMatrix(X, y), 5)
    theirs = booster.predict(xgboost.DMatrix(X), output_margin=True).reshape(found.shape)
    apart = np.abs(theirs - found) >= 2e-5
    # where weights are bounded, gains are often equal but for rounding, which is float32 there
    assert apart.mean() <= (0.05 if "max_delta_step" in penalty else 0)
    assert abs(len(booster.trees_to_dataframe()) - int(grown.size.sum())) <= 8 * int(apart.any())


def _as_one_number(sums: Matrix) -> Sums:
    """But for some bins that are told apart, in whose place stands what counts for nothing."""
    apart = np.array([1, 7, sums.shape[1] - 1], np.int32)
    bins = packed.packed(sums)
    bins[:, apart] = -1
    return Sums.of(bins, np.ascontiguousarray(sums[:, apart]), apart)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loops_that_come_while_a_tree_grows_go_on_with_what_numpy_left(
    shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are loaded beside, and numpy lays sums out in another way: also where the search finds them there that the
    level before it did not; and no loop is compiled again for that, as all nodes would wait for it."""
    for call in compiled._first:
        call()
    loop: Any = best_of_pairs._made
    known = len(loop.signatures)
    X, score = data(1000, 7)
    y, task, found = (score > 0).astype(int), Task("binary", tuple("vwxyz"), ("a", "b")), []
    for there in ([False], [False, False, True, True, False], [True, False, False]):
        turns = itertools.cycle(there)
        monkeypatch.setattr(splits, "worthwhile", lambda numbers, turns=turns: next(turns))
        found.append(boost(X, y, task, 3, Rules(Penalty(), Shape(**shape)))[0])
    for other in found[1:]:
        assert all(np.array_equal(getattr(found[0], f.name), getattr(other, f.name)) for f in fields(Trees))
    assert len(loop.signatures) == known


@pytest.mark.parametrize("way", [Sums.of, _as_one_number])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_compiled_loop_grows_what_numpy_grows(
    shape: dict[str, Any], way: Callable[[Matrix], Sums], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of sums that come as two numbers a bin or as one, whatever of them is kept for the nodes below."""
    X, score = data(1000, 6)
    y, task, found = np.digitize(score, [-1, 1]), Task("multiclass", tuple("vwxyz"), ("a", "b", "c")), []
    for quick in (False, True):
        monkeypatch.setattr(splits, "worthwhile", lambda numbers, quick=quick: quick)
        rules = Rules(Penalty(gamma=0.5), Shape(**shape), Constraints(bynode=0.8), parallel=1)
        found.append(boost(X, y, task, 3, rules, coarser=18, told=way))
    (plain, margins_of_plain), (fast, margins_of_fast) = found
    assert (margins_of_plain == margins_of_fast).all()
    assert all(np.array_equal(getattr(plain, f.name), getattr(fast, f.name)) for f in fields(Trees))
    assert plain.size.sum() > 9


@pytest.mark.parametrize("quick", [False, True])
def test_sums_that_cannot_be_those_of_rows_grow_nothing(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody sees what single sites send, it is the sum of all that is looked at."""
    monkeypatch.setattr(splits, "worthwhile", lambda numbers: quick)
    bins, worth = Binning.of([np.float32([0, 1]), np.float32([0])]), np.ones((1, 2))
    sums, rules = np.array([[[-9, 20], [2, 9], [9, 20], [0, 0], [-9, 20], [11, 29], [0, 0]]]), Rules()
    begun = growing.roots(1, bins)
    with pytest.raises(splits.Impossible, match="do not add up"):
        growing.grown(begun, Sums.of(sums + np.eye(7, dtype=np.int64)[:1, :, None]), worth, bins, rules, 0)
    now = growing.grown(begun, Sums.of(sums), worth, bins, rules, 0)
    assert len(now.held) == len(now.built) == 1
    growing.grown(now, Sums.of(sums), worth, bins, rules, 0)
    with pytest.raises(splits.Impossible, match="more than those above"):
        growing.grown(now, Sums.of(sums * 2), worth, bins, rules, 0)


def test_a_row_alone_gives_a_leaf() -> None:
    grown, _ = boost(np.array([[1.0]]), np.array([3.0]), Task("regression", ("v",)), 2, Rules())
    assert grown.size.tolist() == [1, 1]


def test_trees_are_the_same_whether_bins_are_held_by_column_too(monkeypatch: pytest.MonkeyPatch) -> None:
    X, score = data(1000, 4)
    found = []
    for limit in (0, 1 << 20):
        monkeypatch.setattr(workspace, "_BY_COLUMN", limit)
        work = Workspace(lambda: [X], len(X), Binning.of([np.float32([0])] * 5), np.float32([0]))
        assert (work.by_column is work.binned) == (limit == 0)
        found.append(boost(X, score, Task("regression", tuple("vwxyz")), 3, Rules())[1])
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("task", [Task("regression", tuple("vwxyz")), Task("multiclass", tuple("vwxyz"), tuple("abc"))])
def test_trees_are_the_same_however_many_threads_part_their_rows(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    X, score = data(1000, 4)
    y = score if task.kind == "regression" else (np.arange(1000) % 3)
    found = [boost(X, y, task, 2, Rules())[1]]
    monkeypatch.setattr(workspace, "_PARTED", 0)
    monkeypatch.setattr(workspace, "_LEAST_ROWS", 8)
    for where in (workspace, compiled):
        monkeypatch.setattr(where, "threads", lambda: 3)
    found.append(boost(X, y, task, 2, Rules())[1])
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("parted", [0, 1 << 18])
@pytest.mark.parametrize("wrong", [{"node": 1}, {"node": 7}, {"node": -1}, {"left": 2}, {"left": -1}, {"feature": 5}])
def test_what_cannot_be_split_is_refused_and_its_rows_are_lost(
    wrong: dict[str, int], parted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that they are made anew before anything is said of them."""
    monkeypatch.setattr(workspace, "_PARTED", parted)
    work = Workspace(lambda: [np.zeros((9, 5))], 9, Binning.of([np.float32([0])] * 5), np.float32([0]))
    work.begin(1, [np.arange(9, dtype=np.int32)])
    work.grown = "root"
    split = {"node": 0, "left": 1, "feature": 0, "bin": 0} | wrong
    of = Splits(*(np.array([n], np.int32) for n in split.values()), np.zeros(1, np.uint8), np.zeros((1, 0), np.uint8))
    with pytest.raises(DataError, match="asked to split"):
        work.split(of, "below")
    assert work.grown == ""
    for node in (1, 3, -1):
        with pytest.raises(DataError, match="no rows here"):
            work.histograms(np.array([node]))


def test_opening_nodes_ahead_of_the_policy_changes_no_tree() -> None:
    """One leaf at a time, by a limit that lets no node be opened ahead: the tree is the beginning of the larger one."""
    X, score = data(1000, 2)
    task = Task("regression", tuple("vwxyz"))
    trees = {n: boost(X, score, task, 1, Rules(shape=Shape(0, n, "lossguide")))[0] for n in range(2, 12)}
    gains = {n: sorted(t.gain[t.left >= 0].tolist(), reverse=True) for n, t in trees.items()}
    for n in range(2, 11):
        assert len(gains[n]) == n - 1
        assert not [g for g in gains[n] if g not in gains[n + 1]]


LIMITS = {
    "rising": (Constraints(monotone=np.int8([1, 0, 0, 0, 0])), {"monotone_constraints": "(1,0,0,0,0)"}),
    "mixed": (Constraints(monotone=np.int8([-1, 1, 0, 0, 1])), {"monotone_constraints": "(-1,1,0,0,1)"}),
    "groups": (
        Constraints(together=np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]], bool)),
        {"interaction_constraints": "[[0, 1], [1, 2], [3, 4]]"},
    ),
}


@pytest.mark.parametrize(
    "shape", [{"max_depth": 5}, {"max_depth": 0, "max_leaves": 16, "grow_policy": "lossguide"}], ids=str
)
@pytest.mark.parametrize("name", LIMITS)
def test_constraints_are_those_of_xgboost(name: str, shape: dict[str, Any]) -> None:
    constraints, theirs = LIMITS[name]
    X, score = data(3000, 5)
    task = Task("regression", tuple("vwxyz"))
    _, found = boost(X, score, task, 4, Rules(shape=Shape(**shape), constraints=constraints))
    options = {"objective": "reg:squarederror", "tree_method": "hist", "nthread": 1, **theirs, **shape}
    booster = xgboost.train(options, xgboost.DMatrix(X, score), 4)
    assert np.abs(booster.predict(xgboost.DMatrix(X)) - found[:, 0]).max() < 2e-5


@pytest.mark.parametrize("signs", [[1, -1, 0, 0, 0], [-1, 1, 1, 0, -1]], ids=str)
def test_monotone_columns_with_missing_values_are_those_of_xgboost(signs: list[int]) -> None:
    """A split of missing values from given ones says nothing of the direction: it was refused one way round."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X, score = data(1000, seed)
        X[rng.random(X.shape) < 0.2] = np.nan
        score = score + 1.5 * np.isnan(X[:, 0]) - 2 * np.isnan(X[:, 1])
        rules = Rules(shape=Shape(max_depth=5), constraints=Constraints(monotone=np.int8(signs)))
        _, found = boost(X, score, Task("regression", tuple("vwxyz")), 4, rules)
        options = {"tree_method": "hist", "max_depth": 5, "monotone_constraints": str(tuple(signs)), "nthread": 1}
        booster = xgboost.train(options, xgboost.DMatrix(X, score), 4)
        assert np.abs(booster.predict(xgboost.DMatrix(X)) - found[:, 0]).max() < 2e-5


def test_columns_are_drawn_by_seed_round_and_way_alone() -> None:
    constraints = Constraints(bytree=0.6, bylevel=0.7, bynode=0.5, seed=3)
    ways = [[], [(0, 0)], [(0, 1)], [(4, 1), (2, 0)]]
    drawn = [constraints.allowed(20, 1, 0, way) for way in ways]
    assert [int(own.sum()) for own in drawn] == [4, 4, 4, 4]
    assert all((a == constraints.allowed(20, 1, 0, way)).all() for a, way in zip(drawn, ways, strict=True))
    assert len({own.tobytes() for own in drawn}) == 4
    tree = Constraints(bytree=0.6, seed=3).allowed(20, 1, 0, [])
    assert not [own for own in drawn if (own & ~tree).any()]
    assert (tree != Constraints(bytree=0.6, seed=3).allowed(20, 2, 0, [])).any()


@pytest.mark.parametrize(
    "penalty", [{}, {"max_cat_threshold": 4}, {"max_cat_to_onehot": 100}, {"min_child_weight": 40}], ids=str
)
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_splits_of_categories_are_those_of_xgboost(kind: str, penalty: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    n, many = 3000, np.array([3, 12, 40, 0])
    codes = np.column_stack([rng.integers(0, k, n) for k in many[:3]] + [np.round(rng.normal(size=n), 1)]).astype(float)
    effects = [rng.normal(size=k) for k in many[:3]]
    score = sum(own[codes[:, i].astype(int)] for i, own in enumerate(effects)) + codes[:, 3] + rng.normal(size=n)
    codes[rng.random((n, 4)) < 0.05] = np.nan
    y = score if kind == "regression" else (score > 0).astype(int)
    task = Task(kind, tuple("abcd"), ("no", "yes") if kind == "binary" else ())
    rules = Rules(Penalty(**penalty), Shape(max_depth=4))
    grown, found = boost(codes, y, task, 4, rules, many)
    assert fault(grown, 4, 1) == ""
    assert grown.listed.any()
    options = {"objective": chosen(task, {}).name, "tree_method": "hist", "nthread": 1, "max_depth": 4, **penalty}
    types = ["c", "c", "c", "float"]
    data = xgboost.DMatrix(codes, y, feature_types=types, enable_categorical=True)
    booster = xgboost.train(options, data, 4)
    theirs = booster.predict(data, output_margin=True)
    assert (np.abs(theirs - found[:, 0]) > 2e-5).mean() <= 0.01
