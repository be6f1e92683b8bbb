"""From what people write to a checked configuration: short names, and where a training plan's text is."""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanse.config import RunConfig, nowhere, of_ingredients
from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.settings import settings_of

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


def plan_of(given: Any) -> Any:
    """A training plan as the setting ``plan`` has it: from its text, the path of its ``.py`` file, its
    module, or its ``build`` function (which then must import what it uses itself)."""
    if isinstance(given, str) and "\n" in given:
        return {"name": "plan", "source": given}
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        try:
            return {"name": path.stem, "source": path.read_text(encoding="utf-8")}
        except OSError as error:
            raise ConfigError(f"the training plan {path} cannot be read: {error.strerror}") from None
    if inspect.ismodule(given) or inspect.isfunction(given):
        try:
            return {"name": given.__name__, "source": textwrap.dedent(inspect.getsource(given))}
        except OSError:
            raise ConfigError("the source of the training plan is not known; give its text") from None
    return given
