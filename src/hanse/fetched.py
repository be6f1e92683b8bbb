"""What one run of statistics gave: values, what they rest on, and between what the pooled ones lie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from hanse import tabulated
from hanse.algorithms import statistics as algorithm
from hanse.algorithms.statistics_on_total import TOTAL
from hanse.errors import ConfigError, WireError
from hanse.messages import Array, Json, Record
from hanse.queries import Arrays, Item, Known, Lacking, Plan, closure, levels_of, needs, statistic
from hanse.rough import Scope, qualified, some

SMALL = "groups of few rows"  # that are missing of a total
AMONG = "no value where it may lie among rows that are not told"
ON_TOTAL = (
    'each site keeps its own few rows back here; where all owners set statistics_minimum = "total" (hanse node policy '
    "set), the minimum of rows holds on all sites together, and much more is told, as of pooled rows"
)
TOO_LITTLE = "it is not defined of so few rows, or of rows that do not vary"


@dataclass(frozen=True, slots=True)
class Besides:
    """What is known besides an answer of the rows that it lacks.

    Args:
        ranges: column to between which numbers its values are.
        fetched: other answers of the same nodes.
    """

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    fetched: Sequence[Fetched] = ()


NOTHING = Besides()


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one run of statistics gave.

    Args:
        failures: node to why it gave nothing, or not all.
        withheld: item to node to why something was kept back there.
        kept: item to node to the groups that were kept back there as a whole.
        single: item to the groups that only one site told, so that they are not shown.
        lacking: column to the nodes that have no such column.
        took: nodes of each ask.
        asked: node to the rows that its owner declares at most, of all nodes that were asked.
        alone: node to why it is not shown by itself, where single nodes were asked for.
        minimum: rows of the smallest cell, where that holds on the total of all nodes; 0: it holds at each node.
        values: item to its value, where that does not follow from the arrays.
    """

    plan: Plan
    arrays: Mapping[str, Array]
    failures: Mapping[str, str] = field(default_factory=dict)
    withheld: Mapping[Item, Mapping[str, str]] = field(default_factory=dict)
    lacking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    took: Sequence[Sequence[str]] = ()
    run_id: str = ""
    alone: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[Item, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    single: Mapping[Item, Sequence[int]] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)
    minimum: int = 0
    values: Mapping[Item, Json] = field(default_factory=dict)

    @staticmethod
    def of(record: Record, failures: Mapping[str, str], run_id: str, asked: Mapping[str, int] | None = None) -> Fetched:
        """From the result of a run of statistics. Raises ``WireError`` where it is none."""
        try:
            data = record.data
            plan = algorithm.Query.of(data["query"]).plan
            withheld = {plan.items[int(place)]: dict(why) for place, why in data["withheld"].items()}
            arrays = algorithm.ByItem((name, np.asarray(record.arrays[name])) for name in record.arrays)
            kept = {plan.items[int(place)]: dict(nodes) for place, nodes in data["kept"].items()}
            single = {plan.items[int(place)]: list(groups) for place, groups in data["single"].items()}
            lacking, took, alone = dict(data["lacking"]), list(data["took"]), dict(data["alone"])
            minimum = int(data.get("minimum", 0))
            values = {plan.items[int(place)]: value for place, value in data.get("values", {}).items()}
            rests = (withheld, lacking, took, run_id, alone, kept, single, dict(asked or {}), minimum, values)
            return Fetched(plan, arrays, failures, *rests)
        except (KeyError, TypeError, AttributeError, IndexError):
            raise WireError(f"run {run_id} is no run of statistics") from None

    @property
    def nodes(self) -> tuple[str, ...]:
        """Those whose rows are in every statistic."""
        return tuple(sorted(set.intersection(*map(set, self.took)))) if self.took else ()

    def finds(self, item: Item) -> Item | None:
        """The item that answers ``item``: itself, what it can be derived from, or a larger matrix."""
        stat = statistic(item.stat)
        larger = [i.columns for i in self.plan.items if set(item.columns) <= set(i.columns)] if stat.matrix else []
        for columns in dict.fromkeys([item.columns, *larger]):
            found = item if columns == item.columns else replace(item, columns=columns)
            if self.plan.has(found):
                return found
            if self.minimum and stat.of_all is not None:  # of a total: the coordinator computed it, or nobody can
                continue
            below = (*needs(found), *(levels_of(name) for name in item.by))
            if stat.observe is None and below and all(map(self.plan.has, below)):
                return found
        return None

    def absent(self, item: Item) -> bool:
        """Whether no site has one of the columns: of an image, a channel that none of its pictures has."""
        if any(set(self.lacking.get(c, ())) >= set(self.nodes) for c in item.columns):
            return True
        if not item.columns[0].endswith("]"):
            return False
        found = [self._sliced(i) for i in closure(item) if i in self.plan.shared and i != levels_of(i.columns[0])]
        return not any(arrays["n"].any() or arrays[algorithm.WITHHELD].any() for arrays in found)

    def answers(self, item: Item) -> bool:
        """Whether the item, or a larger one that holds it, is among what was fetched."""
        return self.finds(item) is not None

    def value(self, item: Item, node: str = "") -> Json:
        """The value; by label (one grouping column) or tuple of labels (two) where there are groups."""
        found = self.finds(item)
        if found is None:
            raise ConfigError(f"{item.name} was not asked for")
        prefix = f"@{node}@" if node else ""
        value = self._value_of(found, prefix)
        if not item.by or not isinstance(value, dict):
            return _part(value, found, item)
        return {label: _part(one, found, item) for label, one in value.items()}

    def _value_of(self, item: Item, prefix: str = "") -> Json:
        return self.values[item] if item in self.values else tabulated.value_of(self.plan, self.arrays, item, prefix)

    @property
    def whole(self) -> bool:
        """Whether nothing was kept back, and no node failed."""
        return not (self.failures or self.withheld or self.kept or self.single)

    @property
    def held(self) -> str:
        """Where the minimum of rows holds, below which no cell is told."""
        if not self.minimum:
            return "each site keeps its own small cells back"
        return f"cells of fewer than {self.minimum} rows of all {len(self.nodes)} sites together are kept back"

    def scope(self, item: Item, group: int | None = None, node: str = "") -> Scope:
        """What its value rests on: over all sites, of one group or of all of them; or at one ``node`` by itself."""
        missing, rows = {} if node else dict(self.failures), []
        for carrier in (i for i in closure(item) if i in self.plan.shared and i != levels_of(i.columns[0])):
            same = group is not None and carrier.by == item.by
            for site, groups in self.kept.get(carrier, {}).items():
                if (not same or group in groups) and node in ("", site):
                    why = self.withheld.get(carrier, {}).get(site, "kept back")
                    missing[SMALL if site == TOTAL else site] = why
            n = self._sliced(carrier, f"@{node}@" if node else "")["n"]
            rows.append(int(np.sum(n[group] if same else n)))
        told = self.asked and all(self.asked.values()) and not item.columns[0].endswith("]")  # of images, pixels count
        asked = sum(self.asked.values()) if told else None
        return Scope(rows[-1] if rows else None, dict(sorted(missing.items())), asked)

    def qualified(self, item: Item, node: str = "", besides: Besides = NOTHING) -> Any:
        """The value, in which each number that may not be that of the pooled rows is a :class:`hanse.rough.Rough`."""
        value, bounds = self.value(item, node), self.bounds(item, node)
        if node:
            return qualified(value, bounds, Scope())
        if not item.by or not isinstance(value, dict):
            return self._sure(item, 0, value, bounds, besides)
        return {
            label: self._sure(item, group, one, bounds and bounds[label], besides)
            for group, (label, one) in enumerate(value.items())
        }

    def _sure(self, item: Item, group: int, value: Any, bounds: Any, besides: Besides) -> Any:
        scope = self.scope(item, group if item.by else None)
        if (pooled := self._pooled(item, group, value, scope, besides)) is not None:
            found = qualified(*pooled, scope, holds=True)
        else:
            found = qualified(value, bounds, self._scopes(item, group, scope))
        if not isinstance(value, dict):
            return found
        return {**found, **{part: value[part] for part in statistic(item.stat).fixed if part in value}}

    def _pooled(self, item: Item, group: int, value: Any, scope: Scope, besides: Besides) -> tuple[Any, Any] | None:
        """The value and its bounds where rows are missing but bounded; else None."""
        found = self.finds(item)
        if not scope.missing or value is None or found is None or found in self.values:
            return None
        tell, lacking = statistic(item.stat).pooled, self.lacks(found, scope, besides)
        if tell is None or lacking is None:
            return None
        own, options, known = algorithm.given(self.plan, self.arrays, found, group)
        pooled = tell(value, own, options, known, lacking)
        return None if pooled[1] is None else pooled

    def lacks(self, item: Item, scope: Scope, besides: Besides = NOTHING) -> Lacking | None:
        """What is known of the rows that a value lacks; None where nobody says how many there are at most."""
        most: list[int] = []
        if scope.asked is not None:
            grouped = [i for i in closure(item) if i in self.plan.shared and i != levels_of(i.columns[0])]
            told = int(np.sum(self._sliced(grouped[-1])["n"])) if grouped else 0
            most.append(scope.asked - told)
            if all(node in self.asked for node in scope.missing):
                most.append(sum(self.asked[node] for node in scope.missing))
        whole, parts = self._beside(item, besides)
        if whole is not None:
            most.append(int(whole["n"]) - sum(int(part["n"]) for part in parts))
        span = besides.ranges.get(item.columns[0])
        return Lacking(max(min(most), 0), span, whole, parts) if most else None

    def _beside(self, item: Item, besides: Besides) -> tuple[Arrays | None, Sequence[Arrays]]:
        """What one site with all rows would have observed, and one with those of each group that are told."""
        asked = statistic(item.stat).beside(item)
        where = [next((f for f in (self, *besides.fetched) if f.plan.has(i)), None) for i in asked]
        if not asked or any(f is None or f.nodes != self.nodes for f in where):
            return None, ()
        (of_all, whole), (of_groups, grouped) = ((f, i) for f, i in zip(where, asked, strict=True) if f is not None)
        if of_all.scope(whole).missing or set(self.nodes) != set(self.asked):
            return None, ()
        groups = math.prod(len(labels) for labels in algorithm.labels_by(of_groups.plan, of_groups.arrays, grouped))
        return of_all.observed(whole, 0), [of_groups.observed(grouped, group) for group in range(groups)]

    def observed(self, item: Item, group: int) -> Arrays:
        """What one site with all rows that are told of a group would have observed."""
        own, options, known = algorithm.given(self.plan, self.arrays, item, group)
        return statistic(item.stat).of_whole(own, options, known)

    def _scopes(self, item: Item, group: int, scope: Scope) -> Any:
        """What a value rests on, of a matrix number by number, where sites keep some of its numbers back."""
        found = self.finds(item)
        rows = algorithm.fewer(self.plan, self.arrays, found, group) if found is not None else None
        if found is None or not isinstance(rows, list):
            return scope
        back = {node: why for i in closure(found) for node, why in self.withheld.get(i, {}).items()}
        part = Scope(None, dict(sorted({**back, **scope.missing}.items())), scope.asked)
        each = [[scope if n is None else replace(part, rows=n) for n in row] for row in rows]
        return _part(each, found, item)

    def beside(self, items: Iterable[Item]) -> list[Item]:
        """What is to be asked besides, since it says more of rows that some of these values lack."""
        if not self.kept or self.failures:  # of a site that failed nothing is told of all its rows either
            return []
        short = [i for i in items if not self.absent(i) and self.scope(i).missing]
        return list(dict.fromkeys(more for item in short for more in statistic(item.stat).beside(item)))

    def notes(self, items: Iterable[Item], besides: Besides = NOTHING) -> list[str]:
        """What one should know of the values of some items: what was kept back, which site lacks a column."""
        wanted = list(items)
        mine = {i for one in wanted for i in closure(one)}
        columns = {c for i in mine for c in (*i.columns, *i.by)}
        found = [
            f"{column!r} is not at {some(nodes)}"
            for column, nodes in sorted(self.lacking.items())
            if nodes and column in columns and not set(nodes) >= set(self.nodes)
        ]
        told = sorted(self.withheld.items(), key=lambda pair: pair[0].name)  # whatever the runs that asked
        back = [(i.name, n, why) for i, those in told if i in mine for n, why in those.items()]
        found += tabulated.kept_back(back)
        single = [item.name for item in self.single if item in mine]
        found += tabulated.grouped_notes((item, *pair) for item in wanted for pair in self._untold(item, besides))
        if single:
            found.append(f"not told where a single site tells it and others keep theirs back: {', '.join(single)}")
        if back and not self.minimum and len(self.nodes) > 2:  # secure sums take three sites
            found.append(ON_TOTAL)
        return found

    def _untold(self, item: Item, besides: Besides) -> Iterator[tuple[str, str]]:
        """Each group of whose value a part is None, and why; nothing where it is said already that it is kept back."""
        found = self.finds(item)
        if found is None or self.absent(item):
            return
        try:
            values = self._value_of(found)
        except ConfigError:  # there is no value, and who asks for it is told why
            return
        back = any(self.withheld.get(i) or i in self.single for i in closure(found))
        for group, (label, value) in enumerate(tabulated.grouped(found, values).items()):
            scope = Scope() if self.whole else self.scope(item, group if item.by else None)
            if (pooled := self._pooled(item, group, value, scope, besides)) is not None:
                value = pooled[0]
            if _lacks(value):
                said = algorithm.why(self.plan, self.arrays, found, group, value)
                if pooled is not None and not isinstance(value, dict):  # what is said holds of the rows that are told
                    said = AMONG
                if said or not back:
                    yield label, said or TOO_LITTLE

    def bounds(self, item: Item, node: str = "") -> Json:
        """Between which numbers the pooled value lies, as :meth:`value` has the values; None: it is the value."""
        found = self.finds(item)
        if found is None or statistic(item.stat).bounds is None:
            return None
        prefix = f"@{node}@" if node else ""
        if not item.by:
            return algorithm.bounds(self.plan, self.arrays, found, 0, prefix)
        labels = product(*algorithm.labels_by(self.plan, self.arrays, found))
        return {
            label[0] if len(label) == 1 else label: algorithm.bounds(self.plan, self.arrays, found, group, prefix)
            for group, label in enumerate(labels)
        }

    def _sliced(self, item: Item, prefix: str = "") -> dict[str, Array]:
        if not self.plan.has(item):
            return {}
        return algorithm.sliced(self.arrays, self.plan.place(item), prefix)

    def error(self, item: Item) -> float:
        """The largest error of its value over all groups, by the statistic's own bound; 0 where it has none."""
        stat = statistic(item.stat)
        return max([0.0, *(stat.error(item.options, known) for known in self._known(item))]) if stat.error else 0.0

    def finer(self, item: Item) -> Item | None:
        """What answers better, where the answer of some group is too rough."""
        stat = statistic(item.stat)
        if stat.finer is None or self.absent(item):
            return None
        return next((better for known in self._known(item) if (better := stat.finer(item, known))), None)

    def _known(self, item: Item) -> Iterator[Known]:
        """Of each group, what the item follows from."""
        groups = math.prod(len(labels) for labels in algorithm.labels_by(self.plan, self.arrays, item))
        return (algorithm.known_of(self.plan, self.arrays, item, group) for group in range(groups))


def _lacks(value: Json) -> bool:
    """Whether a part of it is None."""
    if isinstance(value, dict):
        return any(_lacks(one) for one in value.values())
    return any(_lacks(one) for one in value) if isinstance(value, list) else value is None


def _part(value: Any, found: Item, item: Item) -> Any:
    """The rows and columns of a larger matrix that were asked for."""
    if found.columns == item.columns or not isinstance(value, list):
        return value
    at = [found.columns.index(name) for name in item.columns]
    return [[value[i][j] for j in at] for i in at]
