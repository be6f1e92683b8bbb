"""One of four nodes does not tell the truth. The others' run goes on, and nothing that is none gets into a record."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from hanse import algorithms, features
from hanse.answers import Answerer
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.errors import HanseError, Unusable, WireError
from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Combine, State
from hanse.messages import Message, Record, dump, dumps, load, loads
from hanse.registry import find
from hanse.rounds import Forgetful, Loop, Step
from hanse.task import Task
from hanse.training import Training
from hanse.transport import Progress
from hanse.transports.local import LocalTransport
from tests.algorithms.drive import shares, toy
from tests.combinations import every_other
from tests.waiting import PATIENCE

Json = Any
Lie = Callable[[str, Record], Record]  # (label of the step, honest reply) -> what is sent
LIAR = "site-3"
KINDS: dict[str, dict[str, Json]] = {
    "average": {"model_name": "logistic_regression", "federated_strategy": "fedavg"},
    "boosting": {"model_name": "xgboost_bagging", "model_options": {"max_depth": 2}},
    "forest": {"model_name": "random_forest", "model_options": {"n_estimators": 8}},
    "numbers": {"model_name": "sgd_regressor", "task_type": "regression"},
}


class Strict(Forgetful):
    """Writes and reads everything, as a store does."""

    async def step(self, record: Step, state: State, keep: bool) -> None:
        loads(dumps(asdict(record)))
        load(dump(state))
        await super().step(record, state, keep)


def learn(kind: str, lie: Lie, liars: Collection[str] = (LIAR,)) -> Strict:
    """A run in which the liars lie."""
    target = "regression" if kind == "numbers" else "binary"
    tables = shares(toy(200, target), 50, 50, 50, 50)
    given = {"target_column": "y", "sample_id_column": None, "num_rounds": 2, "max_failed_rounds": 0, **KINDS[kind]}
    config = algorithms.settled(RunConfig.parse(given))
    alignment = features.align({n: t.schema() for n, t in tables.items()}, "intersection", targets=["y"])
    bundle = freeze(config, alignment.to_json(), {})

    def handler(node: str) -> Any:
        answerer = Answerer(node, lambda content: tables[node])

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            reply = answerer.answer(message.body, bundle.content, progress)
            if node in liars:
                ask = message.body.data["ask"]
                reply = lie(str(ask.get("of", ask).get("phase", "prepare")), reply)
            return Message("reply", message.id, node, reply)

        return handle

    journal = Strict()
    # "references", so that what could not even be read as a message reaches the algorithm as well
    run = Loop(
        algorithms.build(config),
        config,
        sorted(tables),
        LocalTransport({n: handler(n) for n in tables}),
        journal,
        bundle=bundle.sha256,
        rows={n: float(t.rows) for n, t in tables.items()},
    )
    run.algorithm.result(asyncio.run(run.go()))
    return journal


def data(**changes: Json) -> Lie:
    return lambda label, reply: Record({**reply.data, **changes}, reply.arrays)


def each_array(change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Lie:
    return lambda label, reply: Record(reply.data, {n: change(np.array(reply.arrays[n])) for n in reply.arrays})


def filled(value: float) -> Lie:
    def change(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.full_like(array, value) if array.dtype.kind == "f" else array

    return each_array(change)


MALFORMED: dict[str, Lie] = {
    "a weight that is NaN": data(weight=float("nan")),
    "a negative weight": data(weight=-1.0),
    "a weight of 300 digits": data(weight=10**300),
    "a weight beyond all numbers": data(weight=10**400),
    "a weight that is text": data(weight="many"),
    "no weight": lambda label, reply: Record({k: v for k, v in reply.data.items() if k != "weight"}, reply.arrays),
    "100 000 metrics": data(metrics={f"m{i}": 1.0 for i in range(100_000)}),
    "metrics that are objects": data(metrics={"loss": {"a": [1]}}),
    "metrics that are text": data(metrics={"loss": "<script>alert(1)</script>"}),
    "names of metrics that steer a terminal": data(metrics={"\x1b[2J": 1.0}),
    "data that is a list": data(data=[1, 2]),
    "arrays of NaN": filled(float("nan")),
    "arrays of infinity": filled(float("inf")),
    "arrays of another shape": each_array(lambda a: np.zeros((*a.shape, 2), a.dtype)),
    "empty arrays": each_array(lambda a: a[:0]),
    "arrays of another type": each_array(lambda a: np.zeros(a.shape, np.int16)),
    "no arrays": lambda label, reply: Record(reply.data, {}),
    "arrays of other names": lambda label, reply: Record(reply.data, {f"a.x{i}": np.zeros(3) for i in range(10)}),
}


@pytest.mark.parametrize(("what", "kind"), every_other(MALFORMED, KINDS))
def test_a_node_that_sends_what_is_no_contribution_is_left_out(kind: str, what: str) -> None:
    if what in ("arrays of NaN", "arrays of infinity") and kind in ("boosting", "forest"):
        pytest.skip("covered with the trees below: their sums are honest numbers here")
    journal = learn(kind, MALFORMED[what])
    assert [s.status for s in journal.steps] == ["ok"] * len(journal.steps)
    trained = [s for s in journal.steps if s.label == "train"]
    assert trained
    for step in trained:
        assert set(step.participants) == {"site-0", "site-1", "site-2"}, (what, step.failures)
        assert LIAR in step.failures


@pytest.mark.parametrize(("liar", "kind"), every_other(["site-0", "site-1", "site-2", "site-3"], KINDS))
def test_two_that_lie_alike_are_no_match_for_what_was_asked_for(kind: str, liar: str) -> None:
    """Wherever the liars stand in the order, and though they are as many as the honest ones, or more: the
    coordinator knows what it asked for."""
    liars = {liar, "site-3", "site-2"}

    def lie(label: str, reply: Record) -> Record:
        if label == "prepare" and not reply.arrays:
            return reply
        return Record(reply.data, {n: np.zeros((*reply.arrays[n].shape, 1)) for n in reply.arrays})

    for step in learn(kind, lie, liars).steps[1:]:
        assert set(step.failures) == liars & set(step.asked)  # one left out of a sum is not asked for its squares
        assert all("were asked for" in reason or "its trees" in reason for reason in step.failures.values())


def test_where_nobody_can_know_who_is_right_nobody_is_used() -> None:
    """Only the nodes know how a model of a library looks that the coordinator does not have."""

    def said(node: str, shape: tuple[int, ...]) -> tuple[Answer, Record]:
        return Answer(node, 1.0, {}, {}, 0), Record({}, {"a.w": np.ones(shape)})

    tie = Contributions((said("a", (2,)), said("b", (3,))), {}, Combine.SUM)
    with pytest.raises(Unusable) as found:
        tie.mean()
    assert set(found.value.nodes) == {"a", "b"}
    most = Contributions((said("a", (2,)), said("b", (3,)), said("c", (3,))), {}, Combine.SUM)
    with pytest.raises(Unusable) as found:
        most.mean()
    assert set(found.value.nodes) == {"a"}
    known = Contributions(
        (said("a", (2,)), said("b", (3,)), said("c", (3,))), {}, Combine.SUM, {"a.": {"w": ("float64", (2,))}}
    )
    with pytest.raises(Unusable) as found:
        known.mean()
    assert set(found.value.nodes) == {"b", "c"}


COUNTS = {
    "a.count": "prepare",
    "a.rows": "prepare",
    "a.classes": "prepare",
    "s.totals": "train",
    "s.positives": "train",
    "s.importance_weight": "train",
}


@pytest.mark.parametrize("most", [51.0, 1e12, -1.0, float("nan")])
@pytest.mark.parametrize("name", list(COUNTS))
def test_a_node_counts_no_more_rows_than_it_declared(name: str, most: float) -> None:
    """Means and scales, classes, metrics and importance are weighted by these, as models are by the weight."""

    def lie(label: str, reply: Record) -> Record:
        if name not in reply.arrays:
            return reply
        array = np.array(reply.arrays[name])
        array.reshape(-1)[0] = most
        return Record(reply.data, {**{n: reply.arrays[n] for n in reply.arrays}, name: array})

    journal = learn("boosting" if name == "s.importance_weight" else "average", lie)
    hit = [s for s in journal.steps if s.label == COUNTS[name] and LIAR in s.failures]
    assert hit
    assert all("that it declared for this run" in s.failures[LIAR] for s in hit)
    assert all(s.status == "ok" for s in journal.steps)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_weight_over_what_was_declared_changes_nothing(kind: str) -> None:
    for weight in (51.0, 1e12, 1e300):
        for step in learn(kind, data(weight=weight)).steps:
            # one that is left out of an exchange of the preparation is not asked what follows from it
            assert "claims a weight" in step.failures[LIAR] if LIAR in step.asked else step.label == "prepare"
            assert LIAR not in step.participants


def report(change: Callable[[dict[str, Json]], Json]) -> Lie:
    """Lies about the columns, in the first step only."""

    def lie(label: str, reply: Record) -> Record:
        said = reply.data["data"]
        if "columns" not in said:
            return reply
        return Record({**reply.data, "data": change(loads(dumps(said)))}, reply.arrays)

    return lie


def columns(**changes: Json) -> Lie:
    return report(lambda said: {**said, "columns": [{**c, **changes} for c in said["columns"]]})


REPORTS: dict[str, Lie] = {
    "a shape that is a number": columns(shape=5),
    "a shape of lists": columns(shape=[[1], [2]]),
    "a kind that there is not": columns(kind="alien"),
    "columns that are numbers": report(lambda said: {**said, "columns": [1, 2, 3]}),
    "columns that are an object": report(lambda said: {**said, "columns": {"a": 1}}),
    "a target that is text": report(lambda said: {**said, "target": "yes"}),
    "100 000 labels": report(
        lambda said: {**said, "target": {**said["target"], "labels": [f"l{i}" for i in range(100_000)]}}
    ),
    "labels that are objects": report(lambda said: {**said, "target": {**said["target"], "labels": [{}]}}),
    "100 000 categories": columns(categories=[f"c{i}" for i in range(100_000)]),
    "other names": columns(name="<img src=x onerror=alert(1)>"),
    "no columns": report(lambda said: {**said, "columns": []}),
}


@pytest.mark.parametrize("what", list(REPORTS))
def test_a_lie_about_the_columns_is_left_out(what: str) -> None:
    journal = learn("average", REPORTS[what])
    assert LIAR in journal.steps[0].failures
    assert journal.steps[-1].status == "ok"


@pytest.mark.parametrize(("value", "kind"), every_other([-1e6, 1e300, -1e300, 1.7e308, 1e-300, -0.5], KINDS))
def test_numbers_that_can_be_added_and_are_not_true_stop_nothing_but_themselves(kind: str, value: float) -> None:
    """A site may poison a plain average (robust gathering is another ingredient), but it may not crash the
    coordinator, and no record holds what is no number. A run that cannot go on says why, in a sentence."""

    def lie(label: str, reply: Record) -> Record:
        return filled(value)(label, reply)

    with contextlib.suppress(HanseError):
        for step in learn(kind, lie).steps:
            dumps(asdict(step))


@pytest.mark.parametrize(("seed", "kind"), every_other(range(4), KINDS))
def test_random_lies(kind: str, seed: int) -> None:
    """Changes of single fields and single numbers: completed, or an error of ours."""
    rng = np.random.default_rng([seed, len(kind)])
    odd = [None, True, -1, 2**62, "x", "", [], {}, [[]], {"a": None}, 1e308, -0.0, ["a", 1], "\u202e\x1b[0m"]

    def twisted(value: Json, depth: int = 0) -> Json:
        if rng.random() < 0.08:
            return odd[int(rng.integers(len(odd)))]
        if isinstance(value, Mapping):
            return {k: twisted(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [twisted(v, depth + 1) for v in value][: int(rng.integers(len(value) + 2))]
        return value

    def lie(label: str, reply: Record) -> Record:
        arrays = {}
        for name in reply.arrays:
            array = np.array(reply.arrays[name])
            if array.size and rng.random() < 0.5:
                flat = array.reshape(-1)
                with np.errstate(over="ignore", invalid="ignore"):
                    value = np.array(rng.choice([-1.0, 0.5, 1e9, 120.0, 1e30]))
                    flat[rng.integers(flat.size)] = value.astype(array.dtype)
            arrays[name] = array
        changed = {**reply.data, "data": twisted(reply.data["data"]), "metrics": twisted(reply.data["metrics"])}
        return Record(changed, arrays)

    with contextlib.suppress(HanseError):
        learn(kind, lie)


# ---------------------------------------------------------------- trees, and the native code behind them


def chain(kind: str, depth: int) -> tuple[Any, dict[str, Any]]:
    """A tree that is one long path."""
    model = find("models", kind).build(Task("binary", ("a", "b"), ("0", "1")), {})
    count = 2 * depth + 1
    trees = {n: np.zeros((count, *a.shape[1:]), a.dtype) for n, a in model.empty().items()}
    trees["size"] = np.array([count], np.int32)
    for place, name in ((1, "left"), (2, "right")):
        trees[name] = np.full(count, -1, np.int32)
        trees[name][0:-1:2] = np.arange(0, count - 1, 2) + place
    if kind == "xgboost_bagging":
        trees["group"] = np.zeros(1, np.int32)
    else:
        trees["samples"][:], trees["weighted"][:], trees["value"][:] = 1, 1, 0.5
    return model, trees


def change(name: str, place: int, value: float) -> Callable[[dict[str, Any]], None]:
    def apply(trees: dict[str, Any]) -> None:
        trees[name] = trees[name].copy()
        trees[name][place] = value

    return apply


POISON: dict[str, Callable[[dict[str, Any]], None]] = {
    "a cycle": change("left", 2, 0),
    "a node that is its own child": change("left", 2, 2),
    "a child outside the tree": change("right", 2, 10**6),
    "a negative child": change("left", 2, -5),
    "two parents": change("left", 2, 1),
    "one child": change("left", 2, -1),
    "a feature that is not there": change("feature", 0, 2**31 - 1),
    "a negative feature": change("feature", 0, -1),
    "a leaf's feature that is not there": change("feature", 1, 2**31 - 1),
    "a size that is not there": change("size", 0, 10**6),
    "a size of nothing": change("size", 0, 0),
    "a negative size": change("size", 0, -3),
}


@pytest.mark.parametrize("kind", ["xgboost_bagging", "random_forest"])
@pytest.mark.parametrize("what", list(POISON))
def test_poisoned_trees_reach_no_native_code(kind: str, what: str) -> None:
    """Neither at the coordinator, which looks at them first, nor at a node or a scientist, who look again."""
    model, trees = chain(kind, 4)
    assert model.fault(trees) == ""
    POISON[what](trees)
    assert model.fault(trees) != ""
    with pytest.raises(WireError):
        model.predict(trees, *((0.5,) if kind == "xgboost_bagging" else ()), np.zeros((3, 2)))


@pytest.mark.parametrize("kind", ["boosting", "forest"])
@pytest.mark.parametrize("what", ["deep", "large", "many"])
def test_trees_are_as_many_and_as_large_as_rows_and_settings_allow(
    kind: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site of 50 rows sends trees that are sound, and too large; nothing but their lengths is looked at."""
    sent: list[int] = []
    model: Any = find("models", KINDS[kind]["model_name"])
    cls = type(model.build(Task("binary", ("a", "b", "c"), ("0", "1")), {}))
    sound = cls.fault
    monkeypatch.setattr(cls, "fault", lambda self, trees: (sent.append(len(trees["left"])), sound(self, trees))[1])

    def lie(label: str, reply: Record) -> Record:
        if label != "train":
            return reply
        if what == "many":  # trees that are one leaf
            count = 300
            trees = {
                n[2:]: np.zeros((count, *reply.arrays[n].shape[1:]), reply.arrays[n].dtype)
                for n in reply.arrays
                if n.startswith("a.")
            }
            trees |= {n: np.full(count, -1, np.int32) for n in ("left", "right")}
            trees["size"] = np.ones(count, np.int32)
        else:
            trees = chain(KINDS[kind]["model_name"], {"deep": 50, "large": 100_000}[what])[1]
        return Record(
            reply.data,
            {n: reply.arrays[n] for n in reply.arrays if n.startswith("s.")} | {f"a.{n}": a for n, a in trees.items()},
        )

    for step in learn(kind, lie).steps:
        if step.label == "train":
            said = step.failures[LIAR]
            assert ("were asked for" if what == "many" else "rows has at most") in said
    assert 0 < max(sent) < 200  # what was too large was not even proved


@pytest.mark.parametrize("kind", ["xgboost_bagging", "random_forest"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_thresholds_are_numbers(kind: str, value: float) -> None:
    model, trees = chain(kind, 3)
    name = "value" if kind == "xgboost_bagging" else "threshold"
    trees[name] = trees[name].copy()
    trees[name][0] = value
    assert "NaN" in model.fault(trees)


def test_a_very_deep_tree_does_not_end_the_process() -> None:
    """XGBoost walks a tree by recursion: a path of 400,000 nodes was a segmentation fault at every
    other node. A process of its own, because this is what could fail."""
    code = (
        "import numpy as np; from attacks.test_lying_node import chain; from hanse.errors import WireError\n"
        "for kind, base in (('xgboost_bagging', (0.5,)), ('random_forest', ())):\n"
        "    model, trees = chain(kind, 200_000)\n"
        "    print(kind, model.fault(trees))\n"
        "    try:\n"
        "        model.predict(trees, *base, np.zeros((3, 2)))\n"
        "    except WireError as error:\n"
        "        print(kind, 'refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-500:]
    for kind in ("xgboost_bagging", "random_forest"):
        assert re.search(f"{kind} .*deeper than", done.stdout)
        assert f"{kind} refused" in done.stdout


def test_parameters_of_another_shape_do_not_reach_native_code() -> None:
    """scikit-learn's SGDRegressor writes through a pointer as far as there are features."""
    task = Task("regression", tuple(str(i) for i in range(1000)), ())
    model = find("models", "sgd_regressor").build(task, {})
    wrong = ((np.zeros(4), np.zeros(1)), (np.zeros(1000), np.zeros(0)), (np.zeros((1, 1000)), np.zeros(1)))
    for coef, intercept in wrong:
        with pytest.raises(WireError, match="agreed features"):
            model.train(
                {"coef": coef, "intercept": intercept},
                np.zeros((5, 1000)),
                np.zeros(5),
                np.random.default_rng(0),
                Training(epochs=1, batch_size=1, learning_rate=0.1),
            )
