"""Table 1: how alike groups or sites are, variable by variable, by standardised mean differences.

For numbers d = (m1 - m2) / sqrt((v1 + v2) / 2); for each level of a categorical variable the same of
its share p, with v = p (1 - p) (Austin 2009, "Balance diagnostics for comparing the distribution of
baseline covariates"). Missing values are left out, variable by variable. Differences are computed here,
of sums and counts that nodes have protected: what was kept back has no share, and no difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from hanse import tabulated
from hanse.algorithms import statistics as algorithm
from hanse.errors import ConfigError
from hanse.experiment import table_one_drawing
from hanse.experiment.listing import Listing
from hanse.fetched import Fetched
from hanse.messages import Array
from hanse.queries import Item, add, levels_of, make_item, unpack
from hanse.statistics import smd, variance
from hanse.statistics.value_counts import OTHER

REST = "rest"
MOST_GROUPS = 12
GROUPING = ("categorical", "boolean", "numeric")
_NUMBERS, _LABELS = ("numeric", "date"), ("categorical", "boolean")
Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Part:
    """One variable, or one level of it, in one group. ``spread``: the variance; None for n < 2.

    The mean is ``center`` + ``rest``: of two close means far from 0 the difference would have few digits,
    so it is told from a point between them, as in a t-test (:func:`hanse.statistics.t_test.pair`)."""

    n: int
    center: float
    spread: float | None
    rest: float = 0.0

    @property
    def mean(self) -> float:
        """Of the rows of this part; kept as a center and a small rest, so that differences of means lose nothing."""
        return self.center + self.rest

    def about(self, center: float) -> float:
        """The mean, less ``center``."""
        return (self.center - center) + self.rest


@dataclass(frozen=True, slots=True)
class TableLine:
    """One variable (``level`` empty) or one level of it: group to what is known there."""

    variable: str
    level: str
    parts: Mapping[str, Part | None]

    @property
    def name(self) -> str:
        """The variable, and of a category its level: ``sex = f``."""
        return f"{self.variable} = {self.level}" if self.level else self.variable


@dataclass(frozen=True, slots=True)
class TableOne:
    """Groups side by side. Draws itself in a notebook, as a table and a love plot.

    Args:
        groups: labels of a column, or sites.
        contrasts: name to the two groups that are compared.
        notes: what was kept back, which site is not in it, and why.
    """

    lines: Sequence[TableLine]
    groups: Sequence[str]
    contrasts: Mapping[str, tuple[str, str]]
    by: str = ""
    notes: Sequence[str] = ()
    simulated: bool = False

    @property
    def smd(self) -> dict[str, dict[str, float | None]]:
        """Contrast to variable (``sex = f`` for a level) to the standardised mean difference."""
        return {
            name: {line.name: _difference(line, *pair) for line in self.lines} for name, pair in self.contrasts.items()
        }

    def unbalanced(self, threshold: float = 0.1) -> dict[str, float]:
        """Variable to its largest absolute difference, where that is above ``threshold``; largest first."""
        worst: dict[str, float] = {}
        for found in self.smd.values():
            for name, value in found.items():
                if value is not None and abs(value) > max(threshold, worst.get(name, 0.0)):
                    worst[name] = abs(value)
        return dict(sorted(worst.items(), key=lambda pair: -pair[1]))

    def to_frame(self) -> Any:
        """A pandas or Polars frame: per group ``n``, ``mean`` and ``sd`` (of a level: its rows and its
        share), then the difference of each contrast."""
        return Listing(self._rows()).to_frame()

    def _rows(self) -> list[dict[str, Any]]:
        differences, rows = self.smd, []
        for line in self.lines:
            row: dict[str, Any] = {"variable": line.variable, "level": line.level or None}
            for group in self.groups:
                part = line.parts.get(group)
                spread = None if part is None or part.spread is None or line.level else part.spread**0.5
                row |= {
                    f"n {group}": part and (round(part.n * part.mean) if line.level else part.n),
                    f"mean {group}": part and part.mean,
                    f"sd {group}": spread,
                }
            rows.append(row | {f"smd {name}": found[line.name] for name, found in differences.items()})
        return rows

    def listing(self) -> Listing:
        """The same for people: mean (standard deviation), rows (share)."""
        differences, rows = self.smd, []
        for line in self.lines:
            row: dict[str, Any] = {"variable": line.name}
            row |= {group: _text(line, line.parts.get(group)) for group in self.groups}
            rows.append(row | {f"smd {name}": found[line.name] for name, found in differences.items()})
        return Listing(rows, empty="no variable can be compared")

    def to_json(self) -> dict[str, Any]:
        """Variables with what is known of each group, differences, and notes, as plain JSON."""
        return {
            "groups": list(self.groups),
            "rows": [dict(row) for row in self._rows()],
            "smd": self.smd,
            "notes": list(self.notes),
            "simulated": self.simulated,
        }

    def __repr__(self) -> str:
        what = f"groups of {self.by}" if self.by else "sites"
        return "\n".join(
            [f"Table 1 of {len(self.groups)} {what}", repr(self.listing()), *(f"! {note}" for note in self.notes)]
        )

    def _repr_html_(self) -> str:
        beyond = self.unbalanced(table_one_drawing.THRESHOLD)
        tiles = {
            f"groups of {self.by}" if self.by else "sites": str(len(self.groups)),
            "variables": str(len({line.variable for line in self.lines})),
            f"beyond {table_one_drawing.THRESHOLD}": str(len(beyond)),
        }
        plot = table_one_drawing.love(self.smd)
        return table_one_drawing.page(self.groups, tiles, plot, self.listing(), self.notes, self.simulated)

    def plot(self) -> Any:
        """The love plot as a ``matplotlib.figure.Figure``."""
        what = f"groups of {self.by}" if self.by else "sites"
        words = f"Balance of {len(self.groups)} {what}" + (" (simulation)" if self.simulated else "")
        return table_one_drawing.figure(words, self.smd)


def _difference(line: TableLine, a: str, b: str) -> float | None:
    one, other = line.parts.get(a), line.parts.get(b)
    if one is None or other is None or one.spread is None or other.spread is None:
        return None
    return smd.difference(one.rest, one.spread, other.about(one.center), other.spread)


def _text(line: TableLine, part: Part | None) -> str:
    if part is None:
        return "kept back"
    if line.level:
        return f"{round(part.n * part.mean)} ({part.mean:.1%})"
    return f"{part.mean:.4g}" + ("" if part.spread is None else f" ({part.spread**0.5:.3g})")


# ---------------------------------------------------------------- from a federation


Fetch = Callable[[Sequence[Item], bool], Sequence[Fetched]]  # (items, of each node by itself?) to what answers them


def make(
    fetch: Fetch,
    by: str | None,
    compare: str | None,
    columns: Sequence[str],
    kinds: Mapping[str, str],
    simulated: bool = False,
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
    groups, cells, notes = read(fetch, by or "", numbers, labels)
    if len(groups) < 2:
        raise ConfigError(
            f"two groups or more are compared; there are {', '.join(groups) or 'none'}. {'; '.join(notes)}".strip()
        )
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
        if column in cells:
            lines += _lines(
                column, column in labels, {name: [cells[column][g] for g in those] for name, those in every.items()}
            )
    return TableOne(lines, groups, contrasts, by or "", notes, simulated)


Cells = Mapping[str, Any]  # group to a Part of a column of numbers, to the arrays of one of labels


def _lines(column: str, labelled: bool, groups: Mapping[str, Sequence[Any]]) -> list[TableLine]:
    """Several parts or arrays of a group are those of its members."""
    if not labelled:
        return [TableLine(column, "", {name: _joined(parts) for name, parts in groups.items()})]
    whole = {
        name: reduce(add, [{k: v for k, v in a.items() if k != "labels"} for a in parts])
        for name, parts in groups.items()
    }
    labels = unpack(next(iter(groups.values()))[0]["labels"])
    found = [
        TableLine(column, label, {name: _share(arrays, place) for name, arrays in whole.items()})
        for place, label in enumerate([*labels, OTHER])
    ]
    rare = any(arrays["counts"][-1] or arrays["hidden"][-1] for arrays in whole.values())
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


def _number(where: Fetched, column: str, by: Sequence[str] = (), group: int = 0, prefix: str = "") -> Part | None:
    """The mean is told from the one about which the variance was summed: of all nodes that answered."""
    items = {s: make_item(s, [column], {}, by) for s in ("count", "mean", "variance")}
    n, mean, spread = (algorithm.value(where.plan, where.arrays, i, group, prefix) for i in items.values())
    if not n or mean is None:
        return None
    own, common = (
        algorithm.one_group(algorithm.sliced(where.arrays, where.plan.items.index(items[s]), p), group)
        for s, p in (("variance", prefix), ("mean", ""))
    )
    if not own["n"]:
        return Part(n, mean, spread)
    center, rest = variance.mean_of(own, common)
    return Part(n, center, spread, rest)


def _share(arrays: Arrays, place: int) -> Part | None:
    n = int(arrays["n"])
    if not n or arrays["hidden"][place] or arrays["lost"]:
        return None
    share = int(arrays["counts"][place]) / n
    return Part(n, share, share * (1 - share))


def _found(known: Sequence[Fetched], items: Sequence[Item]) -> dict[Item, Fetched]:
    return {i: next(f for f in reversed(known) if i in f.plan.items) for i in items}


def _sites(
    fetch: Fetch, by: str, numbers: Sequence[str], labels: Sequence[str]
) -> tuple[list[str], dict[str, Cells], list[str]]:
    """What each site shows of itself alone. No total is asked: it would give a site away that does not."""
    wanted = [make_item("variance", [c], {}) for c in numbers]  # which brings count and mean
    wanted += [make_item("value_counts", [c], {}) for c in labels]
    known = fetch(wanted, True)
    where = _found(known, wanted)
    used = list({id(f): f for f in where.values()}.values())
    alone = {n: why for f in used for n, why in (*f.failures.items(), *f.alone.items())}
    shown = sorted(set.intersection(*(set(f.nodes) for f in used)) - set(alone)) if used else []
    notes = [f"{node} is not in it: {why}" for node, why in sorted(alone.items())]
    notes += _withheld(where)

    def at(item: Item, node: str) -> dict[str, Array]:
        return algorithm.sliced(where[item].arrays, where[item].plan.items.index(item), f"@{node}@")

    cells: dict[str, Cells] = {}
    for column in numbers if shown else ():
        here = where[make_item("variance", [column], {})]
        cells[column] = {n: _number(here, column, prefix=f"@{n}@") for n in shown}
    for column in labels if shown else ():
        item = make_item("value_counts", [column], {})
        level = levels_of(column)
        names = algorithm.sliced(where[item].arrays, where[item].plan.items.index(level))["labels"][0]
        if unpack(names):
            cells[column] = {
                n: {**algorithm.one_group(at(item, n), 0), "labels": names, "lost": np.zeros((), np.int64)}
                for n in shown
            }
        else:
            notes.append(f"{column!r} has no label of enough rows")
    return shown, cells, notes


def _groups(
    fetch: Fetch, by: str, numbers: Sequence[str], labels: Sequence[str]
) -> tuple[list[str], dict[str, Cells], list[str]]:
    """What all sites together show of each label of ``by``. Labels are counted in a table with ``by``, whose
    cells are kept back so that neither margin gives one away."""
    wanted = [make_item("variance", [c], {}, [by]) for c in numbers]
    wanted += [make_item("count", [c], {}, [by]) for c in labels]
    wanted += [make_item("crosstab", [c, by], {}) for c in labels]
    known = fetch(wanted, False)
    where = _found(known, wanted)

    def of(item: Item) -> dict[str, Array]:
        return algorithm.sliced(where[item].arrays, where[item].plan.items.index(item))

    level = levels_of(by)
    names = next(algorithm.sliced(f.arrays, f.plan.items.index(level))["labels"][0] for f in where.values())
    groups = list(unpack(names))
    failures = {n: why for f in where.values() for n, why in f.failures.items()}
    notes = [f"{node} is not in it: {why}" for node, why in sorted(failures.items())] + _withheld(where)
    cells: dict[str, Cells] = {}
    for column in numbers:
        here = where[make_item("variance", [column], {}, [by])]
        cells[column] = {g: _number(here, column, [by], i) for i, g in enumerate(groups)}
    for column in labels:
        item = make_item("crosstab", [column, by], {})
        count, table = of(make_item("count", [column], {}, [by])), of(item)
        names = algorithm.sliced(where[item].arrays, where[item].plan.items.index(levels_of(column)))["labels"][0]
        if unpack(names):
            cells[column] = {
                g: {
                    "n": count["n"][i],
                    "counts": table["counts"][0][:, i],
                    "labels": names,
                    "hidden": table["hidden"][0][:, i],
                    "lost": count[algorithm.WITHHELD][i],
                }
                for i, g in enumerate(groups)
            }
        else:
            notes.append(f"{column!r} has no label of enough rows")
    return groups, cells, notes


def _withheld(where: Mapping[Item, Fetched]) -> list[str]:
    return tabulated.kept_back(
        (item.name, node, why) for item, f in where.items() for node, why in f.withheld.get(item, {}).items()
    )
