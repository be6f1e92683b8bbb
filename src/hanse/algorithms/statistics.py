"""Statistics: one query, answered by as few asks as its dependencies allow.

What adds over sites is asked as a SUM, what must be merged (sketches, sets of labels) as a MERGE. A
node looks at its rows once for all that can be observed at the same time, and keeps what it found
(in ``cache``), so a centred sum about the mean of all sites costs another ask but no other pass.

Run options (``model_options``): ``items`` as of :meth:`hanse.queries.Item.to_json`; ``where``, a list of
``[column, operation, value]``; ``per_node``, to have the values of each node besides those of all. A node
whose owner does not let it be shown by itself sends a sentence in place of numbers then, and is in neither.

The owner's settings are imposed through the node's configuration: ``minimum_cell``,
``allow_extremes``, ``allow_node_statistics``, ``allowed_columns``, ``denied_columns``, ``most_filters``.
All that keeps something back happens here, before anything leaves; what a node sends is safe by
itself. What is sent as a SUM has bounded arrays of counts and sums with weight one, so a secure sum
or noise takes hold in the gathering, without another line here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanse.errors import ConfigError, DataError, NotAllowed, Unusable
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site, Source, State, find
from hanse.messages import Array, Json, Record, dumps
from hanse.queries import (
    MINIMUM,
    MOST_GROUPS,
    Arrays,
    Filter,
    Item,
    Known,
    Owner,
    Plan,
    TableSource,
    Values,
    Withheld,
    chosen,
    codes,
    parse,
    parse_filter,
    plan,
    statistic,
    unpack,
)
from hanse.suppression import hidden, hidden_table
from hanse.table import Column, ColumnKind, Table

NEEDS_MODEL = False
MOST_FILTERS = 20
MOST_EDGES = 20_000
EVERYONE = Owner(1, True)
ALONE = "its owner gives no statistics of it alone (allow_node_statistics = false)"
WITHHELD = "withheld"  # (groups,) at how many nodes a group was kept back


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
                raise ConfigError(f"{item.name} cannot be asked of chosen rows: breakdowns of overlapping choices "
                                  "could be subtracted; ask for counts, means and variances, or use by")  # fmt: skip
        return Query(found, where, bool(options.get("per_node", False)))

    def combine(self, index: int) -> Combine:
        return Combine.MERGE if self.per_node else self.plan.asks[index][1]


def ingredients(options: Mapping[str, Json]) -> list[str]:
    """Modules of the node's half that the query uses, for the bundle."""
    query = Query.of(options)
    files = sorted({f"hanse.statistics.{item.stat}" for item in query.plan.items})
    return ["hanse.queries", "hanse.suppression", *files]


# ---------------------------------------------------------------- arrays by item and group


def sliced(arrays: Mapping[str, Array], place: int, prefix: str = "") -> dict[str, Array]:
    """The arrays of item number ``place``, groups first."""
    start = f"{prefix}{place}."
    return {name[len(start) :]: arrays[name] for name in arrays if name.startswith(start)}


def one_group(arrays: Arrays, group: int) -> dict[str, Array]:
    return {name: array[group] for name, array in arrays.items() if name != WITHHELD}


def known_of(query: Plan, arrays: Mapping[str, Array], item: Item, group: int, prefix: str = "") -> Known:
    """What is known of all that an item needs: of its own group where the need has the same groups, of
    all rows where it has none, else of all groups. ``prefix``: of one node, but for what all nodes had
    to agree on before they looked at their rows."""
    found: list[Arrays] = []
    stat = statistic(item.stat)
    needs = stat.needs(item)
    agreed = {n for n in needs if n in needs[: stat.before] or n.stat == "levels"}
    for need in needs:
        whole = sliced(arrays, query.items.index(need), "" if need in agreed else prefix)
        if need.by == item.by:
            found.append(one_group(whole, group))
        else:
            found.append(whole if need.by else one_group(whole, 0))
    return Known(found)


def labels_by(query: Plan, arrays: Mapping[str, Array], item: Item) -> list[tuple[str, ...]]:
    """The labels of each grouping column."""
    return [unpack(sliced(arrays, query.items.index(level))["labels"][0]) for level in query.groups(item)]


def value(query: Plan, arrays: Mapping[str, Array], item: Item, group: int = 0, prefix: str = "") -> Json:
    """The final value of an item, of one of its groups; None where it was kept back everywhere: that is
    not zero, but not known. ``prefix``: at one node."""
    stat = statistic(item.stat)
    known = known_of(query, arrays, item, group, prefix)
    own: dict[str, Array] = {}
    carriers = [n for n in stat.needs(item) if n.by == item.by and n.stat != "levels"]
    if item in query.shared:
        own = one_group(sliced(arrays, query.items.index(item), prefix), group)
        carriers = [item]
    for carrier in carriers:
        found = sliced(arrays, query.items.index(carrier), prefix) if carrier in query.items else {}
        if found and found[WITHHELD][group] and not np.any(found["n"][group]):
            return None
    return stat.final(own, item.options, known)


# ---------------------------------------------------------------- the algorithm


class Statistics:
    combines = frozenset({Combine.SUM, Combine.MERGE})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        Query.of(config["model_options"])
        return Record({"asked": 0, "query": config["model_options"], "withheld": {}, "lacking": {}, "took": [],
                       "alone": {}})  # fmt: skip

    def ask(self, state: State) -> Ask | Done:
        query, index = Query.of(state.data["query"]), state.data["asked"]
        if index >= len(query.plan.asks):
            return Done("every statistic is in")
        if index and not state.data["took"][-1]:
            return Done("no node is shown by itself")
        level, _ = query.plan.asks[index]
        here = {i for i in query.plan.asked(index)}
        seen = {query.plan.observed[i] for i in here}  # a node that lost its cache observes these again
        users = [i for i in query.plan.items if i in here or query.plan.observed.get(i) in seen]
        needed = {n for i in users for n in (*statistic(i.stat).needs(i), *query.plan.groups(i))}
        wanted = tuple(f"{query.plan.items.index(n)}." for n in needed if query.plan.shared.get(n, level) < level)
        arrays = {k: v for k, v in state.arrays.items() if wanted and k.startswith(wanted)}
        to = state.data["took"][-1] if index else None  # who is not in the means is not in the variances
        return Ask(Record({"ask": index}, arrays), query.combine(index), "statistics", None, to=to)

    # ------------------------------------------------------------ node

    def answer(self, site: Site, ask: Record) -> Contribution:
        query, index = Query.of(site.config["model_options"]), ask.data["ask"]
        if not isinstance(index, int) or not 0 <= index < len(query.plan.asks):
            raise ConfigError("the query has no such ask")
        if query.per_node and site.config.get("allow_node_statistics", False) is not True:
            return Contribution(Record({"alone": ALONE}), 1.0)
        source = site.source if site.source is not None else TableSource(site.table)
        owner = _owner(site, query, source.schema)
        lacking = [c for c in query.plan.columns() if base(c, source.schema) not in source.schema]
        arrays: dict[str, Array] = {}
        reasons: dict[str, str] = {}
        shown: Shown = dict(source.memory.get("edges") or {})
        before = dict(shown)
        for item in query.plan.asked(index):
            scan = _observed(site, source, query, query.plan.observed[item], ask.arrays, owner, before)
            place = query.plan.items.index(item)
            sent, reason = _disclosed(item, scan, query.plan, ask.arrays, owner, source, shown)
            arrays.update((f"{place}.{name}", array) for name, array in sent.items())
            if reason:
                reasons[str(place)] = reason
        if shown != before:
            source.memory["edges"] = shown
        return Contribution(Record({"withheld": reasons, "lacking": lacking}, arrays), 1.0)

    # ------------------------------------------------------------ coordinator

    def tell(self, state: State, gathered: Gathered) -> State:
        query, index = Query.of(state.data["query"]), state.data["asked"]
        items = query.plan.asked(index)
        places = {item: query.plan.items.index(item) for item in items}
        arrays = dict(state.arrays)
        if query.combine(index) is Combine.SUM:
            arrays |= gathered.sum()
        else:
            arrays |= _merged(query, items, places, gathered)
        alone = {a.node: str(a.data["alone"])[:300] for a in gathered.answers if query.per_node and "alone" in a.data}
        took = [a.node for a in gathered.answers if a.node not in alone]
        for item, place in places.items() if took else ():
            _check_layout(query.plan, item, sliced(arrays, place), state.arrays, gathered)
        withheld = {k: dict(v) for k, v in state.data["withheld"].items()}
        lacking: dict[str, list[str]] = {k: list(v) for k, v in state.data["lacking"].items()}
        for answer in gathered.answers:
            for number, reason in _texts(answer.data.get("withheld")).items():
                withheld.setdefault(number, {})[answer.node] = reason[:300]
            for column in answer.data.get("lacking") or ():
                lacking[str(column)] = sorted({*lacking.get(str(column), []), answer.node})
        data = {**state.data, "asked": index + 1, "withheld": withheld, "lacking": lacking,
                "took": [*state.data["took"], took], "alone": {**state.data["alone"], **alone}}  # fmt: skip
        return Record(data, arrays)

    def result(self, state: State) -> Record:
        return state

    def metrics(self, state: State) -> Mapping[str, Json]:
        return {"asks": state.data["asked"]}


def _texts(found: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}


def _merged(query: Query, items: Sequence[Item], places: Mapping[Item, int], gathered: Gathered) -> dict[str, Array]:
    """Contributions merged in the order of node ids; with ``per_node``, those of each node too."""
    total: dict[Item, dict[str, Array]] = {}
    out: dict[str, Array] = {}
    guilty: dict[str, str] = {}
    for answer, record in gathered.each():
        if query.per_node and "alone" in answer.data:
            continue
        try:
            own = {item: {k: np.array(v) for k, v in sliced(record.arrays, places[item]).items()} for item in items}
            for item in items:
                if statistic(item.stat).combine is Combine.SUM and not _finite(own[item]):
                    raise ValueError
                total[item] = _joined(item, total[item], own[item]) if item in total else own[item]
        except (KeyError, ValueError, TypeError, IndexError) as error:
            guilty[answer.node] = f"its arrays cannot be merged ({type(error).__name__})"
            continue
        if query.per_node:
            out |= {f"@{answer.node}@{places[i]}.{k}": v for i in items for k, v in own[i].items()}
    if not guilty:
        large = [i.name for i in items if i in total and statistic(i.stat).combine is Combine.SUM
                 and not _finite(total[i])]  # fmt: skip
        guilty = {a.node: f"{large[0]}: the sums of all nodes together are too large" for a in gathered.answers
                  if large}  # fmt: skip
    if guilty:
        raise Unusable(guilty)
    return {**out, **{f"{places[i]}.{k}": v for i, found in total.items() for k, v in found.items()}}


def _joined(item: Item, a: Arrays, b: Arrays) -> dict[str, Array]:
    stat = statistic(item.stat)
    add = stat.combine is Combine.SUM
    if add:
        if {k: v.shape for k, v in a.items()} != {k: v.shape for k, v in b.items()}:
            raise ValueError
        with np.errstate(over="ignore", invalid="ignore"):
            return {k: a[k] + b[k] for k in a}
    groups = [stat.merge(one_group(a, g), one_group(b, g)) for g in range(len(a["n"]))]
    return {**_stacked(groups), WITHHELD: a[WITHHELD] + b[WITHHELD]}


def _check_layout(query: Plan, item: Item, found: Arrays, known: Mapping[str, Array], gathered: Gathered) -> None:
    """Whether a sum has the names and shapes that it must have. All nodes agree on them by now, so all
    of them are to blame where it has not."""
    groups = int(np.prod([len(labels) for labels in labels_by(query, known, item)], dtype=np.int64))
    units = [_unit(item, known_of(query, known, item, g)) for g in range(groups if statistic(item.stat).before else 1)]
    shapes = {name: array.shape[1:] for name, array in _stacked(units or [_unit(item, known_of(query, known, item, 0))])
              .items()}  # fmt: skip
    wrong = set(found) != {*shapes, WITHHELD}
    for name, shape in shapes.items():
        wrong = wrong or (item.stat != "levels" and found[name].shape != (groups, *shape))
    if wrong:
        raise Unusable({a.node: f"its answer to {item.name} has other arrays than were asked for"
                        for a in gathered.answers})  # fmt: skip


# ---------------------------------------------------------------- what the owner allows


def _owner(site: Site, query: Query, schema: Collection[str]) -> Owner:
    """Raises ``NotAllowed`` where the owner's settings forbid the query as a whole."""
    settings = site.config
    columns = {base(c, schema) for c in query.plan.columns()} | {name for name, _, _ in query.where}
    allowed = settings.get("allowed_columns", ["*"])
    barred = {c for c in columns if c in settings.get("denied_columns", [])}
    barred |= {c for c in columns if "*" not in allowed and c not in allowed}
    if barred:
        raise NotAllowed(f"the owner of this node gives no statistics of {', '.join(sorted(barred))}")
    return Owner(int(settings.get("minimum_cell", MINIMUM)), settings.get("allow_extremes", False) is True)


def _check_filter(site: Site, source: Source, query: Query, owner: Owner) -> None:
    """Refuses a choice of rows that, compared with an earlier one, would show too few."""
    most = int(site.config.get("most_filters", MOST_FILTERS))
    raw: list[Json] = list(source.memory.get("filters") or [])
    earlier = [parse_filter(f) for f in raw]
    if query.where in earlier:
        return
    if len(earlier) >= most:
        raise NotAllowed(f"this node answers {most} different choices of rows per dataset, and they are used up")
    others: list[Filter] = [(), *earlier]
    columns = sorted(c for c in query.plan.columns() if c in source.schema)
    touched = sorted({c for f in (*others, query.where) for c, _, _ in f})
    if lacking := [c for c in touched if c not in source.schema]:
        raise DataError(f"where: this site has no column {lacking[0]!r}")
    differences = np.zeros((len(others), 2, len(columns) + 1), np.int64)
    inside = np.zeros(len(columns) + 1, np.int64)
    for batch in source.batches(sorted({*columns, *touched})):
        here = chosen(batch, query.where)
        there = np.column_stack([np.ones(batch.rows, bool), *(_present(batch[c]) for c in columns)])
        inside += there[here].sum(0)
        for i, other in enumerate(others):
            rows = chosen(batch, other)
            differences[i, 0] += there[here & ~rows].sum(0)
            differences[i, 1] += there[rows & ~here].sum(0)
    few = (differences > 0) & (differences < owner.minimum)
    if few.any() or inside[0] < owner.minimum or np.any((inside > 0) & (inside < owner.minimum)):
        raise NotAllowed("this choice of rows holds, or differs from an earlier one by, fewer rows than this "
                         "node's minimum")  # fmt: skip
    source.memory["filters"] = [*raw, [list(part) for part in query.where]]


def _present(column: Column) -> Array:
    return column.values >= 0 if column.kind is ColumnKind.CATEGORICAL else np.isfinite(column.values)


# ---------------------------------------------------------------- looking at rows

Found = dict[Item, list[Arrays]]  # per group; the last rows of each axis are those without a label
Shown = dict[str, list[float]]  # column and groups to the edges that histograms have shown


def _observed(
    site: Site, source: Source, query: Query, level: int, known: Mapping[str, Array], owner: Owner, shown: Shown
) -> _Scan:  # fmt: skip
    """All items of a level, from one pass over the rows."""
    kept: _Scan | None = site.cache.get(f"statistics/{level}")
    if kept is not None and kept.counts_at(shown):
        return kept
    if query.where and level == 0:
        _check_filter(site, source, query, owner)
    items = [i for i in query.plan.items if query.plan.observed.get(i) == level]
    scan = _Scan(query.plan, items, known, shown)
    have = source.schema
    touched = {c for i in items for c in (*i.columns, *i.by)} | {name for name, _, _ in query.where}
    for batch in source.batches(sorted({base(c, have) for c in touched} & set(have))):
        site.progress()
        rows = Table(batch.columns)
        if query.where:
            rows = rows.take(np.flatnonzero(chosen(rows, query.where)))
        for part in _expanded(rows):
            scan.add(part)
    for item, groups in scan.found.items():
        if statistic(item.stat).combine is Combine.SUM and not all(_finite(arrays) for arrays in groups):
            raise DataError(f"{item.name}: values here are too large, their sums are beyond a 64-bit number; mark "
                            "impossible values as missing, or take other units")  # fmt: skip
    site.cache[f"statistics/{level}"] = scan
    return scan


class _Scan:
    """Accumulates the items of one level over batches."""

    def __init__(self, plan: Plan, items: Sequence[Item], known: Mapping[str, Array], shown: Shown):
        self._items, self._known = items, dict[Item, list[Known]]()
        self._labels = {i.by: labels_by(plan, known, i) for i in items}
        self._cuts: dict[str, set[float]] = {}
        for item in items:
            if item.stat == "histogram":
                fresh = find("statistics", "histogram").cuts(item.options, known_of(plan, known, item, 0))
                self._cuts.setdefault(_edge_key(item), set(shown.get(_edge_key(item), ()))).update(fresh)
        self.cuts = {i: _cuts_of(self._cuts, i) for i in items}
        self.found: Found = {}
        for item in items:
            shape = [len(labels) + 1 for labels in self._labels[item.by]]
            groups = int(np.prod(shape, dtype=np.int64))
            if groups > MOST_GROUPS:
                raise DataError(f"{item.name} would have more than {MOST_GROUPS} groups; take fewer labels")
            inner = [_inner(g, shape) for g in range(groups)]
            self._known[item] = [known_of(plan, known, item, 0 if i is None else i) for i in inner]
            self.found[item] = [_empty(item, k, self.cuts[item]) for k in self._known[item]]

    def counts_at(self, shown: Shown) -> bool:
        """Whether all edges that were shown since are among those at which rows were counted."""
        return all(set(shown.get(key, ())) <= cuts for key, cuts in self._cuts.items())

    def add(self, rows: Table) -> None:
        """One batch; columns that it lacks are another part's."""
        for by in {i.by for i in self._items}:
            items = [i for i in self._items if i.by == by and all(c in rows.columns for c in (*i.columns, *by))]
            if items:
                for group, part in self._groups(rows, by, sorted({c for i in items for c in i.columns})):
                    views: dict[tuple[str, ...], Values] = {}
                    for item in items:
                        view = views.get(item.columns)
                        if view is None or view.cuts != self.cuts[item]:
                            view = Values([part[c] for c in item.columns], self.cuts[item])
                            views.setdefault(item.columns, view)
                        stat, known = statistic(item.stat), self._known[item][group]
                        _check_kind(item, view)
                        assert stat.observe is not None
                        fresh = stat.observe(view, item.options, known)
                        self.found[item][group] = stat.merge(self.found[item][group], fresh)

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
            yield int(group), Table({n: Column(c.kind, c.values[start:end], c.categories)
                                     for n, c in table.columns.items()})  # fmt: skip


def _inner(group: int, shape: Sequence[int]) -> int | None:
    """The number of a group among those that have labels; None for rows without one."""
    place = 0
    for at, size in zip(np.unravel_index(group, shape) if shape else (), shape, strict=True):
        if at == size - 1:
            return None
        place = place * (size - 1) + int(at)
    return place


def _check_kind(item: Item, values: Values) -> None:
    fitting = statistic(item.stat).kinds
    for name, column in zip(item.columns, values.columns, strict=True):
        if column.kind not in fitting:
            raise DataError(f"column {name!r} is {column.kind} here; {item.stat} takes {', '.join(sorted(fitting))}")


def _empty(item: Item, known: Known, cuts: tuple[float, ...] = ()) -> Arrays:
    stat = statistic(item.stat)
    kind = ColumnKind.NUMERIC if ColumnKind.NUMERIC in stat.kinds else ColumnKind.CATEGORICAL
    assert stat.observe is not None
    return stat.observe(Values([Column(kind, np.empty(0))] * len(item.columns), cuts), item.options, known)


def _unit(item: Item, known: Known) -> Arrays:
    """What a node sends that has no rows, or keeps its own back."""
    stat, options = statistic(item.stat), item.options
    return stat.share(stat.protect(_empty(item, Known(known)), options, EVERYONE, known), options, known)


def _stacked(groups: Sequence[Arrays]) -> dict[str, Array]:
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


# ---------------------------------------------------------------- what leaves


def _disclosed(
    item: Item, scan: _Scan, plan: Plan, known: Mapping[str, Array], owner: Owner, source: Source, shown: Shown
) -> tuple[dict[str, Array], str]:
    """What of an item leaves, and why something was kept back; adds to ``shown``."""
    found = scan.found[item]
    # rows of an image column are pixels, and it is images that are people
    few_images = item.columns[0] not in source.schema and 0 < source.rows < owner.minimum
    stat, options, reason = statistic(item.stat), item.options, ""
    shape = [len(labels) + 1 for labels in labels_by(plan, known, item)]
    rows = np.array([int(arrays["n"]) for arrays in found])
    minimum = owner.minimum
    if few_images:
        back = np.ones(len(found), bool)
    elif not item.by:
        back = (rows > 0) & (rows < minimum) & (item.stat != "levels")
    elif len(shape) == 1:
        back = hidden(rows, minimum)
    else:
        back = hidden_table(rows.reshape(shape), minimum).reshape(-1)
    cuts, earlier, used = scan.cuts[item], tuple(shown.get(_edge_key(item), ())), list[float]()
    places = [_inner(group, shape) for group in range(len(found))]
    knows = [None if place is None else known_of(plan, known, item, place) for place in places]
    allowed = Owner(minimum, owner.extremes, cuts, earlier, used)
    protected: list[Arrays | None] = []  # None: without a label, {}: kept back
    for arrays, kept, mine in zip(found, back, knows, strict=True):
        out: Arrays | None = None if mine is None else {}
        if mine is not None and kept:
            reason = "fewer rows than this node's minimum" if not item.by else "some groups have fewer rows than " \
                     "this node's minimum, and others are kept back with them"  # fmt: skip
        elif mine is not None and not arrays["n"]:
            out = stat.protect(_empty(item, Known(mine)), options, EVERYONE, mine)
        elif mine is not None:
            try:
                out = stat.protect(arrays, options, allowed, mine)
            except Withheld as why:
                reason = str(why)
        protected.append(out)
    if item.by and minimum > 1 and stat.across is not None:
        protected = stat.across(found, protected, shape, owner)
    sent: list[Arrays] = []
    for out, mine in zip(protected, knows, strict=True):
        if mine is not None:
            sent.append(stat.share(out, options, mine) if out else _unit(item, mine))
            if stat.combine is Combine.SUM and not _finite(sent[-1]):
                raise DataError(f"{item.name}: values here are too far from the mean of all sites, their sums "
                                "about it are too large for a 64-bit number")  # fmt: skip
    flags = [int(not out) for out in protected if out is not None]
    if not sent:  # no label at all: arrays of no groups
        unit = _unit(item, known_of(plan, known, item, 0))
        return {**{k: np.empty((0, *v.shape), v.dtype) for k, v in unit.items()}, WITHHELD: np.zeros(0, np.int64)}, ""
    if item.by and minimum > 1 and "counts" in sent[0] and "hidden" in sent[0]:
        sent = _over_groups(item, scan, plan, known, owner, sent, flags)
    if not reason and any("hidden" in s and s["hidden"].any() for s in sent):
        reason = stat.few
    if used:
        shown[_edge_key(item)] = sorted({*earlier, *used})
        if len(shown[_edge_key(item)]) > MOST_EDGES:
            raise NotAllowed("histograms of this column have used up all edges that this node shows")
    return {**_stacked(sent), WITHHELD: np.array(flags, np.int64)}, reason


def _over_groups(
    item: Item, scan: _Scan, plan: Plan, known: Mapping[str, Array], owner: Owner, sent: Sequence[Arrays],
    flags: Sequence[int],
) -> list[Arrays]:  # fmt: skip
    """Cells of all groups as one table, whose columns add up to what is told of all rows together: so that
    no group's small cell is the rest of the others'."""
    shape = [len(labels) + 1 for labels in labels_by(plan, known, item)]
    inner = [_inner(group, shape) for group in range(len(scan.found[item]))]
    all_seen = Owner(1, True, scan.cuts[item])
    counts = np.stack([
        statistic(item.stat).protect(arrays, item.options, all_seen, known_of(plan, known, item, i or 0))["counts"]
        for i, arrays in zip(inner, scan.found[item], strict=True)
    ])  # fmt: skip
    back = np.ones(counts.shape, bool)  # rows without a label are not told
    for group, i in enumerate(inner):
        if i is not None and not flags[i]:
            back[group] = sent[i]["hidden"] > 0
    back = _everywhere(counts, owner.minimum, back)
    out = list(sent)
    for group, i in enumerate(inner):
        if i is not None and not flags[i]:
            cells = {"counts": np.where(back[group], 0, sent[i]["counts"]), "hidden": back[group].astype(np.int64)}
            out[i] = {**sent[i], **cells}
    return out


def _everywhere(counts: Array, minimum: int, back: Array) -> Array:
    """Hidden cells of groups: as one table with those of all rows, and where a group has a table of its own,
    as its cells too."""
    while True:
        out = hidden_table(counts.reshape(len(counts), -1), minimum, back.reshape(len(back), -1)).reshape(back.shape)
        if out.ndim == 3:
            out = np.stack([hidden_table(c, minimum, b) for c, b in zip(counts, out, strict=True)])
        if np.array_equal(out, back):
            return out
        back = out


def _finite(arrays: Arrays) -> bool:
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in arrays.values())


def _edge_key(item: Item) -> str:
    return dumps([list(item.columns), list(item.by)])


def _cuts_of(cuts: Mapping[str, set[float]], item: Item) -> tuple[float, ...]:
    return tuple(sorted(cuts[_edge_key(item)])) if item.stat == "histogram" else ()


# ---------------------------------------------------------------- images


def base(column: str, schema: Collection[str]) -> str:
    """The column that a name stands for: ``scan`` for ``scan[0]``, unless there is one of that name."""
    return column if column in schema or not column.endswith("]") else column.rsplit("[", 1)[0]


def _expanded(rows: Table) -> Iterator[Table]:
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


ALGORITHM = Statistics
