"""Federated computations: one file each, both halves together (:class:`hanse.kinds.Algorithm`).

A file without a leading underscore is an algorithm that a run can choose; the others are parts of them: what
is agreed on before, how it is evaluated. A file has

- ``ALGORITHM``, the algorithm: a value, since it has no state of its own;
- ``TAKES``, if it learns a model: the capability that a model must have (``LEARNS_BY`` of :mod:`hanse.models`).
  It runs after the preparation. ``DEFAULT = True`` marks the one that ``auto`` means for its capability. An
  algorithm without ``TAKES`` learns no model and reads rows as they are (:class:`hanse.kinds.Source`);
- ``PERSONAL = True``, if what it measures are models that sites keep for themselves (:func:`nearness`);
- ``EXACT = True``, if its model is that of the pooled rows, whatever the split (:func:`nearness`);
- ``NEEDS_DATA = False``, if it touches no data;
- ``SETTINGS``, what a run may set for it (:class:`hanse.settings.Setting`): they stand beside the settings of every
  run, and reach it by name in the run's configuration;
- it may have ``ingredients(options)``, further modules of the node's half that depend on the run's options. Its
  ``ALGORITHM`` may have ``averages(options)``, whether a node's weight decides what it counts for (True where it has
  none), ``updates``, whether its contributions are changes of common parameters, which transforms may make smaller
  (False where it has none), and ``begun(state, start)``, which goes on from the model of an earlier run;
- it may have ``combines(options)``, the ways to combine that these options ask for, where not all of ``ALGORITHM`` are;
- it may have ``unfit(config)``, a sentence why a configuration, with all its settings, cannot be run with it ("" where
  it can), so that the proposal is refused before an owner is asked; so may what ``ALGORITHM`` is made of, as averaging,
  for what all strategies that share it have in common;
- it may have ``few(config, sites)``, the same of how many sites a run has;
- it may have ``most_steps(config)``, the most steps that it takes, of which owners consent to no more (those of
  training rounds and the evaluations between them, where it has none);
- ``BY_COLUMNS = True``, if its half at a node looks at one column of the rows at a time, so that a node need not hold
  all of a large file;
- ``WHOLE = True``, if code of the data scientist reads the data set by itself, with all its columns;
- ``UNIT = "row"``, if each of its contributions says what one row can change it by
  (:attr:`hanse.kinds.Contribution.sensitivity`), so that noise can hide rows; noise can hide a site in updates;
- it may have ``noised_steps(config)``, the noised steps inside each of its contributions and the probability by which
  each takes a row, where it adds the noise itself (:attr:`hanse.kinds.Site.noise`);
- ``AT_ONCE = True``, if owners answer its questions at once in their settings, so that none waits for a decision.

A strategy of averaging is one file that names a local step, an aggregation and a server's step
(:mod:`hanse.learning.averaging`); :mod:`hanse.algorithms.fedprox` is one to read.

No algorithm knows a model by name and no model an algorithm: they meet by capability (:func:`resolve`).
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping

from hanse import registry
from hanse.config import APART, RunConfig, owners
from hanse.errors import ConfigError
from hanse.kinds import Combine
from hanse.messages import Json, Record
from hanse.privacy import guarantee
from hanse.registry import every, find, names
from hanse.settings import Setting, checked, settings_of
from hanse.stages import Stages
from hanse.task import HAZARD, NUMBER

AUTOMATIC = ("auto", "model_aggregation")  # the second is mllabiome's word for it


def resolve(config: RunConfig) -> str:
    """The name of the algorithm that a configuration means. Raises ``ConfigError`` where the
    algorithm and the model do not fit."""
    chosen, model = config.federated_strategy, config.model_name
    if chosen in AUTOMATIC:
        return _default(model)
    takes = getattr(find("algorithms", chosen), "TAKES", None)
    if takes is not None and takes not in find("models", model).LEARNS_BY:
        known = ", ".join(fitting(model)) or "no algorithm that is installed here"
        raise ConfigError(f"{model} does not learn by {chosen}; it learns by {known}")
    return chosen


def fitting(model: str) -> tuple[str, ...]:
    """The names of the algorithms that learn a model, those of its first capability first."""
    takers = {name: getattr(module, "TAKES", None) for name, module in every("algorithms").items()}
    return tuple(name for ability in find("models", model).LEARNS_BY for name in takers if takers[name] == ability)


def _default(model: str) -> str:
    """The default algorithm of the model's first capability that has one."""
    defaults = [(name, module) for name, module in every("algorithms").items() if getattr(module, "DEFAULT", False)]
    for ability in find("models", model).LEARNS_BY:
        takers = [name for name, module in defaults if getattr(module, "TAKES", None) == ability]
        if len(takers) > 1:
            raise ConfigError(f"{' and '.join(takers)} are both the DEFAULT for what {model} learns by ({ability})")
        if takers:
            return takers[0]
    known = ", ".join(fitting(model)) or "none that is installed here"
    raise ConfigError(f"no algorithm is the default for {model}; set federated_strategy to one that fits: {known}")


def learns(strategy: str) -> bool:
    """Whether a model comes of a run with that ``federated_strategy``; of statistics and probes none does, of one that
    is not installed here it is taken for granted.

    >>> learns("auto"), learns("newton"), learns("statistics"), learns("probe")
    (True, True, False, False)
    """
    return strategy not in names("algorithms") or hasattr(find("algorithms", strategy), "TAKES")


def title(config: RunConfig) -> str:
    """What a run is for, in a few words: its model and target, or the algorithm of which no model comes.

    >>> title(RunConfig(model_name="random_forest", target_column="ill")), title(RunConfig(federated_strategy="probe"))
    ("random forest for 'ill'", 'probe')
    """
    if not learns(config.federated_strategy):
        return config.federated_strategy.replace("_", " ")
    return f"{config.model_name.replace('_', ' ')} for {config.target_column!r}"


EQUAL = "exact: equals the pooled fit"
_ONLY = {(NUMBER,): "regression", (HAZARD,): "survival"}  # the task of a model that predicts nothing else
AVERAGED = "averaged: what the sites learn by themselves is averaged, which comes near to the pooled fit and is another"
PERSONAL = "personal: each site is measured by a model of its own, which stays there; the parameters here are in common"
NOISED = "noised: what hides each row keeps it from the pooled fit, the less so the more rows there are"
JOINED = "joined: what each site grows from its own rows is put together, which is another model than the pooled fit"


def nearness_of(config: Mapping[str, Json]) -> str:
    """:func:`nearness` of a run by its settings, where ``auto`` stands for the default of the run's model.

    >>> nearness_of({"federated_strategy": "auto", "model_name": "ridge"})
    'exact: equals the pooled fit'
    """
    chosen, model = str(config.get("federated_strategy", "")), str(config.get("model_name", ""))
    if chosen in AUTOMATIC:
        if model not in names("models"):
            return ""
        chosen = _default(model)
    return nearness(chosen, model)


def nearness(name: str, model: str = "") -> str:
    """How the model that an algorithm learns relates to the one of the pooled rows, in a line; "" where none is
    learned, or the algorithm is not installed here. What it equals where it is exact may be the ``model``'s to say.

    >>> nearness("newton"), nearness("statistics")
    ('exact: equals the pooled fit', '')
    >>> [nearness(name).partition(":")[0] for name in ("fedprox", "scaffold", "ditto", "forest_union")]
    ['averaged', 'averaged', 'personal', 'joined']
    """
    module = find("algorithms", name) if name in names("algorithms") else None
    if module is None or not hasattr(module, "TAKES"):
        return ""
    if getattr(module, "EXACT", False):
        own = getattr(find("models", model), "EQUALS", "") if model in names("models") else ""
        return f"exact: equals {own}" if own else EQUAL
    if getattr(module, "PERSONAL", False):
        return PERSONAL
    if getattr(module, "UNIT", "") == guarantee.ROW:
        return NOISED
    return AVERAGED if module.TAKES == "parameters" else JOINED


def needs_data(config: RunConfig) -> bool:
    """Whether the run touches data at all."""
    return bool(getattr(find("algorithms", resolve(config)), "NEEDS_DATA", True))


def by_columns(config: RunConfig) -> bool:
    """Whether the run's rows are looked at one column at a time."""
    return bool(getattr(find("algorithms", resolve(config)), "BY_COLUMNS", False))


def whole(config: RunConfig) -> bool:
    """Whether the run sees all columns of a data set, whatever they are."""
    return bool(getattr(find("algorithms", resolve(config)), "WHOLE", False))


def needs_model(config: RunConfig) -> bool:
    """Whether the run learns a model, from prepared rows."""
    return hasattr(find("algorithms", resolve(config)), "TAKES")


def files(config: RunConfig) -> tuple[str, ...]:
    """The files of this folder that the run uses, in the order of its stages."""
    return ("_preparation", resolve(config)) if needs_model(config) else (resolve(config),)


def combines(config: RunConfig) -> frozenset[Combine]:
    """The ways to combine that the run asks for, in all its stages."""
    modules = [importlib.import_module(f"hanse.algorithms.{name}") for name in files(config)]
    ways = [m.combines(config.model_options) if hasattr(m, "combines") else m.ALGORITHM.combines for m in modules]
    ways += [find("measures", name).MEASURE.combines for name in config.measures]
    return frozenset().union(*ways)


def sends_updates(config: RunConfig) -> bool:
    """Whether nodes send changes of what all hold in common (:attr:`hanse.kinds.Contribution.update`)."""
    return bool(getattr(find("algorithms", resolve(config)).ALGORITHM, "updates", False))


def ingredients(config: RunConfig) -> tuple[str, ...]:
    """Further modules of the node's half that the run's options ask for."""
    module = find("algorithms", resolve(config))
    return tuple(module.ingredients(config.model_options)) if hasattr(module, "ingredients") else ()


def most_steps(config: RunConfig) -> int:
    """The most steps that a run of this configuration takes, over all its stages."""
    from hanse.learning import schedule

    modules = [importlib.import_module(f"hanse.algorithms.{name}") for name in files(config)]
    steps = sum(m.most_steps(config) if hasattr(m, "most_steps") else schedule.most_steps(config) for m in modules)
    return steps + sum(int(find("measures", name).MEASURE.inner.steps) for name in config.measures)


def unit(config: RunConfig) -> str:
    """Whose part noise can hide in what nodes tell: ``row``, ``site``, or "" where nobody's."""
    own: str = getattr(find("algorithms", resolve(config)), "UNIT", "")
    return own or (guarantee.SITE if sends_updates(config) else "")


def of_unit(*units: str) -> tuple[str, ...]:
    """The names of the algorithms in which noise can hide one of these."""
    own = {
        name: getattr(m, "UNIT", "") or (guarantee.SITE if getattr(m.ALGORITHM, "updates", False) else "")
        for name, m in every("algorithms").items()
    }
    return tuple(name for name, found in own.items() if found in units)


def releases(config: RunConfig) -> int:
    """How many answers of one node are noised at most, in a differentially private run."""
    return config.num_rounds if needs_model(config) else most_steps(config)


def noised_steps(config: RunConfig) -> tuple[int, float]:
    """The noised steps inside each answer, and by which probability each takes a row; (0, 1) where an answer is noised
    as a whole."""
    module = find("algorithms", resolve(config))
    return module.noised_steps(config) if hasattr(module, "noised_steps") else (0, 1.0)


def at_once(chosen: Json) -> bool:
    """Whether owners answer the questions of an algorithm at once, in their settings. What is no algorithm, or
    is left to the model, has to be decided on."""
    return isinstance(chosen, str) and chosen in names("algorithms") and _at_once(chosen)


def _at_once(name: str) -> bool:
    return bool(getattr(find("algorithms", name), "AT_ONCE", False))


def used(config: RunConfig) -> tuple[tuple[str, str], ...]:
    """The ingredients (folder, name) whose settings stand beside those of every run: its algorithm, and what
    the settings of every run name by themselves. Raises ``ConfigError`` for a name that no folder has."""
    found = [("algorithms", resolve(config))]
    for name, setting in settings_of(RunConfig).items():
        if setting.names and setting.names not in ("algorithms", *APART) and (value := getattr(config, name)):
            found += [(setting.names, one) for one in ([value] if isinstance(value, str) else value)]
    for folder, ingredient in found:
        find(folder, ingredient)
    return tuple(dict.fromkeys(found))


def settled(config: RunConfig) -> RunConfig:
    """The configuration with every setting of the run's ingredients, checked: given, or its default.

    Raises:
        ConfigError: a value does not fit; a setting is of an ingredient that this run does not use (it says of
            which); two ingredients of the run have different settings of one name; an option of the model is wrong; the
            algorithm says that it cannot run so (``unfit``).
    """
    ingredients = used(config)
    known: dict[str, Setting] = {}
    for folder, ingredient in ingredients:
        for name, setting in registry.settings(folder, ingredient).items():
            if known.setdefault(name, setting) != setting:
                raise ConfigError(f"{ingredient} of {folder} and another ingredient of this run both have a {name!r}")
    for name in config.ingredient_settings:
        if name not in known and (whose := owners(name)):
            these = ", ".join(ingredient for _, ingredient in ingredients)
            raise ConfigError(
                f"{name} is a setting of {', '.join(ingredient for _, ingredient in whose)}, which this run does not "
                f"use: it uses {these}; leave {name} out"
            )
    values = checked(config.ingredient_settings, known)
    if needs_model(config):
        model = find("models", config.model_name)
        if hasattr(model, "read"):  # its options depend on each other
            model.read(config.model_options)
        elif hasattr(model, "SETTINGS"):  # torch_module takes the options of whoever wrote the plan
            checked(config.model_options, model.SETTINGS, of=config.model_name)
        config = with_task(config)
    algorithm, config = find("algorithms", resolve(config)), dataclasses.replace(config, ingredient_settings=values)
    if config.privacy is not None:
        config = dataclasses.replace(
            config,
            privacy=guarantee.settled(config.privacy),
            # metrics of rows held out are exact sums of them: nobody gets them unless somebody asks, and is refused
            test_fraction=config.test_fraction if "test_fraction" in config.given else 0.0,
        )
    for says in (algorithm, getattr(algorithm.ALGORITHM, "inner", None)):
        unfit = getattr(says, "unfit", None)
        if unfit is not None and (why := unfit(config)):
            raise ConfigError(why)
    _check_measures(config)
    return config


def check_sites(config: RunConfig, sites: int) -> None:
    """Raises ``ConfigError`` where a run, with all its settings, has too few sites for its algorithm (``few``)."""
    few = getattr(find("algorithms", resolve(config)), "few", None)
    if few is not None and sites and (why := few(config, sites)):
        raise ConfigError(why)


def with_task(config: RunConfig) -> RunConfig:
    """With the task that a model is for which predicts numbers alone, or hazards alone: labels would say of few whole
    numbers, such as counts, that they are classes. Raises ``ConfigError`` where the model cannot predict what the task
    needs."""
    predicts = getattr(find("models", config.model_name), "PREDICTS", None)
    if predicts is None:
        return config
    if config.task_type == "auto" and (only := _ONLY.get(tuple(predicts))):
        return dataclasses.replace(config, task_type=only)
    wanted = getattr(find("tasks", config.task_type).TASK, "predicts", None)  # of auto it is not known yet
    if wanted is not None and wanted not in predicts:
        fitting = [n for n in registry.names("tasks") if getattr(find("tasks", n).TASK, "predicts", None) in predicts]
        raise ConfigError(
            f"{config.model_name} does not predict what task_type {config.task_type} needs; it can "
            f"{', '.join(fitting)}; leave task_type out, or choose another model"
        )
    return config


def _check_measures(config: RunConfig) -> None:
    """Raises ``ConfigError`` where the model of a run cannot be measured as it asks for."""
    if not config.measures:
        return
    named, strategy = ", ".join(config.measures), resolve(config)
    if not needs_model(config):
        raise ConfigError(f"{strategy} learns no model; leave measures out")
    if config.privacy is not None:
        raise ConfigError(f"{named}: exact figures of held-out rows are not differentially private; leave measures out")
    if not config.test_fraction > 0:
        raise ConfigError(f"{named}: test_fraction is 0, so that no row is held out to measure on")
    if getattr(find("algorithms", strategy), "PERSONAL", False):
        raise ConfigError(f"{named}: {strategy} leaves each site a model of its own, and there is no one to measure")
    for name in config.measures:
        module = find("measures", name)
        if hasattr(module, "unfit") and (why := module.unfit(config)):
            raise ConfigError(why)


def build(config: RunConfig, start: Record | None = None) -> Stages:
    """The algorithm of a run, its stages in turn. ``start``: the model that the training goes on from
    (coordinator); nodes get it with their first task, as any other parameters."""
    settings = settled(config).to_json()
    if needs_model(config):
        averages = getattr(find("algorithms", resolve(config)).ALGORITHM, "averages", None)
        if config.max_weight_share < 1 and averages is not None and not averages(config.model_options):
            raise ConfigError(
                f"{resolve(config)} does not average what the sites learn, so max_weight_share has "
                "nothing to bound; leave it out"
            )
    stages = [importlib.import_module(f"hanse.algorithms.{name}").ALGORITHM for name in files(config)]
    if start is not None:
        from hanse.algorithms._continued import Continued

        stages[-1] = Continued(stages[-1], start)
    learning = len(stages) - 1
    return Stages([*stages, *(find("measures", name).MEASURE for name in config.measures)], settings, learning)


def continuing(config: RunConfig, start: Record) -> RunConfig:
    """The configuration of a run that trains the model ``start`` further: with its columns, where it
    names none. Raises ``ConfigError`` where the two do not fit."""
    from hanse.algorithms import _continued

    if not needs_model(config):
        raise ConfigError(f"{resolve(config)} learns no model; leave initial_model out")
    algorithm = find("algorithms", resolve(config)).ALGORITHM
    if not hasattr(getattr(algorithm, "inner", algorithm), "begun"):  # of one that speaks in values
        raise ConfigError(f"{resolve(config)} does not go on from a model; leave initial_model out")
    return _continued.settings(config, start)


__all__ = [
    "at_once",
    "build",
    "by_columns",
    "combines",
    "continuing",
    "files",
    "fitting",
    "ingredients",
    "most_steps",
    "needs_data",
    "needs_model",
    "resolve",
    "sends_updates",
    "settled",
    "used",
    "with_task",
]
