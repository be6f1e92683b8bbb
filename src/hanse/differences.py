"""What a proposal asks that the one before did not: settings, data, columns, who else takes part, what leaves, code.

>>> before = {"config": {"num_rounds": 5}, "alignment": {"features": ["age"]}, "datasets": {}, "code": {}}
>>> after = {**before, "config": {"num_rounds": 9}, "alignment": {"features": ["age", "sex"]}}
>>> for line in differences(before, after):
...     print(line)
setting num_rounds: 9, before 5
column now read: sex
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from hanse.bundle import Bundle, otherwise, plan_texts
from hanse.errors import HanseError
from hanse.messages import Json

_SHOWN = 200  # characters of a value
_MISSING = object()


def differences(before: Mapping[str, Json], after: Mapping[str, Json]) -> Iterator[str]:
    """Lines for an owner, from the contents of two bundles; none where both ask the same."""
    if otherwise(before) or otherwise(after):
        yield "an earlier build of Hanse made the one before: what is new cannot be told apart, so read all of it"
        return
    if before.get("hanse") != after.get("hanse"):
        yield f"release: {after.get('hanse')}, before {before.get('hanse')}"
    for name, new, old in _changed(before.get("config"), after.get("config")):
        if name == "plan":
            yield from _plan(old, new)
        else:
            yield f"setting {name}: {_value(new)}, before {_value(old)}"
    columns = [set((of.get("alignment") or {}).get("features") or ()) for of in (before, after)]
    yield from (f"column now read: {column}" for column in sorted(columns[1] - columns[0]))
    yield from (f"column not read any more: {column}" for column in sorted(columns[0] - columns[1]))
    for node, new, old in _changed(before.get("datasets"), after.get("datasets")):
        yield from _dataset(node, new, old)
    for name, new, old in _changed(before.get("gathering"), after.get("gathering")):
        yield f"what is gathered as {name}: by {_value(new)}, before by {_value(old)}"
    if before.get("transforms") != after.get("transforms"):
        yield f"before it leaves: {_value(after.get('transforms'))}, before {_value(before.get('transforms'))}"
    promised = [_promise(of) for of in (before, after)]
    if promised[0] != promised[1]:
        yield f"privacy: {promised[1]}; before: {promised[0]}"
    for module, new, old in _changed(before.get("code"), after.get("code")):
        yield from _code(module, new, old)


def _changed(before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name, new, old) of what is not the same in two objects."""
    old, new = before or {}, after or {}
    for name in sorted({*old, *new}):
        if old.get(name, _MISSING) != new.get(name, _MISSING):
            yield name, new.get(name, _MISSING), old.get(name, _MISSING)


def _dataset(node: str, new: Any, old: Any) -> Iterator[str]:
    if old is _MISSING:
        where = f" in {new['country']}" if new.get("country") else ""
        yield f"now takes part: {node}{where}, with at most {new.get('most_rows')} rows"
    elif new is _MISSING:
        yield f"takes no part any more: {node}"
    else:
        yield from (f"{node}: {what} {_value(n)}, before {_value(o)}" for what, n, o in _changed(old, new))


def _promise(of: Mapping[str, Json]) -> str:
    try:
        found = Bundle(dict(of)).guarantee()
    except (HanseError, KeyError):  # of a release that this one cannot read
        return "not known"
    return found.words() if found else "no noise is added; sums are exact"


def _plan(old: Any, new: Any) -> Iterator[str]:
    texts = [
        {what.removeprefix("the data scientist's "): text for what, text in plan_texts(of).items()} for of in (old, new)
    ]
    for what, now, before in _changed(*texts):
        yield from _code(what if "." in what else f"the {what}", now, before)
    rest = [
        {k: v for k, v in of.items() if k not in ("source", "files")} if isinstance(of, Mapping) else {}
        for of in (old, new)
    ]
    yield from (f"plan.{name}: {_value(now)}, before {_value(before)}" for name, now, before in _changed(*rest))


def _code(module: str, new: Any, old: Any) -> Iterator[str]:
    if old is _MISSING:
        yield f"code that is new: {module}, {len(str(new).splitlines())} lines (hanse node show has them)"
    elif new is _MISSING:
        yield f"code that does not run any more: {module}"
    else:
        yield f"code that is another: {module}"
        lines = difflib.unified_diff(str(old).splitlines(), str(new).splitlines(), "before", "now", lineterm="", n=2)
        yield from (f"  {line}" for line in lines)


def _value(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
