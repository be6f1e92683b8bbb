"""Statistics as the page shows them: what can be asked, and what a run of statistics gave."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse import tabulated
from hanse.algorithms import statistics as algorithm
from hanse.errors import WireError
from hanse.messages import Json, Record
from hanse.queries import statistic
from hanse.registry import names


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


def shown(record: Record, kinds: Mapping[str, str]) -> dict[str, Json]:
    """What a run of statistics gave: rows per column, tables, pictures, and what was kept back.

    Args:
        kinds: column to kind.

    Raises:
        WireError: the record is not one of statistics.
    """
    try:
        data = record.data
        plan = algorithm.Query.of(data["query"]).plan
        arrays = {name: np.asarray(record.arrays[name]) for name in record.arrays}
        values = [(item, tabulated.value_of(plan, arrays, item)) for item in plan.wanted]
        back = [
            (plan.items[int(place)].name, node, why)
            for place, reasons in data["withheld"].items()
            for node, why in reasons.items()
        ]
        lacking = {str(column): list(nodes) for column, nodes in data["lacking"].items()}
        took = [set(nodes) for nodes in data["took"]]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        raise WireError("this run is no run of statistics") from None
    notes = [f"{column!r} is not at {', '.join(nodes)}" for column, nodes in sorted(lacking.items()) if nodes]
    return {
        "nodes": sorted(set.intersection(*took)) if took else [],
        "rows": [_plain(row) for row in tabulated.rows(values, kinds)],
        "tables": [
            {"title": title, "rows": [_plain(row) for row in rows]} for title, rows in tabulated.tables(values, kinds)
        ],
        "pictures": [
            {"title": title, "kind": type(one).__name__.lower(), "dates": dates, **dataclasses.asdict(one)}
            for title, one, dates in tabulated.pictures(values, kinds)
        ],
        "notes": [*notes, *tabulated.kept_back(back)],
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Json]:
    """A row whose cells are numbers, texts or nothing."""
    return {name: _text(value) for name, value in row.items()}


def _text(value: Any) -> Json:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items())
    return ", ".join(str(_text(v)) for v in value)
