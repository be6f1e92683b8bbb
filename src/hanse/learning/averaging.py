"""Averaging, the algorithm that all strategies of averaging share: local step, aggregation, server's step.

Each round, every site trains from the common parameters θ (``parameters`` of :mod:`hanse.models`) on its objective and
what the **local step** adds to it; the **aggregation** makes one of the changes of all sites; the **server's step**
makes the next θ of it. A strategy is a file that names the three (:func:`averaging`), and is whole with that.

The ask of round r carries θ after r-1 rounds. A site first evaluates *that* θ on its held-out rows,
then trains, so evaluation costs no exchange of its own; after the last round, and now and then where a round
asks a sample, one more ask only evaluates (:mod:`hanse.learning.schedule`). The settings of training come
from the approved configuration, not from the ask.

A round without training rows keeps θ. Contributions must be finite and of the shapes of θ; the sites
whose are not are left out of the round, with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from hanse.alike import Alike
from hanse.codec import encode
from hanse.config import RunConfig
from hanse.errors import ConfigError, RunFailed
from hanse.kinds import SAMPLE, Ask, Combine, Contribution, Done, Gathered, Site, generator
from hanse.learning import by_round, contributing, evaluation
from hanse.learning import rows as preparation
from hanse.learning.aggregation import Aggregation, weighted_mean
from hanse.learning.contributing import CONTRIBUTING
from hanse.learning.local import LocalStep, Named, Visit, recalled, training
from hanse.learning.local_training import APART, CHANGE, NUMBERS, LocalTraining, apart, said_alike, said_lost, untrained
from hanse.learning.results import result_of
from hanse.learning.schedule import Phase, Schedule
from hanse.learning.server import ServerStep, ServerUpdate, applied, plain
from hanse.learning.stopping import EARLY, Stopping, cannot_end
from hanse.messages import Array, Json, Record
from hanse.model import Model
from hanse.registry import find
from hanse.settings import Setting, maybe, number, whole
from hanse.table import ColumnKind
from hanse.task import NUMBER, Task
from hanse.training import Arrays, Learned
from hanse.typed import Typed

_LOCAL = {
    "local_epochs": Setting(1, "passes over a site's rows per round", whole(1, 10_000)),
    "batch_size": Setting(32, "rows per local step", whole(1, 10_000_000)),
    "learning_rate": Setting(None, "of the local steps; null: 0.01", maybe(number(0, 1000, above=True))),
}
TRAINING = {
    **_LOCAL,
    **by_round.settings(_LOCAL),
    "learning_rate_decay": Setting(
        1.0, "the rate of a round is that of the round before times this", number(0, 1, above=True)
    ),
    **EARLY,
    **CONTRIBUTING,
}
_OF_ALL = {*EARLY, *CONTRIBUTING, *by_round.settings(_LOCAL)}  # settings that a site does not go by


@dataclass(frozen=True, slots=True)
class State:
    """What the coordinator knows.

    Args:
        prepared: the result of the preparation.
        model: the parameters θ.
        server: what the server's step keeps.
        settings: those of the strategy.
        buffers: names of what is kept and not learned, such as running means.
        counted: nodes that keep something, and the round in which they were last counted.
        kept_rounds: those in which no site trained.
        lost: nodes that had lost what they kept, in the last round.
        stopping: when it ends before the last round; None: never.
        contributed: how each site's change lay to that of all, in the last round, where that is told.
    """

    schedule: Schedule
    prepared: Record
    model_name: str
    options: Mapping[str, Json]
    settings: Mapping[str, Json]
    model: Mapping[str, Array] = field(default_factory=dict)
    server: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    counted: Mapping[str, int] = field(default_factory=dict)
    kept_rounds: tuple[int, ...] = ()
    lost: tuple[str, ...] = ()
    stopping: Stopping | None = None
    contributed: Mapping[str, Json] = field(default_factory=dict)

    @property
    def learned(self) -> dict[str, Array]:
        """The parameters that are learned by gradients."""
        return _learned(self.model, self.buffers)


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: to make the first parameters, to measure these, to train from them."""

    phase: Phase
    round: int
    measures: bool
    prepared: Record
    model: Mapping[str, Array] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    server: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)


def averaging(
    module: str,
    settings: Mapping[str, Setting],
    local: LocalStep = training,
    aggregation: Aggregation = weighted_mean,
    server: ServerStep = plain,
) -> Typed[State, Question]:
    """A strategy of averaging.

    Args:
        module: ``__name__`` of its file, whose last part is the strategy's name.
        settings: what a run may set for it, ``SETTINGS`` of its file.
        local: a site's part; by default plain training.
        aggregation: how changes come together; by default their mean, weighted by training rows.
        server: the server's part; by default the change is added.
    """
    return Typed(Averaging(module.rpartition(".")[2], settings, local, aggregation, server), State, Question)


@dataclass(frozen=True)
class Averaging:
    """A :class:`hanse.typed.Computation`; made by :func:`averaging`."""

    name: str
    settings: Mapping[str, Setting]
    local: LocalStep
    aggregation: Aggregation
    server: ServerStep

    @property
    def combines(self) -> frozenset[Combine]:
        """That of the aggregation, and sums for what is measured."""
        return frozenset({self.aggregation.combine, Combine.SUM})

    @cached_property
    def updates(self) -> bool:
        """Whether all that a site sends is a change of θ, of which nothing else is made: what a strategy adds must come
        as it was sent, and what a site keeps, beside a sum at the coordinator, is made of its whole change."""
        beside = self.local.keeps and not self.local.personal
        numbers = self.local.numbers and not self.local.bounded
        return not (self.local.adds or numbers or beside)

    def averages(self, options: Mapping[str, Json]) -> bool:
        """Whether a site counts by its weight."""
        return self.aggregation.averages

    def unfit(self, config: RunConfig) -> str:
        """Why a run cannot be so; "" where it can."""
        early = cannot_end(config, self.local.personal, self.aggregation.needed is not None)
        return early or contributing.hidden(config)

    # ------------------------------------------------------------ coordinator

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        """No round yet; without parameters where only nodes can make them."""
        if previous is None:
            raise ConfigError(f"{self.name} follows the preparation; build the run with hanse.algorithms.build")
        module, options = find("models", config["model_name"]), model_options(config)
        images = any(c["kind"] == ColumnKind.IMAGE for c in previous.data["columns"])
        if images and not getattr(module, "IMAGES", False):
            raise ConfigError(f"{config['model_name']} does not learn from images; use cnn or torch_module")
        model: Model = module.build(preparation.task(previous), options)
        chosen = self._chosen(config)
        state = State(Schedule.of(config), previous, config["model_name"], options, chosen)
        state = replace(state, stopping=Stopping.of(chosen))
        if getattr(module, "INITIALISED_BY", "coordinator") == "nodes":
            return replace(state, schedule=replace(state.schedule, phase="initialise"))
        return self._with(state, model.init(generator(config["seed"], "initialise")))

    def ask(self, state: State) -> Ask | Done:
        """Train and measure, or measure alone, or make the first parameters."""
        phase, done = state.schedule.phase, state.schedule.round
        if phase == "done":
            early = state.stopping
            return Done(early.words() if early is not None and early.trained is not None else f"{done} rounds")
        measures = state.schedule.measures and state.schedule.held_out
        question = Question(phase, done + 1, measures, state.prepared)
        if phase == "initialise":  # only the nodes can tell how the model looks; it is the same at each of them
            return Ask(encode(question), Combine.SUM, phase, to=SAMPLE)
        trains = phase == "train"
        sent = {f"{CHANGE}.{n}": (a.dtype.name, a.shape) for n, a in state.model.items()}
        more = {f"{part}.{n}": (a.dtype.name, a.shape) for part in self.local.adds for n, a in state.learned.items()}
        more |= {f"{NUMBERS}.{name}": ("float64", (1,)) for name in self.local.numbers}
        along = {name: state.server[name] for name in self.server.sends} if trains else {}
        counted = state.counted if trains or self.local.personal else {}
        task = preparation.task(state.prepared)
        return Ask(
            encode(replace(question, model=state.model, buffers=state.buffers, server=along, counted=counted)),
            self.aggregation.combine if trains else Combine.SUM,
            phase,
            done + 1 if trains else None,
            to=state.schedule.whom,
            need=self.aggregation.needed(state.settings) if trains and self.aggregation.needed else None,
            late="keep" if trains and self.aggregation.needed else "drop",
            counts=task.of.counts,
            arrays={**sent, **more} if trains else {},
            sums=task.of.shapes(task) if question.measures else {},
        )

    def tell(self, state: State, gathered: Gathered) -> State:
        """The next θ, or what was measured of it."""
        if state.schedule.phase == "initialise":
            return self._initialised(state, gathered)
        task, schedule = preparation.task(state.prepared), state.schedule
        measured = _of_this_step(gathered) if self.aggregation.needed else gathered
        entry = None
        if schedule.measures and not schedule.held_out:  # nobody has a row to measure on, and nobody was asked to
            entry = evaluation.unmeasured(gathered, task, schedule.round)
        elif schedule.measures and measured.answers:
            entry = evaluation.summary(measured, task, schedule.round)
        if state.stopping is not None and entry is not None:
            early = state.stopping.measured(schedule, entry, state.model)
            if early.ends(schedule):
                schedule, early = early.ended(schedule.noted(entry))
                return replace(
                    state, schedule=schedule, stopping=early, model=early.model, lost=_lost(gathered), contributed={}
                )
            state = replace(state, stopping=early)
        if schedule.phase == "evaluate":
            return replace(state, schedule=schedule.evaluated(entry), lost=_lost(gathered), contributed={})
        schedule = schedule.trained(entry)
        if self.local.personal and schedule.phase == "done":  # sites keep what they made of the last round
            schedule = replace(schedule, phase="evaluate")
        state = replace(state, schedule=schedule, lost=(), contributed={})
        if not gathered.weight > 0:
            return replace(state, kept_rounds=(*state.kept_rounds, schedule.round))
        together = self.aggregation.together(gathered, state.settings)
        parts = {name: _under(name, together) for name in (CHANGE, *self.local.adds, NUMBERS)}
        if state.settings.get(contributing.NAME):
            step = {name: parts[CHANGE][name] for name in state.learned}
            mean = self.aggregation.combine is Combine.SUM and self.aggregation.needed is None
            state = replace(state, contributed=contributing.told(gathered, step, CHANGE, mean))
        change, server = self._stepped(state, gathered, parts)
        return self._counted(replace(state, model=applied(state.model, change), server=server), gathered)

    def _stepped(
        self, state: State, gathered: Gathered, parts: dict[str, dict[str, Array]]
    ) -> tuple[dict[str, Array], Named]:
        change, learned = parts.pop(CHANGE), state.learned
        numbers = {name: float(a[0]) for name, a in parts.pop(NUMBERS).items()}
        stepped = change if self.server.everything else {name: change[name] for name in learned}
        claimed = sum(answer.claimed for answer in gathered.answers)
        share = min(1.0, claimed / state.prepared.data["rows"])
        moved, server = self.server.step(ServerUpdate(stepped, parts, share, state.settings, numbers), state.server)
        return {**change, **moved}, server

    def _counted(self, state: State, gathered: Gathered) -> State:
        """Who keeps what, after a round. Where one has lost it, all begin anew: the sums of what they kept would not
        be those of what they have. What is a site's own alone concerns no other."""
        if not self.local.keeps:
            return state
        lost = _lost(gathered)
        if lost and not self.local.personal:
            return replace(state, server=self.server.init(state.learned, state.settings), counted={}, lost=lost)
        now = {answer.node: state.schedule.round for answer in gathered.answers if answer.claimed > 0}
        return replace(state, counted={**state.counted, **now}, lost=lost)

    def _initialised(self, state: State, gathered: Gathered) -> State:
        initial = gathered.mean()
        if not initial:
            raise RunFailed("the model has no parameters to be trained")
        # counters are whole numbers, which a mean turns into float64
        said = gathered.answers[0].data
        initial = {n: a.astype(np.int64) if n in said.get("whole", []) else a for n, a in initial.items()}
        buffers = tuple(n for n in initial if n in said.get("buffers", []))
        return self._with(replace(state, schedule=state.schedule.initialised(), buffers=buffers), initial)

    def _with(self, state: State, model: Mapping[str, Array]) -> State:
        """The state that begins with these parameters."""
        state = replace(state, model=dict(model))
        return replace(state, server=self.server.init(state.learned, state.settings))

    def begun(self, state: State, start: Record) -> State:
        """The state that goes on from the model of an earlier run, of the same names, shapes and types."""
        learned = _under("model", start.arrays)
        for name in sorted({*state.model, *learned}):
            own, other = state.model.get(name), learned.get(name)
            if own is None or other is None or own.shape != other.shape or own.dtype != other.dtype:
                shapes = [a.shape if a is not None else None for a in (other, own)]
                raise ConfigError(
                    f"initial_model has other parameters than this model: {name} is {shapes[0]}, expected {shapes[1]}"
                )
            if not np.isfinite(other).all():
                raise ConfigError(f"initial_model has parameters that are not finite ({name})")
        return self._with(state, learned)

    def result(self, state: State) -> Record:
        """Data ``{algorithm, model_name, options, task, prepared, history, best, round}``; arrays
        ``model.*`` and ``prepared.*``. ``own_layers``: what of the model stands at each site, and not here."""
        schedule, own = state.schedule, state.settings.get("own_layers") if self.local.personal else None
        return result_of(
            self.name,
            state.prepared,
            state.model_name,
            state.options,
            state.model,
            history=schedule.history,
            best=schedule.best(),
            round=schedule.round,
            **({"own_layers": own} if own else {}),
        )

    def metrics(self, state: State) -> Mapping[str, Json]:
        """Those of the model that the last step evaluated (``evaluated_round``: so many rounds had gone into it);
        ``no_updates`` where no site trained; ``lost``, the nodes that had lost what they kept; ``contributions``."""
        no_updates = {"no_updates": True} if state.schedule.round in state.kept_rounds else {}
        lost = {"lost": list(state.lost)} if state.lost else {}
        told = {contributing.TOLD: state.contributed} if state.contributed else {}
        return {**state.schedule.shown(), **no_updates, **lost, **told}

    # ------------------------------------------------------------ node

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half: measure the parameters, train from them, say how they changed."""
        task = preparation.task(ask.prepared)
        model = model_at(site, task)
        if ask.phase == "initialise":
            # the same at every site: the seed is the run's, not the site's
            initial = model.init(generator(site.config["seed"], "initialise"))
            whole = [n for n, a in initial.items() if a.dtype.kind in "iu"]
            buffers: Any = getattr(model, "buffers", lambda parameters: ())
            said = {"whole": whole, "buffers": list(buffers(initial))}
            return Contribution(Record(said, initial), combine=Combine.SUM, sensitivity=0.0)
        rows, visit, sums, metrics = self._measured(site, model, ask, self._common(site, ask))
        if self.local.personal and ask.round > site.config["num_rounds"]:  # nothing is learned any more
            site.keep(self._own(site, visit, ask))
        if ask.phase == "evaluate":
            measured = Record(said_lost(visit))  # no arrays, and in runs with noise no metrics: nothing is to be hidden
            return Contribution(measured, float(len(rows.test)), sums, metrics, Combine.SUM, sensitivity=0.0)
        training = self._training(site, model, rows, ask, visit)
        record, more = untrained(self.local, visit) if training is None else training.said(training.run())
        return self._contribution(site, rows, visit, record, sums, {**metrics, **more})

    def answer_many(self, sites: Sequence[Site], ask: Question) -> Sequence[Contribution]:
        """What the sites answer, where one process has them all: those that the model can train together
        (``train_many``) are, in the order of ``sites``; equal to :meth:`answer` but for the last digits."""
        task = preparation.task(ask.prepared)
        batched = ask.phase == "train" and self.local.trained is None
        train_many: Any = getattr(model_at(sites[0], task), "train_many", None) if batched else None
        if train_many is None:
            return [self.answer(site, ask) for site in sites]
        models, common = [model_at(site, task) for site in sites], self._common(sites[0], ask)
        kept = getattr(models[0], "takes", None)
        seen = [self._measured(site, model, ask, common) for site, model in zip(sites, models, strict=True)]
        trainings = [
            self._training(site, model, rows, ask, visit, kept)
            for site, model, (rows, visit, _, _) in zip(sites, models, seen, strict=True)
        ]
        there = [training for training in trainings if training is not None]
        learned = train_many(LocalTraining.given_together(there))
        off, compared = {}, None
        stacked = [place for place, one in enumerate(learned) if one.together > 1]
        if ask.round == 1 and stacked:  # once, of one site: how far rounding goes
            compared = there[stacked[0]]
            off = {APART: apart(learned[stacked[0]], compared.run(), ask.model)}
        if common.visit is not None and not ask.measures and compared is None and len(there) == len(sites):
            alike = self._alike(there, learned, common.visit, [before for _, _, _, before in seen])
            if alike is not None:
                return alike
        left, found = iter(learned), []
        for site, own, (rows, visit, sums, metrics) in zip(sites, trainings, seen, strict=True):
            record, more = untrained(self.local, visit) if own is None else own.said(next(left))
            if own is not None and own is compared:
                more |= off
            found.append(self._contribution(site, rows, visit, record, sums, {**metrics, **more}))
        return found

    def _alike(
        self,
        trainings: Sequence[LocalTraining],
        learned: Sequence[Learned],
        visit: Visit,
        metrics: Sequence[Mapping[str, float]],
    ) -> Alike | None:
        """What sites contribute that share a visit and measured nothing; None where some are to be looked at."""
        said = said_alike(self.local, visit, learned)
        if said is None:
            return None
        of = Contribution(Record(said_lost(visit)), combine=self.aggregation.combine, update=self.updates)
        weights = [self.local.weight(one.site.node, len(one.y), visit.settings) for one in trainings]
        return Alike(of, said[0], weights, [{**one, **more} for one, more in zip(metrics, said[1], strict=True)])

    def _measured(
        self, site: Site, model: Model, ask: Question, common: _Common
    ) -> tuple[preparation.Rows, Visit, dict[str, Array], dict[str, float]]:
        """A site's rows, what its local step knows, and what it measured of the parameters that it was asked with."""
        rows = preparation.rows(site, ask.prepared)
        site.progress()
        visit = common.visit
        if visit is None:
            memory = recalled(site, ask.counted)
            settings = self._configured(site, ask.round, len(rows.train), common.settings)
            visit = Visit(ask.model, common.learned, ask.server, memory or {}, settings, lost=memory is None)
        counts = {"n": float(len(rows.train)), "n_test": float(len(rows.test))}
        if not ask.measures:
            return rows, visit, {}, counts
        sums, metrics = evaluate(model, self.local.measured(visit), rows, ask.prepared)
        return rows, visit, sums, {**metrics, **counts}

    def _contribution(
        self, site: Site, rows: preparation.Rows, visit: Visit, record: Record, sums: Arrays, metrics: dict[str, float]
    ) -> Contribution:
        weight = self.local.weight(site.node, len(rows.train), visit.settings) if len(rows.train) else 0.0
        return Contribution(record, weight, sums, metrics, self.aggregation.combine, self.updates)

    def _own(self, site: Site, visit: Visit, ask: Question) -> Record:
        """The model of this site's own, as the result of a run."""
        about = (ask.prepared, site.config["model_name"], model_options(site.config))
        return result_of(self.name, *about, self.local.measured(visit), history=[], best=None, round=ask.round - 1)

    def _configured(self, site: Site, round: int, rows: int, settings: dict[str, Json]) -> dict[str, Json]:
        """The settings at a site in a round. Raises ``ConfigError`` where the strategy gives one that is none."""
        own = self.local.configured(site.node, round, rows, MappingProxyType(settings))
        known = {name: setting for name, setting in self.settings.items() if name not in _OF_ALL}
        for name, value in own.items():
            if name in settings and value == settings[name]:
                continue
            setting = known.get(name)
            if setting is None or not setting.check.fits(value):
                expected = setting.check.expected if setting else f"one of {', '.join(known)}"
                raise ConfigError(f"{self.name} gives {site.node} {name} = {value!r}; expected {expected}")
        return {**settings, **own} if own else settings

    def _common(self, site: Site, ask: Question) -> _Common:
        learned, settings = _learned(ask.model, ask.buffers), by_round.at(self._chosen(site.config), ask.round)
        own = self.local.keeps or self.local.configured is not training.configured
        visit = None if own else Visit(ask.model, learned, ask.server, {}, settings)
        return _Common(learned, settings, visit)

    def _training(
        self,
        site: Site,
        model: Model,
        rows: preparation.Rows,
        ask: Question,
        visit: Visit,
        keep: tuple[type[np.generic], type[np.generic]] | None = None,
    ) -> LocalTraining | None:
        """None where there are no training rows. ``keep``: these rows are kept in the site's cache as numbers of these
        types, for the next round."""
        if not len(rows.train):
            return None
        known: tuple[preparation.Rows, Array, Array] | None = site.cache.get("trained on")
        if keep is None or known is None or known[0] is not rows:
            X = rows.X if len(rows.train) == len(rows.X) else rows.X[rows.train]
            known = rows, X, targets(rows, ask.prepared)
            if keep is not None:
                known = site.cache["trained on"] = rows, np.ascontiguousarray(X, keep[0]), np.asarray(known[2], keep[1])
        return LocalTraining(site, model, self.local, visit, ask.round, ask.counted, known[1], known[2])

    def _chosen(self, config: Mapping[str, Json]) -> dict[str, Json]:
        """The strategy's settings in a run."""
        return {name: config.get(name, setting.default) for name, setting in self.settings.items()}


class _Common(NamedTuple):
    """What the local step knows that is the same at all sites that are asked the same; ``visit`` where that is all."""

    learned: dict[str, Array]
    settings: dict[str, Json]
    visit: Visit | None


def targets(rows: preparation.Rows, prepared: Record) -> Array:
    """(n,) of the training rows; numbers at the mean 0 and scale 1 that they are learned at."""
    y = rows.y[rows.train]
    if preparation.task(prepared).predicts == NUMBER:
        y = (y - prepared.arrays["target_mean"]) / prepared.arrays["target_scale"]
    return y


def model_at(site: Site, task: Task) -> Model:
    """The adapter of the run's model, kept at the site."""
    made: tuple[Task, Model] | None = site.cache.get("model")
    if made is None or (made[0] is not task and made[0] != task):
        model = find("models", site.config["model_name"]).build(task, model_options(site.config))
        made = site.cache["model"] = (task, model)
    return made[1]


def model_options(config: Mapping[str, Json]) -> dict[str, Any]:
    """Options for the model's ``build``: a training plan goes with them."""
    plan = {"plan": config["plan"]} if config.get("plan") is not None else {}
    return {**config["model_options"], **plan}


def evaluate(
    model: Model, common: Arrays, rows: preparation.Rows, prepared: Record, in_units: bool = False
) -> tuple[dict[str, Array], dict[str, float]]:
    """Sums and metrics of the parameters on the held-out rows. ``in_units``: the model predicts numbers in the target's
    own units, not at the mean 0 and scale 1 that it learned."""
    task = preparation.task(prepared)
    mean, scale = prepared.arrays["target_mean"], prepared.arrays["target_scale"]
    if len(rows.test):
        prediction = model.predict(common, rows.X[rows.test])
    else:
        prediction = np.zeros(task.shape(0))
    if task.predicts == NUMBER and not in_units:
        prediction = prediction * scale + mean
    return evaluation.evaluate(prediction, rows.y[rows.test], task, mean)


def _of_this_step(gathered: Gathered) -> Gathered:
    """Without the answers that were asked for in an earlier step: what they measured was another model."""
    late = {a.node: "it measured an earlier model" for a in gathered.answers if a.asked != gathered.step}
    return gathered.without(late) if late else gathered


def _lost(gathered: Gathered) -> tuple[str, ...]:
    return tuple(a.node for a in gathered.answers if a.data.get("lost") is True)


def _under(prefix: str, arrays: Arrays) -> dict[str, Array]:
    return {n.removeprefix(f"{prefix}."): arrays[n] for n in arrays if n.startswith(f"{prefix}.")}


def _learned(model: Arrays, buffers: Collection[str]) -> dict[str, Array]:
    return {n: a for n, a in model.items() if a.dtype.kind == "f" and n not in buffers}
