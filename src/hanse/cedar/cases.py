"""Tables of cases: what policies are to say of what is asked, so that a policy is tried before it counts.

A table is YAML, JSON or CSV. ``given`` are facts of all cases, each case changes some of them::

    given: {action: answer, proposer: ada, purpose: "research: heart failure", rows: 80, nodes: 4}
    cases:
      - {name: enough rows, expect: allow, by: research}
      - {name: too few rows, expect: deny, by: minimum-rows, facts: {rows: 49}}

In CSV the line ``given`` has the facts of all cases, and an empty cell changes nothing; ``privacy.epsilon`` is a fact
inside another. ``by`` names the policies that decide; without it, it does not matter which. ``person`` is who asks,
where that is not who proposed the run. A case has every fact that some policy reads, unless that may be absent: what
nobody says is not made up.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hanse.cedar.files import text_of
from hanse.cedar.policies import Policies
from hanse.cedar.vocabulary import Vocabulary
from hanse.errors import ConfigError, WireError
from hanse.messages import Json, loads
from hanse.settings import unknown

_OWN = ("name", "expect", "by", "action", "person")
_EXPECT = {"allow": True, "deny": False}


@dataclass(frozen=True, slots=True)
class Case:
    """One question and the answer that is expected.

    Args:
        person: who asks.
        allowed: what is expected.
        by: the policies that decide; None: it does not matter which.
        facts: of the action, as values of its types.
    """

    name: str
    action: str
    person: str
    facts: Mapping[str, Any]
    allowed: bool
    by: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What policies said of a case. ``wrong``: what is not as expected, in words; "" where all is."""

    case: Case
    by: tuple[str, ...]
    wrong: str


def read_cases(path: Path, vocabulary: Vocabulary) -> list[Case]:
    """The cases of a file. Raises ``ConfigError`` for what is no table, has no case, or names a fact that
    there is not."""
    try:
        text = text_of(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the cases in {path} cannot be read: {error}") from None
    try:
        given, listed = _csv(text) if path.suffix == ".csv" else _listed(_plain(path, text), path)
    except (csv.Error, RecursionError) as error:
        raise ConfigError(f"{path.name} is no table of cases: {error}") from None
    if not listed:
        raise ConfigError(f"there are no cases in {path.name}, and so nothing is tried; write at least one")
    known = {fact for kind in vocabulary.facts.values() for fact in typing.get_type_hints(kind)}
    for name in given:
        if name not in known and name not in _OWN:
            raise unknown(name, {*known, *_OWN}, of=f"{path.name}, under given")
    return [_case(given, one, path, vocabulary) for one in listed]


def outcomes(policies: Policies, cases: list[Case]) -> Iterator[Outcome]:
    """What the policies say of each case. Raises ``ConfigError`` for a case that lacks a fact, or has a wrong one."""
    for case in cases:
        try:
            said = policies.decide(
                case.action, case.person, str(case.facts.get("run", "")), SimpleNamespace(**case.facts)
            )
        except AttributeError as error:
            raise ConfigError(f"case {case.name!r} says nothing of {error.name!r}, which policies read") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"case {case.name!r} has a fact that is not of its type: {error}") from None
        wrong = ""
        if said.allowed != case.allowed:
            wrong = "it is allowed" if said.allowed else f"it is refused: {said.reason}"
        elif case.by is not None and said.by != case.by:
            wrong = f"it is decided by {', '.join(said.by) or 'no policy'}, not by {', '.join(case.by) or 'no policy'}"
        yield Outcome(case, said.by, wrong)


# ---------------------------------------------------------------- reading


def _plain(path: Path, text: str) -> Json:
    try:
        if path.suffix == ".json":
            return loads(text)
        return _yaml().safe_load(text)
    except (WireError, ValueError) as error:
        raise ConfigError(f"{path.name} is no table of cases: {error}") from None
    except Exception as error:  # YAML's own
        if type(error).__module__.partition(".")[0] != "yaml":
            raise
        raise ConfigError(f"{path.name} is no table of cases: {' '.join(str(error).split())}") from None


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigError("cases in YAML need the package pyyaml: pip install 'hanse[policy]'") from None
    return yaml


def _listed(found: Json, path: Path) -> tuple[dict[str, Json], list[dict[str, Json]]]:
    if not isinstance(found, dict) or not isinstance(found.get("cases"), list) or not {*found} <= {"given", "cases"}:
        raise ConfigError(f"{path.name} is no table of cases; expected an object of given and cases")
    made = []
    for one in (found.get("given") or {}, *found["cases"]):
        if not isinstance(one, dict) or not isinstance(one.get("facts", {}), dict):
            raise ConfigError(f"{path.name}: {str(one)[:80]!r} is no case; expected an object")
        made.append({**{k: v for k, v in one.items() if k != "facts"}, **one.get("facts", {})})
    return made[0], made[1:]


def _csv(text: str) -> tuple[dict[str, Json], list[dict[str, Json]]]:
    given: dict[str, Json] = {}
    listed = []
    for row in csv.DictReader(io.StringIO(text)):
        one: dict[str, Json] = {}
        for name, cell in row.items():
            if name and cell:
                _put(one, name, cell if name in _OWN else _cell(cell))
        if one.get("name") == "given":
            given = {name: value for name, value in one.items() if name != "name"}
        else:
            listed.append(one)
    return given, listed


def _put(one: dict[str, Json], name: str, value: Json) -> None:
    outer, dot, inner = name.partition(".")
    if dot:
        within = one.setdefault(outer, {})
        if not isinstance(within, dict):
            raise ConfigError(f"the column {name!r} is part of {outer!r}, which has a column and a value of its own")
        _put(within, inner, value)
    else:
        one[name] = value


def _cell(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _case(given: Mapping[str, Json], own: Mapping[str, Json], path: Path, vocabulary: Vocabulary) -> Case:
    both = {**given, **own}
    name, action, expect = str(both.get("name", "")), both.get("action"), both.get("expect")
    if not name:
        raise ConfigError(f"{path.name}: a case has no name")
    if not isinstance(action, str) or action not in vocabulary.facts:
        raise ConfigError(f"case {name!r}: action is {action!r}; expected one of {', '.join(vocabulary.facts)}")
    if not isinstance(expect, str) or expect not in _EXPECT:
        raise ConfigError(f"case {name!r}: expect is {expect!r}; expected allow or deny")
    hints = typing.get_type_hints(vocabulary.facts[action])
    for fact in own:
        if fact not in hints and fact not in _OWN:
            raise unknown(fact, hints, of=f"the action {action}, in case {name!r}")
    facts: dict[str, Any] = {fact: None for fact, hint in hints.items() if type(None) in typing.get_args(hint)}
    facts |= {fact: _value(hints[fact], value, name) for fact, value in both.items() if fact in hints}
    by = both.get("by")
    if by is not None and not isinstance(by, (str, list)):
        raise ConfigError(f"case {name!r}: by is {by!r}; expected the names of policies")
    names = [part.strip() for part in by.split(",")] if isinstance(by, str) else by
    decided = None if names is None else tuple(sorted(str(part) for part in names if part))
    person = str(both.get("person") or both.get("proposer") or "")
    return Case(name, action, person, facts, _EXPECT[expect], decided)


def _value(hint: Any, value: Json, case: str) -> Any:
    kinds = [kind for kind in (*typing.get_args(hint), hint) if isinstance(kind, type)]
    if value is None:
        return None
    if datetime in kinds:
        try:
            found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            raise ConfigError(f"case {case!r}: {value!r} is no time; expected one as 2026-11-30T09:00Z") from None
        return found
    if isinstance(value, dict) and any(dataclasses.is_dataclass(kind) for kind in kinds):
        return SimpleNamespace(**value)
    return value
