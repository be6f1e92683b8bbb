"""Pooling of trees, the algorithm that bagging and forests share: sites grow trees, the ensemble keeps them all.

The ask of round r carries the ensemble after r-1 rounds. A site first evaluates it on its held-out
rows, then grows new trees; only those travel up. The coordinator proves that what comes is trees
(:mod:`hanse.learning.ensembles`) before anybody else gets them. When one more ask only evaluates, says
:mod:`hanse.learning.schedule`. What is grown and how it is joined says a :class:`Growth`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from hanse.codec import ArrayOf, encode
from hanse.errors import ConfigError, Unusable
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Shapes, Site
from hanse.learning import evaluation
from hanse.learning import rows as preparation
from hanse.learning.results import result_of
from hanse.learning.schedule import Phase, Schedule
from hanse.messages import Array, Json, Record
from hanse.registry import find
from hanse.registry import settings as settings_of
from hanse.settings import Setting
from hanse.table import ColumnKind
from hanse.typed import Typed

CHECKPOINT_EVERY = 10  # rounds: a state holds all trees so far, so every one of 100 would be 50 times the model
_SHOWN_FEATURES = 50
_SHOWN_ROUNDS = 20  # losses of further local rounds are not reported, but for the last
Trees = dict[str, Array]
PerFeature = Annotated[Array, ArrayOf("float64", "features")]


@dataclass(frozen=True, slots=True)
class Importance:
    """Each feature's share in what the trees of a round gained: of the last round, and over rounds."""

    latest: PerFeature
    sum: PerFeature
    squares: PerFeature
    rounds: int = 0

    def told(self, sums: Mapping[str, Array]) -> Importance:
        """With those of a round, weighted by the rows of the sites that split at all."""
        weight = float(sums["importance_weight"][0])
        latest = sums["importance"] / weight if weight > 0 else np.zeros_like(sums["importance"])
        # shares of a whole; other numbers are a site's lie, and are not shown
        if not (weight > 0 and (latest >= 0).all() and latest.sum() <= 1 + 1e-6):
            return self
        return Importance(latest, self.sum + latest, self.squares + latest**2, self.rounds + 1)

    def table(self, names: list[str]) -> list[dict[str, Json]]:
        """``{feature, mean, std, latest, rank}`` over the rounds so far, most important first."""
        if not self.rounds:
            return []
        mean = self.sum / self.rounds
        spread = np.sqrt(np.maximum(self.squares / self.rounds - mean**2, 0))
        found: list[dict[str, Json]] = []
        for rank, i in enumerate(np.argsort(-mean, kind="stable"), 1):
            shown = {"mean": float(mean[i]), "std": float(spread[i]), "latest": float(self.latest[i])}
            found.append({"feature": names[i], **shown, "rank": rank})
        return found


@dataclass(frozen=True, slots=True)
class State:
    """What the coordinator knows.

    Args:
        prepared: the result of the preparation.
        base: what the empty ensemble predicts, for boosting.
        settings: those of the algorithm.
        model: the trees so far.
        grew: nodes that have grown trees; ``unsplit``: those of them whose first ones have no split.
    """

    schedule: Schedule
    prepared: Record
    model_name: str
    options: Mapping[str, Json]
    settings: Mapping[str, Json]
    base: float | None
    importance: Importance
    model: Mapping[str, Array] = field(default_factory=dict)
    grew: tuple[str, ...] = ()
    unsplit: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: to measure these trees, and to grow more."""

    phase: Phase
    round: int
    rounds: int
    measures: bool
    prepared: Record
    base: float | None
    model: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Growth:
    """How trees are grown and joined. The model's adapter (:mod:`hanse.models`) comes first in each.

    Args:
        base: what the empty ensemble predicts, of the preparation; None: it has no say.
        predict: of the trees of a question, for (n, f) rows.
        grow: a site's new trees, and the loss of each of its rounds.
        most: how many trees a site of so many training rows was asked for.
        joined: all trees, of those so far and of (weight, new trees) of the sites.
        averages: whether a site counts by its weight, by the model's options.
    """

    base: Callable[[Record], float | None]
    predict: Callable[[Any, Question, Array], Array]
    grow: Callable[[Any, Site, Question, preparation.Rows], tuple[Trees, list[float]]]
    most: Callable[[Any, State, float], int]
    joined: Callable[[Any, State, list[tuple[float, Trees]]], Trees]
    averages: Callable[[Mapping[str, Json]], bool]


def pooling(module: str, settings: Mapping[str, Setting], growth: Growth) -> Typed[State, Question]:
    """An algorithm that pools trees.

    Args:
        module: ``__name__`` of its file, whose last part is its name.
        settings: what a run may set for it, ``SETTINGS`` of its file.
    """
    return Typed(Pooling(module.rpartition(".")[2], settings, growth), State, Question)


@dataclass(frozen=True)
class Pooling:
    """A :class:`hanse.typed.Computation`; made by :func:`pooling`."""

    name: str
    settings: Mapping[str, Setting]
    growth: Growth
    combines = frozenset({Combine.EACH})

    def averages(self, options: Mapping[str, Json]) -> bool:
        """Whether a site counts by its weight."""
        return self.growth.averages(options)

    # ------------------------------------------------------------ coordinator

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        """No trees."""
        if previous is None:
            raise ConfigError(f"{self.name} follows the preparation; build the run with hanse.algorithms.build")
        if any(c["kind"] == ColumnKind.IMAGE for c in previous.data["columns"]):
            raise ConfigError(f"{config['model_name']} does not learn from images; use cnn or torch_module")
        options, task = model_options(config), preparation.task(previous)
        empty = find("models", config["model_name"]).build(task, options).empty()
        none = np.zeros(len(task.features))
        chosen = {name: config.get(name, setting.default) for name, setting in self.settings.items()}
        importance, base = Importance(none, none, none), self.growth.base(previous)
        return State(Schedule.of(config), previous, config["model_name"], options, chosen, base, importance, empty)

    def ask(self, state: State) -> Ask | Done:
        """Grow and measure, or measure alone."""
        schedule = state.schedule
        phase, done = schedule.phase, schedule.round
        if phase == "done":
            return Done(f"{done} rounds, {len(state.model['size'])} trees")
        task = preparation.task(state.prepared)
        counts, sums = dict(task.of.counts), dict(task.of.shapes(task)) if schedule.measures else {}
        sent: Shapes = {}
        if phase == "train":  # trees of any number of nodes
            sent = {name: (a.dtype.name, (None, *a.shape[1:])) for name, a in state.model.items()}
            counts["importance_weight"] = None
            sums |= {"importance": ("float64", (len(task.features),)), "importance_weight": ("float64", (1,))}
        return Ask(
            encode(
                Question(phase, done + 1, schedule.rounds, schedule.measures, state.prepared, state.base, state.model)
            ),
            Combine.EACH,
            phase,
            done + 1 if phase == "train" else None,
            to=schedule.whom,
            counts=counts,
            arrays=sent,
            sums=sums,
            checkpoint=(done + 1) % CHECKPOINT_EVERY == 0,
        )

    def tell(self, state: State, gathered: Gathered) -> State:
        """With the new trees, or with what was measured."""
        schedule, task = state.schedule, preparation.task(state.prepared)
        model = self._model(state)
        found = received(gathered, model, state, self.growth.most) if schedule.phase == "train" else []
        entry = evaluation.summary(gathered, task, schedule.round) if schedule.measures else None
        if schedule.phase == "evaluate":
            return replace(state, schedule=schedule.evaluated(entry))
        first = {
            answer.node: trees
            for answer, (_, trees) in zip(gathered.answers, found, strict=True)
            if len(trees["size"]) and answer.node not in state.grew
        }
        unsplit = [node for node, trees in first.items() if (np.asarray(trees["size"]) == 1).all()]
        return replace(
            state,
            schedule=schedule.trained(entry),
            importance=state.importance.told(gathered.sums()),
            model=self.growth.joined(model, state, [(weight, new) for weight, new in found if weight > 0]),
            grew=(*state.grew, *first),
            unsplit=(*state.unsplit, *unsplit),
        )

    def begun(self, state: State, start: Record) -> State:
        """The state that goes on from the trees of an earlier run: any number of them, each of them sound."""
        trees = {n.removeprefix("model."): start.arrays[n] for n in start.arrays if n.startswith("model.")}
        wrong = self._model(state).fault(trees)
        if wrong:
            raise ConfigError(f"the trees of initial_model cannot be continued: {wrong}")
        return replace(state, model=trees, base=start.data.get("base"))

    def result(self, state: State) -> Record:
        """Data ``{algorithm, model_name, options, task, prepared, base, history, best, round,
        feature_importance}``; arrays ``model.*`` and ``prepared.*``."""
        schedule = state.schedule
        return result_of(
            self.name,
            state.prepared,
            state.model_name,
            state.options,
            state.model,
            history=schedule.history,
            best=schedule.best(),
            round=schedule.round,
            feature_importance=state.importance.table(state.prepared.data["task"]["features"]),
            base=state.base,
        )

    def metrics(self, state: State) -> Mapping[str, Json]:
        """Those of the ensemble that the last step evaluated (after ``evaluated_round`` rounds), the size of
        the ensemble now, and the most important features of the last round."""
        if not state.schedule.round:
            return {}
        latest, names = state.importance.latest, state.prepared.data["task"]["features"]
        said = state.unsplit and (state.schedule.round == 1 or state.schedule.phase == "done")
        top = [int(i) for i in np.argsort(-latest, kind="stable")[:_SHOWN_FEATURES] if latest[i] > 0]
        return {
            **state.schedule.shown(),
            "trees": len(state.model["size"]),
            **({"warnings": [_unsplit(state.unsplit)]} if said else {}),
            "feature_importance": {names[i]: float(latest[i]) for i in top},
        }

    @staticmethod
    def _model(state: State) -> Any:
        return find("models", state.model_name).build(preparation.task(state.prepared), state.options)

    # ------------------------------------------------------------ node

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half: measure the trees, grow more."""
        config, task = site.config, preparation.task(ask.prepared)
        model = find("models", config["model_name"]).build(task, model_options(config))
        rows = preparation.rows(site, ask.prepared)
        shown = {"n": float(len(rows.train)), "n_test": float(len(rows.test))}
        sums: dict[str, Array] = {}
        if ask.measures:
            sums, metrics = self._measured(model, rows, ask)
            shown = {**metrics, **shown}
        if ask.phase == "evaluate":
            return Contribution(Record(), float(len(rows.test)), sums, shown, Combine.EACH)
        site.progress()
        new, losses = self.growth.grow(model, site, ask, rows)
        sums |= importance_sums(model.importance(new), len(rows.train))
        shown |= {f"train_loss_{i}": loss for i, loss in enumerate(losses[:_SHOWN_ROUNDS], 1)}
        if losses:
            shown["train_loss"] = losses[-1]
        shown["trees"] = float(len(new["size"]))
        return Contribution(Record({}, new), float(len(rows.train)), sums, shown, Combine.EACH)

    def _measured(self, model: Any, rows: preparation.Rows, ask: Question) -> tuple[dict[str, Array], dict[str, float]]:
        task = preparation.task(ask.prepared)
        if len(rows.test):
            prediction = self.growth.predict(model, ask, rows.X[rows.test])
        else:
            prediction = np.zeros(task.shape(0))
        center = ask.prepared.arrays["target_mean"]
        return evaluation.evaluate(prediction, rows.y[rows.test], task, center)


def model_options(config: Mapping[str, Json]) -> dict[str, Any]:
    """The model's options; a learning rate of the run goes with them, where the model has one."""
    rate = config.get("learning_rate")
    known = rate is not None and "learning_rate" in settings_of("models", config["model_name"])
    return {**({"learning_rate": rate} if known else {}), **config["model_options"]}


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


def _unsplit(sites: Sequence[str]) -> str:
    """Says whose first trees have no split: of rows of one class nobody learns to tell classes apart."""
    return (
        f"the trees of {', '.join(sites)} do not split: its rows have one class, or are too few; joined trees learn "
        "nothing from such a site, while logistic_regression and other models that are fitted over all sites do"
    )


def received(
    gathered: Gathered, model: Any, state: State, most: Callable[[Any, State, float], int]
) -> list[tuple[float, Trees]]:
    """Weight and trees of each contribution. Raises ``Unusable`` for those that are not trees, or more than a node
    was asked for or its rows can give."""
    found, unusable = [], {}
    for answer, record in gathered.each():
        arrays = {name: record.arrays[name] for name in record.arrays}
        wrong = model.too_many(arrays, most(model, state, answer.claimed), answer.claimed) or model.fault(arrays)
        if wrong:
            unusable[answer.node] = f"its trees are not usable: {wrong}"
        found.append((answer.weight, arrays))
    if unusable:
        raise Unusable(unusable)
    return found
