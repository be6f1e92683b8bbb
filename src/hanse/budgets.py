"""How much there is of something for each data set: one number for all, and others for those that an owner names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hanse.errors import ConfigError
from hanse.messages import Json
from hanse.settings import Check, Setting

_FORM = r"^[^=]{1,200}=[0-9]+(\.[0-9]+)?$"
_ONE = re.compile(_FORM).fullmatch
_CHECK = Check(
    "a list of DATASET=NUMBER",
    lambda value: isinstance(value, (list, tuple)) and all(isinstance(v, str) and _ONE(v) for v in value),
    {"type": "array", "items": {"type": "string", "pattern": _FORM}},
)


def each(what: str) -> Setting:
    """The setting of what single data sets have, instead of the one for all."""
    return Setting((), f"{what} of single data sets, as DATASET=NUMBER; 0: no limit", _CHECK)


def limit(most: float, listed: Json, dataset: str) -> float:
    """What a data set has; 0: no limit.

    >>> limit(5, ["visits=2", "scans=0"], "visits"), limit(5, ["visits=2"], "labs")
    (2.0, 5.0)
    """
    found = dict(entry.rsplit("=", 1) for entry in listed) if listed else {}
    return float(found.get(dataset, most))


def used(spent: float, most: float, what: str) -> str:
    """How much of it is used up, for people; ``most`` 0: no limit.

    >>> used(3, 9, "asks answered"), used(3, 0, "asks answered")
    ('33 %: 3 of at most 9 asks answered', '3 asks answered, no limit')
    """
    if not most:
        return f"{spent} {what}, no limit"
    return f"{spent / most:.0%}: {spent} of at most {most:g} {what}".replace("%", " %")


def changed(listed: Json, dataset: str, number: float) -> list[str]:
    """The list with another number for one data set.

    >>> changed(["visits=2"], "visits", 3.5), changed([], "labs", 4)
    (['visits=3.5'], ['labs=4'])
    """
    if "=" in dataset or not dataset:
        raise ConfigError(f"{dataset!r} cannot have a budget of its own: a name has no equals sign")
    kept: Mapping[str, str] = dict(entry.rsplit("=", 1) for entry in listed)
    return [f"{name}={value}" for name, value in {**kept, dataset: f"{number:g}"}.items()]
