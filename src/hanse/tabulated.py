"""What statistics gave, as rows, tables and pictures: for a notebook, a terminal and the page alike.

A statistic says itself what is seen of it (:mod:`hanse.presentation`); here this is applied to values, group by
group, and days are made dates where a column is one of dates.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

from hanse.algorithms import statistics as algorithm
from hanse.messages import Array, Json
from hanse.presentation import Picture
from hanse.queries import Item, Plan, statistic
from hanse.rough import Partial, Rough, RoughDate, some
from hanse.table import ColumnKind

Row = dict[str, Any]
Kinds = Mapping[str, str]
Values = Iterable[tuple[Item, Any]]  # items with what they gave; of a grouped one, group to value


def value_of(plan: Plan, arrays: Mapping[str, Array], item: Item, prefix: str = "") -> Json:
    """The value; by label (one grouping column) or tuple of labels (two) where there are groups.

    Args:
        prefix: of the arrays of a single node.
    """
    if not item.by:
        return algorithm.value(plan, arrays, item, 0, prefix)
    labels = product(*algorithm.labels_by(plan, arrays, item))
    return {
        label[0] if len(label) == 1 else label: algorithm.value(plan, arrays, item, group, prefix)
        for group, label in enumerate(labels)
    }


def grouped(item: Item, value: Any) -> dict[str, Any]:
    """Group to value; one without a name where there are no groups."""
    if not item.by:
        return {"": value}
    return {", ".join(g) if isinstance(g, tuple) else str(g): one for g, one in (value or {}).items()}


def usual(item: Item, kinds: Kinds) -> bool:
    """Whether it is of interest by itself: the sum of dates is none, though it can be had."""
    of, kind = statistic(item.stat).shown.usual, kinds.get(item.columns[0])
    return of is None or kind is None or kind in of


def rows(values: Values, kinds: Kinds) -> list[Row]:
    """One row per column (and group): all that is one number, and what else has cells in such a row."""
    found: dict[tuple[str, Any], Row] = {}
    for item, value in values:
        if len(item.columns) > 1:
            continue
        dates = statistic(item.stat).shown.on_scale and kinds.get(item.columns[0]) == ColumnKind.DATE
        for group, one in (value or {}).items() if item.by else [(None, value)]:
            cells = _cells(item, one)
            if cells is None:
                continue
            row = found.setdefault((item.columns[0], group), {"column": item.columns[0]})
            if item.by:
                row.update(zip(item.by, group if isinstance(group, tuple) else (group,), strict=True))
            row.update({name: dated(v) for name, v in cells.items()} if dates else cells)
    return list(found.values())


def tables(values: Values, kinds: Kinds) -> list[tuple[str, list[Row]]]:
    """What is more than cells in a row, each as a table with its name."""
    found = []
    for item, value in values:
        stat = statistic(item.stat)
        if value is None or stat.scalar or (stat.shown.cells is not None and len(item.columns) == 1):
            continue
        dates = stat.shown.dated if kinds.get(item.columns[0]) == ColumnKind.DATE else ()
        for group, one in grouped(item, value).items():
            if one is not None:
                lines = stat.shown.table(item.columns, item.options, one)
                told = [{name: dated(v) if name in dates else v for name, v in line.items()} for line in lines]
                found.append((named(item, group), told))
    return found


def pictures(values: Values, kinds: Kinds) -> list[tuple[str, Picture, bool]]:
    """Title and description of each picture, and whether its column is one of dates."""
    found = []
    for item, value in values:
        draw = statistic(item.stat).shown.pictures
        if draw is None or value is None:
            continue
        dates = kinds.get(item.columns[0]) == ColumnKind.DATE
        found += [(named(item, one.group), one, dates) for one in draw(item.options, grouped(item, value))]
    return found


def kept_back(found: Iterable[tuple[str, str, str]]) -> list[str]:
    """(what, node, why) as few sentences as say the same.

    >>> kept_back([("mean of age", "ulm", "few rows"), ("mean of age", "bonn", "few rows"),
    ...            ("mean of size", "bonn", "few rows"), ("mean of size", "ulm", "few rows")])
    ['kept back at bonn, ulm (few rows): mean of age, mean of size']
    """
    nodes: dict[tuple[str, str], set[str]] = {}
    for what, node, why in found:
        nodes.setdefault((what, why), set()).add(node)
    whats: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (what, why), those in nodes.items():
        whats.setdefault((why, tuple(sorted(those))), []).append(what)
    return [f"kept back at {some(those)} ({why}): {some(names)}" for (why, those), names in whats.items()]


def grouped_notes(found: Iterable[tuple[Item, str, str]]) -> list[str]:
    """(item, group, why) as a sentence each; groups and columns of which the same is said, together."""
    whats: dict[str, list[str]] = {}
    for item, group, why in found:
        whats.setdefault(why, []).append(named(item, group))
    return [f"{some(names)}: {why}" for why, names in whats.items()]


def named(item: Item, group: str) -> str:
    """What a table or a picture is called."""
    return f"{item.name}: {group}" if group else item.name


def dated(value: Any) -> Any:
    """Days since 1970-01-01 as a date; beyond the years 1 to 9999, and what is no number, as it is.

    >>> dated(18262.4), dated(None), dated("5 or more")
    ('2020-01-01', None, '5 or more')
    >>> dated(Rough(18262.4, 18260.0, 18270.0))
    '2020-01-01 (2019-12-30 to 2020-01-09)'
    """
    if isinstance(value, Rough):
        span = "" if value.least is None or value.most is None else f"{dated(value.least)} to {dated(value.most)}"
        day = dated(float(value))
        short = f"{day} {value.of}" if isinstance(value, Partial) else f"≈{day}"
        return RoughDate(f"{day} ({'; '.join(filter(None, [span, value.rests_on]))})", short)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return value
    try:
        return (datetime.date(1970, 1, 1) + datetime.timedelta(days=round(value))).isoformat()
    except (OverflowError, ValueError):
        return value


def _cells(item: Item, value: Any) -> Row | None:
    """What it fills in its row: nothing, where it has cells of other names and nothing is told; None: it has no row."""
    stat = statistic(item.stat)
    if stat.shown.cells is None:
        return {item.stat: value} if stat.scalar else None
    if value is None:
        return {} if stat.scalar else None
    return stat.shown.cells(item.options, value) or None
