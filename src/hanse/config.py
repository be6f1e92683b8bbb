"""What a data scientist proposes: the configuration of one run.

Here stand the settings of every run: what it learns of what, who takes part, how long one waits. The others
come from the ingredients that the run uses (``SETTINGS`` of their files: of its algorithm, its selection, ...)
and stand beside these, by their names, in one flat object; :func:`hanse.algorithms.settled` joins the two.
Names and defaults of the session configuration are mllabiome's; what follows ``auto_start`` is ours. Values
are checked when they come in; an unknown name is an error, not a typo that passes.

>>> RunConfig.parse({"model_name": "xgboost", "num_rounds": 5}).num_rounds
5
>>> RunConfig.parse({"num_round": 5})
Traceback (most recent call last):
...
hanse.errors.ConfigError: there is no setting 'num_round'; did you mean 'num_rounds'?
>>> RunConfig.parse({"learning_rate": 0.1}).ingredient_settings
{'learning_rate': 0.1}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hanse import registry
from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.settings import (
    Setting,
    boolean,
    checked,
    declared,
    either,
    mapping,
    mappings,
    maybe,
    number,
    one_of,
    own,
    settings_of,
    sha256,
    text,
    texts,
    unknown,
    whole,
)

# where the settings of these ingredients stand; those of all others stand beside the settings of every run
APART = {"models": "model_options", "transforms": "transforms"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """One run, as proposed. :meth:`parse` checks; :meth:`to_json` gives what is hashed and sent.

    ``ingredient_settings`` are those that the run's ingredients bring along, by name: as they were given, and
    all of them once the configuration is settled (:func:`hanse.algorithms.settled`). ``given`` are the names
    that somebody set; all else is a default.
    """

    # mllabiome's session configuration
    model_name: str = declared("xgboost", "what is learned: a file of hanse.models", text(), names="models")
    task_type: str = declared(
        "auto",
        "what is learned: a file of hanse.tasks; auto settles it from the labels of all sites",
        text(),
        names="tasks",
    )
    num_rounds: int = declared(10, "training rounds; for forests, batches of trees", whole(1, 100_000))
    target_column: str = declared(
        "disease",
        "the column to be predicted, or several with commas between, for a task that takes them (time, event); "
        "empty: none, for statistics",
        either(text(), one_of("")),
    )
    feature_strategy: str = declared(
        "intersection", "features that all sites have, or that any has", one_of("intersection", "union")
    )
    union_fill: str = declared(
        "missing",
        "what a feature is at a site that lacks it, under union: missing, as where nobody measured it; zero: 0 "
        "(false), as where nothing was found; text and dates stay missing",
        one_of("missing", "zero"),
    )
    sample_id_column: str | None = declared("Sample", "names the row; never a feature; null: none", maybe(text()))
    federated_strategy: str = declared(
        "auto",
        "a file of hanse.algorithms; auto (and mllabiome's model_aggregation): the one made for the model",
        text(),
        names="algorithms",
    )
    auto_start: bool = declared(True, "start when the last expected node has accepted", boolean)
    expected_client_ids: list[str] | None = declared(None, "nodes to ask; null: all that have the tags", maybe(texts()))
    # what for, and on what
    name: str = declared("", "for people", text(empty=True))
    purpose: str = declared("", "shown to the data owners", text(4000, empty=True))
    study: str = declared(
        "",
        "the study that it is part of, whose nodes are asked and whose people see it; empty: none",
        text(64, empty=True),
    )
    tags: list[str] = declared([], "a dataset takes part if it carries all of these", texts())
    features: list[str] | None = declared(None, "use these; null: all that the strategy gives", maybe(texts()))
    seed: int = declared(0, "of all random numbers of the run", whole(0, 2**63 - 1))
    test_fraction: float = declared(0.25, "rows of each site held out for evaluation", number(0, 0.9))
    # how it learns
    model_options: dict[str, Json] = declared({}, "hyper-parameters by the library's own names", mapping)
    initial_model: str | None = declared(
        None, "SHA-256 of a stored model version to go on from; null: begin anew", maybe(sha256)
    )
    keep_models: bool | str = declared(
        False,
        "keep the model after every round, not only the last, as for evaluation on central data; best: the one of the "
        "least loss and the last",
        either(boolean, one_of("best")),
    )
    plan: dict[str, Json] | None = declared(
        None,
        "code of the data scientist that runs at the nodes: a PyTorch training plan ({source, name}), or a Flower app "
        "({name, files, run_config})",
        maybe(mapping),
    )
    measures: list[str] = declared(
        [],
        "what else is measured of the model when it has been learned: files of hanse.measures",
        texts(),
        names="measures",
    )
    # who takes part
    fraction: float = declared(1.0, "share of the online nodes asked per training round", number(0, 1, above=True))
    selection: str = declared("uniform", "who is asked to train: a file of hanse.selection", text(), names="selection")
    evaluate_every: int = declared(
        10,
        "where a round asks a sample (fraction below 1), everybody evaluates the model after each so many rounds, "
        "and after the last; 0: only after the last",
        whole(0, 100_000),
    )
    min_available_nodes: int = declared(1, "a round starts when so many are online", whole(1, 100_000))
    min_fit_nodes: int = declared(1, "ask at least so many", whole(1, 100_000))
    min_completed: int = declared(1, "fewer answers: the round has failed", whole(1, 100_000))
    gathering: str = declared("plain", "how sums come together: a file of hanse.gathering", text(), names="gathering")
    gathering_fallback: str | None = declared(
        None,
        "how contributions come together that it cannot combine; owners see it; empty: the run is refused; null: plain "
        "where `gathering` hides nothing, else empty",
        maybe(text(empty=True)),
        names="gathering",
    )
    transforms: list[dict[str, Json]] = declared(
        [],
        "what is done to each contribution before it leaves a node, in order: [{name: clip, norm: 1}]",
        mappings,
        names="transforms",
    )
    privacy: dict[str, Json] | None = declared(
        None,
        "differential privacy: an object of mode (local or distributed), epsilon, delta, clip, ranges, colluding, or a "
        "mode alone, which leaves epsilon 1 and delta 1e-5; null: none (docs/privacy.md)",
        maybe(either(mapping, text())),
    )
    max_weight_share: float = declared(
        1.0, "largest share of one node in a round's average; 1: that of its rows", number(0, 1, above=True)
    )
    round_timeout_s: float = declared(
        60.0, "a node that shows no progress for so long is late", number(0, 30 * 86_400, above=True)
    )
    round_deadline_s: float | None = declared(
        None,
        "the most that a node may take for one answer, however it progresses; null: as long as it progresses",
        maybe(number(0, 30 * 86_400, above=True)),
    )
    reconnect_timeout_s: float = declared(
        15.0, "a node that lost its connection in a round may take so long to come back", number(0, 30 * 86_400)
    )
    wait_timeout_s: float = declared(600.0, "how long to wait for min_available_nodes", number(0, 30 * 86_400))
    max_failed_rounds: int = declared(3, "so many failed rounds in a row are retried", whole(0, 1000))
    consent_timeout_s: float = declared(7 * 86_400.0, "then the proposal expires", number(0, 366 * 86_400, above=True))
    ingredient_settings: Mapping[str, Json] = field(default_factory=dict)
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @property
    def sample_id(self) -> str | None:
        """The column that names the rows, where somebody named one: the default is often not there, and may be."""
        default = settings_of(type(self))["sample_id_column"].default
        return None if self.sample_id_column == default else self.sample_id_column

    @classmethod
    def parse(cls, raw: Mapping[str, Json]) -> RunConfig:
        """Checks every name of ``raw``, and the values of all that is no ingredient's. Raises ``ConfigError`` for
        the first that is wrong."""
        if not isinstance(raw, Mapping):
            raise ConfigError(f"a run's configuration is an object of settings, not {type(raw).__name__}")
        core = settings_of(cls)
        others = {name: value for name, value in raw.items() if name not in core}
        if others and not others.keys() <= _own(raw, core):
            known = of_ingredients()  # once: the folders are looked at for each of their ingredients
            for name in others:
                if name not in known:
                    raise nowhere(str(name), [*core, *known], raw.get("model_name", ""))
        config = cls(
            **checked({name: value for name, value in raw.items() if name in core}, core),
            ingredient_settings=others,
            given=frozenset(raw),
        )
        if config.task_type not in (tasks := registry.names("tasks")):
            raise ConfigError(f"task_type is {config.task_type!r}; expected one of {', '.join(tasks)}")
        for name in config.targets if config.features is not None else ():
            if name in (config.features or ()):
                raise ConfigError(f"the target {name!r} cannot also be a feature")
        if config.weight_column is not None and config.weight_column in (*config.targets, *(config.features or ())):
            raise ConfigError(f"weight_column {config.weight_column!r} cannot also be a feature or the target")
        if config.union_fill != "missing" and config.feature_strategy != "union":
            raise ConfigError(
                f"union_fill is {config.union_fill!r}, and under {config.feature_strategy} no site lacks a feature; "
                "set feature_strategy to union, or leave union_fill out"
            )
        if config.min_completed > config.min_fit_nodes:
            if "min_fit_nodes" in raw:
                raise ConfigError(
                    f"min_completed ({config.min_completed}) is more than min_fit_nodes ({config.min_fit_nodes})"
                )
            config = dataclasses.replace(config, min_fit_nodes=config.min_completed)
        return config

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that the target stands in, as the task says (:meth:`hanse.task.Settling.columns`); none where
        nothing is predicted. Raises ``ConfigError`` where the task takes other columns."""
        if not self.target_column:
            return ()
        found: tuple[str, ...] = registry.find("tasks", self.task_type).TASK.columns(self.target_column)
        return found

    @property
    def weight_column(self) -> str | None:
        """The column that says what each row counts for, where the run's algorithm takes one and it is set."""
        found = self.ingredient_settings.get("weight_column")
        return found if isinstance(found, str) else None

    @property
    def besides(self) -> tuple[str, ...]:
        """The columns that a node needs beside the features: the target's, and that of weights."""
        return self.targets if self.weight_column is None else (*self.targets, self.weight_column)

    @property
    def group_columns(self) -> tuple[str, ...]:
        """The columns by whose groups the model is measured, where the run does that."""
        found = self.ingredient_settings.get("group_by")
        return tuple(found) if isinstance(found, Mapping) else ()

    @classmethod
    def read(cls, raw: Mapping[str, Json]) -> RunConfig:
        """What a coordinator says of a run that exists, of another release perhaps: nothing is checked, and what
        is not known here is kept among the ``ingredient_settings``. Only for looking; who runs it parses it."""
        core = settings_of(cls)
        known = {name: value for name, value in raw.items() if name in core}
        others = {name: value for name, value in raw.items() if name not in core}
        return cls(**known, ingredient_settings=others, given=frozenset(raw))

    def to_json(self) -> dict[str, Json]:
        """All settings, defaults included."""
        core = {name: getattr(self, name) for name in settings_of(type(self))}
        found: dict[str, Json] = own({**core, **self.ingredient_settings})
        return found

    def to_send(self) -> dict[str, Json]:
        """What somebody set, or what differs from the defaults: the coordinator fills in its own for the rest."""
        before = {name: setting.default for name, setting in settings_of(type(self)).items()}
        everything = self.to_json()
        return {n: v for n, v in everything.items() if n in self.given or n not in before or v != before[n]}

    @classmethod
    def describe(cls) -> list[dict[str, Json]]:
        """The settings of every run, for documentation and forms (:meth:`hanse.settings.Setting.describe`)."""
        return [setting.describe(name) for name, setting in settings_of(cls).items()]

    @classmethod
    def folders(cls) -> tuple[str, ...]:
        """The folders of ingredients that the settings of every run name one of."""
        return tuple(dict.fromkeys(setting.names for setting in settings_of(cls).values() if setting.names))


def _own(raw: Mapping[str, Json], core: Mapping[str, Setting]) -> set[str]:
    """The settings of the ingredients that a configuration names itself, as one that is settled does: a site that runs
    it loads no other ones."""
    found: set[str] = set()
    for name, setting in core.items():
        wanted = raw.get(name, setting.default)
        for ingredient in wanted if isinstance(wanted, (list, tuple)) else (wanted,):
            if setting.names and setting.names not in APART and ingredient in registry.names(setting.names):
                found |= _settings(setting.names, ingredient, core).keys()
    return found


def of_ingredients() -> dict[str, tuple[tuple[str, str], ...]]:
    """The settings of all ingredients that a run may use, each with the ingredients (folder, name) that have it.

    They are those of the folders that settings of every run name ingredients of, but for those that stand
    :data:`APART`. Raises ``ConfigError`` where an ingredient claims the name of a setting of every run.
    """
    core = settings_of(RunConfig)
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for folder in sorted({*RunConfig.folders()} - {*APART}):
        for ingredient in registry.names(folder):
            for name in _settings(folder, ingredient, core):
                found[name] = (*found.get(name, ()), (folder, ingredient))
    return found


def nowhere(name: str, known: Iterable[str], model: object = "") -> ConfigError:
    """The error of a setting that no run has; where the model has it, it says where that goes.

    >>> nowhere("C", [], "logistic_regression")
    ConfigError("'C' is no setting of a run but an option of logistic_regression: model_options={'C': ...}")
    """
    if isinstance(model, str) and model in registry.names("models") and name in registry.settings("models", model):
        return ConfigError(f"{name!r} is no setting of a run but an option of {model}: model_options={{{name!r}: ...}}")
    return unknown(name, known)


def _settings(folder: str, ingredient: str, core: Mapping[str, Setting]) -> Mapping[str, Setting]:
    found = registry.settings(folder, ingredient)
    for name in found:
        if name in core:
            raise ConfigError(f"{name!r} of {ingredient} in {folder} is a setting of every run; name it otherwise")
    return found


def owners(name: str) -> tuple[tuple[str, str], ...]:
    """The ingredients (folder, name) that have a setting of this name."""
    return of_ingredients().get(name, ())
