"""What the owner of a node has set: ``node.toml`` in the node's folder.

>>> NodeSettings.parse({"node_id": "a", "policy": {"minimum_sample": 5}})
Traceback (most recent call last):
...
hanse.errors.ConfigError: there is no setting 'policy.minimum_sample'; did you mean 'policy.minimum_samples'?
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hanse import countries, policy, toml_text
from hanse.addresses import renamed
from hanse.errors import ConfigError, NotFound
from hanse.messages import Json
from hanse.pace import HOURS
from hanse.registry import names
from hanse.settings import Setting, as_field, checked, declared, either, number, one_of, settings_of, unknown, whole
from hanse.whole_files import write_whole

FILE = "node.toml"
ALL = "*"  # every algorithm that this release of Hanse ships


@dataclass(frozen=True, slots=True)
class CoordinatorAddress:
    """Where the coordinator of the node is."""

    address: str = declared("", "where the node calls, as in `grpc://host:port`. It opens no port itself")
    url: str = declared("", "the coordinator's page, for people")


_OF_RULES = policy.settings()


@dataclass(frozen=True)
class OwnPolicy:
    """The part of the policy that is no rule's."""

    standing: str = declared(
        "ask",
        "`ask` the owner about each proposal, or `accept-allowed`: accept at once what passes all rules",
        one_of("ask", "accept-allowed"),
    )
    two_persons: bool = declared(
        False, "an approval counts once two of the node's approvers have given it (`hanse node approver add NAME`)"
    )
    approval_days: float = declared(30.0, "an approval ends after so many days", number(0, above=True))

    def to_json(self) -> dict[str, Json]:
        """All of it by name: what rules and the node's half of an algorithm (``Site.owner``) read."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }

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
    [(name, type(setting.default), as_field(setting)) for name, setting in _OF_RULES.items()],
    bases=(OwnPolicy,),
    frozen=True,
)


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What a task may use."""

    task_seconds: float = declared(3600.0, "a task that takes longer is ended", number(0, above=True))
    memory_mb: int = declared(4096, "memory of the worker", whole(64))
    message_mb: int = declared(8192, "the largest message that is taken", whole(1))
    reply_json_kb: int = declared(4096, "what may leave beside arrays", whole(1))
    steps: int = declared(1_000_000, "steps of one run", whole(1))
    threads: int = declared(0, "of the worker; 0: as OMP_NUM_THREADS and the like say, else one per processor")


@dataclass(frozen=True, slots=True)
class LineLimits:
    """How payloads leave. What is small (up to 2 MB) goes at any time and at once."""

    upload_limit_mbit: float = declared(0.0, "megabits per second; 0: as fast as the line", number(0))
    transfer_hours: tuple[str, ...] = declared((), "when they leave; empty: at any time", HOURS)
    compression: str = declared(
        "none",
        "answers of over 16 kB, and tasks of over 2 MB, travel compressed, without a loss: `auto` where it saves 30 %, "
        "`all` where it saves anything, `none`",
        one_of("none", "auto", "all"),
    )


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """All settings of one node."""

    node_id: str = declared("", "the id in the node's certificate")
    consent: str = declared(
        "node",
        "`node`: approvals are taken only here; `coordinator`: the owner may also decide at the coordinator",
        one_of("node", "coordinator"),
    )
    country: str = declared(
        "",
        "where the node is, by the two letters of ISO 3166-1 (`CH`): told to the coordinator, part of every proposal "
        "that uses its data, and what policies may ask about; empty: not declared",
        countries.CHECK,
    )
    audit_days: float = declared(
        0.0,
        "lines of the audit log that are so many days old are removed when the node starts, and a line says so; what "
        "is left can be verified as before. 0: all stay",
        either(one_of(0.0, 0), number(1, 36_600)),
    )
    coordinator: CoordinatorAddress = field(default_factory=CoordinatorAddress)
    policy: Any = field(default_factory=Policy)
    limits: TaskLimits = field(default_factory=TaskLimits)
    line: LineLimits = field(default_factory=LineLimits)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> NodeSettings:
        """Checks every name and value. Raises ``ConfigError`` for the first that is wrong."""
        return _build(raw)

    @classmethod
    def load(cls, home: Path) -> NodeSettings:
        """The settings in ``home``. Raises ``NotFound`` where there is no node yet."""
        try:
            raw = (home / FILE).read_bytes()
        except FileNotFoundError:
            raise NotFound("there is no node here yet; make one with hanse node init --join TOKEN --name ID") from None
        try:
            return cls.parse(tomllib.loads(raw.decode()))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
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
                tables += ["", f"[{name}]", *(f"{key} = {toml_text.text(inner)}" for key, inner in value.items())]
            else:
                top.append(f"{name} = {toml_text.text(value)}")
        return "\n".join([*top, *tables, ""])

    def to_json(self) -> dict[str, Json]:
        """As ``node.toml`` has them, tables within."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    def owner(self, home: Path) -> dict[str, Json]:
        """What rules are made with: the policy, the limits that rules hold, and the node's folder."""
        limits: dict[str, Json] = {"message_bytes": self.limits.message_mb << 20, "steps": self.limits.steps}
        return {**self.policy.to_json(), **limits, "home": str(home)}

    def with_value(self, key: str, text: str) -> NodeSettings:
        """These settings with one changed, given as text: ``policy.minimum_samples``, or just
        ``minimum_samples``. Lists are separated by commas."""
        plain = self.to_json()
        settings = known()
        full = next((name for name in settings if key in (name, name.rpartition(".")[2])), "")
        if not full or full in _FIXED:
            free = [name for name in settings if name not in _FIXED]
            raise unknown(key, [*free, *(name.rpartition(".")[2] for name in free)])
        table, _, name = full.rpartition(".")
        (plain[table] if table else plain)[name] = settings[full].read(full, text)
        return NodeSettings.parse(plain)


_TABLES: dict[str, Any] = {
    "": NodeSettings,
    "coordinator": CoordinatorAddress,
    "policy": Policy,
    "limits": TaskLimits,
    "line": LineLimits,
}
_FIXED = ("node_id", "coordinator.address", "coordinator.url")  # what the join token said


def known() -> dict[str, Setting]:
    """Every setting of ``node.toml`` by its full name (``policy.minimum_samples``), those of rules among them."""
    return {
        f"{table}.{name}" if table else name: setting
        for table, cls in _TABLES.items()
        for name, setting in settings_of(cls).items()
    }


def _build(raw: Mapping[str, Any]) -> NodeSettings:
    where = raw.get("coordinator")
    if isinstance(where, Mapping):
        raw = {**raw, "coordinator": renamed(where)}
    own = _table(NodeSettings, {name: value for name, value in raw.items() if name not in _TABLES}, "")
    tables = {name: _TABLES[name](**_table(_TABLES[name], raw.get(name, {}), f"{name}.")) for name in _TABLES if name}
    return NodeSettings(**own, **tables)


def _table(cls: Any, raw: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')} is {raw!r}; expected a table of settings")
    values = checked(raw, settings_of(cls), prefix)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
