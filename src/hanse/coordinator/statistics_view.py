"""Statistics as the page shows them: what can be asked, and what a run of statistics gave."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse import tabulated
from hanse.fetched import Fetched
from hanse.messages import Json, Record
from hanse.queries import statistic
from hanse.registry import names
from hanse.rough import Rough


def offered() -> list[dict[str, Json]]:
    """Every statistic that people ask for, with its arguments and what its columns are called."""
    found: list[dict[str, Json]] = []
    for name in names("statistics"):
        stat = statistic(name)
        if stat.shown.offered:
            found.append(
                {
                    "name": name,
                    "doc": stat.doc,
                    "kinds": sorted(stat.kinds),
                    "columns": stat.columns,
                    "roles": list(stat.shown.roles),
                    "arguments": dict(stat.shown.arguments),
                    "asked": dict(stat.shown.asked),
                    "basic": stat.shown.basic,
                }
            )
    return found


def shown(
    record: Record,
    kinds: Mapping[str, str],
    failures: Mapping[str, str],
    run_id: str,
    asked: Mapping[str, int] | None = None,
) -> dict[str, Json]:
    """What a run of statistics gave: rows per column, tables, pictures, and what one should know of them.

    Args:
        kinds: column to kind.
        failures: node to why it gave nothing.
        asked: node to the rows that it declares at most.

    Raises:
        WireError: the record is not one of statistics.
    """
    found = Fetched.of(record, failures, run_id, asked)
    values = [(item, found.qualified(item)) for item in found.plan.wanted]
    failed = [f"{node} is not in it: {why}" for node, why in sorted(failures.items())]
    return {
        "nodes": list(found.nodes),
        "minimum": found.held,
        "rests_on": {item.name: found.scope(item).to_json() for item in found.plan.wanted},
        "rows": [_plain(row) for row in tabulated.rows(values, kinds)],
        "tables": [
            {"title": title, "rows": [_plain(row) for row in rows]} for title, rows in tabulated.tables(values, kinds)
        ],
        "pictures": [
            {"title": title, "kind": type(one).__name__.lower(), "dates": dates, **dataclasses.asdict(one)}
            for title, one, dates in tabulated.pictures(values, kinds)
        ],
        "notes": [*failed, *found.notes(found.plan.wanted)],
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Json]:
    """A row whose cells are numbers, texts, nothing, or numbers that are not sure (:meth:`Rough.to_json`)."""
    return {name: _text(value) for name, value in row.items()}


def _text(value: Any) -> Json:
    if isinstance(value, Rough):
        return value.to_json()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_in_text(v)}" for k, v in value.items())
    return ", ".join(_in_text(v) for v in value)


def _in_text(value: Any) -> str:
    return str(value if isinstance(value, Rough) else _text(value))
