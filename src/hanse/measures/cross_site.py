"""The cross-site matrix: each site's own model, and the one of all, on the held-out rows of every site.

A site's *own* model is the one that it would have without the others: what the training that is the default for the
model learns, with the settings of the run, when this site is the only one (with what all agreed on before: columns,
categories, scales). Each site sends it, so **every site and the coordinator see the model that each site's rows alone
give**; who asks for this measure says so in the proposal, and secure sums have to name a gather that shows it.

Then all models go to everybody, and each site says how each of them does on its held-out rows: the metrics of the task.
A site with fewer held-out rows than its owner's ``minimum_cell`` says nothing, one without training rows has no model,
and a model that cannot be used at a site has no figures there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hanse.config import RunConfig
from hanse.errors import HanseError, NodeFailed, Unusable
from hanse.kinds import Combine, Contribution, Done, Gathered, Site
from hanse.learning import evaluation
from hanse.learning import rows as preparation
from hanse.learning.measuring import Inquiry, measuring, prediction
from hanse.messages import Array, Json, Record
from hanse.queries import MINIMUM
from hanse.registry import find, names, settings
from hanse.settings import Setting
from hanse.task import Task

SETTINGS: dict[str, Setting] = {}
FEDERATION = "all sites"  # the model of all: no site can be called so
MOST_SITES, MOST_BYTES = 50, 64 << 20  # of models that go to everybody: so many, and so large each
_MODEL = "model."


# ---------------------------------------------------------------- at a node


def _own(site: Site, learned: Record, about: Record) -> Contribution:
    """The arrays of this site's own model; none where it has no training rows."""
    prepared = preparation.unpack(learned)
    if not preparation.targets(site, prepared).size:
        return Contribution(Record())
    arrays = alone(site, prepared).arrays
    return Contribution(Record({}, {name: arrays[name] for name in arrays if name.startswith(_MODEL)}))


def alone(site: Site, prepared: Record) -> Record:
    """What the default training of the run's model learns of one site, without measuring on the way."""
    name, of_one = _training(str(site.config["model_name"])), find("gathering", "plain").of_one
    defaults = {setting: of.default for setting, of in settings("algorithms", name).items()}  # it may not be the run's
    config = {**defaults, **site.config}
    here = replace(site, config=config, memory={}, cache={}, nodes=(site.node,))
    algorithm = find("algorithms", name).ALGORITHM
    state, step = algorithm.init({**config, "test_fraction": 0.0, "fraction": 1.0}, prepared), 0
    while not isinstance(ask := algorithm.ask(state), Done):
        said = algorithm.answer(here, ask.record)
        gathered = of_one(site.node, said, ask, step)
        if gathered.failures:
            raise NodeFailed(f"this site's own model cannot be learned: {gathered.failures[site.node]}")
        state, step = algorithm.tell(state, gathered), step + 1
        site.progress()
    found: Record = algorithm.result(state)
    return found


def ingredients(config: RunConfig) -> tuple[str, ...]:
    """The default training, which is code of the node's half of the run whatever the run's own strategy is."""
    name = _training(config.model_name)
    module = find("algorithms", name)
    more = module.ingredients(config.model_options) if hasattr(module, "ingredients") else ()
    return (f"hanse.algorithms.{name}", *more)


def _training(model: str) -> str:
    """The default training of a model's first capability that has one, as of ``federated_strategy="auto"``."""
    takers = {name: find("algorithms", name) for name in names("algorithms")}
    for ability in find("models", model).LEARNS_BY:
        for name, module in takers.items():
            if getattr(module, "TAKES", None) == ability and getattr(module, "DEFAULT", False):
                return name
    raise NodeFailed(f"no training is the default for {model}, so that a site has no model of its own")


def _everywhere(site: Site, learned: Record, about: Record) -> Contribution:
    """Name of a model to its metrics on this site's held-out rows."""
    prepared = preparation.unpack(learned)
    minimum = max(1, int(site.owner.get("minimum_cell", MINIMUM)))
    rows = len(preparation.targets(site, prepared).test)
    if rows < minimum:
        return Contribution(Record({"few": True}))
    found: dict[str, Json] = {}
    for place, name in enumerate([FEDERATION, *about.data["sites"]]):
        model = _with(learned, about, place) if place else learned
        found[name] = _metrics(model, site, prepared)
        site.progress()
    return Contribution(Record({"measured": found, "rows": rows}))


def _with(learned: Record, about: Record, place: int) -> Record:
    """The result of the training with the arrays of another model."""
    mine, prefix = {n: learned.arrays[n] for n in learned.arrays if not n.startswith(_MODEL)}, f"{place}."
    theirs = {n.removeprefix(prefix): about.arrays[n] for n in about.arrays if n.startswith(prefix)}
    return Record(learned.data, {**mine, **theirs})


def _metrics(model: Record, site: Site, prepared: Record) -> dict[str, float] | None:
    task = preparation.task(prepared)
    try:
        predicted, y, weight = prediction(model, site)
        if predicted.shape != task.shape(len(y)):
            return None
        own = evaluation.evaluate(predicted, y, task, prepared.arrays["target_mean"], weight)[1]
    except (HanseError, ValueError, IndexError, TypeError):  # what somebody sent is no model here
        return None
    return {name: own[name] for name in task.of.metrics if name in own}


# ---------------------------------------------------------------- at the coordinator


def _collected(learned: Record, known: Record, gathered: Gathered) -> Record:
    """The own models of all sites, by their places. Leaves out who sent arrays that are not of this model."""
    model = {name: learned.arrays[name] for name in learned.arrays if name.startswith(_MODEL)}
    sites: list[str] = []
    arrays: dict[str, Array] = {}
    wrong: dict[str, str] = {}
    for answer, record in gathered.each():
        if not len(record.arrays):
            continue
        if fault := _fault(record, model):
            wrong[answer.node] = fault
        elif len(sites) < MOST_SITES:
            sites.append(answer.node)
            arrays |= {f"{len(sites)}.{name}": record.arrays[name] for name in model}
    if wrong:
        raise Unusable(wrong)
    return Record({"sites": sites}, arrays)


def _fault(record: Record, model: Mapping[str, Array]) -> str:
    if set(record.arrays) != set(model):
        return "its own model has other arrays than the one of all"
    if sum(record.arrays[name].nbytes for name in model) > MOST_BYTES:
        return f"its own model is larger than {MOST_BYTES >> 20} MiB"
    for name, whole in model.items():
        own = record.arrays[name]
        if own.dtype != whole.dtype or own.ndim != whole.ndim or own.shape[1:] != whole.shape[1:]:
            return f"the array {name} of its own model is {own.dtype} {own.shape}; expected {whole.dtype} {whole.shape}"
    return ""


def _matrix(learned: Record, known: Record, gathered: Gathered) -> Record:
    """A row for each model and site: ``{model, site, rows, metric: value}``."""
    task = preparation.task(preparation.unpack(learned))
    models = [FEDERATION, *known.data["sites"]]
    cells: list[Json] = []
    few: list[str] = []
    wrong: dict[str, str] = {}
    for answer in gathered.answers:
        if answer.data.get("few") is True:
            few.append(answer.node)
            continue
        said, rows = answer.data.get("measured"), answer.data.get("rows")
        if not isinstance(said, Mapping) or set(said) != set(models) or not isinstance(rows, int):
            wrong[answer.node] = "it does not say how each of the models does there"
            continue
        for model in models:
            metrics = said[model] if isinstance(said[model], Mapping) else {}
            cells.append({"model": model, "site": answer.node, "rows": rows, **_finite(metrics, task)})
    if wrong:
        raise Unusable(wrong)
    cells.sort(key=lambda cell: (models.index(cell["model"]), cell["site"]))
    return Record({"told": {"cells": cells, "models": models, "metrics": list(task.of.metrics), "few": sorted(few)}})


def _finite(metrics: Mapping[str, Json], task: Task) -> dict[str, Json]:
    return {
        name: float(value) if isinstance(value := metrics.get(name), (int, float)) and abs(value) < 1e100 else None
        for name in task.of.metrics
    }


MEASURE = measuring(
    __name__,
    (
        Inquiry("learn own models", Combine.MERGE, lambda learned, known: Record(), _own, _collected),
        Inquiry("measure everywhere", Combine.MERGE, lambda learned, known: known, _everywhere, _matrix),
    ),
)
