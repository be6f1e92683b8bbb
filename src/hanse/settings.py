"""What people set: one noun, and one way to check it.

A :class:`Setting` has a default, a line of help and a :class:`Check`. Whoever brings settings along (the
run, an algorithm, a model, a rule of the owner, a node) writes a dictionary of them by name; :func:`checked`
is the one place where given values are held against it.

>>> own = {"momentum": Setting(0.9, "of the server's step", number(0, 1))}
>>> checked({"momentum": 0.5}, own)
{'momentum': 0.5}
>>> checked({"momentom": 0.5}, own)
Traceback (most recent call last):
...
hanse.errors.ConfigError: there is no setting 'momentom'; did you mean 'momentum'?
>>> checked({"momentum": 2}, own)
Traceback (most recent call last):
...
hanse.errors.ConfigError: momentum is 2; expected a number from 0 to 1
"""

from __future__ import annotations

import copy
import functools
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hanse.errors import ConfigError
from hanse.messages import Json


@dataclass(frozen=True, slots=True)
class Check:
    """What values a setting takes.

    Args:
        expected: in words, after "expected": ``a number from 0 to 1``.
        fits: whether a value is one of them.
        schema: the same as JSON Schema, as far as that can say it, for forms and references.
    """

    expected: str
    fits: Callable[[Json], bool]
    schema: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that people may set.

    Args:
        default: what it is where nobody sets it.
        help: one line, for people.
        check: what it may be; None: what the default is (true or false, a whole number from 0, a number
            above 0, a text, a list of texts).
        simulated: what it is in a simulation, where nobody else's data is, or that by the number of sites; None: the
            default.
        names: the folder of ingredients whose names the value, or each of a list, may be.
        aliases: other names of the setting that are as good, where a library has several.
    """

    default: Json
    help: str
    check: Check = None  # type: ignore[assignment]  # set below, so that readers need not ask
    names: str = ""
    simulated: Json | Callable[[int], Json] = None
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.check is None:
            object.__setattr__(self, "check", _like(self.default))
        if not self.check.fits(self.default):
            raise ConfigError(f"the default {self.default!r} is not {self.check.expected}")

    def in_simulation(self, sites: int) -> Json:
        """Its value in a simulation of so many sites where nobody sets it."""
        if self.simulated is None:
            return self.default
        return self.simulated(sites) if callable(self.simulated) else self.simulated

    def describe(self, name: str) -> dict[str, Json]:
        """Name, default, meaning, JSON Schema; where there are any, the folder of ingredients that it names one of
        (``names``), and other names of it (``aliases``)."""
        default = list(self.default) if isinstance(self.default, tuple) else self.default
        named: dict[str, Json] = {"names": self.names} if self.names else {}
        named |= {"aliases": list(self.aliases)} if self.aliases else {}
        return {"name": name, "default": default, "help": self.help, "schema": dict(self.check.schema), **named}

    def read(self, name: str, text: str) -> Json:
        """The value that a ``text`` means, as it stands on a command line: JSON, or the text itself; of a list
        also names with commas between. Raises ``ConfigError`` where the value does not fit.

        >>> Setting(("*",), "who").read("who", "a, b"), Setting(5, "how many").read("how", "7")
        (['a', 'b'], 7)
        """
        candidates: list[Json] = [text]
        try:
            candidates.insert(0, json.loads(text))
        except ValueError:
            candidates.insert(0, {"true": True, "false": False}.get(text.lower(), text))
        candidates.append([part.strip() for part in text.split(",") if part.strip()])
        for value in candidates:
            if self.check.fits(value):
                return value
        raise wrong(name, candidates[0], self)


_WORDS = {
    "": False,
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def truth(variable: str, word: str) -> bool:
    """What a word means in a variable of the environment; "" is false. Raises ``ConfigError``.

    >>> truth("DIFFERENTIAL_PRIVACY", "False"), truth("DIFFERENTIAL_PRIVACY", " on ")
    (False, True)
    """
    if (plain := word.strip().lower()) not in _WORDS:
        raise ConfigError(f"{variable} is {word!r}; expected true or false")
    return _WORDS[plain]


def declared(default: Json, help: str, check: Check | None = None, names: str = "") -> Any:
    """A :class:`Setting` as a field of a dataclass, so that its value is read as a typed attribute."""
    return as_field(Setting(default, help, check, names))  # type: ignore[arg-type]


def as_field(setting: Setting) -> Any:
    """The field of a dataclass that holds a setting's value: the default, and the setting itself as metadata."""
    if isinstance(setting.default, (list, dict)):
        return field(default_factory=lambda: copy.deepcopy(setting.default), metadata={"setting": setting})
    return field(default=setting.default, metadata={"setting": setting})


def settings_of(cls: Any) -> Mapping[str, Setting]:
    """The settings that the fields of a dataclass are, in their order."""
    return _settings_of(cls)


@functools.cache
def _settings_of(cls: Any) -> Mapping[str, Setting]:
    return {f.name: f.metadata["setting"] for f in fields(cls) if "setting" in f.metadata}


def checked(
    given: Mapping[str, Json],
    known: Mapping[str, Setting],
    prefix: str = "",
    of: str = "",
    instead: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Every setting of ``known``, in its order: as given, else its default.

    Args:
        given: name, or an alias of it, to value.
        prefix: stands before names in what is said of a wrong one, such as ``policy.``.
        of: whose settings they are, where that is not plain.
        instead: names that people try and that are none, to what is to be done instead.

    Raises:
        ConfigError: for the first name that is not known or given twice, or value that does not fit.
    """
    proper = {alias: name for name, setting in known.items() for alias in setting.aliases}
    found: dict[str, Json] = {}
    for called, value in given.items():
        name = proper.get(called, called)
        if name not in known:
            if instead and called in instead:
                raise ConfigError(f"{prefix + called}{of and f' of {of}'} cannot be set: {instead[called]}")
            raise unknown(str(called), [*known, *proper], prefix, of)
        if not known[name].check.fits(value):
            raise wrong(prefix + called + (of and f" of {of}"), value, known[name])
        if name in found:
            twice = " and ".join(n for n in given if proper.get(n, n) == name)
            raise ConfigError(f"{prefix + name}{of and f' of {of}'} is given twice, as {twice}; leave one out")
        found[name] = value
    return {name: _own(found.get(name, setting.default)) for name, setting in known.items()}


def unknown(name: str, known: Iterable[str], prefix: str = "", of: str = "") -> ConfigError:
    """The error of a name that nothing has, with what it may have meant."""
    import difflib

    all_known = sorted(prefix + k for k in known)
    close = difflib.get_close_matches(prefix + name, all_known, 1)
    meant = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(all_known) or 'none'}"
    return ConfigError(f"there is no setting {prefix + name!r}{of and f' of {of}'}; {meant}")


def wrong(name: str, value: Json, setting: Setting) -> ConfigError:
    """The error of a value that does not fit."""
    return ConfigError(f"{name} is {value!r}; expected {setting.check.expected}")


def _own(value: Json) -> Json:
    """A value that nobody else changes, as JSON has it."""
    return list(value) if isinstance(value, tuple) else own(value)


def own(value: Json) -> Json:
    """A value, or settings by name, that nobody else changes: as ``copy.deepcopy``, which takes four times as long.

    >>> given = {"a": [1, {"b": "c"}]}
    >>> mine = own(given)
    >>> mine == given, mine["a"] is given["a"], mine["a"][1] is given["a"][1]
    (True, False, False)
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if type(value) is dict:
        return {name: own(part) for name, part in value.items()}
    if type(value) is list:
        return [own(part) for part in value]
    return copy.deepcopy(value)


# ---------------------------------------------------------------- what a value may be


_LARGEST = sys.float_info.max


def number(low: float = -math.inf, high: float = math.inf, *, above: bool = False, below: bool = False) -> Check:
    """A finite number from ``low`` to ``high``; ``above`` and ``below`` leave the bound itself out.

    >>> number(0, 1, above=True).expected, number(0, above=True).expected, number(0, 1, below=True).expected
    ('a number above 0 up to 1', 'a number above 0', 'a number from 0 to below 1')
    """
    said = f" {'above' if above else 'from'} {low:g}" if low > -math.inf else ""
    if high < math.inf:
        said += f" {'up to' if above or not said else 'to'}{' below' if below else ''} {high:g}"
    schema: dict[str, Json] = {"type": "number"}
    schema |= {"exclusiveMinimum" if above else "minimum": low} if low > -math.inf else {}
    schema |= {"exclusiveMaximum" if below else "maximum": high} if high < math.inf else {}

    def fits(value: Json) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
            return False  # also what is no number, and a whole number that is too long for one with a point
        return low <= value <= high and not (above and value == low) and not (below and value == high)

    return Check(f"a number{said}", fits, schema)


def is_span(value: Json) -> bool:
    """Whether it is [lowest, highest], of finite numbers.

    >>> is_span([0, 1.5]), is_span([1, 1]), is_span([0, True])
    (True, False, False)
    """
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e300 for v in value)
        and value[0] < value[1]
    )


def whole(low: int = 0, high: int = 1 << 40) -> Check:
    """A whole number from ``low`` to ``high``."""

    def fits(value: Json) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    said = f"a whole number from {low} to {high}" if high < 1 << 40 else f"a whole number of at least {low}"
    return Check(said, fits, {"type": "integer", "minimum": low, "maximum": high})


def one_of(*allowed: Json) -> Check:
    """One of these values, of the same type."""

    def fits(value: Json) -> bool:
        return any(value is a or (type(value) is type(a) and value == a) for a in allowed)

    return Check("one of " + ", ".join(_shown(a) for a in allowed), fits, {"enum": list(allowed)})


def text(longest: int = 200, *, empty: bool = False) -> Check:
    """A text of at most so many characters, with something in it unless it may be ``empty``."""

    def fits(value: Json) -> bool:
        return isinstance(value, str) and len(value) <= longest and (empty or bool(value.strip()))

    schema = {"type": "string", "minLength": 0 if empty else 1, "maxLength": longest}
    return Check(f"text of at most {longest} characters", fits, schema)


def texts(longest: int = 1 << 20) -> Check:
    """A list of distinct names."""

    def fits(value: Json) -> bool:
        if not isinstance(value, (list, tuple)) or len(value) > longest:
            return False
        return all(isinstance(v, str) and v for v in value) and len(set(value)) == len(value)

    schema = {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True}
    return Check("a list of distinct names", fits, schema)


def maybe(check: Check) -> Check:
    """What ``check`` takes, or null."""
    return either(check, nothing)


def either(*checks: Check) -> Check:
    """What any of the checks takes."""
    return Check(
        " or ".join(c.expected for c in checks),
        lambda value: any(c.fits(value) for c in checks),
        {"anyOf": [dict(c.schema) for c in checks]},
    )


boolean = Check("true or false", lambda value: isinstance(value, bool), {"type": "boolean"})
nothing = Check("null", lambda value: value is None, {"type": "null"})
mapping = Check(
    "an object",
    lambda value: isinstance(value, Mapping) and all(isinstance(k, str) for k in value),
    {"type": "object"},
)
mappings = Check(
    "a list of objects",
    lambda value: isinstance(value, (list, tuple)) and all(mapping.fits(v) for v in value),
    {"type": "array", "items": {"type": "object"}},
)
sha256 = Check(
    "a SHA-256, 64 hexadecimal digits",
    lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
    {"type": "string", "pattern": "^[0-9a-f]{64}$"},
)


def wholes(low: int, high: int, longest: int) -> Check:
    """A list of at most ``longest`` whole numbers."""
    each = whole(low, high)

    def fits(value: Json) -> bool:
        return isinstance(value, (list, tuple)) and len(value) <= longest and all(each.fits(v) for v in value)

    schema = {"type": "array", "items": dict(each.schema), "maxItems": longest}
    return Check(f"a list of at most {longest} whole numbers from {low} to {high}", fits, schema)


def _shown(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _like(default: Json) -> Check:
    if isinstance(default, bool):
        return boolean
    if isinstance(default, int):
        return whole()
    if isinstance(default, float):
        return number(0, above=True)
    if isinstance(default, (list, tuple)):
        return texts()
    if isinstance(default, str):
        return text(1000, empty=True)
    raise ConfigError(f"what a setting with the default {default!r} may be must be said: give it a check")
