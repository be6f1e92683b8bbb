"""What a data scientist proposes: the configuration of one run.

Names and defaults of the session configuration are mllabiome's; what follows ``auto_start`` is
ours. Values are checked when they come in; an unknown name is an error, not a typo that passes.

>>> RunConfig.parse({"model_name": "xgboost", "num_rounds": 5}).num_rounds
5
>>> RunConfig.parse({"num_round": 5})
Traceback (most recent call last):
...
hanse.errors.ConfigError: there is no setting 'num_round'; did you mean 'num_rounds'?
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.registry import names


def _number(low: float, high: float, *, whole: bool = False, above: bool = False) -> Callable[[Json], str]:
    what = "a whole number" if whole else "a number"
    bounds = f"{what} {'above' if above else 'from'} {low:g} {'up ' if above else ''}to {high:g}"

    def check(value: Json) -> str:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            return bounds
        if not math.isfinite(value) or value > high or value < low or (above and value == low):
            return bounds
        return ""

    return check


def _one_of(*allowed: str) -> Callable[[Json], str]:
    return lambda value: "" if value in allowed else "one of " + ", ".join(allowed)


def _named(folder: str) -> Callable[[Json], str]:
    """A name in the folder, as it is when the value comes in."""
    return lambda value: "" if value in names(folder) else "one of " + ", ".join(names(folder))


def _text(longest: int = 200, *, empty: bool = False) -> Callable[[Json], str]:
    def check(value: Json) -> str:
        fits = isinstance(value, str) and len(value) <= longest and (empty or value.strip())
        return "" if fits else f"text of at most {longest} characters"

    return check


def _texts(value: Json) -> str:
    fits = isinstance(value, (list, tuple)) and all(isinstance(v, str) and v for v in value)
    return "" if fits and len(set(value)) == len(value) else "a list of distinct names"


def _maybe(check: Callable[[Json], str]) -> Callable[[Json], str]:
    return lambda value: "" if value is None else check(value) and check(value) + " or null"


def _none_or(check: Callable[[Json], str]) -> Callable[[Json], str]:
    return lambda value: "" if value == "" else check(value)


def _bool(value: Json) -> str:
    return "" if isinstance(value, bool) else "true or false"


def _sha(value: Json) -> str:
    fits = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
    return "" if fits else "a SHA-256, 64 hexadecimal digits"


def _object(value: Json) -> str:
    return "" if isinstance(value, Mapping) and all(isinstance(k, str) for k in value) else "an object"


def _objects(value: Json) -> str:
    fits = isinstance(value, (list, tuple)) and all(not _object(v) for v in value)
    return "" if fits else "a list of objects"


def _setting(default: Any, check: Callable[[Json], str], help: str) -> Any:
    metadata = {"check": check, "help": help}
    if isinstance(default, (dict, list)):
        kind = type(default)
        return field(default_factory=lambda: kind(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """One run, as proposed. :meth:`parse` checks; :meth:`to_json` gives what is hashed and sent."""

    # mllabiome's session configuration
    model_name: str = _setting("xgboost", _text(), "what is learned: a file of hanse.models")
    task_type: str = _setting(
        "auto", _named("tasks"), "what is learned: a file of hanse.tasks; auto settles it from the labels of all sites"
    )
    num_rounds: int = _setting(10, _number(1, 100_000, whole=True), "training rounds; for forests, batches of trees")
    target_column: str = _setting(
        "disease", _none_or(_text()), "the column to be predicted; empty: none, for statistics"
    )
    feature_strategy: str = _setting(
        "intersection", _one_of("intersection", "union"), "features that all sites have, or that any has"
    )
    sample_id_column: str | None = _setting("Sample", _maybe(_text()), "names the row; never a feature; null: none")
    federated_strategy: str = _setting(
        "auto",
        _text(),
        "a file of hanse.algorithms; auto (and mllabiome's model_aggregation): the one made for the model",
    )
    auto_start: bool = _setting(True, _bool, "start when the last expected node has accepted")
    expected_client_ids: list[str] | None = _setting(None, _maybe(_texts), "nodes to ask; null: all that have the tags")
    # what for, and on what
    name: str = _setting("", _text(empty=True), "for people")
    purpose: str = _setting("", _text(4000, empty=True), "shown to the data owners")
    tags: list[str] = _setting([], _texts, "a dataset takes part if it carries all of these")
    features: list[str] | None = _setting(None, _maybe(_texts), "use these; null: all that the strategy gives")
    seed: int = _setting(0, _number(0, 2**63 - 1, whole=True), "of all random numbers of the run")
    test_fraction: float = _setting(0.25, _number(0, 0.9), "rows of each site held out for evaluation")
    # how it learns
    local_epochs: int = _setting(1, _number(1, 10_000, whole=True), "passes over a site's rows per round")
    batch_size: int = _setting(32, _number(1, 10_000_000, whole=True), "rows per local step")
    learning_rate: float | None = _setting(
        None,
        _maybe(_number(0, 1000, above=True)),
        "of the local steps, or of each boosted tree; null: the model's own (0.01; boosted trees 0.3)",
    )
    server_learning_rate: float = _setting(1.0, _number(0, 100, above=True), "1: the plain average (FedAvg)")
    model_options: dict[str, Json] = _setting({}, _object, "hyper-parameters by the library's own names")
    initial_model: str | None = _setting(
        None, _maybe(_sha), "SHA-256 of a stored model version to go on from; null: begin anew"
    )
    keep_models: bool = _setting(
        False, _bool, "keep the model after every round, not only the last, as for evaluation on central data"
    )
    plan: dict[str, Json] | None = _setting(None, _maybe(_object), "a PyTorch training plan: {source, name}")
    # who takes part
    fraction: float = _setting(1.0, _number(0, 1, above=True), "share of the online nodes asked per training round")
    selection: str = _setting("uniform", _text(), "who is asked to train: a file of hanse.selection")
    evaluate_every: int = _setting(
        10,
        _number(0, 100_000, whole=True),
        "where a round asks a sample (fraction below 1), everybody evaluates the model after each so many rounds, "
        "and after the last; 0: only after the last",
    )
    min_available_nodes: int = _setting(1, _number(1, 100_000, whole=True), "a round starts when so many are online")
    min_fit_nodes: int = _setting(1, _number(1, 100_000, whole=True), "ask at least so many")
    min_completed: int = _setting(1, _number(1, 100_000, whole=True), "fewer answers: the round has failed")
    gathering: str = _setting("plain", _text(), "how sums come together: a file of hanse.gathering")
    gathering_fallback: str = _setting(
        "plain",
        _text(empty=True),
        "how contributions come together that it cannot combine; owners see it; empty: the run is refused",
    )
    transforms: list[dict[str, Json]] = _setting(
        [], _objects, "what is done to each contribution before it leaves a node, in order: [{name: clip, norm: 1}]"
    )
    max_weight_share: float = _setting(
        1.0, _number(0, 1, above=True), "largest share of one node in a round's average; 1: that of its rows"
    )
    round_timeout_s: float = _setting(
        60.0, _number(0, 86_400, above=True), "a node that shows no progress for so long is late"
    )
    round_deadline_s: float | None = _setting(
        None,
        _maybe(_number(0, 30 * 86_400, above=True)),
        "the most that a node may take for one answer, however it progresses; null: as long as it progresses",
    )
    reconnect_timeout_s: float = _setting(
        15.0, _number(0, 86_400), "a node that lost its connection in a round may take so long to come back"
    )
    wait_timeout_s: float = _setting(600.0, _number(0, 30 * 86_400), "how long to wait for min_available_nodes")
    max_failed_rounds: int = _setting(3, _number(0, 1000, whole=True), "so many failed rounds in a row are retried")
    consent_timeout_s: float = _setting(7 * 86_400.0, _number(0, 366 * 86_400, above=True), "then the proposal expires")

    @classmethod
    def parse(cls, raw: Mapping[str, Json]) -> RunConfig:
        """Checks every name and value of ``raw``. Raises ``ConfigError`` for the first that is wrong."""
        if not isinstance(raw, Mapping):
            raise ConfigError(f"a run's configuration is an object of settings, not {type(raw).__name__}")
        known = {f.name: f for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for name, value in raw.items():
            if name not in known:
                close = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
                raise ConfigError(f"there is no setting {name!r}; {hint}")
            expected = known[name].metadata["check"](value)
            if expected:
                raise ConfigError(f"{name} is {value!r}; expected {expected}")
            values[name] = list(value) if isinstance(value, tuple) else value
        config = cls(**values)
        if config.features is not None and config.target_column in config.features:
            raise ConfigError(f"the target {config.target_column!r} cannot also be a feature")
        if config.min_completed > config.min_fit_nodes:
            if "min_fit_nodes" in raw:
                raise ConfigError(
                    f"min_completed ({config.min_completed}) is more than min_fit_nodes ({config.min_fit_nodes})"
                )
            config = dataclasses.replace(config, min_fit_nodes=config.min_completed)
        return config

    def to_json(self) -> dict[str, Json]:
        """All settings, defaults included."""
        return dataclasses.asdict(self)

    @classmethod
    def describe(cls) -> list[dict[str, Json]]:
        """Name, default and meaning of every setting, for documentation and forms."""
        empty = cls()
        return [
            {"name": f.name, "default": getattr(empty, f.name), "help": f.metadata["help"]}
            for f in dataclasses.fields(cls)
        ]
