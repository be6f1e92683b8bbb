"""What a query of statistics asks, and where in the arrays of its answers the numbers of an item are.

Arrays are named by the place of their item in the plan, ``3.sum``, and have the groups of the item first.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hanse.errors import ConfigError
from hanse.kinds import Combine
from hanse.messages import Array, Json
from hanse.queries import (
    Arrays,
    Filter,
    Item,
    Known,
    Owner,
    Plan,
    Values,
    needs,
    parse,
    parse_filter,
    plan,
    statistic,
    unpack,
)
from hanse.table import Column, ColumnKind

EVERYONE = Owner(1, True)
WITHHELD = "withheld"  # (groups,) at how many nodes a group was kept back
SITES = "sites"  # (groups,) at how many nodes there are rows of it that are told
BESIDES = (WITHHELD, SITES)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: checked options of a run."""

    plan: Plan
    where: Filter = ()
    per_node: bool = False

    @staticmethod
    def of(options: Mapping[str, Json]) -> Query:
        unknown = sorted(set(options) - {"items", "where", "per_node"})
        if unknown:
            raise ConfigError(f"there is no option {unknown[0]!r} of a query; known are items, where, per_node")
        where = parse_filter(options.get("where") or [])
        found = plan(parse(options.get("items")))
        for item in found.items if where else ():
            if item.by or not statistic(item.stat).filtered:
                raise ConfigError(
                    f"{item.name} cannot be asked of chosen rows: breakdowns of overlapping choices "
                    "could be subtracted; ask for counts, means and variances, or use by"
                )
        return Query(found, where, bool(options.get("per_node", False)))

    def arrays_for(self, index: int, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """What of all sites a node has to know for ask number ``index``."""
        level, _ = self.plan.asks[index]
        here = set(self.plan.asked(index))
        seen = {self.plan.observed[i] for i in here}  # a node that lost its cache observes these again
        users = [i for i in self.plan.items if i in here or self.plan.observed.get(i) in seen]
        needed = {n for i in users for n in (*needs(i), *self.plan.groups(i))}
        wanted = {str(self.plan.place(n)) for n in needed if self.plan.shared.get(n, level) < level}
        return {k: v for k, v in arrays.items() if k.partition(".")[0] in wanted}

    def combine(self, index: int) -> Combine:
        return Combine.MERGE if self.per_node else self.plan.asks[index][1]


class ByItem(dict[str, Array]):
    """Arrays by their names, nobody writes to them, which know those of each item: of thousands of columns, to look at
    all names for each takes minutes."""

    @functools.cached_property
    def names(self) -> Mapping[str, Sequence[str]]:
        """By what the names begin with, up to the dot after the item's place."""
        found: dict[str, list[str]] = {}
        for name in self:
            found.setdefault(name[: name.find(".", name.rfind("@") + 1) + 1], []).append(name)
        return found

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> ByItem:
        """The same arrays."""
        return arrays if isinstance(arrays, ByItem) else ByItem(arrays)


def sliced(arrays: Mapping[str, Array], place: int, prefix: str = "") -> dict[str, Array]:
    """The arrays of item number ``place``, groups first."""
    start = f"{prefix}{place}."
    names = arrays.names.get(start, ()) if isinstance(arrays, ByItem) else [n for n in arrays if n.startswith(start)]
    return {name[len(start) :]: arrays[name] for name in names}


def one_group(arrays: Arrays, group: int) -> dict[str, Array]:
    return {name: array[group] for name, array in arrays.items() if name not in BESIDES}


def known_of(query: Plan, arrays: Mapping[str, Array], item: Item, group: int, prefix: str = "") -> Known:
    """What is known of all that an item needs: of its own group where the need has the same groups, of
    all rows where it has none, else of all groups. ``prefix``: of one node, but for what all nodes had
    to agree on before they looked at their rows."""
    found: list[Arrays] = []
    stat = statistic(item.stat)
    below = needs(item)
    agreed = {n for n in below if n in below[: stat.before] or n.stat == "levels"}
    for need in below:
        whole = sliced(arrays, query.place(need), "" if need in agreed else prefix)
        if (
            need.by == item.by != () and "n" in whole and not len(whole["n"])
        ):  # no site tells any label: there is no group
            found.append(unit(need, known_of(query, arrays, need, group, prefix)))
        elif need.by == item.by:
            found.append(one_group(whole, group))
        else:
            found.append(whole if need.by else one_group(whole, 0))
    return Known(found)


def labels_by(query: Plan, arrays: Mapping[str, Array], item: Item) -> list[tuple[str, ...]]:
    """The labels of each grouping column."""
    return [unpack(sliced(arrays, query.place(level))["labels"][0]) for level in query.groups(item)]


def value(query: Plan, arrays: Mapping[str, Array], item: Item, group: int = 0, prefix: str = "") -> Json:
    """The final value of an item, of one of its groups; None where it was kept back everywhere: that is
    not zero, but not known. ``prefix``: at one node."""
    if _kept_back(query, arrays, item, group, prefix):
        return None
    return statistic(item.stat).final(*given(query, arrays, item, group, prefix))


def _kept_back(query: Plan, arrays: Mapping[str, Array], item: Item, group: int, prefix: str) -> bool:
    """Whether all nodes that have rows of a group keep back what the item rests on."""
    below = [n for n in needs(item) if n.by == item.by and n.stat != "levels"]
    for carrier in [item] if item in query.shared else below:
        found = sliced(arrays, query.place(carrier), prefix) if query.has(carrier) else {}
        if found and found[WITHHELD][group] and not np.any(found["n"][group]):
            return True
    return False


def given(
    query: Plan, arrays: Mapping[str, Array], item: Item, group: int, prefix: str = ""
) -> tuple[Arrays, dict[str, Json], Known]:
    """What a statistic makes its value, and all that is said of it, from: its arrays, arguments, and what it needs."""
    shared = item in query.shared
    own = one_group(sliced(arrays, query.place(item), prefix), group) if shared else {}
    return own, item.options, known_of(query, arrays, item, group, prefix)


def why(query: Plan, arrays: Mapping[str, Array], item: Item, group: int, found: Json) -> str:
    """Why a part of what :func:`value` found is None, as far as the statistic itself can say."""
    tell = statistic(item.stat).why
    if tell is None or _kept_back(query, arrays, item, group, ""):
        return ""
    own, options, known = given(query, arrays, item, group)
    return tell(found, options, own, known)


def bounds(query: Plan, arrays: Mapping[str, Array], item: Item, group: int = 0, prefix: str = "") -> Json:
    """Between which numbers the pooled value of :func:`value` lies. None: it is that value."""
    find = statistic(item.stat).bounds
    return find(*given(query, arrays, item, group, prefix)) if find is not None else None


def fewer(query: Plan, arrays: Mapping[str, Array], item: Item, group: int = 0) -> Json:
    """The rows that each number of :func:`value` rests on of which some nodes keep theirs back; None: of none."""
    find = statistic(item.stat).fewer
    return find(*given(query, arrays, item, group)) if find is not None else None


def empty(item: Item, known: Known, cuts: tuple[float, ...] = ()) -> Arrays:
    stat = statistic(item.stat)
    kind = ColumnKind.NUMERIC if ColumnKind.NUMERIC in stat.kinds else ColumnKind.CATEGORICAL
    assert stat.observe is not None
    return stat.observe(Values([Column(kind, np.empty(0))] * len(item.columns), cuts), item.options, known)


def unit(item: Item, known: Known, everyone: Owner = EVERYONE) -> Arrays:
    """What a node sends that has no rows, or keeps its own back."""
    stat, options = statistic(item.stat), item.options
    return stat.share(stat.protect(empty(item, Known(known)), options, everyone, known), options, known)


def stacked(groups: Sequence[Arrays]) -> dict[str, Array]:
    """Arrays of all groups. Each group has cells of its own (:mod:`hanse.statistics.cells`): where it has fewer of them
    than another, zeros follow."""
    found: dict[str, Array] = {}
    for name in groups[0] if groups else ():
        parts = [np.asarray(g[name]) for g in groups]
        if len({part.shape for part in parts}) > 1 and all(part.ndim == 1 for part in parts):
            longest = max(len(part) for part in parts)
            parts = [np.pad(part, (0, longest - len(part))) for part in parts]
        found[name] = np.stack(parts)
    return found


def group_number(group: int, shape: Sequence[int]) -> int | None:
    """The number of a group among those that have labels; None for rows without one."""
    place = 0
    for at, size in zip(np.unravel_index(group, shape) if shape else (), shape, strict=True):
        if at == size - 1:
            return None
        place = place * (size - 1) + int(at)
    return place


def finite(arrays: Arrays) -> bool:
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in arrays.values())
