"""Looking at the rows of a node: once for all items of a query that can be observed at the same time."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hanse.algorithms._few_values import FewValues
from hanse.algorithms._owner import base, check_filter
from hanse.algorithms._pairs_before import are_of
from hanse.algorithms._query import Query, empty, finite, group_number, known_of, labels_by
from hanse.errors import DataError, WireError
from hanse.kinds import Combine, Site, Source
from hanse.messages import Array, dumps, loads
from hanse.queries import MOST_GROUPS, Arrays, Item, Known, Owner, Plan, Values, chosen, codes, statistic
from hanse.table import Column, ColumnKind, Table

Found = dict[Item, list[Arrays]]  # per group; the last rows of each axis are those without a label
Shown = dict[str, list[float]]  # columns, grouping columns and group to the edges that were shown


def observed(
    site: Site,
    source: Source,
    query: Query,
    items: Sequence[Item],
    known: Mapping[str, Array],
    owner: Owner,
    shown: Shown,
    again: int = 0,
) -> dict[Item, Scan]:
    """In which pass over the rows each of ``items`` was found: one pass for all items of a level. ``again``: how often
    the query has begun anew, so that what ``known`` says of all sites is another."""
    level_of = query.plan.observed
    scans = {
        level: _observed(site, source, query, level, known, owner, shown, again)
        for level in sorted({level_of[item] for item in items})
    }
    return {item: scans[level_of[item]] for item in items}


def _observed(
    site: Site,
    source: Source,
    query: Query,
    level: int,
    known: Mapping[str, Array],
    owner: Owner,
    shown: Shown,
    again: int,
) -> Scan:
    kept: tuple[int, Scan] | None = site.cache.get(f"statistics/{level}")
    if kept is not None and kept[0] == again and kept[1].counts_at(shown):
        return kept[1]
    if query.where and level == 0:
        check_filter(site, source, query, owner)
    items = [i for i in query.plan.items if query.plan.observed.get(i) == level]
    scan = Scan(query.plan, items, known, shown, rare=owner.rare or owner.minimum == 1)
    have = source.schema
    for item in items:
        together = {*item.columns, *item.by}
        if len(together) > 1 and (images := sorted(c for c in together if base(c, have) != c)):
            raise DataError(
                f"{item.name}: {images[0]!r} is of an image; its pixels and shapes are told by themselves, "
                "not by or beside another column"
            )
    touched = {c for i in items for c in (*i.columns, *i.by)} | {name for name, _, _ in query.where}
    for batch in source.batches(sorted({base(c, have) for c in touched} & set(have))):
        site.progress()
        rows = Table(batch.columns)
        if query.where:
            rows = rows.take(np.flatnonzero(chosen(rows, query.where)))
        for part in expanded(rows):
            scan.add(part)
        del batch, rows, part  # what they are of goes before more is read
    for item, groups in scan.found.items():
        if statistic(item.stat).combine is Combine.SUM and not all(finite(arrays) for arrays in groups):
            raise DataError(
                f"{item.name}: values here are too large, their sums are beyond a 64-bit number; mark "
                "impossible values as missing, or take other units"
            )
    site.cache[f"statistics/{level}"] = (again, scan)
    return scan


class Scan:
    """Accumulates the items of one level over batches: ``found``, the arrays of each group, the last ones of each axis
    being of rows without a label; ``known``, what is known for each; ``cuts``, the edges at which rows are counted;
    ``few``, the rows of each value of columns of few, unless sums may tell of rare ones (``rare``)."""

    def __init__(
        self, plan: Plan, items: Sequence[Item], known: Mapping[str, Array], shown: Shown, rare: bool = True
    ) -> None:
        self._items, self.known = items, dict[Item, list[Known]]()
        self._labels = {i.by: labels_by(plan, known, i) for i in items}
        self._cuts: dict[tuple[str, ...], set[float]] = {}
        earlier = _by_columns(shown)
        for item in items:
            if (edges := statistic(item.stat).cuts) is not None:
                fresh = edges(item.options, known_of(plan, known, item, 0))
                self._cuts.setdefault(item.columns, earlier.get(item.columns, set())).update(fresh)
        self.cuts = {i: _cuts_of(self._cuts, i) for i in items}
        self.found: Found = {}
        self.few: dict[Item, list[FewValues]] = {}
        for item in items:
            shape = [len(labels) + 1 for labels in self._labels[item.by]]
            groups = int(np.prod(shape, dtype=np.int64))
            if groups > MOST_GROUPS:
                raise DataError(f"{item.name} would have more than {MOST_GROUPS} groups; take fewer labels")
            inner = [group_number(g, shape) for g in range(groups)]
            self.known[item] = [known_of(plan, known, item, 0 if i is None else i) for i in inner]
            self.found[item] = [empty(item, k, self.cuts[item]) for k in self.known[item]]
            if statistic(item.stat).sums and not rare:
                self.few[item] = [FewValues(len(item.columns)) for _ in range(groups)]

    def counts_at(self, shown: Shown) -> bool:
        """Whether all edges that were shown since are among those at which rows were counted."""
        return all(found <= self._cuts.get(columns, found) for columns, found in _by_columns(shown).items())

    def add(self, rows: Table) -> None:
        """One batch; columns that it lacks are another part's."""
        for by in {i.by for i in self._items}:
            items = [i for i in self._items if i.by == by and self._fits(i, rows)]
            if items:
                there = sorted({c for i in items for c in i.columns if c in rows.columns})
                for group, part in self._groups(rows, by, there):
                    views: dict[tuple[str, ...], Values] = {}
                    for item in items:
                        view = views.get(item.columns)
                        if view is None or view.cuts != self.cuts[item]:
                            view = Values([_or_absent(part, c) for c in item.columns], self.cuts[item])
                            views.setdefault(item.columns, view)
                        stat, known = statistic(item.stat), self.known[item][group]
                        _check_kind(item, view)
                        assert stat.observe is not None
                        fresh = stat.observe(view, item.options, known)
                        self.found[item][group] = stat.merge(self.found[item][group], fresh)
                        if item in self.few:
                            self.few[item][group].add(view)

    def _fits(self, item: Item, rows: Table) -> bool:
        """Whether these rows have its columns; of pairs, which are told each by itself, any of them."""
        there = [c in rows.columns for c in item.columns]
        fits = any(there) if len(there) > 1 and are_of(item) else all(there)
        return fits and all(c in rows.columns for c in item.by)

    def _groups(self, rows: Table, by: tuple[str, ...], columns: list[str]) -> Iterator[tuple[int, Table]]:
        if not by:
            yield 0, rows
            return
        place = np.zeros(rows.rows, np.int64)
        for name, labels in zip(by, self._labels[by], strict=True):
            code = codes(rows[name], labels)
            place = place * (len(labels) + 1) + np.where(code < 0, len(labels), code)
        order = np.argsort(place, kind="stable")
        table, sorted_place = rows.select(columns).take(order), place[order]
        if not len(order):
            return
        used, starts = np.unique(sorted_place, return_index=True)
        for group, start, end in zip(used, starts, [*starts[1:], len(order)], strict=True):
            yield (
                int(group),
                Table({n: Column(c.kind, c.values[start:end], c.categories) for n, c in table.columns.items()}),
            )


def _or_absent(rows: Table, name: str) -> Column:
    return rows[name] if name in rows.columns else Column.absent(ColumnKind.NUMERIC, rows.rows)


def _check_kind(item: Item, values: Values) -> None:
    fitting = statistic(item.stat).kinds
    for name, column in zip(item.columns, values.columns, strict=True):
        if column.kind not in fitting:
            raise DataError(f"column {name!r} is {column.kind} here; {item.stat} takes {', '.join(sorted(fitting))}")


def edge_key(item: Item, labels: Sequence[str] = ()) -> str:
    return dumps([list(item.columns), list(item.by), list(labels)])


@functools.lru_cache(1 << 14)  # a breakdown looks at the keys of all columns for each of its groups
def key_parts(key: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Columns, grouping columns and labels of :func:`edge_key`. Raises ``WireError`` where it is no such key."""
    found = loads(key)
    if not isinstance(found, list) or not all(isinstance(part, list) for part in found) or not 2 <= len(found) <= 3:
        raise WireError("edges were shown of columns, grouping columns and labels; this key has others")
    if not found[0] or not all(isinstance(name, str) for part in found for name in part):
        raise WireError("columns and labels that edges were shown of are text")
    columns, by, labels = (*map(tuple, found), ())[:3]  # groups were not told apart once
    return columns, by, labels


def _by_columns(shown: Shown) -> dict[tuple[str, ...], set[float]]:
    found: dict[tuple[str, ...], set[float]] = {}
    for key, edges in shown.items():
        found.setdefault(key_parts(key)[0], set()).update(edges)
    return found


def _cuts_of(cuts: Mapping[tuple[str, ...], set[float]], item: Item) -> tuple[float, ...]:
    return tuple(sorted(cuts[item.columns])) if statistic(item.stat).cuts is not None else ()


def expanded(rows: Table) -> Iterator[Table]:
    """The rows, then the pixels of each channel of each image column as rows of their own, then the
    images' shapes: ``scan[0]``, ``scan[1]``, ..., ``scan[shape]``."""
    images = {n: c for n, c in rows.columns.items() if c.kind is ColumnKind.IMAGE}
    yield rows.drop(images)
    for name, column in images.items():
        _, height, width, channels = column.values.shape
        shape = Column(ColumnKind.CATEGORICAL, np.zeros(len(column), np.int32), (f"{height} x {width} x {channels}",))
        yield Table({f"{name}[shape]": shape})
        for channel in range(channels):
            pixels = column.values[..., channel].reshape(-1).astype(np.float64)
            yield Table({f"{name}[{channel}]": Column(ColumnKind.NUMERIC, pixels)})
