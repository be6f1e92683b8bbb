"""From what people write to a checked configuration: short names, and where a training plan's text is."""

from __future__ import annotations

import ast
import inspect
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanse import algorithms
from hanse.config import RunConfig, nowhere, of_ingredients
from hanse.errors import ConfigError, HanseError
from hanse.learning.averaging import model_options
from hanse.learning.local import LocalStep
from hanse.messages import Json
from hanse.registry import find
from hanse.settings import settings_of
from hanse.task import Task
from hanse.training import ProximalTerm, Training

ALIASES = {"model": "model_name", "target": "target_column", "rounds": "num_rounds"}


def configure(settings: Mapping[str, Any], defaults: Mapping[str, Json] | None = None) -> RunConfig:
    """A checked configuration, short names included. Where no target is named, none is meant: the default of the
    configuration is that of the REST interface, for its own callers.

    >>> configure({"model": "xgboost", "rounds": 3}).num_rounds
    3
    >>> configure({}).target_column
    ''
    >>> configure({"round": 3})
    Traceback (most recent call last):
    ...
    hanse.errors.ConfigError: there is no setting 'round'; did you mean 'rounds'?
    """
    known = [*settings_of(RunConfig), *of_ingredients(), *ALIASES]
    found: dict[str, Json] = dict(defaults or {})
    for name, value in settings.items():
        full = ALIASES.get(name, name)
        if name != full and full in settings:
            raise ConfigError(f"{name!r} and {full!r} are the same setting; give one of them")
        if full not in known:
            raise nowhere(name, known, settings.get("model", settings.get("model_name", "")))
        found[full] = list(value) if isinstance(value, (tuple, set, frozenset)) else value
    if found.get("plan") is not None:
        found["plan"] = plan_of(found["plan"])
    return RunConfig.parse({"target_column": "", **found})


def try_plan(config: RunConfig) -> None:
    """One's own training plan, run here on made-up rows where its model can be: what cannot learn at any site is said
    before owners are asked. What the plan itself raises on made-up rows is left to the nodes.

    Raises:
        ConfigError: it cannot learn so, or a setting that was given has no effect on it.
    """
    if config.plan is None or not algorithms.needs_model(config):
        return
    module = find("models", config.model_name)
    if not hasattr(module, "try_out"):
        return
    strategy = getattr(find("algorithms", algorithms.resolve(config)).ALGORITHM, "inner", None)
    local: LocalStep = getattr(strategy, "local", LocalStep())
    term = None if local.term is LocalStep().term else ProximalTerm()
    training, features = Training(1, term=term, gradient=local.gradient), tuple(config.features or ("a", "b"))
    tasks = {
        "binary": Task("binary", features, ("0", "1")),
        "multiclass": Task("multiclass", features, ("0", "1", "2")),
        "regression": Task("regression", features),
    }
    wrong: HanseError | None = None
    for kind in [config.task_type] if config.task_type in tasks else ["binary", "regression"]:
        try:
            unheeded = module.try_out(tasks[kind], model_options(config.to_json()), training)
        except HanseError as error:
            wrong = wrong or error
            continue
        if given := [name for name in unheeded if config.ingredient_settings.get(name) is not None]:
            raise ConfigError(
                f"{', '.join(given)} has no effect on this training plan; say in the plan what it should do"
            )
        return
    if isinstance(wrong, ConfigError):
        raise wrong


def plan_of(given: Any) -> Any:
    """A training plan as the setting ``plan`` has it: from its text, the path of its ``.py`` file, its
    module, or its ``build`` function (which then must import what it uses itself); or from an estimator of
    scikit-learn, as it is set."""
    if isinstance(given, str) and "\n" in given:
        return {"name": "plan", "source": given}
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        try:
            return {"name": path.stem, "source": path.read_text(encoding="utf-8")}
        except OSError as error:
            raise ConfigError(f"the training plan {path} cannot be read: {error.strerror}") from None
    if type(given).__name__ == "Pipeline" and hasattr(given, "steps"):
        raise ConfigError(
            "a pipeline is no training plan: columns are scaled, and categories and missing values coded, as all sites "
            "agree on; give its last step alone as the plan, or write the plan's text, with build(task, options)"
        )
    if hasattr(given, "parameters") and hasattr(given, "forward"):
        raise ConfigError(
            f"{type(given).__name__} is a module; the owners read the code that makes it: give the path of a .py file, "
            "or a function that imports what it uses, with build(task, options), which returns the module"
        )
    if type(given).__module__.startswith("sklearn.") and hasattr(given, "get_params"):
        return _of_estimator(given)
    if inspect.ismodule(given) or inspect.isfunction(given):
        try:
            return {"name": given.__name__, "source": textwrap.dedent(inspect.getsource(given))}
        except OSError:
            raise ConfigError("the source of the training plan is not known; give its text") from None
    return given


def _of_estimator(given: Any) -> dict[str, str]:
    """The plan that builds an estimator of scikit-learn with the same parameters; ``model_options`` replace them."""
    name, part = type(given).__name__, type(given).__module__.partition("._")[0]
    usual = type(given)().get_params(deep=False)
    own = {n: v for n, v in given.get_params(deep=False).items() if repr(v) != repr(usual[n])}
    for parameter, value in own.items():
        try:
            plain = repr(ast.literal_eval(repr(value))) == repr(value)
        except (ValueError, SyntaxError):
            plain = False
        if not plain:
            raise ConfigError(
                f"{parameter} of {name} is no plain value; write the plan's text, with build(task, options)"
            )
    text = f"from {part} import {name}\n\n\ndef build(task, options):\n    return {name}(**{{**{own!r}, **options}})\n"
    return {"name": name, "source": text}
