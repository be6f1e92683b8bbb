"""What the two algorithms that pool trees have in common.

The ask of round r carries the ensemble after r-1 rounds. A site first evaluates it on its held-out
rows, then grows new trees; only those travel up. The coordinator proves that what comes is trees
(:mod:`hanse.models._trees`) before anybody else gets them. When one more ask only evaluates, says
:mod:`hanse.algorithms._schedule`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hanse.algorithms import _evaluation as evaluation
from hanse.algorithms import _preparation as preparation
from hanse.algorithms import _schedule as schedule
from hanse.errors import ConfigError, Unusable
from hanse.kinds import Ask, Combine, Done, Gathered, Shapes, Site, State
from hanse.messages import Array, Json, Record
from hanse.registry import find, settings
from hanse.table import ColumnKind

_SHOWN_FEATURES = 50


def begin(config: Mapping[str, Json], previous: Record | None, base: float | None = None) -> State:
    """The first state: no trees. ``base`` is what the empty ensemble predicts, for boosting."""
    if previous is None:
        raise ConfigError("trees follow the preparation; build the run with hanse.algorithms.build")
    if any(c["kind"] == ColumnKind.IMAGE for c in previous.data["columns"]):
        raise ConfigError(f"{config['model_name']} does not learn from images; use torch_module")
    options = model_options(config)
    model = find("models", config["model_name"]).build(preparation.task(previous), options)
    prepared, arrays = preparation.pack(previous)
    features = len(previous.data["task"]["features"])
    data = {
        **prepared,
        **schedule.begin(config),
        "base": base,
        "model_name": config["model_name"],
        "options": options,
        "importance_rounds": 0,
    }
    importance = {f"importance.{n}": np.zeros(features) for n in ("latest", "sum", "squares")}
    return Record(data, {**arrays, **importance, **named(model.empty())})


def ask(state: State) -> Ask | Done:
    phase, done, measures = state.data["phase"], state.data["round"], schedule.measures(state.data)
    if phase == "done":
        return Done(f"{done} rounds, {len(state.arrays['model.size'])} trees")
    data = {
        "phase": phase,
        "round": done + 1,
        "measures": measures,
        "prepared": state.data["prepared"],
        "base": state.data["base"],
        "rounds": state.data["rounds"],
    }
    arrays = {n: state.arrays[n] for n in state.arrays if not n.startswith("importance.")}
    task = preparation.task(preparation.unpack(state))
    counts, sums = dict(evaluation.COUNTS), dict(evaluation.shapes(task)) if measures else {}
    sent: Shapes = {}
    if phase == "train":
        sent = {name: (a.dtype.name, (None, *a.shape[1:])) for name, a in trees(state).items()}  # any number of nodes
        counts["importance_weight"] = None
        sums |= {"importance": ("float64", (len(task.features),)), "importance_weight": ("float64", (1,))}
    return Ask(
        Record(data, arrays),
        Combine.EACH,
        phase,
        done + 1 if phase == "train" else None,
        to=schedule.whom(phase),
        counts=counts,
        arrays=sent,
        sums=sums,
    )


def model_at(site: Site, prepared: Record) -> Any:
    """The model's adapter, by the approved configuration."""
    return find("models", site.config["model_name"]).build(preparation.task(prepared), model_options(site.config))


def model_options(config: Mapping[str, Json]) -> dict[str, Any]:
    """The model's options; a learning rate of the run goes with them, where the model has one."""
    rate = config.get("learning_rate")
    known = rate is not None and "learning_rate" in settings("models", config["model_name"])
    return {**({"learning_rate": rate} if known else {}), **config["model_options"]}


def trees(record: Record) -> dict[str, Array]:
    """The arrays ``model.*`` without the prefix."""
    return {n.removeprefix("model."): record.arrays[n] for n in record.arrays if n.startswith("model.")}


def named(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"model.{name}": array for name, array in arrays.items()}


def evaluated(
    predict: Any, rows: preparation.Rows, prepared: Record, ask: Record
) -> tuple[dict[str, Array], dict[str, float]]:
    """Sums and metrics of ``predict`` on the held-out rows, where the ask measures the model."""
    task = preparation.task(prepared)
    sizes = {"n": float(len(rows.train)), "n_test": float(len(rows.test))}
    if not ask.data["measures"]:
        return {}, sizes
    if len(rows.test):
        prediction = predict(rows.X[rows.test])
    else:
        prediction = np.zeros((0, task.outputs)) if task.kind == "multiclass" else np.zeros(0)
    sums, metrics = evaluation.evaluate(prediction, rows.y[rows.test], task, float(prepared.arrays["target_mean"][0]))
    return sums, {**metrics, **sizes}


def class_shares(prepared: Record) -> Array:
    """(k,) shares of the classes in the training rows, as far as sites told them: where one has none, it
    was kept back, and each class counts half a row more, so that none has a share of nothing."""
    counts = np.array(prepared.data["class_counts"], np.float64)
    counts = counts if counts.all() else counts + 0.5
    return np.asarray(counts / counts.sum(), np.float64)


def importance_sums(importance: Array, rows: int) -> dict[str, Array]:
    """A site's feature importance as sums: weighted by rows, where it split at all."""
    weight = float(rows) if importance.any() else 0.0
    return {"importance": importance * weight, "importance_weight": np.array([weight])}


def received(gathered: Gathered, model: Any, most: Callable[[float], int]) -> list[tuple[str, float, dict[str, Array]]]:
    """Node, weight and trees of each contribution. ``most``: how many trees a node of so many training
    rows was asked for. Raises ``Unusable`` for those that are not trees, or more than that many rows
    can give."""
    found, unusable = [], {}
    for answer, record in gathered.each():
        arrays = {name: record.arrays[name] for name in record.arrays}
        wrong = model.too_many(arrays, most(answer.claimed), answer.claimed) or model.fault(arrays)
        if wrong:
            unusable[answer.node] = f"its trees are not usable: {wrong}"
        found.append((answer.node, answer.weight, arrays))
    if unusable:
        raise Unusable(unusable)
    return found


def told(state: State, gathered: Gathered, joined: Mapping[str, Array] | None) -> State:
    """The next state; ``joined`` are all trees after this round, None if it only evaluated."""
    task = preparation.task(preparation.unpack(state))
    measured = schedule.measures(state.data)
    entry = evaluation.summary(gathered, task, state.data["round"]) if measured else None
    if joined is None:
        return Record(schedule.evaluated(state.data, entry), state.arrays)
    data = schedule.trained(state.data, entry)
    arrays = {n: state.arrays[n] for n in state.arrays}
    sums = gathered.sums()
    if sums["importance"].shape != arrays["importance.latest"].shape or sums["importance_weight"].shape != (1,):
        raise Unusable({a.node: "its feature importance is not of the agreed features" for a in gathered.answers})
    weight = float(sums["importance_weight"][0])
    latest = sums["importance"] / weight if weight > 0 else np.zeros_like(sums["importance"])
    # shares of a whole; other numbers are a site's lie, and are not shown
    if weight > 0 and (latest >= 0).all() and latest.sum() <= 1 + 1e-6:
        arrays |= {
            "importance.latest": latest,
            "importance.sum": arrays["importance.sum"] + latest,
            "importance.squares": arrays["importance.squares"] + latest**2,
        }
        data["importance_rounds"] += 1
    return Record(data, {**arrays, **named(joined)})


def result(state: State, algorithm: str) -> Record:
    """Data ``{algorithm, model_name, options, task, prepared, base, history, best, round,
    feature_importance}``; arrays ``model.*`` and ``prepared.*``."""
    history = state.data["history"]
    data = {
        "algorithm": algorithm,
        "task": state.data["prepared"]["task"],
        "history": history,
        "best": schedule.best(history),
        "feature_importance": importance_table(state),
        **{k: state.data[k] for k in ("model_name", "options", "prepared", "round", "base")},
    }
    return Record(data, {n: state.arrays[n] for n in state.arrays if not n.startswith("importance.")})


def importance_table(state: State) -> list[dict[str, Json]]:
    """``{feature, mean, std, latest, rank}`` over the rounds so far, most important first."""
    rounds = state.data["importance_rounds"]
    if not rounds:
        return []
    mean = state.arrays["importance.sum"] / rounds
    spread = np.sqrt(np.maximum(state.arrays["importance.squares"] / rounds - mean**2, 0))
    latest, names = state.arrays["importance.latest"], state.data["prepared"]["task"]["features"]
    order = np.argsort(-mean, kind="stable")
    return [
        {"feature": names[i], "mean": float(mean[i]), "std": float(spread[i]), "latest": float(latest[i]), "rank": rank}
        for rank, i in enumerate(order, 1)
    ]


def metrics(state: State) -> Mapping[str, Json]:
    """Those of the ensemble that the last step evaluated (after ``evaluated_round`` rounds), the size of
    the ensemble now, and the most important features of the last round."""
    if not state.data["round"]:
        return {}
    latest, names = state.arrays["importance.latest"], state.data["prepared"]["task"]["features"]
    top = [int(i) for i in np.argsort(-latest, kind="stable")[:_SHOWN_FEATURES] if latest[i] > 0]
    return {
        **schedule.shown(state.data),
        "trees": len(state.arrays["model.size"]),
        "feature_importance": {names[i]: float(latest[i]) for i in top},
    }
