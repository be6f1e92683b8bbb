"""Federated averaging: each site trains from the common parameters, their changes are averaged.

With parameters θ, sites k of n_k training rows and the server's learning rate η (1: plain)::

    θ ← θ + η · Σ_k n_k (θ_k - θ) / Σ_k n_k

The ask of round r carries θ after r-1 rounds. A site first evaluates *that* θ on its held-out rows,
then trains, so evaluation costs no exchange of its own; after the last round, and now and then where a round
asks a sample, one more ask only evaluates (:mod:`hanse.algorithms._schedule`). The settings of training come
from the approved configuration, not from the ask.

A round without training rows keeps θ. The sums must be finite and of the shapes of θ; the sites
whose are not are left out of the round, with the reason.

References: McMahan et al. 2017, "Communication-efficient learning of deep networks from
decentralized data", algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.algorithms import _evaluation as evaluation
from hanse.algorithms import _preparation as preparation
from hanse.algorithms import _schedule as schedule
from hanse.errors import ConfigError, NodeFailed, RunFailed, Unusable
from hanse.kinds import SAMPLE, Ask, Combine, Contribution, Done, Gathered, Model, Site, State, Task, generator
from hanse.messages import Array, Json, Record
from hanse.registry import find
from hanse.table import ColumnKind
from hanse.training import Training

TAKES = "parameters"
DEFAULT = True
UPDATES = True  # contributions are changes of common parameters, which transforms may make smaller
LEARNING_RATE = 0.01  # where the run has none
_SHOWN_EPOCHS = 20  # losses of further epochs are not reported, but for the last


class FedAvg:
    combines = frozenset({Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        if previous is None:
            raise ConfigError("FedAvg follows the preparation; build the run with hanse.algorithms.build")
        module, options = find("models", config["model_name"]), model_options(config)
        task = preparation.task(previous)
        images = any(c["kind"] == ColumnKind.IMAGE for c in previous.data["columns"])
        if images and not getattr(module, "IMAGES", False):
            raise ConfigError(f"{config['model_name']} does not learn from images; use torch_module")
        model: Model = module.build(task, options)
        prepared, arrays = preparation.pack(previous)
        data = {
            **prepared,
            **schedule.begin(config),
            "rate": config["server_learning_rate"],
            "model_name": config["model_name"],
            "options": options,
        }
        if getattr(module, "INITIALISED_BY", "coordinator") == "nodes":
            return Record({**data, "phase": "initialise"}, arrays)
        initial = model.init(generator(config["seed"], "initialise"))
        return Record(data, {**arrays, **{f"model.{n}": a for n, a in initial.items()}})

    def ask(self, state: State) -> Ask | Done:
        phase, done = state.data["phase"], state.data["round"]
        if phase == "done":
            return Done(f"{done} rounds")
        measures = schedule.measures(state.data)
        data = {"phase": phase, "round": done + 1, "measures": measures, "prepared": state.data["prepared"]}
        record = Record(data, state.arrays)
        if phase == "initialise":  # only the nodes can tell how the model looks; it is the same at each of them
            return Ask(record, Combine.SUM, phase, to=SAMPLE)
        trains = phase == "train"
        sent = {n: (a.dtype.name, a.shape) for n, a in parameters(state).items()} if trains else {}
        return Ask(
            record,
            Combine.SUM,
            phase,
            done + 1 if trains else None,
            to=schedule.whom(phase),
            counts=evaluation.COUNTS,
            arrays=sent,
            sums=evaluation.shapes(preparation.task(preparation.unpack(state))) if measures else {},
        )

    def answer(self, site: Site, ask: Record) -> Contribution:
        prepared = preparation.unpack(ask)
        task = preparation.task(prepared)
        model = self._model(site, task)
        if ask.data["phase"] == "initialise":
            # the same at every site: the seed is the run's, not the site's
            initial = model.init(generator(site.config["seed"], "initialise"))
            return Contribution(Record({"whole": [n for n, a in initial.items() if a.dtype.kind in "iu"]}, initial))
        rows = preparation.rows(site, prepared)
        site.progress()
        common = parameters(ask)
        sums, metrics = evaluate(model, common, rows, prepared) if ask.data["measures"] else ({}, {})
        metrics = {**metrics, "n": float(len(rows.train)), "n_test": float(len(rows.test))}
        if ask.data["phase"] == "evaluate":
            return Contribution(Record(), float(len(rows.test)), sums, metrics)
        losses: list[float] = []
        delta = self._train(site, model, common, rows, prepared, ask.data["round"], losses)
        metrics["update_norm"] = norm(delta)
        for epoch, loss in enumerate(losses[:_SHOWN_EPOCHS], 1):
            metrics[f"train_loss_{epoch}"] = loss
        if losses:
            metrics["train_loss"] = losses[-1]
        return Contribution(Record({}, delta), float(len(rows.train)), sums, metrics, update=True)

    def _model(self, site: Site, task: Task) -> Model:
        made: tuple[Task, Model] | None = site.cache.get("model")
        if made is None or made[0] != task:
            model = find("models", site.config["model_name"]).build(task, model_options(site.config))
            made = site.cache["model"] = (task, model)
        return made[1]

    def _train(
        self,
        site: Site,
        model: Model,
        common: Mapping[str, Array],
        rows: preparation.Rows,
        prepared: Record,
        round: int,
        losses: list[float],
    ) -> dict[str, Array]:
        if not len(rows.train):
            return {name: np.zeros_like(a) for name, a in common.items()}
        config = site.config
        y = rows.y[rows.train]
        if preparation.task(prepared).kind == "regression":
            y = (y - prepared.arrays["target_mean"]) / prepared.arrays["target_scale"]
        learned = model.train(
            common,
            rows.X[rows.train],
            y,
            site.rng("train", round),
            Training(
                config["local_epochs"],
                config["batch_size"],
                config["learning_rate"] or LEARNING_RATE,
                progress=site.progress,
            ),
        )
        losses += learned.losses
        local = learned.parameters
        delta = {name: np.subtract(local[name], common[name], dtype=common[name].dtype) for name in common}
        if not all(np.isfinite(a).all() for a in delta.values()):
            raise NodeFailed("local training left the range of numbers; use a smaller learning_rate")
        return delta

    def tell(self, state: State, gathered: Gathered) -> State:
        if state.data["phase"] == "initialise":
            initial = gathered.mean()
            if not initial:
                raise RunFailed("the model has no parameters to be trained")
            # counters are whole numbers, which a mean turns into float64
            kinds = gathered.answers[0].data.get("whole", [])
            initial = {n: a.astype(np.int64) if n in kinds else a for n, a in initial.items()}
            return Record({**state.data, "phase": "train"}, {**state.arrays, **_named(initial)})
        task = preparation.task(preparation.unpack(state))
        measured = schedule.measures(state.data)
        entry = evaluation.summary(gathered, task, state.data["round"]) if measured else None
        if state.data["phase"] == "evaluate":
            return Record(schedule.evaluated(state.data, entry), state.arrays)
        data = schedule.trained(state.data, entry)
        if not gathered.weight > 0:
            return Record({**data, "kept": [*state.data.get("kept", []), data["round"]]}, state.arrays)
        common = parameters(state)
        mean = gathered.mean()
        if {n: a.shape for n, a in mean.items()} != {n: a.shape for n, a in common.items()}:
            reason = "its parameters have other names or shapes than the model"
            raise Unusable({answer.node: reason for answer in gathered.answers})
        return Record(data, {**state.arrays, **_named(_step(common, mean, state.data["rate"]))})

    def result(self, state: State) -> Record:
        """Data ``{algorithm, model_name, options, task, prepared, history, best, round}``; arrays
        ``model.*`` and ``prepared.*``."""
        history = state.data["history"]
        data = {
            "algorithm": __name__.rpartition(".")[2],
            "task": state.data["prepared"]["task"],
            "history": history,
            "best": schedule.best(history),
            **{k: state.data[k] for k in ("model_name", "options", "prepared", "round")},
        }
        return Record(data, state.arrays)

    def metrics(self, state: State) -> Mapping[str, Json]:
        """Those of the model that the last step evaluated: ``evaluated_round`` is the number of
        rounds that had gone into it."""
        no_updates = state.data["round"] in state.data.get("kept", [])
        return {**schedule.shown(state.data), **({"no_updates": True} if no_updates else {})}


ALGORITHM = FedAvg()


def model_options(config: Mapping[str, Json]) -> dict[str, Any]:
    """Options for the model's ``build``: a training plan goes with them."""
    plan = {"plan": config["plan"]} if config.get("plan") is not None else {}
    return {**config["model_options"], **plan}


def parameters(record: Record) -> dict[str, Array]:
    """The arrays ``model.*`` of a state or an ask, without the prefix."""
    return {n.removeprefix("model."): record.arrays[n] for n in record.arrays if n.startswith("model.")}


def evaluate(
    model: Model, common: Mapping[str, Array], rows: preparation.Rows, prepared: Record
) -> tuple[dict[str, Array], dict[str, float]]:
    """Sums and metrics of the parameters on the held-out rows."""
    task = preparation.task(prepared)
    mean, scale = prepared.arrays["target_mean"], prepared.arrays["target_scale"]
    if len(rows.test):
        prediction = model.predict(common, rows.X[rows.test])
    else:
        prediction = np.zeros((0, task.outputs)) if task.kind == "multiclass" else np.zeros(0)
    if task.kind == "regression":
        prediction = prediction * scale + mean
    return evaluation.evaluate(prediction, rows.y[rows.test], task, float(mean[0]))


def norm(arrays: Mapping[str, Array]) -> float:
    """Euclidean norm over all arrays."""
    return float(np.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays.values())))


def _named(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"model.{name}": array for name, array in arrays.items()}


def _step(common: Mapping[str, Array], mean: dict[str, Array], rate: float) -> dict[str, Array]:
    """θ + η·mean, in the dtypes of θ; ``mean`` is used up."""
    for name, change in mean.items():
        before = common[name]
        if rate != 1.0:
            np.multiply(change, rate, out=change)
        if before.dtype.kind in "iu":
            mean[name] = before + np.rint(change).astype(before.dtype)
        else:
            np.add(change, before, out=change)
            mean[name] = change.astype(before.dtype, copy=False)
    return mean
