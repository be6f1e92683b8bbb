"""Rules: each may say no. One file each; the folder is the registry.

A file has ``RULE``, a class that is made with the owner's policy (a mapping) and has
:class:`hanse.kinds.Rule`'s ``name`` and ``decide``. A rule reads facts by subscription, so a fact
that is missing raises, and what raises is a no. ``SETTINGS`` of a file are the owner's settings that
the rule brings along: a new rule with its settings is one new file.
"""

from __future__ import annotations

from collections.abc import Mapping

from hanse.errors import ConfigError, NotAllowed
from hanse.kinds import Decision, Rule
from hanse.messages import Json
from hanse.registry import find, names
from hanse.settings import Setting


def settings() -> dict[str, Setting]:
    """The owner's settings of all rules, by name. Raises ``ConfigError`` where two rules claim one name."""
    found: dict[str, Setting] = {}
    for rule in names("policy"):
        for name, setting in getattr(find("policy", rule), "SETTINGS", {}).items():
            if name in found:
                raise ConfigError(f"the setting {name!r} of the rule {rule!r} is another rule's already")
            found[name] = setting
    return found


def rules(policy: Mapping[str, Json]) -> tuple[Rule, ...]:
    """All rules of the folder, made with the owner's policy. Raises what a broken rule raises."""
    return tuple(find("policy", name).RULE(policy) for name in names("policy"))


def decide(rules: tuple[Rule, ...], facts: Mapping[str, Json]) -> list[Decision]:
    """What every rule says; a rule that raises, or says something else than a decision, says no."""
    found = []
    for rule in rules:
        name = str(getattr(rule, "name", type(rule).__name__))
        try:
            decision = rule.decide(facts)
            if not isinstance(decision, Decision) or not isinstance(decision.allowed, bool):
                raise TypeError
        except KeyError as missing:
            decision = Decision(False, name, f"the fact {missing} is missing, so the rule says no")
        except Exception as error:
            decision = Decision(False, name, f"the rule failed ({type(error).__name__}), which counts as a no")
        found.append(decision)
    return found


def enforce(rules: tuple[Rule, ...], facts: Mapping[str, Json]) -> None:
    """Raises ``NotAllowed`` with the reasons unless every rule, and at least one, says yes."""
    said = decide(rules, facts)
    refused = [d for d in said if not d.allowed]
    if not said:
        raise NotAllowed("there are no rules here, and without rules nothing is allowed")
    if refused:
        raise NotAllowed("; ".join(f"{d.rule}: {d.reason}" for d in refused))


__all__ = ["decide", "enforce", "rules", "settings"]
