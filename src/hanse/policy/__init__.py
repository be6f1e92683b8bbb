"""Rules: each may say no. One file each; the folder is the registry.

A file has ``RULE``, a class that is made with the owner's policy (a mapping) and has
:class:`hanse.rule.Rule`'s ``name`` and ``decide``, which may be a coroutine. ``SETTINGS`` of a file are the
owner's settings that the rule brings along: a new rule with its settings is one new file. A rule that has a word on how
many persons approve a run has ``approve_alone`` (:func:`alone`). One that follows something, such as a file, has
``decides_by``, which gives a text that is another one once that has changed: then the rules are asked again before an
answer leaves. One that has ``reads``, the names of all facts that it decides by, is not asked again of a next task that
is the same to it (:mod:`hanse.node.remembered`).

At a node and in a simulation the same rules are asked by the same :func:`enforce`: before the work, and
again with what was found.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from hanse import registry
from hanse.errors import ConfigError, HanseError, NotAllowed, NotNow
from hanse.facts import Facts
from hanse.messages import Json
from hanse.registry import find, names
from hanse.rule import Decision, Rule
from hanse.settings import Setting, checked

FOLDERS = ("policy", "ledgers")  # whose settings are the owner's
SECONDS = 10.0  # a rule that takes longer says no


def settings() -> dict[str, Setting]:
    """The owner's settings of all rules and ledgers, by name. Raises ``ConfigError`` where two claim one name."""
    found: dict[str, Setting] = {}
    for folder in FOLDERS:
        for file in names(folder):
            for name, setting in registry.settings(folder, file).items():
                if name in found:
                    raise ConfigError(f"the setting {name!r} of {file!r} in {folder} is another file's already")
                found[name] = setting
    return found


def simulated(given: Mapping[str, Json], sites: int) -> dict[str, Json]:
    """The policy of a simulation of so many sites, where data scientist and owner are one: as given, else what
    each setting is there. Raises ``ConfigError`` for a setting that there is not, or a value that does not fit."""
    known = settings()
    there = {name: setting.in_simulation(sites) for name, setting in known.items()}
    said = checked(given, known, of="a policy")
    return {**there, **{name: said[name] for name in given}, "message_bytes": 1 << 62, "steps": 1 << 62}


def rules(policy: Mapping[str, Json]) -> tuple[Rule, ...]:
    """All rules of the folder, made with the owner's policy. Raises what a broken rule raises."""
    return tuple(find("policy", name).RULE(policy) for name in names("policy"))


async def decide(rules: Sequence[Rule], facts: Facts, seconds: float = SECONDS) -> list[Decision]:
    """What every rule says. One that raises, takes longer than ``seconds`` or says something else than a decision
    says no. Those that wait, wait together. Raises ``NotNow`` where a rule can say nothing now, for a reason that
    passes."""
    said = ask(rules, facts, seconds)
    return said if isinstance(said, list) else await said


def ask(
    rules: Sequence[Rule], facts: Facts, seconds: float = SECONDS
) -> list[Decision] | Coroutine[Any, Any, list[Decision]]:
    """As :func:`decide`; to be waited for only where one of the rules is, which few are."""
    said: list[Any] = []
    waiting = []
    for rule in rules:
        try:
            one = rule.decide(facts)
        except NotNow:
            raise
        except Exception as error:
            one = _failed(rule, error)
        if type(one) is Decision or isinstance(one, Decision):
            if one.allowed is not True and one.allowed is not False:
                one = _failed(rule, TypeError())
        elif inspect.isawaitable(one):
            waiting.append(len(said))
        else:
            one = _failed(rule, TypeError())
        said.append(one)
    return _heard(rules, said, waiting, seconds) if waiting else said


async def _heard(rules: Sequence[Rule], said: list[Any], waiting: Sequence[int], seconds: float) -> list[Decision]:
    """What they say, of whom those at these places are waited for."""
    heard = await asyncio.gather(*(_wait(rules[i], said[i], seconds) for i in waiting))
    for i, decision in zip(waiting, heard, strict=True):
        fine = isinstance(decision, Decision) and isinstance(decision.allowed, bool)
        said[i] = decision if fine else _failed(rules[i], TypeError())
    return said


def asked_alone(rules: Sequence[Rule]) -> list[str]:
    """The names of the rules that have a word on whether one person may approve a run."""
    return [_name(rule) for rule in rules if _asked(rule)]


def _asked(rule: Rule) -> bool:
    """Whether it has ``approve_alone``; one that fails when it is looked at is asked, and fails then."""
    try:
        return getattr(rule, "approve_alone", None) is not None
    except Exception:
        return True


async def alone(rules: Sequence[Rule], facts: Callable[[], Awaitable[Facts]]) -> Decision:
    """Whether one person may approve a run: a no of the first rule whose ``approve_alone`` says so, or that fails, or
    of what goes wrong when ``facts`` are made, which they are where a rule asks for them."""
    asked = [rule for rule in rules if _asked(rule)]
    try:
        known = await facts() if asked else None
    except HanseError as error:
        return Decision(False, error.code, error.message)
    for rule in asked:
        try:
            said = rule.approve_alone(known)  # type: ignore[attr-defined]
        except HanseError as error:
            return Decision(False, _name(rule), error.message)
        except Exception as error:
            return _failed(rule, error)
        if not isinstance(said, Decision) or said.allowed is not True:
            return said if isinstance(said, Decision) else _failed(rule, TypeError())
    return Decision(True, "approve_alone")


async def enforce(rules: Sequence[Rule], facts: Facts) -> None:
    """Raises ``NotAllowed`` with the reasons unless every rule, and at least one, says yes; ``NotNow`` as
    :func:`decide`."""
    check(await decide(rules, facts))


class Narrowed:
    """A rule that is handed what it says that it reads (``reads``); of the time, the minute. One that has said too
    little finds a fact missing, which is a no."""

    def __init__(self, rule: Rule, reads: frozenset[str]) -> None:
        self.name, self._rule, self._reads = _name(rule), rule, reads

    def decide(self, facts: Facts) -> Any:
        """What the rule says, if need be as a coroutine."""
        seen = SimpleNamespace(**{name: getattr(facts, name) for name in self._reads})
        if "time" in self._reads:
            seen.time = seen.time.replace(second=0, microsecond=0)
        return self._rule.decide(seen)  # type: ignore[arg-type]


async def refused(
    rules: Sequence[Rule], rows: Mapping[str, int | None], facts: Callable[[str], Facts]
) -> dict[str, HanseError]:
    """What :func:`enforce` raises at each of these nodes that are asked the same, by node; of the others nothing.

    A rule that says yes, and reads no fact that differs between them (``reads``), says yes to all: a simulation asks
    thousands in a second. Whatever else a rule does, each node is asked by itself.

    Args:
        rows: of each node, the fact of this name.
        facts: those of a node, which differ from another's in ``dataset`` and ``rows`` alone.
    """
    own, found = frozenset(("dataset", "rows")), dict[str, HanseError]()
    first = next(iter(rows), None)
    about = None if first is None else facts(first)
    left = [] if about is None else [rule for rule in rules if not _passes(rule, about, own)]
    passed: dict[int | None, bool] = {}
    for node, count in rows.items():
        if count not in passed:
            if node != first and left:
                about = facts(node)
            passed[count] = bool(rules) and (
                about is None or all(_passes(rule, about, frozenset(("dataset",))) for rule in left)
            )
        if not passed[count]:
            try:
                await enforce(rules, facts(node))
            except HanseError as error:
                found[node] = error
    return found


def _passes(rule: Rule, facts: Facts, besides: frozenset[str]) -> bool:
    """Whether a rule says yes at once, and reads other facts than these."""
    try:
        reads: frozenset[str] | None = getattr(rule, "reads", None)
        if reads is None or reads & besides:
            return False
        said = Narrowed(rule, reads).decide(facts)
        if type(said) is Decision:
            return said.allowed is True
        if inspect.iscoroutine(said):
            said.close()
        return False
    except Exception:
        return False


def check(said: Sequence[Decision]) -> None:
    """Raises ``NotAllowed`` with the reasons unless every rule, and at least one, said yes."""
    if not said:
        raise NotAllowed("there are no rules here, and without rules nothing is allowed")
    for one in said:
        if not one.allowed:
            raise NotAllowed("; ".join(f"{d.rule}: {d.reason}" for d in said if not d.allowed))


def named(said: Sequence[Decision]) -> str:
    """What in particular decided, by the rules that have several parts or versions; for the audit."""
    return "; ".join(f"{decision.rule}: {decision.by}" for decision in said if decision.by)


async def _wait(rule: Rule, said: Awaitable[Any], seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds):
            return await said
    except NotNow:
        raise
    except TimeoutError:
        return Decision(False, _name(rule), f"the rule did not decide within {seconds:g} s, which counts as a no")
    except Exception as error:
        return _failed(rule, error)


def _failed(rule: Rule, error: Exception) -> Decision:
    missing = error.args[0] if isinstance(error, KeyError) and error.args else getattr(error, "name", None)
    if isinstance(error, (KeyError, AttributeError)):
        return Decision(False, _name(rule), f"the fact {str(missing)!r} is missing, so the rule says no")
    return Decision(False, _name(rule), f"the rule failed ({type(error).__name__}), which counts as a no")


def _name(rule: Rule) -> str:
    return str(getattr(rule, "name", type(rule).__name__))


__all__ = [
    "Narrowed",
    "alone",
    "asked_alone",
    "check",
    "decide",
    "enforce",
    "named",
    "refused",
    "rules",
    "settings",
    "simulated",
]
