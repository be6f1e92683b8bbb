"""Settings of training that change on the way, agreed on for all rounds before the first, as all that owners approve.

``by_round = {"local_epochs": {"1": 5, "20": 1}, "batch_size": {"50": 128}}``: five passes a round up to round 19, one
from round 20 on; batches as ``batch_size`` says until round 50.
"""

from __future__ import annotations

from collections.abc import Mapping

from hanse.messages import Json
from hanse.settings import Check, Setting

NAME = "by_round"


def settings(training: Mapping[str, Setting]) -> dict[str, Setting]:
    """The setting itself, for those of ``training``."""

    def fits(value: Json) -> bool:
        return isinstance(value, Mapping) and all(
            name in training
            and isinstance(steps, Mapping)
            and all(_round(first) and training[name].check.fits(then) for first, then in steps.items())
            for name, steps in value.items()
        )

    rounds = {
        name: {"type": "object", "additionalProperties": dict(setting.check.schema)}
        for name, setting in training.items()
    }
    expected = (
        f"an object of {', '.join(training)}, each with {{first round: value}} as in {{'20': {_example(training)}}}"
    )
    schema = {"type": "object", "properties": rounds, "additionalProperties": False}
    help = "values from a round on, in place of what is set: {setting: {first round: value}}"
    return {NAME: Setting({}, help, Check(expected, fits, schema))}


def at(chosen: Mapping[str, Json], round: int) -> dict[str, Json]:
    """The settings in a round.

    >>> at({"local_epochs": 5, "by_round": {"local_epochs": {"20": 1, "3": 2}}}, 4)["local_epochs"]
    2
    """
    found = dict(chosen)
    for name, steps in (chosen.get(NAME) or {}).items():
        begun = [first for first in steps if int(first) <= round]
        if begun:
            found[name] = steps[max(begun, key=int)]
    return found


def _round(text: Json) -> bool:
    return (
        isinstance(text, str) and text.isascii() and text.isdigit() and 1 <= int(text[:7]) <= 100_000 and len(text) < 7
    )


def _example(training: Mapping[str, Setting]) -> Json:
    return next(iter(training.values())).default
