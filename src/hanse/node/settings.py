"""What the owner of a node has set: ``node.toml`` in the node's folder.

>>> Settings.parse({"node_id": "a", "policy": {"minimum_sample": 5}})
Traceback (most recent call last):
...
hanse.errors.ConfigError: there is no setting 'policy.minimum_sample'; did you mean 'policy.minimum_samples'?
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hanse import policy
from hanse.errors import ConfigError, NotFound
from hanse.kinds import names
from hanse.messages import Json
from hanse.whole_files import write_whole

FILE = "node.toml"
ALL = "*"  # every algorithm that this release of Hanse ships


@dataclass(frozen=True, slots=True)
class Coordinator:
    grpc: str = ""
    url: str = ""


_OF_RULES = policy.settings()


@dataclass(frozen=True)
class OwnPolicy:
    """The part of the policy that is no rule's.

    Args:
        minimum_count: groups of fewer rows are not told apart in what leaves.
        standing: ``ask`` the owner about each proposal, or ``accept-allowed``: accept at once what
            passes all rules.
        approval_days: an approval ends after so many days.
    """

    minimum_count: int = 5
    standing: str = "ask"
    approval_days: float = 30.0

    def imposed(self) -> dict[str, Json]:
        """What of this goes before the run's own settings in the node's half of an algorithm."""
        said: dict[str, Json] = {"min_count": self.minimum_count}
        for name, setting in _OF_RULES.items():
            if setting.imposed:
                value = getattr(self, name)
                said[setting.imposed] = list(value) if isinstance(value, tuple) else value
        return said

    def check_names(self) -> None:
        """Raises ``ConfigError`` where a list holds a name that nothing has."""
        for name, setting in _OF_RULES.items():
            known = names(setting.names) if setting.names else ()
            for value in getattr(self, name) if setting.names else ():
                if value != ALL and value not in known:
                    raise ConfigError(f"{name}: there is no {value!r} in {setting.names}; there are {', '.join(known)}")


# What may be computed here: the above, and what each file of hanse.policy declares in its SETTINGS
Policy: Any = dataclasses.make_dataclass(
    "Policy",
    [(n, type(s.default), field(default=s.default)) for n, s in _OF_RULES.items()],
    bases=(OwnPolicy,),
    frozen=True,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a task may use. ``threads`` 0: one per processor. ``reply_json_kb`` bounds what leaves
    beside arrays; ``steps`` the steps of one run."""

    task_seconds: float = 3600.0
    memory_mb: int = 4096
    message_mb: int = 2048
    reply_json_kb: int = 4096
    steps: int = 1_000_000
    threads: int = 0


_CHOICES = {"consent": ("node", "coordinator"), "policy.standing": ("ask", "accept-allowed")}
_LOWEST = {
    **{f"policy.{name}": setting.low for name, setting in _OF_RULES.items()},
    "policy.minimum_count": 1,
    "limits.memory_mb": 64,
    "limits.message_mb": 1,
    "limits.threads": 0,
    "limits.steps": 1,
    "limits.reply_json_kb": 1,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one node. ``consent``: where approvals are taken, only at the ``node`` or
    also by its owner at the ``coordinator``."""

    node_id: str = ""
    consent: str = "node"
    coordinator: Coordinator = field(default_factory=Coordinator)
    policy: OwnPolicy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Settings:
        """Checks every name and value. Raises ``ConfigError`` for the first that is wrong."""
        settings: Settings = _build(cls, raw, "")
        return settings

    @classmethod
    def load(cls, home: Path) -> Settings:
        """The settings in ``home``. Raises ``NotFound`` where there is no node yet."""
        try:
            raw = (home / FILE).read_bytes()
        except FileNotFoundError:
            raise NotFound("there is no node here yet; make one with hanse node init --join TOKEN --name ID") from None
        try:
            return cls.parse(tomllib.loads(raw.decode()))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{FILE} is not TOML: {error}") from None

    def save(self, home: Path) -> None:
        """Writes the file whole or not at all."""
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(home / FILE, self.to_toml())

    def to_toml(self) -> str:
        """The file's text. Raises nothing: every value was checked when it came in."""
        top, tables = [], []
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, dict):
                tables += ["", f"[{name}]", *(f"{key} = {_toml(inner)}" for key, inner in value.items())]
            else:
                top.append(f"{name} = {_toml(value)}")
        return "\n".join([*top, *tables, ""])

    def to_json(self) -> dict[str, Json]:
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    def with_value(self, key: str, text: str) -> Settings:
        """These settings with one changed, given as text: ``policy.minimum_samples``, or just
        ``minimum_samples``. Lists are separated by commas."""
        plain = self.to_json()
        known = {f"{t}.{k}": (t, k) for t in ("policy", "limits") for k in plain[t]} | {"consent": ("", "consent")}
        short = {k: pair for pair in known.values() for k in [pair[1]]}
        if key not in known and key not in short:
            raise ConfigError(_unknown(key, [*known, *short]))
        table, name = known.get(key) or short[key]
        group = plain[table] if table else plain
        group[name] = _from_text(text, group[name], key)
        return Settings.parse(plain)


def _build(cls: Any, raw: Mapping[str, Any], prefix: str) -> Any:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')} is {raw!r}; expected a table of settings")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    default = cls()
    values: dict[str, Any] = {}
    for name, value in raw.items():
        if name not in fields:
            raise ConfigError(_unknown(prefix + name, [prefix + known for known in fields]))
        before = getattr(default, name)
        if dataclasses.is_dataclass(before):
            values[name] = _build(type(before), value, f"{prefix}{name}.")
        else:
            values[name] = _checked(prefix + name, value, before)
    return cls(**values)


def _checked(name: str, value: Any, default: Any) -> Any:
    wrong = ""
    if name in _CHOICES:
        wrong = "" if value in _CHOICES[name] else "one of " + ", ".join(_CHOICES[name])
    elif isinstance(default, bool):
        wrong = "" if isinstance(value, bool) else "true or false"
    elif isinstance(default, int):
        low = _LOWEST.get(name, 0)
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= 1 << 40
        wrong = "" if fits else f"a whole number of at least {low}"
    elif isinstance(default, float):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
        wrong = "" if fits else "a number above 0"
        value = float(value) if fits else value
    elif isinstance(default, tuple):
        fits = isinstance(value, (list, tuple)) and all(isinstance(v, str) and v for v in value)
        wrong = "" if fits else "a list of names"
        value = tuple(value) if fits else value
    elif not isinstance(value, str) or len(value) > 1000:
        wrong = "text"
    if wrong:
        raise ConfigError(f"{name} is {value!r}; expected {wrong}")
    return value


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"there is no setting {name!r}; {hint}"


def _from_text(text: str, before: Json, key: str) -> Json:
    if isinstance(before, bool):
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{key} is {text!r}; expected true or false")
        return text.lower() == "true"
    if isinstance(before, list):
        return [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(before, (int, float)):
        try:
            return type(before)(text)
        except ValueError:
            raise ConfigError(f"{key} is {text!r}; expected a number") from None
    return text


def _toml(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL
        return json.dumps(value).replace("\x7f", "\\u007f")
    return repr(value)
