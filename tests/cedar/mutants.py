"""Policies with one thing changed, from their form in JSON: each of them is another policy than was meant."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import cedarpy

Json = Any
Path = tuple[Any, ...]
_FLIPPED = {
    "<": (">=", "<="),
    "<=": (">", "<"),
    ">": ("<=", ">="),
    ">=": ("<", ">"),
    "==": ("!=",),
    "!=": ("==",),
    "&&": ("||",),
    "||": ("&&",),
    "lessThan": ("greaterThanOrEqual", "lessThanOrEqual"),
    "lessThanOrEqual": ("greaterThan", "lessThan"),
    "greaterThan": ("lessThanOrEqual", "greaterThanOrEqual"),
    "greaterThanOrEqual": ("lessThan", "greaterThan"),
    "containsAny": ("containsAll",),
    "containsAll": ("containsAny",),
}


def mutants(text: str) -> Iterator[tuple[str, str]]:
    """What was changed, in words, and the text after it."""
    whole = json.loads(cedarpy.policies_to_json_str(text))
    for number, policy in whole["staticPolicies"].items():
        name = policy["annotations"]["id"]

        def with_policy(changed: Json, number: str = number) -> str:
            policies = {**whole["staticPolicies"], number: changed}
            made = {**whole, "staticPolicies": {n: p for n, p in policies.items() if p is not None}}
            return cedarpy.policies_from_json_str(json.dumps(made))

        yield f"{name}: left out", with_policy(None)
        yield (
            f"{name}: permit and forbid swapped",
            with_policy({**policy, "effect": "forbid" if policy["effect"] == "permit" else "permit"}),
        )
        if policy["action"]["op"] != "All":
            yield f"{name}: of every action", with_policy({**policy, "action": {"op": "All"}})
        for k, condition in enumerate(policy["conditions"]):
            others = policy["conditions"][:k] + policy["conditions"][k + 1 :]
            yield f"{name}: condition {k} dropped", with_policy({**policy, "conditions": others})
            turned = {**condition, "kind": "unless" if condition["kind"] == "when" else "when"}
            changed = [*policy["conditions"][:k], turned, *policy["conditions"][k + 1 :]]
            yield f"{name}: when and unless swapped in {k}", with_policy({**policy, "conditions": changed})
            for what, body in _bodies(condition["body"]):
                changed = copy.deepcopy(policy["conditions"])
                changed[k]["body"] = body
                yield f"{name}: {what}", with_policy({**policy, "conditions": changed})


def _bodies(body: Json) -> Iterator[tuple[str, Json]]:
    """The expression with one node changed, for every node and every change."""
    for path, node in _nodes(body, ()):
        for what, changed in _changes(node):
            yield f"{what} at {'/'.join(map(str, path)) or 'the top'}", _put(body, path, changed)


def _nodes(node: Json, path: Path) -> Iterator[tuple[Path, Json]]:
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from _nodes(value, (*path, key))
    elif isinstance(node, list):
        for k, value in enumerate(node):
            yield from _nodes(value, (*path, k))


def _changes(node: Json) -> Iterator[tuple[str, Json]]:
    for operator, others in _FLIPPED.items():
        if operator in node and len(node) == 1:
            for other in others:
                yield f"{operator} is {other}", {other: node[operator]}
            if operator in ("&&", "||"):
                for side in ("left", "right"):
                    yield f"{operator} is its {side} side alone", node[operator][side]
    if list(node) == ["Value"] and isinstance(node["Value"], int) and not isinstance(node["Value"], bool):
        for more in (-1, 1):
            yield f"{node['Value']} is {node['Value'] + more}", {"Value": node["Value"] + more}
    if list(node) == ["Value"] and isinstance(node["Value"], str):
        yield f"{node['Value']!r} is another text", {"Value": node["Value"] + "x"}
    if list(node) == ["Set"] and len(node["Set"]) > 1:
        for k in range(len(node["Set"])):
            yield f"element {k} of a set is missing", {"Set": node["Set"][:k] + node["Set"][k + 1 :]}
    if list(node) == ["decimal"]:
        [value] = node["decimal"]
        moved = f"{float(value['Value']) + 0.0001:.4f}"
        yield f"{value['Value']} is {moved}", {"decimal": [{"Value": moved}]}
    if list(node) == ["like"]:
        yield "like is everything", {"like": {**node["like"], "pattern": ["Wildcard"]}}
        literal = [part for part in node["like"]["pattern"] if part != "Wildcard"]
        yield "like is anywhere", {"like": {**node["like"], "pattern": ["Wildcard", *literal, "Wildcard"]}}


def _put(body: Json, path: Path, changed: Json) -> Json:
    made = copy.deepcopy(body)
    if not path:
        return changed
    place: Any = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = changed
    return made
