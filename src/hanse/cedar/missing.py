"""Attributes that policies name and that there are not.

Cedar finds those that are read. One that a policy only looks for (``context has rowz && context.rowz < 10``) is no
error to it: there is never one, so a ``forbid`` with such a typo would forbid nothing, and nobody be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hanse.cedar.vocabulary import Attribute, Vocabulary

Records = list[tuple[Attribute, ...]]


def missing(policy: Mapping[str, Any], vocabulary: Vocabulary) -> list[str]:
    """What a policy (in Cedar's JSON) names that none of its actions has, in words."""
    scope = policy.get("action", {})
    named = [entity.get("id") for entity in (*scope.get("entities", ()), scope.get("entity", {}))]
    contexts = [attributes for action, attributes in vocabulary.actions.items() if action in named]
    contexts = contexts or [*vocabulary.actions.values()]
    found: dict[str, None] = {}
    unread: list[Any] = [policy.get("conditions")]
    while unread:
        one = unread.pop()
        if isinstance(one, list):
            unread += one
        elif isinstance(one, dict):
            unread += one.values()
            for looked in (one.get("has"), one.get(".")):
                if isinstance(looked, dict) and isinstance(looked.get("attr"), str):
                    found |= dict.fromkeys(_missing(looked["left"], looked["attr"], contexts))
    return list(found)


def _missing(left: Any, name: str, contexts: Records) -> Iterator[str]:
    known = _records(left, contexts)
    if known is None:  # what it is of, is not said by a name
        known = [*_all(contexts)]
    names = {attribute.name for record in known for attribute in record}
    if name not in names:
        import difflib

        path = _written(left)
        close = difflib.get_close_matches(name, sorted(names), 1)
        meant = f"did you mean {path}.{close[0]}?" if close else f"there are {', '.join(sorted(names)) or 'none'}"
        yield f"{path}.{name} is not found; {meant}"


def _records(of: Any, contexts: Records) -> Records | None:
    """What an expression may be; None where names do not tell."""
    if isinstance(of, dict) and "Var" in of:
        return contexts if of["Var"] == "context" else [()]
    if isinstance(of, dict) and isinstance(of.get("."), dict):
        above = _records(of["."]["left"], contexts)
        found = [a.inner or () for record in above or () for a in record if a.name == of["."]["attr"]]
        return None if above is None else found
    return None


def _all(records: Records) -> Iterator[tuple[Attribute, ...]]:
    for record in records:
        yield record
        yield from _all([attribute.inner for attribute in record if attribute.inner])


def _written(of: Any) -> str:
    if isinstance(of, dict) and "Var" in of:
        return str(of["Var"])
    if isinstance(of, dict) and isinstance(of.get("."), dict):
        return f"{_written(of['.']['left'])}.{of['.']['attr']}"
    return "..."
