"""The parts of a table 1, read from what a federation answered: numbers of each group, and whose rows are in them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from hanse import tabulated
from hanse.algorithms import statistics as algorithm
from hanse.errors import ConfigError
from hanse.experiment.table_one import Part, TableLine, TableOne
from hanse.fetched import Besides, Fetched
from hanse.messages import Array
from hanse.queries import Item, add, levels_of, make_item, unpack
from hanse.rough import Scope
from hanse.statistics import variance
from hanse.statistics.value_counts import MOST, OTHER
from hanse.table import ColumnKind

REST = "rest"
MOST_GROUPS = 12
GROUPING = ("categorical", "boolean", "numeric")
_NUMBERS, _LABELS = ("numeric", "date"), ("categorical", "boolean")
Ranges = Mapping[str, tuple[float, float]]
Fetch = Callable[[Sequence[Item], bool], Sequence[Fetched]]  # (items, of each node by itself?) to what answers them


@dataclass(frozen=True, slots=True)
class OneGroup:
    """What is known of a variable in one group.

    Args:
        scope: whose rows are in it; in what the group is a part of, too.
        part: of a column of numbers; None: nothing is told.
        arrays: of one of labels: ``n``, and rows per label as ``counts`` and ``hidden``; ``lost``: whether sites keep
            the group back, whose rows may be in the counts all the same.
    """

    scope: Scope
    part: Part | None = None
    arrays: Mapping[str, Array] | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """All groups of all variables. ``labels``: of each column that has some; ``missing``: sites that are in no group,
    and so in nothing that groups are a part of."""

    groups: list[str]
    cells: dict[str, dict[str, OneGroup]]
    labels: dict[str, tuple[str, ...]]
    notes: list[str]
    missing: Mapping[str, str]


def make(
    fetch: Fetch,
    by: str | None,
    compare: str | None,
    columns: Sequence[str],
    kinds: Mapping[str, str],
    simulated: bool = False,
    left_out: Sequence[str] = (),
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> TableOne:
    """See :meth:`hanse.experiment.analytics.FederatedAnalytics.table_one`."""
    compare = compare or ("rest" if by is None else "pairs")
    if compare not in ("rest", "pairs"):
        raise ConfigError(f"compare is {compare!r}; expected rest (each one against all others) or pairs")
    numbers = [c for c in columns if kinds[c] in _NUMBERS and c != by]
    labels = [c for c in columns if kinds[c] in _LABELS and c != by]
    if not numbers and not labels:
        raise ConfigError("there is no variable to compare")
    read = _sites if by is None else _groups
    found = read(fetch, by or "", numbers, labels, ranges or {})
    groups = found.groups
    if len(groups) < 2:
        there, why = ", ".join(groups) or "none", "; ".join(found.notes)
        raise ConfigError(f"two groups or more are compared; there are {there}. {why}".strip())
    if len(groups) > MOST_GROUPS:
        raise ConfigError(f"{len(groups)} groups are too many for one table; at most {MOST_GROUPS}")
    every: dict[str, tuple[str, ...]] = {group: (group,) for group in groups}
    if compare == "pairs" or len(groups) == 2:
        contrasts = {f"{a} vs {b}": (a, b) for a, b in itertools.combinations(groups, 2)}
    else:
        contrasts = {f"{group} vs {REST}": (group, f"{REST} of {group}") for group in groups}
        every |= {f"{REST} of {group}": tuple(g for g in groups if g != group) for group in groups}
    lines = []
    for column in columns:
        if column in found.cells:
            parts = {name: _together(found, column, those) for name, those in every.items()}
            lines += _lines(column, found.labels.get(column), parts, kinds[column] == ColumnKind.DATE)
    return TableOne(lines, groups, contrasts, by or "", [*left_out, *found.notes], simulated)


# ---------------------------------------------------------------- from cells to lines


def _together(found: Read, column: str, those: Sequence[str]) -> OneGroup:
    """Several groups as one, which lacks the sites that are in none."""
    cells = [found.cells[column][group] for group in those]
    if len(cells) == 1:
        return cells[0]
    scope = reduce(Scope.joined, [cell.scope for cell in cells]).joined(Scope(0, found.missing))
    if column in found.labels:
        return OneGroup(scope, arrays=reduce(add, [cell.arrays for cell in cells if cell.arrays is not None]))
    return OneGroup(scope, _joined([cell.part for cell in cells]))


def _lines(column: str, labels: tuple[str, ...] | None, cells: Mapping[str, OneGroup], date: bool) -> list[TableLine]:
    if labels is None:
        parts = {name: cell.part and replace(cell.part, scope=cell.scope) for name, cell in cells.items()}
        return [TableLine(column, "", parts, date)]
    found = [
        TableLine(column, label, {name: _share(cell, place) for name, cell in cells.items()})
        for place, label in enumerate([*labels, OTHER])
    ]
    arrays = [cell.arrays for cell in cells.values() if cell.arrays is not None]
    rare = any(one["counts"][-1] or one["hidden"][-1] for one in arrays)
    return found if rare else found[:-1]


def _joined(parts: Sequence[Part | None]) -> Part | None:
    """All of them as one: what varies within them, and between their means."""
    found = [part for part in parts if part is not None]
    n = sum(part.n for part in found)
    if len(found) < 2 or not n:
        return found[0] if found else None
    center = found[0].center
    means = [part.about(center) for part in found]
    mean = sum(part.n * m for part, m in zip(found, means, strict=True)) / n
    within = sum((part.n - 1) * (part.spread or 0.0) for part in found)
    between = sum(part.n * (m - mean) ** 2 for part, m in zip(found, means, strict=True))
    return Part(n, center, (within + between) / (n - 1), mean)


def _share(cell: OneGroup, place: int) -> Part | None:
    """Of one label. Where sites keep it back, it has the least share that it can have, and the most is that with all
    rows that are in no label; None where that is more than ``MOST`` of them."""
    assert cell.arrays is not None
    n, back = int(cell.arrays["n"]), bool(cell.arrays["hidden"][place])
    count, lost = int(cell.arrays["counts"][place]), n - int(cell.arrays["counts"].sum())
    if not n or cell.arrays["lost"] or (back and (not count or lost > MOST * n)):
        return None
    share = count / n
    return Part(
        n, share, share * (1 - share), scope=cell.scope, ends=(share, min((count + lost) / n, 1.0)) if back else None
    )


# ---------------------------------------------------------------- from answers to cells


def _number(where: Fetched, column: str, by: Sequence[str] = (), group: int = 0, prefix: str = "") -> Part | None:
    """The mean is told from the one about which the variance was summed: of all nodes that answered."""
    items = {s: make_item(s, [column], {}, by) for s in ("count", "mean", "variance")}
    n, mean, spread = (algorithm.value(where.plan, where.arrays, i, group, prefix) for i in items.values())
    if not n or mean is None:
        return None
    own, common = (
        algorithm.one_group(algorithm.sliced(where.arrays, where.plan.place(items[s]), p), group)
        for s, p in (("variance", prefix), ("mean", ""))
    )
    if not own["n"]:
        return Part(n, mean, spread)
    center, rest = variance.mean_of(own, common)
    return Part(n, center, spread, rest)


def _of_numbers(here: Fetched, item: Item, group: int, besides: Besides) -> OneGroup:
    """A column of numbers in one group, with what is known of the rows that are not in it."""
    scope, part = here.scope(item, group), _number(here, item.columns[0], item.by, group)
    return OneGroup(scope, part and replace(part, lacking=here.lacks(item, scope, besides)))


def _found(known: Sequence[Fetched], items: Sequence[Item]) -> dict[Item, Fetched]:
    return {i: next(f for f in reversed(known) if f.plan.has(i)) for i in items}


def _labels(where: Fetched, column: str) -> tuple[str, ...]:
    level = levels_of(column)
    return unpack(algorithm.sliced(where.arrays, where.plan.place(level))["labels"][0])


def _sites(fetch: Fetch, by: str, numbers: Sequence[str], labels: Sequence[str], ranges: Ranges) -> Read:
    """What each site shows of itself alone. No total is asked: it would give a site away that does not."""
    wanted = [make_item("variance", [c], {}) for c in numbers]  # which brings count and mean
    wanted += [make_item("value_counts", [c], {}) for c in labels]
    known = fetch(wanted, True)
    where = _found(known, wanted)
    used = list({id(f): f for f in where.values()}.values())
    alone = {n: why for f in used for n, why in (*f.failures.items(), *f.alone.items())}
    shown = sorted(set.intersection(*(set(f.nodes) for f in used)) - set(alone)) if used else []
    notes = [f"{node} is not in it: {why}" for node, why in sorted(alone.items())]
    read = Read(shown, {}, {}, [*notes, *_withheld(where)], alone)
    for column in numbers if shown else ():
        item = make_item("variance", [column], {})
        read.cells[column] = {
            n: OneGroup(where[item].scope(item, node=n), _number(where[item], column, prefix=f"@{n}@")) for n in shown
        }
    for column in labels if shown else ():
        item = make_item("value_counts", [column], {})
        here, place = where[item], where[item].plan.place(item)
        if not (names := _labels(here, column)):
            read.notes.append(f"{column!r} has no label of enough rows")
            continue
        read.labels[column], read.cells[column] = names, {}
        for n in shown:
            own = algorithm.one_group(algorithm.sliced(here.arrays, place, f"@{n}@"), 0)
            arrays = {**{k: own[k] for k in ("n", "counts", "hidden")}, "lost": np.zeros((), np.int64)}
            read.cells[column][n] = OneGroup(here.scope(item, node=n), arrays=arrays)
    return read


def _groups(fetch: Fetch, by: str, numbers: Sequence[str], labels: Sequence[str], ranges: Ranges) -> Read:
    """What all sites together show of each label of ``by``. Labels are counted in a table with ``by``, whose
    cells are kept back so that neither margin gives one away."""
    wanted = [make_item("variance", [c], {}, [by]) for c in numbers]
    wanted += [make_item("count", [c], {}, [by]) for c in labels]
    wanted += [make_item("crosstab", [c, by], {}) for c in labels]
    known = fetch(wanted, False)
    where = _found(known, wanted)

    def of(item: Item) -> dict[str, Array]:
        return algorithm.sliced(where[item].arrays, where[item].plan.place(item))

    groups = list(_labels(next(iter(where.values())), by))
    failures = {n: why for f in where.values() for n, why in f.failures.items()}
    notes = [f"{node} is not in it: {why}" for node, why in sorted(failures.items())] + _withheld(where)
    read = Read(groups, {}, {}, notes, {})
    for column in numbers:
        item = make_item("variance", [column], {}, [by])
        here = where[item]
        read.cells[column] = {g: _of_numbers(here, item, i, Besides(ranges, known)) for i, g in enumerate(groups)}
    for column in labels:
        item, counted = make_item("crosstab", [column, by], {}), make_item("count", [column], {}, [by])
        count, table = of(counted), of(item)
        if not (names := _labels(where[item], column)):
            read.notes.append(f"{column!r} has no label of enough rows")
            continue
        read.labels[column], read.cells[column] = names, {}
        for i, g in enumerate(groups):
            arrays = {
                "n": count["n"][i],
                "counts": table["counts"][0][:, i],
                "hidden": table["hidden"][0][:, i],
                "lost": count[algorithm.WITHHELD][i],
            }
            read.cells[column][g] = OneGroup(where[counted].scope(counted, i), arrays=arrays)
    return read


def _withheld(where: Mapping[Item, Fetched]) -> list[str]:
    return tabulated.kept_back(
        (item.name, node, why) for item, f in where.items() for node, why in f.withheld.get(item, {}).items()
    )
